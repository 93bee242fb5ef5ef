"""What it costs and changes to store item states in one precision or another."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys.interactions import Candidates
from recsys.text import (
    FileRows,
    FileStates,
    ShopperTextKind,
    ShopperTexts,
    StateTable,
    TextScorer,
    TokenTable,
    encode_states,
)
from recsys.text.encode import STORED_AS, Precision

CATALOGUE: Final = 20_000
"""Items of the file whose reads are timed: those of the shop, over and over."""

CANDIDATES: Final = 100
SHOPPERS: Final = 50
_TOP: Final = 10
_LARGEST_INT8: Final = 127
_IO: Final = Path("/proc/self/io")

Asked = tuple[ShopperTexts, Candidates]


class StoredStates(BaseModel):
    """One precision. Errors are against float32 states, both in float32 arithmetic."""

    stored_as: str
    chosen: bool
    """Whether bundles hold it."""

    mib_per_100_000_items: float
    largest_error: float
    """Of a logit."""

    typical_error: float
    """Root mean square."""

    same_top_10: float
    """Share of a request's ten best candidates that are so by float32 states, too."""

    warm_ms: float
    """Median of scoring 100 candidates, their states in memory."""

    cold_ms: float
    """The same with no page of the file in memory."""

    cold_read_mib: float | None
    """Median read from the disk meanwhile, by the kernel's count; None where it keeps none."""


@dataclass(frozen=True)
class Int8States(StateTable):
    """States as int8 with a scale for each token.

    Attributes:
        scale: float32 (m, 1).
    """

    scale: Tensor

    @classmethod
    def of(cls, table: StateTable) -> Self:
        """The nearest of 255 even steps between a token's largest value and its opposite."""
        scale = table.states.abs().amax(1, keepdim=True).clamp(min=1e-9) / _LARGEST_INT8
        return cls(table.offsets, (table.states / scale).round().to(torch.int8), scale)

    def at(self, place: Tensor) -> Tensor:
        """States float32 (n, d) of tokens int64 (n,)."""
        return self.states[place] * self.scale[place]


@dataclass(frozen=True)
class Int8FileStates(Int8States):
    """The same, read from a file as they are asked for.

    Attributes:
        rows: `states` once more.
        scales: `scale` once more.
    """

    rows: FileRows
    scales: FileRows

    def at(self, place: Tensor) -> Tensor:
        """States float32 (n, d) of tokens int64 (n,)."""
        rows = place.numpy()
        return self.rows.at(rows) * self.scales.at(rows)


def measure_item_states(
    scorer: TextScorer, titles: Sequence[str], folder: Path, repeats: int, seed: int
) -> list[StoredStates]:
    """Errors on drawn shoppers and candidates, and time with and without the file in memory.

    Args:
        scorer: of a bundle; its weights and tokenizer are taken.
        titles: texts of the catalogue.
        folder: on the disk whose reads are timed; nothing stays in it.
        repeats: runs that each median is of.
        seed: of the draws.
    """
    exact = _exact_states(scorer, titles)
    tables: dict[str, StateTable] = {
        "float16": replace(exact, states=exact.states.to(torch.float16)),
        "bfloat16": replace(exact, states=exact.states.to(torch.bfloat16)),
        "int8": Int8States.of(exact),
    }
    asked = [_drawn(scorer, len(titles), seed + i) for i in range(SHOPPERS)]
    expected = _logits(scorer, exact, asked)
    found = []
    for name, table in tables.items():
        logits = _logits(scorer, table, asked)
        error = np.abs(logits - expected)
        cold, warm, read = _times(scorer, table, folder, repeats, seed)
        found.append(
            StoredStates(
                stored_as=name,
                chosen=table.states.dtype == STORED_AS,
                mib_per_100_000_items=_bytes(table) / len(titles) * 100_000 / (1 << 20),
                largest_error=float(error.max()),
                typical_error=float(np.sqrt((error**2).mean())),
                same_top_10=_same_top(logits, expected),
                warm_ms=warm,
                cold_ms=cold,
                cold_read_mib=read,
            )
        )
    return found


def _exact_states(scorer: TextScorer, titles: Sequence[str]) -> StateTable:
    tokens = TokenTable.build(scorer.tokenizer, titles, int(scorer.states.lengths.max()))
    join = scorer.model.shape.join_layer
    return encode_states(
        scorer.model.bert, tokens, layer=join, precision="fp32", stored_as=torch.float32
    )


