"""What a benchmark ran on."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import torch
from pydantic import BaseModel

from training.process import usable_cores

_PACKAGES: Final = ("torch", "sentence-transformers", "lightgbm", "faiss-cpu", "grpcio")
_CPU_INFO: Final = Path("/proc/cpuinfo")


class Machine(BaseModel):
    """Hardware, threads and versions."""

    cpu: str
    cores: int
    threads: int
    """Of torch, for one call alone."""

    capability: str
    """The widest vector instructions torch uses."""

    packages: dict[str, str]

    def line(self) -> str:
        """For a person."""
        versions = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return (
            f"{self.cpu}, {self.cores} cores, {self.threads} threads, {self.capability}; {versions}"
        )


def this_machine() -> Machine:
    """The machine and the process as they are now."""
    return Machine(
        cpu=_cpu(),
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        capability=torch.backends.cpu.get_cpu_capability(),
        packages={name: version(name) for name in _PACKAGES},
    )


def median_ms(action: Callable[[], object], repeats: int) -> float:
    """Median duration in milliseconds, after one run that is not counted."""
    action()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return 1_000 * float(np.median(taken))


def _cpu() -> str:
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
