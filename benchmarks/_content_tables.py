"""Tables of the benchmark of item content, from its committed results."""

from __future__ import annotations

import numpy as np
from _cells import title_of
from _content import AS_PUBLISHED, NEW_ITEMS, TOGETHER
from _table import Table

NEW, ALL = "new among new", "all among all"
RANKINGS = [
    # Heading, ranking, metric.
    ("new among new, Recall@20", NEW, "recall@20"),
    ("NDCG@100", NEW, "ndcg@100"),
    ("old among old, NDCG@100", "old among old", "ndcg@100"),
    ("all, NDCG@100", ALL, "ndcg@100"),
    ("new among all, Recall@20", "new among all", "recall@20"),
]
AUTHORS = ("P=1", "P=10")
CAPTIONS = {
    ALL: "Share of all items to find; the training items are not ranked.",
    AS_PUBLISHED: "Share of all items; the training items are ranked too, and count as found.",
}
WITHOUT_CONTENT = ("EASE", "Mult-VAE")
NEIGHBOURS = "Content neighbours"


def content_tables(
    rows: list[dict], accuracy: list[dict], published: list[dict], titles: list[dict]
) -> dict[str, Table]:
    """Return the tables by name, for those there are results for.

    Parameters
    ----------
    rows, accuracy : list of dict
        Rows of ``content.csv`` and of ``accuracy.csv``, of which some models without content go
        beside those with content.
    published, titles : list of dict
        Rows of ``published_content.csv`` and of ``titles.csv``.
    """
    groups = list(dict.fromkeys(row["group"] for row in rows if row["group"]))
    sweeps = {f"content, {group}": _sweep(rows, group) for group in groups}
    rows = [row for row in rows if not row["group"]]
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    tables = {f"content, {name}, new items": _new_items(rows, name) for name in datasets}
    tables |= {f"content, {name}, all splits": _all_splits(rows, name) for name in datasets}
    tables |= {f"content, {name}, each split": _each_split(rows, name) for name in datasets}
    tables |= {f"content, {name}, shares": _of_shares(rows, name) for name in datasets}
    tables["content, old items"] = _old_items(rows, accuracy, datasets)
    tables["content, splits of Li & She"] = _of_authors(rows, datasets, ALL)
    tables["content, splits of Li & She, as published"] = _of_authors(rows, datasets, AS_PUBLISHED)
    tables["content, published"] = _beside_published(rows, published)
    tables["content, first ten titles"] = _first_ten(titles)
    return {name: table for name, table in (tables | sweeps).items() if table.rows}


def _beside_published(rows: list[dict], published: list[dict]) -> Table:
    """Return published figures beside ours, all metrics of a model and a source in one line."""
    found = {_case(row): row for row in rows}
    cases: dict[tuple, list[dict]] = {}
    for entry in published:
        if (row := found.get(_case(entry))) and row[entry["metric"]]:
            cases.setdefault((*_case(entry), entry["source"]), []).append(entry)
    lines = []
    for (dataset, split, ranking, model, source), entries in cases.items():
        row = found[dataset, split, ranking, model]
        theirs = [float(entry["value"]) for entry in entries]
        ours = [float(row[entry["metric"]]) for entry in entries]
        differences = [mine - given for mine, given in zip(ours, theirs, strict=True)]
        cells = [
            " / ".join(map(write, values))
            for write, values in ((_short, theirs), (_short, ours), (_signed, differences))
        ]
        metrics = " / ".join(title_of(entry["metric"]) for entry in entries)
        lines.append([f"{dataset}, {split}", ranking, model, metrics, *cells, source])
    header = ["split", "ranking", "model", "metrics", "published", "ours", "difference", "source"]
    return Table(header, lines, "")


