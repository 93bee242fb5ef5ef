"""Runs `recsys index` as processes that tests can harm, without importing everything each time.

python indexer.py    serves lines {"arguments": [...], "kill_at": N} on stdin: a forked process
                     stops itself, and once it is continued runs the command; before its N-th call
                     that changes the disk it kills itself (0: never). Prints its process id, and
                     its exit code when it has ended
"""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib import import_module
from typing import NoReturn

from publisher import at_call

PRELOADED = ("serving.cli.index", "rich.progress", "training.index_catalogue")


def _run(arguments: list[str], kill_at: int) -> NoReturn:
    from serving.cli.main import main  # noqa: PLC0415

    os.kill(os.getpid(), signal.SIGSTOP)
    code = 0
    try:
        with at_call(kill_at, lambda: os.kill(os.getpid(), signal.SIGKILL)):
            main(["index", *arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())
        code = 1
    os._exit(code)


def _serve() -> None:
    for name in PRELOADED:
        import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            sys.stdout = sys.stderr
            _run(asked["arguments"], asked["kill_at"])
        print(child, flush=True)  # noqa: T201
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


if __name__ == "__main__":
    _serve()
