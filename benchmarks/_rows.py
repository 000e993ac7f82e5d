"""Rows of the tables of the accuracy benchmark, and the CSV files that hold them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import _csv_files
import numpy as np
import settings
from _compare import mean_over_users
from _metrics import BEYOND, METRICS, TESTED
from _runs import write_whole

COLUMNS = [
    *("dataset", "split", "model", "variant", "paper", "settings", "n_users"),
    *(name for metric in METRICS for name in (metric, f"{metric}_se")),
    *(name for metric in TESTED for name in (f"{metric}_below_best", f"{metric}_p")),
    *BEYOND,
    *("valid_ndcg@100", "fit_s", "best_epoch", "seed", "date", "device", "threads", "cpu"),
    *("versions", "source"),
]
CANDIDATE_COLUMNS = [
    *("dataset", "split", "model", "variant", "settings", "chosen", "valid_ndcg@100"),
    *("fit_s", "best_epoch", "n_epochs", "date"),
]


def without(per_user: dict[str, np.ndarray], users: np.ndarray) -> dict[str, np.ndarray]:
    """Leave out the values of some users."""
    kept = ~np.isin(per_user["users"], users)
    return {name: values[kept] for name, values in per_user.items()}


def pooled(found: list[dict]) -> dict:
    """Return several splits of a model as one: the values of all their users."""
    names = found[0]["per_user"]
    return found[0] | {
        "split": f"{found[0]['split']} to {found[-1]['split']}",
        "per_user": {n: np.concatenate([row["per_user"][n] for row in found]) for n in names},
        "test": {n: np.mean([row["test"].get(n, np.nan) for row in found]) for n in BEYOND},
        "valid": np.mean([row["valid"] for row in found]),
        "fit_s": np.mean([row["fit_s"] for row in found]),
        "settings": " or ".join(dict.fromkeys(row["settings"] for row in found)),
        "best_epoch": None,
        "seed": None,
    }


def as_row(found: dict) -> dict:
    """Return what goes to a row of the table, beside the values of each user."""
    users = found["per_user"]["users"]
    row = {name: found.get(name) for name in ("group", *COLUMNS)} | {
        "n_users": len(np.unique(users)),
        "valid_ndcg@100": f"{found['valid']:.4f}",
        "fit_s": f"{found['fit_s']:.1f}",
        "per_user": found["per_user"],
    }
    for metric in BEYOND:
        value = found["test"].get(metric, np.nan)
        row[metric] = "" if np.isnan(value) else f"{value:.4g}"
    for metric in METRICS:
        mean = mean_over_users(found["per_user"][metric], users)
        row |= {metric: f"{mean.value:.4f}", f"{metric}_se": f"{mean.standard_error:.4f}"}
    return row


def against_the_best(rows: list[dict]) -> list[dict]:
    """Compare each row with the best of its data set, split and group, user by user."""
    families: dict[tuple, list[dict]] = {}
    for row in rows:
        families.setdefault((row["dataset"], row["split"], row["group"]), []).append(row)
    for family in families.values():
        for metric in TESTED:
            best = max(family, key=lambda row: row["per_user"][metric].mean())["per_user"]
            for row in family:
                users = row["per_user"]["users"]
                if not np.array_equal(users, best["users"]):
                    raise ValueError(f"{row['model']} was evaluated on other users than the best.")
                difference = mean_over_users(best[metric] - row["per_user"][metric], users)
                row[f"{metric}_below_best"] = f"{difference.value:.4f}"
                row[f"{metric}_p"] = "" if row["per_user"] is best else f"{difference.pvalue:.3g}"
    return rows


def as_candidate(found: dict) -> dict:
    """Return the row of a candidate."""
    numbers = {"valid_ndcg@100": f"{found['valid']:.4f}", "fit_s": f"{found['fit_s']:.1f}"}
    return {name: found.get(name) for name in CANDIDATE_COLUMNS} | numbers


def merge(path: Path, rows: list[dict], columns: list[str], *, replace: bool = True) -> list[str]:
    """Write new rows to a table, in the place of those of their splits.

    Returns
    -------
    gone : list of str
        Rows of the table that have no new ones, though others of their splits do. Unless `replace`,
        these splits are left as they are.
    """
    before, places = _csv_files.read(path), {_place(row) for row in rows}
    new = {_name(row) for row in rows}
    gone = [row for row in before if _place(row) in places and _name(row) not in new]
    if not replace:
        places -= {_place(row) for row in gone}
    kept = [row for row in before if _place(row) not in places]
    order = [dataset.name for dataset in settings.DATASETS]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        sorted(
            [*kept, *(row for row in rows if _place(row) in places)],
            key=lambda row: (order.index(row["dataset"]), row["split"] != "canonical"),
        )
    )
    write_whole(path, lambda file: file.write(table.getvalue().encode()))
    return sorted(map(_name, gone))


def _place(row: dict) -> tuple[str, str]:
    return row["dataset"], row["split"]


def _name(row: dict) -> str:
    return f"{row['dataset']} {row['split']} {row['model']} ({row['variant']})"
