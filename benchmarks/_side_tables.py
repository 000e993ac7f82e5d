"""Tables beside those of accuracy: seeds, activity, 99 negatives, what a fit takes."""

from __future__ import annotations

import numpy as np
from _table import Table

METRIC = "ndcg@100"
LEVEL = 0.05
# Tables of a page that may be without results yet.
LATER = ["seeds", "99 negatives", "activity, ml-1m", "activity, citeulike-a", "activity, gowalla"]
LATER += ["fits"]
NEGATIVES = "ml-1m, 99 negatives"  # in the table of published figures


def side_tables(
    seeds: list[dict],
    activity: list[dict],
    sampled: list[dict],
    fits: list[dict],
    accuracy: list[dict],
    published: list[dict],
) -> dict[str, Table]:
    """Return the tables by name, for those there are results for."""
    known = [entry for entry in published if entry["dataset"] == NEGATIVES]
    tables = {"seeds": _seeds(seeds), "99 negatives": _sampled(sampled, accuracy, known)}
    for dataset in dict.fromkeys(row["dataset"] for row in activity):
        rows = [row for row in activity if row["dataset"] == dataset]
        tables[f"activity, {dataset}"] = _activity(rows)
    tables["fits"] = _fits(fits)
    return {name: table for name, table in tables.items() if table.rows}


def _seeds(rows: list[dict]) -> Table:
    """Return the NDCG@100 of each model with each seed, and its spread beside that of users."""
    seeds = sorted({row["seed"] for row in rows})
    models: dict[str, dict[str, dict]] = {}
    for row in rows:
        models.setdefault(row["model"], {})[row["seed"]] = row
    lines, spreads, errors = [], [], []
    for model, found in models.items():
        values = np.array([float(found[seed][METRIC]) for seed in seeds])
        spreads.append(values.std(ddof=1))
        errors.append(np.mean([float(found[seed][f"{METRIC}_se"]) for seed in seeds]))
        figures = [found[seed][METRIC] for seed in seeds]
        figures += [f"{spreads[-1]:.4f}", f"{errors[-1]:.4f}"]
        lines.append([model, *map(_short, figures)])
    if not lines:
        return Table([], [], "")
    caption = (
        f"NDCG@100 of {int(rows[0]['n_users']):,} test users. The standard deviation over seeds is "
        f"{_short(f'{np.median(spreads):.4f}')} in the median model and "
        f"{_short(f'{max(spreads):.4f}')} at most, the standard error over users "
        f"{_short(f'{np.median(errors):.4f}')}."
    )
    header = ["model", *(f"seed {seed}" for seed in seeds)]
    return Table([*header, "standard deviation", "standard error"], lines, caption)


def _activity(rows: list[dict]) -> Table:
    """Return the NDCG@100 of each model for the users of each part."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    parts = {row["part"]: row for row in rows if row["model"] == models[0]}
    found = {(row["model"], row["part"]): row for row in rows}
    lines = []
    for model in models:
        cells = []
        for part in parts:
            row = found[model, part]
            star = " \\*" if row["p"] and float(row["p"]) < LEVEL else ""
            figure = f"{_short(row[METRIC])} ± {_short(row[f'{METRIC}_se'])}"
            cells.append(figure + star)
        lines.append([model, *cells])
    titles = [f"{row['fewest']} to {row['most']} items" for row in parts.values()]
    users = ", ".join(row["n_users"] for row in parts.values())
    caption = (
        f"NDCG@100 by the number of items in the fold-in; {users} users. \\* marks a difference "
        f"from {models[0]} with p under .05, in a paired t test, corrected for all tests of the "
        "table by the method of Holm (1979)."
    )
    return Table(["model", *titles], lines, caption)


def _sampled(rows: list[dict], accuracy: list[dict], published: list[dict]) -> Table:
    """Return ranking among 99 negatives, among all items, and strong generalization."""
    strong = {
        row["model"]: row
        for row in accuracy
        if (row["dataset"], row["split"]) == ("ml-1m", "canonical")
        and row["variant"] != "published"
    }
    lines = []
    for row in sorted(rows, key=lambda row: -float(row["ndcg@10"])):
        names = ("hit_rate@10", "ndcg@10", "all_hit_rate@10", "all_ndcg@10")
        cells = [f"{_short(row[name])} ± {_short(row[f'{name}_se'])}" for name in names]
        found = strong.get(row["model"])
        cells.append(f"{_short(found['ndcg@10'])} ± {_short(found['ndcg@10_se'])}" if found else "")
        known = [_short(entry["value"]) for entry in published if entry["model"] == row["model"]]
        lines.append([row["model"], *cells, " / ".join(known)])
    if not lines:
        return Table([], [], "")
    header = ["model", "hit rate@10 among 100", "NDCG@10 among 100", "hit rate@10 among all"]
    header += ["NDCG@10 among all", "NDCG@10, new users", "published"]
    caption = (
        f"{int(rows[0]['n_users']):,} users of MovieLens-1M, one interaction of each held out; "
        "mean ± standard error over users. New users: those of the canonical split, with a fifth "
        "of their interactions to find. Published: hit rate and NDCG among 100 in table 3 of Liang "
        "et al. (2018), NeuMF without pretraining."
    )
    return Table(header, lines, caption)


def _fits(rows: list[dict]) -> Table:
    """Return seconds and memory of each fit."""
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    found = {(row["model"], row["dataset"]): row for row in rows}
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        cells = [found.get((model, dataset)) for dataset in datasets]
        lines.append([model, *(_cost(row) if row else "" for row in cells)])
    if not lines:
        return Table([], [], "")
    loads = [float(row["load"]) for row in rows]
    threads = " or ".join(sorted({row["threads"] for row in rows}))
    caption = (
        f"Seconds of one fit, and GiB above what the process held before; {threads} threads, "
        f"{' or '.join(sorted({row['cpu'] for row in rows}))}; load of the machine before a fit, "
        f"that of the fit before it included: {min(loads):.1f} to {max(loads):.1f}."
    )
    return Table(["model", *datasets], lines, caption)


def _cost(row: dict) -> str:
    seconds = float(row["wall_s"])
    return f"{seconds:.{0 if seconds >= 10 else 1}f} s, {float(row['peak_gib']):.2g} GiB"


def _short(number: str) -> str:
    return number[1:] if number.startswith("0.") else number
