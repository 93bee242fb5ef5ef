"""A recommender over a shelf of six items, small enough to know every answer by heart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from recsys.errors import RequestError, UnknownItemError
from recsys.recommender import (
    AS_TRAINED,
    WARM_UP_SHOPPERS,
    ChangesTaken,
    Contribution,
    Deadline,
    ItemCard,
    RankedItem,
    RankedList,
    RankingPolicy,
    RankRequest,
    RecommendRequest,
    SimilarItemsRequest,
    Tier,
)
from recsys.state import ItemChange
from recsys.text import PairScoreCounts

HORIZON = datetime(2030, 3, 1, tzinfo=UTC)
SHELF = {
    "mug": ItemCard("Red mug", 4.5, "GBP", ("Kitchen", "Mugs")),
    "cup": ItemCard("Blue cup", 3.0, "GBP", ("Kitchen", "Cups")),
    "vase": ItemCard("Tall vase", 12.0, "GBP", ("Living room",)),
    "lamp": ItemCard("Oak lamp", 49.9, "GBP", ("Living room",)),
    "card": ItemCard("Birthday card"),
    "toy": ItemCard("Wooden toy", 8.0, "SEK", ("Nursery",)),
}


class ShelfRanker:
    """Ranks in shelf order: the first item scores 5, the next 4, and so on.

    `before_answering` runs first in every call and may raise or wait; `asked` keeps the requests,
    `seconds` the time that each of them had, `policies` how they were to be answered.
    """

    version = "v000007"
    horizon = HORIZON
    remembered_pairs = PairScoreCounts(hits=3, misses=4, size=5)

    def __init__(self, before_answering: Callable[[], None] = lambda: None) -> None:
        self.asked: list[RecommendRequest | RankRequest | SimilarItemsRequest] = []
        self.policies: list[RankingPolicy] = []
        self.seconds: list[float] = []
        self.before_answering = before_answering

    def warm_up(self, clock: Callable[[], float], shoppers: int = WARM_UP_SHOPPERS) -> None:
        assert min(clock(), shoppers) > 0
        self.before_answering()

    def recommend(
        self, request: RecommendRequest, deadline: Deadline, policy: RankingPolicy = AS_TRAINED
    ) -> RankedList:
        self.policies.append(policy)
        self._note(request, deadline)
        if request.as_of is None or request.as_of < HORIZON:
            raise RequestError("as_of", f"is before the bundle's horizon {HORIZON:%Y-%m-%d}")
        keep = set(request.filter.categories)
        shown = [i for i in SHELF if not keep or keep & set(SHELF[i].categories)]
        items = (_scored(item_id, explain=request.explain) for item_id in shown)
        return self._list(list(items)[: request.page_size])

    def rank(self, request: RankRequest, deadline: Deadline) -> RankedList:
        self._note(request, deadline)
        known = [_scored(item_id) for item_id in SHELF if item_id in request.item_ids]
        unknown = (item_id for item_id in request.item_ids if item_id not in SHELF)
        return self._list([*known, *(RankedItem(i, 0.0, Tier.UNKNOWN_ITEM) for i in unknown)])

    def similar_items(self, request: SimilarItemsRequest) -> RankedList:
        self._note(request)
        if request.item_id not in SHELF:
            raise UnknownItemError("item_id", f"{request.item_id!r} is not in the catalogue")
        return self._list([_scored(i) for i in SHELF if i != request.item_id][: request.page_size])

    @property
    def updated_at(self) -> Mapping[str, int]:
        return {}

    def after(self, changes: Sequence[ItemChange]) -> tuple[ShelfRanker, ChangesTaken]:
        return self, ChangesTaken(deferred=tuple(one.item_id for one in changes))

    def card(self, item_id: str) -> ItemCard | None:
        return SHELF.get(item_id)

    def _note(
        self,
        request: RecommendRequest | RankRequest | SimilarItemsRequest,
        deadline: Deadline | None = None,
    ) -> None:
        self.asked.append(request)
        if deadline is not None:
            self.seconds.append(deadline.remaining)
        self.before_answering()

    def _list(self, items: Iterable[RankedItem]) -> RankedList:
        return RankedList(tuple(items), self.version, ("stale_bundle",), len(SHELF))


def _scored(item_id: str, *, explain: bool = False) -> RankedItem:
    place = list(SHELF).index(item_id)
    parts = (
        Contribution("base", -1.0),
        Contribution("text", 0.8),
        Contribution("rebuy", 0.5),
        Contribution("price", -0.3),
    )
    return RankedItem(
        item_id,
        score=5.0 - place,
        tier=Tier.RANKER,
        cross_encoder_score=0.25 if place % 2 == 0 else None,
        sources=("own_items", "popular") if place == 0 else ("text",),
        explanation=parts if explain else (),
    )
