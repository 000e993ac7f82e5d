"""Files in ONNX give the scores of the models, computed by another program."""

import subprocess
import sys
from io import BytesIO, StringIO

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

import sklrec
from sklrec.dummy import PopularityRecommender, RandomRecommender
from sklrec.ensemble import HadamardEnsemble
from sklrec.export import to_onnx
from sklrec.export._to_onnx import _BUILDERS
from sklrec.factorization import BPR, LFM, WMF
from sklrec.hybrid import DAVE
from sklrec.linear import EASE
from sklrec.neighbors import ItemKNN, UserKNN
from sklrec.pipeline import make_pipeline
from sklrec.utils import all_estimators

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

# Of these settings, each model gets those that it has.
SMALL = {
    "n_components": 4,
    "hidden_layer_sizes": (8,),
    "hidden_size": 8,
    "item_hidden_layer_sizes": (5,),
    "n_pretraining_epochs": 1,
    "n_feature_epochs": 1,
    "max_epochs": 1,
    "batch_size": 20,
    "random_state": 0,
}

# Each path of a graph; models without parameters here have one path.
PATHS = {
    "CDAE": [
        {"user_vector": None, "activation": "sigmoid", "normalize": False},
        {"user_vector": "solve"},
        {"user_vector": "solve", "activation": "sigmoid", "loss": "logistic"},
        {"user_vector": "solve", "activation": "identity", "n_negatives": None},
    ],
    "CondVAE": [{"hidden_layer_sizes": ()}],
    "ContentELSA": [{"free_part": False}],
    "DICER": [{"item_dropout": 0.0}],
    "FLVAE": [{"n_decoder_layers": 2}],
    "HVampVAE": [{"prior": "vamp", "gated": False}, {"hidden_layer_sizes": ()}],
    "ItemKNN": [{"n_neighbors": 1}],  # sparse in the file
    "LFM": [{"n_components": 2, "lambda_": 1.0}, {"n_components": 0}, {"threshold": 2.5}],
    "MDCVAE": [{"symmetric": True, "hidden_layer_sizes": s} for s in ((), (5,), (6, 5))],
    "MultDAE": [{"hidden_layer_sizes": ()}],
    "MultVAE": [{"hidden_layer_sizes": ()}, {"hidden_layer_sizes": (8, 6)}],
    "NeuMF": [{"model": "gmf"}, {"model": "mlp", "hidden_layer_sizes": (8, 6)}],
    "RecVAE": [{"n_encoder_layers": 1}],
    "VASP": [{"item_share": 0.5}],
    "WMF": [
        {"frequency_exponent": 0.5, "zeros": "unobserved"},
        {"binary": True, "zeros": "unobserved"},
    ],
}
REFUSED = (BPR, DAVE, UserKNN, RandomRecommender)


def models():
    for name, estimator in all_estimators("recommender"):
        known = estimator().get_params()
        small = {key: value for key, value in SMALL.items() if key in known}
        if name in _BUILDERS:
            for path in [{}, *PATHS.get(name, [])]:
                yield estimator(**{**small, **path})
    yield HadamardEnsemble(
        [("ease", EASE(5.0)), ("popular", PopularityRecommender()), ("lfm", LFM(2, lambda_=1.0))],
        random_state=0,
    )


@pytest.fixture
def ratings(X):
    """Return ratings in which nobody has item 7 and user 3 has nothing."""
    rows = X.toarray()
    rows[:, 7] = 0
    rows[3] = 0
    X = sp.csr_array(rows.astype(np.float32))
    X.data[:] = np.random.default_rng(1).integers(1, 6, X.nnz)
    return X


@pytest.fixture
def rows(ratings):
    """Return rows of users, one without items, and two with an item that is not known."""
    dense = ratings[:12].toarray()
    dense[4] = 0
    dense[5] = np.arange(20) == 7
    dense[6, 7] = 2
    return dense


def session_of(model):
    file = BytesIO()
    to_onnx(model, file)
    return onnxruntime.InferenceSession(file.getvalue())


def scores_by(session, rows):
    return session.run(["scores"], {"interactions": rows.astype(np.float32)})[0]


