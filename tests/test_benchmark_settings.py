"""The table of settings of the benchmark of accuracy, and the data sets that it names."""

import _data
import pytest
from numpy.testing import assert_array_equal

pytest.importorskip("torch")

import settings


@pytest.mark.parametrize("model", settings.MODELS, ids=lambda model: model.name)
def test_settings_are_parameters_within_their_constraints(model):
    for dataset in settings.DATASETS:
        for estimators in model.candidates(dataset.name).values():
            for estimator in estimators:
                estimator._validate_params()


def test_names_of_the_table_are_unique():
    for models in (settings.MODELS, settings.ABLATIONS):
        assert len({model.name for model in models}) == len(models)


@pytest.mark.parametrize("layout", ["combined_data_1.txt", "training_set/mv_0000001.txt"])
def test_netflix_is_read_from_either_layout(layout, tmp_path):
    path = tmp_path / "netflix" / layout
    path.parent.mkdir(parents=True)
    path.write_text("1:\n7,3,2005-01-01\n5,5,2005-01-02\n")
    second = "2:\n7,4,2004-12-31\n" if "combined" in layout else ""
    path.write_text(path.read_text() + second)
    if not second:
        (path.parent / "mv_0000002.txt").write_text("2:\n7,4,2004-12-31\n")
    assert_array_equal(_data.netflix(tmp_path).toarray(), [[5, 0], [3, 4]])


def test_netflix_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="combined_data"):
        _data.netflix(tmp_path)


def test_msd_keeps_songs_with_enough_listeners_and_sorts_users(tmp_path):
    lines = ["b\ts2\t9", "a\ts1\t1", "a\ts2\t3", "c\ts3\t1", "b\ts3\t1", "b\ts3\t4"]
    (tmp_path / "train_triplets.txt").write_text("\n".join(lines) + "\n")
    found = _data.msd(tmp_path, least_listeners=2)
    assert_array_equal(found.toarray(), [[1, 0], [1, 1], [0, 1]])  # of a, b and c


def test_msd_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train_triplets\.txt"):
        _data.msd(tmp_path)


def test_values_outside_the_typical_range_are_not_searched():
    model = settings.Model("EASE", settings.EASE(), search={"lambda_": [50, 5]})
    with pytest.raises(
        ValueError, match="lambda_=5 is not within the typical range of EASE, 10 to"
    ):
        model.candidates("made")
