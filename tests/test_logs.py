"""The log: one JSON object a line, whatever is said; nobody's data in it."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from log_lines import CANARY, lines, logged
from shelf_ranker import ShelfRanker
from shelf_server import raising, refusal, running

from recsys import v1
from recsys.errors import BundleCorruptError
from serving.logs import serving_log

HURTFUL = [
    'a"}\n{"event": "forged"}',
    "\r\n\x1b[31mred\x1b[0m",
    "%s %d %(user)s",
    "NUL \x00 BEL \x07",
    "next line \x85 separators \u2028 \u2029",
    "lone surrogate \ud800",
    "\u202eright to left",
    "👩‍👩‍👧‍👦" + "a\u0301" * 1_000,
]


@pytest.mark.parametrize("text", HURTFUL, ids=range(len(HURTFUL)))
def test_no_text_breaks_a_line(text: str) -> None:
    library = logging.getLogger("somebody")
    with logged() as log:  # pytest's own handlers are out of the way
        serving_log().info(text, field=text, other={text: [text]})
        library.warning(text)
        library.warning(f"{text} %s", text)
        library.warning("%d, %s", text)
    first, *_ = found = lines(log)
    assert len(found) == 4
    assert first["event"] == first["field"] == text
    assert log.getvalue().isascii()
    assert not any(ord(character) < 32 and character != "\n" for character in log.getvalue())


def test_of_a_librarys_message_only_the_pattern_is_kept(log: io.StringIO) -> None:
    library = logging.getLogger("library")
    library.error("could not read %s", CANARY)
    library.error("failed for %s", CANARY, exc_info=ValueError(CANARY))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("an old way", FutureWarning, stacklevel=1)
    first, second, third = lines(log)
    assert (first["event"], second["event"]) == ("could not read %s", "failed for %s")
    assert second["error"][0]["type"] == "builtins.ValueError"
    assert "an old way" in third["event"]
    assert CANARY not in log.getvalue()


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError(CANARY)


def test_a_record_that_cannot_be_written_says_so_in_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with logged() as log:
        logging.getLogger("somebody").info(Unprintable())
        serving_log().info("after")
    lost, after = lines(log)
    assert capsys.readouterr().err == ""
    assert (lost["event"], after["event"]) == ("log record lost", "after")
    assert "test_logs.py" in lost["at"]
    assert CANARY not in log.getvalue()


UNCAUGHT = f"""
import threading
from serving.logs import configure_logs, log_uncaught
configure_logs()
log_uncaught()
def fail():
    raise ValueError("{CANARY}")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
class Dying:
    def __del__(self):
        fail()
Dying()
raise ValueError("the end")
"""


def test_what_nobody_caught_is_a_line_of_the_log_too(project_root: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", UNCAUGHT],
        cwd=project_root,
        capture_output=True,
        text=True,
        check=False,
    )
    found = lines(io.StringIO(ended.stderr))
    assert ended.returncode == 1
    assert [line["event"] for line in found] == ["uncaught"] * 3
    assert all("fail" in line["error"][0]["frames"][-1] for line in found[:2])
    assert found[2]["text"] == "the end"
    assert CANARY not in ended.stderr


@pytest.mark.parametrize("hurtful", [*HURTFUL[:5], *HURTFUL[6:]], ids=range(len(HURTFUL) - 1))
def test_no_field_of_a_request_reaches_the_log_or_breaks_it(log: io.StringIO, hurtful: str) -> None:
    text = f"{CANARY} {hurtful}"[:60]
    ranker = ShelfRanker()
    with running(ranker) as (_, call):
        call.recommend(user_id=text, session_id=text, query=text, context_item_ids=[text])
        call.recommend(filter=v1.ItemFilter(categories=[text], brands=[text]))
        call.send(v1.RankRequest(item_ids=[text], user_id=text))
        refused = [
            refusal(lambda: call.recommend(user_id=text * 99)),
            refusal(lambda: call.recommend(user_id=text, page_size=-1)),
            refusal(lambda: call.recommend(query=text * 9_000)),
        ]
        refusal(lambda: call.send(v1.SimilarItemsRequest(item_id=text)))
        ranker.before_answering = raising(BundleCorruptError(text))
        refused.append(refusal(lambda: call.recommend(user_id=text, query=text)))
    assert len(lines(log)) == 9
    assert CANARY not in log.getvalue()
    assert not any(CANARY in details for _, details, _ in refused)
