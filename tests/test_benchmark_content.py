"""The benchmark of item content: its tasks, its features, its choices, its rows."""

import csv
import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip("torch")

import content
import settings_content
import titles
from _content import CANONICAL, NEW_ITEMS, TOGETHER, ContentDataset, Task
from _content_tables import content_tables
from _runs import Dataset, short_repr
from settings_content import ContentModel

from sklrec.datasets import make_interactions
from sklrec.dummy import PopularityRecommender
from sklrec.hybrid import CollectiveEASE, CondVAE
from sklrec.linear import EASE
from sklrec.metrics import evaluate_new_items
from sklrec.neighbors import ItemKNN


@pytest.fixture
def data(tmp_path):
    """Return a folder with interactions, words and one split of the authors."""
    X = make_interactions(150, 40, n_interactions=2400, activity_sigma=0.3, random_state=0).data
    sp.save_npz(tmp_path / "X.npz", sp.csr_matrix(X))
    rng = np.random.default_rng(0)
    sp.save_npz(tmp_path / "F.npz", sp.csr_matrix(rng.poisson(0.5, (40, 12)).astype(np.float32)))
    users, items = X.nonzero()
    train = rng.random(len(users)) < 0.5
    pairs = {
        f"a_{part}_1_{name}": values[chosen]
        for part, chosen in (("train", train), ("test", ~train))
        for name, values in (("user", users), ("item", items))
    }
    np.savez(tmp_path / "citeulike-splits.npz", **pairs)
    return tmp_path


@pytest.fixture
def small():
    def load(name):
        return lambda folder: sp.csr_array(sp.load_npz(folder / f"{name}.npz"))

    return ContentDataset(
        Dataset("small", load("X"), 20, {"canonical": 1}), "words", load("F"), "a"
    )


def test_candidates_meet_neither_the_new_items_nor_the_test_users(small, data):
    tasks = small.tasks(NEW_ITEMS, data)
    X, F = (sp.csr_array(sp.load_npz(data / f"{name}.npz")) for name in "XF")
    (final,), (candidate,) = tasks["final"], tasks["candidate"]
    assert not final.train[:, final.new_items].nnz
    assert not final.fold_in[:, final.new_items].nnz
    assert candidate.train.shape[1] == len(final.old_items) == 36
    assert_array_equal(candidate.counts.toarray(), F[final.old_items].toarray())
    assert not candidate.train[:, candidate.new_items].nnz
    assert candidate.held_out[:, candidate.new_items].nnz
    # The held-out rows of the two tasks are those of different users.
    rows = {tuple(row) for row in X[:, final.old_items].toarray()}
    of_candidates = (candidate.fold_in + candidate.held_out).toarray()
    of_test = (final.fold_in + final.held_out)[:, final.old_items].toarray()
    assert {tuple(row) for row in of_candidates} <= rows
    assert not {tuple(row) for row in of_candidates} & {tuple(row) for row in of_test}


def test_other_splits_have_no_user_the_settings_were_chosen_on(small, data):
    several = dataclasses.replace(small, n_more_splits=1)
    assert several.splits == [CANONICAL, NEW_ITEMS, "new items 2", "P=1", "P=10"]
    first, second = (
        {kind: task for kind, (task,) in several.tasks(split, data).items()}
        for split in (NEW_ITEMS, "new items 2")
    )
    assert_array_equal(
        first["candidate"].held_out.toarray(), second["candidate"].held_out.toarray()
    )
    assert not np.array_equal(first["final"].new_items, second["final"].new_items)
    old = first["final"].old_items
    chosen_on = first["candidate"].fold_in + first["candidate"].held_out
    chosen_on = {tuple(row) for row in chosen_on.toarray()}
    tested = second["final"].fold_in + second["final"].held_out
    assert not chosen_on & {tuple(row) for row in tested[:, old].toarray()}
    assert 10 < tested.shape[0] < 20


