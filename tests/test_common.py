"""scikit-learn's checks and ours, on every estimator in every regime."""

import subprocess
import sys

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks as sklearn_checks

from sklrec.utils import all_estimators
from sklrec.utils.estimator_checks import parametrize_with_checks

# Settings with which a model is small enough for so many fits; the defaults of any other are.
SMALL = {
    name: {
        "n_components": 8,
        "hidden_layer_sizes": (16,),
        "max_epochs": 15,
        "batch_size": 64,
        "learning_rate": 2e-2,
    }
    for name in ("MultDAE", "MultVAE")
} | {"ELSA": {"n_components": 8, "max_epochs": 15, "batch_size": 64}}
SMALL["HVampVAE"] = {**SMALL["MultVAE"], "n_pseudo_inputs": 10}
SMALL["RecVAE"] = {
    "n_components": 8,
    "hidden_size": 16,
    "n_encoder_layers": 2,
    "max_epochs": 8,
    "batch_size": 64,
    "learning_rate": 2e-2,
}

SMALL["WMF"] = {"n_components": 8}
SMALL["NeuralEASE"] = {"max_epochs": 15, "batch_size": 64}
SMALL["FLVAE"] = {
    "n_components": 8,
    "hidden_size": 16,
    "n_encoder_layers": 2,
    "n_decoder_layers": 1,
    "max_epochs": 20,
    "batch_size": 64,
    "learning_rate": 2e-2,
}
SMALL["VASP"] = {**SMALL["FLVAE"], "max_epochs": 12, "lambda_": 1.0}

NEURAL_REGIMES = [
    {"likelihood": "gaussian", "max_epochs": 30},
    {"likelihood": "logistic"},
    {"early_stopping": True, "validation_fraction": 0.2},
    {"warm_start": True},
    {"hidden_layer_sizes": ()},
]

# Settings besides the first under which a model takes another path.
REGIMES = {
    "BM25Transformer": [{"b": 0.0}, {"b": 1.0}, {"k1": 0.0}],
    "EASE": [{"lambda_": 1.0}, {"dropout": 0.3}],
    "ELSA": [
        {"early_stopping": True, "validation_fraction": 0.2},
        {"warm_start": True},
        {"n_components": 50},  # more than items
    ],
    "FLVAE": [
        {"augmentation": False},
        {"early_stopping": True, "validation_fraction": 0.2},
        {"warm_start": True},
    ],
    "HVampVAE": [
        *NEURAL_REGIMES,
        {"decoder_hidden_layer_sizes": ()},
        {"gated": False},
        {"prior": "vamp"},
        {"prior": "vamp", "gated": False},
        {"prior": "standard"},
        {"prior": "standard", "gated": False},
    ],
    "LFM": [
        {"solver": "gd"},
        {"threshold": 3.5},
        {"solver": "gd", "threshold": 3.5},
        {"n_components": 3, "tol": 1e-3},
        {"n_components": 3, "tol": 1e-3, "threshold": 3.5},
        {"n_components": 3, "solver": "gd", "learning_rate": 2e-4, "tol": 1e-5},
    ],
    "MultDAE": [*NEURAL_REGIMES, {"lambda_": 1e-4, "hidden_layer_sizes": (16, 12)}],
    "MultVAE": [
        *NEURAL_REGIMES,
        {"beta": "peak", "early_stopping": True, "validation_fraction": 0.2},
        {"n_annealing_steps": 0, "hidden_layer_sizes": (16, 12)},
    ],
    "RecVAE": [
        {"likelihood": "gaussian", "max_epochs": 30},
        {"likelihood": "logistic"},
        {"early_stopping": True, "validation_fraction": 0.2},
        {"warm_start": True},
        {"alternating": False, "max_epochs": 24},
        {"beta": 0.1},
        {"prior_weights": (1, 0, 0), "n_encoder_layers": 1},
    ],
    "NeuralEASE": [
        {"loss": "mse", "lambda_": 1.0},
        {"loss": "focal", "dropout": 0.2},
        {"early_stopping": True, "validation_fraction": 0.2},
        {"warm_start": True},
    ],
    "WMF": [{"n_components": 40}, {"frequency_exponent": 0.0, "unobserved_weight": 0.5}],
    "VASP": [
        {"training": "alternating"},
        {"training": "pretrained"},
        {"augmentation": False},
        {"item_share": 0.96},  # all of the 20 items of the checkerboard
        {"early_stopping": True, "validation_fraction": 0.2},
        {"item_share": 0.96, "early_stopping": True, "validation_fraction": 0.2},
        {"warm_start": True, "training": "alternating"},
    ],
}


def instances(kind):
    for name, estimator in all_estimators(kind):
        for setting in [{}, *REGIMES.get(name, [])]:
            instance = estimator(**{**SMALL.get(name, {}), **setting})
            # What reads tables instead of matrices has tests of its own.
            if instance.__sklearn_tags__().input_tags.two_d_array:
                yield instance


@parametrize_with_checks(list(instances("recommender")))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore:All .* stored values of X are:UserWarning")  # of one label
def test_recommender(estimator, check):
    check(estimator)


@sklearn_checks(list(instances("transformer")))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_transformer(estimator, check):
    check(estimator)


HEAVY = "{'torch', 'pandas', 'matplotlib'} & set(sys.modules)"


@pytest.mark.parametrize(
    "code",
    [
        f"import sys, sklrec; print({HEAVY})",
        # scikit-learn imports pandas where it is installed; we add nothing to that.
        f"import sys, sklearn.utils; before = {HEAVY}; import sklrec; "
        f"[getattr(sklrec, name) for name in sklrec.__all__]; print({HEAVY} - before)",
    ],
    ids=["package", "submodules"],
)
def test_import_needs_neither_torch_nor_pandas_nor_matplotlib(code):
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
