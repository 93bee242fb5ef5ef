"""Which arm a shopper is in: a salted hash, so that nothing has to be remembered."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recsys.errors import ConfigurationError
from recsys.experiments.labels import checked_name

HOLDOUT: Final = "holdout"
"""Name of the experiment that compares shoppers in no experiment with all others."""

HELD, EXPOSED = "held", "exposed"
_PARTS: Final = 2.0**53


def share_of(salt: str, user_id: str) -> float:
    """A number in [0, 1) that is uniform over users and independent between salts.

    The first 53 bits of SHA-256 over salt, a zero byte and id, in UTF-8: the same on every host,
    in every process and at any time.
    """
    digest = sha256(f"{salt}\0{user_id}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / _PARTS


def choose(share: float, weights: Sequence[float]) -> int:
    """The arm that a share in [0, 1) falls into, arms side by side by weight (not all 0)."""
    ends = list(accumulate(weights))
    return next(arm for arm, end in enumerate(ends) if share * ends[-1] < end)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Arm(_Section):
    """One of the alternatives of an experiment."""

    name: str
    """Letters, digits, `.`, `_` and `-`."""

    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Share of the experiment's shoppers, relative to the other arms; 0 takes nobody in."""


class Experiment(_Section):
    """Arms, and who is in the experiment at all."""

    name: str
    """As in the label `experiment/arm` of its events."""

    arms: tuple[Arm, ...] = Field(min_length=1)
    """In order; a shopper's arm changes when names, weights or order do."""

    salt: str | None = None
    """Makes its assignment independent of others; its name where None. A new one reshuffles."""

    layer: str | None = None
    """Experiments of one layer never share a shopper; those of different layers are independent.
    A layer of its own where None."""

    start: float = Field(default=0.0, ge=0, le=1)
    """First share of the layer's shoppers that is in the experiment."""

    end: float = Field(default=1.0, ge=0, le=1)
    """First share that no longer is."""

    overrides: dict[str, str] = Field(default_factory=dict)
    """Arm by user id, for checks by hand: before holdout, layer and hash. Not logged as a label,
    so that it is no part of the report."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [checked_name(arm.name, f"experiment {self.name}: arm") for arm in self.arms]
        checked_name(self.name, "experiment")
        if len(set(names)) < len(names):
            raise ConfigurationError(f"experiment {self.name}: two arms have one name: {names}")
        if not any(arm.weight for arm in self.arms):
            raise ConfigurationError(f"experiment {self.name}: no arm has a weight above 0")
        if self.start >= self.end:
            raise ConfigurationError(
                f"experiment {self.name}: takes shares {self.start} to {self.end}, which is nobody"
            )
        unknown = sorted(set(self.overrides.values()) - set(names))
        if unknown:
            raise ConfigurationError(
                f"experiment {self.name}: overrides to arms that are not there: {unknown}"
            )
        return self

    def overlaps(self, other: Experiment) -> bool:
        """Whether a shopper could be in both though they share a layer."""
        shared = self.layer is not None and self.layer == other.layer
        return shared and self.start < other.end and other.start < self.end

    def arm_of(self, user_id: str) -> str | None:
        """The arm by hash alone; None outside the experiment's shares of its layer."""
        layer = f"layer:{self.layer if self.layer is not None else self.name}"
        if not self.start <= share_of(layer, user_id) < self.end:
            return None
        salt = self.salt if self.salt is not None else self.name
        weights = [arm.weight for arm in self.arms]
        return self.arms[choose(share_of(f"arm:{salt}", user_id), weights)].name


class ExperimentPlan(_Section):
    """All experiments that run at a time."""

    experiments: tuple[Experiment, ...] = ()
    """Any number."""

    holdout: float = Field(default=0.0, ge=0, lt=1)
    """Share of all shoppers that is in no experiment, to see what they add up to."""

    holdout_salt: str = HOLDOUT
    """Another one draws other shoppers."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [one.name for one in self.experiments]
        if len(set(names)) < len(names) or HOLDOUT in names:
            raise ConfigurationError(
                f"experiments need names of their own, none of them {HOLDOUT!r}; found {names}"
            )
        for place, one in enumerate(self.experiments):
            for other in self.experiments[place + 1 :]:
                if one.overlaps(other):
                    raise ConfigurationError(
                        f"experiments {one.name} and {other.name} take the same shares of layer "
                        f"{one.layer}; move start and end apart, or give them different layers"
                    )
        return self

    def assign(self, user_id: str) -> Assignment:
        """The arms of a shopper, the same ones for as long as the plan is."""
        labels, arms = {}, {}
        held = share_of(f"holdout:{self.holdout_salt}", user_id) < self.holdout
        if self.holdout:
            labels[HOLDOUT] = HELD if held else EXPOSED
        for one in self.experiments:
            forced = one.overrides.get(user_id)
            arm = one.arm_of(user_id) if forced is None and not held else None
            if forced is not None:
                arms[one.name] = forced
            elif arm is not None:
                arms[one.name] = labels[one.name] = arm
        return Assignment(arms=arms, labels=labels)


class Assignment(_Section):
    """What a shopper is in."""

    arms: dict[str, str]
    """Arm to serve by experiment, overrides included; no entry where the shopper is not in it."""

    labels: dict[str, str]
    """Arm to log by experiment, without overrides, with the holdout where there is one."""
