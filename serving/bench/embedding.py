"""What it costs to embed a catalogue, beside sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

from recsys.text import BiEncoder, locate
from recsys.text.encode import Precision
from serving.bench.machine import median_ms


class Embedding(BaseModel):
    """Texts a second of both, with the same weights."""

    texts: int
    this_product: float
    sentence_transformers: float
    """`SentenceTransformer.encode` with its defaults, reading as many tokens of a text."""

    smallest_cosine: float
    """Of a text's two vectors."""


def measure_embedding(
    texts: Sequence[str], pretrained: str, precision: Precision, max_tokens: int, repeats: int
) -> Embedding:
    """Embed the texts with the pretrained model in both ways; medians of `repeats`."""
    own = BiEncoder.pretrained(pretrained, precision)
    peer = SentenceTransformer(locate(pretrained), device="cpu")
    peer.max_seq_length = max_tokens
    mine = own.embed(list(texts), max_tokens=max_tokens)
    theirs = np.asarray(peer.encode(list(texts), normalize_embeddings=True))
    own_ms = median_ms(lambda: own.embed(list(texts), max_tokens=max_tokens), repeats)
    peer_ms = median_ms(lambda: peer.encode(list(texts)), repeats)
    return Embedding(
        texts=len(texts),
        this_product=1_000 * len(texts) / own_ms,
        sentence_transformers=1_000 * len(texts) / peer_ms,
        smallest_cosine=float((mine * theirs).sum(axis=1).min()),
    )
