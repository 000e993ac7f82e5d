"""Training of neural recommenders: what is kept, what is refused, what stops it."""

import os
import pickle
import subprocess
import sys
import warnings
from copy import deepcopy

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

torch = pytest.importorskip("torch")

from sklearn.base import clone  # noqa: E402
from skorch.callbacks import (  # noqa: E402
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
)

from sklrec.datasets import make_interactions  # noqa: E402
from sklrec.metrics import RankingScorer, evaluate  # noqa: E402
from sklrec.neural import (  # noqa: E402
    CDAE,
    ELSA,
    FLVAE,
    VASP,
    HVampVAE,
    MultDAE,
    MultVAE,
    NeuMF,
    NeuralEASE,
    RecVAE,
    _base,
)
from sklrec.neural._mult_dae import MultDAEModule  # noqa: E402
from sklrec.neural._training import _validation  # noqa: E402

SMALL = {
    "n_components": 8,
    "hidden_layer_sizes": (16,),
    "max_epochs": 4,
    "batch_size": 32,
    "learning_rate": 1e-2,
    "random_state": 0,
}


# Every neural model, with noise of every kind.
MODELS = [
    MultVAE(4, hidden_layer_sizes=(8,)),
    MultDAE(4, hidden_layer_sizes=(8,)),
    RecVAE(4, hidden_size=8),
    HVampVAE(4, hidden_layer_sizes=(8,), n_pseudo_inputs=5),
    NeuralEASE(dropout=0.3),
    FLVAE(4, hidden_size=8),
    VASP(4, hidden_size=8, training="alternating"),
    ELSA(4),
    CDAE(4),
    NeuMF(n_components=4, hidden_layer_sizes=(8, 4)),
    NeuMF("gmf", n_components=4, user_vector="solve"),
]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)


def small(model, **params):
    return clone(model).set_params(max_epochs=3, batch_size=32, random_state=0, **params)


@pytest.fixture(scope="module")
def X():
    return make_interactions(150, 60, random_state=0).data


@pytest.fixture(scope="module")
def few():
    """Return users for every model, in three batches of which the last one is smaller."""
    return make_interactions(70, 20, random_state=0).data


