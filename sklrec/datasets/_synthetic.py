"""Made interactions with a known structure."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
from sklearn.utils import Bunch, check_random_state

from sklrec._sklearn import Interval, validate_params

_BLOCK = 1 << 20  # interactions drawn at once
_MAX_ROUNDS = 8  # of drawing again what was drawn twice
_WORDS_PER_ITEM = 30

_DESCR = """\
Made interactions
=================
{n_interactions:,} interactions of {n_users:,} users with {n_items:,} items in {n_groups} planted
groups, made by sklrec.datasets.make_interactions. Nobody's data: no licence, nothing to cite.
"""


@validate_params(
    {
        "n_users": [Interval(Integral, 1, None, closed="left")],
        "n_items": [Interval(Integral, 2, None, closed="left")],
        "n_interactions": [Interval(Integral, 1, None, closed="left"), None],
        "n_groups": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "cohesion": [Interval(Real, 0, 1, closed="left")],
        "popularity_exponent": [Interval(Real, 0, 10, closed="both")],
        "activity_sigma": [Interval(Real, 0, 10, closed="both")],
        "ratings": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_interactions(
    n_users: int = 1000,
    n_items: int = 200,
    *,
    n_interactions: int | None = None,
    n_groups: int = 10,
    n_features: int = 100,
    cohesion: float = 0.8,
    popularity_exponent: float = 0.8,
    activity_sigma: float = 1.0,
    ratings: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Make interactions of users with items, with planted groups, popularity and activity.

    Each user and each item belongs to one of `n_groups` groups of equal size. A user takes items
    without replacement: each time, with probability `cohesion`, one of the own group, otherwise
    any, in both cases in proportion to popularity. Popularity is a power law over the items,
    activity log-normal over the users. The words of an item tell its group. So a model that finds
    the groups beats popularity, and popularity beats chance.

    Time and memory are proportional to the number of interactions: the shape of MovieLens 20M
    with 10 million interactions takes seconds.

    Parameters
    ----------
    n_users : int, default=1000
        Number of users.
    n_items : int, default=200
        Number of items.
    n_interactions : int, default=None
        Number of interactions, met exactly: at least one a user, at most all pairs. By default
        20 a user, or a quarter of the items where that is less.
    n_groups : int, default=10
        Number of groups, at most the number of users, items and features.
    n_features : int, default=100
        Number of words that describe items, some of which are typical of each group.
    cohesion : float, default=0.8
        Probability, in [0, 1), that a user turns to the own group. With 0 there is no structure
        but popularity.
    popularity_exponent : float, default=0.8
        The popularity of the item of rank r is proportional to ``r ** -popularity_exponent``.
        With 0 all are alike.
    activity_sigma : float, default=1.0
        Standard deviation of the logarithm of a user's number of interactions, before it is
        bounded by 1 and `n_items`. With 0 all are alike.
    ratings : bool, default=False
        Whether values are ratings of 1 to 5, higher for items of the user's own group, instead of
        ones. The interactions are the same either way.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same result in every call.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        data : csr_array of shape (n_users, n_items), float32
            The interactions.
        item_features : csr_array of shape (n_items, n_features), float32
            How often each word describes each item.
        user_groups : ndarray of shape (n_users,), int64
            The group of each user.
        item_groups : ndarray of shape (n_items,), int64
            The group of each item.
        feature_names : ndarray of shape (n_features,), str
            A name for each word.
        user_ids : ndarray of shape (n_users,), int64
            The numbers of the rows.
        item_ids : ndarray of shape (n_items,), int64
            The numbers of the columns.
        item_names : ndarray of shape (n_items,), str
            A name for each item, with its group.
        DESCR : str
            A short description.

    Raises
    ------
    ValueError
        If `n_interactions` or `n_groups` does not fit the other numbers.

    Examples
    --------
    >>> from sklrec.datasets import make_interactions
    >>> made = make_interactions(50, 20, n_interactions=300, random_state=0)
    >>> made.data.shape, made.data.nnz
    ((50, 20), 300)
    >>> made.item_names[:2].tolist()
    ['item 0 (group 1)', 'item 1 (group 3)']
    """
    if n_interactions is None:
        n_interactions = n_users * max(1, min(20, n_items // 4))
    if not n_users <= n_interactions <= n_users * n_items:
        raise ValueError(
            f"n_interactions={n_interactions} must be from n_users={n_users}, one a user, to "
            f"{n_users * n_items}, all pairs."
        )
    if n_groups > min(n_users, n_items, n_features):
        raise ValueError(
            f"n_groups={n_groups} is more than the smallest of n_users={n_users}, "
            f"n_items={n_items} and n_features={n_features}."
        )
    rng = np.random.default_rng(check_random_state(random_state).randint(2**31, size=4))
    user_groups = rng.permutation(n_users) % n_groups
    item_groups = rng.permutation(n_items) % n_groups
    feature_groups = rng.permutation(n_features) % n_groups
    items = _GroupedChoice(rng, item_groups, popularity_exponent, cohesion)
    activity = _activity(rng, n_users, n_items, n_interactions, activity_sigma)
    data = _interactions(rng, user_groups, activity, items)
    words = _GroupedChoice(rng, feature_groups, popularity_exponent, cohesion)
    item_features = _word_counts(rng, item_groups, words, n_features)
    if ratings:
        data.data[:] = _ratings(rng, data, user_groups, item_groups)
    return Bunch(
        data=data,
        item_features=item_features,
        user_groups=user_groups,
        item_groups=item_groups,
        feature_names=np.array([f"word {i}" for i in range(n_features)]),
        user_ids=np.arange(n_users),
        item_ids=np.arange(n_items),
        item_names=np.array([f"item {i} (group {g})" for i, g in enumerate(item_groups)]),
        DESCR=_DESCR.format(
            n_interactions=n_interactions, n_users=n_users, n_items=n_items, n_groups=n_groups
        ),
    )


class _GroupedChoice:
    """Draws things by popularity: with probability `cohesion` those of one group, else any."""

    def __init__(
        self, rng: np.random.Generator, groups: np.ndarray, exponent: float, cohesion: float
    ):
        self.groups = groups
        self.cohesion = cohesion
        self.weights = (1.0 + rng.permutation(len(groups))) ** -exponent
        self.order = np.argsort(groups, kind="stable").astype(np.int32)
        cumulated = np.concatenate([[0.0], np.cumsum(self.weights[self.order])])
        self.upper = cumulated[1:]
        # Where on the line of cumulated weights each group begins and ends.
        self.bounds = cumulated[np.concatenate([[0], np.cumsum(np.bincount(groups))])]

    def draw(self, rng: np.random.Generator, groups: np.ndarray) -> np.ndarray:
        """Return one thing for each of `groups`."""
        own = rng.random(len(groups)) < self.cohesion
        low = np.where(own, self.bounds[groups], 0.0)
        high = np.where(own, self.bounds[groups + 1], self.upper[-1])
        place = low + rng.random(len(groups)) * (high - low)
        index = np.searchsorted(self.upper, place, side="right")
        return self.order[np.minimum(index, len(self.order) - 1)]  # rounding may reach the end

    def draw_without_replacement(
        self, rng: np.random.Generator, group: int, taken: np.ndarray, size: int
    ) -> np.ndarray:
        """Return `size` different things for one group, none of those `taken`."""
        share = np.where(self.groups == group, self.cohesion, 0.0) / np.diff(self.bounds)[group]
        share += (1 - self.cohesion) / self.upper[-1]
        # The smallest of independent exponential times come in the order of draws by weight.
        times = rng.exponential(size=len(share)) / (share * self.weights)
        times[taken] = np.inf
        return np.argpartition(times, size - 1)[:size]


def _activity(
    rng: np.random.Generator, n_users: int, n_items: int, total: int, sigma: float
) -> np.ndarray:
    """Return log-normal numbers of interactions, each from 1 to `n_items`, that sum to `total`."""
    shape = np.exp(sigma * rng.standard_normal(n_users))
    low, high = 0.0, total / shape.min()
    while True:  # the scale at which the bounded numbers sum to the total, by bisection
        scale = (low + high) / 2
        activity = np.clip(scale * shape, 1, n_items)
        if scale in (low, high):
            break
        low, high = (scale, high) if activity.sum() < total else (low, scale)
    whole = np.floor(activity).astype(np.int64)
    # Rounding down leaves less than one a user over: it goes to the largest fractions.
    missing = total - int(whole.sum())
    whole[np.argsort(whole - activity, kind="stable")[:missing]] += 1
    return whole


def _interactions(
    rng: np.random.Generator, user_groups: np.ndarray, activity: np.ndarray, items: _GroupedChoice
) -> sp.csr_array:
    n_items = len(items.groups)
    indptr = np.concatenate([[0], np.cumsum(activity)])
    indices = np.empty(indptr[-1], dtype=np.int32)
    first = 0
    while first < len(activity):
        last = max(first + 1, int(np.searchsorted(indptr, indptr[first] + _BLOCK, "right")) - 1)
        block = slice(first, last)
        indices[indptr[first] : indptr[last]] = _draw_items(
            rng, user_groups[block], activity[block], items
        )
        first = last
    return sp.csr_array(
        (np.ones(len(indices), dtype=np.float32), indices, indptr.astype(np.int32)),
        shape=(len(activity), n_items),
    )


def _draw_items(
    rng: np.random.Generator, groups: np.ndarray, activity: np.ndarray, items: _GroupedChoice
) -> np.ndarray:
    """Return `activity` different items for each user, users one after the other.

    To draw with replacement until there are enough different items is to draw without.
    """
    n_items = len(items.groups)
    missing = activity.copy()
    wanted = activity.copy()  # 0 once a user has all
    pairs = np.empty(0, dtype=np.int64)  # user * n_items + item, of users who lack some
    complete = []
    for _ in range(_MAX_ROUNDS):
        users = np.repeat(np.arange(len(groups)), missing + (missing + 1) // 2)
        drawn = users * n_items + items.draw(rng, groups[users])
        pairs = np.concatenate([pairs, drawn])
        pairs = pairs[np.sort(np.unique(pairs, return_index=True)[1])]  # in the order drawn
        pairs = pairs[np.argsort(pairs // n_items, kind="stable")]
        users = pairs // n_items
        n_drawn = np.bincount(users, minlength=len(groups))
        rank = np.arange(len(pairs)) - (np.cumsum(n_drawn) - n_drawn)[users]
        is_complete = n_drawn >= wanted
        complete.append(pairs[is_complete[users] & (rank < wanted[users])])
        pairs = pairs[~is_complete[users]]
        wanted[is_complete] = 0
        missing = np.where(is_complete, 0, wanted - n_drawn)
        if len(pairs) == 0:
            break
    for user in np.flatnonzero(wanted):  # few, who take most of what they like
        taken = pairs[pairs // n_items == user] % n_items
        rest = items.draw_without_replacement(rng, groups[user], taken, missing[user])
        complete.append(user * n_items + np.concatenate([taken, rest]))
    return (np.sort(np.concatenate(complete)) % n_items).astype(np.int32)


def _word_counts(
    rng: np.random.Generator, item_groups: np.ndarray, words: _GroupedChoice, n_features: int
) -> sp.csr_array:
    n_words = 1 + rng.poisson(_WORDS_PER_ITEM - 1, size=len(item_groups))
    items = np.repeat(np.arange(len(item_groups), dtype=np.int32), n_words)
    drawn = words.draw(rng, item_groups[items])
    ones = np.ones(len(drawn), dtype=np.float32)
    return sp.coo_array((ones, (items, drawn)), shape=(len(item_groups), n_features)).tocsr()


def _ratings(
    rng: np.random.Generator, data: sp.csr_array, user_groups: np.ndarray, item_groups: np.ndarray
) -> np.ndarray:
    """Return whole ratings from 1 to 5: a bias of user and item, the group, and noise."""
    n_users, n_items = data.shape
    users = np.repeat(np.arange(n_users), np.diff(data.indptr))
    stars = rng.normal(3.0, 0.8, size=data.nnz)
    stars += rng.normal(0.0, 0.4, size=n_users)[users]
    stars += rng.normal(0.0, 0.4, size=n_items)[data.indices]
    stars += user_groups[users] == item_groups[data.indices]
    return np.clip(np.rint(stars), 1, 5)
