"""Conversion of times to numbers. Datetimes are converted to nanoseconds since 1970."""

from __future__ import annotations

from datetime import UTC, date, datetime
from math import isfinite
from numbers import Integral, Real
from typing import Any

import numpy as np

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def as_times(times: Any) -> np.ndarray:
    """Return a column of times as int64 or float64.

    Parameters
    ----------
    times : array-like of shape (n,)
        Numbers, or datetimes of Python, numpy, pandas, Arrow or polars, in UTC if they have no time
        zone.

    Returns
    -------
    numbers : ndarray of shape (n,)
        int64 for integers, and for datetimes in nanoseconds since 1970 (UTC); float64 for floats.

    Raises
    ------
    ValueError
        If the column is not one-dimensional, or an entry is missing, infinite, out of range or
        neither a number nor a datetime.
    """
    if hasattr(getattr(times, "dtype", None), "tz"):  # pandas, with a time zone
        times = times.to_numpy(dtype=f"datetime64[{times.dtype.unit}]")
    times = np.asarray(times)
    if times.ndim != 1:
        raise ValueError(f"times must be one-dimensional, got an array of shape {times.shape}.")
    if times.dtype.kind == "O":
        times = _of_objects(times.tolist())
    if times.dtype.kind not in "iufM":
        raise ValueError(
            f"times must be numbers or datetimes, got an array of {times.dtype}; "
            "pandas.to_datetime reads text."
        )
    wrong = np.isnat(times) if times.dtype.kind == "M" else ~np.isfinite(times)
    if wrong.any():
        row = wrong.argmax()
        raise ValueError(f"times must be finite, got {times[row]} in row {row}.")
    if times.dtype.kind == "M":
        return _nanoseconds(times)
    if times.dtype.kind == "f":
        return times.astype(np.float64, copy=False)
    wrong = times > np.iinfo(np.int64).max
    if wrong.any():
        row = wrong.argmax()
        raise ValueError(f"times must fit into int64, got {times[row]} in row {row}.")
    return times.astype(np.int64, copy=False)


def as_cutoff(cutoff: Any, unit: str) -> int | float:
    """Return a date as a number of units since 1970 (UTC); a number is returned as it is.

    Parameters
    ----------
    cutoff : int, float, str, date, datetime or datetime64
        Text is a date in ISO format, such as ``"2020-12-31"`` or ``"2020-12-31T18:00"``, in UTC.
    unit : {"s", "ms", "us", "ns"}
        The unit of the times that the cutoff is compared with.

    Returns
    -------
    number : int or float
        Rounded up, so that times are at or after this number if and only if they are at or after
        the date.

    Raises
    ------
    ValueError
        If the cutoff is neither a finite number nor a date, or the unit is unknown.
    """
    if not isinstance(unit, str) or unit not in _PER_SECOND:
        raise ValueError(f"time_unit must be one of {list(_PER_SECOND)}, got {unit!r}.")
    if isinstance(cutoff, Integral) and not isinstance(cutoff, bool | np.timedelta64):
        return int(cutoff)
    if isinstance(cutoff, Real) and isfinite(cutoff) and not isinstance(cutoff, Integral):
        return float(cutoff)
    try:
        moment = np.datetime64(cutoff) if isinstance(cutoff, str) else cutoff
        nanoseconds = int(as_times([moment])[0])
    except (TypeError, ValueError) as error:
        raise ValueError(f"cutoff must be a number or a date, got {cutoff!r}.") from error
    return -(-nanoseconds * _PER_SECOND[unit] // 10**9)


def _of_objects(times: list) -> np.ndarray:
    """Return Python objects as an array of integers, floats or datetime64."""
    found = []
    for row, time in enumerate(times):
        if isinstance(time, Real | np.datetime64) and not isinstance(time, bool):
            found.append(time)
        elif hasattr(time, "to_datetime64"):  # a Timestamp of pandas, in UTC and with nanoseconds
            found.append(time.to_datetime64())
        elif isinstance(time, datetime):
            if time.tzinfo is not None:
                time = time.astimezone(UTC).replace(tzinfo=None)
            found.append(np.datetime64(time, "us"))
        elif isinstance(time, date):
            found.append(np.datetime64(time, "D"))
        else:
            raise ValueError(
                f"times must be numbers or datetimes, got {time!r} in row {row}; convert such "
                "times first, for example with pandas.to_datetime."
            )
    is_date = [isinstance(time, np.datetime64) for time in found]
    if len(set(is_date)) > 1:
        row = is_date.index(not is_date[0])
        raise ValueError(
            "times must be numbers or datetimes, not both, "
            f"got {times[0]!r} in row 0 and {times[row]!r} in row {row}."
        )
    return np.array(found) if found else np.empty(0, dtype=np.int64)


def _nanoseconds(times: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        exact = times.astype("datetime64[ns]")
        wrong = exact.astype(times.dtype) != times  # values that do not fit wrap around
    if wrong.any():
        row = wrong.argmax()
        raise ValueError(
            "times must be datetimes from 1677-09-22 to 2262-04-11, which int64 can hold in "
            f"nanoseconds, got {times[row]} in row {row}; use integers for others."
        )
    return exact.astype(np.int64)
