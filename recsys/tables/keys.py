"""Uniqueness of keys over more rows than fit into memory as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray


def repeated_rows(read: Callable[[], Iterable[pl.Series]]) -> NDArray[np.int64]:
    """Rows whose key stands in an earlier row already.

    Keys are compared as 64-bit hashes first (8 bytes a row); only where hashes meet are the keys
    read a second time and compared exactly. Nulls repeat nothing.

    Args:
        read: gives the keys in batches; called once or twice, with the same rows in the same order.

    Returns:
        int64, row numbers over all batches from 0, ascending.
    """
    hashes = np.concatenate([np.zeros(0, np.uint64), *(keys.hash().to_numpy() for keys in read())])
    met = _met(hashes)
    if not met.any():
        return np.zeros(0, np.int64)
    suspects, first = [], 0
    for keys in read():
        rows = first + np.flatnonzero(met[first : first + len(keys)])
        suspects.append(pl.DataFrame({"row": rows, "key": keys.gather(rows - first)}))
        first += len(keys)
    later = pl.concat(suspects).drop_nulls("key").filter(~pl.col("key").is_first_distinct())
    return later["row"].to_numpy()


def _met(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """For each of n hashes: whether another row has the same one (bool (n,))."""
    ordered = np.sort(hashes)
    shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not shared.size:
        return np.zeros(len(hashes), np.bool_)
    place = np.searchsorted(shared, hashes).clip(max=len(shared) - 1)
    met: NDArray[np.bool_] = shared[place] == hashes
    return met
