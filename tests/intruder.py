"""Asks a registry for what lies elsewhere: a process of its own, whose system calls can be watched.

python intruder.py REGISTRY   reads lines of JSON on stdin, each a verb and a name; prints, as JSON,
                              the error that it ends with, or "done". The verb is a method of
                              `Registry`, or `publish`, which puts the registry's folder of that
                              name into a staged bundle
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import publisher

from recsys.bundle import Registry
from recsys.errors import BundleError


def ask(registry: Registry, verb: str, name: str) -> None:
    if verb == "prune":
        registry.prune(1)
    elif verb == "publish":
        with registry.stage() as staged:
            (registry.root / name).rename(staged / "notes")
            (staged / "config.json").write_text("{}")
            registry.publish(staged, publisher.describe(9))
    elif verb == "reading":
        with registry.reading(name):
            registry.verify(name)
    else:
        getattr(registry, verb)(name)


def main() -> None:
    registry = Registry(Path(sys.argv[1]))
    for line in sys.stdin:
        verb, name = json.loads(line)
        try:
            ask(registry, verb, name)
        except BundleError as error:
            print(json.dumps(f"{type(error).__name__}: {error}"), flush=True)  # noqa: T201
        else:
            print(json.dumps("done"), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