def test_more_items_are_new_in_splits_of_other_shares(small, data, tmp_path, monkeypatch):
    several = dataclasses.replace(small, more_shares=(0.05, 0.4))
    names = ["new items, 5%", "new items, 40%"]
    assert several.splits == [CANONICAL, NEW_ITEMS, *names, "P=1", "P=10"]
    finals = [several.tasks(split, data)["final"][0] for split in [NEW_ITEMS, *names]]
    assert [len(task.new_items) for task in finals] == [4, 2, 16]
    users = [sp.csr_array(task.fold_in + task.held_out).toarray() for task in finals]
    assert_array_equal(users[0], users[1])  # the same test users
    assert_array_equal(users[0], users[2])

    models = [
        ContentModel("Neighbours", ItemKNN(10), form="tf-idf", on_all_splits=True),
        ContentModel("Popularity", PopularityRecommender()),
    ]
    monkeypatch.setattr(settings_content, "DATASETS", [several])
    monkeypatch.setattr(settings_content, "MODELS", models)
    rows = []
    for split in [NEW_ITEMS, *names]:
        benchmark = content.Benchmark(several, split, data=data, runs=tmp_path, threads=1)
        for model in models:
            benchmark.run(model)
            rows += benchmark.rows(model)
    rows = content.merged(tmp_path / "content.csv", rows)
    assert list(dict.fromkeys(row["split"] for row in rows)) == [NEW_ITEMS, *names]
    table = content_tables(rows, [], [], [])["content, small, shares"]
    assert table.header == ["model", *(f"{n}% of the items new" for n in (5, 10, 40))]
    of_neighbours = {
        row["split"]: f"**{float(row['recall@20']):.3f}**".replace("0.", ".", 1)
        for row in rows
        if row["ranking"] == "new among new" and row["model"] == "Neighbours"
    }
    wanted = [of_neighbours[split] for split in (names[0], NEW_ITEMS, names[1])]
    assert [[cell.split(" ± ")[0] for cell in line] for line in table.rows] == [
        ["Neighbours", *wanted]
    ]
    assert "content, small, each split" not in content_tables(rows, [], [], [])


def test_settings_are_chosen_by_the_mean_over_draws_of_new_items(small, data, tmp_path):
    several = dataclasses.replace(small, n_candidate_draws=3)
    (first,) = small.tasks(NEW_ITEMS, data)["candidate"]
    tasks = several.tasks(NEW_ITEMS, data)["candidate"]
    assert_array_equal(tasks[0].new_items, first.new_items)
    assert len({tuple(task.new_items) for task in tasks}) == len(tasks) == 3
    model = ContentModel(
        "CollectiveEASE", CollectiveEASE(20), form="tf-idf", search={"content_weight": [0.1, 100]}
    )
    benchmark = content.Benchmark(several, NEW_ITEMS, data=data, runs=tmp_path, threads=1)
    benchmark.run(model)
    row = benchmark.rows(model)[0]

    def mean_over_draws(candidate):
        values = []
        for task in tasks:
            fitted, order = content.fitted(candidate, task, "tf-idf")
            found = content.per_user(fitted, task, order)["new among new"]["ndcg@100"]
            values.append(np.nanmean(found))
        return np.mean(values)

    candidates = [CollectiveEASE(20, content_weight=weight) for weight in (0.1, 100)]
    best = max(candidates, key=mean_over_draws)
    assert row["n_candidates"] == 2
    assert_allclose(float(row["valid_ndcg@100"]), mean_over_draws(best), atol=1e-4)
    assert row["settings"] == short_repr(best)


def test_features_are_learnt_from_the_old_items():
    counts = sp.csr_array(
        np.array([[2, 1, 0], [1, 0, 0], [1, 1, 1], [3, 1, 0], [1, 1, 0], [0, 9, 9]])
    )
    X = sp.csr_array(np.ones((2, 6)))
    task = Task(X, X, X, counts, new_items=np.array([5]))
    assert task.features("none") is None
    assert_array_equal(task.features("counts").toarray(), counts.toarray())
    # The last word is in one old item, the second one in four; five are wanted.
    assert_array_equal(task.features("binary").toarray(), [[1], [1], [1], [1], [1], [0]])
    assert_allclose(task.features("tf-idf").toarray(), [[1], [1], [1], [1], [1], [0]])


def test_new_items_are_met_after_the_fit_where_the_model_can(small, data):
    task = small.tasks(NEW_ITEMS, data)["final"][0]
    old, new, F = task.old_items, task.new_items, task.features("counts")
    model, order = content.fitted(CollectiveEASE(20), task, "counts")
    assert_array_equal(order, [*old, *new])
    expected = CollectiveEASE(20).fit(task.train[:, old], item_features=F[old]).with_items(F[new])
    scores = expected.decision_function(task.fold_in[:, order])
    assert_allclose(model.decision_function(task.fold_in[:, order]), scores)
    found = content.per_user(model, task, order)
    # A fit that knows the new items without interactions gives the same.
    offline = CollectiveEASE(20).fit(task.train, item_features=F)
    expected = evaluate_new_items(
        offline, task.fold_in, task.held_out, content.METRICS, new_items=task.new_items
    )
    for ranking, values in found.items():
        for metric, value in values.items():
            assert_allclose(
                value, expected[ranking].per_user[metric], err_msg=f"{ranking} {metric}"
            )
    small_vae = CondVAE(2, hidden_layer_sizes=(), max_epochs=1, random_state=0)
    _, order = content.fitted(small_vae, task, "counts")
    assert_array_equal(order, np.arange(40))


