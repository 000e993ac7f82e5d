"""The report of the benchmark of accuracy: tables, single figures, pages."""

import sys
from pathlib import Path

import pytest
import report
from _metrics import METRICS, TESTED

pytest.importorskip("torch")

import _rows

ROOT = Path(__file__).parent.parent


def results(folder, rows):
    """Write a table with these means of NDCG@100 and p-values."""
    columns = _rows.COLUMNS
    table = []
    for model, mean, p in rows:
        row = dict.fromkeys(columns, "") | {"dataset": "ml-20m", "split": "canonical"}
        row |= {"model": model, "variant": "tuned", "n_users": 10_000}
        row |= dict.fromkeys(METRICS, mean) | {f"{name}_se": "0.0020" for name in METRICS}
        for name in TESTED:
            row |= {f"{name}_p": p, f"{name}_below_best": "0.0100" if p else "0.0000"}
        table.append(row)
    _rows.merge(folder / "accuracy.csv", table, columns)
    return folder


def test_report_shows_the_corrected_test_and_the_published_value(tmp_path):
    published = tmp_path / "published.csv"
    published.write_text(
        "dataset,model,metric,value,source,note\n"
        "ml-20m,EASE,ndcg@100,0.420,Steck 2019,\n"
        "ml-20m,EASE,ndcg@100,0.389,Peng et al.,\n"
    )
    rows = [("EASE", "0.4190", "0.02"), ("Best", "0.4290", ""), ("Bad", "0.4000", "0.03")]
    table = report.Report(results(tmp_path, rows), published).table("ml-20m, canonical")
    assert table.header[-4:] == ["to the best", "p", "published NDCG@100", "ours less published"]
    assert [row[0] for row in table.rows] == ["Best", "EASE", "Bad"]
    assert table.rows[0][1] == "**.4290** ± .0020"
    assert table.rows[1][1:] == [".4190 ± .0020 \\*"] * 3 + ["-.0100", ".040", ".420 (1)", "-.001"]
    assert "Holm" in table.caption
    assert "(1) Steck 2019." in table.caption


def test_report_of_html_holds_the_same_cells(tmp_path):
    table = report.Table(["a & b"], [["**.4** ± .1 \\*"], ["`x<y`"]], "A *note*.")
    assert "<th>a &amp; b</th>" in table.html()
    assert "<td><b>.4</b> ± .1 &#42;</td>" in table.html()
    assert "<td><code>x&lt;y</code></td>" in table.html()


def test_report_fills_marked_places_and_notices_changes(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- accuracy: ml-20m, canonical -->\nold\n<!-- end -->\nafter\n")
    results(tmp_path, [("EASE", "0.4190", "")])
    figure = tmp_path / "figure.svg"
    command = ["report.py", "--results", str(tmp_path), "--pages", str(page)]
    command += ["--figure", str(figure)]
    monkeypatch.setattr(sys, "argv", [*command, "--check"])
    assert report.main() == 1
    assert "old" in page.read_text()
    monkeypatch.setattr(sys, "argv", command)
    assert report.main() == 0
    assert "| EASE | **.4190** ± .0020 |" in page.read_text()
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("<!-- end -->\nafter\n")
    monkeypatch.setattr(sys, "argv", [*command, "--check"])
    assert report.main() == 0


def test_report_of_other_results_changes_no_page_that_is_not_named(
    tmp_path, monkeypatch, command_line
):
    committed = tmp_path / "README.md"
    committed.write_text("<!-- accuracy: ml-20m, canonical -->\nold\n<!-- end -->\n")
    monkeypatch.setattr(report, "PAGES", [committed])
    monkeypatch.setattr(report, "FIGURE", report.ROOT / "no_figure.svg")
    monkeypatch.setattr(report, "draw", None)
    results(tmp_path, [("EASE", "0.4190", "")])
    html = tmp_path / "tables.html"
    command_line(f"report.py --results {tmp_path} --html", html)
    assert report.main() == 0
    assert ".4190" in html.read_text()
    assert "old" in committed.read_text()


def test_report_of_other_results_needs_a_place_to_go_to(tmp_path, command_line, capsys):
    results(tmp_path, [("EASE", "0.4190", "")])
    command_line("report.py --results", tmp_path)
    with pytest.raises(SystemExit):
        report.main()
    assert "other --results need --html, --pages or --figure" in capsys.readouterr().err


def test_choices_are_the_fits_that_were_measured(tmp_path):
    results(tmp_path, [("EASE", "0.4190", ""), ("WMF", "0.3890", "")])
    (tmp_path / "fits.csv").write_text(
        "dataset,model,wall_s,cpu_s,peak_gib,threads,load,cpu\n"
        "ml-20m,EASE,12.5,20,1.6,2,0.1,C\n"
        "ml-20m,Removed,1,1,1,2,0.1,C\n"
        "ml-1m,EASE,1,1,1,2,0.1,C\n"
    )
    choices = report.Report(tmp_path, tmp_path / "published.csv").choices()
    assert choices == {"ml-20m": [("EASE", 0.419, 12.5, 1.6)]}


def test_figure_to_choose_by_needs_measured_fits(tmp_path, command_line, capsys):
    results(tmp_path, [("EASE", "0.4190", "")])
    command_line(f"report.py --results {tmp_path} --decision", tmp_path / "decision.svg")
    with pytest.raises(SystemExit):
        report.main()
    assert "fits.csv, which fits.py writes" in capsys.readouterr().err


def test_report_of_no_results_is_refused_in_a_line(tmp_path, command_line, capsys):
    command_line(f"report.py --results {tmp_path} --html", tmp_path / "tables.html")
    with pytest.raises(SystemExit):
        report.main()
    assert "there is no accuracy.csv in this folder" in capsys.readouterr().err.splitlines()[-1]


def test_page_that_cannot_be_filled_leaves_all_as_they_are(tmp_path, command_line):
    results(tmp_path, [("EASE", "0.4190", "")])
    pages = [tmp_path / "good.md", tmp_path / "bad.md"]
    for path, name in zip(pages, ["ml-20m, canonical", "readme"], strict=True):
        path.write_text(f"<!-- accuracy: {name} -->\nold\n<!-- end -->\n")
    html = tmp_path / "tables.html"
    command_line(f"report.py --results {tmp_path} --html {html} --pages", *pages)
    with pytest.raises(ValueError, match="no table 'readme'"):
        report.main()
    assert "old" in pages[0].read_text()
    assert not html.exists()


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({}, ["choosing", "ml-20m, canonical", "settings"]),
        ({"variant": "published"}, ["ml-20m, canonical", "settings"]),
        ({"dataset": "ml-small", "split": "1"}, []),
    ],
)
def test_tables_without_rows_are_left_out(row, names, tmp_path):
    found = report.Report(results(tmp_path, [("EASE", "0.4190", "")]), tmp_path / "none.csv")
    found.accuracy[0] |= row
    found.ablations = [{"group": "EASE", "split": "1"}]
    assert found.names() == names
    assert report.page(found).count("<table>") == len(names)


