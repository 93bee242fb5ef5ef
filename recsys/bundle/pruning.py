"""Removing bundles that nobody needs any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from recsys.bundle.locks import remove_unread


@dataclass(frozen=True)
class Pruned:
    """What became of the versions that were not to be kept.

    Attributes:
        removed: gone, oldest first.
        in_use: kept all the same, since a process reads them; oldest first.
    """

    removed: tuple[str, ...]
    in_use: tuple[str, ...]

    @classmethod
    def from_folders(cls, bundles: Path, versions: Sequence[str]) -> Self:
        """Remove these versions, as far as nobody reads them."""
        gone = {version: remove_unread(bundles / version) for version in versions}
        removed, in_use = ([v for v in versions if gone[v] is wanted] for wanted in (True, False))
        return cls(tuple(removed), tuple(in_use))
