"""Rankers by what they may look at: each tier adds a more expensive kind of text score."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

_CROSS_ENCODER: Final = "text_cross_"
_TEXT: Final = ("text_", "source_text", "source_taste", "source_new_arrivals", "sources")
"""Beginnings of the features that text takes part in: scores, sources, and how many sources."""


class RankerTier(StrEnum):
    """A ranker of the bundle, cheapest first; the last one makes the answers."""

    WITHOUT_TEXT = "without_text"
    BI_ENCODER = "bi_encoder"
    FULL = "full"

    @classmethod
    def up_to(cls, tier: RankerTier) -> list[RankerTier]:
        """The tiers as cheap as `tier`, itself last."""
        tiers = list(cls)
        return tiers[: tiers.index(tier) + 1]

    def columns(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The features that this tier looks at, in the order given."""
        hidden = {
            RankerTier.WITHOUT_TEXT: _TEXT,
            RankerTier.BI_ENCODER: (_CROSS_ENCODER,),
            RankerTier.FULL: (),
        }[self]
        return tuple(name for name in names if not name.startswith(hidden))
