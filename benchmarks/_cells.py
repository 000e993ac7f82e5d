"""Cells and captions of the tables of accuracy."""

from __future__ import annotations

import re

import numpy as np
from _compare import holm
from _metrics import BEYOND, TESTED

LEVEL = 0.05


def best_of(rows: list[dict]) -> dict[str, dict]:
    """Return the best row of each metric; it alone has no p-value."""
    return {metric: next(row for row in rows if not row[f"{metric}_p"]) for metric in TESTED}


def corrected_p(rows: list[dict], metric: str) -> np.ndarray:
    """Return the corrected p-value of each row, NaN for the best."""
    pvalues = np.array([float(row[f"{metric}_p"] or "nan") for row in rows])
    others = ~np.isnan(pvalues)
    pvalues[others] = holm(pvalues[others])
    return pvalues


def tells_beyond(row: dict) -> bool:
    """Return whether a row tells of the lists, beyond their accuracy."""
    return all(row.get(metric) for metric in BEYOND)


def caption_of(rows: list[dict], sources: dict[str, str]) -> str:
    n_tests = sum(row["ndcg@100_p"] not in ("", "nan") for row in rows)
    lines = [
        users_of(rows[0]),
        f"p: paired t test of the users' NDCG@100 against the best model, corrected for the "
        f"{n_tests} comparisons of the column by the method of Holm (1979).",
        f"\\* marks what is below the best of its column with such a p under {short(str(LEVEL))}.",
    ]
    if n_tests < len(rows) - 1:
        lines.append("Rows without p were run apart from the best.")
    if sources:
        named = "; ".join(f"{label} {source}" for source, label in sources.items())
        lines.append(f"Published: {named.rstrip('.')}.")
    return " ".join(lines)


def users_of(row: dict) -> str:
    n_users = f"{int(row['n_users']):,} test users"
    first, several, last = row["split"].partition(" to ")
    if not several:
        return f"{n_users}, mean ± standard error over users."
    return (
        f"{n_users} in {int(last) - int(first) + 1} splits, mean ± standard error over users: one "
        "in several splits counts as one observation."
    )


def figure_cell(row: dict, metric: str, mark: str = "") -> str:
    return f"{mark}{short(row[metric])}{mark} ± {short(row[f'{metric}_se'])}"


def marked_cell(row: dict, metric: str, best: dict[str, dict], column: str | None = None) -> str:
    return figure_cell(row, metric, "**" if best[column or metric] is row else "")


def label_of(row: dict) -> str:
    return row["model"] + (", published settings" if row["variant"] == "published" else "")


def title_of(metric: str) -> str:
    return metric.replace("ndcg", "NDCG").replace("recall", "Recall")


def short(number: str) -> str:
    return re.sub(r"^(-?)0\.", r"\1.", number)


def minus(number: str) -> str:
    return "" if float(number) == 0 else f"-{short(number)}"


def signed(difference: float) -> str:
    return f"{difference:+.3f}".replace("0.", ".", 1)


def p_cell(p: float) -> str:
    return "< .001" if p < 0.001 else short(f"{p:.3f}")
