"""A job in a process of its own: its memory is its own, and can be limited."""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Final, Generic, NamedTuple, ParamSpec, TypeVar

from recsys.errors import UnavailableError

Found = TypeVar("Found")
Arguments = ParamSpec("Arguments")
_KIB_A_MIB: Final = 1024
_POLARS_ALLOCATOR: Final = "_RJEM_MALLOC_CONF"
_NOTHING_RETAINED: Final = "retain:false"
"""Address space of freed memory, which polars' allocator keeps, would count as used."""


class Apart(NamedTuple, Generic[Found]):
    """What a job gave, and the most memory that was resident while it ran.

    Attributes:
        result: of the job.
        peak_mib: of the whole process, libraries included.
    """

    result: Found
    peak_mib: float


def run_apart(
    limit_mib: int | None,
    job: Callable[Arguments, Found],
    *arguments: Arguments.args,
    **named: Arguments.kwargs,
) -> Apart[Found]:
    """Run a function of a module in a fresh process.

    Args:
        limit_mib: of private memory (`RLIMIT_DATA`: heap and anonymous mappings); what goes beyond
            fails. None for no limit.
        job: must be importable; it, its arguments and its result are sent between processes.
        arguments: of the job.
        named: of the job.

    Raises:
        UnavailableError: the process ended or ran out of memory before the job was done.
    """
    spawn = multiprocessing.get_context("spawn")
    os.environ[_POLARS_ALLOCATOR] = _with_nothing_retained(os.environ.get(_POLARS_ALLOCATOR))
    with ProcessPoolExecutor(1, spawn, _limit_memory, (limit_mib,)) as pool:
        try:
            return pool.submit(_watched, partial(job, *arguments, **named)).result()
        except (BrokenProcessPool, MemoryError) as error:
            allowed = "no limit" if limit_mib is None else f"a limit of {limit_mib:,} MiB"
            raise UnavailableError(
                f"{job.__name__} ended before it was done, with {allowed} of memory; "
                "give it more or a smaller task"
            ) from error


def process_status(pid: int | None = None) -> Path:
    """The status file of a process; of this one by default."""
    return Path("/proc") / ("self" if pid is None else str(pid)) / "status"


def resident_mib(field: str = "VmRSS", status: Path | None = None) -> float:
    """A figure of a process's memory from its status file, such as `VmHWM`, in MiB."""
    status = status or process_status()
    for line in status.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / _KIB_A_MIB
    return float("nan")


def _with_nothing_retained(settings: str | None) -> str:
    """The allocator's settings, which polars itself makes where it is imported, and ours."""
    kept = [one for one in (settings or "").split(",") if one and one != _NOTHING_RETAINED]
    return ",".join([*kept, _NOTHING_RETAINED])


def _limit_memory(limit_mib: int | None) -> None:
    if limit_mib is not None:
        limit = limit_mib << 20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _watched(job: Callable[[], Found]) -> Apart[Found]:
    return Apart(job(), resident_mib("VmHWM"))
