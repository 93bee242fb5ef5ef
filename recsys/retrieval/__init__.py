"""Candidates for a shopper: nearest by text, bought together, popular, and their own past items."""

from recsys.retrieval.co_occurrence import CoOccurrence
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.neighbours import ItemNeighbours
from recsys.retrieval.queries import RetrievalQueries
from recsys.retrieval.sources import (
    CandidateSource,
    CoOccurrenceSource,
    OwnItems,
    Popular,
    TextNeighbours,
    merge,
)

__all__ = [
    "CandidateSource",
    "CoOccurrence",
    "CoOccurrenceSource",
    "ItemNeighbours",
    "OwnItems",
    "Popular",
    "RetrievalQueries",
    "TextNeighbours",
    "VectorIndex",
    "merge",
]
