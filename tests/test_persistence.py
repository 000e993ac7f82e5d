"""Saved and loaded estimators are the same, and bad files are errors."""

import json
import pickle
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from io import BytesIO, StringIO
from uuid import UUID
from zoneinfo import ZoneInfo

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.pipeline
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import Binarizer, FunctionTransformer, MaxAbsScaler

import sklrec
from sklrec.dummy import PopularityRecommender, RandomRecommender
from sklrec.ensemble import HadamardEnsemble
from sklrec.factorization import LFM, WMF
from sklrec.hybrid import DeepMusic, FactorsFromContent
from sklrec.linear import EASE
from sklrec.neighbors import ItemKNN
from sklrec.persistence import load, save
from sklrec.pipeline import make_pipeline
from sklrec.preprocessing import InteractionEncoder
from sklrec.utils import all_estimators

safetensors = pytest.importorskip("safetensors")
from safetensors.numpy import load_file, save_file  # noqa: E402

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


def outputs(estimator, X):
    for method in ("decision_function", "transform"):
        if hasattr(estimator, method):
            output = getattr(estimator, method)(X)
            yield output.toarray() if sp.issparse(output) else output


def assert_same(loaded, saved, X):
    assert type(loaded) is type(saved)
    assert repr(loaded.get_params()) == repr(saved.get_params())
    for got, wanted in zip(outputs(loaded, X), outputs(saved, X), strict=True):
        assert got.dtype == wanted.dtype
        assert_array_equal(got, wanted)


def parts_of(value):
    """Return the arrays of a sparse array, the text of an estimator, or the value itself."""
    if isinstance(value, BaseEstimator):
        return (repr(value),)
    return (value.data, value.indices, value.indptr) if sp.issparse(value) else (value,)


def rewrite(path, change=None, tensors=None):
    """Change the text of a saved file in place, or its tensors."""
    with safetensors.safe_open(path, framework="numpy") as file:
        document = json.loads(file.metadata()["sklrec"])
    arrays = {**load_file(path), **(tensors or {})}
    if change is not None:
        change(document)
    save_file(arrays, path, metadata={"sklrec": json.dumps(document)})


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


@pytest.fixture
def pipeline(X, path):
    """Return the path of a saved pipeline."""
    save(make_pipeline(Binarizer(), EASE(lambda_=2.0)).fit(X), path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["parts"].pop(), "it has no estimator 2"),
        (lambda d: d.pop("parts"), "it has no estimator 1"),
        (lambda d: d["parts"][1].update({"class": "Other"}), "its class 'Other' is no estimator"),
        (lambda d: d["parts"][1]["params"].update(lambda_=-1.0), "The 'lambda_' parameter of EASE"),
        (lambda d: d["parts"][1]["params"].update(lambda_={"estimator": 0}), "0 holds itself"),
        (
            lambda d: d["parts"][1]["attributes"].update(n_features_in_=7),
            "its array '2/_popularity'",
        ),
        (lambda d: d["params"].update(memory="/tmp"), "the memory of its Pipeline is '/tmp', and"),
        (lambda d: d["params"].update(steps=3), "The 'steps' parameter of Pipeline must"),
        (lambda d: d["params"].update(steps={"estimator": -1}), "it has no estimator -1"),
        (lambda d: d.update(parts=None), "NoneType"),
        (lambda d: d.update(parts=[None, None]), "NoneType"),
    ],
)
def test_a_changed_text_of_a_pipeline_is_an_error(pipeline, change, message):
    rewrite(pipeline, change)
    with pytest.raises(ValueError, match=rf"cannot be loaded: .*{message}"):
        load(pipeline)


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


def test_nothing_is_written_to_an_object_if_the_estimator_cannot_be_saved():
    file = BytesIO()
    with pytest.raises(TypeError, match="which cannot be saved"):
        save(RandomRecommender(random_state=np.random.RandomState(0)), file)
    assert file.getvalue() == b""


def test_an_object_that_takes_a_part_is_an_error(X):
    class Full(BytesIO):
        def write(self, data):
            return super().write(data[:100])

    with pytest.raises(OSError, match=r"could not be written: it took 100 of \d+ bytes\.$"):
        save(EASE().fit(X), Full())


@pytest.mark.parametrize("file", [StringIO(), None, 3], ids=["text", "None", "number"])
def test_what_is_no_binary_file_is_an_error(file, X):
    message = "A file must be a path, or a file object that is open in binary mode with "
    for action in (lambda: save(EASE().fit(X), file), lambda: load(file)):
        with pytest.raises(TypeError, match=message):
            action()


