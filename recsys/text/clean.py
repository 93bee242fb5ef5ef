"""Cleaning of raw text before a model reads it."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Final

MAX_RAW_CHARACTERS: Final = 20_000
"""Longer raw texts are cut here first: no token budget reaches further; cleaning stays bounded."""

_HIDDEN_BLOCK: Final = re.compile(r"<(script|style)\b.*?(</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"</?[a-z!][^<>]{0,2000}>", re.IGNORECASE)
_DROPPED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_MAX_NESTED_MARKUP: Final = 4
_MAX_MARKS: Final = 30
_MAX_COMBINING_MARKS: Final = 4
_COMBINING_RUN: Final = re.compile(r"[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]{5,}")


def clean(raw: str | None) -> str:
    """One line of lower-case NFC text without markup and control characters.

    HTML tags, scripts and styles are removed and entities resolved, also where they are escaped or
    nested a few times (`&lt;b&gt;`); control, format, surrogate and unassigned characters become
    spaces; runs of more than four combining marks are cut to four; white space is collapsed. Texts
    that differ only in these respects come out equal, so NFC and NFD spellings get the same score.

    Args:
        raw: any text; None counts as empty. Read up to `MAX_RAW_CHARACTERS`.

    Returns:
        The cleaned text, possibly empty.
    """
    text = _clean_once((raw or "")[:MAX_RAW_CHARACTERS])
    for _ in range(_MAX_NESTED_MARKUP):
        if "<" not in text and "&" not in text:
            return text
        again = _clean_once(text)
        if again == text:
            return text
        text = again
    return _clean_once(text.replace("<", " ").replace("&", " "))


def _clean_once(text: str) -> str:
    if "<" in text:
        text = _TAG.sub(" ", _HIDDEN_BLOCK.sub(" ", text))
    if "&" in text:
        text = html.unescape(text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", _without_long_mark_runs(text)).lower()
        text = unicodedata.normalize("NFC", text)
        text = _COMBINING_RUN.sub(lambda run: run.group()[:_MAX_COMBINING_MARKS], text)
    if not text.isprintable():
        text = "".join(" " if unicodedata.category(c) in _DROPPED_CATEGORIES else c for c in text)
    return unicodedata.normalize("NFC", " ".join(text.lower().split()))


def _without_long_mark_runs(text: str) -> str:
    """Normalising takes time quadratic in a run of marks, whatever the script; none needs 30."""
    kept = []
    run = 0
    for character in text:
        run = run + 1 if unicodedata.category(character).startswith("M") else 0
        if run <= _MAX_MARKS:
            kept.append(character)
    return "".join(kept)
