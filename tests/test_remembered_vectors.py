"""Vectors of texts come back as they were, or not at all."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.text.remembered_vectors import RememberedVectors

SIZE = 3
ROWS = st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=6)


def vectors_of(rows: torch.Tensor) -> torch.Tensor:
    return rows.unsqueeze(1).float() + torch.tensor([0.0, 0.25, 0.5])


@given(ROWS, st.integers(0, 9))
def test_what_is_known_is_what_was_added(added: list[list[int]], capacity: int) -> None:
    remembered = RememberedVectors(SIZE, capacity)
    for each in added:
        rows = torch.tensor(each, dtype=torch.int64)
        remembered.add(rows, vectors_of(rows))
    every = torch.arange(41)
    found = remembered.known(every)
    known = ~found[:, 0].isnan()
    assert torch.equal(found[known], vectors_of(every[known]))
    assert found[~known].isnan().all()
    assert set(every[known].tolist()) <= {row for each in added for row in each}
    assert int(known.sum()) <= capacity


@given(st.lists(st.integers(0, 40), max_size=30, unique=True))
def test_nothing_is_lost_while_there_is_room(each: list[int]) -> None:
    remembered = RememberedVectors(SIZE, 41)
    rows = torch.tensor(each, dtype=torch.int64)
    remembered.add(rows, vectors_of(rows))
    assert torch.equal(remembered.known(rows), vectors_of(rows))
    remembered.clear()
    assert remembered.known(rows).isnan().all()
