"""Interaction tables to matrices, and rankings back to ids."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from .._sklearn import Options, StrOptions, _fit_context
from ._ids import as_ids, distinct, indices, positions, refuse_repeated
from ._table import assemble, read_table


class InteractionEncoder(  # type: ignore[call-arg]
    TransformerMixin, BaseEstimator, auto_wrap_output_keys=None
):
    """Encode a table of interactions as a matrix, and decode rankings to ids.

    The table has one row per interaction. It is one of

    - a DataFrame, of pandas, polars or another library with columns by name, or an Arrow table;
    - a numpy structured array;
    - a tuple of arrays or lists: ``(users, items)``, ``(users, items, values)`` or
      ``(users, items, values, times)``, where values and times may be None.

    Ids are integers, strings, tuples or other hashable objects. All ids of users are of one kind,
    and so are all ids of items: ``1`` and ``"1"`` in the same column are an error.

    ``fit`` learns the items, which are the columns of the matrix, and the users, which are its
    rows by default. Recommenders accept rows of any users: to encode interactions of users that
    were not seen during ``fit``, pass their ids in the order of the rows,
    ``transform(table, users=ids)``.

    Parameters
    ----------
    user : str or int, default="user"
        Name of the column of user ids. Names are ignored if the table is a tuple.
    item : str or int, default="item"
        Name of the column of item ids.
    value : str, int or None, default=None
        Name of the column of values, such as ratings or counts. They must be finite and
        non-negative; zero means no interaction. If None, each row of the table has the value 1.
    time : str, int or None, default=None
        Name of the column of times: finite numbers, or datetimes, which are taken to be in UTC
        if they have no time zone.
    duplicates : {"sum", "last", "binary"}, default="sum"
        What to store if a user has several interactions with an item: the sum of the values, the
        value with the latest time (if times are equal or there are none, the value of the last
        row), or 1. ``"binary"`` also stores 1 for single interactions.
    unknown_users : {"error", "ignore"}, default="error"
        Whether ``transform`` raises an error for interactions of users that have no row, or
        ignores them.
    unknown_items : {"error", "ignore"}, default="error"
        Whether ``transform`` raises an error for interactions with items that were not seen
        during ``fit``, or ignores them.
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Data type of the matrix.

    Attributes
    ----------
    user_ids_ : ndarray of shape (n_users,)
        The id of each row, int64 if all ids are integers and object otherwise. Ids are sorted if
        they can be compared with each other, and otherwise in the order of their occurrence.
    item_ids_ : ndarray of shape (n_items,)
        The id of each column, in the same form.

    See Also
    --------
    filter_interactions : Drop users and items with few interactions.
    sklrec.model_selection.split_interactions : Hold out the latest interactions of each user.

    Notes
    -----
    Encode a table once, before a search. The rows of the table are interactions, so the
    cross-validation of a pipeline that starts with this encoder would split interactions instead
    of users.

    Examples
    --------
    >>> from sklrec.preprocessing import InteractionEncoder
    >>> encoder = InteractionEncoder(unknown_items="ignore")
    >>> X = encoder.fit_transform((["ann", "bob", "bob"], ["tea", "tea", "jam"]))
    >>> encoder.user_ids_, encoder.item_ids_
    (array(['ann', 'bob'], dtype=object), array(['jam', 'tea'], dtype=object))
    >>> X.toarray()
    array([[0., 1.],
           [1., 1.]], dtype=float32)

    Rows of users that were not seen during ``fit``:

    >>> encoder.transform((["eve", "eve"], ["jam", "rum"]), users=["eve"]).toarray()
    array([[1., 0.]], dtype=float32)

    Rankings of items are decoded to ids:

    >>> encoder.decode_ranking([[1, 0], [0, -1]])
    array([['tea', 'jam'],
           ['jam', None]], dtype=object)
    """

    _parameter_constraints: dict = {
        "user": [str, Integral],
        "item": [str, Integral],
        "value": [str, Integral, None],
        "time": [str, Integral, None],
        "duplicates": [StrOptions({"sum", "last", "binary"})],
        "unknown_users": [StrOptions({"error", "ignore"})],
        "unknown_items": [StrOptions({"error", "ignore"})],
        "dtype": [Options(type, {np.float32, np.float64})],
    }

    def __init__(
        self,
        *,
        user: str | int = "user",
        item: str | int = "item",
        value: str | int | None = None,
        time: str | int | None = None,
        duplicates: Literal["sum", "last", "binary"] = "sum",
        unknown_users: Literal["error", "ignore"] = "error",
        unknown_items: Literal["error", "ignore"] = "error",
        dtype: type = np.float32,
    ) -> None:
        self.user = user
        self.item = item
        self.value = value
        self.time = time
        self.duplicates = duplicates
        self.unknown_users = unknown_users
        self.unknown_items = unknown_items
        self.dtype = dtype

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> InteractionEncoder:
        """Learn the users and the items of a table.

        Parameters
        ----------
        X : DataFrame, structured array or tuple of arrays
            One row per interaction.
        y : None
            Ignored.

        Returns
        -------
        self : InteractionEncoder
            The fitted encoder.

        Raises
        ------
        TypeError
            If X is no such table or ids cannot be hashed.
        ValueError
            If the table is empty or lacks a column, if columns have different lengths, if an id
            is missing or of another kind than the first of its column, or if a value or a time
            is not allowed.
        """
        users, items, _, _ = read_table(X, (self.user, self.item, self.value, self.time))
        if not users.size:
            raise ValueError("X holds no interactions, at least one is needed to fit.")
        self.user_ids_ = distinct(users, "user")
        self.item_ids_ = distinct(items, "item")
        return self

    def transform(
        self, X: Any, *, users: ArrayLike | None = None, return_time: bool = False
    ) -> sp.csr_array | tuple[sp.csr_array, sp.csr_array]:
        """Return the matrix of a table.

        Parameters
        ----------
        X : DataFrame, structured array or tuple of arrays
            One row per interaction. It may be empty.
        users : array-like of shape (n_users,) or None, default=None
            The ids of the rows, without repetition. They may but need not have been seen during
            ``fit``. Users without interactions get an empty row. By default ``user_ids_``.
        return_time : bool, default=False
            Whether to return the times of the interactions as well.

        Returns
        -------
        matrix : csr_array of shape (n_users, n_items)
            The interactions, with sorted indices and without explicit zeros.
        times : csr_array of shape (n_users, n_items)
            The latest time of the interactions of each stored entry of the matrix, which may be
            zero, with the same sparsity structure. Integers are int64, datetimes are int64 in
            nanoseconds since 1970 (UTC), and floats are float64. Only returned if `return_time`
            is True.

        Raises
        ------
        NotFittedError
            If the encoder is not fitted.
        TypeError
            If X is no such table or ids cannot be hashed.
        ValueError
            As for ``fit``; also if users or items are unknown and not ignored, if `users` holds an
            id twice, or if `return_time` is True and X has no times.
        """
        check_is_fitted(self)
        user_column, item_column, values, times = read_table(
            X, (self.user, self.item, self.value, self.time)
        )
        if return_time and times is None:
            raise ValueError("return_time=True needs a table with times, but X has none.")
        row_ids = self.user_ids_
        if users is not None:
            row_ids = as_ids(users, "user")
            refuse_repeated(row_ids)
        rows = positions(user_column, row_ids, "user")
        cols = positions(item_column, self.item_ids_, "item")
        _check_unknown(
            user_column[rows < 0],
            "user",
            "fit has not seen" if users is None else "`users` does not list",
            "give them rows of their own with transform(X, users=...), "
            "or leave them out with unknown_users='ignore'",
            self.unknown_users,
        )
        _check_unknown(
            item_column[cols < 0],
            "item",
            "fit has not seen",
            "leave them out with unknown_items='ignore'",
            self.unknown_items,
        )
        known = (rows >= 0) & (cols >= 0)
        if not known.all():
            rows, cols = rows[known], cols[known]
            values = None if values is None else values[known]
            times = None if times is None else times[known]
        shape = (row_ids.size, self.item_ids_.size)
        matrix, latest = assemble(
            rows, cols, values, times, shape=shape, duplicates=self.duplicates, dtype=self.dtype
        )
        return (matrix, latest) if return_time else matrix

    def fit_transform(
        self, X: Any, y: Any = None, *, return_time: bool = False
    ) -> sp.csr_array | tuple[sp.csr_array, sp.csr_array]:
        """Fit to a table and return its matrix.

        Parameters
        ----------
        X : DataFrame, structured array or tuple of arrays
            One row per interaction.
        y : None
            Ignored.
        return_time : bool, default=False
            Whether to return the times of the interactions as well.

        Returns
        -------
        matrix : csr_array of shape (n_users, n_items)
            The interactions.
        times : csr_array of shape (n_users, n_items)
            Only returned if `return_time` is True; see ``transform``.
        """
        return self.fit(X).transform(X, return_time=return_time)

    def user_indices(self, ids: ArrayLike) -> np.ndarray:
        """Return the rows of users, given their ids.

        Parameters
        ----------
        ids : array-like of shape (n,)
            Ids of users.

        Returns
        -------
        rows : ndarray of shape (n,), dtype int64
            The position of each id in ``user_ids_``. For an id that ``fit`` has not seen it is -1
            with ``unknown_users="ignore"``.

        Raises
        ------
        NotFittedError
            If the encoder is not fitted.
        ValueError
            If an id is missing or of another kind than those of ``fit``, or if it is unknown and
            ``unknown_users="error"``.

        Examples
        --------
        >>> from sklrec.preprocessing import InteractionEncoder
        >>> encoder = InteractionEncoder().fit((["ann", "bob"], ["tea", "jam"]))
        >>> encoder.user_indices(["bob", "ann"])
        array([1, 0])
        """
        check_is_fitted(self)
        return indices(ids, self.user_ids_, "user", self.unknown_users)

    def item_indices(self, ids: ArrayLike) -> np.ndarray:
        """Return the columns of items, given their ids, such as to rank only these.

        Parameters
        ----------
        ids : array-like of shape (n,)
            Ids of items.

        Returns
        -------
        columns : ndarray of shape (n,), dtype int64
            The position of each id in ``item_ids_``. For an id that ``fit`` has not seen it is -1
            with ``unknown_items="ignore"``.

        Raises
        ------
        NotFittedError
            If the encoder is not fitted.
        ValueError
            If an id is missing or of another kind than those of ``fit``, or if it is unknown and
            ``unknown_items="error"``.

        Examples
        --------
        >>> from sklrec.preprocessing import InteractionEncoder
        >>> encoder = InteractionEncoder().fit((["ann", "bob"], ["tea", "jam"]))
        >>> encoder.item_indices(["tea", "jam", "tea"])
        array([1, 0, 1])
        """
        check_is_fitted(self)
        return indices(ids, self.item_ids_, "item", self.unknown_items)

    def decode_ranking(self, ranking: ArrayLike) -> np.ndarray:
        """Return the ids of ranked items.

        Parameters
        ----------
        ranking : array-like of int, such as of shape (n_users, k)
            Item indices, or -1 for none, as returned by ``predict_ranking``.

        Returns
        -------
        ids : ndarray of the shape of `ranking`, dtype object
            Item ids, and None in the place of -1.

        Raises
        ------
        NotFittedError
            If the encoder is not fitted.
        ValueError
            If `ranking` holds values other than -1 and item indices.
        """
        check_is_fitted(self)
        ranking = np.asarray(ranking)
        n_items = self.item_ids_.size
        if ranking.dtype.kind not in "iu":
            raise ValueError(f"ranking must hold item indices, got an array of {ranking.dtype}.")
        wrong = ranking[(ranking < -1) | (ranking >= n_items)]
        if wrong.size:
            raise ValueError(
                f"ranking must hold item indices from 0 to {n_items - 1}, or -1, got {wrong[0]}."
            )
        ids = np.empty(n_items + 1, dtype=object)
        ids[:-1] = self.item_ids_
        return ids[ranking]  # index -1 is the last one, None

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns: the item ids as strings.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of shape (n_items,), dtype object
            ``str(id)`` of each item.
        """
        check_is_fitted(self)
        return np.array([str(id_) for id_ in self.item_ids_], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # A table of ids is not a numeric matrix, so that scikit-learn's checks do not apply. This
        # tag makes check_estimator skip them, as for DictVectorizer.
        tags.input_tags.two_d_array = False
        return tags


def _check_unknown(ids: np.ndarray, name: str, reason: str, advice: str, action: str) -> None:
    """Raise an error for unknown ids unless `action` is to ignore them."""
    unknown = distinct(ids, name)
    if unknown.size and action == "error":
        raise ValueError(
            f"X holds {unknown.size} {name}(s) that {reason}, the first is {ids.tolist()[0]!r}: "
            f"{advice}."
        )
