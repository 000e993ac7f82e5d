"""
==============================
Recommending articles of today
==============================

Articles that appeared this morning have no readers yet to learn from. They have titles. This
example goes from a table of articles to recommendations of the articles of today, and compares what
models of item content are good at.
"""

# %%
# A table of articles
# -------------------
# The 4,000 articles that most users of citeulike-a have in their libraries, with their titles. Its
# authors publish no titles, so this needs a file with them. Without it, the example makes up words,
# titles of articles on 20 subjects, and users with two or three subjects each.
import os
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array


def read(folder):
    """Return libraries and titles of citeulike-a."""
    with np.load(folder / "citeulike-a.npz") as table:
        X = csr_array((np.ones(len(table["user"])), (table["user"], table["item"])))
    with np.load(folder / "citeulike-a-titles.npz") as table:
        titles = table["title"]
    most = np.sort(np.argsort(-X.sum(axis=0), kind="stable")[:4000])
    return X[:, most], titles[most]


def make_up(n_users=2500, n_articles=2500, n_subjects=20):
    """Return libraries and titles that share subjects."""
    rng = np.random.default_rng(0)
    syllables = [a + b for a in "bdfgklmnprstv" for b in "aeiou"]
    words = np.unique(["".join(rng.choice(syllables, 3)) for _ in range(1500)])
    words = rng.permutation(words)
    common, rest = words[:150], np.array_split(words[150:], n_subjects)
    subject = rng.integers(n_subjects, size=n_articles)
    titles = [
        " ".join([*rng.choice(rest[s], rng.integers(2, 5)), *rng.choice(common, 3)])
        for s in subject
    ]
    interest = rng.dirichlet(np.full(n_subjects, 0.1), size=n_users)  # (n_users, n_subjects)
    appeal = rng.lognormal(size=n_articles)
    rows = []
    for user in interest:
        p = appeal * user[subject]
        rows.append(rng.choice(n_articles, rng.integers(8, 40), replace=False, p=p / p.sum()))
    users = np.repeat(np.arange(n_users), [len(row) for row in rows])
    shape = (n_users, n_articles)
    return csr_array((np.ones(len(users)), (users, np.concatenate(rows))), shape=shape), titles


try:
    X, titles = read(Path(os.environ.get("SKLREC_DATA", ".")))
except OSError as error:
    print(f"No titles: {error}")
    print("Using SYNTHETIC titles and libraries.")
    X, titles = make_up()
X = X.astype(np.float32)
articles = pd.DataFrame({"title": titles, "readers": X.sum(axis=0).astype(int)})
print(articles.head())

# %%
# The articles of today
# ---------------------
# Neither table has dates, so a random tenth of the articles are those of today. Nobody is known to
# have read one of them:
# :func:`~sklrec.model_selection.cold_start_split` removes them from the libraries of the training
# users. It also holds out users, in whose libraries we will look for what was recommended.
from sklrec.model_selection import cold_start_split

split = cold_start_split(X, n_heldout=400, item_size=0.1, random_state=0)
yesterday, today = articles.iloc[split.old_items], articles.iloc[split.new_items]
print(f"{len(yesterday):,} articles until yesterday, {len(today):,} of today")

# %%
# From titles to features
# -----------------------
# The vectorizer learns its words from the articles until yesterday, like the models. Words of fewer
# than five articles are left out.
from sklearn.feature_extraction.text import TfidfVectorizer

words = TfidfVectorizer(min_df=5, sublinear_tf=True, dtype=np.float32)
F = words.fit_transform(yesterday["title"])
F_today = words.transform(today["title"])
print(f"{F.shape[1]:,} words, {F.nnz / F.shape[0]:.1f} of them in a title")

# %%
# Models
# ------
# Neighbours by content compare titles and do not learn from users at all.
# :class:`~sklrec.hybrid.CollectiveEASE` treats each word as one more user.
# :class:`~sklrec.hybrid.FactorsFromContent` predicts the factors of an article from its title, here
# by ridge regression. :class:`~sklrec.hybrid.ContentELSA` learns the vector of each word so that
# articles with the same readers are close. With a free part, each article also has a vector of its
# own.
#
# All are fitted on yesterday's articles. ``with_items`` then adds those of today, without any
# training.
from time import perf_counter

