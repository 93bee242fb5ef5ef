"""Shoppers who visit a shop front of another's making: what they ask for, and what they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.errors import DataError
from recsys.simulation.behaviour import Behaviour
from recsys.simulation.config import SimulationConfig
from recsys.simulation.oracle import LastPurchases, rebuy_probability
from recsys.simulation.policy import Page, shelf_rows
from recsys.simulation.product_types import DEPARTMENTS
from recsys.simulation.responses import Slots, draw_acts
from recsys.simulation.visits import SECOND, draw_visits

_VISITS, _ACTS, _REBUYS = 10, 11, 12
"""Streams of randomness."""

_OPEN_FROM, _OPEN_UNTIL = 8 * 3600 * SECOND, 23 * 3600 * SECOND
_DECIDES_WITHIN: Final = (20 * SECOND, 90 * SECOND)


@dataclass(frozen=True)
class Opening:
    """A list that a shopper opens.

    Attributes:
        user: row of the shopper.
        day: counted from the shop's first.
        number: of the list among the shopper's of the day, from 0.
        time: microseconds since the day's midnight.
        user_id: the shopper.
        session_id: the visit; no other visit of these shoppers has it.
        query: what was typed, "" where the page is no search.
        category: the department whose page it is, "" for others.
        kind: the product type a search is for, -1 where there is none.
    """

    user: int
    day: int
    number: int
    time: int
    user_id: str
    session_id: str
    query: str
    category: str
    kind: int


@dataclass(frozen=True)
class VisitorAct:
    """What a shopper did with an item.

    Attributes:
        event_type: as in the table `events`.
        item_id: the item.
        time: microseconds since the day's midnight.
        position: place in the list, from 0; None outside lists.
        price: of a piece that was bought, else None.
        quantity: pieces that were bought, else None.
    """

    event_type: str
    item_id: str
    time: int
    position: int | None = None
    price: float | None = None
    quantity: int | None = None


@dataclass(frozen=True)
class ListValue:
    """What is to be expected of a list under the true probabilities, exactly.

    Attributes:
        clicks: expected number.
        purchases: expected number.
        revenue: expected price times pieces.
        best_purchases: `purchases` of the best list of the shop's list size, from what there is.
        ndcg: discounted gain of the chances that a look leads to a purchase, over the best list's;
            1 where nothing could be bought.
    """

    clicks: float
    purchases: float
    revenue: float
    best_purchases: float
    ndcg: float


class Visitors:
    """The shoppers of a simulated shop, from the first day on that is asked for.

    They come and choose as in the shop's own log, with three differences. There is no page of new
    arrivals: its visits go to the home page. Who searches passes over what is not of the type
    searched for. No reviews are written. What was bought and is used up is bought again outside
    lists, as in the log.

    A shopper's visits depend on the seeds and the day alone, their acts also on the list: what
    others are shown, and in which order calls are answered, changes nothing. `end_day` says that a
    day is over.

    Args:
        config: the shop.
        seeds: the shop's, and one of the visitors'.
        behaviour: items, shoppers and their probabilities.
        purchases: what they bought before.
    """

    def __init__(
        self,
        config: SimulationConfig,
        seeds: tuple[int, int],
        behaviour: Behaviour,
        purchases: LastPurchases,
    ) -> None:
        self._config = config
        self._seeds = seeds
        self._behaviour = behaviour
        pairs = zip(purchases.user.tolist(), purchases.item.tolist(), strict=True)
        self._bought = dict(zip(pairs, purchases.day.tolist(), strict=True))

    @property
    def list_size(self) -> int:
        """Items that a page asks for."""
        return self._config.policy.list_size

    def user_id(self, user: int) -> str:
        """Of a shopper's row."""
        return self._behaviour.shoppers.user_ids[user]

    def moment(self, day: int, time_us: int) -> datetime:
        """Microseconds since a day's midnight as a time, UTC."""
        start = datetime.combine(self._config.start, time(), UTC)
        return start + timedelta(days=day, microseconds=time_us)

    def openings(self, day: int, users: int | None = None) -> dict[int, list[Opening]]:
        """The lists that are opened on a day, by shopper row, each shopper's in order of time.

        Args:
            day: the day.
            users: shoppers from this row on stay away; None lets all come.
        """
        rng = self._rng(_VISITS, day)
        shoppers, catalogue = self._behaviour.shoppers, self._behaviour.catalogue
        visits = draw_visits(self._config, shoppers, catalogue, day, rng)
        found: dict[int, list[Opening]] = {}
        for row in np.lexsort((visits.time, visits.list_user)).tolist():
            user = int(visits.list_user[row])
            if users is not None and user >= users:
                continue
            page, argument = int(visits.requests.page[row]), int(visits.requests.argument[row])
            own = found.setdefault(user, [])
            own.append(
                Opening(
                    user=user,
                    day=day,
                    number=len(own),
                    time=int(visits.time[row]),
                    user_id=shoppers.user_ids[user],
                    session_id=f"v{self._seeds[1]}-{day:04d}-{int(visits.visit[row]):06d}",
                    query=visits.queries[row] or "",
                    category=DEPARTMENTS[argument] if page == Page.DEPARTMENT else "",
                    kind=argument if page == Page.SEARCH else -1,
                )
            )
        return found

    def respond(self, opening: Opening, item_ids: Sequence[str]) -> list[VisitorAct]:
        """What a shopper does with a list, in order of time; drawn from the true probabilities.

        Raises:
            DataError: an item is not of this shop.
        """
        rows = self._items(item_ids)
        position = self._looked_through(opening, rows)
        slots = Slots(
            row=np.zeros(len(position), np.int64),
            position=position,
            user=np.full(len(position), opening.user),
            item=rows[position],
            propensity=np.ones(len(position)),
            time=np.full(len(position), opening.time),
        )
        rng = self._rng(_ACTS, opening.day, opening.user, opening.number)
        drawn = draw_acts(self._behaviour, slots, opening.day, rng)
        acts = []
        for event_type, act in drawn.items():
            for slot in np.flatnonzero(act.happened).tolist():
                place = int(position[slot])
                done = VisitorAct(event_type, item_ids[place], int(act.time[slot]), place)
                bought = event_type == "purchase"
                acts.append(self._paid(done, int(rows[place]), rng) if bought else done)
        return sorted(acts, key=lambda act: act.time)

    def buy_again(self, day: int, users: int | None = None) -> dict[int, list[VisitorAct]]:
        """Visits straight to product pages, to buy what was used up: acts by shopper row."""
        last = self._last_purchases
        chance = rebuy_probability(self._behaviour, last, range(day, day + 1))
        rng = self._rng(_REBUYS, day)
        due = rng.random(len(chance)) < chance
        item_ids = self._behaviour.catalogue.item_ids
        found: dict[int, list[VisitorAct]] = {}
        for user, item in zip(last.user[due].tolist(), last.item[due].tolist(), strict=True):
            name, seen = item_ids[item], int(rng.integers(_OPEN_FROM, _OPEN_UNTIL))
            bought = VisitorAct("purchase", name, seen + int(rng.integers(*_DECIDES_WITHIN)))
            acts = [VisitorAct("view", name, seen), self._paid(bought, item, rng)]
            if users is None or user < users:
                found.setdefault(user, []).extend(acts)
        return found

    def end_day(self, day: int, purchases: Sequence[tuple[int, str]]) -> None:
        """Remember what shopper rows bought on a day: it will be used up."""
        rows = self._items([item for _, item in purchases]).tolist()
        users = [user for user, _ in purchases]
        self._bought |= dict.fromkeys(zip(users, rows, strict=True), day)

    def click_chances(self, opening: Opening, item_ids: Sequence[str]) -> NDArray[np.float64]:
        """float64 (n,): chance of a click on each item where it is looked at; 0 if passed over.

        Raises:
            DataError: an item is not of this shop.
        """
        rows = self._items(item_ids)
        position = self._looked_through(opening, rows)
        chances = np.zeros(len(rows))
        chances[position] = self._behaviour.click(self._affinity(opening, rows[position]))
        return chances

    def value(self, opening: Opening, item_ids: Sequence[str]) -> ListValue:
        """What is to be expected of a list, and of the best one of the shop's list size.

        Raises:
            DataError: an item is not of this shop.
        """
        rows = self._items(item_ids)
        position = self._looked_through(opening, rows)
        shown = rows[position]
        affinity = self._affinity(opening, shown)
        looks = self._behaviour.examination(position)
        bought = self._behaviour.purchase(affinity).astype(np.float64)
        catalogue = self._behaviour.catalogue
        spent = catalogue.price[shown] * (1 + catalogue.further_pieces[shown])
        best = self._best(opening)
        ideal = float(best @ _discount(np.arange(len(best))))
        return ListValue(
            clicks=float(looks @ self._behaviour.click(affinity)),
            purchases=float(looks @ bought),
            revenue=float(looks @ (bought * spent)),
            best_purchases=float(best @ self._behaviour.examination(np.arange(len(best)))),
            ndcg=float(bought @ _discount(position)) / ideal if ideal else 1.0,
        )

    def _best(self, opening: Opening) -> NDArray[np.float64]:
        """Chances of a purchase after a look, of the best list, from the top down."""
        page, argument = Page.HOME, 0
        if opening.kind >= 0:
            page, argument = Page.SEARCH, opening.kind
        elif opening.category:
            page, argument = Page.DEPARTMENT, DEPARTMENTS.index(opening.category)
        catalogue, policy = self._behaviour.catalogue, self._config.policy
        shelf = shelf_rows(policy, catalogue, opening.day, page, argument)
        chance = self._behaviour.purchase(self._affinity(opening, shelf))
        return np.sort(chance)[::-1][: self.list_size].astype(np.float64)

    def _looked_through(self, opening: Opening, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of a list that hold what the shopper came for, ascending."""
        if opening.kind < 0:
            return np.arange(len(rows))
        return np.flatnonzero(self._behaviour.catalogue.kind[rows] == opening.kind)

    def _affinity(self, opening: Opening, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        user = np.array([opening.user])
        affinity = self._behaviour.affinity(user, rows, opening.day)
        return np.asarray(affinity[0], np.float32)

    def _paid(self, act: VisitorAct, item: int, rng: np.random.Generator) -> VisitorAct:
        catalogue = self._behaviour.catalogue
        pieces = 1 + int(rng.poisson(catalogue.further_pieces[item]))
        return replace(act, price=float(catalogue.price[item]), quantity=pieces)

    @property
    def _last_purchases(self) -> LastPurchases:
        """In order of shopper and item, so that draws do not depend on what came in when."""
        pairs = np.array(sorted(self._bought), np.int64).reshape(-1, 2)
        days = [self._bought[pair] for pair in sorted(self._bought)]
        return LastPurchases(pairs[:, 0], pairs[:, 1], np.array(days, np.int64))

    def _items(self, item_ids: Sequence[str]) -> NDArray[np.int64]:
        try:
            return np.array([self._item_rows[name] for name in item_ids], np.int64)
        except KeyError as error:
            raise DataError(
                f"item {error.args[0]!r} is not of this simulated shop; does the server answer "
                "from a bundle of this dataset?"
            ) from None

    @cached_property
    def _item_rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._behaviour.catalogue.item_ids)}

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([*self._seeds, *stream])


def _discount(position: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(1 / np.log2(position + 2.0), np.float64)