def _drawn(scorer: TextScorer, items: int, seed: int) -> Asked:
    """A shopper with as many titles as the model takes, and candidates."""
    rng = np.random.default_rng(seed)
    segments = scorer.model.shape.max_segments
    shopper = ShopperTexts(
        np.array([0, segments]),
        rng.integers(0, items, segments),
        np.array([int(ShopperTextKind.HISTORY)]),
        (),
    )
    drawn = rng.choice(items, min(CANDIDATES, items), replace=False).astype(np.int32)
    ranks = np.zeros((len(drawn), 0), np.int32)
    return shopper, Candidates(np.array([0, len(drawn)]), drawn, (), ranks)


def _logits(scorer: TextScorer, table: StateTable, asked: list[Asked]) -> NDArray[np.float32]:
    """Of all requests, float32 (requests, candidates, 2), in full precision."""
    exact = _over(scorer, table, "fp32")
    return np.stack([exact.scores(*one) for one in asked])


def _over(scorer: TextScorer, table: StateTable, precision: Precision) -> TextScorer:
    """A scorer of the same model over other states, that has computed nothing yet."""
    budget = scorer.query_max_tokens
    own = TextScorer(scorer.model, table, scorer.tokenizer, budget, precision)
    return own.forgetful()


def _same_top(logits: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    best = [np.argsort(-one.mean(-1), axis=1)[:, :_TOP] for one in (logits, expected)]
    shared = [len(np.intersect1d(*pair)) / len(pair[0]) for pair in zip(*best, strict=True)]
    return float(np.mean(shared))


def _times(
    scorer: TextScorer, table: StateTable, folder: Path, repeats: int, seed: int
) -> tuple[float, float, float | None]:
    """Medians: milliseconds without and with the file in memory, MiB read without."""
    large = _repeated(table)
    items = len(large.offsets) - 1
    asked = [_drawn(scorer, items, seed + i) for i in range(repeats)]
    cold, warm, read = [], [], []
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "states.safetensors"
        names = [field.name for field in fields(large)]
        save_file({name: getattr(large, name) for name in names}, path)
        _ready(_over(scorer, large, scorer.precision), asked)
        del large
        for one in asked:
            _drop_pages(path)
            stored = _over(scorer, _stored(table, path), scorer.precision)
            _ready(stored, [])
            before = _read_bytes()
            cold.append(_timed_ms(stored, one))
            read.append(_read_bytes() - before)
            warm.append(_timed_ms(stored, one))
            del stored
    mib = float(np.median(read)) / (1 << 20) if _IO.exists() else None
    return float(np.median(cold)), float(np.median(warm)), mib


def _stored(like: StateTable, path: Path) -> StateTable:
    """The table of the same kind in a file."""
    if not isinstance(like, Int8States):
        return FileStates.open(path)
    tensors = load_file(path)
    offsets, states, scale = (tensors[name] for name in ("offsets", "states", "scale"))
    rows, scales = FileRows(path, "states", states), FileRows(path, "scale", scale)
    return Int8FileStates(offsets, states, scale, rows, scales)


def _repeated(table: StateTable) -> StateTable:
    times = -(-CATALOGUE // (len(table.offsets) - 1))
    parts = {
        field.name: getattr(table, field.name).repeat(times, 1)
        for field in fields(table)
        if field.name != "offsets"
    }
    lengths = table.lengths.repeat(times)
    return replace(table, offsets=torch.cat([torch.zeros(1).long(), lengths.cumsum(0)]), **parts)


def _ready(scorer: TextScorer, asked: list[Asked]) -> None:
    """Cast the weights, and let the libraries see the sizes that are asked for."""
    nobody = ShopperTexts(
        np.zeros(2, np.int64),
        np.zeros(0, np.int64),
        np.array([int(ShopperTextKind.NOTHING)]),
        (),
    )
    first = Candidates(np.array([0, 1]), np.zeros(1, np.int32), (), np.zeros((1, 0), np.int32))
    for shopper, candidates in [(nobody, first), *asked]:
        _timed_ms(scorer, (shopper, candidates))


def _timed_ms(scorer: TextScorer, asked: Asked) -> float:
    started = time.perf_counter()
    scorer.scores(*asked)
    return 1_000 * (time.perf_counter() - started)


def _drop_pages(path: Path) -> None:
    """Let the kernel forget a file that is mapped nowhere; what it holds is on the disk first."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read_bytes() -> int:
    """What this process had read from disks so far; 0 where the kernel doesn't say."""
    if not _IO.exists():
        return 0
    lines = dict(line.split(": ") for line in _IO.read_text(encoding="ascii").splitlines())
    return int(lines["read_bytes"])


def _bytes(table: StateTable) -> int:
    parts = (getattr(table, field.name) for field in fields(table))
    return sum(part.numel() * part.element_size() for part in parts)