@pytest.mark.parametrize("n_bytes", [0, 5, 100, -1, -1000])
def test_truncated_bytes_are_an_error(saved, n_bytes):
    file = BytesIO(saved.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=r"BytesIO.* cannot be loaded: .*\w\.$"):
        load(file)


def test_bytes_of_another_origin_are_an_error(X):
    for other in (safetensors.numpy.save({"weight": np.zeros(3)}), pickle.dumps(EASE().fit(X))):
        with pytest.raises(ValueError, match="cannot be loaded"):
            load(BytesIO(other))


def test_bytes_without_an_array_are_an_error(saved):
    arrays = load_file(saved)
    with safetensors.safe_open(saved, framework="numpy") as file:
        metadata = file.metadata()
    arrays["other"] = arrays.pop("_coef")
    with pytest.raises(ValueError, match="cannot be loaded: File does not contain tensor _coef"):
        load(BytesIO(safetensors.numpy.save(arrays, metadata)))


# What cannot be saved


def refuse(estimator, path, message):
    with pytest.raises(TypeError, match=message):
        save(estimator, path)
    assert list(path.parent.iterdir()) == []


def test_a_generator_as_parameter_is_refused_by_name(X, path):
    model = RandomRecommender(random_state=np.random.RandomState(0)).fit(X)
    refuse(
        model,
        path,
        r"RandomRecommender.random_state holds a numpy.random.mtrand.RandomState, which cannot be "
        r"saved; before saving, use set_params\(random_state=...\) with None, numbers",
    )
    save(model.set_params(random_state=None), path)
    assert_same(load(path), model, X)


def test_callbacks_as_parameter_are_refused_by_name(path):
    pytest.importorskip("torch")
    from skorch.callbacks import EpochTimer

    from sklrec.neural import MultVAE

    message = r"MultVAE.callbacks.0 holds a skorch.* use set_params\(callbacks=...\) with None"
    refuse(MultVAE(callbacks=[EpochTimer()]), path, message)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (frozenset({1}), "builtins.frozenset"),
        (datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Prague")), "datetime.datetime"),
    ],
    ids=repr,
)
def test_ids_of_another_kind_are_refused_by_name(value, kind, path):
    items = np.fromiter([value], dtype=object)
    encoder = InteractionEncoder().fit((["ann"], items))
    refuse(encoder, path, f"InteractionEncoder.item_ids_ holds a {kind}, which cannot be saved; wh")


@pytest.mark.parametrize(
    "value",
    [
        sp.csc_array((2, 2)),
        np.zeros(2, dtype=complex),
        np.zeros(2, dtype="M8[s]"),
        np.ma.zeros(2),
        np.complex64(1j),
        len,
        {"deep": [object()]},
        {1, 2},
        1j,
    ],
    ids=lambda value: type(value).__name__,  # addresses differ from process to process
)
def test_attributes_of_another_kind_are_refused_by_name(value, path):
    model = PopularityRecommender()
    model.extra_ = value
    refuse(
        model, path, r"PopularityRecommender.extra_(.deep.0)? holds an? .* cannot be saved; what"
    )


@pytest.mark.parametrize(
    "other",
    [
        GridSearchCV(EASE(), {"lambda_": [1.0]}),
        type("EASE", (EASE,), {})(),
        EASE,
        None,
    ],
    ids=["search", "namesake", "class", "none"],
)
def test_what_is_no_estimator_of_the_package_is_refused(other, path):
    refuse(other, path, r"save needs an estimator of sklrec or a pipeline, got .*; of a search, s")


class Logarithm(FunctionTransformer):
    pass


@pytest.mark.parametrize(
    ("holder", "message"),
    [
        (make_pipeline(Logarithm(), EASE()), r"Pipeline.steps.0.1 holds a \S*Logarithm, which can"),
        (make_pipeline(FunctionTransformer(np.log1p), EASE()), r"FunctionTransformer.func holds a"),
        (make_pipeline(EASE(), memory="cache"), "Pipeline.memory is 'cache', and caches are not s"),
        (
            HadamardEnsemble([("random", RandomRecommender(random_state=np.random.RandomState()))]),
            "RandomRecommender.random_state holds a numpy.random.*, which cannot be saved; before",
        ),
        (
            FactorsFromContent(regressor=RandomForestRegressor()),
            "FactorsFromContent.regressor holds a sklearn.ensemble.*RandomForestRegressor, which",
        ),
    ],
    ids=["class", "function", "memory", "generator", "forest"],
)
def test_a_held_estimator_that_cannot_be_saved_is_refused_by_name(holder, message, path):
    refuse(holder, path, message)


