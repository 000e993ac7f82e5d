"""scikit-learn's checks and ours, on every estimator in every regime."""

import subprocess
import sys

import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks as sklearn_checks

from sklrec.factorization import WMF
from sklrec.utils import all_estimators
from sklrec.utils._content_checks import (
    reading_content,
    takes_item_features,
    with_item_features,
)
from sklrec.utils.estimator_checks import _name_of as name_of
from sklrec.utils.estimator_checks import (
    check_beats_a_random_ranking,
    check_checkerboard,
    check_pickle_and_joblib_round_trip,
    check_score_is_independent_of_the_batch,
    check_users_without_items,
    recommender_checks,
)

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

SMALL["ContentELSA"] = {**SMALL["ELSA"], "max_epochs": 25, "learning_rate": 0.1}
SMALL["DeepMusic"] = {"n_components": 8, "hidden_layer_sizes": (16, 16), "learning_rate": 1e-2}
SMALL["CDAE"] = {
    "n_components": 16,
    "max_epochs": 15,
    "batch_size": 64,
    "learning_rate": 2e-2,
}
SMALL["NeuMF"] = {
    "n_components": 8,
    "hidden_layer_sizes": (16, 8),
    "max_epochs": 15,
    "batch_size": 256,
    "learning_rate": 2e-2,
}
SMALL["FactorizationMachine"] = {**SMALL["ContentELSA"], "max_epochs": 60, "learning_rate": 2e-2}
SMALL["FactorsFromContent"] = {"recommender": WMF(8, random_state=0)}
SMALL["WMF"] = {"n_components": 8}
SMALL["BPR"] = {"n_components": 8}
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
SMALL["CondVAE"] = SMALL["MultVAE"]
SMALL["CoVAE"] = {
    "n_components": 8,
    "hidden_layer_sizes": (16,),
    "beta": 0.1,
    "n_feature_epochs": 3,
    "max_epochs": 60,
    "batch_size": 64,
    "learning_rate": 2e-2,
}
SMALL["MDCVAE"] = {
    "n_components": 8,
    "item_hidden_layer_sizes": (16,),
    "max_epochs": 15,
    "batch_size": 64,
    "learning_rate": 2e-2,
}
SMALL["DICER"] = {
    "n_components": 8,
    "lambda_u": 0.1,
    "max_epochs": 40,
    "batch_size": 8,
    "learning_rate": 2e-2,
}
SMALL["DAVE"] = {
    "n_components": 8,
    "hidden_layer_sizes": (16,),
    "pair_layer_sizes": (16, 8),
    "max_epochs": 15,
    "batch_size": 128,
    "learning_rate": 1e-2,
}
SMALL["VASP"] = {**SMALL["FLVAE"], "max_epochs": 12, "lambda_": 1.0}
SMALL["CTR"] = {"n_components": 8}
SMALL["CDL"] = SMALL["CVAE"] = {
    "n_components": 8,
    "hidden_layer_sizes": (16,),
    "lambda_u": 0.1,
    "lambda_v": 1.0,
    "n_pretraining_epochs": 10,
    "max_epochs": 10,
    "batch_size": 8,
    "learning_rate": 2e-2,
}

# Settings besides the first under which an estimator takes another path. What all neural models
# share, their base class, is checked with one of them.
REGIMES = {
    "BPR": [{"negatives": "uniform"}, {"n_fold_in_steps": 0}],
    "BM25Transformer": [{"b": 0.0}, {"b": 1.0}, {"k1": 0.0}],
    "CVAE": [{"inference": "bayes"}],
    "CollectiveEASE": [{"dropout": 0.3}],
    "CDAE": [
        {"user_vector": "solve", "n_negatives": None, "lambda_": 0.1},
        {"user_vector": None, "n_negatives": None},
    ],
    "EASE": [{"dropout": 0.3}],
    "ItemKNN": [
        {"n_neighbors": 5, "metric": "asymmetric-cosine", "shrinkage": 1.0},
        {"metric": "jaccard"},
        {"metric": "conditional-probability", "shrinkage": 10.0},
    ],
    "SLIM": [{"solver": "admm"}, {"positive": False}, {"solver": "admm", "positive": False}],
    "SparseEASE": [{"n_neighbors": 5, "dropout": 0.0}],
    "LFM": [
        {"solver": "gd", "threshold": 3.5, "tol": 1e-4},
        {"n_components": 3, "tol": 1e-3},
        {"n_components": 3, "solver": "gd", "learning_rate": 2e-4, "tol": 1e-5},
    ],
    "MDCVAE": [{"symmetric": True, "lambda_v": 100.0, "max_epochs": 60}],
    "MultVAE": [
        {"early_stopping": True, "validation_fraction": 0.2},
        {"warm_start": True},
        {"beta": "peak", "early_stopping": True, "validation_fraction": 0.2},
    ],
    "RP3beta": [{"n_neighbors": 5, "alpha": 0.8}],
    "UserKNN": [
        {"n_neighbors": 5, "metric": "asymmetric-cosine", "shrinkage": 1.0},
        {"metric": "jaccard"},
        {"metric": "conditional-probability"},
    ],
    "NeuMF": [{"user_vector": "solve"}, {"pretrain": True}],
    "VASP": [{"item_share": 0.96}],  # all of the 20 items of the checkerboard
    "WMF": [
        {"solver": "cholesky"},
        {"zeros": "unobserved", "frequency_exponent": 0.0},
        {"zeros": "unobserved", "binary": True, "solver": "cholesky"},
    ],
}

