"""Candidates for a shopper: nearest by text, bought together, popular, and their own past items."""

from recsys.retrieval.arrivals import NewArrivals
from recsys.retrieval.co_occurrence import CoOccurrence
from recsys.retrieval.deep_neighbours import CarriedRows, DeepNeighbours
from recsys.retrieval.evidence import Evidence, EvidenceReader
from recsys.retrieval.index import VectorIndex
from recsys.retrieval.lexical import lexical_neighbours
from recsys.retrieval.nearness import VectorNearness, WordNearness
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
from recsys.retrieval.taste import Taste, TastePrior, Tastes
from recsys.retrieval.text_space import TextSpace
from recsys.retrieval.words import WordCounts, WordModel

__all__ = [
    "CandidateSource",
    "CarriedRows",
    "CoOccurrence",
    "CoOccurrenceSource",
    "DeepNeighbours",
    "Evidence",
    "EvidenceReader",
    "ItemNeighbours",
    "NewArrivals",
    "NextItems",
    "OwnItems",
    "Popular",
    "RetrievalQueries",
    "SimilarShoppers",
    "Taste",
    "TastePrior",
    "Tastes",
    "TextNeighbours",
    "TextSpace",
    "VectorIndex",
    "VectorNearness",
    "WordCounts",
    "WordModel",
    "WordNearness",
    "lexical_neighbours",
    "merge",
    "recent_items",
]
