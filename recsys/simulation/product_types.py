"""The product types of the simulated shop, by department."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class ProductType:
    """What a thing is, apart from how it looks.

    Attributes:
        department: first level of the category.
        names: ways to say it; the first is the second level of the category.
        price: median price.
        materials: names of the materials it is made of.
        uses: names of what it is for.
        details: endings a title may have.
        colour_phrase: how a title says the colour.
        rebuy_days: mean days until it is used up; 0 for things that last.
    """

    department: str
    names: tuple[str, ...]
    price: float
    materials: tuple[str, ...]
    uses: tuple[str, ...]
    details: tuple[str, ...]
    colour_phrase: str = "in {}"
    rebuy_days: int = 0


_WOODS = ("Oak", "Walnut", "Bamboo")
_WARES = ("Ceramic", "Porcelain", "Glass", "Enamel")
_CLOTHS = ("Linen", "Cotton", "Wool", "Velvet", "Canvas")
_WAXES = ("Soy Wax", "Beeswax")
_CARES = ("Shea Butter", "Olive Oil", "Beeswax")
_GROWN = ("Small-Batch", "Fair Trade")
_HOSTING = ("Gift Giving", "Dinner Parties", "Slow Breakfasts", "Easter")
_COSY = ("Winter Evenings", "Gift Giving", "Bath Time", "Valentine's Day")
_AWAY = ("Picnics", "Travel", "Camping", "Gardeners")
_CHILD = ("Little Ones", "Gift Giving", "Travel", "Easter")
_DESK = ("the Home Office", "Gift Giving", "Travel", "Little Ones")
_TREATS = ("Gift Giving", "Slow Breakfasts", "the Home Office", "Valentine's Day", "Camping")


PRODUCT_TYPES: Final = (
    ProductType(
        "Kitchen",
        ("Serving Board", "Cheese Board"),
        32,
        _WOODS,
        _HOSTING,
        ("with Leather Strap", ""),
    ),
    ProductType("Kitchen", ("Mug", "Coffee Cup"), 14, _WARES, _TREATS, ("Set of 2", "")),
    ProductType(
        "Kitchen", ("Teapot",), 34, (*_WARES, "Steel"), _HOSTING, ("with Infuser", "for Four")
    ),
    ProductType("Kitchen", ("Mixing Bowl",), 24, (*_WARES, "Steel"), _HOSTING, ("with Spout", "")),
    ProductType("Kitchen", ("Storage Jar", "Canister"), 16, _WARES, _HOSTING, ("with Lid", "")),
    ProductType("Kitchen", ("Apron",), 28, _CLOTHS, (*_HOSTING, "Gardeners"), ("with Pockets", "")),
    ProductType("Dining", ("Dinner Plate",), 18, _WARES, _HOSTING, ("Set of 4", "")),
    ProductType("Dining", ("Tumbler", "Drinking Glass"), 12, _WARES, _HOSTING, ("Set of 6", "")),
    ProductType("Dining", ("Table Runner",), 26, _CLOTHS, _HOSTING, ("with Fringe", "")),
    ProductType("Dining", ("Napkins",), 20, _CLOTHS, (*_HOSTING, "Picnics"), ("Set of 4", "")),
    ProductType(
        "Dining",
        ("Candle Holder", "Candlestick"),
        18,
        ("Brass", "Glass", "Ceramic", "Oak", "Steel"),
        (*_HOSTING, "Winter Evenings", "Valentine's Day"),
        ("Set of 3", ""),
    ),
    ProductType("Living", ("Throw", "Blanket"), 48, _CLOTHS, _COSY, ("with Tassels", "")),
    ProductType("Living", ("Cushion", "Pillow"), 30, _CLOTHS, _COSY, ("with Piping", "")),
    ProductType(
        "Living", ("Vase",), 27, (*_WARES, "Brass"), (*_HOSTING, "Valentine's Day"), ("32 cm", "")
    ),
    ProductType(
        "Living",
        ("Picture Frame", "Photo Frame"),
        19,
        (*_WOODS, "Brass", "Rattan"),
        ("Gift Giving", "the Home Office", "Little Ones", "Valentine's Day"),
        ("8 x 10", ""),
    ),
    ProductType(
        "Living",
        ("Wall Clock",),
        42,
        (*_WOODS, "Brass", "Steel", "Rattan"),
        ("the Home Office", "Gift Giving", "Slow Breakfasts", "Little Ones"),
        ("with Roman Numerals", "with Silent Movement"),
    ),
    ProductType(
        "Living",
        ("Table Lamp", "Reading Lamp"),
        64,
        (*_WOODS, "Brass", "Steel", "Ceramic", "Rattan"),
        ("Winter Evenings", "the Home Office", "Little Ones", "Gift Giving"),
        ("with Pleated Shade", "with Dimmer"),
    ),
    ProductType(
        "Living",
        ("Storage Basket", "Hamper"),
        33,
        ("Rattan", "Bamboo", "Cotton", "Canvas"),
        ("Bath Time", "Little Ones", "Picnics", "Gift Giving"),
        ("with Handles", "Set of 2"),
    ),
    ProductType("Bedroom", ("Duvet Cover",), 72, _CLOTHS[:3], _COSY, ("King Size", "Double")),
    ProductType(
        "Bedroom", ("Dressing Gown", "Robe"), 58, _CLOTHS[:4], _COSY, ("with Hood", "with Belt")
    ),
    ProductType(
        "Bedroom", ("Slippers",), 31, ("Wool", "Leather", "Velvet"), _COSY, ("with Rubber Sole", "")
    ),
    ProductType(
        "Bath", ("Bath Towel",), 24, ("Cotton", "Linen", "Bamboo"), _COSY, ("100 x 150 cm", "")
    ),
    ProductType(
        "Bath", ("Soap Bar", "Hand Soap"), 7, _CARES, _COSY, ("Trio", ""), "in {} Wrap", 21
    ),
    ProductType("Bath", ("Hand Cream",), 12, _CARES, _COSY, ("75 ml", ""), "in {} Tube", 28),
    ProductType("Bath", ("Bath Salts",), 13, _CARES, _COSY, ("500 g", ""), "in {} Pouch", 21),
    ProductType(
        "Candles", ("Scented Candle",), 19, _WAXES, _COSY, ("40 Hours", ""), "in {} Jar", 24
    ),
    ProductType("Candles", ("Taper Candles",), 11, _WAXES, _HOSTING, ("Box of 6", ""), "in {}", 18),
    ProductType(
        "Pantry",
        ("Coffee Beans", "Espresso Roast"),
        11,
        _GROWN,
        _TREATS,
        ("250 g",),
        "in {} Tin",
        12,
    ),
    ProductType("Pantry", ("Loose Leaf Tea",), 9, _GROWN, _TREATS, ("50 Cups",), "in {} Caddy", 16),
    ProductType("Pantry", ("Granola",), 7, _GROWN, _TREATS, ("Family Bag", ""), "in {} Pouch", 10),
    ProductType(
        "Pantry", ("Chocolate Bar",), 5, _GROWN, _TREATS, ("Box of 3", ""), "in {} Wrapper", 9
    ),
    ProductType(
        "Stationery",
        ("Notebook", "Journal"),
        15,
        ("Recycled Paper", "Leather", "Linen", "Cotton"),
        _DESK,
        ("with Dotted Pages", "with Ruled Pages"),
    ),
    ProductType(
        "Stationery",
        ("Greeting Cards",),
        8,
        ("Recycled Paper", "Cotton"),
        ("Gift Giving", "Valentine's Day", "Easter"),
        ("Pack of 8", ""),
        "in {}",
        26,
    ),
    ProductType(
        "Stationery",
        ("Desk Organiser", "Pen Pot"),
        29,
        (*_WOODS, "Leather", "Steel", "Brass"),
        _DESK,
        ("with Drawer", ""),
    ),
    ProductType(
        "Garden", ("Plant Pot", "Planter"), 22, (*_WARES, "Rattan"), _AWAY, ("with Saucer", "")
    ),
    ProductType(
        "Garden", ("Watering Can",), 26, ("Steel", "Enamel", "Brass"), _AWAY, ("1.5 Litre", "")
    ),
    ProductType(
        "Garden",
        ("Lantern",),
        36,
        ("Steel", "Brass", "Glass", "Rattan", "Bamboo"),
        (*_AWAY, "Winter Evenings"),
        ("with Handle", "40 cm"),
    ),
    ProductType(
        "Outdoors",
        ("Picnic Blanket",),
        44,
        _CLOTHS,
        _AWAY,
        ("with Waterproof Backing", "with Carry Strap"),
    ),
    ProductType(
        "Outdoors",
        ("Flask", "Water Bottle"),
        25,
        ("Steel", "Enamel", "Glass"),
        _AWAY,
        ("500 ml", ""),
    ),
    ProductType(
        "Outdoors", ("Backpack", "Rucksack"), 78, _CLOTHS[1:], _AWAY, ("with Laptop Sleeve", "")
    ),
    ProductType(
        "Outdoors",
        ("Tote Bag", "Shopper"),
        27,
        ("Canvas", "Linen", "Cotton", "Leather", "Rattan"),
        (*_AWAY, "the Home Office"),
        ("with Zip", ""),
    ),
    ProductType("Kids", ("Soft Toy", "Plush Friend"), 23, _CLOTHS[:4], _CHILD, ("30 cm", "45 cm")),
    ProductType("Kids", ("Puzzle",), 18, (*_WOODS, "Recycled Paper"), _CHILD, ("24 Pieces", "")),
    ProductType(
        "Kids",
        ("Night Light",),
        32,
        (*_WOODS, "Porcelain", "Glass"),
        _CHILD,
        ("with USB Charging", ""),
    ),
    ProductType(
        "Kids",
        ("Lunch Box",),
        19,
        ("Steel", "Enamel", "Bamboo"),
        _CHILD,
        ("with Leakproof Lid", ""),
    ),
)

DEPARTMENTS: Final = tuple(dict.fromkeys(kind.department for kind in PRODUCT_TYPES))
