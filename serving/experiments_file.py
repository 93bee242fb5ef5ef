"""The file of running experiments: arms with what each of them serves."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final, Self

from pydantic import ValidationError, model_validator

from recsys.errors import ConfigurationError
from recsys.experiments import HOLDOUT, Arm, Experiment, ExperimentPlan, join_labels

MAX_LABEL_CHARS: Final = 256
"""Longest `experiment_arm` that the log of events takes from callers."""


class ServedArm(Arm):
    """An arm and what its shoppers are served."""


class ServedExperiment(Experiment):
    """An experiment whose arms say what they serve."""

    arms: tuple[ServedArm, ...]
    """See `Experiment`."""


class ServedPlan(ExperimentPlan):
    """All experiments that a server runs."""

    experiments: tuple[ServedExperiment, ...] = ()
    """Any number."""

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
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise ConfigurationError(f"{path}: {problems}") from error
