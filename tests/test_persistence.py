"""Saved and loaded estimators are the same."""

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from io import BytesIO
from uuid import UUID

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.pipeline
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.preprocessing import Binarizer, MaxAbsScaler

from sklrec.dummy import PopularityRecommender
from sklrec.ensemble import HadamardEnsemble
from sklrec.factorization import WMF
from sklrec.hybrid import DeepMusic, FactorsFromContent
from sklrec.linear import EASE
from sklrec.neighbors import ItemKNN
from sklrec.persistence import load, save
from sklrec.pipeline import make_pipeline
from sklrec.preprocessing import InteractionEncoder
from sklrec.utils import all_estimators

safetensors = pytest.importorskip("safetensors")
from saved_files import assert_same, rewrite  # noqa: E402

# Of these settings, each model gets those that it has.
SMALL = {
    "n_components": 4,
    "hidden_layer_sizes": (8,),
    "max_epochs": 2,
    "batch_size": 20,
    "max_iter": 200,
    "tol": 1e-3,
    "random_state": 0,
}
REGIMES = {
    "LFM": [{"n_components": 0}, {"threshold": 2.5}],
    "MultVAE": [
        {"hidden_layer_sizes": ()},
        {"likelihood": "gaussian", "early_stopping": True, "validation_fraction": 0.2},
        {"warm_start": True},
    ],
    "MultDAE": [{"likelihood": "logistic", "lambda_": 1e-4, "hidden_layer_sizes": [8, 6]}],
}


def instances():
    for name, estimator in all_estimators():
        for setting in [{}, *REGIMES.get(name, [])]:
            known = estimator().get_params()
            instance = estimator(**{k: v for k, v in SMALL.items() if k in known})
            if instance.__sklearn_tags__().input_tags.two_d_array:
                yield instance.set_params(**setting)


@pytest.fixture
def ratings(X):
    X.data = np.random.default_rng(1).integers(1, 6, X.nnz).astype(np.float32)
    return X.astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def saved(X, path):
    """Return the path of a saved EASE."""
    save(EASE(lambda_=2.0).fit(X), path)
    return path


def parts_of(value):
    """Return the arrays of a sparse array, the text of an estimator, or the value itself."""
    if isinstance(value, BaseEstimator):
        return (repr(value),)
    return (value.data, value.indices, value.indptr) if sp.issparse(value) else (value,)


# Round trips


@pytest.mark.parametrize("estimator", list(instances()), ids=repr)
def test_every_estimator_comes_back_the_same_to_the_last_bit(estimator, ratings, path):
    save(estimator.fit(ratings), path)
    assert_same(load(path), estimator, ratings)


@pytest.mark.parametrize("estimator", list(instances()), ids=repr)
def test_every_fitted_attribute_comes_back_with_its_type(estimator, ratings, path):
    save(estimator.fit(ratings), path)
    loaded = vars(load(path))
    before = {k: v for k, v in vars(estimator).items() if k != "net_"}
    assert set(loaded) - {"net_"} == set(before)
    for name, value in before.items():
        assert type(loaded[name]) is type(value), name
        for got, wanted in zip(*map(parts_of, (loaded[name], value)), strict=True):
            assert_array_equal(got, wanted, strict=isinstance(wanted, np.ndarray))


@pytest.mark.parametrize("estimator", [e() for _, e in all_estimators()], ids=repr)
def test_an_estimator_that_is_not_fitted_comes_back_so(estimator, path):
    save(estimator, path)
    loaded = load(path)
    assert loaded.get_params() == estimator.get_params()
    assert set(vars(loaded)) == set(vars(estimator))