# Writing


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_save_leaves_the_old_file_alone(saved, X, monkeypatch, error):
    before = saved.read_bytes()

    def interrupted(arrays, part, metadata):
        part.write_bytes(b"half")
        raise error

    monkeypatch.setattr("safetensors.numpy.save_file", interrupted)
    with pytest.raises(error):
        save(PopularityRecommender().fit(X), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_second_save_replaces_the_first(saved, X):
    model = PopularityRecommender().fit(X)
    save(model, saved)
    assert_same(load(saved), model, X)
    assert list(saved.parent.iterdir()) == [saved]


def test_a_missing_folder_is_an_error(X, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*absent to save to"):
        save(EASE().fit(X), tmp_path / "absent" / "model.safetensors")


def test_a_failure_to_write_is_an_oserror(saved, X, monkeypatch):
    def full(arrays, part, metadata):
        raise safetensors.SafetensorError("no space left")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(OSError, match=r"model.safetensors could not be written: no space left"):
        save(EASE().fit(X), saved)
    assert list(saved.parent.iterdir()) == [saved]


# Bad files


@pytest.mark.parametrize("name", ["absent.safetensors", "."])
def test_a_missing_file_is_an_error(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load(tmp_path / name)


@pytest.mark.parametrize("n_bytes", [0, 5, 100, -1, -1000])
def test_a_truncated_file_is_an_error(saved, n_bytes):
    saved.write_bytes(saved.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=r"model.safetensors cannot be loaded: .*\w\.$"):
        load(saved)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_file_of_another_origin_is_an_error(path, metadata):
    save_file({"weight": np.zeros(3)}, path, metadata=metadata)
    with pytest.raises(ValueError, match=r"it was not written by sklrec.persistence.save\.$"):
        load(path)


def test_a_pickle_is_an_error(path, X):
    path.write_bytes(pickle.dumps(EASE().fit(X)))
    with pytest.raises(ValueError, match="cannot be loaded"):
        load(path)


@pytest.mark.parametrize(
    "name",
    [
        "Nothing",
        "BaseRecommender",
        "RankingScorer",
        "make_pipeline",
        "os",
        "",
        "sklearn.ensemble.RandomForestRegressor",
        "sklearn.pipeline.make_pipeline",
        "sklearn.linear_model.BaseEstimator",
        "sklrec.linear.EASE",
        "os.path",
    ],
)
def test_a_class_that_is_no_public_estimator_is_an_error(saved, name):
    rewrite(saved, lambda document: document.update({"class": name}))
    with pytest.raises(ValueError, match=f"its class '{name}' is no estimator of sklrec .* saved"):
        load(saved)


def test_a_newer_format_is_an_error_that_says_so(saved):
    rewrite(saved, lambda document: document.update(format_version=3, sklrec_version="9.1"))
    message = (
        r"it has format 3 of sklrec 9\.1, but sklrec .* reads formats up to 2; install a newer"
    )
    with pytest.raises(ValueError, match=message):
        load(saved)


def test_another_minor_version_brings_a_warning(saved, X):
    rewrite(saved, lambda document: document.update(sklrec_version="0.0.7"))
    message = rf"saved by sklrec 0\.0\.7 and is loaded by sklrec {sklrec.__version__}"
    with pytest.warns(UserWarning, match=message) as caught:
        loaded = load(saved)
    assert caught[0].filename == __file__
    assert_same(loaded, EASE(lambda_=2.0).fit(X), X)


def test_another_patch_version_brings_none(saved):
    version = ".".join([*sklrec.__version__.split(".")[:2], "77"])
    rewrite(saved, lambda document: document.update(sklrec_version=version))
    load(saved)


def test_a_parameter_that_is_not_in_the_file_has_its_default(saved):
    rewrite(saved, lambda document: document["params"].clear())
    assert load(saved).lambda_ == EASE().lambda_


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["params"].update(alpha=1), "EASE has no parameter 'alpha'"),
        (lambda d: d["params"].update(lambda_=-1), "The 'lambda_' parameter of EASE must be"),
        (lambda d: d["attributes"].update(lambda_=1), "'lambda_' is a parameter of EASE"),
        (lambda d: d["attributes"].update(n_features_in_=7), r"its array '_\w+' should be of "),
        (lambda d: d["attributes"].pop("n_features_in_"), r"its array '_\w+' should be of "),
        (lambda d: d["attributes"].update(x_={"pickle": "cos"}), "unknown kind, 'pickle'"),
        (lambda d: d["attributes"].update(x_={"type": "object"}), "unknown kind, 'type'"),
        (lambda d: d["attributes"].update(x_={}), "not enough values"),
        (lambda d: d["attributes"]["_coef"]["array"].update(name="b"), "does not contain tensor b"),
        (lambda d: d["attributes"]["_coef"].update(array=None), "NoneType"),
        (lambda d: d.pop("attributes"), "it lacks 'attributes'"),
        (lambda d: d.pop("class"), "it lacks 'class'"),
        (lambda d: d.update({"class": 3}), "int"),
        (lambda d: d.update(format_version="2"), "str"),
        (lambda d: d.update(attributes=[]), "list"),
    ],
)
def test_a_changed_text_is_an_error(saved, change, message):
    rewrite(saved, change)
    with pytest.raises(ValueError, match=rf"cannot be loaded: .*{message}"):
        load(saved)


