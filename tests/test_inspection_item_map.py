"""The map of the items."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import Binarizer

from sklrec import _ranking
from sklrec.dummy import PopularityRecommender
from sklrec.inspection import ItemMapDisplay
from sklrec.linear import EASE
from sklrec.pipeline import make_pipeline

mpl.use("Agg")
GROUPS = ["a", "b", "c"]
LABELS = np.array(GROUPS)[np.arange(20) % 3]


class Scores:
    """Scores item j for a user of item i by a fixed matrix, and counts the calls."""

    def __init__(self, S):
        self.S = np.asarray(S, float)
        self.calls = []

    def decision_function(self, X):
        self.calls.append(X)
        return X @ self.S


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture
def ease(X):
    return EASE(lambda_=5).fit(X)


def test_distances_by_hand():
    # The own score never counts, however large; rows differ in scale and offset.
    S = [[9, 3, 2, 1], [30, 99, 20, 10], [-1, -2, 7, -3], [1, 1, 3, 0]]
    display = ItemMapDisplay.from_estimator(
        Scores(S), np.ones((2, 4)), centered=False, random_state=0
    )
    one_way = np.array([[0, 0, 0.5, 1], [0, 0, 0.5, 1], [0, 0.5, 0, 1], [1, 1, 0, 0]])
    assert_array_equal(display.items, [0, 1, 2, 3])
    assert_allclose(display.distances, (one_way + one_way.T) / 2)


def test_centred_distances_by_hand():
    # Means over the other rows: 0, 4, 2, 6.
    S = [[9, 3, 3, 7], [0, 9, 2, 5], [1, 4, 9, 6], [-1, 5, 1, 9]]
    display = ItemMapDisplay.from_estimator(Scores(S), np.ones((2, 4)), random_state=0)
    # What is left: -1, 1, 1; 0, 0, -1; 1, 0, 0; -1, 1, -1.
    one_way = np.array([[0, 1, 0, 0], [0, 0, 0, 1], [0, 1, 0, 1], [1, 0, 1, 0]])
    assert_allclose(display.distances, (one_way + one_way.T) / 2)


def test_popularity_of_an_item_does_not_matter_unless_asked_for():
    rng = np.random.default_rng(0)
    S, popular = rng.random((8, 8)), np.r_[5.0, np.zeros(7)]
    maps = {
        (centered, shift): ItemMapDisplay.from_estimator(
            Scores(S + shift * popular), np.ones((2, 8)), centered=centered, random_state=0
        ).distances
        for centered in (True, False)
        for shift in (0, 1)
    }
    assert_allclose(maps[True, 0], maps[True, 1])
    assert (maps[False, 1][0, 1:] <= 0.5).all()
    assert not np.allclose(maps[False, 0], maps[False, 1])


def test_item_that_says_nothing_is_as_far_as_can_be_in_its_direction():
    S = np.random.default_rng(0).random((6, 6))
    S[2] = 0.25
    display = ItemMapDisplay.from_estimator(
        Scores(S), np.ones((2, 6)), centered=False, random_state=0
    )
    assert (np.delete(display.distances[2], 2) >= 0.5).all()
    assert display.distances[2, 2] == 0


def test_model_that_knows_no_neighbours_is_refused(X):
    with pytest.raises(ValueError, match="All scores are equal for each of the 20 items"):
        ItemMapDisplay.from_estimator(PopularityRecommender().fit(X), X)


def test_most_popular_items_are_shown_ties_by_index(ease, X):
    display = ItemMapDisplay.from_estimator(ease, X, n_items=6, random_state=0)
    counts = (X != 0).sum(axis=0)
    assert_array_equal(display.items, np.argsort(-counts, kind="stable")[:6])
    assert display.positions.shape == (6, 2)


def test_items_without_interactions_are_left_out(X):
    taken = X.toarray()
    taken[:, 5:] = 0
    display = ItemMapDisplay.from_estimator(EASE().fit(X), taken, random_state=0)
    assert_array_equal(np.sort(display.items), np.arange(5))


def test_distances_do_not_depend_on_the_size_of_a_batch(ease, X, monkeypatch):
    whole = ItemMapDisplay.from_estimator(ease, X, random_state=0)
    monkeypatch.setattr(_ranking, "BATCH_BYTES", 3 * 8 * 20)
    monkeypatch.setattr(_ranking, "FEW_ROWS", 1)
    S = np.random.default_rng(0).random((20, 20))
    model = Scores(S)
    ItemMapDisplay.from_estimator(model, X, random_state=0)
    assert [rows.shape[0] for rows in model.calls] == [3, 3, 3, 3, 3, 3, 2]
    assert_allclose(
        ItemMapDisplay.from_estimator(ease, X, random_state=0).distances, whole.distances
    )


def test_same_seed_gives_the_same_map(ease, X):
    one = ItemMapDisplay.from_estimator(ease, X, random_state=3)
    two = ItemMapDisplay.from_estimator(ease, X, random_state=3)
    assert_array_equal(one.positions, two.positions)


def test_planted_groups_are_together_on_the_map(ease, X):
    display = ItemMapDisplay.from_estimator(ease, X, labels=LABELS, perplexity=5, random_state=0)
    apart = ((display.positions[:, None] - display.positions) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = display.labels[apart.argmin(axis=1)]
    assert (nearest == display.labels).mean() > 0.7


def test_groups_are_coloured_and_the_rest_is_grey(ease, X):
    display = ItemMapDisplay.from_estimator(
        ease, X, labels=LABELS, groups=["c", "a"], random_state=0
    )
    assert list(display.scatters_) == ["c", "a", None]
    assert_allclose(display.scatters_["a"].get_offsets(), display.positions[display.labels == "a"])
    assert len(display.scatters_[None].get_offsets()) == (LABELS == "b").sum()
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["c", "a", "others"]


def test_all_labels_but_the_empty_one_are_groups(ease, X):
    labels = np.where(LABELS == "b", "", LABELS)
    display = ItemMapDisplay.from_estimator(ease, X, labels=labels, random_state=0)
    assert display.groups == ["a", "c"]


def test_legend_can_be_left_out(ease, X):
    display = ItemMapDisplay.from_estimator(ease, X, labels=LABELS, legend=False, random_state=0)
    assert display.ax_.get_legend() is None
    assert display.ax_.get_title(loc="left") == "EASE"


def test_value_reaches_a_pipeline_with_a_threshold(X):
    model = make_pipeline(Binarizer(threshold=3.5), EASE(lambda_=5)).fit(5 * X)
    display = ItemMapDisplay.from_estimator(model, X, value=5.0, random_state=0)
    plain = ItemMapDisplay.from_estimator(EASE(lambda_=5).fit(X), X, random_state=0)
    assert_allclose(display.distances, plain.distances, atol=1e-6)


def test_value_that_a_pipeline_drops_is_refused(X):
    model = make_pipeline(Binarizer(threshold=3.5), EASE(lambda_=5)).fit(5 * X)
    with pytest.raises(ValueError, match="a value that it does not ignore"):
        ItemMapDisplay.from_estimator(model, X, random_state=0)


def test_estimator_fitted_with_names_gets_names(ease, X):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X.toarray(), columns=[f"item {i}" for i in range(20)])
    display = ItemMapDisplay.from_estimator(EASE(lambda_=5).fit(frame), frame, random_state=0)
    plain = ItemMapDisplay.from_estimator(ease, X, random_state=0)
    assert_allclose(display.distances, plain.distances, atol=1e-5)


def test_list_of_lists_is_a_matrix(ease, X):
    display = ItemMapDisplay.from_estimator(ease, X.toarray().tolist(), random_state=0)
    assert display.items.size == 20


def test_perplexity_is_lowered_for_few_items(ease, X):
    display = ItemMapDisplay.from_estimator(ease, X, n_items=4, perplexity=30, random_state=0)
    assert np.isfinite(display.positions).all()


@pytest.mark.parametrize("n_items", [3, 0, 10.0])
def test_number_of_items_that_makes_no_map_is_refused(ease, X, n_items):
    with pytest.raises(ValueError, match="n_items must be an integer of at least 4, got"):
        ItemMapDisplay.from_estimator(ease, X, n_items=n_items)


def test_too_few_items_with_interactions_are_refused(ease, X):
    few = X.multiply(np.arange(20) < 3)
    with pytest.raises(ValueError, match=r"at least 4 items with interactions, got 3 in X of"):
        ItemMapDisplay.from_estimator(ease, sp.csr_array(few))


@pytest.mark.parametrize("labels", [LABELS[:19], LABELS[:, None], "a"])
def test_labels_of_another_number_of_items_are_refused(ease, X, labels):
    with pytest.raises(ValueError, match="one label for each of the 20 items of X, got"):
        ItemMapDisplay.from_estimator(ease, X, labels=labels)


def test_group_that_no_item_has_is_refused(ease, X):
    with pytest.raises(ValueError, match="no item has the label 'd'"):
        ItemMapDisplay.from_estimator(ease, X, labels=LABELS, groups=["a", "d"])


def test_groups_without_labels_are_refused(ease, X):
    with pytest.raises(ValueError, match="labels is missing"):
        ItemMapDisplay.from_estimator(ease, X, groups=["a"])


def test_more_groups_than_can_be_told_apart_are_refused(ease, X):
    message = "At most 7 groups can be told apart, got 20; name up to 7 labels in groups, and"
    with pytest.raises(ValueError, match=message):
        ItemMapDisplay.from_estimator(ease, X, labels=[f"label {i}" for i in range(20)])


def test_seven_of_many_labels_can_be_coloured(ease, X):
    labels = [f"label {i}" for i in range(20)]
    display = ItemMapDisplay.from_estimator(
        ease, X, labels=labels, groups=labels[:7], random_state=0
    )
    assert list(display.scatters_) == [*labels[:7], None]


def test_second_map_on_the_same_axes_is_refused(ease, X):
    display = ItemMapDisplay.from_estimator(ease, X, random_state=0)
    with pytest.raises(ValueError, match="ax holds a plot already; use separate axes for each map"):
        display.plot(display.ax_, name="another")
    assert display.ax_.get_title(loc="left") == "EASE"


def test_used_axes_are_refused_before_the_work(ease, X, monkeypatch):
    display = ItemMapDisplay.from_estimator(ease, X, random_state=0)
    monkeypatch.setattr("sklrec.inspection._item_map.TSNE", None)
    with pytest.raises(ValueError, match="ax holds a plot already"):
        ItemMapDisplay.from_estimator(ease, X, ax=display.ax_)


def test_scores_that_are_not_finite_are_refused(X):
    S = np.random.default_rng(0).random((20, 20))
    S[0, 1] = np.inf
    with pytest.raises(ValueError, match="Scores must be finite"):
        ItemMapDisplay.from_estimator(Scores(S), X)


def test_scores_of_another_shape_are_refused(X):
    with pytest.raises(ValueError, match=r"of shape \(20, 20\), got \(20, 5\)"):
        ItemMapDisplay.from_estimator(Scores(np.ones((20, 5))), X)


def test_unfitted_estimator_is_refused(X):
    with pytest.raises(NotFittedError):
        ItemMapDisplay.from_estimator(EASE(), X)


def test_object_without_decision_function_is_refused(X):
    with pytest.raises(TypeError, match="needs an estimator with decision_function, got object"):
        ItemMapDisplay.from_estimator(object(), X)


def test_style_has_whichever_of_matplotlibs_names(ease, X):
    display = ItemMapDisplay.from_estimator(
        ease, X, labels=LABELS, random_state=0, scatter_kwargs={"c": "red", "lw": 2, "ec": "blue"}
    )
    for scatter in display.scatters_.values():
        assert_allclose(scatter.get_facecolor(), [mpl.colors.to_rgba("red")])
        assert_allclose(scatter.get_edgecolor(), [mpl.colors.to_rgba("blue")])
        assert_allclose(scatter.get_linewidth(), 2)