@pytest.mark.parametrize(
    "value",
    [
        np.float64(0.1),
        np.float32(0.1),
        np.int64(7),
        3,
        0.1 + 0.2,
    ],
    ids=repr,
)
def test_numbers_keep_value_and_type(value, path):
    save(EASE(lambda_=value), path)
    got = load(path).lambda_
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        np.True_,
        float("nan"),
        float("-inf"),
        -0.0,
        np.float32("inf"),
        10**30,
        "ü \ud800 \x00 \"'",
        np.str_("a"),
        (1, (2.5, [None]), []),
        {1: "int", "1": "str", (0, 1): {"a.b": {}}, None: ()},
        {"a.b": np.arange(3), "a": {"b": np.arange(4)}},
        np.array(3.5, dtype=np.float16),
        np.zeros((0, 5), dtype=np.int8),
        np.array([[True], [False]]),
        np.arange(6.0).reshape(2, 3).T,
        np.arange(3, dtype=">i4"),
        np.array(["a", "bcd", ""]),
        np.array([["x", 1], [2.5, None]], dtype=object),
        np.array([], dtype=object),
        np.float64,
    ],
    ids=repr,
)
def test_plain_values_keep_value_and_type(value, path):
    model = PopularityRecommender()
    model.extra_ = value
    save(model, path)
    got = load(path).extra_
    assert type(got) is type(value)
    assert repr(got) == repr(value).replace("'>i4'", "int32")


def test_names_of_items_come_back(X, path):
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(X.toarray(), columns=[f"item {i}" for i in range(X.shape[1])])
    model = EASE().fit(table)
    save(model, path)
    loaded = load(path)
    assert_array_equal(loaded.feature_names_in_, model.feature_names_in_, strict=True)
    assert_array_equal(loaded.decision_function(table), model.decision_function(table))


@pytest.mark.parametrize(
    "ids",
    [[7, 3, 3], ["ü", "b", ""], [1.5, 1.0, 2.5], [("a", 1), ("a", 2), ("b", (1,))], [10**30, 1, 2]],
    ids=repr,
)
def test_encoder_of_plain_ids_comes_back(ids, path):
    table = (["ann", "bob", "bob"], ids)
    encoder = InteractionEncoder(dtype=np.float64).fit(table)
    save(encoder, path)
    loaded = load(path)
    for name in ("user_ids_", "item_ids_"):
        assert_array_equal(getattr(loaded, name), getattr(encoder, name), strict=True)
        assert getattr(loaded, name).tolist() == getattr(encoder, name).tolist()
    assert_array_equal(loaded.transform(table).toarray(), encoder.transform(table).toarray())
    assert loaded.dtype is np.float64


def test_file_is_about_as_large_as_the_weights(path):
    model = EASE().fit(sp.random(300, 200, 0.1, format="csr", dtype=np.float32))
    save(model, path)
    assert model.coef_.nbytes < path.stat().st_size < 1.01 * model.coef_.nbytes + 2000


def test_file_of_a_neural_model_holds_its_weights_and_no_optimizer(ratings, path):
    pytest.importorskip("torch")
    from sklrec.neural import MultVAE

    model = MultVAE(16, hidden_layer_sizes=(64,), max_epochs=1, random_state=0).fit(ratings)
    n_bytes = 4 * sum(weight.numel() for weight in model.net_.module_.parameters())
    save(model, path)
    assert path.stat().st_size < 1.1 * n_bytes + 4000
    save(model.partial_fit(ratings), path)
    assert path.stat().st_size > 3 * n_bytes


def test_file_can_be_read_by_whom_the_umask_allows(saved, tmp_path):
    (tmp_path / "other").touch()
    assert saved.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_path_may_be_a_string(X, path):
    save(EASE().fit(X), str(path))
    assert_same(load(str(path)), EASE().fit(X), X)


def test_sum_of_grams_goes_on_after_loading(X, path):
    save(EASE().partial_fit(X[:40]), path)
    whole = EASE().partial_fit(X[:40]).partial_fit(X[40:])
    assert_array_equal(load(path).partial_fit(X[40:]).coef_, whole.coef_)


def test_training_goes_on_after_loading_as_if_it_had_not_ended(ratings, path):
    pytest.importorskip("torch")
    from sklrec.neural import MultVAE

    setting = {"max_epochs": 3, "batch_size": 20, "warm_start": True, "random_state": 0}
    model = MultVAE(4, hidden_layer_sizes=(8,), **setting).fit(ratings)
    save(model, path)
    loaded = load(path).partial_fit(ratings)
    model.partial_fit(ratings)
    assert loaded.n_iter_ == 4
    assert_array_equal(loaded.decision_function(ratings), model.decision_function(ratings))


