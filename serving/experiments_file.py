"""The file of running experiments: arms with what each of them serves."""

from __future__ import annotations

import tomllib
from itertools import combinations
from pathlib import Path
from typing import Final, NamedTuple, Self

from pydantic import Field, ValidationError, model_validator

from recsys.errors import ConfigurationError
from recsys.experiments import HOLDOUT, Arm, Experiment, ExperimentPlan, join_labels
from recsys.recommender import RankedBy

MAX_LABEL_CHARS: Final = 256
"""Longest `experiment_arm` that the log of events takes from callers."""

DEFAULT_POOL: Final = 100
INTERLEAVED: Final = "interleaved"
OVERRIDES: Final = "overrides"
EXPLORING: Final = ("temperature", "pool")


class ArmShare(NamedTuple):
    """An arm with what it serves in words, and its share of all shoppers."""

    experiment: str
    arm: str
    serves: str
    share: float


class ServedArm(Arm):
    """An arm and what its shoppers are served; what it does not say is as without experiments."""

    bundle: str | None = Field(default=None, pattern=r"^v\d{6,15}$")
    """Version of the bundle, which stays whatever becomes current; None follows the current one."""

    ranker: RankedBy | None = None
    """What orders the candidates; None means `full`."""

    temperature: float | None = Field(default=None, ge=1e-6, le=1e6)
    """Of the draw by which lists are explored, in units of the score; None leaves nothing to
    chance. See `recsys.recommender.Exploration`."""

    pool: int | None = Field(default=None, ge=2, le=1_000)
    """Best items that are drawn from; None means 100. Only with a temperature."""

    @property
    def settings(self) -> dict[str, object]:
        """What the arm says."""
        return self.model_dump(exclude={"name", "weight"}, exclude_none=True)

    @model_validator(mode="after")
    def _check_pool(self) -> Self:
        if self.pool is not None and self.temperature is None:
            raise ConfigurationError(
                f"arm {self.name}: a pool is drawn from by a temperature; give both or neither"
            )
        return self


class ServedExperiment(Experiment):
    """An experiment whose arms say what they serve."""

    arms: tuple[ServedArm, ...] = Field(min_length=1)
    """See `Experiment`."""

    interleaved: bool = False
    """Whether each of its shoppers sees lists that hold both arms' items, drafted by turns; see
    `recsys.experiments.team_draft`. Takes two arms, whose weights then mean nothing, and no
    exploration."""

    @property
    def settings(self) -> set[str]:
        """What its arms say something of, and what that excludes."""
        said = set[str]().union(*(arm.settings for arm in self.arms))
        return said | ({INTERLEAVED, *EXPLORING} if self.interleaved else set())

    @model_validator(mode="after")
    def _check_interleaving(self) -> Self:
        if self.interleaved and len(self.arms) != 2:  # noqa: PLR2004
            raise ConfigurationError(
                f"experiment {self.name}: interleaving takes two arms, found {len(self.arms)}"
            )
        if self.interleaved and any(arm.temperature is not None for arm in self.arms):
            raise ConfigurationError(
                f"experiment {self.name}: interleaved lists are drafted from rankings without "
                "chance; leave temperature out"
            )
        return self

    def may_meet(self, other: ServedExperiment) -> bool:
        """Whether a shopper may be in both."""
        return self.layer is None or self.layer != other.layer


class ServedPlan(ExperimentPlan):
    """All experiments that a server runs."""

    experiments: tuple[ServedExperiment, ...] = ()
    """Any number."""

    @property
    def bundles(self) -> frozenset[str]:
        """Versions that arms name."""
        arms = (arm for one in self.experiments for arm in one.arms)
        return frozenset(arm.bundle for arm in arms if arm.bundle is not None)

    def arms(self) -> list[ArmShare]:
        """Every arm, in the file's order; both arms of an interleaved experiment have all of it."""
        rows = []
        for one in self.experiments:
            total = 1.0 if one.interleaved else sum(arm.weight for arm in one.arms)
            for arm in one.arms:
                weight = 1.0 if one.interleaved else arm.weight
                share = (1 - self.holdout) * (one.end - one.start) * weight / total
                parts = [f"{name} {value}" for name, value in arm.settings.items()]
                parts += [INTERLEAVED] if one.interleaved else []
                rows.append(ArmShare(one.name, arm.name, ", ".join(parts) or "as without", share))
        return rows

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        for one, other in combinations(self.experiments, 2):
            both = sorted(one.settings & other.settings)
            if both and one.may_meet(other):
                raise ConfigurationError(
                    f"experiments {one.name} and {other.name} both decide on {', '.join(both)} and "
                    "may have a shopper in common; give them one layer, with start and end apart"
                )
        return self

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        longest = {HOLDOUT: "exposed"} if self.holdout else {}
        for one in self.experiments:
            longest[one.name] = max((arm.name for arm in one.arms), key=len)
        length = len(join_labels(longest))
        if length > MAX_LABEL_CHARS:
            raise ConfigurationError(
                f"the labels of a shopper's arms are up to {length} characters long together, at "
                f"most {MAX_LABEL_CHARS} fit into an event; choose shorter names"
            )
        return self


def load_experiments(path: Path) -> ServedPlan:
    """Read a TOML file of experiments.

    Raises:
        ConfigurationError: the file is missing, not TOML, or says what can't be run; the message
            names file and setting.
    """
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"can't read the experiments {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not a TOML file: {error}") from error
    try:
        return ServedPlan.model_validate(written)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    except ValidationError as error:
        problems = "; ".join(f"{_place(item['loc'])}: {item['msg']}" for item in error.errors())
        raise ConfigurationError(f"{path}: {problems}") from error


def _place(names: tuple[int | str, ...]) -> str:
    """Where a setting is, without the ids of shoppers: the log gets to see it."""
    known = names[: names.index(OVERRIDES) + 1] if OVERRIDES in names else names
    return ".".join(map(str, known))
