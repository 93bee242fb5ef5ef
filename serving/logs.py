"""Logs: one JSON object a line on stderr, and no shopper's data in it."""

from __future__ import annotations

import json
import logging
import sys
import threading
from contextlib import suppress
from traceback import extract_tb
from types import TracebackType
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
    """Send our own log, everyone else's and Python's warnings to `stream`.

    One JSON object a line, in ASCII, so that no text in it can end a line or colour a terminal.
    What libraries fill into their messages may be a shopper's: only the messages' patterns are kept
    (as in "could not read %s"), and of their errors the places.
    """
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        use_get_message=False,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = _LinesOnly(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(capture=True)


def log_uncaught() -> None:
    """Log errors that end a thread or the process, where Python would print a trace.

    What ends the process is told with its text: the main thread answers no calls.
    """
    sys.excepthook = _ended
    sys.unraisablehook = lambda told: _uncaught(told.exc_type, told.exc_value, None)
    threading.excepthook = lambda told: _uncaught(told.exc_type, told.exc_value, None)


class _LinesOnly(logging.StreamHandler[TextIO]):
    """Says in one line that a record could not be written, where logging would print a trace."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Name the place of the faulty logging call, nothing of its arguments."""
        place = f"{record.pathname}:{record.lineno} {record.funcName}"
        lost = {"event": "log record lost", "level": "error", "logger": record.name, "at": place}
        with suppress(OSError, ValueError):  # the stream itself is gone: there is nobody to tell
            self.stream.write(json.dumps(lost) + self.terminator)


def _ended(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    serving_log().error("uncaught", text=str(error), error=describe_fault(error))


def _uncaught(
    kind: type[BaseException], error: BaseException | None, _: TracebackType | None
) -> None:
    serving_log().error("uncaught", error=describe_fault(error or kind()))


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