def assert_same_scores(got, wanted):
    """Compare with the largest score of each row."""
    assert got.dtype == np.float32
    size = np.abs(wanted).max(axis=1, keepdims=True)
    assert_allclose(got / size, wanted / size, rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", list(models()), ids=repr)
def test_scores_are_those_of_the_model(model, ratings, rows):
    features = np.random.default_rng(0).integers(0, 2, (20, 6)).astype(np.float32)
    reads = "item_features" in type(model).fit.__code__.co_varnames
    model.fit(ratings, **({"item_features": sp.csr_array(features)} if reads else {}))
    session = session_of(model)
    wanted = model.decision_function(rows)
    assert np.ptp(wanted[0]) > 0
    assert_same_scores(scores_by(session, rows), wanted)
    for one in (0, 4, 5):  # some items, none, and none that is known
        assert_same_scores(scores_by(session, rows[[one]]), wanted[[one]])


def test_new_items_and_models_without_features(ratings, rows):
    from sklrec.hybrid import CTR, CollectiveEASE

    features = np.random.default_rng(0).integers(0, 2, (20, 6)).astype(np.float32)
    wide = np.hstack([rows, np.eye(len(rows), 6, dtype=np.float32)])
    for model in (CTR(3, random_state=0), CollectiveEASE()):
        plain = model.fit(ratings)
        assert_same_scores(scores_by(session_of(plain), rows), plain.decision_function(rows))
        model = model.fit(ratings, item_features=features).with_items(features[:6])
        assert_same_scores(scores_by(session_of(model), wide), model.decision_function(wide))


@pytest.mark.parametrize("recommender", [LFM(2, lambda_=1.0), WMF(3, random_state=0)], ids=repr)
def test_factors_of_content_have_those_of_users_of_the_recommender(recommender, ratings, rows):
    from sklrec.hybrid import FactorsFromContent

    features = np.random.default_rng(0).normal(size=(20, 3))
    model = FactorsFromContent(recommender).fit(ratings, item_features=features)
    assert_same_scores(scores_by(session_of(model), rows), model.decision_function(rows))


def test_factors_of_an_ill_conditioned_problem_are_exact():
    """Users with fewer items than factors and hardly a penalty; factors of very different sizes."""
    rng = np.random.default_rng(0)
    X = sp.random_array((80, 300), density=0.1, format="csr", rng=rng)
    model = WMF(30, lambda_=1e-7, unobserved_weight=1e-6, random_state=0, max_iter=2).fit(X)
    model.item_factors_ *= np.geomspace(1e-3, 1e2, 30)
    model._gram = 1e-6 * (model.item_factors_**2).sum(axis=0)
    rows = (rng.random((5, 300)) < [[0.01], [0.05], [0.1], [0.3], [0.9]]).astype(np.float32)
    V = model.item_factors_
    for row, got in zip(rows, scores_by(session_of(model), rows), strict=True):
        own = V[row > 0]
        penalty = 1e-7 * (len(own) + 1e-6 * 300)
        A = own.T @ own + np.diag(model._gram) + penalty * np.eye(30)
        wanted = V @ np.linalg.solve(A, own.sum(axis=0))
        assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_frozen_members_and_dropped_ones(ratings, rows):
    members = [
        ("ease", FrozenEstimator(EASE(5.0).fit(ratings))),
        ("knn", "drop"),
        ("wmf", FrozenEstimator(WMF(3, random_state=0).fit(ratings))),
    ]
    model = HadamardEnsemble(members, random_state=0).fit(ratings)
    assert_same_scores(scores_by(session_of(model), rows), model.decision_function(rows))


def test_names_shapes_and_metadata(ratings):
    session = session_of(EASE().fit(ratings))
    (given,), (found,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, given.type) == (
        "interactions",
        ["n_users", 20],
        "tensor(float)",
    )
    assert (found.name, found.shape, found.type) == ("scores", ["n_users", 20], "tensor(float)")
    assert session.get_modelmeta().custom_metadata_map == {
        "model": "EASE",
        "sklrec_version": sklrec.__version__,
        "n_items": "20",
    }


def test_onnx_takes_the_file_for_valid(ratings):
    import onnx

    file = BytesIO()
    to_onnx(WMF(3, random_state=0).fit(ratings), file)
    onnx.checker.check_model(onnx.load_from_string(file.getvalue()), full_check=True)


def test_sparse_weights_stay_sparse():
    n_items = 600
    coef = sp.eye_array(n_items, k=1, format="csr", dtype=np.float32) * np.float32(2)
    model = with_weights(ItemKNN(), coef)
    file = BytesIO()
    to_onnx(model, file)
    assert len(file.getvalue()) < 8 * n_items + 2**14
    rows = np.random.default_rng(0).integers(0, 2, (3, n_items)).astype(np.float32)
    got = scores_by(onnxruntime.InferenceSession(file.getvalue()), rows)
    assert_array_equal(got[:, 1:], 2 * rows[:, :-1])


def test_equal_scores_are_replaced_by_popularity():
    coef = sp.csr_array(([np.float32(1)], ([0], [1])), shape=(4, 4))
    model = with_weights(ItemKNN(), coef)
    model._popularity = np.arange(4.0)
    rows = np.eye(4, dtype=np.float32)[:2]
    got = scores_by(session_of(model), rows)
    assert_array_equal(got, [[0, 1, 0, 0], [0, 1, 2, 3]])
    assert_array_equal(got, model.decision_function(rows))


def with_weights(model, coef):
    """Return a model of one item, with other weights put in."""
    model.fit(np.ones((1, 1), dtype=np.float32))
    model.coef_, model.n_features_in_ = coef, coef.shape[0]
    model._popularity = np.ones(coef.shape[0])
    model._has_neighbors = np.ones(coef.shape[0], dtype=bool)
    return model


def test_weights_that_are_too_many_are_an_error_before_they_are_made():
    """One item has all others as neighbours: neither dense nor a table with rows of its length."""
    n_items = 60_000
    column = np.full(n_items, 3)
    coef = sp.csr_array((np.ones(n_items), (np.arange(n_items), column)), shape=(n_items, n_items))
    model = with_weights(ItemKNN(), coef)
    message = r"ItemKNN of 60,000 items needs at least 13\.4 GiB in ONNX, whose files have at most"
    with pytest.raises(ValueError, match=message):
        to_onnx(model, BytesIO())


def test_factors_that_are_too_many_are_an_error(ratings, monkeypatch):
    monkeypatch.setattr("sklrec.export._graph.LIMIT", 300)
    with pytest.raises(ValueError, match=r"WMF of 20 items needs at least 0\.0 GiB in ONNX"):
        to_onnx(WMF(4, random_state=0).fit(ratings), BytesIO())


@pytest.mark.parametrize("name", ["ELSA", "CDAE"])
def test_weights_that_are_used_twice_are_stored_once(name):
    pytest.importorskip("torch")
    neural = sklrec.neural
    X = sp.random_array((30, 2000), density=0.02, format="csr", rng=np.random.default_rng(0))
    settings = {"max_epochs": 1, "random_state": 0}
    model = {
        "ELSA": neural.ELSA(20, **settings),
        "CDAE": neural.CDAE(20, user_vector="solve", **settings),
    }[name].fit(X)
    n_weights = sum(weight.numel() for weight in model.net_.plain_module.parameters())
    file = BytesIO()
    to_onnx(model, file)
    n_beside = 3 * 2000  # popularity, and to find the items of a batch
    assert len(file.getvalue()) < 4 * (n_weights + n_beside) + 2**13


# What is refused


@pytest.mark.parametrize("estimator", REFUSED)
def test_other_models_are_refused_by_an_error_that_names_those_that_can_be(estimator, ratings):
    message = rf"{estimator.__name__} cannot be exported to ONNX; .* are AddEASE, CDAE, .*, WMF\."
    with pytest.raises(TypeError, match=message):
        to_onnx(estimator().fit(ratings), BytesIO())


def test_a_subclass_is_refused_as_it_may_score_otherwise(ratings):
    model = type("EASE", (EASE,), {})().fit(ratings)
    with pytest.raises(TypeError, match="EASE cannot be exported to ONNX"):
        to_onnx(model, BytesIO())


def test_a_pipeline_is_refused_with_advice(ratings):
    with pytest.raises(
        TypeError, match=r"Pipeline cannot be .*; export the last step of a pipeline"
    ):
        to_onnx(make_pipeline(EASE()).fit(ratings), BytesIO())


def test_an_ensemble_with_another_model_is_refused(ratings):
    members = [("ease", FrozenEstimator(EASE().fit(ratings))), ("bpr", BPR(2, max_epochs=1))]
    model = HadamardEnsemble(members, random_state=0).fit(ratings)
    with pytest.raises(TypeError, match="BPR cannot be exported"):
        to_onnx(model, BytesIO())


def test_settings_without_a_graph_are_refused(ratings):
    pytest.importorskip("torch")
    from sklrec.hybrid import CVAE, FactorsFromContent
    from sklrec.neural import NeuMF

    small = {"hidden_layer_sizes": (4,), "max_epochs": 1}
    for model, message in [
        (NeuMF(user_vector="solve", n_components=2, **small), "user_vector='items' alone, got 'so"),
        (CVAE(2, inference="bayes", **small), "inference='map' alone, got 'bayes'"),
        (FactorsFromContent(BPR(2, max_epochs=1)), "with a WMF or an LFM as recommender, got BPR"),
    ]:
        with pytest.raises(TypeError, match=f"{type(model).__name__} can be exported .*{message}"):
            to_onnx(model.fit(ratings), BytesIO())


def test_a_model_that_is_not_fitted_is_an_error(tmp_path):
    with pytest.raises(NotFittedError):
        to_onnx(EASE(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


# Files


def test_a_path_is_replaced_as_a_whole(ratings, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    model = EASE().fit(ratings)
    to_onnx(model, str(path))
    before = path.read_bytes()
    file = BytesIO()
    to_onnx(model, file)
    assert file.getvalue() == before
    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        to_onnx(EASE(7.0).fit(ratings), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def full_disk(path, data):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("file", [StringIO(), None, 3], ids=["text", "None", "number"])
def test_what_is_no_binary_file_is_an_error(file, ratings):
    with pytest.raises(
        TypeError, match="A file must be a path, or a file object that is open in b"
    ):
        to_onnx(EASE().fit(ratings), file)


def test_a_missing_folder_is_an_error(ratings, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        to_onnx(EASE().fit(ratings), tmp_path / "absent" / "model.onnx")


# What is not installed


def test_without_onnx_the_error_names_the_extra(ratings, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'sklrec\[onnx\]'"):
        to_onnx(EASE().fit(ratings), BytesIO())


def test_a_linear_model_is_exported_without_torch():
    code = (
        "import io, sys; from sklrec.export import to_onnx; from sklrec.linear import EASE; "
        "to_onnx(EASE().fit([[1, 0], [1, 1]]), io.BytesIO()); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
