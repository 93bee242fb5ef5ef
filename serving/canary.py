"""The canary: a process that opens a bundle first, and may die of it in the server's place.

`python -m serving.canary FOLDER` reads a bundle's folder as a server would and answers its golden
queries. It writes a line with a JSON string for each file it is about to read, and at the end a
line with a JSON object: `{"fault": null}`, or what is wrong. Native readers abort the process on
some damaged files (LightGBM does): then there is no last line.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

from recsys.errors import BundleCorruptError, DeadlineError, RecsysError

COMMAND: Final = (sys.executable, "-P", "-m", "serving.canary")
NICENESS: Final = 5
PATIENCE_SECONDS: Final = 300.0
"""Longest time a canary may take."""

LAST_WORDS: Final = 200
"""Characters that are kept of what a process complained of before it ended."""

_STEP_SECONDS: Final = 0.02

TimeLeft = Callable[[], float]
"""Seconds that a caller still waits; 0 or less once nobody does."""


def send_canary(
    folder: Path,
    time_left: TimeLeft = lambda: math.inf,
    command: Sequence[str] = COMMAND,
    patience: float = PATIENCE_SECONDS,
) -> None:
    """Let a process of its own try a bundle out; returns when it came back well.

    It is started anew, not forked: forks of a process with threads may hang. It gives way to calls
    that are answered at the time, and is killed when nobody waits for it any more.

    Raises:
        BundleCorruptError: the process found a fault, died, or took longer than `patience` seconds:
            some damaged files are read forever; names the file it was reading.
        DeadlineError: the caller's time ran out.
    """
    with TemporaryFile("w+b") as told, TemporaryFile("w+b") as complaints:
        code = _run([*command, str(folder)], (told, complaints), time_left, patience)
        lines, last_words = _lines(told)[:-1], " ".join(_lines(complaints)[-2:]).strip()
    last = json.loads(lines[-1]) if lines else "before any file"
    if isinstance(last, str):
        raise BundleCorruptError(
            f"{last}: the process that tried the bundle out {_end(code, patience)} there, saying "
            f"{last_words[-LAST_WORDS:]!r}; the bundle can't be served: publish it again"
        )
    if last["fault"] is not None:
        raise BundleCorruptError(str(last["fault"]))


def _lines(file: IO[bytes]) -> list[str]:
    """The last one is empty, or was not written to its end."""
    file.seek(0)
    return file.read().decode("utf-8", errors="replace").split("\n")


def _run(
    command: Sequence[str],
    outputs: tuple[IO[bytes], IO[bytes]],
    time_left: TimeLeft,
    patience: float,
) -> int | None:
    """The exit code of the command, None of one that took too long; `outputs` has what it wrote."""
    end = time.monotonic() + patience
    with subprocess.Popen(  # noqa: S603  (our own command)
        command, stdin=subprocess.DEVNULL, stdout=outputs[0], stderr=outputs[1]
    ) as process:
        try:
            while process.poll() is None:
                if time_left() <= 0:
                    raise DeadlineError("there was no time to try the bundle out")
                if time.monotonic() > end:
                    return None
                time.sleep(_STEP_SECONDS)
        finally:
            process.kill()
    return process.returncode


def _end(code: int | None, patience: float) -> str:
    if code is None:
        return f"was not done after {patience:.0f} s"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"died of {signal.Signals(-code).name}"
    return f"ended with code {code}"


def main(arguments: Sequence[str]) -> None:
    """Try out the folder named by the only argument; see the module's text."""
    os.nice(max(NICENESS - os.nice(0), 0))  # its parent may give way already
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold shoppers' histories
    with _alone_on_stdout() as told:
        from recsys.recommender import try_out  # noqa: PLC0415
        from training.process import set_up_process  # noqa: PLC0415

        def tell(what: object) -> None:
            told.write(f"{json.dumps(what)}\n")

        set_up_process(1)
        fault = None
        try:
            try_out(Path(arguments[0]), tell)
        except RecsysError as error:
            fault = str(error)
        tell({"fault": fault})


def _alone_on_stdout() -> IO[str]:
    """The standard output, for us alone: LightGBM writes there what it has to complain of."""
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return told


if __name__ == "__main__":
    main(sys.argv[1:])
