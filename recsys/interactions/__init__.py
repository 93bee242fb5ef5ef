"""Shoppers' interactions as arrays: the log, ragged histories and ragged candidates."""

from recsys.interactions.candidates import Candidates
from recsys.interactions.clock import (
    DAY_US,
    HOUR_US,
    WEEKDAYS,
    as_datetime,
    floor_to_hour,
    kept_by_hour,
    microseconds,
    weekday,
)
from recsys.interactions.histories import EventKind, Histories
from recsys.interactions.impressions import (
    NOT_CLICKED,
    Impressions,
    ShownItems,
    first_clicks,
)
from recsys.interactions.item_lists import ItemLists, place_in_run
from recsys.interactions.log import InteractionLog
from recsys.interactions.position_bias import place_logits, places
from recsys.interactions.searches import SearchedFor, Searches

__all__ = [
    "DAY_US",
    "HOUR_US",
    "NOT_CLICKED",
    "WEEKDAYS",
    "Candidates",
    "EventKind",
    "Histories",
    "Impressions",
    "InteractionLog",
    "ItemLists",
    "SearchedFor",
    "Searches",
    "ShownItems",
    "as_datetime",
    "first_clicks",
    "floor_to_hour",
    "kept_by_hour",
    "microseconds",
    "place_in_run",
    "place_logits",
    "places",
    "weekday",
]
