"""Shoppers' interactions as arrays: the log, ragged histories and ragged candidates."""

from recsys.interactions.candidates import Candidates
from recsys.interactions.clock import DAY_US, HOUR_US, floor_to_hour
from recsys.interactions.histories import EventKind, Histories
from recsys.interactions.item_lists import ItemLists, place_in_run
from recsys.interactions.log import InteractionLog

__all__ = [
    "DAY_US",
    "HOUR_US",
    "Candidates",
    "EventKind",
    "Histories",
    "InteractionLog",
    "ItemLists",
    "floor_to_hour",
    "place_in_run",
]
