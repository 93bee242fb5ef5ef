"""From a ranking to a page: the shop's rules, near-duplicates, diversity and category caps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from recsys.config import PageConfig
from recsys.page.merchandising import Action, MerchandisingRules, RuledOrder, RulesInForce
from recsys.page.selection import Pool, distinct, marginally_relevant

LABELS: Final = {Action.PIN: "pinned", Action.BOOST: "boosted", Action.BURY: "buried"}


@dataclass(frozen=True)
class Composition:
    """A page, as places in the ranking it was made from.

    Attributes:
        places: int64 (k,), in the order of the page, none twice.
        labels: what a rule of the shop's did with the item, one of `LABELS`, by its place in the
            ranking; items without a rule are not in it.
        propensity: float64 (k,), probability of each item at its place given those above it; None
            where nothing was left to chance.
    """

    places: NDArray[np.int64]
    labels: dict[int, str] = field(default_factory=dict)
    propensity: NDArray[np.float64] | None = None

    @classmethod
    def first(cls, size: int, ranked: NDArray[np.int32]) -> Self:
        """The ranking itself, cut to its best `size` items."""
        return cls(np.arange(min(size, len(ranked))))


@dataclass(frozen=True)
class PageComposer:
    """Makes pages as configured and as the shop's rules say; without either, the best items.

    Attributes:
        config: what is looked at.
        rules: the shop's.
        vectors: float32 (items, d), unit rows in catalogue order.
        category: int32 (items,), number of the root category, -1 where there is none.
    """

    config: PageConfig
    rules: MerchandisingRules
    vectors: NDArray[np.float32]
    category: NDArray[np.int32]

    @property
    def selects(self) -> bool:
        """Whether other items on the page decide if an item stands there."""
        chosen = self.config
        return bool(chosen.diversity or chosen.category_cap or chosen.duplicate_similarity)

    def candidates(self, size: int, rules: RulesInForce) -> int:
        """Candidates that are wanted at least for a page of `size` items."""
        return max(size + rules.buried, self.config.pool if self.selects else 0)

    def compose(
        self,
        ranked: NDArray[np.int32],
        size: int,
        rules: RulesInForce,
        *,
        searched: bool,
        pool: int = 0,
    ) -> Composition:
        """Make a page, and what would come below it.

        The rules move and pin items; near-duplicates of better items are left out, and do not come
        back when the page is short; the best `pool` of the others are chosen from. A pinned item
        stands at its position whatever else is on the page; the others are chosen to go with it.
        Where fewer items are left than a pin's position, it closes up.

        Args:
            ranked: int32 (m,), item rows, best first, none twice.
            size: items on the page; fewer where not so many are left.
            rules: in force at the time of the request.
            searched: the shopper gave a query; then no category is capped.
            pool: items wanted, where those are more than `size`: the first `size` are the page, the
                others what would come next. Where items are chosen to go with each other, no more
                than are chosen from.
        """
        length = max(size, pool)
        if not self.selects and not len(rules.item):
            return Composition.first(length, ranked)
        ruled = rules.applied_to(ranked, size)
        on_page, wanted = (count - len(ruled.pinned) for count in (size, length))
        order = ruled.order
        if self.selects:
            order = self._selected(ranked, ruled, (on_page, wanted), searched=searched)
        places = _around(ruled, order[:wanted], length)
        applied = ruled.applied[places]
        moved = np.flatnonzero(applied >= 0)
        labels = {int(places[n]): LABELS[Action(applied[n])] for n in moved}
        return Composition(places, labels)

    def _selected(
        self,
        ranked: NDArray[np.int32],
        ruled: RuledOrder,
        counts: tuple[int, int],
        *,
        searched: bool,
    ) -> NDArray[np.int64]:
        """Places in the ranking, in the order chosen; `counts` on the page, and with what follows.

        What is on the page does not depend on how much follows.
        """
        on_page, wanted = counts
        order, largest = ruled.order, max(self.config.pool, on_page)
        if self.config.duplicate_similarity:
            kept = distinct(
                self.vectors[ranked[order]],
                self.vectors[ranked[ruled.pinned]],
                self.config.duplicate_similarity,
                largest,
            )
            order = order[kept]
        cap = 0 if searched else self.config.category_cap
        if not self.config.diversity and not cap:
            return order
        order = order[:largest]
        pool, pinned = (self._pool(ranked, ruled, places) for places in (order, ruled.pinned))
        return order[marginally_relevant(pool, pinned, self.config.diversity, cap, wanted)]

    def _pool(
        self, ranked: NDArray[np.int32], ruled: RuledOrder, places: NDArray[np.int64]
    ) -> Pool:
        item = ranked[places]
        buried = ruled.applied[places] == Action.BURY
        return Pool(self.vectors[item], self.category[item], buried)


def _around(ruled: RuledOrder, chosen: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The pinned items at their positions, the chosen ones in order between them."""
    free = np.setdiff1d(np.arange(size), ruled.positions)[: len(chosen)]
    slots = np.concatenate([ruled.positions, free])
    return np.concatenate([ruled.pinned, chosen])[np.argsort(slots)]
