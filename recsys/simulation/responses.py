"""What shoppers do with what they are shown, drawn from the true probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from recsys.simulation.behaviour import Behaviour
from recsys.simulation.policy import ShownLists
from recsys.simulation.visits import SECOND, Visits


@dataclass(frozen=True)
class Slots:
    """The m shown items of a day's lists, one after the other.

    Attributes:
        row: int64 (m,), the list.
        position: int64 (m,), 0-based.
        user: int64 (m,), user rows.
        item: int64 (m,), item rows.
        propensity: float64 (m,), as in `ShownLists`.
        time: int64 (m,), when shown, microseconds since midnight.
    """

    row: NDArray[np.int64]
    position: NDArray[np.int64]
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    propensity: NDArray[np.float64]
    time: NDArray[np.int64]


@dataclass(frozen=True)
class Responses:
    """What happened on m slots; all bool (m,).

    Attributes:
        clicked: only where looked at.
        carted: only where clicked.
        purchased: only where carted.
        shared: only where clicked.
        hidden: only where looked at and not clicked.
    """

    clicked: NDArray[np.bool_]
    carted: NDArray[np.bool_]
    purchased: NDArray[np.bool_]
    shared: NDArray[np.bool_]
    hidden: NDArray[np.bool_]


def lay_out(visits: Visits, shown: ShownLists) -> Slots:
    """The slots of lists, list by list, from the top down."""
    row, position = np.nonzero(shown.item >= 0)
    return Slots(
        row=row,
        position=position,
        user=visits.list_user[row],
        item=shown.item[row, position],
        propensity=shown.propensity[row, position],
        time=visits.time[row],
    )


def draw_responses(
    behaviour: Behaviour, slots: Slots, day: int, rng: np.random.Generator
) -> Responses:
    """Draw each slot on its own: looked at by position, the rest by affinity."""
    config = behaviour.config
    affinity = behaviour.pair_affinity(slots.user, slots.item, day)
    chance = rng.random((5, len(affinity)))
    looked_at = chance[0] < behaviour.examination(slots.position)
    clicked = looked_at & (chance[1] < behaviour.click(affinity))
    carted = clicked & (chance[2] < behaviour.cart(affinity))
    return Responses(
        clicked=clicked,
        carted=carted,
        purchased=carted & (chance[3] < config.purchase_rate),
        shared=clicked & (chance[4] < config.share_rate * expit(affinity)),
        hidden=looked_at & ~clicked & (chance[4] < config.hide_rate * expit(-affinity)),
    )


@dataclass(frozen=True)
class Act:
    """What shoppers do with shown items besides passing them over.

    Attributes:
        happened: bool (m,), on which slots.
        time: int64 (m,), when, microseconds since midnight; it counts where the act happened.
    """

    happened: NDArray[np.bool_]
    time: NDArray[np.int64]


def draw_acts(
    behaviour: Behaviour, slots: Slots, day: int, rng: np.random.Generator
) -> dict[str, Act]:
    """Draw what follows on each slot and when; by event type, in the order of a session."""
    done = draw_responses(behaviour, slots, day, rng)
    click_time = draw_click_times(slots, rng)
    cart_time = click_time + rng.integers(15 * SECOND, 60 * SECOND, len(click_time))
    buy_time = cart_time + rng.integers(60 * SECOND, 300 * SECOND, len(click_time))
    share_time = click_time + rng.integers(5 * SECOND, 15 * SECOND, len(click_time))
    return {
        "click": Act(done.clicked, click_time),
        "hide": Act(done.hidden, click_time),
        "share": Act(done.shared, share_time),
        "add_to_cart": Act(done.carted, cart_time),
        "purchase": Act(done.purchased, buy_time),
    }


def draw_click_times(slots: Slots, rng: np.random.Generator) -> NDArray[np.int64]:
    """int64 (m,): when each slot would be clicked, some seconds after the one above it."""
    pause = rng.integers(2 * SECOND, 4 * SECOND, len(slots.time))
    return slots.time + pause + 4 * SECOND * slots.position
