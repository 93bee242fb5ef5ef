"""The simulated catalogue: attributes first, then the texts that say them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import accumulate
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.simulation.config import SimulationConfig
from recsys.simulation.product_types import DEPARTMENTS, PRODUCT_TYPES
from recsys.simulation.texts import ItemTexts, render_items
from recsys.simulation.vocabulary import BRANDS, FACETS, Mood, Value

TYPE_COUNT: Final = len(PRODUCT_TYPES)
FACET_STARTS: Final = dict(
    zip(FACETS, accumulate(map(len, FACETS.values()), initial=TYPE_COUNT), strict=False)
)
"""First column of each facet in a feature vector; product types come first."""

PRICE_COLUMN: Final = TYPE_COUNT + sum(map(len, FACETS.values()))
"""Last column: how dear an item is for its type, in units of about one standard deviation."""

FEATURE_COUNT: Final = PRICE_COLUMN + 1
OPENING_HOUR: Final = 6
_COHERENCE: Final = 0.8
_OLDEST_DAYS: Final = 365


@dataclass(frozen=True)
class Catalogue:
    """The items; a row is an item's place in `item_ids`, which is sorted.

    Attributes:
        item_ids: the ids.
        kind: int64 (items,), place in `PRODUCT_TYPES`.
        values: int64 (items, facets), place in each facet of `FACETS`.
        features: float32 (items, FEATURE_COUNT), ones for type and values, then the price column.
        price: float64 (items,).
        created_day: int64 (items,), day of arrival, counted from the first day and negative before
            it. An item can be shown from `OPENING_HOUR` of that day.
        appeal: float32 (items,), what speaks for an item and stands in no text.
        texts: titles, descriptions and tags.
    """

    item_ids: tuple[str, ...]
    kind: NDArray[np.int64]
    values: NDArray[np.int64]
    features: NDArray[np.float32]
    price: NDArray[np.float64]
    created_day: NDArray[np.int64]
    appeal: NDArray[np.float32]
    texts: ItemTexts

    @cached_property
    def department(self) -> NDArray[np.int64]:
        """int64 (items,): place in `DEPARTMENTS`."""
        return DEPARTMENT_OF_TYPE[self.kind]

    @cached_property
    def rebuy_days(self) -> NDArray[np.float64]:
        """float64 (items,): mean days until used up; 0 for what lasts."""
        return np.array([kind.rebuy_days for kind in PRODUCT_TYPES], np.float64)[self.kind]

    @cached_property
    def further_pieces(self) -> NDArray[np.float64]:
        """float64 (items,): mean number of pieces bought at once beyond the first."""
        return np.where(self.rebuy_days > 0, 0.5, 0.1)

    def table(self, start: datetime) -> pl.DataFrame:
        """The `items` table; `start` is midnight UTC of the first day."""
        opening = start + timedelta(hours=OPENING_HOUR)
        categories = [
            [PRODUCT_TYPES[kind].department, PRODUCT_TYPES[kind].names[0]] for kind in self.kind
        ]
        created = [opening + timedelta(days=day) for day in self.created_day.tolist()]
        return pl.DataFrame(
            {
                "item_id": self.item_ids,
                "title": self.texts.titles,
                "description": self.texts.descriptions,
                "category": categories,
                "tags": self.texts.tags,
                "brand": [BRANDS[brand].name for brand in self.values[:, 0]],
                "price": self.price,
                "currency": ["EUR"] * len(self.item_ids),
                "created_at": pl.Series(created, dtype=pl.Datetime("us", "UTC")),
            }
        )


DEPARTMENT_OF_TYPE: Final = np.array([DEPARTMENTS.index(k.department) for k in PRODUCT_TYPES])


def make_catalogue(config: SimulationConfig, seed: int) -> Catalogue:
    """Draw the catalogue; the same configuration and seed give the same one."""
    rng = np.random.default_rng([seed, 1])
    kind = rng.integers(TYPE_COUNT, size=config.items)
    values = _draw_values(kind, rng)
    price = _draw_prices(kind, values, rng)
    width = max(5, len(str(config.items)))
    return Catalogue(
        item_ids=tuple(f"I{row:0{width}d}" for row in range(config.items)),
        kind=kind,
        values=values,
        features=_features(kind, values, price),
        price=price,
        created_day=_draw_arrivals(config, rng),
        appeal=rng.normal(0, config.behaviour.appeal, config.items).astype(np.float32),
        texts=render_items(kind, values, rng),
    )


def mood_loadings(values: tuple[Value, ...]) -> NDArray[np.float64]:
    """float64 (values, moods): rows of unit length, equal weight on each of a value's moods."""
    loadings = np.zeros((len(values), len(Mood)))
    for row, value in enumerate(values):
        loadings[row, list(value.moods)] = len(value.moods) ** -0.5
    return loadings


def _draw_values(kind: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """int64 (items, facets): a brand, then what its type allows and its brand's moods favour."""
    brand = rng.integers(len(BRANDS), size=len(kind))
    moods = mood_loadings(BRANDS)[brand]
    drawn = [brand]
    for name in list(FACETS)[1:]:
        logits = _COHERENCE * 2 * moods @ mood_loadings(FACETS[name]).T
        logits = np.where(_allowed(name)[kind], logits, -np.inf)
        drawn.append(np.argmax(logits + rng.gumbel(size=logits.shape), axis=1))
    return np.stack(drawn, axis=1)


def _allowed(facet: str) -> NDArray[np.bool_]:
    """Which values of a facet a product type may have: bool (types, values)."""
    names = [value.name for value in FACETS[facet]]
    if facet not in {"material", "use"}:
        return np.ones((TYPE_COUNT, len(names)), bool)
    lists = [kind.materials if facet == "material" else kind.uses for kind in PRODUCT_TYPES]
    return np.array([[name in allowed for name in names] for allowed in lists])


def _draw_prices(
    kind: NDArray[np.int64], values: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """float64 (items,): the type's price, moved by the tiers of its attributes; ends in .95."""
    usual = np.array([kind.price for kind in PRODUCT_TYPES])[kind]
    tier = sum(
        np.array([value.tier for value in facet])[values[:, place]]
        for place, facet in enumerate(FACETS.values())
    )
    drawn = usual * np.exp(tier + rng.normal(0, 0.25, len(kind)))
    return np.asarray(np.floor(drawn) + 0.95, np.float64)


def _draw_arrivals(config: SimulationConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    """int64 (items,): launch items before the first day, the others dealt evenly to the weeks."""
    created = -rng.integers(1, _OLDEST_DAYS + 1, size=config.items)
    order = rng.permutation(config.items)
    late = order[max(1, round(config.launch_share * config.items)) :]
    weeks = -(-config.all_days // 7)
    day = 7 * (np.arange(len(late)) % weeks) + rng.integers(7, size=len(late))
    created[late] = np.minimum(day, config.all_days - 1)
    return created


def _features(
    kind: NDArray[np.int64], values: NDArray[np.int64], price: NDArray[np.float64]
) -> NDArray[np.float32]:
    """float32 (items, FEATURE_COUNT)."""
    rows = np.arange(len(kind))
    features = np.zeros((len(kind), FEATURE_COUNT), np.float32)
    features[rows, kind] = 1
    for place, start in enumerate(FACET_STARTS.values()):
        features[rows, start + values[:, place]] = 1
    usual = np.array([kind.price for kind in PRODUCT_TYPES])[kind]
    features[:, PRICE_COLUMN] = np.log(price / usual) / 0.4
    return features
