"""Parameter distributions for random searches."""

from __future__ import annotations

from typing import Any

from sklearn.frozen import FrozenEstimator


def suggested_distributions(estimator: Any) -> dict[str, Any]:
    """Return the typical ranges of an estimator's parameters for a random search.

    These are the typical ranges in the docstring of each model, as distributions for
    :class:`~sklearn.model_selection.RandomizedSearchCV` and
    :class:`~sklearn.model_selection.HalvingRandomSearchCV`. The dict may be changed to search
    fewer parameters or other ranges.

    Parameters
    ----------
    estimator : estimator
        A model or transformer of sklrec, or an estimator that contains them, such as a pipeline or
        a :class:`~sklrec.ensemble.HadamardEnsemble`.

    Returns
    -------
    distributions : dict
        A frozen distribution of :mod:`scipy.stats` (``loguniform``, ``uniform``, or ``randint`` for
        integers) or a list of equally likely values for each parameter. Names of nested parameters
        have the form ``<component>__<parameter>``. Empty if no parameter has a typical range.

    Raises
    ------
    TypeError
        If `estimator` is not an estimator, such as a class.

    Examples
    --------
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from sklrec.datasets import make_interactions
    >>> from sklrec.linear import EASE
    >>> from sklrec.metrics import RankingScorer
    >>> from sklrec.model_selection import StrongGeneralizationSplit, suggested_distributions
    >>> from sklrec.pipeline import make_pipeline
    >>> from sklrec.preprocessing import BM25Transformer
    >>> model = make_pipeline(BM25Transformer(), EASE())
    >>> distributions = suggested_distributions(model)
    >>> sorted(distributions)
    ['bm25transformer__b', 'bm25transformer__k1', 'ease__dropout', 'ease__lambda_']
    >>> distributions["ease__lambda_"].support() == (10, 10_000)
    True
    >>> search = RandomizedSearchCV(
    ...     model,
    ...     distributions,
    ...     n_iter=3,
    ...     scoring=RankingScorer("ndcg@10"),
    ...     cv=StrongGeneralizationSplit(1, random_state=0),
    ...     random_state=0,
    ... ).fit(make_interactions(200, 50, random_state=0).data)
    """
    if isinstance(estimator, type) or not hasattr(estimator, "get_params"):
        raise TypeError(f"suggested_distributions needs an estimator, got {estimator!r}.")
    if isinstance(estimator, FrozenEstimator):  # never fitted again
        return {}
    found = dict(getattr(estimator, "_suggested_distributions", {}))
    for name, value in estimator.get_params(deep=False).items():
        if hasattr(value, "get_params") and not isinstance(value, type):
            members = {name: value}
        elif isinstance(value, list):  # of a pipeline's steps or an ensemble's members
            members = dict(pair[:2] for pair in value if isinstance(pair, tuple))
        else:
            continue
        for member_name, member in members.items():
            if hasattr(member, "get_params"):
                inner = suggested_distributions(member)
                found |= {f"{member_name}__{key}": inner[key] for key in inner}
    return found