def test_recall_of_the_authors_is_over_all_targets(small, data):
    task = small.tasks("P=1", data)["final"][0]
    model = PopularityRecommender().fit(task.train)
    found = content.per_user(model, task, np.arange(40))["all among all"]
    # All other items of 40 are among the first 50.
    has = np.diff(task.held_out.indptr) > 0
    assert_allclose(found["recall@50"][has], 1)
    assert np.isnan(found["recall@50"][~has]).all()
    ranking = model.predict_ranking(task.fold_in, k=5)
    short = content.recall_over_targets(model, task.fold_in, task.held_out, ks=(5,))["recall@5"]
    for user in np.flatnonzero(has)[:20]:
        targets = set(task.held_out[[user]].indices.tolist())
        assert_allclose(short[user], len(targets & set(ranking[user].tolist())) / len(targets))

    # As the paper has it, the training items are ranked and count.
    ranking = model.predict_ranking(task.fold_in, k=5, exclude_seen=False)
    arguments = model, task.fold_in, task.held_out
    short = content.recall_over_targets(*arguments, ks=(5,), count_fold_in=True)["recall@5"]
    for user in np.flatnonzero(has)[:20]:
        targets = {*task.held_out[[user]].indices.tolist(), *task.fold_in[[user]].indices.tolist()}
        assert_allclose(short[user], len(targets & set(ranking[user].tolist())) / len(targets))
    assert np.isnan(short[~has]).all()


def test_settings_are_chosen_without_test_users_and_kept(small, data, tmp_path, monkeypatch):
    models = [
        ContentModel("EASE", EASE(20)),
        ContentModel(
            "CollectiveEASE",
            CollectiveEASE(20),
            form="counts",
            search={"content_weight": [0.1, 100]},
            search_on={"P=1": {"content_weight": [1]}},
        ),
    ]
    monkeypatch.setattr(settings_content, "DATASETS", [small])
    monkeypatch.setattr(settings_content, "MODELS", models)
    folders = {"data": data, "runs": tmp_path / "runs", "threads": 1}
    rows = []
    for split in (CANONICAL, NEW_ITEMS, "P=1"):
        benchmark = content.Benchmark(small, split, **folders)
        assert benchmark.rows(models[1]) == []
        for model in models:
            benchmark.run(model)
            rows += benchmark.rows(model)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.json")}
    assert len(kept) == 6 + 2 * 2
    for split in (CANONICAL, NEW_ITEMS, "P=1"):
        benchmark = content.Benchmark(small, split, **folders)
        benchmark.run(models[1])
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.json")}

    chosen = [row for row in rows if row["model"] == "CollectiveEASE"]
    assert [row["n_candidates"] for row in chosen] == [2, 2, 2, 2, 2, 1, 1]
    assert [row["ranking"] for row in chosen[1:5]] == [
        *("new among new", "old among old", "all among all", "new among all")
    ]
    task = small.tasks(NEW_ITEMS, data)["candidate"][0]
    values = []
    for weight in (0.1, 100):
        model, order = content.fitted(CollectiveEASE(20, content_weight=weight), task, "counts")
        values.append(np.nanmean(content.per_user(model, task, order)["new among new"]["ndcg@100"]))
    weight = (0.1, 100)[int(np.argmax(values))]
    assert f"content_weight={weight}" in chosen[1]["settings"]
    assert_allclose(float(chosen[1]["valid_ndcg@100"]), max(values), atol=1e-4)

    # Rows of a table are replaced by those of the same name, and others stay.
    table = tmp_path / "content.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, content.COLUMNS)
        writer.writeheader()
        writer.writerows(rows[:3])
    merged = content.merged(table, rows[2:])
    assert [content._name(row) for row in merged] == [content._name(row) for row in rows]


