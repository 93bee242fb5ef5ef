"""Settings of candidates, ranker and pages."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from recsys.config.section import Section

RankerObjective = Literal["lambdarank", "rank_xendcg"]
Grade = Annotated[int, Field(ge=0, le=30)]


class RetrievalConfig(Section):
    """How many candidates each source may bring."""

    text_neighbours: int = Field(default=100, ge=0)
    """Nearest items by text to what the shopper looks at, searches or last bought."""

    co_occurrence: int = Field(default=100, ge=0)
    """Items bought or looked at by the same shoppers."""

    next_items: int = Field(default=150, ge=0)
    """Items that shoppers take up after the shopper's own, by a regression over time."""

    similar_shoppers: int = Field(default=100, ge=0)
    """Items that shoppers with the same tastes bought lately."""

    taste: int = Field(default=80, ge=0)
    """Items whose texts are to the shopper's taste, popular ones first among equals."""

    new_arrivals: int = Field(default=40, ge=0)
    """Items listed within `arrival_days`, the nearest by text to the shopper's own."""

    popular: int = Field(default=250, ge=0)
    """Most purchased (else clicked) within `popular_days`."""

    own_items: int = Field(default=300, ge=0)
    """The shopper's own past purchases, most recent first (re-buys)."""

    popular_days: float = Field(default=30.0, gt=0)
    """Window of the popular source."""

    arrival_days: float = Field(default=30.0, gt=0)
    """Age up to which an item is a new arrival."""

    recent_items: int = Field(default=20, ge=1)
    """Most recent distinct items of a history that neighbours are looked up for."""

    history_items: int = Field(default=200, ge=1)
    """Most recent distinct items of a history that `next_items` starts from."""

    neighbours_per_item: int = Field(default=100, ge=1)
    """Length of an item's stored co-occurrence list."""

    flat_index_limit: int = Field(default=50_000, ge=0)
    """Up to this many items the FAISS index is exact; above it, inverted lists."""


class LabelGrades(Section):
    """Label of an item by the strongest event of its shopper in a label window.

    LightGBM counts a label as a gain of 2^label - 1, as far as label 30: with the defaults, a
    purchase is worth seven clicks. An event of grade 0 counts as if it had not happened.
    """

    purchase: Grade = 3
    """Bought."""

    add_to_cart: Grade = 2
    """Put into the cart."""

    share: Grade = 2
    """Shared."""

    review: Grade = 2
    """Reviewed."""

    click: Grade = 1
    """Clicked in a list."""

    view: Grade = 1
    """Looked at."""

    hide: Grade = 0
    """Hidden."""

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if not any(self.model_dump().values()):
            raise ValueError("all grades are 0; give at least one event a grade from 1 to 30")
        return self


class RankerConfig(Section):
    """The LightGBM ranker."""

    grades: LabelGrades = LabelGrades()
    """What the ranker learns to put first."""

    objectives: tuple[RankerObjective, ...] = Field(default=("lambdarank",), min_length=1)
    """A model is boosted for each; the score is their sum."""

    rounds: int = Field(default=400, ge=1)
    """Boosting rounds at most; the best round on held-back shoppers is kept."""

    early_stopping_rounds: int = Field(default=60, ge=1)
    """Rounds without a better held-back NDCG@10 after which boosting stops."""

    learning_rate: float = Field(default=0.1, gt=0)
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

    @field_validator("objectives")
    @classmethod
    def _each_once(cls, objectives: tuple[RankerObjective, ...]) -> tuple[RankerObjective, ...]:
        if len(set(objectives)) < len(objectives):
            raise ValueError(f"expected distinct objectives, found {list(objectives)}")
        return objectives


class PageConfig(Section):
    """What becomes of a ranking before it is a page; with the defaults, nothing."""

    diversity: float = Field(default=0.0, ge=0, le=1)
    """Weight of being unlike the items already on the page, against standing high in the ranking
    (1 - lambda of maximal marginal relevance); 0 is off."""

    category_cap: int = Field(default=0, ge=0)
    """Items of one root category on a page while others are left; 0 is off."""

    duplicate_similarity: float = Field(default=0.0, ge=0, lt=1)
    """Cosine of two items' texts from which on only the better ranked one is shown; 0 is off."""

    pool: int = Field(default=100, ge=1)
    """Best candidates of a request that a page is chosen from, when any of the above is on."""