class PressCtrlC(Callback):
    """A skorch callback that presses Ctrl-C in an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


def test_best_weights_of_validation_are_kept(X):
    model = MultVAE(**SMALL).set_params(max_epochs=30, learning_rate=0.1)
    fold_in, held_out = RankingScorer().hide(X[100:])
    model.fit(X[:100], X_val=X[100:], y_val=held_out)
    scores = model.validation_scores_
    assert len(scores) == model.n_iter_ == 30
    assert model.best_epoch_ == 1 + int(np.argmax(scores))
    assert evaluate(model, fold_in, held_out, "ndcg@100").mean["ndcg@100"] == max(scores)


def test_best_epoch_is_forgotten_when_its_weights_are_trained_on_without_validation(X):
    model = MultVAE(**SMALL, warm_start=True).fit(X, X_val=X[:50])
    assert hasattr(model.fit(X), "best_epoch_")  # no epoch is left to train
    assert not hasattr(model.partial_fit(X), "best_epoch_")
    assert model.set_params(max_epochs=7).fit(X, X_val=X[:50]).best_epoch_ >= 5
    assert not hasattr(model.set_params(max_epochs=8).fit(X), "best_epoch_")


def test_early_stopping_ends_training_when_nothing_is_gained(X):
    model = MultDAE(**SMALL, early_stopping=True, n_iter_no_change=2, validation_fraction=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is no interruption
        model.set_params(max_epochs=500, learning_rate=0.1).fit(X)
    assert model.n_iter_ < 500
    assert model.n_iter_ == model.best_epoch_ + 2


def test_interruption_leaves_a_usable_model_and_a_warning(X):
    model = MultVAE(**SMALL, callbacks=[PressCtrlC(epoch=3)])
    with pytest.warns(UserWarning, match="interrupted after 2 of 4 epochs"):
        model.fit(X)
    assert model.n_iter_ == len(model.loss_curve_) == 2
    assert model.predict_ranking(X[:3]).shape == (3, 10)


def test_interruption_of_a_validation_is_an_interruption(X, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("sklrec.neural._training._validation.evaluate", interrupted)
    with pytest.warns(UserWarning, match="interrupted after 1 of 4 epochs"):
        MultVAE(**SMALL).fit(X, X_val=X[:50])


@pytest.mark.parametrize(
    "where",
    [
        "sklrec.neural._training._net.TorchNet.get_iterator",
        "skorch.callbacks.PassthroughScoring.on_epoch_end",
        "sklrec.neural._training._validation.ValidationCallback._should_stop",
    ],
)
def test_interruption_between_the_epochs_is_one(where, X, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    with pytest.warns(UserWarning, match="interrupted after . of 4 epochs"):
        MultVAE(**SMALL).fit(X)


def test_interruption_of_the_search_for_the_peak_leaves_the_model_it_has(X):
    model = MultVAE(**SMALL, beta="peak", callbacks=[PressCtrlC(epoch=3)])
    with pytest.warns(UserWarning, match="interrupted after 2 of 4 epochs"):
        model.fit(X, X_val=X[:50])
    assert model.n_iter_ == 2
    assert model.beta == "peak"
    assert model.predict_ranking(X[:3]).shape == (3, 10)


def test_callbacks_of_skorch_find_optimizer_and_validation_score(X):
    halve = LRScheduler(policy=torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    stop = EarlyStopping(monitor="validation_score", lower_is_better=False, patience=1)
    model = MultDAE(**SMALL, callbacks=[halve, stop])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a callback that stops is no interruption
        model.set_params(max_epochs=50).fit(X, X_val=X[:50])
    assert model.n_iter_ < 50
    assert model.net_.optimizer_.param_groups[0]["lr"] == 1e-2 * 0.5**model.n_iter_


def test_device_changed_between_fits_moves_the_network_and_the_optimizer_goes_on(X):
    model = MultDAE(**SMALL, warm_start=True, device="cpu").fit(X)
    moved = pickle.loads(pickle.dumps(model)).set_params(device=torch.device("cpu:0"))
    assert moved.partial_fit(X).net_.device == "cpu:0"
    assert_array_equal(moved.decision_function(X), model.partial_fit(X).decision_function(X))


@every_model
def test_training_in_parts_is_training_at_once(model, few):
    whole = small(model).fit(few)
    parts = small(model, warm_start=True).set_params(max_epochs=1).fit(few)
    parts = pickle.loads(pickle.dumps(parts)).set_params(max_epochs=3).fit(few)
    assert_array_equal(parts.decision_function(few), whole.decision_function(few))


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", 0.05), ("batch_size", 10), ("random_state", 7), ("callbacks", "halve")],
)
def test_what_changes_between_two_trainings_takes_effect(name, value, X):
    if value == "halve":
        policy = torch.optim.lr_scheduler.ExponentialLR
        value = [LRScheduler(policy, gamma=0.5, step_every="batch")]
    model = MultDAE(**SMALL, warm_start=True).fit(X)
    changed = pickle.loads(pickle.dumps(model)).set_params(**{name: value}).partial_fit(X)
    assert (
        np.abs(changed.decision_function(X) - model.partial_fit(X).decision_function(X)).max() > 0
    )


def test_changed_learning_rate_is_that_of_the_optimizer_and_an_unchanged_one_stays(X):
    halve = LRScheduler(policy=torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    model = MultDAE(**SMALL, warm_start=True, callbacks=[halve]).fit(X)
    model.set_params(callbacks=None).partial_fit(X)
    assert model.net_.optimizer_.param_groups[0]["lr"] == 1e-2 * 0.5**4
    model.set_params(learning_rate=0.3).partial_fit(X)
    assert {group["lr"] for group in model.net_.optimizer_.param_groups} == {0.3}


def test_verbose_and_mixed_precision_and_compile_reach_the_net(X, capsys):
    model = MultDAE(**SMALL).fit(X)
    assert not capsys.readouterr().out
    model.set_params(verbose=1, mixed_precision=True).partial_fit(X)
    assert "train_loss" in capsys.readouterr().out
    assert model.net_.mixed_precision


def test_a_resumed_fit_keeps_no_worse_model_on_the_same_users(X):
    model = MultVAE(**SMALL, warm_start=True).set_params(max_epochs=10, learning_rate=0.02)
    model.fit(X[:100], X_val=X[100:])
    best = max(model.validation_scores_)
    first_epoch, scores = model.best_epoch_, model.decision_function(X)
    model.set_params(max_epochs=12, learning_rate=5.0).fit(X[:100], X_val=X[100:])  # makes it worse
    assert max(model.validation_scores_[10:]) < best
    assert model.best_epoch_ == first_epoch
    assert_array_equal(model.decision_function(X), scores)


@pytest.mark.parametrize("kind", [bool, np.int64, np.uint8, np.float16, "dense", "frame"])
def test_validation_users_of_any_type_are_those_of_float32(kind, X):
    if kind == "frame":
        pd = pytest.importorskip("pandas")
        other = pd.DataFrame(X[:50].toarray().astype(bool))
    elif kind == "dense":
        other = X[:50].toarray().astype(int).tolist()
    elif kind is np.float16:
        other = X[:50].toarray().astype(kind)
    else:
        other = X[:50].astype(kind)
    expected = MultVAE(**SMALL).fit(X, X_val=X[:50].astype(np.float32))
    model = MultVAE(**SMALL).fit(X, X_val=other)
    assert model.validation_scores_ == expected.validation_scores_
    assert model.best_epoch_ == expected.best_epoch_


def test_validation_users_that_are_no_interactions_are_refused_by_name(X):
    for bad in (np.nan, np.inf, -1.0):
        X_val = X[:50].toarray()
        X_val[3, 2] = bad
        with pytest.raises(ValueError, match="X_val"):
            MultVAE(**SMALL).fit(X, X_val=X_val)


@every_model
def test_fits_in_threads_are_what_they_are_alone(model, few):
    def scores(seed):
        return small(model).set_params(random_state=seed).fit(few).decision_function(few)

    alone = [scores(seed) for seed in range(3)]
    before = torch.random.get_rng_state()
    with joblib.parallel_config("threading"):
        together = joblib.Parallel(3)(joblib.delayed(scores)(seed) for seed in range(3))
    assert_array_equal(together, alone)
    assert torch.equal(torch.random.get_rng_state(), before)


@every_model
def test_computation_is_in_float32_whatever_the_default(model, few):
    expected = small(model).fit(few).decision_function(few)
    torch.set_default_dtype(torch.float64)
    try:
        found = small(model).fit(few)
        assert_array_equal(found.decision_function(few), expected)
        assert_array_equal(pickle.loads(pickle.dumps(found)).decision_function(few), expected)
    finally:
        torch.set_default_dtype(torch.float32)
    weights = found.net_.module_.state_dict().values()
    assert {weight.dtype for weight in weights} == {torch.float32}


@every_model
@pytest.mark.parametrize(
    "callback",
    [
        LRScheduler(),
        LRScheduler(torch.optim.lr_scheduler.ReduceLROnPlateau),
        EarlyStopping("train_loss"),
        GradientNormClipping(1.0),
    ],
    ids=lambda c: type(c).__name__,
)
def test_callbacks_of_skorch_work_with_every_model(model, callback, few):
    model = small(model, callbacks=[("mine", callback)]).fit(few)
    assert model.n_iter_ == 3


@pytest.mark.parametrize(
    ("callback", "advice"),
    [
        (EarlyStopping(), "'valid_loss', which is not computed; use monitor='validation_score'"),
        (Checkpoint(), "'valid_loss_best', which is not computed"),
        (
            EpochScoring("accuracy", on_train=True),
            "labels, which recommenders do not have; with X_val",
        ),
        (BatchScoring("accuracy"), "labels, which recommenders do not have; with X_val"),
    ],
)
def test_callbacks_that_watch_what_is_not_computed_say_what_to_watch(callback, advice, X):
    with pytest.raises(ValueError, match=f"{type(callback).__name__} .*{advice}"):
        MultDAE(**SMALL, callbacks=[callback]).fit(X)


def test_a_share_of_validation_users_is_of_those_with_something_to_hide(X):
    single = sp.csr_array(sp.vstack([X, sp.csr_array(np.eye(1, 60))[[0] * 900]]))
    model = MultDAE(**SMALL, early_stopping=True, validation_fraction=0.2)
    model.set_params(max_epochs=1, batch_size=2000).fit(single)
    n_eligible = np.count_nonzero(np.diff(X.indptr) >= 2)
    n_trained_on = model.net_.history[0]["batches"][0]["train_batch_size"]
    assert n_trained_on == 1050 - np.ceil(0.2 * n_eligible)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_ranks_and_trains():
    code = """if True:
        import os, signal
        import numpy as np, torch
        from sklrec.datasets import make_interactions
        from sklrec.neural import MultVAE

        torch.set_num_threads(2)
        X = make_interactions(300, 3000, random_state=0).data
        model = MultVAE(200, max_epochs=1, random_state=0).fit(X)
        ranking = model.predict_ranking(X)
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # ends a child that hangs
            same = (model.predict_ranking(X) == ranking).mean()
            model.partial_fit(X[:50])
            os._exit(0 if same > 0.99 else 1)
        raise SystemExit(os.waitpid(child, 0)[1])
    """
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=env, timeout=120)
    assert done.returncode == 0


def test_loss_that_becomes_nan_is_an_error_that_names_the_epoch_and_the_rate(X):
    with pytest.raises(ValueError, match=r"became nan in epoch 1.*learning_rate than 1e\+30"):
        MultVAE(**SMALL).set_params(learning_rate=1e30).fit(X)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none_is_an_error_and_auto_is_not(X):
    with pytest.raises(ValueError, match="device='cuda' asks for a CUDA device"):
        MultVAE(**SMALL, device="cuda").fit(X)
    assert MultVAE(**SMALL, device="auto").fit(X).net_.device == "cpu"


def test_unknown_device_is_an_error(X):
    for device in ("abacus", "mps", torch.device("meta")):
        with pytest.raises(ValueError, match="device must be 'auto'"):
            MultVAE(**SMALL, device=device).fit(X)


def test_gpu_out_of_memory_says_what_to_change(X, monkeypatch):
    def exhausted(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(MultDAEModule, "forward", exhausted)
    with pytest.raises(MemoryError, match="use a smaller batch_size"):
        MultDAE(**SMALL).fit(X)


def test_network_beyond_the_memory_is_refused_before_it_is_made(X, monkeypatch):
    monkeypatch.setattr("sklrec._memory.available_memory", lambda: 1000)
    with pytest.raises(MemoryError, match=r"MultVAE with [\d,]+ weights on batches of 32 needs"):
        MultVAE(**SMALL).fit(X)


def test_one_user_is_fitted_and_early_stopping_says_it_needs_more(X):
    user = X[[int(np.argmax(np.diff(X.indptr)))]]
    assert MultVAE(**SMALL).fit(user).predict_ranking(user, k=2).shape == (1, 2)
    with pytest.raises(ValueError, match="which leaves none to train on: X has n_samples=1"):
        MultVAE(**SMALL, early_stopping=True).fit(user)


@pytest.mark.parametrize(
    "X", [np.ones((1, 1)), np.ones((4, 1)), np.zeros((4, 3))], ids=["1x1", "one item", "nothing"]
)
@pytest.mark.parametrize(
    "model",
    [
        MultVAE(4, hidden_layer_sizes=()),
        RecVAE(4, hidden_size=8),
        HVampVAE(4, hidden_layer_sizes=(8,), n_pseudo_inputs=1),
        NeuralEASE("cosine"),
        NeuralEASE("mse"),
        NeuralEASE("focal"),
        FLVAE(4, hidden_size=8),
        VASP(4, hidden_size=8, item_share=1e-6),
        VASP(4, hidden_size=8, training="pretrained"),
        ELSA(4),
    ],
    ids=repr,
)
def test_one_item_and_no_interactions_are_fitted_and_scored(model, X):
    model = clone(model).set_params(max_epochs=2, random_state=0).fit(X)
    assert np.isfinite(model.loss_curve_).all()
    assert np.isfinite(model.decision_function(X)).all()


def test_batch_larger_than_the_data_is_one_batch(X):
    model = MultVAE(**SMALL).set_params(batch_size=10_000).fit(X)
    assert model.net_.history[-1, "train_batch_count"] == 1


def test_users_without_items_are_fitted_and_scored(X):
    with_empty = sp.csr_array(sp.vstack([X, sp.csr_array((3, 60))]))
    scores = MultDAE(**SMALL).fit(with_empty).decision_function(with_empty[-3:])
    assert np.isfinite(scores).all()
    assert_array_equal(scores[0], scores[1])


def test_validation_users_with_other_items_are_refused(X):
    with pytest.raises(ValueError, match="X_val has 59 items, but X has 60"):
        MultVAE(**SMALL).fit(X, X_val=X[:50, :59])
    with pytest.raises(ValueError, match="X_val, which is missing"):
        MultVAE(**SMALL).fit(X, y_val=X)
    with pytest.raises(TypeError, match=r"X_val must be one matrix.*got a tuple; y_val marks"):
        MultVAE(**SMALL).fit(X, X_val=(X[:50], X[:50]))


def test_validation_users_of_whom_everything_is_hidden_are_refused(X):
    with pytest.raises(ValueError, match="All interactions of X_val are hidden"):
        MultVAE(**SMALL).fit(X, X_val=X[:50], y_val=X[:50])


def test_best_weights_are_in_memory_once(X, monkeypatch):
    copied = []

    def copy(weights):
        (callback,) = (one for name, one in net_of.callbacks_ if name == "validation")
        copied.append(callback.best_weights)
        return deepcopy(weights)

    class Net(Callback):
        def on_train_begin(self, net, **kwargs):
            nonlocal net_of
            net_of = net

    net_of = None
    monkeypatch.setattr(_validation, "deepcopy", copy)
    MultVAE(**SMALL, callbacks=[Net()]).set_params(max_epochs=10).fit(X, X_val=X[:50])
    assert len(copied) > 1
    assert set(copied) == {None}


def test_memory_of_a_batch_of_more_rows_than_users_is_that_of_all_users(X, monkeypatch):
    asked = []
    monkeypatch.setattr(_base, "check_memory", lambda n_bytes, what: asked.append(n_bytes))
    for batch_size in (X.shape[0], 10**9):
        MultVAE(**{**SMALL, "batch_size": batch_size}).fit(X)
    assert asked[0] == asked[1]


def test_one_seed_gives_identical_scores_and_leaves_the_global_generators(X):
    torch_before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = (MultVAE(**SMALL).fit(X).decision_function(X) for _ in range(2))
    assert_array_equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), torch_before)
    assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_warm_start_goes_on_and_a_new_fit_begins_anew(X):
    warm = MultDAE(**SMALL, warm_start=True).fit(X)
    first = warm.loss_curve_[0]
    warm.set_params(max_epochs=8).fit(X)
    assert warm.n_iter_ == 8
    assert warm.loss_curve_[4] < first
    assert MultDAE(**SMALL).fit(X).fit(X).n_iter_ == 4


def test_warm_start_without_more_epochs_changes_nothing(X):
    model = MultDAE(**SMALL, warm_start=True).fit(X)
    scores = model.decision_function(X)
    assert_array_equal(model.fit(X).decision_function(X), scores)


def test_warm_start_refuses_another_network(X):
    model = MultDAE(**SMALL, warm_start=True).fit(X).set_params(n_components=7, max_epochs=9)
    with pytest.raises(ValueError, match=r"n_components=.*but n_components is 7 now"):
        model.fit(X)
    assert model.set_params(warm_start=False).fit(X).transform(X[:1]).shape == (1, 7)


def test_partial_fit_refuses_another_network(X):
    model = MultVAE(**SMALL).fit(X).set_params(beta=0.7)
    with pytest.raises(ValueError, match=r"with beta=0\.2, but beta is 0\.7 now"):
        model.partial_fit(X)


def test_warm_start_refuses_other_items(X):
    with pytest.raises(ValueError, match="59 features, but MultDAE is expecting 60"):
        MultDAE(**SMALL, warm_start=True).fit(X).fit(X[:, :59])


def test_epochs_of_partial_fit_train_as_those_of_fit_do(X):
    model = MultDAE(**SMALL)
    for _ in range(4):
        model.partial_fit(X)
    assert model.n_iter_ == 4
    assert model.loss_curve_[-1] < model.loss_curve_[0]


def test_pickle_is_hardly_larger_than_the_weights(X):
    model = MultVAE(n_components=64, hidden_layer_sizes=(256,), max_epochs=1).fit(X)
    n_bytes = sum(weight.nbytes for weight in model.net_.module_.state_dict().values())
    assert len(pickle.dumps(model)) <= 1.1 * n_bytes


@every_model
@pytest.mark.parametrize("warm_start", [True, False])
def test_a_pickle_between_two_trainings_changes_nothing(model, warm_start, few):
    model = small(model, warm_start=warm_start).fit(few)
    copy = pickle.loads(pickle.dumps(model))
    for either in (model, copy):
        either.partial_fit(few)
    assert_array_equal(copy.decision_function(few), model.decision_function(few))
    copy = pickle.loads(pickle.dumps(copy))
    rate = model.learning_rate / 2
    for either in (model, copy):
        either.set_params(learning_rate=rate).partial_fit(few)
    assert_array_equal(copy.decision_function(few), model.decision_function(few))


def test_only_what_will_be_trained_on_keeps_the_state_of_the_optimizer(X):
    model = MultVAE(64, hidden_layer_sizes=(256,), max_epochs=1).fit(X)
    n_bytes = len(pickle.dumps(model))
    assert not model.net_.optimizer_.state
    assert len(pickle.dumps(model.set_params(warm_start=True).fit(X))) < 1.1 * n_bytes  # no epoch
    assert len(pickle.dumps(model.partial_fit(X))) > 2.5 * n_bytes


def test_model_stopped_early_is_trained_on_after_a_pickle(X):
    model = MultVAE(**SMALL, early_stopping=True, validation_fraction=0.2, warm_start=True).fit(X)
    copy = pickle.loads(pickle.dumps(model))
    assert copy.partial_fit(X).best_beta_ == model.best_beta_
    assert copy.set_params(max_epochs=9).fit(X).n_iter_ == 9
    assert copy.best_epoch_ >= 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_model_trained_on_cuda_loads_where_there_is_none(X):
    model = MultVAE(**SMALL).fit(X)
    state = {**model.__getstate__(), "device": "cuda"}
    copy = MultVAE.__new__(MultVAE)
    copy.__setstate__(state)
    assert_array_equal(copy.decision_function(X), model.decision_function(X))
    assert copy.device == "cuda"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what the compiler does warns
def test_compiled_network_learns_and_is_pickled(X):
    model = MultDAE(**SMALL, compile=True).fit(X)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    copy = pickle.loads(pickle.dumps(model))
    assert_array_equal(copy.decision_function(X), model.decision_function(X))


def test_network_is_on_the_callbacks_list_once_and_holds_no_users_afterwards(X):
    model = MultVAE(**SMALL, early_stopping=True, validation_fraction=0.2).fit(X)
    assert "validation" not in [name for name, _ in model.net_.callbacks_]


def test_without_torch_the_error_names_the_extra():
    code = """if True:
        import sys
        class NoTorch:
            def find_spec(self, name, path=None, target=None):
                if name == "torch":
                    raise ModuleNotFoundError("No module named 'torch'", name=name)
        sys.meta_path.insert(0, NoTorch())
        import sklrec.neural
        from sklrec.utils import all_estimators
        try:
            sklrec.neural.MultVAE
        except ImportError as error:
            print(error)
        print("EASE" in dict(all_estimators()))
    """
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = "MultVAE needs torch, which is not installed: pip install 'sklrec[neural]'"
    assert out.stdout.splitlines() == [expected, "True"]


def test_parameters_set_after_the_fit_change_neither_scores_nor_pickles(X):
    model = MultVAE(**SMALL).fit(X)
    scores, embeddings = model.decision_function(X), model.transform(X)
    model.set_params(n_components=3, hidden_layer_sizes=())
    copy = pickle.loads(pickle.dumps(model))
    for either in (model, copy):
        assert either.n_components == 3
        assert_array_equal(either.decision_function(X), scores)
        assert_array_equal(either.transform(X), embeddings)
    as_before = {"n_components": embeddings.shape[1], "hidden_layer_sizes": (16,)}
    assert copy.set_params(**as_before).partial_fit(X).transform(X).shape == embeddings.shape
