"""The shop's days in sequence: what is shown, what follows and what comes back days later."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import date
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.simulation.behaviour import Behaviour
from recsys.simulation.catalogue import FACET_STARTS
from recsys.simulation.config import SimulationConfig
from recsys.simulation.policy import Page, fill_lists, item_weights
from recsys.simulation.product_types import DEPARTMENTS
from recsys.simulation.rebuys import RebuyPlan
from recsys.simulation.responses import Slots, draw_acts, lay_out
from recsys.simulation.texts import review_text
from recsys.simulation.visits import SECOND, Visits, draw_visits

_COLUMNS: Final[Mapping[str, pl.DataType | type[pl.DataType]]] = {
    "event_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "event_type": pl.String,
    "event_time": pl.Datetime("us", "UTC"),
    "session_id": pl.String,
    "attribution_token": pl.String,
    "position": pl.Int32,
    "query": pl.String,
    "quantity": pl.Int32,
    "price": pl.Float64,
    "text": pl.String,
    "propensity": pl.Float64,
}
_OPEN_FROM, _OPEN_UNTIL = 8 * 3600 * SECOND, 23 * 3600 * SECOND
_EPOCH: Final = date(1970, 1, 1)
_MEAN_REVIEW_DAYS: Final = 4.0
_FIRST_REVIEW_DAY: Final = 2

_Pairs = NDArray[np.int64]


class Diary:
    """The events day by day; days must be taken in order, once each.

    Args:
        config: the shop.
        seed: every day draws from a generator of its own, made from it.
        behaviour: items, shoppers and their probabilities.
    """

    def __init__(self, config: SimulationConfig, seed: int, behaviour: Behaviour) -> None:
        self._config = config
        self._seed = seed
        self._behaviour = behaviour
        self._recent_clicks = np.zeros(config.items)
        self._rebuys = RebuyPlan()
        self._reviews: defaultdict[int, list[_Pairs]] = defaultdict(list)
        self._user_ids = pl.Series(behaviour.shoppers.user_ids, dtype=pl.String)
        self._item_ids = pl.Series(behaviour.catalogue.item_ids, dtype=pl.String)

    def next_day(self, day: int) -> pl.DataFrame:
        """The events of a day in order of time; `events` contract without `experiment_arm`."""
        rng = np.random.default_rng([self._seed, 4, day])
        catalogue = self._behaviour.catalogue
        visits = draw_visits(self._config, self._behaviour.shoppers, catalogue, day, rng)
        weights = item_weights(self._config.policy, catalogue, day, self._recent_clicks)
        shown = fill_lists(self._config.policy, catalogue, day, weights, visits.requests, rng)
        slots = lay_out(visits, shown)
        browsing = self._browse(slots, visits, day, rng)
        rebuys = self._buy_again(day, rng)
        reviews = self._write_reviews(day, rng)
        lone = _number_sessions(pl.concat([rebuys, reviews], how="diagonal"), len(visits.user))
        events = pl.concat([browsing, lone], how="diagonal")
        self._remember(events, day, rng)
        return self._finish(events, visits, day)

    def _browse(
        self, slots: Slots, visits: Visits, day: int, rng: np.random.Generator
    ) -> pl.DataFrame:
        """Impressions and what follows them."""
        acts = draw_acts(self._behaviour, slots, day, rng)
        shown = _slot_frame(slots, visits).with_columns(propensity=slots.propensity)
        frames = [shown.with_columns(event_type=pl.lit("impression"))]
        base = shown.drop("propensity")
        for name, act in acts.items():
            frame = base.with_columns(time=act.time, event_type=pl.lit(name)).filter(act.happened)
            frames.append(self._priced(frame, rng) if name == "purchase" else frame)
        return pl.concat(frames, how="diagonal")

    def _buy_again(self, day: int, rng: np.random.Generator) -> pl.DataFrame:
        """Visits straight to a product page, to buy what was used up."""
        pairs = self._rebuys.take(day)
        views = _pair_frame(pairs, "view", rng)
        pause = rng.integers(20 * SECOND, 90 * SECOND, len(pairs))
        bought = views.with_columns(time=pl.col("time") + pause, event_type=pl.lit("purchase"))
        return pl.concat([views, self._priced(bought, rng)], how="diagonal")

    def _write_reviews(self, day: int, rng: np.random.Generator) -> pl.DataFrame:
        pairs = _due(self._reviews, day)
        catalogue, taste = self._behaviour.catalogue, self._behaviour.shoppers.taste
        starts = np.array(list(FACET_STARTS.values()))
        texts = [
            review_text(
                int(catalogue.kind[item]),
                catalogue.values[item].tolist(),
                taste[user, starts + catalogue.values[item]],
                rng,
            )
            for user, item in pairs.tolist()
        ]
        frame = _pair_frame(pairs, "review", rng)
        return frame.with_columns(pl.Series("text", texts, dtype=pl.String))

    def _priced(self, purchases: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
        """Add price and quantity; consumables are bought in larger numbers."""
        catalogue, item = self._behaviour.catalogue, purchases["item"].to_numpy()
        more = rng.poisson(catalogue.further_pieces[item])
        quantity = pl.Series(1 + more, dtype=pl.Int32)
        return purchases.with_columns(price=catalogue.price[item], quantity=quantity)

    def _remember(self, events: pl.DataFrame, day: int, rng: np.random.Generator) -> None:
        """Update the click counts and enter what purchases lead to."""
        clicked = events.filter(pl.col("event_type") == "click")["item"].to_numpy()
        kept = np.exp(-1 / self._config.policy.popularity_days)
        clicks = np.bincount(clicked, minlength=self._config.items)
        self._recent_clicks = kept * self._recent_clicks + clicks
        bought = events.filter(pl.col("event_type") == "purchase").select("user", "item")
        pairs = bought.to_numpy().astype(np.int64).reshape(-1, 2)
        behaviour, config = self._behaviour, self._behaviour.config
        mean = behaviour.catalogue.rebuy_days[pairs[:, 1]]
        again = rng.random(len(pairs)) < config.rebuy_rate
        gap = np.ceil(rng.gamma(config.rebuy_shape, mean / config.rebuy_shape)).astype(np.int64)
        due = np.where(again, day + np.maximum(gap, 1), -1)
        self._rebuys.replace(pairs[mean > 0], due[mean > 0])
        reviewed = rng.random(len(pairs)) < config.review_rate
        wait = _FIRST_REVIEW_DAY + rng.poisson(_MEAN_REVIEW_DAYS, len(pairs))
        _enter(self._reviews, pairs[reviewed], day + wait[reviewed])

    def _finish(self, events: pl.DataFrame, visits: Visits, day: int) -> pl.DataFrame:
        """Ids for rows, in order of time, with the contract's columns."""
        lists = _list_frame(visits, day)
        days_since_epoch = (self._config.start - _EPOCH).days + day
        time = pl.col("time") + days_since_epoch * 86_400 * SECOND
        stamp = f"{day:04d}"
        ordered = events.sort("time", maintain_order=True).with_row_index("number")
        joined = ordered.join(lists, on="row", how="left", maintain_order="left")
        named = joined.with_columns(
            event_id=pl.format(f"e{stamp}-{{}}", _digits("number", 7)),
            user_id=self._user_ids.gather(joined["user"]),
            item_id=self._item_ids.gather(joined["item"]),
            event_time=time.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            session_id=pl.format(f"s{stamp}-{{}}", _digits("session", 6)),
        )
        return named.select(pl.col(name).cast(dtype) for name, dtype in _COLUMNS.items())