def filled(folder, text):
    return report.filled(text, report.Report(folder, folder / "none.csv"))


def test_report_fills_in_single_figures(tmp_path):
    (tmp_path / "memory.csv").write_text("n_items,n_users,gib\n10,2,1.5\n20,2,2.9\n")
    text = "It takes <!-- value: memory.csv gib n_items={} -->?<!-- end --> GiB."
    assert "-->2.9<!--" in filled(tmp_path, text.format("20"))
    for nothing in ("30", "10 n_users=3"):
        with pytest.raises(ValueError, match=r"is not one figure: memory\.csv has 0"):
            filled(tmp_path, text.format(nothing))
    with pytest.raises(ValueError, match=r"memory\.csv has 2"):
        filled(tmp_path, text.replace("n_items={}", "n_users=2"))


def test_place_that_no_table_is_for_is_refused(tmp_path):
    results(tmp_path, [("EASE", "0.4190", "")])
    with pytest.raises(ValueError, match=r"no table 'ml-20m, 1', only .*ml-20m, canonical"):
        filled(tmp_path, "<!-- accuracy: ml-20m, 1 -->\n<!-- end -->")


@pytest.mark.parametrize(
    "text",
    ["<!--accuracy: settings -->\n<!-- end -->", "<!-- accuracy: settings -->\n", "<!--end-->"],
)
def test_mark_that_is_not_whole_is_refused(text, tmp_path):
    with pytest.raises(ValueError, match="comments mark 0 places"):
        filled(tmp_path, text)


def test_figure_is_drawn_anew_when_a_result_changes(tmp_path):
    pytest.importorskip("matplotlib")
    published = ROOT / "benchmarks" / "published.csv"
    panels = report.Report(results(tmp_path, [("EASE", "0.4190", "")]), published).panels()
    assert panels == {"ml-20m, canonical": [("EASE", 0.419, 0.002, 0.42)]}
    assert not report.is_current(panels, tmp_path / "figure.svg")
    report.draw(panels, tmp_path / "figure.svg")
    assert report.is_current(panels, tmp_path / "figure.svg")
    panels = report.Report(results(tmp_path, [("EASE", "0.4191", "")]), published).panels()
    assert not report.is_current(panels, tmp_path / "figure.svg")


def test_committed_pages_are_what_the_results_say(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["report.py", "--check"])
    assert report.main() == 0, capsys.readouterr().out


def test_all_tables_of_the_results_can_be_made(tmp_path):
    made = report.Report(ROOT / "benchmarks" / "results", ROOT / "benchmarks" / "published.csv")
    html = report.page(made)
    assert html.count("<table>") == len(made.names())


def test_published_figures_are_shares_with_a_source():
    for entry in report.read(ROOT / "benchmarks" / "published.csv"):
        assert 0 < float(entry["value"]) < 1
        assert entry["metric"] in [*METRICS, "hit_rate@10"]
        assert entry["source"]
