"""States of texts that stay in their file, and states that follow a changed catalogue."""

from __future__ import annotations

import itertools
import json
import os
import weakref
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from recsys.text.tables import ItemStates, StateTable, offsets_of

OFFSETS: Final = "offsets"
STATES: Final = "states"
_HEADER_SIZE: Final = 8
"""Bytes of a safetensors file that say how long its header is."""

TOKENS_PER_PART: Final = 65_536


class FileRows:
    """Rows of a matrix in a safetensors file, read as they are asked for.

    Rows that are looked at through a mapping stay resident with all that the kernel maps around
    them, two megabytes for a few kilobytes where its page cache has large folios; rows that are
    read don't.

    Args:
        path: of a file that was found to be sound.
        name: of a matrix in it.
        like: the same matrix, for its shape and dtype.

    Raises:
        OSError: the file can't be read.
    """

    def __init__(self, path: Path, name: str, like: Tensor) -> None:
        self._path = path
        self._like = like[:0].clone()
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        size = int.from_bytes(os.pread(self._file, _HEADER_SIZE, 0), "little")
        header = json.loads(os.pread(self._file, size, _HEADER_SIZE))
        self._start = _HEADER_SIZE + size + int(header[name]["data_offsets"][0])
        if hasattr(os, "posix_fadvise"):  # reads are scattered: what lies around is not wanted
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)

    def at(self, rows: NDArray[np.int64]) -> Tensor:
        """The rows (n,) as (n, d); those next to each other in the file come at one go.

        Raises:
            OSError: the file can't be read, or has become shorter.
        """
        step = np.diff(rows, prepend=-2)
        distinct = rows[step != 0]
        found = self._like.new_empty(len(distinct), self._like.shape[1])
        raw: NDArray[np.uint8] = found.view(torch.uint8).flatten().numpy()
        wanted = raw.data
        size = self._like.shape[1] * self._like.element_size()
        bounds = np.append(np.flatnonzero(np.diff(distinct, prepend=-2) != 1), len(distinct))
        for first, last in itertools.pairwise(bounds.tolist()):
            place = self._start + int(distinct[first]) * size
            self._fill(wanted[first * size : last * size], place)
        if len(distinct) < len(rows):
            found = found[torch.from_numpy(np.cumsum(step != 0) - 1)]
        return found

    def _fill(self, wanted: memoryview, place: int) -> None:
        done = 0
        while done < len(wanted):
            read = os.preadv(self._file, [wanted[done:]], place + done)
            if read == 0:
                raise OSError(f"{self._path} has become shorter while it was in use")
            done += read


@dataclass(frozen=True)
class FileStates(StateTable):
    """States in a safetensors file with `offsets` and `states`, which are mapped.

    Attributes:
        rows: the states once more, to be read from the file.
    """

    rows: FileRows

    @classmethod
    def open(cls, path: Path) -> Self:
        """The states of a file.

        Raises:
            OSError: there is no such file, or it can't be read.
            SafetensorError: it is damaged.
            KeyError: it lacks an array.
        """
        tensors = load_file(path)
        offsets, states = tensors[OFFSETS], tensors[STATES]
        return cls(offsets, states, FileRows(path, STATES, states))

    def at(self, place: Tensor) -> Tensor:
        """See `ItemStates`."""
        return self.rows.at(place.numpy())


@dataclass(frozen=True)
class JoinedStates(ItemStates):
    """States of texts of which most are another table's; none of theirs are copied.

    Attributes:
        before: a table.
        read: texts that are not in it.
        origin: int64 (n,), each text's row in `before` or, counted on from its end, in `read`.
    """

    before: ItemStates
    read: StateTable
    origin: Tensor

    @classmethod
    def of(cls, before: ItemStates, read: StateTable, rows: NDArray[np.int64]) -> Self:
        """The texts `rows` (n,) of `before` and, counted on from its end, of `read`."""
        new, origin = read.texts, torch.arange(before.texts)
        if isinstance(before, JoinedStates):
            origin, read, before = before.origin, before.read.extended(read), before.before
        known = before.texts + read.texts
        origin = torch.cat([origin, torch.arange(known - new, known)])[torch.from_numpy(rows)]
        added = origin >= before.texts
        used, place = torch.unique(origin[added], return_inverse=True)
        origin[added] = before.texts + place
        read = read.taken(used - before.texts)
        lengths = torch.cat([before.lengths, read.lengths])[origin]
        return cls(offsets_of(lengths), before, read, origin)

    def at(self, place: Tensor) -> Tensor:
        """See `ItemStates`."""
        text = torch.searchsorted(self.offsets, place, right=True) - 1
        source = self._starts[text] + place - self.offsets[text]
        end = int(self.before.offsets[-1])
        added = source >= end
        if not added.any():
            return self.before.at(source)
        found = self.read.states.new_empty(len(place), self.read.states.shape[1])
        found[added] = self.read.at(source[added] - end)
        found[~added] = self.before.at(source[~added])
        return found

    def together(self) -> Tensor:
        """See `ItemStates`."""
        found = self.read.states.new_empty(int(self.offsets[-1]), self.read.states.shape[1])
        for part in torch.arange(len(found)).split(TOKENS_PER_PART):
            found[part] = self.at(part)
        return found

    @cached_property
    def _starts(self) -> Tensor:
        """int64 (n,): each text's first token in `before` or, counted on from its end, `read`."""
        end = self.before.offsets[-1]
        return torch.cat([self.before.offsets[:-1], self.read.offsets[:-1] + end])[self.origin]