def _slot_frame(slots: Slots, visits: Visits) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user": slots.user,
            "item": slots.item,
            "time": slots.time,
            "session": visits.visit[slots.row],
            "row": slots.row,
            "position": slots.position,
        }
    )


def _pair_frame(pairs: _Pairs, event_type: str, rng: np.random.Generator) -> pl.DataFrame:
    """Events of (user, item) pairs at times of their own; `pair` numbers them."""
    time = rng.integers(_OPEN_FROM, _OPEN_UNTIL, len(pairs))
    columns = {"user": pairs[:, 0], "item": pairs[:, 1], "time": time}
    return pl.DataFrame(columns).with_columns(event_type=pl.lit(event_type))


def _number_sessions(events: pl.DataFrame, first: int) -> pl.DataFrame:
    """One session per shopper and day for what happens outside visits, numbered from `first`."""
    number = pl.col("user").rank("dense").cast(pl.Int64) - 1 + first
    return events.with_columns(session=number)


def _list_frame(visits: Visits, day: int) -> pl.DataFrame:
    """Token and query of each list; a token begins with the page (`home`, `pantry`, ...)."""
    names = [
        DEPARTMENTS[argument].lower() if page == Page.DEPARTMENT else Page(page).name.lower()
        for page, argument in zip(
            visits.requests.page.tolist(), visits.requests.argument.tolist(), strict=True
        )
    ]
    tokens = [f"{name}-{day:04d}-{row:06d}" for row, name in enumerate(names)]
    return pl.DataFrame(
        {"row": np.arange(len(tokens)), "attribution_token": tokens, "query": visits.queries},
        schema_overrides={"attribution_token": pl.String, "query": pl.String},
    )


def _digits(column: str, width: int) -> pl.Expr:
    return pl.col(column).cast(pl.String).str.zfill(width)


def _enter(book: defaultdict[int, list[_Pairs]], pairs: _Pairs, days: NDArray[np.int64]) -> None:
    for day in np.unique(days).tolist():
        book[day].append(pairs[days == day])


def _due(book: defaultdict[int, list[_Pairs]], day: int) -> _Pairs:
    return np.concatenate([np.zeros((0, 2), np.int64), *book.pop(day, [])])
