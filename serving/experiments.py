"""The experiments that run, and who is in which arm of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from recsys.experiments import Assignment
from serving.event_reading import of_session
from serving.experiments_file import ServedPlan
from serving.slot import Slot

NOBODY = Assignment(arms={}, labels={})


@dataclass(frozen=True)
class RunningExperiments:
    """A plan in force.

    Attributes:
        plan: without an experiment where none runs.
    """

    plan: ServedPlan = field(default_factory=ServedPlan)

    def assigned(self, user_id: str) -> Assignment:
        """The arms of a shopper; none for ""."""
        return self.plan.assign(user_id) if user_id else NOBODY


class ExperimentSlot(Slot[RunningExperiments]):
    """Holds the experiments that run."""


def logged_user(user_id: str, session_id: str) -> str:
    """Who a shopper is to the log of events, and to experiments; "" for somebody unknown.

    Ids that are blank to the log are none.
    """
    return user_id if user_id.strip() else of_session(session_id if session_id.strip() else "")
