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
REMOVED: Final = ".removed-"
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
        """Delete everything, once the result is published; a killed run leaves no half of it.

        The folder is renamed first, so that no stage looks finished whose files are going.
        """
        collect_removed(self.folder.parent)
        self.folder.rename(self.folder.with_name(f"{REMOVED}{self.folder.name}"))
        collect_removed(self.folder.parent)


def collect_removed(folder: Path) -> None:
    """Delete what runs that were killed meanwhile have left of removed workspaces."""
    for left in folder.glob(f"{REMOVED}*"):
        shutil.rmtree(left, ignore_errors=True)
