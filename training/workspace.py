"""Where a training run keeps finished stages, so that a killed run goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from recsys.disk import flush

SUMMARY: Final = "summary.json"
Summary = dict[str, Any]


@dataclass(frozen=True)
class Workspace:
    """One folder per finished stage; a stage is finished when its folder is there.

    Attributes:
        folder: of this run; its name tells data and configuration, so that another run has another.
    """

    folder: Path

    def stage(self, name: str, make: Callable[[Path], Summary]) -> Path:
        """The folder of a stage; `make` fills it, unless an earlier run finished it.

        The folder appears whole or not at all: it is built under another name and renamed.

        Args:
            name: of the stage.
            make: writes the stage's files into an empty folder and returns its JSON summary.
        """
        done = self.folder / name
        if done.is_dir():
            return done
        building = self.folder / f".{name}.tmp"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        summary = make(building)
        (building / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        for path in [*building.rglob("*"), building]:
            flush(path)
        building.rename(done)
        return done

    def summary(self, name: str) -> Summary:
        """The summary of a finished stage."""
        summary: Summary = json.loads((self.folder / name / SUMMARY).read_text(encoding="utf-8"))
        return summary

    def remove(self) -> None:
        """Delete everything, once the result is published."""
        shutil.rmtree(self.folder)
