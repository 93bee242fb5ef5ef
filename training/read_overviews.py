"""Read plot summaries of movies from a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl

from recsys.errors import FileFormatError

MOVIE_KEYS: Final = ("movieId", "movie_id", "tmdbId", "id")
"""Fields that say which movie an entry is about; of several the first here counts."""

TEXT_KEYS: Final = ("overview", "description")
Entry = dict[str, str | None]


def read_overviews(path: Path) -> pl.DataFrame:
    """The entries of an object `{"movieId": "text"}` or of a list of objects, in order.

    An entry of a list has one of `MOVIE_KEYS`, text or a whole number, and one of `TEXT_KEYS`, text
    or null; other fields are ignored.

    Returns:
        `line` (entry, from 1); `movie` (str, a movieId) or else `tmdb` (str, a tmdbId);
        `description` (str, trimmed; null where there is no text).

    Raises:
        FileFormatError: the file can't be read, is not JSON, or an entry is of another form.
    """
    entries = list(_entries(_document(path), path))
    schema = {"movie": pl.String, "tmdb": pl.String, "description": pl.String}
    return pl.DataFrame(entries, schema=schema, orient="row").with_row_index("line", offset=1)


def _document(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise FileFormatError(
            f"{path}: not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise FileFormatError(f"{path}: can't be read: {error.strerror}") from error


def _entries(document: object, path: Path) -> Iterator[Entry]:
    if isinstance(document, dict):
        for key, text in document.items():
            yield _entry("movieId", key, text, f"{path}: movieId {key!r}")
    elif isinstance(document, list):
        for number, fields in enumerate(document, start=1):
            place = f"{path}: entry {number}"
            if not isinstance(fields, dict):
                raise _unexpected(place, "an object", fields)
            key, text = (_first_of(keys, fields, place) for keys in (MOVIE_KEYS, TEXT_KEYS))
            yield _entry(key, fields[key], fields[text], place)
    else:
        raise _unexpected(str(path), "an object or a list of objects", document)


def _first_of(keys: tuple[str, ...], fields: dict[str, object], place: str) -> str:
    for key in keys:
        if key in fields:
            return key
    found = ", ".join(fields) or "none"
    raise FileFormatError(f"{place}: expected one of the fields {', '.join(keys)}; found {found}")


def _entry(key: str, movie: object, text: object, place: str) -> Entry:
    if not isinstance(movie, str | int) or isinstance(movie, bool):
        raise _unexpected(f"{place}: {key}", "text or a whole number", movie)
    if not isinstance(text, str | None):
        raise _unexpected(place, "a text or null as overview", text)
    column = "tmdb" if key == "tmdbId" else "movie"
    return {column: str(movie).strip(), "description": (text or "").strip() or None}


def _unexpected(place: str, expected: str, found: object) -> FileFormatError:
    return FileFormatError(f"{place}: expected {expected}, found {json.dumps(found)[:60]}")