# Settings under which a model learns something else, on the same path through the estimator.
OBJECTIVES = {
    "CDL": [{"likelihood": "logistic", "lambda_n": 1.0, "hidden_layer_sizes": ()}],
    "CTR": [{"fit_topics": True}],
    "CVAE": [
        {"likelihood": "gaussian", "lambda_v": 0.1},
        {"likelihood": "multinomial", "n_pretraining_epochs": 0, "lambda_v": 0.1},
    ],
    "ContentELSA": [{"free_part": False}],
    "CDAE": [
        {"loss": "logistic", "activation": "sigmoid", "max_epochs": 50},
        {"n_negatives": None, "unobserved_weight": 0.3, "lambda_": 1e-3},
        {"normalize": False, "activation": "identity", "n_negatives": None},
    ],
    "ELSA": [{"n_components": 50}],  # more than items
    "FLVAE": [{"augmentation": False}],
    "HVampVAE": [
        {"decoder_hidden_layer_sizes": (), "likelihood": "gaussian", "max_epochs": 30},
        {"prior": "vamp", "gated": False},
        {"prior": "standard", "likelihood": "logistic"},
    ],
    "LFM": [{"n_components": 3, "tol": 1e-3, "threshold": 3.5}],
    "CondVAE": [{"hidden_layer_sizes": (), "n_annealing_steps": 0}],
    "CoVAE": [{"alpha": 3.0, "dropout": 0.3, "hidden_layer_sizes": ()}],
    "DICER": [{"hidden_layer_sizes": (16,), "beta_between": 0.0, "beta_within": 0.0}],
    "MDCVAE": [
        {
            "symmetric": True,
            "hidden_layer_sizes": (16,),
            "item_likelihood": "multinomial",
            "item_dropout": 0.3,
            "max_epochs": 40,
        },
        {"coupling": "encoder", "item_likelihood": "gaussian", "max_epochs": 30},
    ],
    "MultDAE": [
        {"likelihood": "gaussian", "max_epochs": 30},
        {"likelihood": "logistic", "lambda_": 1e-4, "hidden_layer_sizes": (16, 12)},
    ],
    "MultVAE": [
        {"likelihood": "gaussian", "max_epochs": 30},
        {"n_annealing_steps": 0, "hidden_layer_sizes": ()},
    ],
    "NeuMF": [
        {"model": "gmf"},
        {"model": "mlp"},
        {"model": "gmf", "user_vector": "solve"},
    ],
    "NeuralEASE": [{"loss": "mse", "lambda_": 1.0}, {"loss": "focal", "dropout": 0.2}],
    "RecVAE": [
        {"likelihood": "gaussian", "max_epochs": 30},
        {"alternating": False, "max_epochs": 24},
        {"prior_weights": (1, 0, 0), "n_encoder_layers": 1, "beta": 0.1},
    ],
    "VASP": [{"training": "alternating"}, {"training": "pretrained"}, {"augmentation": False}],
    "WMF": [{"n_components": 40}, {"frequency_exponent": 0.0, "unobserved_weight": 0.5}],
}
CHECKS_OF_OBJECTIVES = [
    check_beats_a_random_ranking,
    check_checkerboard,
    check_pickle_and_joblib_round_trip,
    check_score_is_independent_of_the_batch,
    check_users_without_items,
]


def instances(kind, settings=REGIMES, defaults=({},)):
    for name, estimator in all_estimators(kind):
        for setting in [*defaults, *settings.get(name, [])]:
            instance = estimator(**{**SMALL.get(name, {}), **setting})
            # What reads tables instead of matrices has tests of its own.
            if instance.__sklearn_tags__().input_tags.two_d_array:
                yield instance


CHECKS_OF_SKILL = (check_beats_a_random_ranking, check_checkerboard)


def trained_briefly(estimator):
    """Return a copy for the checks that ask for no skill."""
    brief = {"max_epochs": 2} if "max_epochs" in estimator.get_params() else {}
    return clone(estimator).set_params(**brief)


def recommender_checks_in_brief(estimator):
    brief = trained_briefly(estimator)
    for check in recommender_checks(estimator):
        plain = getattr(check, "__wrapped__", check)  # without item features
        yield (estimator if plain in CHECKS_OF_SKILL else brief), check


def reading_features():
    """Yield each model that reads features, with some; what else they do is checked without."""
    for estimator in instances("recommender", settings={}):
        if takes_item_features(estimator):
            yield reading_content(estimator)


@sklearn_checks([trained_briefly(one) for one in (*instances("recommender"), *reading_features())])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore:All .* stored values of X are:UserWarning")  # of one label
def test_recommender_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def pairs(estimators, pairs_of):
    found = [pair for estimator in estimators for pair in pairs_of(estimator)]
    return pytest.mark.parametrize(("estimator", "check"), found, ids=name_of)


@pairs(instances("recommender"), recommender_checks_in_brief)
@pytest.mark.filterwarnings("ignore:All .* stored values of X are:UserWarning")
def test_recommender(estimator, check):
    check(estimator)


@pairs(
    instances("recommender", OBJECTIVES, ()),
    lambda estimator: [
        (estimator, check)
        for plain in CHECKS_OF_OBJECTIVES
        for check in (
            [plain, with_item_features(plain)] if takes_item_features(estimator) else [plain]
        )
    ],
)
@pytest.mark.filterwarnings("ignore:All .* stored values of X are:UserWarning")
def test_objective(estimator, check):
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
