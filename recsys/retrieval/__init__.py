"""Candidates for a shopper: nearest by text, bought together, popular, and their own past items."""

from recsys.retrieval.arrivals import NewArrivals
from recsys.retrieval.co_occurrence import CoOccurrence
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.lexical import lexical_neighbours
from recsys.retrieval.neighbours import ItemNeighbours
from recsys.retrieval.queries import RetrievalQueries, recent_items
from recsys.retrieval.similar_shoppers import SimilarShoppers
from recsys.retrieval.sources import (
    CandidateSource,
    CoOccurrenceSource,
    NextItems,
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
    "NewArrivals",
    "NextItems",
    "OwnItems",
    "Popular",
    "RetrievalQueries",
    "SimilarShoppers",
    "TextNeighbours",
    "VectorIndex",
    "lexical_neighbours",
    "merge",
    "recent_items",
]