def test_means_over_splits_and_differences_from_neighbours(small, data, tmp_path, monkeypatch):
    several = dataclasses.replace(small, n_more_splits=2)
    neighbours = ContentModel("Content neighbours", ItemKNN(10), form="tf-idf", on_all_splits=True)
    ease = ContentModel(
        "EASE", CollectiveEASE(20), form="counts", on_all_splits=True,
        search={"content_weight": [0.1, 100]},
    )  # fmt: skip
    models = [neighbours, ease, ContentModel("Popularity", PopularityRecommender())]
    monkeypatch.setattr(settings_content, "DATASETS", [several])
    monkeypatch.setattr(settings_content, "MODELS", models)
    rows = []
    for split in several.of_new_items:
        benchmark = content.Benchmark(several, split, data=data, runs=tmp_path / "runs", threads=1)
        for model in models:
            benchmark.run(model)
            rows += benchmark.rows(model)
    kept = [path.name for path in (tmp_path / "runs").rglob("*.json")]
    assert sum("CollectiveEASE-candidate" in name for name in kept) == 2
    assert sum("Popularity" in name for name in kept) == 1

    rows = content.merged(tmp_path / "content.csv", rows)
    assert [row["split"] for row in rows if row["ranking"] == "new among new"] == [
        *(NEW_ITEMS,) * 3, *("new items 2",) * 2, *("new items 3",) * 2, *(TOGETHER,) * 2,
    ]  # fmt: skip

    def values(model, metric):
        of_model = [r for r in rows if (r["model"], r["ranking"]) == (model, "new among new")]
        return np.array([float(row[metric]) for row in of_model])

    for model in ("Content neighbours", "EASE"):
        *of_splits, mean = values(model, "ndcg@100")
        assert_allclose(mean, np.mean(of_splits), atol=1e-4)
        error = np.std(of_splits, ddof=1) / np.sqrt(3)
        assert_allclose(values(model, "ndcg@100_se")[-1], error, atol=1e-4)
    tables = content_tables(rows, [], [], [])
    assert [
        len(tables[f"content, small, {name}"].rows) for name in ("new items", "all splits")
    ] == [3, 2]
    first, second = tables["content, small, each split"].rows
    assert first[-2:] == ["", ""]
    assert [float(cell) for cell in second[1:4]] == [
        round(value, 3) for value in values("EASE", "recall@20")[:3]
    ]
    difference = (values("EASE", "recall@20") - values("Content neighbours", "recall@20"))[:3]
    error = difference.std(ddof=1) / np.sqrt(3)
    assert_allclose(
        [float(x) for x in second[-2].split(" ± ")], [difference.mean(), error], atol=6e-4
    )
    # Splits of other settings have no common mean.
    rows[[r["model"] for r in rows].index("EASE")]["settings"] = "other"
    assert len(content.over_splits(rows)) == 7


@pytest.mark.parametrize(
    "model",
    [*settings_content.MODELS, *settings_content.SWEEPS],
    ids=lambda model: model.name,
)
def test_settings_are_parameters_within_their_constraints(model):
    for dataset in settings_content.DATASETS:
        for split in dataset.splits:
            for estimator in model.at(dataset.name, split):
                estimator._validate_params()


def test_users_are_found_by_their_title_and_first_ten_are_looked_up():
    train = np.zeros((3, 12))
    train[[0, 1, 2], [0, 1, 1]] = 1  # two users have the second title
    held_out = np.zeros((3, 12))
    held_out[0, 11] = held_out[1, 10] = held_out[2, 10:] = 1
    train, held_out = sp.csr_array(train), sp.csr_array(held_out)
    task = Task(train, train, held_out, sp.csr_array(np.eye(12)), all_targets=True)
    names = np.array(["Alpha", "Beta", *"cdefghijkl"])
    assert titles.user_of(task, names, "alpha") == 0
    assert titles.user_of(task, names, "Beta") == 2  # who has more to find
    model = PopularityRecommender().fit(np.tril(np.ones((12, 12)))[:, ::-1])  # the last one most
    ranking, hits = titles.hits_of(model, task, np.array([0, 2]))
    assert_array_equal(ranking, [np.arange(11, 1, -1)] * 2)
    assert_array_equal(np.argwhere(hits), [[0, 0], [1, 0], [1, 1]])


def test_a_split_that_there_is_not_is_named(small, data):
    with pytest.raises(ValueError, match=r"small has no split 'P=2', only canonical, new items"):
        small.tasks("P=2", data)


def test_a_sweep_changes_one_parameter_where_it_is_wanted():
    of_coupling = [m for m in settings_content.SWEEPS if m.group == "MDsym-CVAE, lambda_v"]
    other = next(m for m in settings_content.MODELS if m.name == "MDsym-CVAE")
    (as_usual,) = other.at("citeulike-a", NEW_ITEMS)
    found = []
    for model in of_coupling:
        (estimator,) = model.at("citeulike-a", NEW_ITEMS)
        assert model.at("citeulike-a", CANONICAL) == model.at("ml-1m", NEW_ITEMS) == []
        found.append(estimator.lambda_v)
        params = as_usual.get_params() | {"lambda_v": estimator.lambda_v}
        assert estimator.get_params() == params
    assert found == [1, 4, 30, 116, 460]


