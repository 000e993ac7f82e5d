"""Ensemble of recommenders by the product of calibrated scores."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from scipy.special import log_expit
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils import Bunch, Tags, check_random_state, get_tags
from sklearn.utils.parallel import Parallel, delayed

from .._ranking import row_batches
from .._sklearn import Interval, _BaseComposition, _fit_context, fit_progress
from .._typing import MatrixLike
from ..base import BaseRecommender, RecommenderTags
from ..metrics import RankingScorer
from ..model_selection._split import hold_out_users

# At most this many users are used for calibration, which fits two parameters per member.
MAX_CALIBRATION_USERS = 10_000

# Number of items drawn at random for each hidden item. They are weighted to stand for all items
# that a user has not interacted with.
OTHERS_PER_HIDDEN = 10


class HadamardEnsemble(_BaseComposition, BaseRecommender):
    r"""Element-wise product of the calibrated scores of several recommenders.

    An item is recommended if all members agree on it, like a logical and [1]_. The scores
    :math:`f_n(x)` of each member are mapped to probabilities, which are multiplied (equation 6 of
    [1]_):

    .. math:: \hat{x} = \sigma(a_1 f_1(x) + b_1) \odot \dots \odot \sigma(a_N f_N(x) + b_N)

    In [1]_ two networks are trained jointly on this product. Here the members are arbitrary
    recommenders. The slope a and the intercept b of each member are fitted after its training, as
    in Platt's calibration of classifiers [2]_: a part of the interactions of calibration users is
    hidden, and a logistic regression predicts from a member's score of an item whether it is
    hidden. The calibration users are held out, as the scores of a member that overfits would be
    too high for its training users.

    Parameters
    ----------
    estimators : list of (str, estimator)
        Names and recommenders. Clones of the recommenders are fitted, unless they are wrapped in a
        :class:`sklearn.frozen.FrozenEstimator`. As in :class:`sklearn.ensemble.VotingClassifier`,
        parameters of members can be set as ``<name>__<parameter>``, and a member can be set to
        ``"drop"`` to exclude it.
    validation_fraction : float, default=0.1
        Proportion of the users with at least two interactions to hold out for calibration, rounded
        up. If all members are frozen, all users are used for calibration.
    n_jobs : int or None, default=None
        Number of members to fit in parallel. ``-1`` means using all processors.
    random_state : int, RandomState instance or None, default=None
        Controls the draws of calibration users and of their hidden interactions. Members have
        their own `random_state`.

    Attributes
    ----------
    estimators_ : list of estimators
        The fitted members, without dropped ones.
    named_estimators_ : Bunch
        The fitted members by name, and ``"drop"`` for dropped ones.
    slopes_ : ndarray of shape (n_estimators,)
        Slope a of each member. It is 0, so that the member has no effect on the ranking, if the
        member's scores are constant or not higher for hidden items than for others.
    intercepts_ : ndarray of shape (n_estimators,)
        Intercept b of each member.
    n_features_in_ : int
        Number of items.
    feature_names_in_ : ndarray of shape (n_items,)
        Names of the items. Defined only if X is a DataFrame with string column names.

    Notes
    -----
    The probabilities are small, as few items are hidden. The logarithm of the product is then
    close to the sum of the calibrated scores, the logits.

    Each member affects the product, so that a member that is much worse than the others makes the
    ensemble worse than its best member. Ensembles of members with similar accuracy and different
    errors, such as a linear and a deep model, improve most.

    If calibration users have interacted with all items, so that there are no others to compare
    the hidden ones with, scores are only standardized.

    References
    ----------
    .. [1] V. Vančura and P. Kordík, "Deep Variational Autoencoder with Shallow Parallel Path for
       Top-N Recommendation (VASP)", ICANN 2021.
    .. [2] J. Platt, "Probabilistic Outputs for Support Vector Machines and Comparisons to
       Regularized Likelihood Methods", 1999.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.dummy import PopularityRecommender
    >>> from sklrec.ensemble import HadamardEnsemble
    >>> from sklrec.linear import EASE
    >>> X = make_interactions(200, 50, random_state=0).data
    >>> members = [("popularity", PopularityRecommender()), ("ease", EASE(lambda_=100))]
    >>> ensemble = HadamardEnsemble(members, random_state=0).fit(X)
    >>> ensemble.predict_ranking(X[:2], k=3).shape
    (2, 3)

    With members that have been fitted before:

    >>> from sklearn.frozen import FrozenEstimator
    >>> frozen = [(name, FrozenEstimator(model.fit(X[:150]))) for name, model in members]
    >>> ensemble = HadamardEnsemble(frozen, random_state=0).fit(X[150:])
    """

    _parameter_constraints: dict = {
        "estimators": [list],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimators: list[tuple[str, BaseEstimator]],
        *,
        validation_fraction: float = 0.1,
        n_jobs: int | None = None,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.estimators = estimators
        self.validation_fraction = validation_fraction
        self.n_jobs = n_jobs
        self.random_state = random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters of the ensemble and of its members.

        Parameters
        ----------
        deep : bool, default=True
            If True, return the members and their parameters as well.

        Returns
        -------
        params : dict
            Parameter names mapped to their values.
        """
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params: Any) -> HadamardEnsemble:
        """Set the parameters of the ensemble and of its members.

        Parameters
        ----------
        **params : dict
            Parameter names mapped to values. Members are replaced by their name, and their
            parameters are set as ``<name>__<parameter>``.

        Returns
        -------
        self : HadamardEnsemble
            The ensemble.
        """
        return self._set_params("estimators", **params)

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: MatrixLike, y: Any = None) -> HadamardEnsemble:
        """Fit the members and calibrate their scores on held-out users.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions, non-negative.
        y : None
            Ignored.

        Returns
        -------
        self : HadamardEnsemble
            The fitted ensemble.

        Raises
        ------
        ValueError
            If a member is not a recommender, if names are not unique, or if there are too few users
            with at least two interactions.
        """
        members = self._check_members()
        X = self._check_X(X, reset=True)
        self._learn_popularity(X)
        rng = check_random_state(self.random_state)
        train, calibration = self._split(X, rng)
        fold_in, held_out = RankingScorer(random_state=rng.randint(2**31 - 1)).hide(calibration)
        with fit_progress(self, X, max_subtasks=2) as step:
            self.estimators_ = Parallel(n_jobs=self.n_jobs)(
                delayed(_fit_clone)(member, train) for member in members
            )
            step("members")
            entries = _CalibrationEntries(fold_in, held_out, rng)
            maps = [_platt(scores, entries) for scores in entries.scores(self.estimators_)]
            self.slopes_, self.intercepts_ = np.array(maps).T
            step("calibration")
        fitted = iter(self.estimators_)
        self.named_estimators_ = Bunch(
            **{
                name: "drop" if member == "drop" else next(fitted)
                for name, member in self.estimators
            }
        )
        return self

    def decision_function(self, X: MatrixLike) -> np.ndarray:
        """Score all items for each user.

        Parameters
        ----------
        X : {array-like, sparse array} of shape (n_users, n_items)
            Interactions of each user, known from ``fit`` or not.

        Returns
        -------
        scores : ndarray of shape (n_users, n_items)
            Logarithm of the product of the probabilities.
        """
        X = self._check_X(X, reset=False)
        log_product = np.zeros(X.shape, dtype=X.dtype)
        maps = zip(self.estimators_, self.slopes_.tolist(), self.intercepts_.tolist(), strict=True)
        for member, slope, intercept in maps:
            log_product += log_expit(slope * member.decision_function(X) + intercept)
        return self._with_popularity(X, log_product)

    def _known_items(self, items: Any = slice(None)) -> np.ndarray:
        # Where one member falls back to popularity, its scores are not those that were calibrated.
        members = [m._known_items(items) for m in self.estimators_ if hasattr(m, "_popularity")]
        return np.logical_and.reduce([super()._known_items(items), *members])

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "named_estimators_")

    def __sklearn_tags__(self) -> Tags:
        tags: Any = super().__sklearn_tags__()
        found = [
            getattr(get_tags(member), "recommender_tags", RecommenderTags())
            for member in self._kept_members()
        ]
        tags.recommender_tags.personalized = any(member.personalized for member in found)
        tags.recommender_tags.learns_from_values = any(
            member.learns_from_values for member in found
        )
        return tags

    def _kept_members(self) -> list[Any]:
        return [member for _, member in self.estimators if member != "drop"]

    def _check_members(self) -> list[BaseEstimator]:
        try:
            names, members = zip(*self.estimators, strict=True)
        except (TypeError, ValueError):
            raise ValueError(
                "estimators must be a list of at least one (name, recommender), "
                f"got {self.estimators!r}."
            ) from None
        self._validate_names(names)
        for name, member in zip(names, members, strict=True):
            is_recommender = hasattr(member, "fit") and hasattr(member, "decision_function")
            if not is_recommender and member != "drop":
                raise ValueError(
                    "estimators must be recommenders, with fit and decision_function, or 'drop', "
                    f"but {name!r} is {member!r}."
                )
        if not self._kept_members():
            raise ValueError(
                "estimators must hold at least one recommender that is not dropped, "
                f"got {self.estimators!r}."
            )
        return self._kept_members()

    def _split(self, X: sp.csr_array, rng: RandomState) -> tuple[sp.csr_array, sp.csr_array]:
        """Return the rows to fit the members on and those to calibrate on."""
        n_eligible = int(np.count_nonzero(np.diff(X.indptr) >= 2))
        if all(isinstance(member, FrozenEstimator) for member in self._kept_members()):
            return X, _some_eligible_users(X, min(n_eligible, MAX_CALIBRATION_USERS), rng)
        share = min(self.validation_fraction, MAX_CALIBRATION_USERS / max(1, n_eligible))
        chosen = hold_out_users(X, share, rng, name="validation_fraction")
        return X[~chosen], X[chosen]