@pytest.mark.parametrize(
    "array", [np.zeros((20, 19)), np.zeros((20, 20), dtype=np.float32), np.zeros(400), np.zeros(0)]
)
def test_a_changed_array_is_an_error(saved, array):
    rewrite(saved, tensors={"_coef": array})
    with pytest.raises(
        ValueError, match=r"its array '_coef' should be of float64 and shape \(20, 2"
    ):
        load(saved)


@pytest.mark.parametrize(
    ("change", "tensors"),
    [
        (lambda d: d["attributes"].update(n_features_in_=7), {}),
        (None, {"coef_.indices": 99}),
        (None, {"coef_.indices": -1}),
        (None, {"coef_.indptr": 5}),
    ],
)
def test_sparse_weights_that_do_not_fit_together_are_an_error(X, path, change, tensors):
    model = ItemKNN(2).fit(X)
    save(model, path)
    for name, number in tensors.items():
        part = getattr(model.coef_, name.removeprefix("coef_."))
        tensors = {name: np.full_like(part, number)}
    rewrite(path, change, tensors)
    with pytest.raises(ValueError, match="cannot be loaded"):
        load(path)


def test_a_factor_of_another_shape_is_an_error(ratings, path):
    save(LFM(2, tol=1e-3).fit(ratings), path)
    rewrite(path, tensors={"item_factors_": np.zeros((21, 2), dtype=np.float32)})
    with pytest.raises(
        ValueError, match=r"'item_factors_' should be of float32 and shape \(20, 2\)"
    ):
        load(path)


@pytest.mark.parametrize("name", ["n_components", "hidden_layer_sizes"])
def test_a_network_of_other_sizes_than_its_weights_is_an_error(ratings, path, name):
    pytest.importorskip("torch")
    from sklrec.neural import MultVAE

    save(MultVAE(4, hidden_layer_sizes=(8,), max_epochs=1).fit(ratings), path)
    wrong = {"n_components": 5, "hidden_layer_sizes": {"tuple": [9]}}[name]

    def enlarge(document):
        pairs = dict(document["attributes"]["_trained_with"]["dict"])
        document["attributes"]["_trained_with"]["dict"] = list({**pairs, name: wrong}.items())

    rewrite(path, enlarge)
    with pytest.raises(ValueError, match=r"cannot be loaded: .*size mismatch"):
        load(path)


def test_ids_that_are_no_text_are_an_error(path):
    save(InteractionEncoder().fit((["ann"], ["tea"])), path)
    rewrite(path, tensors={"item_ids_": np.array([255, 0], dtype=np.uint8)})
    with pytest.raises(ValueError, match="cannot be loaded"):
        load(path)


# What is not installed


def test_without_safetensors_the_error_names_the_extra(saved, X, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for action in (lambda: save(EASE().fit(X), saved), lambda: load(saved)):
        with pytest.raises(ImportError, match=r"pip install 'sklrec\[persistence\]'"):
            action()


def test_without_torch_loading_a_neural_model_names_the_extra(path):
    pytest.importorskip("torch")
    from sklrec.neural import MultVAE

    save(MultVAE(), path)
    code = (
        "import sys\n"
        "from sklrec.persistence import load\n"
        "sys.modules['torch'] = None\n"  # not before, as scipy would trip over it
        "try: load(sys.argv[1])\n"
        "except ImportError as error: print(error)"
    )
    command = [sys.executable, "-c", code, path]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "MultVAE needs torch" in out.stdout
    assert "sklrec[neural]" in out.stdout
