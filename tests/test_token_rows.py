"""Texts as rows and on a grid: every token once, in order, whatever the lengths."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys.text.token_rows import TEXTS, WIDTH, TokenRows, mean_of_texts

LENGTHS = st.lists(st.integers(1, 70), max_size=40)


def laid_out(lengths: list[int]) -> TokenRows:
    """Texts that stand in a table one after the other, each behind 3 rows of something else."""
    starts = [sum(lengths[:i]) + 3 * (i + 1) for i in range(len(lengths))]
    return TokenRows.of(torch.tensor(starts, dtype=torch.int64), torch.tensor(lengths).long())


@given(LENGTHS)
def test_every_token_has_one_row_and_those_of_a_text_stand_in_order(lengths: list[int]) -> None:
    rows = laid_out(lengths)
    assert rows.texts == len(lengths)
    assert len(rows.place) == sum(lengths)
    for text, length in enumerate(lengths):
        own = rows.text == text
        first = sum(lengths[:text]) + 3 * (text + 1)
        assert rows.place[own].tolist() == list(range(first, first + length))
        assert rows.within[own].tolist() == list(range(length))
        assert torch.all(own.nonzero().diff(dim=0) == 1)


@given(LENGTHS)
def test_the_grid_has_a_line_for_each_text(lengths: list[int]) -> None:
    rows = laid_out(lengths)
    lines, width = rows.is_token.shape
    assert lines % TEXTS == width % WIDTH == 0
    assert lines - len(lengths) < TEXTS
    assert width - max(lengths, default=0) < WIDTH
    assert rows.row[rows.cell].tolist() == list(range(sum(lengths)))
    of_line = rows.row.view(lines, width)
    for text, length in enumerate(lengths):
        assert rows.is_token[text].tolist() == [step < length for step in range(width)]
        assert torch.all(rows.text[of_line[text]] == text)
        assert torch.all(rows.within[of_line[text, length:]] == length - 1)
    assert not rows.is_token[len(lengths) :].any()


@given(LENGTHS)
def test_mean_is_of_each_texts_own_tokens_in_the_order_given(lengths: list[int]) -> None:
    rows = laid_out(lengths)
    table = torch.randn(sum(lengths) + 3 * len(lengths) + 3, 4, dtype=torch.float64)
    found = mean_of_texts(torch.cat([table[rows.place], torch.randn(5, 4)]), rows)
    assert found.shape == (len(lengths), 4)
    for text, length in enumerate(lengths):
        first = sum(lengths[:text]) + 3 * (text + 1)
        expected = table[first : first + length].mean(0).float()
        torch.testing.assert_close(found[text], expected, atol=1e-6, rtol=1e-5)
