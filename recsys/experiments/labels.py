"""How an event names the experiments and arms that its shopper was in."""

from __future__ import annotations

import re
from typing import Final

from recsys.errors import ConfigurationError

ARM_SEPARATOR: Final = "/"
LABEL_SEPARATOR: Final = ","
UNNAMED: Final = "default"
"""The experiment of labels that name an arm only."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def checked_name(name: str, what: str) -> str:
    """The name itself.

    Raises:
        ConfigurationError: it holds anything but letters, digits, `.`, `_` and `-`.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{what} {name!r}: expected letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return name


def arm_label(experiment: str, arm: str) -> str:
    """`experiment/arm`, as in the column `experiment_arm`."""
    return f"{experiment}{ARM_SEPARATOR}{arm}"


def join_labels(assigned: dict[str, str]) -> str:
    """The text of `experiment_arm` for arms by experiment: `a/x,b/y`, by name; may be empty."""
    return LABEL_SEPARATOR.join(arm_label(*one) for one in sorted(assigned.items()))


def read_labels(text: str) -> dict[str, str]:
    """Arms by experiment from the text of `experiment_arm`.

    A label without `/` is an arm of the experiment `default`. Of two labels of one experiment the
    last counts.
    """
    found = {}
    for label in filter(None, (one.strip() for one in text.split(LABEL_SEPARATOR))):
        experiment, separator, arm = label.partition(ARM_SEPARATOR)
        found[experiment if separator else UNNAMED] = arm if separator else experiment
    return found