def test_training_goes_on_from_the_loaded_weights_with_a_new_optimizer(ratings, path):
    pytest.importorskip("torch")
    from sklrec.neural import MultVAE

    model = MultVAE(4, hidden_layer_sizes=(8,), max_epochs=30, learning_rate=0.01, random_state=0)
    save(model.fit(ratings), path)
    loaded = load(path).partial_fit(ratings)
    first, *_, last, next_ = loaded.loss_curve_
    assert abs(next_ - last) < 0.2 * (first - last)


def test_model_for_a_device_that_is_not_there_loads_on_the_cpu(ratings, path, monkeypatch):
    torch = pytest.importorskip("torch")
    from sklrec.neural import MultVAE

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = MultVAE(4, hidden_layer_sizes=(8,), max_epochs=2, device="cpu", random_state=0)
    save(model.fit(ratings), path)
    rewrite(path, lambda document: document["params"].update(device="cuda"))
    loaded = load(path)
    assert loaded.device == "cuda"
    assert_array_equal(loaded.decision_function(ratings), model.decision_function(ratings))


def test_callbacks_and_metadata_requests_are_left_out(X, path):
    model = EASE().fit(X)
    model._skl_callbacks = [object()]
    model._metadata_request = object()
    save(model, path)
    assert set(vars(model)) - set(vars(load(path))) == {"_skl_callbacks", "_metadata_request"}


def test_loading_a_linear_model_does_not_import_torch(saved):
    code = (
        "import sys; from sklrec.persistence import load; load(sys.argv[1]); "
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, saved]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


@pytest.mark.parametrize(
    "model",
    [
        model
        for model in instances()
        if hasattr(model, "partial_fit") or hasattr(model, "warm_start")
    ],
    ids=str,
)
def test_a_memory_mapped_model_is_trained_on_as_one_in_memory_is(model, X, tmp_path):
    """Arrays that joblib maps from a file cannot be written to (scikit-learn#25584)."""
    model = clone(model)
    getattr(model, "partial_fit", model.fit)(X)
    if hasattr(model, "warm_start"):
        model.set_params(warm_start=True)
    joblib.dump(model, tmp_path / "model")
    before = (tmp_path / "model").read_bytes()
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    in_memory = joblib.load(tmp_path / "model")
    for one in (mapped, in_memory):
        getattr(one, "partial_fit", one.fit)(X)
    assert_array_equal(mapped.decision_function(X), in_memory.decision_function(X))
    assert (tmp_path / "model").read_bytes() == before


@pytest.mark.parametrize(
    "ids",
    [
        [UUID(int=2), UUID(int=1)],
        [b"\x00\xff", b""],
        [date(2026, 1, 2), date(1, 1, 1)],
        [datetime(2026, 1, 2, 3, 4, 5, 6), datetime(1, 1, 1)],
        [
            datetime(2026, 1, 2, tzinfo=UTC),
            datetime(2026, 1, 1, 23, tzinfo=timezone(-timedelta(1) / 2)),
        ],
        np.array(["2026-01-02", "2026-01-01T00:00:00.000000001"], dtype="datetime64[ns]"),
        np.array(["2026-01-02", "0001-01-01"], dtype="datetime64[D]"),
        [(UUID(int=1), b"a", date(2026, 1, 1)), (UUID(int=1), b"b", date(2026, 1, 1))],
    ],
    ids=lambda ids: f"{type(ids[0]).__name__}-{str(ids[0])[-3:]}",
)
def test_ids_that_are_no_numbers_and_no_strings_come_back(ids, path):
    encoder = InteractionEncoder().fit((range(len(ids)), ids))
    save(encoder, path)
    loaded = load(path)
    assert loaded.item_ids_.tolist() == encoder.item_ids_.tolist()
    assert list(map(type, loaded.item_ids_)) == list(map(type, encoder.item_ids_))
    assert list(map(repr, loaded.item_ids_)) == list(map(repr, encoder.item_ids_))
    assert_array_equal(loaded.item_indices(ids), encoder.item_indices(ids))


# Estimators that hold others


@pytest.mark.parametrize(
    "make", [make_pipeline, sklearn.pipeline.make_pipeline], ids=["own", "its"]
)
def test_a_pipeline_comes_back(make, ratings, path):
    model = make(Binarizer(threshold=2.5), TfidfTransformer(), "passthrough", EASE(lambda_=2.0))
    save(model.fit(ratings), path)
    loaded = load(path)
    assert_same(loaded, model, ratings)
    assert [type(step) for _, step in loaded.steps] == [type(step) for _, step in model.steps]
    if make is make_pipeline:
        assert_array_equal(loaded.predict_ranking(ratings), model.predict_ranking(ratings))


