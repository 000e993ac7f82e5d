"""The curves of a fit."""

import pickle

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError

from sklrec.dummy import PopularityRecommender
from sklrec.inspection import TrainingCurveDisplay
from sklrec.linear import EASE
from sklrec.pipeline import make_pipeline

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


@pytest.fixture
def vae(X):
    """Return a small MultVAE after four epochs with validation, annealed in five steps."""
    pytest.importorskip("skorch")
    from sklrec.neural import MultVAE

    model = MultVAE(
        3,
        hidden_layer_sizes=(),
        max_epochs=4,
        batch_size=20,
        beta=0.6,
        n_annealing_steps=10,
        random_state=0,
        device="cpu",
    )
    return model.fit(X[:40], X_val=X[40:])


def test_numbers_are_those_of_the_fit(vae):
    display = TrainingCurveDisplay.from_estimator(vae)
    assert_allclose(display.loss, vae.loss_curve_)
    assert_allclose(display.validation_score, vae.validation_scores_)
    assert_allclose(display.beta, [0.2, 0.4, 0.6, 0.6])  # two steps an epoch, of 0.1 each
    assert display.best_epoch == vae.best_epoch_
    assert display.name == "MultVAE"


def test_each_curve_has_a_panel_below_the_other(vae):
    display = TrainingCurveDisplay.from_estimator(vae)
    assert len(display.axes_) == len(display.lines_) == 3
    for line, values in zip(
        display.lines_, (display.loss, display.validation_score, display.beta), strict=True
    ):
        assert_allclose(line.get_xydata(), np.c_[[1, 2, 3, 4], values])
    assert display.ax_ is display.axes_[0]
    heights = [ax.get_position().y0 for ax in display.axes_]
    assert heights == sorted(heights, reverse=True)


def test_best_epoch_is_marked(vae):
    display = TrainingCurveDisplay.from_estimator(vae)
    star = next(line for line in display.axes_[1].get_lines() if line.get_marker() == "*")
    assert_allclose(star.get_xydata(), [[vae.best_epoch_, max(vae.validation_scores_)]])


def test_second_model_goes_to_the_same_panels(vae):
    first = TrainingCurveDisplay.from_estimator(vae, name="one")
    second = TrainingCurveDisplay.from_estimator(vae, name="two", ax=first.axes_)
    assert second.figure_ is first.figure_
    labels = [text.get_text() for text in second.ax_.get_legend().get_texts()]
    assert labels == ["one", "two"]


def test_model_from_a_file_has_the_curves_of_its_training(vae):
    loaded, trained = (
        TrainingCurveDisplay.from_estimator(model)
        for model in (pickle.loads(pickle.dumps(vae)), vae)
    )
    assert_allclose(loaded.validation_score, trained.validation_score)
    assert_allclose(loaded.beta, trained.beta)
    assert len(loaded.axes_) == len(trained.axes_)


def test_epochs_without_validation_have_no_score(vae, X):
    display = TrainingCurveDisplay.from_estimator(vae.partial_fit(X))
    assert_allclose(display.validation_score, [*vae.validation_scores_, np.nan])
    display.figure_.canvas.draw()


def test_model_with_a_loss_alone_has_one_panel(X):
    model = PopularityRecommender().fit(X)
    model.loss_curve_ = [2.0, 1.0]
    display = TrainingCurveDisplay.from_estimator(model)
    assert len(display.axes_) == 1
    assert display.best_epoch is None


def test_panels_take_the_place_of_an_axes(vae):
    figure, (left, right) = plt.subplots(1, 2)
    display = TrainingCurveDisplay.from_estimator(vae, ax=left)
    assert left not in figure.axes
    assert set(figure.axes) == {right, *display.axes_}


def test_number_of_axes_that_is_not_that_of_panels_is_refused(vae):
    _, axes = plt.subplots(2)
    with pytest.raises(ValueError, match="one for each of the 3 panels, got 2"):
        TrainingCurveDisplay.from_estimator(vae, ax=axes)


def test_axes_without_a_place_among_subplots_is_refused(vae):
    ax = plt.figure().add_axes((0.1, 0.1, 0.8, 0.8))
    with pytest.raises(ValueError, match="made by subplots"):
        TrainingCurveDisplay.from_estimator(vae, ax=ax)


def test_unfitted_model_is_refused():
    with pytest.raises(NotFittedError):
        TrainingCurveDisplay.from_estimator(EASE())


def test_model_that_has_no_epochs_is_refused(X):
    with pytest.raises(TypeError, match="loss_curve_, which is trained in epochs, got EASE"):
        TrainingCurveDisplay.from_estimator(EASE().fit(X))


def test_axes_that_hold_data_are_not_taken_away(vae):
    first = TrainingCurveDisplay.from_estimator(vae)
    with pytest.raises(ValueError, match=r"ax holds data, .* pass display\.axes_"):
        TrainingCurveDisplay.from_estimator(vae, ax=first.ax_)
    assert first.ax_ in first.figure_.axes


LOSS = np.array([3.0, 2.0])
SCORE = np.array([0.1, 0.2])
BETA = np.array([0.0, 1.0])


def test_model_with_fewer_panels_goes_to_those_with_its_labels():
    first = TrainingCurveDisplay(loss=LOSS, validation_score=SCORE, beta=BETA, best_epoch=2).plot()
    second = TrainingCurveDisplay(loss=2 * LOSS, beta=2 * BETA).plot(first.axes_)
    assert [line.axes for line in second.lines_] == [first.axes_[0], first.axes_[2]]
    assert list(second.axes_) == list(first.axes_)
    assert [ax.get_ylabel()[:4] for ax in second.axes_] == ["loss", "NDCG", "KL w"]
    assert "star" in second.axes_[-1].get_xlabel()


def test_panel_that_another_model_lacks_is_missed():
    first = TrainingCurveDisplay(loss=LOSS, beta=BETA).plot()
    with pytest.raises(ValueError, match=r"a panel with the label 'NDCG@100.* most panels first"):
        TrainingCurveDisplay(loss=LOSS, validation_score=SCORE).plot(first.axes_)


def test_numbers_of_the_epochs_are_hidden_where_the_panel_below_has_them():
    _, beside = plt.subplots(1, 2)
    for ax, shown in ((None, [False, True]), (beside, [True, True])):
        display = TrainingCurveDisplay(loss=LOSS, beta=BETA).plot(ax)
        assert [bool(axes.get_xlabel()) for axes in display.axes_] == shown
        assert [bool(axes.get_xticklabels()) for axes in display.axes_] == shown


def test_pipeline_is_read_in_its_last_step(vae):
    display = TrainingCurveDisplay.from_estimator(make_pipeline("passthrough", vae))
    assert_allclose(display.loss, vae.loss_curve_)
    assert display.name == "MultVAE"


@pytest.mark.parametrize("best_epoch", [0, 3])
def test_best_epoch_that_is_none_of_the_epochs_is_refused(best_epoch):
    with pytest.raises(ValueError, match=f"one of the 2 epochs, got {best_epoch}"):
        TrainingCurveDisplay(loss=LOSS, best_epoch=best_epoch).plot()


def test_best_epoch_is_none_after_epochs_without_validation(vae, X):
    assert TrainingCurveDisplay.from_estimator(vae.partial_fit(X)).best_epoch is None
