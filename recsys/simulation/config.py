"""Settings of the simulated shop."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ConfigDict, Field


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PolicyConfig(_Section):
    """The logging policy: what is shown, to whom it does not look.

    A page holds the available items of its shelf. Items are drawn without replacement with weights
    `(1 - exploration) * softmax(score) + exploration / items`, where `score = popularity_weight *
    log1p(recent clicks) + freshness_weight * exp(-age / freshness_days)`.
    """

    list_size: int = Field(default=10, ge=1)
    """Items of a list; fewer where the shelf has fewer."""

    popularity_weight: float = Field(default=0.25, ge=0)
    """Weight of `log1p(clicks)`, clicks counted with exponential decay."""

    popularity_days: float = Field(default=14.0, gt=0)
    """Mean life of a click in the decayed count, in days."""

    freshness_weight: float = Field(default=1.0, ge=0)
    """Weight of an item's freshness."""

    freshness_days: float = Field(default=14.0, gt=0)
    """Age at which freshness has fallen to 1/e, in days."""

    exploration: float = Field(default=0.1, gt=0, le=1)
    """Share of the weight spread evenly."""

    arrival_days: int = Field(default=14, ge=1)
    """Age in days up to which an item stands on the page of new arrivals."""

    search_boost: float = Field(default=2.5, ge=0)
    """Log weight added to the items that have the attribute a query asks for."""

    page_shares: tuple[float, float, float, float] = (0.25, 0.3, 0.15, 0.3)
    """Shares of home pages, new arrivals, department pages and searches among lists."""


class BehaviourConfig(_Section):
    """How shoppers respond; probabilities are logistic in the affinity, the match of tastes."""

    taste_strength: float = Field(default=2.2, ge=0)
    """Standard deviation of a shopper's affinity over facets."""

    common_share: float = Field(default=0.4, ge=0)
    """Standard deviation of the tastes that all shoppers share, in units of the personal ones."""

    mood_share: float = Field(default=0.8, ge=0, le=1)
    """Correlation of a taste for a word with the shopper's moods; the rest is personal."""

    appeal: float = Field(default=0.3, ge=0)
    """Standard deviation of what an item has that its text does not say."""

    taste_turn_days: float = Field(default=0.0, ge=0)
    """Days in which the tastes of every shopper turn into unrelated ones, a quarter of a circle;
    they turn on after that. 0 keeps them. What is searched for does not turn."""

    season_strength: float = Field(default=0.6, ge=0)
    """Amplitude of the yearly wave of seasonal uses."""

    fashion_strength: float = Field(default=0.4, ge=0)
    """Amplitude of the slow waves of styles."""

    examination_power: float = Field(default=0.4, ge=0)
    """Position p (0-based) is looked at with probability `(1 + p) ** -examination_power`."""

    click_intercept: float = -2.6
    """Logit of a click on an item of affinity 0 that is looked at."""

    cart_intercept: float = -1.8
    """Logit of adding to the cart after a click, at affinity 0."""

    cart_slope: float = Field(default=0.5, ge=0)
    """Logit of adding to the cart per unit of affinity."""

    purchase_rate: float = Field(default=0.7, ge=0, le=1)
    """Probability that what is in the cart is bought."""

    share_rate: float = Field(default=0.05, ge=0, le=1)
    """Probability of a share after a click, for the highest affinity."""

    hide_rate: float = Field(default=0.01, ge=0, le=1)
    """Probability of hiding what is looked at and not clicked, for the lowest affinity."""

    review_rate: float = Field(default=0.2, ge=0, le=1)
    """Probability that a purchase is reviewed some days later."""

    rebuy_rate: float = Field(default=0.6, ge=0, le=1)
    """Probability that a consumable is bought again when it is used up."""

    rebuy_shape: float = Field(default=12.0, gt=0)
    """Shape of the gamma-distributed time until a consumable is used up; higher is more regular."""


class SimulationConfig(_Section):
    """The simulated shop; the same configuration and seed give the same dataset."""

    users: int = Field(default=2_000, ge=1)
    """Shoppers."""

    items: int = Field(default=3_000, ge=1)
    """Items, new arrivals included."""

    days: int = Field(default=84, ge=1)
    """Days simulated."""

    later_days: int = Field(default=0, ge=0)
    """Days after those in which items arrive and shoppers join as before, for visitors who drive a
    server on; their items are not in the dataset."""

    start: date = date(2026, 1, 5)
    """First day; days begin at midnight UTC."""

    launch_share: float = Field(default=0.6, gt=0, le=1)
    """Share of the items that are there on the first day; the others come evenly over the weeks,
    those of `later_days` included."""

    joining_share: float = Field(default=0.3, ge=0, le=1)
    """Share of the shoppers who join after the first day, at an even pace."""

    sessions_per_day: float = Field(default=0.16, gt=0)
    """Mean visits of a shopper a day; shoppers differ (gamma, shape 1.5)."""

    policy: PolicyConfig = PolicyConfig()
    """What is shown."""

    behaviour: BehaviourConfig = BehaviourConfig()
    """How shoppers respond."""

    @property
    def all_days(self) -> int:
        """Days in which items arrive and shoppers join."""
        return self.days + self.later_days
