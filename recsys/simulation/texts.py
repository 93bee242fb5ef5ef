"""The texts of the simulated shop: titles, descriptions, tags, queries and reviews."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.simulation.product_types import PRODUCT_TYPES
from recsys.simulation.vocabulary import FACETS

_SHOWN: Final = {"brand": 0.45, "material": 0.85, "colour": 0.9, "style": 0.85, "use": 0.35}
"""How often a title says an attribute; the description always does."""

_DESCRIPTIONS: Final = (
    "{style} {kind} in {colour}: {material}, made for {use} by {brand}.",
    "For {use}: {kind} by {brand} in {colour} {material}, {style} in feel.",
    "{material} {kind} by {brand}, ideal for {use}. In {colour}, with a touch of {style}.",
)
_CAPITALS: Final = frozenset({"Scandinavian", "Nordic", "Art Deco", "Easter", "Valentine's Day"})
_PRAISE: Final = (
    "Love the {liked}, exactly what I hoped for.",
    "The {liked} is what won me over. Would buy again.",
    "Beautiful {kind}, and the {liked} suits us perfectly.",
)
_COMPLAINTS: Final = (
    "Not sure about the {disliked} though.",
    "I could do without the {disliked}.",
    "Only the {disliked} is not quite my thing.",
)
_KINDS_OF_WORD: Final = {
    "brand": "{} quality",
    "material": "{} material",
    "colour": "{} colour",
    "style": "{} style",
    "use": "idea of having it for {}",
}


@dataclass(frozen=True)
class ItemTexts:
    """Texts of the items, in their order.

    Attributes:
        titles: what it is, and most of what it looks like.
        descriptions: every attribute, said in words drawn anew.
        tags: style, use and colour in the description's words, lower case.
    """

    titles: list[str]
    descriptions: list[str]
    tags: list[list[str]]


def render_items(
    kind: NDArray[np.int64], values: NDArray[np.int64], rng: np.random.Generator
) -> ItemTexts:
    """Say attributes in words; synonyms and layout are drawn per item.

    Args:
        kind: int64 (items,), place in `PRODUCT_TYPES`.
        values: int64 (items, facets), place in each facet of `FACETS`.
        rng: draws synonyms, layouts and which attributes a title leaves out.
    """
    titles, descriptions, tags = [], [], []
    for own_kind, own_values in zip(kind.tolist(), values.tolist(), strict=True):
        titles.append(_title(own_kind, own_values, rng))
        words = _words(own_kind, own_values, rng)
        template = _DESCRIPTIONS[rng.integers(len(_DESCRIPTIONS))]
        low = {key: word if key == "brand" else _in_prose(word) for key, word in words.items()}
        text = template.format(**low)
        descriptions.append(text[0].upper() + text[1:])
        tags.append([words[key].lower().removeprefix("the ") for key in ("style", "use", "colour")])
    return ItemTexts(titles, descriptions, tags)


def query_text(kind: int, facet: str | None, value: int, rng: np.random.Generator) -> str:
    """A query for a product type and, unless `facet` is None, one attribute; lower case."""
    names = PRODUCT_TYPES[kind].names
    name = names[rng.integers(len(names))].lower()
    if facet is None:
        return name
    words = FACETS[facet][value].words
    return f"{words[rng.integers(len(words))].lower()} {name}"


def review_text(
    kind: int, values: list[int], tastes: NDArray[np.float32], rng: np.random.Generator
) -> str:
    """A review that names the attribute liked best and, if any is disliked, the one liked least.

    Args:
        kind: place in `PRODUCT_TYPES`.
        values: places in each facet of `FACETS`.
        tastes: float32 (facets,), the shopper's taste for each of these values.
        rng: draws the wording.
    """
    words = _words(kind, values, rng)
    phrases = [pattern.format(words[key].lower()) for key, pattern in _KINDS_OF_WORD.items()]
    praise = _PRAISE[rng.integers(len(_PRAISE))]
    text = praise.format(kind=words["kind"].lower(), liked=phrases[int(np.argmax(tastes))])
    if tastes.min() < 0:
        complaint = _COMPLAINTS[rng.integers(len(_COMPLAINTS))]
        text += " " + complaint.format(disliked=phrases[int(np.argmin(tastes))])
    return text


def _in_prose(word: str) -> str:
    return word if word in _CAPITALS else word.lower()


def _words(kind: int, values: list[int], rng: np.random.Generator) -> dict[str, str]:
    """A word for the type and for the value of each facet."""
    draws = rng.random(len(FACETS) + 1).tolist()
    names = PRODUCT_TYPES[kind].names
    words = {"kind": names[int(draws[-1] * len(names))]}
    for (facet, known), value, draw in zip(FACETS.items(), values, draws, strict=False):
        choices = known[value].words
        words[facet] = choices[int(draw * len(choices))]
    return words


def _title(kind: int, values: list[int], rng: np.random.Generator) -> str:
    words = _words(kind, values, rng)
    draws = rng.random(len(FACETS) + 2).tolist()
    said = {
        facet: words[facet] if draw < _SHOWN[facet] else ""
        for facet, draw in zip(FACETS, draws, strict=False)
    }
    details = PRODUCT_TYPES[kind].details
    detail = details[int(draws[-2] * len(details))]
    use = f"for {said['use']}" if said["use"] else ""
    brand = f"by {said['brand']}" if said["brand"] else ""
    if draws[-1] < 1 / 3:
        parts = [said["brand"], said["colour"], said["material"], words["kind"], detail]
        parts += [f"- {said['style']}" if said["style"] else "", use]
    else:
        colour = PRODUCT_TYPES[kind].colour_phrase.format(said["colour"])
        parts = [said["style"], said["material"], words["kind"], detail]
        parts += [colour if said["colour"] else "", use, brand]
    return " ".join(part for part in parts if part)