def _first_ten(titles: list[dict]) -> Table:
    """Return how many of the first ten articles are in the library of two users, and of all."""
    lines = [["*CVAE in the paper*", "9", "7", ""], ["*CDL in the paper*", "4", "3", ""]]
    for row in titles:
        everyone = f"{float(row['all users']):.2f} ± {float(row['all users_se']):.2f}"
        lines.append([row["model"], row["user I"], row["user II"], everyone])
    caption = (
        "How many of the first ten articles are in the library of the user, who has given one."
    )
    return Table(["model", "user I", "user II", "all users"], lines if titles else [], caption)


def _case(row: dict) -> tuple[str, ...]:
    return tuple(row[name] for name in ("dataset", "split", "ranking", "model"))


def _new_items(rows: list[dict], dataset: str) -> Table:
    rows = [row for row in rows if (row["dataset"], row["split"]) == (dataset, NEW_ITEMS)]
    users = [int(row["n_users"]) for row in rows if row["ranking"] == NEW]
    caption = f"Mean ± standard error over {users[0]:,} test users with new items." if users else ""
    return _of_rankings(rows, caption)


def _all_splits(rows: list[dict], dataset: str) -> Table:
    n_splits = len(_splits(rows, dataset))
    rows = [row for row in rows if (row["dataset"], row["split"]) == (dataset, TOGETHER)]
    return _of_rankings(rows, f"Mean of {n_splits} splits ± its standard error over the splits.")


def _of_rankings(rows: list[dict], caption: str) -> Table:
    lines: dict[str, dict] = {}
    for row in rows:
        lines.setdefault(row["model"], {})[row["ranking"]] = row
    columns = []
    for _, ranking, metric in RANKINGS:
        columns.append(_column([found.get(ranking) for found in lines.values()], metric))
    header = ["model", *(heading for heading, _, _ in RANKINGS)]
    return _table(header, list(lines), columns, caption)


def _each_split(rows: list[dict], dataset: str) -> Table:
    """Return Recall@20 of new items on each split, and how far models are from neighbours."""
    splits = _splits(rows, dataset)
    rows = [row for row in rows if (row["dataset"], row["ranking"]) == (dataset, NEW)]
    together = [row["model"] for row in rows if row["split"] == TOGETHER]
    found = {(row["model"], row["split"]): row for row in rows}
    metrics = {"recall@20": "Recall@20", "ndcg@100": "NDCG@100"}
    lines = []
    for model in together if NEIGHBOURS in together else []:
        line = [model, *(_short(found[model, split]["recall@20"]) for split in splits)]
        for metric in metrics:
            beside = [float(found[NEIGHBOURS, split][metric]) for split in splits]
            values = np.array([float(found[model, split][metric]) for split in splits]) - beside
            error = values.std(ddof=1) / np.sqrt(len(splits))
            line.append(
                "" if model == NEIGHBOURS else f"{_signed(values.mean())} ± {_short(error)}"
            )
        lines.append(line)
    header = ["model", *(f"split {i + 1}" for i in range(len(splits)))]
    header += [f"{name} beside neighbours" for name in metrics.values()]
    caption = (
        "Recall@20 of new items among new ones, and differences from neighbours by content on "
    )
    caption += "the same split: mean ± standard error over the splits."
    return Table(header, lines, caption)


def _of_shares(rows: list[dict], dataset: str) -> Table:
    """Return Recall@20 of new items by how many of the items are new."""
    rows = [row for row in rows if (row["dataset"], row["ranking"]) == (dataset, NEW)]
    found = {(row["model"], _share(row["split"])): row for row in rows}
    shares = sorted({share for _, share in found if share})
    if len(shares) <= 1:  # a tenth alone
        return Table([], [], "")
    models = [
        model
        for model in dict.fromkeys(model for model, _ in found)
        if all((model, share) in found for share in shares)
    ]
    columns = [_column([found[model, share] for model in models], "recall@20") for share in shares]
    header = ["model", *(f"{share}% of the items new" for share in shares)]
    caption = (
        "Recall@20 of new items among new ones. The more there are, the harder it is by chance."
    )
    return _table(header, models, columns, caption)


