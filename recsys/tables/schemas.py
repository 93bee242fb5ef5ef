"""The contracts of the tables, as classes; their bodies are the reference of every column.

Required columns are not nullable. Optional columns may be absent as a whole, or null in single
rows. The primary key says what must be unique in a table: of several rows with one key, the first
one counts and the others are rejected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import dataframely as dy
import polars as pl

EVENT_TYPES: Final = (
    "impression",
    "view",
    "click",
    "add_to_cart",
    "share",
    "review",
    "purchase",
    "hide",
)
"""What a shopper can do with an item, and `impression`: the item was shown."""

MERCHANDISING_ACTIONS: Final = ("pin", "boost", "bury")
"""What a rule of the shop's does with an item."""

LARGEST_INT32: Final = 2**31 - 1


def _not_blank(column: pl.Expr) -> pl.Expr:
    return column.str.contains(r"\S")


def _text_required(*, key: bool = False) -> dy.String:
    return dy.String(primary_key=key, check={"not blank": _not_blank})


def _text() -> dy.String:
    return dy.String(nullable=True)


def _texts() -> dy.List:
    return dy.List(dy.String(), nullable=True)


def _time(*, nullable: bool) -> dy.Datetime:
    return dy.Datetime(nullable=nullable, time_unit="us", time_zone="UTC")


def _price() -> dy.Float64:
    def rule(column: pl.Expr) -> pl.Expr:
        return column.is_finite() & (column >= 0)

    return dy.Float64(nullable=True, allow_inf=True, allow_nan=True, check={"finite, >= 0": rule})


def _whole_number(lowest: int) -> dy.Int32:
    def rule(column: pl.Expr) -> pl.Expr:
        return column.is_between(lowest, LARGEST_INT32)

    return dy.Int32(nullable=True, check={f"from {lowest} to {LARGEST_INT32}": rule})


class Items(dy.Schema):
    """The catalogue, one row an item."""

    item_id = _text_required(key=True)
    """Unique, not blank; compared byte by byte."""

    title = _text_required()
    """Not blank: what the text models read first."""

    description = _text()
    """Longer text."""

    category = _texts()
    """Path in the shop's category tree, root first."""

    tags = _texts()
    """Free labels, any order."""

    brand = _text()
    """Maker."""

    price = _price()
    """Current price of a piece, in `currency`; finite, at least 0."""

    currency = _text()
    """ISO 4217 code of `price`."""

    image_url = _text()
    """Address of a picture."""

    available = dy.Bool(nullable=True)
    """False keeps the item out of every answer; true where the column or a value is missing."""

    created_at = _time(nullable=True)
    """When the item could first be bought."""

    updated_at = _time(nullable=True)
    """When the shop last changed the row."""


class Events(dy.Schema):
    """What happened, one row a shopper's act on one item (or the item's being shown)."""

    event_id = _text_required(key=True)
    """Unique, not blank; sending an event twice under one id counts once."""

    user_id = _text_required()
    """Whose act; not blank."""

    item_id = _text_required()
    """On which item; not blank. Events on items outside the catalogue are left out of training."""

    event_type = dy.String(
        check={f"one of {' '.join(EVENT_TYPES)}": lambda column: column.is_in(EVENT_TYPES)}
    )
    """One of `EVENT_TYPES`."""

    event_time = _time(nullable=False)
    """When, to the microsecond, UTC."""

    session_id = _text()
    """Visit or basket; equal for acts that belong together."""

    attribution_token = _text()
    """The answer of the server that the act responds to."""

    position = _whole_number(0)
    """Place in the list where the item was shown, from 0."""

    query = _text()
    """What the shopper had typed."""

    quantity = _whole_number(1)
    """Pieces, at least 1; 1 where missing."""

    price = _price()
    """Paid for one piece; finite, at least 0."""

    text = _text()
    """A review's text."""

    experiment_arm = _text()
    """Arms of the experiments that the shopper was in, as `experiment/arm`, separated by commas."""

    propensity = dy.Float64(
        nullable=True,
        allow_inf=True,
        allow_nan=True,
        check={"above 0, at most 1": lambda column: (column > 0) & (column <= 1)},
    )
    """Probability with which the logging policy showed this item at this position, given the items
    above it, in (0, 1]."""

    bundle_version = _text()
    """The bundle that chose what an impression showed; two, separated by a comma, where two arms of
    an experiment with a bundle each drafted the list."""

    candidates = _whole_number(1)
    """How many items were ranked for the list that an impression is of."""


class Users(dy.Schema):
    """What is known of shoppers; further columns are their attributes and are kept unchanged."""

    user_id = _text_required(key=True)
    """Unique, not blank."""


class Merchandising(dy.Schema):
    """The shop's own rules for pages, one row a rule on one item."""

    rule_id = _text_required(key=True)
    """Unique, not blank."""

    item_id = _text_required()
    """The item it is about; not blank. Rules on items outside the catalogue are left out."""

    action = dy.String(
        check={
            f"one of {' '.join(MERCHANDISING_ACTIONS)}": lambda column: column.is_in(
                MERCHANDISING_ACTIONS
            )
        }
    )
    """One of `MERCHANDISING_ACTIONS`."""

    position = _whole_number(0)
    """Place on the page where a pinned item stands, from 0; for pins, and for them alone."""

    places = _whole_number(1)
    """Places that a boosted item moves up in the ranking; for boosts, and for them alone."""

    valid_from = _time(nullable=True)
    """The first moment the rule is in force; always has been where missing."""

    valid_until = _time(nullable=True)
    """The first moment it no longer is; never ends where missing."""


SCHEMAS: Final[dict[str, type[dy.Schema]]] = {
    "items": Items,
    "events": Events,
    "users": Users,
    "merchandising": Merchandising,
}
"""Contract of each table, by its name in a dataset folder."""

RulesAcross = dict[str, Callable[[Callable[[str], pl.Expr]], pl.Expr]]

RULES_ACROSS_COLUMNS: Final[dict[type[dy.Schema], RulesAcross]] = {
    Merchandising: {
        "position: of a pin and of nothing else": lambda column: (
            (column("action") == "pin") == column("position").is_not_null()
        ),
        "places: of a boost and of nothing else": lambda column: (
            (column("action") == "boost") == column("places").is_not_null()
        ),
        "valid_until: after valid_from": lambda column: (
            column("valid_from") < column("valid_until")
        ),
    }
}
"""Rules that look at several columns of a row, by readable name; each is given a way to a column
that is null where the table lacks it."""

MAY_BE_EMPTY: Final = frozenset({"users", "merchandising"})
"""Tables that may be there without a row: a shop may have no rule today, or no shopper's leave."""
