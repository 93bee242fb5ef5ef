"""What the server logs during a test."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from serving.logs import configure_logs

CANARY: Final = "canary-4711"
"""Stands for what is a shopper's; it may turn up nowhere but in answers."""


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Everything that is logged while the block runs."""
    stream = io.StringIO()
    before = logging.root.handlers[:], logging.root.level
    configure_logs(stream)
    try:
        yield stream
    finally:
        logging.captureWarnings(capture=False)
        logging.root.handlers[:], logging.root.level = before


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    """The log's objects; every line is one."""
    return [json.loads(line) for line in log.getvalue().splitlines()]
