"""From ranked lists to messages."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

from google.protobuf.message import Message

from recsys import v1
from recsys.recommender import ItemCard, RankedItem, RankedList, Tier

TIERS: Final = {
    Tier.RANKER: v1.Tier.TIER_RANKER,
    Tier.RANKER_WITHOUT_CROSS_ENCODER: v1.Tier.TIER_RANKER_WITHOUT_CROSS_ENCODER,
    Tier.RETRIEVAL: v1.Tier.TIER_RETRIEVAL,
    Tier.POPULARITY: v1.Tier.TIER_POPULARITY,
    Tier.NEIGHBOURS: v1.Tier.TIER_NEIGHBOURS,
    Tier.UNKNOWN_ITEM: v1.Tier.TIER_UNKNOWN_ITEM,
    Tier.UNAVAILABLE_ITEM: v1.Tier.TIER_UNAVAILABLE_ITEM,
}
TOKEN_BYTES: Final = 16
NO_CARD: Final = ItemCard(title="")
Card = Callable[[str], ItemCard | None]
"""What to show of an item; None for an unknown one."""

Response = TypeVar("Response", v1.RecommendResponse, v1.RankResponse, v1.SimilarItemsResponse)


def write_response(
    kind: type[Response],
    answer: RankedList,
    token: str,
    card: Card,
) -> Response:
    """The message for `answer`, its items in the same order, each with what `card` knows of it."""
    return kind(
        items=[_item(item, card(item.item_id) or NO_CARD) for item in answer.items],
        attribution_token=token,
        bundle_version=answer.bundle_version,
        degraded=answer.degraded,
    )


def attribution_token(
    request: Message, version: str, as_of: datetime | None, policy: str = ""
) -> str:
    """22 URL-safe characters: equal for equal arguments, and for nothing else.

    Args:
        request: the message.
        version: of the bundle.
        as_of: the moment that is answered for; None where that does not matter.
        policy: what the shopper's arms say; "" where no experiment runs.
    """
    digest = hashlib.blake2b(digest_size=TOKEN_BYTES)
    moment = as_of.isoformat() if as_of else ""
    for part in (request.DESCRIPTOR.full_name, version, moment, *([policy] if policy else [])):
        digest.update(part.encode() + b"\0")
    digest.update(request.SerializeToString(deterministic=True))
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()


def _item(item: RankedItem, card: ItemCard) -> v1.RankedItem:
    return v1.RankedItem(
        item_id=item.item_id,
        score=item.score,
        tier=TIERS[item.tier],
        cross_encoder_score=item.cross_encoder_score,
        sources=item.sources,
        explanation=[v1.Contribution(group=c.group, value=c.value) for c in item.explanation],
        title=card.title,
        price=card.price,
        currency=card.currency,
        categories=card.categories,
        propensity=item.propensity,
    )
