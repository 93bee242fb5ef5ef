"""From a ranking to a page: the shop's rules, near-duplicates, diversity and category caps."""

from recsys.page.composition import LABELS, Composition, PageComposer
from recsys.page.merchandising import (
    Action,
    MerchandisingRules,
    RulesInForce,
    overlapping_rules,
)
from recsys.page.selection import Pool, distinct, marginally_relevant

__all__ = [
    "LABELS",
    "Action",
    "Composition",
    "MerchandisingRules",
    "PageComposer",
    "Pool",
    "RulesInForce",
    "distinct",
    "marginally_relevant",
    "overlapping_rules",
]