def _share(split: str) -> int | None:
    """Return which percentage of the items is new in the first split of each share."""
    if split == NEW_ITEMS:
        return 10
    return int(split[:-1].split(", ")[1]) if split.endswith("%") else None


def _splits(rows: list[dict], dataset: str) -> list[str]:
    """Return the splits with new items of which there are results."""
    found = dict.fromkeys(row["split"] for row in rows if row["dataset"] == dataset)
    return [name for name in found if name.startswith(NEW_ITEMS) and "," not in name]


def _old_items(rows: list[dict], accuracy: list[dict], datasets: list[str]) -> Table:
    """Return the NDCG@100 of the canonical splits."""
    rows = [row for row in rows if row["split"] == "canonical"]
    beside = [r for r in accuracy if r["split"] == "canonical" and r["model"] in WITHOUT_CONTENT]
    found = {(r["model"], r["dataset"]): r for r in [*beside, *rows]} if rows else {}
    models = list(dict.fromkeys(model for model, _ in found))
    columns = [_column([found.get((m, d)) for m in models], "ndcg@100") for d in datasets]
    caption = (
        "NDCG@100, mean ± standard error over the test users of the canonical splits. "
        f"{' and '.join(WITHOUT_CONTENT)} read no content."
    )
    return _table(["model", *datasets], models, columns, caption)


def _sweep(rows: list[dict], group: str) -> Table:
    """Return the figures of a model with different values of a parameter."""
    rows = [row for row in rows if row["group"] == group]
    found = {(row["model"], row["split"], row["ranking"]): row for row in rows}
    model, parameter = group.split(", ")
    names = list(dict.fromkeys(row["model"] for row in rows))
    header, columns = [f"`{parameter}` of {model}"], []
    for split in dict.fromkeys(row["split"] for row in rows):
        wanted = RANKINGS
        if split in AUTHORS:
            wanted = [(f"{split}, Recall@{k}", ALL, f"recall@{k}") for k in (50, 300)]
        for heading, ranking, metric in wanted:
            header.append(heading)
            columns.append(_column([found.get((n, split, ranking)) for n in names], metric, False))
    values = [name.removeprefix(f"{group} ") for name in names]
    return _table(header, values, columns, f"{rows[0]['dataset']}, all else being the same.")


def _of_authors(rows: list[dict], datasets: list[str], ranking: str) -> Table:
    rows = [row for row in rows if row["split"] in AUTHORS and row["ranking"] == ranking]
    found = {(row["model"], row["dataset"], row["split"]): row for row in rows}
    models = list(dict.fromkeys(model for model, _, _ in found))
    places = [(d, s) for d in datasets for s in AUTHORS if any(key[1:] == (d, s) for key in found)]
    header, columns = ["model"], []
    for dataset, split in places:
        for metric in ("recall@50", "recall@300"):
            header.append(f"{dataset}, {split}, {metric.capitalize()}")
            columns.append(_column([found.get((m, dataset, split)) for m in models], metric, False))
    caption = CAPTIONS[ranking]
    return _table(header, models, columns, caption)


def _column(found: list[dict | None], metric: str, error: bool = True) -> list[str]:
    """Return the figures of one column, the best in bold."""
    values = [float(row[metric]) if row else float("-inf") for row in found]
    cells = []
    for row, value in zip(found, values, strict=True):
        if row is None:
            cells.append("")
            continue
        mark = "**" if value == max(values) else ""
        cell = f"{mark}{_short(row[metric])}{mark}"
        cells.append(f"{cell} ± {_short(row[f'{metric}_se'])}" if error else cell)
    return cells


def _table(header: list[str], names: list[str], columns: list[list[str]], caption: str) -> Table:
    return Table(header, [list(line) for line in zip(names, *columns, strict=True)], caption)


def _short(number: str | float) -> str:
    return f"{float(number):.3f}".replace("0.", ".", 1)


def _signed(number: float) -> str:
    return f"{'-' if number < 0 else '+'}{_short(abs(number))}"
