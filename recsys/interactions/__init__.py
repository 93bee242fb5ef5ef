"""Shoppers' interactions as arrays: the log, ragged histories and ragged candidates."""

from recsys.interactions.candidates import Candidates
from recsys.interactions.histories import EventKind, Histories
from recsys.interactions.log import InteractionLog

__all__ = ["Candidates", "EventKind", "Histories", "InteractionLog"]