def _some_eligible_users(X: sp.csr_array, n_users: int, rng: RandomState) -> sp.csr_array:
    """Return the rows of `n_users` random users with at least 2 interactions."""
    eligible = np.flatnonzero(np.diff(X.indptr) >= 2)
    if not n_users:
        raise ValueError(
            "Calibration needs users with at least 2 interactions, but X with "
            f"n_samples={X.shape[0]}, n_features={X.shape[1]} has none."
        )
    return X[np.sort(rng.choice(eligible, n_users, replace=False))]


def _fit_clone(member: BaseEstimator, X: sp.csr_array) -> BaseEstimator:
    return clone(member).fit(X, None)  # clone and fit return a frozen member unchanged


class _CalibrationEntries:
    """All hidden entries of the calibration users, and random items without interaction."""

    def __init__(self, fold_in: sp.csr_array, held_out: sp.csr_array, rng: RandomState) -> None:
        self.fold_in = fold_in
        n_rows, n_items = held_out.shape
        hidden = _flat_indices(held_out)
        met = np.append(hidden, _flat_indices(fold_in))
        drawn = rng.randint(n_rows * n_items, size=OTHERS_PER_HIDDEN * hidden.size, dtype=np.int64)
        others = drawn[~np.isin(drawn, met)]
        self.flat = np.sort(np.append(hidden, others))
        self.is_hidden = np.isin(self.flat, hidden)
        n_others = n_rows * n_items - met.size
        self.weight = np.where(self.is_hidden, 1.0, n_others / max(1, others.size))

    def scores(self, models: list[BaseEstimator]) -> np.ndarray:
        """Return the score of each entry by each model, of shape (n_models, n_entries)."""
        n_rows, n_items = self.fold_in.shape
        found = np.empty((len(models), self.flat.size))
        for rows in row_batches(n_rows, n_items):
            first, last = np.searchsorted(self.flat, [rows.start * n_items, rows.stop * n_items])
            inside = self.flat[first:last] - rows.start * n_items
            for model, values in zip(models, found, strict=True):
                values[first:last] = model.decision_function(self.fold_in[rows]).ravel()[inside]
        return found


def _flat_indices(X: sp.csr_array) -> np.ndarray:
    return np.repeat(np.arange(X.shape[0]), np.diff(X.indptr)) * X.shape[1] + X.indices


def _platt(scores: np.ndarray, entries: _CalibrationEntries) -> tuple[float, float]:
    """Return slope and intercept of the logit of being hidden as a function of the score."""
    mean, deviation = scores.mean(), scores.std()
    if deviation <= 1e-6 * abs(mean):  # constant up to rounding errors
        return 0.0, 0.0
    slope, intercept = 1.0, 0.0
    if not entries.is_hidden.all():
        # Hidden entries are few among many items, and so is their part in the gradient of the mean
        # loss: with an absolute tolerance the fit would end before it has learnt from them.
        share = np.average(entries.is_hidden, weights=entries.weight)
        regression = LogisticRegression(solver="newton-cholesky", tol=1e-4 * share)
        regression.fit(
            ((scores - mean) / deviation)[:, None], entries.is_hidden, sample_weight=entries.weight
        )
        slope, intercept = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    if slope <= 0:
        return 0.0, 0.0
    return slope / deviation, intercept - slope * mean / deviation