def test_tables_have_the_best_in_bold_and_models_without_content_beside():
    def row(model, dataset, split, ranking="all among all", **figures):
        empty = dict.fromkeys(content.COLUMNS, "")
        return {
            **empty,
            **{f"{name}_se": "0.0100" for name in figures},
            **{name: f"{value:.4f}" for name, value in figures.items()},
            **{"model": model, "dataset": dataset, "split": split, "ranking": ranking},
            "n_users": "555",
        }

    accuracy = [row("EASE", "a", "canonical", **{"ndcg@100": 0.325})]
    accuracy += [row("RecVAE", "a", "canonical", **{"ndcg@100": 0.5})]
    rows = [row("CollectiveEASE", "a", "canonical", **{"ndcg@100": 0.346})]
    all_three = {"recall@20": 0.4, "recall@40": 0.5, "ndcg@100": 0.3}
    for ranking in ("new among new", "old among old", "all among all", "new among all"):
        rows.append(row("ContentELSA", "a", "new items", ranking, **all_three))
    found = {"recall@50": 0.1, "recall@300": 0.25}
    rows.append(row("ContentELSA", "a", "P=1", **found))
    rows.append(
        row("ContentELSA", "a", "P=1", content.AS_PUBLISHED, **(found | {"recall@50": 0.2}))
    )
    sweep = {"group": "CVAE, lambda_r"}
    for value in (1, 10):
        rows.append(row(f"CVAE, lambda_r {value}", "a", "P=1", **found) | sweep)
    case = {"dataset": "a", "split": "P=1", "model": "ContentELSA", "source": "A paper"}
    case |= {"metric": "recall@50", "note": ""}
    published = [
        case | {"ranking": content.AS_PUBLISHED, "value": "0.3"},
        case | {"ranking": "all among all", "value": "0.05", "note": "other words"},
        case | {"ranking": "all among all", "value": "0.3", "metric": "recall@300"},
        case | {"ranking": "all among all", "value": "0.05", "model": "CVAE"},
        case | {"ranking": "all among all", "value": "0.05", "metric": "recall@20"},
    ]
    counted = {"user I": "3", "user II": "0", "all users": "0.5250", "all users_se": "0.0140"}
    of_titles = [counted | {"model": "CVAE"}]
    tables = content_tables(rows, accuracy, published, of_titles)
    swept = tables.pop("content, CVAE, lambda_r")
    assert swept.header == ["`lambda_r` of CVAE", "P=1, Recall@50", "P=1, Recall@300"]
    assert swept.rows == [[value, "**.100**", "**.250**"] for value in ("1", "10")]
    assert list(tables) == [
        "content, a, new items",
        "content, old items",
        "content, splits of Li & She",
        "content, splits of Li & She, as published",
        "content, published",
        "content, first ten titles",
    ]
    assert tables["content, first ten titles"].rows[-1] == ["CVAE", "3", "0", "0.53 ± 0.01"]
    assert [" | ".join(line) for line in tables["content, published"].rows] == [
        f"a, P=1 | {content.AS_PUBLISHED} | ContentELSA | Recall@50 | .300 | .200 | -.100 "
        "| A paper",
        "a, P=1 | all among all | ContentELSA | Recall@50 / Recall@300 | .050 / .300 | .100 / .250 "
        "| +.050 / -.050 | A paper",
    ]
    assert tables["content, old items"].rows == [
        ["EASE", ".325 ± .010"],
        ["CollectiveEASE", "**.346** ± .010"],
    ]
    cells = [f"**{value}** ± .010" for value in (".400", ".300", ".300", ".300", ".400")]
    assert tables["content, a, new items"].rows == [["ContentELSA", *cells]]
    assert tables["content, splits of Li & She"].header[1:] == [
        "a, P=1, Recall@50",
        "a, P=1, Recall@300",
    ]
    assert tables["content, splits of Li & She"].rows == [["ContentELSA", "**.100**", "**.250**"]]
    as_published = tables["content, splits of Li & She, as published"]
    assert as_published.rows == [["ContentELSA", "**.200**", "**.250**"]]
    assert content_tables([], accuracy, published, []) == {}
