"""scikit-learn's checks and ours, on all estimators and all paths that their parameters lead to."""

import subprocess
import sys
from functools import partial

import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import estimator_checks_generator

from sklrec.factorization import WMF
from sklrec.utils import all_estimators
from sklrec.utils._content_checks import (
    check_new_items_are_ranked,
    reading_content,
    takes_item_features,
    with_item_features,
)
from sklrec.utils.estimator_checks import _ids_of as ids_of
from sklrec.utils.estimator_checks import _name_of as name_of
from sklrec.utils.estimator_checks import (
    check_bad_input_is_refused,
    check_beats_a_random_ranking,
    check_candidates,
    check_checkerboard,
    check_cross_validate,
    check_ends_with_minus_one,
    check_grid_search,
    check_input_types_agree,
    check_never_ranks_what_was_seen,
    check_pickle_and_joblib_round_trip,
    check_pipeline,
    check_ranking_follows_the_scores,
    check_score_is_independent_of_the_batch,
    check_score_is_the_scorer,
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
    "max_epochs": 8,
    "batch_size": 256,
    "learning_rate": 4e-2,
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
    "max_epochs": 30,
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
    "max_epochs": 20,
    "batch_size": 16,
    "learning_rate": 5e-2,
}
SMALL["DAVE"] = {
    "n_components": 8,
    "hidden_layer_sizes": (16,),
    "pair_layer_sizes": (16, 8),
    "max_epochs": 8,
    "batch_size": 256,
    "learning_rate": 2e-2,
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
        {"n_components": 3, "solver": "gd", "learning_rate": 1e-3, "tol": 1e-4},
    ],
    "MDCVAE": [{"symmetric": True, "lambda_v": 100.0, "max_epochs": 30, "learning_rate": 4e-2}],
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
        {
            "loss": "logistic",
            "activation": "sigmoid",
            "max_epochs": 20,
            "learning_rate": 5e-2,
        },
        {"n_negatives": None, "unobserved_weight": 0.3, "lambda_": 1e-3},
        {"normalize": False, "activation": "identity", "n_negatives": None},
    ],
    "ELSA": [{"n_components": 50}],  # more than items
    "FLVAE": [{"augmentation": False}],
    "HVampVAE": [
        {"decoder_hidden_layer_sizes": (), "likelihood": "gaussian", "learning_rate": 5e-2},
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
            "max_epochs": 20,
            "learning_rate": 5e-2,
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
        {"alternating": False, "max_epochs": 12, "learning_rate": 4e-2},
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


CHECKS_OF_SKILL = (
    check_beats_a_random_ranking,
    check_checkerboard,
    check_new_items_are_ranked,
)

# At most so much training is done for the checks that ask for no skill.
AT_MOST = {
    "max_epochs": 2,
    "n_encoder_epochs": 2,
    "n_feature_epochs": 1,
    "n_fold_in_steps": 5,
    "n_pretraining_epochs": 1,
    "n_topic_iter": 2,
}
# scikit-learn's checks are content with one epoch, where ours compare what several lead to.
ONE_EPOCH = {"max_epochs": 1, "n_encoder_epochs": 1}
# Other settings for these checks, of what takes longer than others.
BRIEF = {
    "CDL": {"batch_size": 16},
    "CTR": {"max_iter": 3},
    "CVAE": {"batch_size": 16},
    "DAVE": {"batch_size": 1024},
    "DICER": {"batch_size": 64},
    "LFM": {"tol": 1e-2},
    "NeuMF": {"batch_size": 1024},
    "WMF": {"max_iter": 3},
}

# Checks of what a base class does for all settings of a model, which are run with the first.
ONCE_A_MODEL = {
    check_never_ranks_what_was_seen,
    check_ends_with_minus_one,
    check_ranking_follows_the_scores,
    check_candidates,
    check_input_types_agree,
    check_bad_input_is_refused,
    check_score_is_the_scorer,
    check_pipeline,
    check_cross_validate,
    check_grid_search,
}
# A search in two processes, which are slow to start, is done with a model of each base class.
SEARCHED = {"CVAE", "ContentELSA", "EASE", "ItemKNN", "MultVAE", "WMF"}
ONCE_A_MODEL_OF_SKLEARN = {
    "check_complex_data",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_dtype_object",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_sparse_array",
    "check_estimator_sparse_matrix",
    "check_estimator_sparse_tag",
    "check_estimator_tags_renamed",
    "check_estimators_dtypes",
    "check_estimators_empty_data_messages",
    "check_estimators_fit_returns_self",
    "check_estimators_nan_inf",
    "check_estimators_unfitted",
    "check_f_contiguous_array_estimator",
    "check_fit1d",
    "check_fit2d_predict1d",
    "check_fit_check_is_fitted",
    "check_fit_non_negative",
    "check_fit_score_takes_y",
    "check_get_params_invariance",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_mixin_order",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_pipeline_consistency",
    "check_positive_only_tag_during_fit",
    "check_set_params",
    "check_transformer_data_not_an_array",
    "check_transformers_unfitted",
    "check_valid_tag_types",
}


def trained_briefly(estimator, at_most=AT_MOST):
    """Return a copy for the checks that ask for no skill."""
    params = estimator.get_params(deep=False)
    brief = {name: min(most, params[name]) for name, most in at_most.items() if name in params}
    return clone(estimator).set_params(**brief, **BRIEF.get(type(estimator).__name__, {}))


def plain(check):
    """Return a check without item features."""
    return getattr(check, "__wrapped__", check)


def briefly(estimator, checks):
    brief = trained_briefly(estimator)
    return [(estimator if plain(one) in CHECKS_OF_SKILL else brief, one) for one in checks]


def searched(estimator, checks):
    """Leave the search in two processes out where another model has the same base class."""
    kept = type(estimator).__name__ in SEARCHED
    return [one for one in checks if kept or plain(one) is not check_grid_search]


def checks_of_first(estimator):
    """Return all checks of the first settings of a model, those of a base class without content."""
    checks = searched(estimator, recommender_checks(estimator))
    return briefly(
        estimator, [one for one in checks if one is plain(one) or plain(one) not in ONCE_A_MODEL]
    )


def checks_of_regime(estimator):
    """Return the checks of other settings of a model, with which it takes another path."""
    checks = recommender_checks(estimator)
    return briefly(estimator, [one for one in checks if plain(one) not in ONCE_A_MODEL])


def checks_of_sklearn(estimator):
    return list(estimator_checks_generator(trained_briefly(estimator, AT_MOST | ONE_EPOCH)))


def checks_of_sklearn_for_regime(estimator):
    pairs = checks_of_sklearn(estimator)
    return [(one, check) for one, check in pairs if name_of(check) not in ONCE_A_MODEL_OF_SKLEARN]


def reading_features():
    """Yield each model that reads features, with some; what else they do is checked without."""
    for estimator in instances("recommender", settings={}):
        if takes_item_features(estimator):
            yield reading_content(trained_briefly(estimator))


def pairs(*estimators_and_checks):
    """Parametrize a test by estimators and the checks that functions return for each."""
    found = [
        pair
        for estimators, checks in estimators_and_checks
        for one in estimators
        for pair in checks(one)
    ]
    return pytest.mark.parametrize(("estimator", "check"), found, ids=ids_of(found))


first = partial(instances, "recommender", settings={})
others = partial(instances, "recommender", defaults=())


@pairs(
    (first(), checks_of_sklearn),
    (others(), checks_of_sklearn_for_regime),
    (reading_features(), checks_of_sklearn_for_regime),
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore:All .* stored values of X are:UserWarning")  # of one label
def test_recommender_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pairs((first(), checks_of_first), (others(), checks_of_regime))
@pytest.mark.filterwarnings("ignore:All .* stored values of X are:UserWarning")
def test_recommender(estimator, check):
    check(estimator)


def checks_of_objective(estimator):
    checks = CHECKS_OF_OBJECTIVES
    if takes_item_features(estimator):  # which are what these objectives are about
        checks = map(with_item_features, checks)
    return briefly(estimator, checks)


@pairs((instances("recommender", OBJECTIVES, ()), checks_of_objective))
@pytest.mark.filterwarnings("ignore:All .* stored values of X are:UserWarning")
def test_objective(estimator, check):
    check(estimator)


@pairs((instances("transformer"), lambda estimator: list(estimator_checks_generator(estimator))))
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
