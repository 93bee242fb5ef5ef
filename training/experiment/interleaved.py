"""Which of two rankings shoppers prefer, from lists that hold both."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from recsys.errors import DataError
from recsys.experiments import preference
from recsys.tables import Dataset
from training.clicked_impressions import clicked_impressions
from training.experiment.exposure import LIST, numbered, read_labelled
from training.experiment.report import EffectRow
from training.experiment.verdict import p_text, percent


class InterleavingReport(BaseModel):
    """Lists that both rankings drafted, and who got more credit in them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    experiment: str
    first: str
    second: str
    lists: int
    shoppers: int
    first_wins: int
    second_wins: int
    ties: int
    margin: EffectRow
    """Share of lists won by the second less that won by the first; above 0 the second is
    preferred."""
    sign_test: float
    """p-value as if lists were independent."""
    preferred: Literal["first", "second", "neither shown"]

    @property
    def verdict(self) -> str:
        """In words."""
        wins = f"{self.first} wins {self.first_wins:,} lists, {self.second} {self.second_wins:,}"
        size = (
            f"{wins}, {self.ties:,} are ties; margin {percent(self.margin.estimate)} for "
            f"{self.second} (p {p_text(self.margin.p_value)})"
        )
        if self.preferred == "neither shown":
            return (
                f"No preference is shown: {size}. A tie does not prove that both are equally good."
            )
        name = self.first if self.preferred == "first" else self.second
        return f"Shoppers prefer {name}: {size}."


def report_interleaving(
    folder: Path, experiment: str, end: datetime | None = None
) -> InterleavingReport:
    """Count the clicks on each ranking's picks, list by list.

    A list is the impressions of one `attribution_token`; an impression carries the label of the
    arm that picked it, and none where nobody did. A clicked impression is a credit.

    Raises:
        DataError: the experiment is not there, does not hold two arms, or its lists hold one each.
    """
    events = Dataset(folder).scan_events()
    labels = read_labelled(folder, events, experiment, end)
    arms = sorted(labels.frame["arm"].unique())
    if len(arms) != 2:  # noqa: PLR2004
        raise DataError(
            f"experiment {experiment!r}: interleaving takes two arms, found {', '.join(arms)}"
        )
    if not labels.interleaved:
        raise DataError(
            f"experiment {experiment!r}: its lists hold one arm each; "
            "use `recsys experiment report`"
        )
    before = events if end is None else events.filter(pl.col("event_time") < end)
    clicked = clicked_impressions(before).select(numbered("event_id").alias("event"), "clicked")
    lists = (
        labels.frame.drop_nulls(LIST)
        .join(clicked, on="event", maintain_order="left")
        .group_by(LIST, maintain_order=True)
        .agg(
            pl.col("user_id").first(),
            first=(pl.col("clicked") & (pl.col("arm") == arms[0])).sum(),
            second=(pl.col("clicked") & (pl.col("arm") == arms[1])).sum(),
        )
    )
    shopper = lists["user_id"].rank("dense").to_numpy().astype(np.int64)
    found = preference(
        lists["first"].to_numpy().astype(np.int64),
        lists["second"].to_numpy().astype(np.int64),
        shopper,
    )
    shoppers = int(shopper.max())
    margin = EffectRow.of(found.margin, shoppers, shoppers)
    low, high = margin.low, margin.high
    preferred: Literal["first", "second", "neither shown"] = "neither shown"
    if low is not None and low > 0:
        preferred = "second"
    elif high is not None and high < 0:
        preferred = "first"
    return InterleavingReport(
        dataset=str(folder),
        experiment=experiment,
        first=arms[0],
        second=arms[1],
        lists=len(lists),
        shoppers=shoppers,
        first_wins=found.first_wins,
        second_wins=found.second_wins,
        ties=found.ties,
        margin=margin,
        sign_test=found.sign_test,
        preferred=preferred,
    )
