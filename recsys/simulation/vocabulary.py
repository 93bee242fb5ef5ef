"""The words of the simulated shop: what items can be, and which words go together."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Mood(IntEnum):
    """Latent tastes: who likes one word of a mood tends to like its other words, in every facet."""

    RUSTIC = 0
    MODERN = 1
    BOHO = 2
    LUXE = 3
    PLAYFUL = 4
    OUTDOOR = 5
    BOTANICAL = 6
    VINTAGE = 7
    COASTAL = 8


@dataclass(frozen=True)
class Value:
    """One value of a facet.

    Attributes:
        words: ways to say it in a text; the first is its name.
        moods: the moods it belongs to.
        peak: day of the year on which interest is highest; None where the season does not matter.
        tier: how much it moves the price, in log units.
    """

    words: tuple[str, ...]
    moods: tuple[Mood, ...]
    peak: int | None = None
    tier: float = 0.0

    @property
    def name(self) -> str:
        """The first of its words."""
        return self.words[0]


_R, _M, _B, _L, _P, _O, _N, _V, _C = Mood

BRANDS: Final = (
    Value(("Hollow & Pine",), (_R,)),
    Value(("Marlowe Lane",), (_V,), tier=0.1),
    Value(("Fjord & Field",), (_M, _R), tier=0.1),
    Value(("Copperkettle",), (_R, _V)),
    Value(("Saltmarsh",), (_C,)),
    Value(("Thistle & Tweed",), (_R, _O), tier=0.2),
    Value(("Nordlys",), (_M,), tier=0.2),
    Value(("Little Otter",), (_P,), tier=-0.1),
    Value(("Casa Ombra",), (_B, _L), tier=0.2),
    Value(("Brackenwood",), (_O, _R)),
    Value(("Wren & Willow",), (_N,)),
    Value(("Atelier Noor",), (_B,), tier=0.1),
    Value(("Harbour Lights",), (_C, _V)),
    Value(("Kiln Street",), (_M, _B)),
    Value(("Juniper Row",), (_N, _R)),
    Value(("Velvet Fox",), (_L, _P), tier=0.2),
    Value(("Tin Roof",), (_V, _O), tier=-0.2),
    Value(("Oxbow Trading",), (_O,), tier=-0.1),
    Value(("Petal & Press",), (_N, _V), tier=-0.1),
    Value(("Maison Clair",), (_L,), tier=0.4),
    Value(("Studio Ruhe",), (_M,), tier=0.1),
    Value(("Driftwell",), (_C, _O)),
    Value(("Pip & Plum",), (_P, _N), tier=-0.2),
    Value(("Foundry 88",), (_M, _V)),
    Value(("Old Mill Goods",), (_R,), tier=-0.2),
    Value(("Sol y Tierra",), (_B, _N), tier=-0.1),
)

MATERIALS: Final = (
    Value(("Oak", "Solid Oak", "Oakwood"), (_R,), tier=0.2),
    Value(("Walnut", "Dark Walnut"), (_V, _L), tier=0.3),
    Value(("Bamboo", "Natural Bamboo"), (_N, _M), tier=-0.1),
    Value(("Ceramic", "Stoneware", "Glazed Clay"), (_R, _B)),
    Value(("Porcelain", "Bone China"), (_L, _V), tier=0.2),
    Value(("Glass", "Blown Glass"), (_M, _L)),
    Value(("Linen", "Washed Linen", "Pure Flax"), (_R, _C), tier=0.1),
    Value(("Cotton", "Organic Cotton"), (_P, _C), tier=-0.2),
    Value(("Wool", "Lambswool", "Merino"), (_R, _O), tier=0.2),
    Value(("Velvet", "Plush Velvet"), (_L, _B), tier=0.2),
    Value(("Leather", "Full-Grain Leather", "Saddle Hide"), (_V, _O), tier=0.4),
    Value(("Brass", "Antique Brass"), (_V, _L), tier=0.2),
    Value(("Steel", "Brushed Steel", "Stainless Steel"), (_M, _O)),
    Value(("Enamel", "Enamelled Tin"), (_O, _V), tier=-0.2),
    Value(("Rattan", "Wicker", "Woven Cane"), (_B, _C)),
    Value(("Canvas", "Waxed Canvas", "Sailcloth"), (_O, _C)),
    Value(("Soy Wax", "Vegan Wax"), (_M, _N)),
    Value(("Beeswax", "Honeycomb Wax"), (_R, _N), tier=0.1),
    Value(("Shea Butter", "Whipped Shea"), (_L, _B), tier=0.1),
    Value(("Olive Oil", "Castile"), (_R, _C)),
    Value(("Recycled Paper", "Kraft Paper"), (_N, _M), tier=-0.2),
    Value(("Small-Batch", "Hand-Roasted"), (_V, _R), tier=0.1),
    Value(("Fair Trade", "Ethically Grown"), (_B, _N)),
)

COLOURS: Final = (
    Value(("Navy", "Midnight Blue", "Deep Indigo"), (_C, _V)),
    Value(("Sky Blue", "Powder Blue"), (_C, _P)),
    Value(("Teal", "Petrol", "Peacock"), (_B, _L)),
    Value(("Sage", "Soft Green"), (_N, _R)),
    Value(("Forest Green", "Bottle Green"), (_O, _V)),
    Value(("Olive", "Moss"), (_O, _N)),
    Value(("Mustard", "Ochre"), (_V, _B)),
    Value(("Sunny Yellow", "Lemon"), (_P,)),
    Value(("Terracotta", "Rust", "Burnt Orange"), (_B, _R)),
    Value(("Coral", "Peach"), (_C, _P)),
    Value(("Red", "Cherry", "Scarlet"), (_P, _V)),
    Value(("Burgundy", "Wine", "Claret"), (_L, _V)),
    Value(("Blush", "Dusty Pink"), (_L, _N)),
    Value(("Fuchsia", "Hot Pink"), (_P, _B)),
    Value(("Lilac", "Lavender"), (_N, _P)),
    Value(("Cream", "Ivory", "Off-White"), (_R, _L)),
    Value(("White", "Chalk"), (_M, _C)),
    Value(("Grey", "Slate", "Pebble"), (_M,)),
    Value(("Charcoal", "Graphite"), (_M, _O)),
    Value(("Black", "Onyx"), (_M, _L)),
    Value(("Sand", "Oatmeal", "Beige"), (_C, _R)),
    Value(("Gold", "Champagne"), (_L,), tier=0.1),
)

STYLES: Final = (
    Value(("Rustic", "Farmhouse", "Country"), (_R,)),
    Value(("Minimalist", "Pared-Back"), (_M,)),
    Value(("Scandinavian", "Nordic", "Hygge"), (_M, _R)),
    Value(("Bohemian", "Boho", "Free-Spirited"), (_B,)),
    Value(("Classic", "Heritage", "Timeless"), (_V, _L)),
    Value(("Glamorous", "Opulent", "Art Deco"), (_L,), tier=0.2),
    Value(("Retro", "Mid-Century", "Seventies"), (_V,)),
    Value(("Industrial", "Loft"), (_M, _V)),
    Value(("Botanical", "Floral", "Leafy"), (_N,)),
    Value(("Nautical", "Seaside", "Coastal"), (_C,)),
    Value(("Whimsical", "Quirky", "Storybook"), (_P,)),
    Value(("Expedition", "Trail", "Wilderness"), (_O,)),
    Value(("Folk Art", "Handcrafted", "Artisan"), (_B, _R)),
)

USES: Final = (
    Value(("Gift Giving", "Housewarmings", "Thank-Yous"), (_L, _P), peak=350),
    Value(("Picnics", "Lazy Lunches Outdoors"), (_O, _C), peak=185),
    Value(("Gardeners", "the Potting Shed"), (_N, _R), peak=140),
    Value(("Winter Evenings", "Fireside Nights"), (_R, _V), peak=10),
    Value(("Slow Breakfasts", "Sunday Brunch"), (_R, _N)),
    Value(("Dinner Parties", "Entertaining"), (_L, _V), peak=340),
    Value(("the Home Office", "Desk Days"), (_M,), peak=250),
    Value(("Travel", "Weekends Away"), (_O, _C), peak=195),
    Value(("Little Ones", "the Nursery"), (_P,)),
    Value(("Bath Time", "Unwinding"), (_B, _L), peak=35),
    Value(("Valentine's Day", "Date Night"), (_L, _P), peak=44),
    Value(("Easter", "Spring Tables"), (_N, _P), peak=95),
    Value(("Camping", "Van Life"), (_O, _B), peak=200),
)

FACETS: Final = {
    "brand": BRANDS,
    "material": MATERIALS,
    "colour": COLOURS,
    "style": STYLES,
    "use": USES,
}
"""The facets a text speaks of besides the product type, in the order of the taste vector."""
