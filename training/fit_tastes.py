"""Where texts lie and what all shoppers like among them, from the history before the rankers'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.config import Configuration
from recsys.evaluation import id_hashes
from recsys.interactions import InteractionLog, ItemLists
from recsys.recommender import MEANING, WORDS
from recsys.retrieval import (
    Evidence,
    EvidenceReader,
    RetrievalQueries,
    Taste,
    TastePrior,
    TextSpace,
)
from recsys.text import clean
from training.embed_catalogue import EncodedTexts
from training.training_data import TrainingData

SHOPPERS: Final = 2_000
"""Shoppers that a prior is fitted to, by seeded hash; those without evidence are left out."""


def evidence_at(known: InteractionLog, users: NDArray[np.int64], as_of: int) -> Evidence:
    """What users (int64 (n,), rows) showed of their tastes before a time, in microseconds.

    Args:
        known: holds nothing later.
        users: requests of the evidence.
        as_of: the time.
    """
    asked = RetrievalQueries(
        known.histories(users),
        ItemLists.empty(len(users)),
        np.full(len(users), as_of),
        shown=known.shown_to(users),
        searched=known.searches.by(users),
    )
    return EvidenceReader.build(known).read(asked)


def fit_tastes(
    data: TrainingData,
    encoded: EncodedTexts,
    configuration: Configuration,
    advance: Callable[[], None],
) -> dict[str, Taste]:
    """Spaces of meanings and of words, each with the prior of what shoppers like there.

    The priors see what was before the first label window only: the ranker can learn from tastes in
    every window what they will be worth later.

    Args:
        data: texts and log.
        encoded: the bi-encoder that is served, and its vectors.
        configuration: budgets and seed.
        advance: told when a space is done.
    """
    queries = [clean(query) for query in data.log.searches.queries]
    budget = configuration.text.query_max_tokens
    meanings = encoded.encoder.embed(queries, max_tokens=budget)
    spaces = {
        MEANING: TextSpace.of_meanings(encoded.catalogue.vectors, meanings),
        WORDS: TextSpace.of_words(data.texts, queries, configuration.seed),
    }
    start = data.split.windows[0].start
    known = data.log.before(start)
    hashes = id_hashes(known.user_ids, configuration.seed)
    users = np.argsort(hashes)[:SHOPPERS]
    evidence = evidence_at(known, users, start)
    tastes = {}
    for name, space in spaces.items():
        tastes[name] = Taste(space, TastePrior.fit(space, evidence))
        advance()
    return tastes
