"""The benchmark of clusters on tiny data, and the simulation of large data from its table."""

import csv

import pytest
import scale
import speed_distributed

pytest.importorskip("pyarrow")
pytest.importorskip("torch")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    speed_distributed.make(folder, "tiny", "1")
    return folder


@pytest.mark.parametrize("job", speed_distributed.JOBS)
def test_every_job_measures(job, data, tmp_path):
    found = speed_distributed.work(job, data, "tiny", tmp_path, None)
    assert found["seconds"] > 0
    assert found["work"] > 0
    run = found | {"read": 10**9, "written": 0, "worker": 2**30, "scheduler": 2**29}
    row = speed_distributed.row(job, "tiny", [run, run], 2, "2GB")
    row |= speed_distributed.compared([run], [run | {"seconds": 2 * run["seconds"]}], "another")
    assert row["ratio"] == "0.500"
    assert set(row) == set(speed_distributed.COLUMNS)
    path = tmp_path / "table.csv"
    for _ in range(2):  # a row of the same job is replaced
        speed_distributed.write([row], path)
    with path.open(newline="") as file:
        assert [line["job"] for line in csv.DictReader(file)] == [job]


@pytest.mark.parametrize("size", ["tiny", "large"])
def test_made_tables_have_as_many_rows_and_users_as_asked_for(size, monkeypatch):
    shape = speed_distributed.Size(5_000, 30, 30_000_000, 40)
    if size == "tiny":
        shape = speed_distributed.SIZES["tiny"]
    pieces = list(zip(range(3), speed_distributed.pieces(shape), strict=False))
    rows = shape.n_interactions // shape.n_files
    for _, (users, items) in pieces:
        assert users.size == items.size == rows
        assert 0 <= users.min() <= users.max() < shape.n_users
        assert 0 <= items.min() <= items.max() < shape.n_items
    if size == "large":  # the rows of a user are spread over all files
        assert len(set(pieces[0][1][0].tolist())) == shape.n_users


# Costs of larger data


def test_costs_grow_with_the_data_and_not_with_the_cores(table):
    rows = scale.measured(scale.read(table))
    data = scale.Data(1e6, 1e4, 1e8, cores=10, disk=1e9, worker=8e9, components=64, k=10)
    small = {stage.name: stage for stage in scale.stages(data, rows)}
    large = scale.stages(data._replace(users=2e6, interactions=2e8), rows)
    more = {stage.name: stage for stage in scale.stages(data._replace(cores=100), rows)}
    for stage in large:
        growth = 1 if stage.name == "EASE: inverse" else 2  # as each user has as many interactions
        assert stage.work == pytest.approx(growth * small[stage.name].work)
        assert stage.core_seconds == pytest.approx(growth * small[stage.name].core_seconds)
        assert more[stage.name] == small[stage.name]


def test_costs_by_hand(table):
    rows = scale.measured(scale.read(table))
    data = scale.Data(1e6, 1e4, 1e8, cores=10, disk=1e9, worker=8e9, components=64, k=10)
    stages = {stage.name: stage for stage in scale.stages(data, rows)}
    assert stages["encode"].core_seconds == pytest.approx(1e8 / 2e6)
    # 100 products of two interactions of a user, 1.5 times as many as of equally active ones.
    assert stages["EASE: X'X"].work == pytest.approx(1.5 * 1e8 * 100)
    assert stages["rank, evaluate"].core_seconds == pytest.approx(1e6 * 1e4 / 3e8)
    text = scale.as_text(list(stages.values()), data)
    assert "EASE: inverse" in text
    assert text.count("* - ") == len(stages) + 1


@pytest.fixture
def table(tmp_path):
    """Return a table of 100 users with 10 interactions each, and speeds that are easy to check."""
    path = tmp_path / "table.csv"
    speeds = {"encode": 2e6, "gram": 1e7, "nearest items": 1e7, "wmf": 1e6, "rank": 3e8,
              "inverse": 1e10}  # fmt: skip
    work = {"gram": 1.5 * 100 * 10**2 / 2, "encode": 1000}
    rows = [
        {
            "job": job,
            "n_users": 100,
            "n_items": 50,
            "n_interactions": 1000,
            "work": work.get(job, 1),
            "work_per_core_second": speed,
            "read_gb": 1e-6,
            "written_gb": 1e-6,
            "worker_gib": 1,
            "scheduler_gib": 0,
            "cpu_seconds": 1,
        }
        for job, speed in speeds.items()
    ]
    speed_distributed.write(
        [dict.fromkeys(speed_distributed.COLUMNS, "") | row for row in rows], path
    )
    return path


def test_the_table_of_a_page_is_replaced_and_checked(table, tmp_path):
    page = tmp_path / "page.rst"
    page.write_text(
        "Before\n.. measured table\n.. end of measured table\n.. scale table\nold\n"
        ".. end of scale table\nafter\n",
        "utf-8",
    )
    arguments = ["--page", str(page), "--table", str(table), "--users", "1e5"]
    assert scale.main([*arguments, "--check"]) == 1
    assert scale.main(arguments) == 0
    assert scale.main([*arguments, "--check"]) == 0
    text = page.read_text("utf-8")
    assert text.startswith("Before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    with pytest.raises(ValueError, match="has no comments"):
        scale.main(["--page", str(table), "--table", str(table)])


def test_the_page_of_the_documentation_is_up_to_date():
    assert scale.main(["--page", str(scale.PAGE), "--check"]) == 0
