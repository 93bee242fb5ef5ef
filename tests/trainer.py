"""Runs `recsys train` as processes that tests can kill, without importing everything each time.

python trainer.py    serves lines "ARGUMENTS as JSON" on stdin: a forked process runs the command;
                     prints its process id, and its exit code when it has ended
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import NoReturn

PRELOADED = ("serving.cli.train", "rich.progress", "training.pipeline", "matplotlib.figure")


def _run(arguments: list[str]) -> NoReturn:
    from serving.cli.main import main  # noqa: PLC0415

    code = 0
    try:
        sys.stdout = sys.stderr
        main(["train", *arguments])
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
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        print(child, flush=True)  # noqa: T201
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


if __name__ == "__main__":
    _serve()
