"""Tables of the accuracy benchmark, from its committed results: ``python benchmarks/report.py``.

Fills places of README.md and the docs, up to ``<!-- end -->``: ``<!-- accuracy: NAME -->`` with a
table, ``<!-- value: FILE COLUMN KEY=VALUE ... -->`` with one figure. Draws
``docs/benchmarks/accuracy.svg``. ``--check`` changes none and ends with 1 where one of them is not
what the results say, ``--html FILE`` writes all tables to a page of its own besides. Other
``--results`` than the committed ones go to no page but those that ``--pages`` names.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import numpy as np
from _cells import (
    LEVEL,
    best_of,
    caption_of,
    corrected_p,
    figure_cell,
    label_of,
    marked_cell,
    minus,
    p_cell,
    short,
    signed,
    tells_beyond,
    title_of,
    users_of,
)
from _content_tables import content_tables
from _csv_files import read
from _decision import Choice, Choices, draw_choices
from _metrics import BEYOND, METRICS, TESTED
from _plot import METRIC, Panels, Point, draw, is_current
from _side_tables import LATER, side_tables
from _table import Table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
ROOT = HERE.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "user_guide" / "choosing.md",
    *sorted((ROOT / "docs" / "benchmarks").glob("*.md")),
]
FIGURE = ROOT / "docs" / "benchmarks" / "accuracy.svg"
DECISION = ROOT / "docs" / "benchmarks" / "decision.svg"
TABLE = re.compile(r"(<!-- accuracy: ([^>]+) -->\n).*?(<!-- end -->)", flags=re.DOTALL)
VALUE = re.compile(r"(<!-- value: ([^>]+) -->)[^<]*(<!-- end -->)")
MARKER = re.compile(r"<!--\s*(?:accuracy|value|end)\b")

STUDY = ["LFM", "EASE", "Mult-VAE", "RecVAE", "HVampVAE"]  # rows of table 1 of Peng et al.


class Report:
    """The tables, by name, and single figures.

    Parameters
    ----------
    results : Path
        Folder with ``accuracy.csv``, ``settings_found.csv``, ``ablations.csv``, ``content.csv``...
    published : Path
        The published figures; those of models of content lie beside it.
    """

    def __init__(self, results: Path, published: Path) -> None:
        self.results = results
        self.accuracy = read(results / "accuracy.csv")
        self.candidates = read(results / "settings_found.csv")
        self.ablations = read(results / "ablations.csv")
        self.published = read(published)
        self.fits = read(results / "fits.csv")
        self.others = content_tables(
            read(results / "content.csv"),
            self.accuracy,
            read(published.with_name("published_content.csv")),
            read(results / "titles.csv"),
        )
        self.others |= side_tables(
            *(read(results / f"{name}.csv") for name in ("seeds", "activity", "sampled")),
            self.fits,
            self.accuracy,
            self.published,
        )

    def names(self) -> list[str]:
        """Return the names of all tables that there are results for."""
        shown = [row for row in self.accuracy if not row["split"].isdigit()]
        tables = dict.fromkeys(f"{row['dataset']}, {row['split']}" for row in shown)
        rows = {
            "readme": self.of("ml-1m, canonical"),
            "choosing": [row for row in shown if row["variant"] != "published"],
            **{name: self.of(name) for name in tables},
            "study of small data": self._pooled(),
            "published": self._known(shown),
            **{
                f"beyond accuracy, {name}": [*filter(tells_beyond, self.of(name))]
                for name in tables
            },
            **{f"ablation, {r['group']}": [r] for r in self.ablations if not r["split"].isdigit()},
            "settings": shown,
        }
        return [*(name for name in rows if rows[name]), *self.others]

    def of(self, name: str) -> list[dict]:
        """Return the rows of ``DATA SET, SPLIT``."""
        return [row for row in self.accuracy if f"{row['dataset']}, {row['split']}" == name]

    def table(self, name: str) -> Table:
        """Return a table: ``readme``, ``DATA SET, SPLIT``, ``ablation, GROUP`` and others."""
        if name not in self.names():
            raise ValueError(f"There is no table {name!r}, only {'; '.join(self.names())}.")
        if name in self.others:
            return self.others[name]
        if name == "readme":
            return self._readme()
        if name == "choosing":
            return self._choosing()
        if name == "study of small data":
            return self._study()
        if name == "published":
            return self._beside_published()
        if name == "settings":
            return self._settings()
        first, _, second = name.partition(", ")
        if first == "beyond accuracy":
            return self._beyond(self.of(second))
        if first == "ablation":
            rows = [row for row in self.ablations if row["group"] == second]
            rows = [row for row in rows if not row["split"].isdigit()]
            return self._compared(rows, sort=False)
        return self._compared(self.of(name))

    def value(self, place: str) -> str:
        """Return one figure, ``FILE COLUMN KEY=VALUE ...``: that of all rows with these values."""
        file, column, *conditions = place.split()
        wanted = dict(condition.split("=") for condition in conditions)
        rows = [row for row in read(self.results / file) if wanted.items() <= row.items()]
        found = {row.get(column) for row in rows} - {None}
        if len(found) != 1:
            raise ValueError(f"{place!r} is not one figure: {file} has {len(found)}.")
        return found.pop()

    def choices(self) -> Choices:
        """Return the accuracy, seconds and memory of each fit that was measured."""
        shown = self._shown()
        choices: Choices = {}
        for fit in self.fits:
            dataset, model = fit["dataset"], fit["model"]
            if row := shown.get(dataset, {}).get(model):
                cost = float(fit["wall_s"]), float(fit["peak_gib"])
                choices.setdefault(dataset, []).append(Choice(model, float(row[METRIC]), *cost))
        return choices

    def _shown(self) -> dict[str, dict[str, dict]]:
        """Return one row of each model on each data set.

        That of the canonical split, or of all others together where there is none.
        """
        shown: dict[str, dict[str, dict]] = {}
        for row in self.accuracy:
            if row["variant"] != "published" and not row["split"].isdigit():
                shown.setdefault(row["dataset"], {}).setdefault(row["model"], row)
        return shown

    def panels(self) -> Panels:
        """Return what the figure shows: the canonical split, or all the others together."""
        panels: Panels = {}
        for dataset in dict.fromkeys(row["dataset"] for row in self.accuracy):
            rows = [r for r in self.accuracy if r["dataset"] == dataset]
            shown = [r for r in rows if r["split"] == "canonical"]
            for row in shown or [r for r in rows if not r["split"].isdigit()]:
                known = self._published(dataset, row["model"]).get(METRIC)
                published = float(known["value"]) if known else None
                mean, error = float(row[METRIC]), float(row[f"{METRIC}_se"])
                point = Point(label_of(row), mean, error, published)
                panels.setdefault(f"{dataset}, {row['split']}", []).append(point)
        return panels

    def _readme(self) -> Table:
        table = self._compared(self.of("ml-1m, canonical"))
        n_columns = 1 + len(TESTED)
        rows = [row[:n_columns] for row in table.rows]
        level = short(str(LEVEL))
        caption = (
            f"\\* below the best of its column: paired t test, p < {level}, corrected (Holm 1979)."
        )
        return Table(table.header[:n_columns], rows, caption)

    def _choosing(self) -> Table:
        """Return the NDCG@100 of each model on each data set, the best on MovieLens-1M first."""
        shown = self._shown()
        best = {
            dataset: max(rows.values(), key=lambda row: float(row[METRIC]))
            for dataset, rows in shown.items()
        }
        on_ml1m = shown.get("ml-1m", {})
        seconds = {
            fit["model"]: f"{float(fit['wall_s']):.1f}"
            for fit in self.fits
            if fit["dataset"] == "ml-1m"
        }
        models = sorted(
            dict.fromkeys(row["model"] for row in self.accuracy),
            key=lambda model: -float(on_ml1m.get(model, {}).get(METRIC, 0)),
        )
        lines = []
        for model in models:
            found = {dataset: rows.get(model) for dataset, rows in shown.items()}
            cells = [
                marked_cell(row, METRIC, best, dataset) if row else ""
                for dataset, row in found.items()
            ]
            lines.append([model, *cells, seconds.get(model, "")])
        return Table(["model", *shown, "seconds on ml-1m"], lines, "")

    def _compared(self, rows: list[dict], *, sort: bool = True) -> Table:
        """Return models beside the best of them and beside what was published."""
        if sort:
            rows = sorted(rows, key=lambda row: -float(row["ndcg@100"]))
        best = best_of(rows)
        corrected = {metric: corrected_p(rows, metric) for metric in TESTED}
        known = {row["model"]: self._published(row["dataset"], row["model"]) for row in rows}
        beside = any(known.values())
        lines, sources = [], {}
        for i, row in enumerate(rows):
            line = [label_of(row)]
            for metric in TESTED:
                p = corrected[metric][i]
                line.append(marked_cell(row, metric, best) + (" \\*" if p < LEVEL else ""))
            p = corrected["ndcg@100"][i]
            line += [minus(row["ndcg@100_below_best"]), "" if np.isnan(p) else p_cell(p)]
            if beside:
                line += self._beside(row, known[row["model"]], sources)
            lines.append(line)
        header = ["model", *map(title_of, TESTED), "to the best", "p"]
        header += ["published NDCG@100", "ours less published"] if beside else []
        return Table(header, lines, caption_of(rows, sources))

    def _beside(self, row: dict, known: dict[str, dict], sources: dict[str, str]) -> list[str]:
        if "ndcg@100" not in known:
            return ["", ""]
        entry = known["ndcg@100"]
        number = len(sources) + 1
        label = sources.setdefault(
            f"{entry['source']}; {entry['note']}".rstrip("; "), f"({number})"
        )
        difference = float(row["ndcg@100"]) - float(entry["value"])
        return [f"{short(entry['value'])} {label}", signed(difference)]

    def _known(self, rows: list[dict]) -> list[dict]:
        return [row for row in rows if self._published(row["dataset"], row["model"])]

    def _beside_published(self) -> Table:
        """Return every published figure of these data beside ours, and the difference."""
        lines = []
        for dataset, rows in self._shown().items():
            for model, row in rows.items():
                for metric, entry in self._published(dataset, model).items():
                    difference = float(row[metric]) - float(entry["value"])
                    source = f"{entry['source']}; {entry['note']}".rstrip("; ")
                    cells = [short(entry["value"]), figure_cell(row, metric), signed(difference)]
                    lines.append([dataset, model, title_of(metric), *cells, source])
        header = ["data set", "model", "metric", "published", "ours", "difference", "source"]
        return Table(header, lines, "")

    def _published(self, dataset: str, model: str) -> dict[str, dict]:
        found: dict[str, dict] = {}
        for entry in self.published:
            if (entry["dataset"], entry["model"]) == (dataset, model):
                found.setdefault(entry["metric"], entry)  # the first named is the model's own paper
        return found

    def _pooled(self) -> list[dict]:
        return [r for r in self.accuracy if r["dataset"] == "ml-small" and " to " in r["split"]]

    def _study(self) -> Table:
        """Return our figures and those of table 1 of Peng et al., row by row."""
        lines = []
        for model in STUDY:
            known = self._published("ml-small", model)
            figures = [short(known[m]["value"]) for m in METRICS]
            lines.append([model, "*published*", *(f"*{figure}*" for figure in figures)])
            for row in (row for row in self._pooled() if row["model"] == model):
                lines.append([label_of(row), "ours", *(figure_cell(row, m) for m in METRICS)])
        caption = users_of(self._pooled()[0]) + " What is published has no errors."
        return Table(["model", "", *map(title_of, METRICS)], lines, caption)

    def _beyond(self, rows: list[dict]) -> Table:
        """Return what the lists of ten hold, whether they are right or not."""
        rows = sorted(filter(tells_beyond, rows), key=lambda row: -float(row[METRIC]))
        lines = [
            [label_of(row), figure_cell(row, METRIC), *(f"{float(row[m]):.3f}" for m in BEYOND)]
            for row in rows
        ]
        caption = (
            "Of the first ten items of each test user. Coverage: share of all items that are in "
            "somebody's list. Gini: 0 where all items are listed equally often, near 1 where a few "
            "fill all lists. Novelty: mean of -log2 of the share of training users who have an "
            "item, in bits. Popularity: mean of that share. Diversity: 1 less the mean cosine of "
            "two items of a list, by the training users who have them."
        )
        return Table(["model", title_of(METRIC), *BEYOND.values()], lines, caption)

    def _settings(self) -> Table:
        """Return the settings of each model on each data set."""
        rows = [row for row in self.accuracy if not row["split"].isdigit()]
        lines = [
            [
                *(row["dataset"], row["split"], label_of(row), row["paper"]),
                *(f"`{row['settings']}`", str(self._n_candidates(row))),
            ]
            for row in rows
        ]
        caption = (
            "Candidates: settings that validation users chose from, in each split; where it is 1, "
            "they are published, found by a few fits by hand or carried over."
        )
        header = ["data set", "split", "model", "paper", "settings", "candidates"]
        return Table(header, lines, caption)

    def _n_candidates(self, row: dict) -> int:
        """Return how many settings a row was chosen from, on its first split."""
        split = row["split"].partition(" ")[0]
        what = {name: row[name] for name in ("dataset", "model", "variant")} | {"split": split}
        return sum(what.items() <= candidate.items() for candidate in self.candidates) or 1


def filled(text: str, report: Report) -> str:
    """Return a page with its marked tables and figures made anew."""

    def table(match: re.Match) -> str:
        if match[2] in LATER and match[2] not in report.names():
            return f"{match[1]}\n*Not run yet.*\n\n{match[3]}"
        return f"{match[1]}\n{report.table(match[2]).markdown()}\n{match[3]}"

    def value(match: re.Match) -> str:
        return f"{match[1]}{report.value(match[2])}{match[3]}"

    n_marked = len(TABLE.findall(text)) + len(VALUE.findall(text))
    n_markers = len(MARKER.findall(text))
    if n_markers != 2 * n_marked:
        raise ValueError(f"{n_markers} comments mark {n_marked} places, which needs two of each.")
    return VALUE.sub(value, TABLE.sub(table, text))


def page(report: Report) -> str:
    """Return all tables as a page of HTML."""
    parts = [f"<h2>{name}</h2>\n{report.table(name).html()}" for name in report.names()]
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n<title>Accuracy</title>\n'
        "<style>body{font:15px sans-serif;margin:2em}table{border-collapse:collapse}"
        "caption{caption-side:bottom;text-align:left;max-width:60em}"
        "td,th{padding:.2em .8em;border-bottom:1px solid #ccc;text-align:left}</style></head>\n"
        f"<body>\n<h1>Accuracy</h1>\n{''.join(parts)}</body></html>\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say what differs")
    parser.add_argument("--html", type=Path, help="a file for all tables as HTML")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--pages", type=Path, nargs="+", help="README.md and the docs unless told")
    parser.add_argument("--figure", type=Path, help="docs/benchmarks/accuracy.svg unless told")
    parser.add_argument("--decision", type=Path, help="docs/benchmarks/decision.svg unless told")
    options = parser.parse_args()
    if not (options.results / "accuracy.csv").exists():
        parser.error(f"--results {options.results}: there is no accuracy.csv in this folder")
    committed = options.results.resolve() == RESULTS
    pages = options.pages or (PAGES if committed else [])
    figure = options.figure or (FIGURE if committed else None)
    decision = options.decision or (DECISION if committed else None)
    if not (pages or figure or decision or options.html):
        parser.error("other --results need --html, --pages or --figure: a place to go to")
    report = Report(options.results, HERE / "published.csv")
    if decision and not report.fits:
        parser.error(f"--decision needs {options.results / 'fits.csv'}, which fits.py writes")
    html = page(report) if options.html else ""
    old = {path: path.read_text(encoding="utf-8") for path in pages}
    new = {path: filled(text, report) for path, text in old.items()}  # before any is written
    differing = [path for path in pages if new[path] != old[path]]
    redraw = []
    for path, shown, drawer in (
        (figure, report.panels, draw),
        (decision, report.choices, draw_choices),
    ):
        if path is not None and not is_current(shown(), path):
            redraw.append(path)
            if not options.check:
                drawer(shown(), path)
    if options.html:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        options.html.write_text(html, encoding="utf-8")
    if not options.check:
        for path in differing:
            path.write_text(new[path], encoding="utf-8")
        return 0
    differing += redraw
    for path in differing:
        print(f"{path} is not what the results say: run python benchmarks/report.py")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
