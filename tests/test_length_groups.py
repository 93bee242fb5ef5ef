"""Texts grouped by length: every token once, in order, whatever the lengths."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.text.length_groups import LengthGroups

LENGTHS = st.lists(st.integers(1, 70), max_size=40)


def grouped(lengths: list[int]) -> LengthGroups:
    """Texts that stand in a table one after the other, each behind 3 rows of something else."""
    starts = [sum(lengths[:i]) + 3 * (i + 1) for i in range(len(lengths))]
    return LengthGroups.of(torch.tensor(starts, dtype=torch.int64), torch.tensor(lengths).long())


@given(LENGTHS)
def test_every_token_has_one_row_and_those_of_a_text_stand_in_order(lengths: list[int]) -> None:
    groups = grouped(lengths)
    for text, length in enumerate(lengths):
        own = groups.exists & (groups.text == text)
        first = sum(lengths[:text]) + 3 * (text + 1)
        assert groups.place[own].tolist() == list(range(first, first + length))
        assert groups.within[own].tolist() == list(range(length))
        assert torch.all(own.nonzero().diff(dim=0) == 1)


@given(LENGTHS)
def test_groups_cover_the_rows_and_mark_what_only_fills_up(lengths: list[int]) -> None:
    groups = grouped(lengths)
    end = 0
    for group in groups.groups:
        assert group.rows.start == end
        end = group.rows.stop
        texts = groups.text[group.rows].view(-1, group.width)
        assert torch.all(texts == texts[:, :1])
        exists = groups.exists[group.rows].view(-1, group.width)
        assert torch.equal(exists, torch.ones_like(exists) if group.mask is None else group.mask)
    assert end == len(groups.place)
    widths = [group.width for group in groups.groups]
    assert widths == sorted(set(widths))
    assert groups.longest == max(widths, default=0)
    assert len(groups.place) <= 1.125 * sum(lengths)


@given(LENGTHS)
def test_mean_is_of_each_texts_own_tokens_in_the_order_given(lengths: list[int]) -> None:
    groups = grouped(lengths)
    table = torch.randn(sum(lengths) + 3 * len(lengths) + 3, 4, dtype=torch.float64)
    found = groups.mean(table[groups.place])
    for text, length in enumerate(lengths):
        first = sum(lengths[:text]) + 3 * (text + 1)
        expected = table[first : first + length].mean(0).float()
        torch.testing.assert_close(found[text], expected, atol=1e-6, rtol=1e-5)
