"""Publishes tiny bundles: for the tests, and as a process of its own that they can harm.

python publisher.py REGISTRY SEED   publishes one
python publisher.py                 serves lines "REGISTRY <tab> ACTION <tab> N" on stdin: a forked
                                    process acts, and kills itself just before its N-th call
                                    that changes the disk; prints its exit code. An action is
                                    `publish SEED`, `activate VERSION` or `prune KEEP`
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from recsys.bundle import ManifestFields, Registry, save_arrays, save_json

BUILT = ("config.json", "notes/golden.jsonl", "notes/log.safetensors", "ranker.txt", "text.faiss")
CALLS = (
    (os, "mkdir"),
    (os, "fsync"),
    (os, "rename"),
    (os, "unlink"),
    (os, "rmdir"),
    (fcntl, "flock"),
)


def describe(seed: int) -> ManifestFields:
    return ManifestFields(
        horizon=datetime(2031, 4, 2, tzinfo=UTC),
        seed=seed,
        data_sha256=f"{seed:064x}",
        configuration={"text": {"item_max_tokens": 32}},
        metrics={"ndcg@10": 0.25, "cross_encoder": {"before": 0.125, "after": 0.5}},
    )


def build(folder: Path, seed: int) -> None:
    (folder / "notes").mkdir()
    save_json(folder / "config.json", {"seed": seed})
    (folder / "ranker.txt").write_text(f"tree\nversion=v4\nseed={seed}\n")
    (folder / "text.faiss").write_bytes(b"IxFI" + bytes([seed] * 40))
    (folder / "notes" / "golden.jsonl").write_text(f'{{"user": "{seed}"}}\n')
    save_arrays(folder / "notes" / "log.safetensors", {"item": np.arange(seed, seed + 9)})


def publish(root: Path, seed: int) -> str:
    registry = Registry(root)
    with registry.stage() as staged:
        build(staged, seed)
        return registry.publish(staged, describe(seed))


def act(root: Path, action: str) -> None:
    """Run an action as the module's text spells them."""
    verb, _, object_ = action.partition(" ")
    if verb == "publish":
        publish(root, int(object_))
    elif verb == "activate":
        Registry(root).activate(object_)
    else:
        Registry(root).prune(int(object_))


@contextmanager
def at_call(number: int, fault: Callable[[], None]) -> Iterator[None]:
    """Run `fault` just before the number-th call, from 1 on, that changes the disk."""
    left = number

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                fault()
            return original(*args, **options)

        return run

    originals = [(module, name, getattr(module, name)) for module, name in CALLS]
    for module, name, original in originals:
        setattr(module, name, counted(original))
    try:
        yield
    finally:
        for module, name, original in originals:
            setattr(module, name, original)


def _kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _serve() -> None:
    for line in sys.stdin:
        root, action, number = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            try:
                with at_call(int(number), _kill_myself):
                    act(Path(root), action)
            except BaseException:  # noqa: BLE001
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


if __name__ == "__main__":
    if len(sys.argv) > 1:
        publish(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        _serve()
