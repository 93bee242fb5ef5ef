"""What the acts of another system's log are called in the contract's events."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import polars as pl

from recsys.errors import ConfigurationError, DataError
from recsys.tables import EVENT_TYPES

KNOWN: Final[dict[str, str]] = {
    name: event_type
    for event_type, names in {
        "impression": "impression",
        "view": "view read visit detail",
        "click": "click",
        "add_to_cart": "add_to_cart addtocart add_cart cart cart_add basket add_to_basket",
        "share": "share",
        "review": "review comment",
        "purchase": "purchase buy order",
        "hide": "hide dislike not_interested",
    }.items()
    for name in names.split()
}
"""Event types by the names that are understood without being told; case, hyphens, blanks aside."""

LEFT_OUT: Final = "none"
"""Stands for an event type where acts are left out."""

_COMPARED: Final[dict[str, Callable[[pl.Expr, float], pl.Expr]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_GIVEN: Final = re.compile(
    r"(?P<name>[^<>=]+)(?:(?P<sign>>=|<=|==|>|<)(?P<value>-?\d+(?:\.\d+)?))?=(?P<event>[a-z_]+)"
)


@dataclass(frozen=True)
class Rule:
    """Acts of the name `name`, whose value compares with `value` if there is a `sign`."""

    name: str
    event_type: str
    sign: str | None = None
    value: float = 0.0

    def holds(self, name: pl.Expr, value: pl.Expr) -> pl.Expr:
        """Whether the rule is about a row, by columns with its name (str) and value (f64)."""
        named = name == self.name
        return named & _COMPARED[self.sign](value, self.value) if self.sign else named


@dataclass(frozen=True)
class EventTypes:
    """Event types by name: the rules in their order, after them `KNOWN`.

    Attributes:
        option: the command's option that gives a rule, for messages.
        rules: the first that holds counts.
    """

    option: str
    rules: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, option: str, given: Sequence[str]) -> Self:
        """Read rules `NAME=EVENT` and `NAME>=3=EVENT`, with an event type or `none`.

        Raises:
            ConfigurationError: a rule is of another form.
        """
        return cls(option, tuple(cls._rule(option, text) for text in given))

    @staticmethod
    def _rule(option: str, text: str) -> Rule:
        found = _GIVEN.fullmatch(text)
        if not found or found["event"] not in {*EVENT_TYPES, LEFT_OUT}:
            raise ConfigurationError(
                f"{option} {text}: expected NAME=EVENT or NAME>=3=EVENT, with one of "
                f"{', '.join(EVENT_TYPES)}, or {LEFT_OUT} to leave such lines out"
            )
        return Rule(found["name"], found["event"], found["sign"], float(found["value"] or 0))

    def event_type(self, name: str, value: pl.Expr) -> pl.Expr:
        """The event type of each row; `LEFT_OUT` where a rule says so, null where nothing is said.

        Args:
            name: the column with the act's name, str.
            value: its value, f64; null compares with nothing.
        """
        plain = pl.col(name).str.strip_chars().str.to_lowercase().str.replace_all("[ -]", "_")
        cases = [
            pl.when(rule.holds(pl.col(name), value)).then(pl.lit(rule.event_type))
            for rule in self.rules
        ]
        return pl.coalesce(*cases, plain.replace_strict(KNOWN, default=None))

    def note_idle(self, names: pl.Series, remarks: Counter[str]) -> None:
        """Remark on rules that are about none of `names`, as a misspelt one is."""
        for rule in self.rules:
            if rule.name not in names:
                remarks[f"lines that {self.option} {rule.name} is about"] = 0

    def require_known(self, source: str, names: pl.Series, event_types: pl.Series) -> None:
        """Refuse a log with acts that nothing is said about.

        Args:
            source: the log, for the message.
            names: of the acts.
            event_types: of the same acts, as `event_type` gives them.

        Raises:
            DataError: an event type is null.
        """
        unknown = names.filter(event_types.is_null()).value_counts(sort=True, name="count")
        if unknown.is_empty():
            return
        found = ", ".join(
            f"{name} ({lines:,})"
            for name, lines in sorted(unknown.iter_rows(), key=lambda row: (-row[1], row[0]))[:20]
        )
        example = unknown[names.name].sort()[0]
        raise DataError(
            f"{source}: no event type is known for {found}; say what each stands for: "
            f"{self.option} {example}=purchase where it is what shoppers should do, "
            f"{self.option} {example}=add_to_cart beside real purchases, "
            f"{self.option} {example}={LEFT_OUT} to leave it out"
        )
