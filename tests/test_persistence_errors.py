"""What cannot be saved, and files that cannot be loaded, are errors that say why."""

import pickle
import subprocess
import sys
from datetime import datetime
from io import BytesIO, StringIO
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import Binarizer, FunctionTransformer

import sklrec
from sklrec.dummy import PopularityRecommender, RandomRecommender
from sklrec.ensemble import HadamardEnsemble
from sklrec.factorization import LFM
from sklrec.hybrid import FactorsFromContent
from sklrec.linear import EASE
from sklrec.neighbors import ItemKNN
from sklrec.persistence import load, save
from sklrec.pipeline import make_pipeline
from sklrec.preprocessing import InteractionEncoder

safetensors = pytest.importorskip("safetensors")
from safetensors.numpy import load_file, save_file  # noqa: E402
from saved_files import assert_same, rewrite  # noqa: E402


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


# Pipelines


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