def test_an_ensemble_comes_back_with_each_member_once(ratings, path):
    frozen = FrozenEstimator(ItemKNN(3).fit(ratings))
    inner = HadamardEnsemble([("wmf", WMF(3, random_state=0)), ("knn", frozen)], random_state=0)
    members = [("pipeline", make_pipeline(Binarizer(), EASE())), ("two", inner), ("no", "drop")]
    model = HadamardEnsemble(members, random_state=0).fit(ratings)
    save(model, path)
    loaded = load(path)
    assert_array_equal(loaded.decision_function(ratings), model.decision_function(ratings))
    assert type(loaded.named_estimators_) is type(model.named_estimators_)
    assert list(loaded.named_estimators_) == ["pipeline", "two", "no"]
    pipeline, two = loaded.estimators_
    assert loaded.named_estimators_["two"] is two
    assert pipeline is loaded.named_estimators_["pipeline"]
    assert two.estimators_[1].estimator.n_neighbors == 3
    assert loaded.fit(ratings).estimators_[0] is not pipeline
    n_bytes = 20**2 * 4  # of EASE
    assert path.stat().st_size < 20_000 + 2 * n_bytes


def test_a_frozen_member_is_stored_once(path):
    X = sp.random_array((100, 200), density=0.2, format="csr", rng=np.random.default_rng(0))
    ease = EASE().fit(X)
    model = HadamardEnsemble([("ease", FrozenEstimator(ease))], random_state=0).fit(X)
    save(model, path)
    assert path.stat().st_size < 1.1 * ease.coef_.nbytes
    loaded = load(path)
    assert loaded.estimators_[0] is loaded.estimators[0][1]
    assert loaded.estimators_[0] is loaded.named_estimators_["ease"]
    assert_array_equal(loaded.decision_function(X), model.decision_function(X))


@pytest.mark.parametrize("name", ["DeepMusic", "FactorsFromContent"])
def test_a_model_with_a_regressor_adds_new_items_after_loading(name, ratings, path):
    features = np.random.default_rng(0).random((20, 4)).astype(np.float32)
    model = {
        "DeepMusic": DeepMusic(3, hidden_layer_sizes=(4,), max_epochs=5, random_state=0),
        "FactorsFromContent": FactorsFromContent(
            WMF(3, random_state=0),
            regressor=sklearn.pipeline.make_pipeline(MaxAbsScaler(), Ridge()),
        ),
    }[name].fit(ratings, item_features=features)
    save(model, path)
    loaded, model = load(path).with_items(features[:3]), model.with_items(features[:3])
    rows = np.hstack([ratings.toarray(), np.ones((60, 3), dtype=np.float32)])
    assert_array_equal(loaded.decision_function(rows), model.decision_function(rows))


def test_a_file_of_one_estimator_can_be_read_by_older_versions(saved):
    with safetensors.safe_open(saved, framework="numpy") as file:
        document = json.loads(file.metadata()["sklrec"])
    assert document["format_version"] == 1
    assert "parts" not in document


# File objects


def test_file_objects_hold_what_a_path_does(X, saved):
    model = EASE(lambda_=2.0).fit(X)
    file = BytesIO()
    save(model, file)
    assert file.getvalue() == saved.read_bytes()
    file.seek(0)
    assert_same(load(file), model, X)
    with open(saved, "rb") as opened:
        assert_same(load(opened), model, X)


@pytest.mark.parametrize("estimator", [ItemKNN(3), WMF(3, random_state=0), "MultVAE"], ids=str)
def test_a_model_from_memory_can_be_trained_on(estimator, ratings):
    if estimator == "MultVAE":
        pytest.importorskip("torch")
        from sklrec.neural import MultVAE

        estimator = MultVAE(4, hidden_layer_sizes=(8,), max_epochs=1, random_state=0)
    file = BytesIO()
    save(estimator.fit(ratings), file)
    file.seek(0)
    loaded = load(file)
    assert_same(loaded, estimator, ratings)
    for model in (loaded, estimator):
        getattr(model, "partial_fit", model.fit)(ratings)
    assert_same(loaded, estimator, ratings)
