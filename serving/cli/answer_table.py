"""A recommendation as a table that says what, for how much, how good and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from recsys import v1

SYMBOLS: Final = {"GBP": "£", "USD": "$", "EUR": "€"}
BAR_CELLS: Final = 6
EIGHTHS: Final = " ▏▎▍▌▋▊▉"
MAX_REASONS: Final = 3
SMALLEST_REASON: Final = 0.1
"""Of the strongest one; weaker contributions are no reason worth naming."""

GROUP_WORDS: Final = {
    "text": "text match",
    "popularity": "popular now",
    "exposure": "often clicked",
    "rebuy": "bought before",
    "co_purchase": "bought together",
    "price": "usual price",
    "category": "favourite category",
    "interest": "looked at before",
    "age": "new",
}
SOURCE_WORDS: Final = {
    "text": "text match",
    "co_occurrence": "bought together",
    "next_items": "bought next",
    "similar_shoppers": "similar shoppers",
    "taste": "to their taste",
    "new_arrivals": "just arrived",
    "popular": "popular now",
    "own_items": "bought before",
}
FACTS: Final = {"rebuy": "own_items"}
"""A group whose words state a fact: they are said only of items that this source brought."""

UNSAID: Final = frozenset({"base", "user", "calendar", "source"})
"""Groups that tell a person nothing about the item."""


def answer_table(items: Sequence[v1.RankedItem]) -> Table:
    """One row an item, in the order given; `why` has reasons only where the answer explains."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("item", style="bold", min_width=20, max_width=44)
    table.add_column("id", style="dim", no_wrap=True)
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("score", no_wrap=True)
    table.add_column("why", min_width=18)
    lengths = _bar_lengths([item.score for item in items])
    for place, (item, length) in enumerate(zip(items, lengths, strict=True), start=1):
        score = Text.assemble((f"{item.score:6.2f} ", ""), (_bar(length), "cyan"))
        title = Text(item.title or "not in the catalogue")
        table.add_row(str(place), title, Text(item.item_id), _price(item), score, _why(item))
    return table


def _price(item: v1.RankedItem) -> Text:
    if not item.HasField("price"):
        return Text("-", style="dim")
    symbol = SYMBOLS.get(item.currency, "")
    code = "" if symbol else f" {item.currency}"
    return Text(f"{symbol}{item.price:,.2f}{code}".rstrip())


def _bar_lengths(scores: Sequence[float]) -> list[float]:
    """Shares of a full bar: the best score fills it, the worst still shows a tenth."""
    if not scores:
        return []
    worst, best = min(scores), max(scores)
    spread = (best - worst) or 1.0
    return [1.0 - 0.9 * (best - score) / spread for score in scores]


def _bar(share: float) -> str:
    cells, eighths = divmod(round(share * BAR_CELLS * 8), 8)
    return ("█" * cells + EIGHTHS[eighths].strip()).ljust(BAR_CELLS)


def _why(item: v1.RankedItem) -> Text:
    """What raised the score, then in a quieter style where else the item came from."""
    reasons = _reasons(item)
    found = dict.fromkeys(SOURCE_WORDS.get(name, _plain(name)) for name in item.sources)
    styled = [(word, "green") for word in reasons]
    styled += [(word, "dim") for word in found if word not in reasons]
    return Text(" · ").join(Text(word, style=style) for word, style in styled)


def _reasons(item: v1.RankedItem) -> list[str]:
    helping = [part for part in item.explanation if part.value > 0 and _may_say(part.group, item)]
    helping.sort(key=lambda part: -part.value)
    strong = [part for part in helping if part.value >= SMALLEST_REASON * helping[0].value]
    words = (GROUP_WORDS.get(part.group, _plain(part.group)) for part in strong)
    return list(dict.fromkeys(words))[:MAX_REASONS]


def _may_say(group: str, item: v1.RankedItem) -> bool:
    return group not in UNSAID and FACTS.get(group) in {None, *item.sources}


def _plain(name: str) -> str:
    return name.replace("_", " ")
