"""The hours of fits with published settings."""

import pytest
from numpy.testing import assert_allclose

pytest.importorskip("torch")

import neural_worker
import published_time


@pytest.fixture
def small(monkeypatch):
    # The study of small data has published settings of ml-small, for some models.
    monkeypatch.setitem(published_time.SHAPES, "ml-small", (5_000, 40, 6))


def test_hours_are_those_of_all_epochs_and_users(small, monkeypatch):
    fitted = []

    def two_epochs(model, X):
        fitted.append((model, X.shape))
        return {"epochs": [9.0, 2.0]}  # the first warms up

    monkeypatch.setattr(neural_worker, "time_epochs", two_epochs)
    row = published_time.worker("ml-small", "HVampVAE")
    ((model, shape),) = fitted
    assert shape == (1_000, 40)
    assert (model.max_epochs, model.early_stopping) == (2, False)
    assert row["epochs"] == 200
    assert_allclose(float(row["epoch_s"]), 2 * 5)  # five times the users
    assert_allclose(float(row["hours"]), 10 * 200 / 3600, atol=0.05)


def test_two_epochs_are_fitted(small):
    row = published_time.worker("ml-small", "RecVAE")
    assert row["measured_users"] == 1_000
    assert float(row["epoch_s"]) > 0


def test_models_without_published_settings_have_no_row(small):
    assert published_time.worker("ml-small", "ELSA") == {}