from sklearn.linear_model import Ridge

from sklrec.factorization import WMF
from sklrec.hybrid import CollectiveEASE, ContentELSA, FactorsFromContent
from sklrec.neighbors import ItemKNN

elsa = {"n_components": 128, "max_epochs": 5, "device": "cpu", "random_state": 0}
models = {
    "ItemKNN by content": ItemKNN(n_neighbors=500),
    "CollectiveEASE": CollectiveEASE(lambda_=50),
    "ridge to factors": FactorsFromContent(
        WMF(64, lambda_=1e-3, unobserved_weight=0.1, random_state=0), regressor=Ridge(alpha=1)
    ),
    "ContentELSA": ContentELSA(**elsa),
    "ContentELSA, no free part": ContentELSA(free_part=False, **elsa),
}
for name, model in models.items():
    begin = perf_counter()
    model.fit(split.train[:, split.old_items], item_features=F)
    models[name] = model.with_items(F_today)
    print(f"{name:26}{perf_counter() - begin:5.1f} s")

# %%
# Recommendations
# ---------------
# In the models, the articles of today are the last columns. ``items`` ranks them alone.
columns = np.concatenate([split.old_items, split.new_items])
fold_in, held_out = split.test_fold_in[:, columns], split.test_held_out[:, columns]
new_items = np.arange(len(split.old_items), len(columns))
titles = articles["title"].to_numpy()[columns]

found_today = held_out[:, new_items].sum(axis=1)
for user in np.flatnonzero((found_today >= 3) & (found_today <= 6))[:2]:
    read = fold_in[[user]]
    print("\nHas read", *(f"  {title}" for title in titles[read.indices[:6]]), sep="\n")
    print("Of today")
    ranking = models["ContentELSA"].predict_ranking(read, k=6, items=new_items)
    for item in ranking[0]:
        print(" ", "*" if held_out[user, item] else " ", titles[item])

# %%
# A star marks articles that the user has in the library.
#
# Which model for what
# --------------------
# :func:`~sklrec.metrics.evaluate_new_items` has four results. A model can order the articles of
# today well, "new among new", and yet never rank one of them before those with readers, "new among
# all". And it has to rank the other articles too, "old among old".
from sklrec.metrics import evaluate_new_items

rankings = ["new among new", "new among all", "old among old", "all among all"]
results = {
    name: evaluate_new_items(model, fold_in, held_out, "recall@20", new_items=new_items)
    for name, model in models.items()
}
table = pd.DataFrame(
    {
        name: {ranking: found[ranking].mean["recall@20"] for ranking in rankings}
        for name, found in results.items()
    }
).T
print(table.round(3).to_string())

# %%
# The figure has the same numbers with standard errors over users.
import matplotlib.pyplot as plt

fig, axes = plt.subplots(2, 2, sharey=True, figsize=(8, 4.6), layout="constrained")
for ax, ranking in zip(axes.flat, rankings, strict=True):
    means = [found[ranking].mean["recall@20"] for found in results.values()]
    errors = [found[ranking].standard_error["recall@20"] for found in results.values()]
    ax.errorbar(means, list(results), xerr=errors, fmt="o", capsize=3)
    ax.set(title=ranking, xlim=(0, None))
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
axes[0, 0].invert_yaxis()
fig.supxlabel("Recall@20, mean over test users")

if plt.get_backend().lower() != "agg":  # show the figure in a window
    plt.show()

# %%
# For a list of today's articles alone, a model of the words is enough, and the free part costs
# little. In one list of all articles, what decides is whether a model gives scores of the same
# size to articles with readers and without. CollectiveEASE and ridge regression hardly ever rank
# an article of today among the first 20 of all; ContentELSA does, more so without a free part. To
# be sure that new articles are seen, rank them in a list of their own.
