"""Logs: one JSON object a line on stderr, and no shopper's data in it."""

from __future__ import annotations

import logging
import sys
from traceback import extract_tb
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

MAX_CAUSES: Final = 8


def serving_log() -> FilteringBoundLogger:
    """The server's log, a part of the standard library's: quiet until someone configures that."""
    bound: FilteringBoundLogger = structlog.wrap_logger(
        logging.getLogger("recsys.serving"),
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    return bound


def configure_logs(stream: TextIO = sys.stderr) -> None:
    """Send our own log, everyone else's and Python's warnings to `stream` as JSON lines."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(capture=True)


def describe_fault(error: BaseException) -> list[dict[str, object]]:
    """What was raised where, outermost error first, each with its frames, innermost frame last.

    The errors' texts stay out: they may quote an id or a query.
    """
    chain: list[dict[str, object]] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < MAX_CAUSES:
        kind = type(cause)
        frames = [f"{f.filename}:{f.lineno} {f.name}" for f in extract_tb(cause.__traceback__)]
        chain.append({"type": f"{kind.__module__}.{kind.__qualname__}", "frames": frames})
        cause = cause.__cause__ or cause.__context__
    return chain


def _shared() -> list[Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_texts,
    ]


def _without_texts(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    raised = event.pop("exc_info", None)
    error = raised[1] if isinstance(raised, tuple) else sys.exception() if raised else None
    if error is not None:
        event["error"] = describe_fault(error)
    return event
