"""From scores to ranked rows; ties by a seeded hash of ids, never by the order of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def id_hashes(ids: Sequence[str], seed: int) -> NDArray[np.uint64]:
    """64-bit hashes of ids, uint64 (n,); they depend on the id and the seed only (BLAKE2b)."""
    key = seed.to_bytes(8, "little")
    digests = b"".join(blake2b(i.encode(), digest_size=8, key=key).digest() for i in ids)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def tie_keys(customers: NDArray[np.uint64], items: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Keys that order tied items for each customer in their own way: uint64 (n, m).

    With another order for each customer, a metric of tied scores averaged over customers comes
    close to its expectation under random order.

    Args:
        customers: (n,), hashes of customer ids.
        items: (m,), hashes of item ids.
    """
    mixed = customers[:, None] ^ items[None, :]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))  # the finaliser of SplitMix64


def top_k(scores: NDArray[np.floating], ties: NDArray[np.uint64], k: int) -> NDArray[np.int32]:
    """The k best columns of each row, best first.

    Args:
        scores: (n, m), higher is better; -inf keeps a column out of the list; no NaN.
        ties: (n, m), the smaller key goes first among equal scores.
        k: places; larger than m lists all columns.

    Returns:
        int32 (n, k), columns; -1 where a row has fewer than k finite scores.
    """
    listed = np.full((len(scores), k), -1, np.int32)
    if not scores.size:
        return listed
    kept = min(k, scores.shape[1])
    threshold = -np.partition(-scores, kept - 1, axis=1)[:, kept - 1]
    row, column = np.nonzero((scores >= threshold[:, None]) & (scores > -np.inf))
    order = np.lexsort((ties[row, column], -scores[row, column], row))
    row, column = row[order], column[order]
    starts = np.searchsorted(row, np.arange(len(scores)))
    place = np.arange(len(row)) - starts[row]
    listed[row[place < k], place[place < k]] = column[place < k]
    return listed
