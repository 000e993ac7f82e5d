"""scikit-learn's checks and ours, on every estimator in every regime."""

import subprocess
import sys

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks as sklearn_checks

from sklrec.linear import EASE
from sklrec.preprocessing import BM25Transformer
from sklrec.utils import all_estimators
from sklrec.utils.estimator_checks import parametrize_with_checks

# Settings besides the defaults under which a model takes another path.
REGIMES = {
    BM25Transformer: [{"b": 0.0}, {"b": 1.0}],
    EASE: [{"lambda_": 1.0}],
}


def instances(kind):
    for _, estimator in all_estimators(kind):
        for setting in [{}, *REGIMES.get(estimator, [])]:
            instance = estimator(**setting)
            # What reads tables instead of matrices has tests of its own.
            if instance.__sklearn_tags__().input_tags.two_d_array:
                yield instance


@parametrize_with_checks(list(instances("recommender")))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
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
