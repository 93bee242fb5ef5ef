"""Read the files of MovieLens as GroupLens publishes them: CSV in a folder or a zip archive."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import polars as pl

from recsys.errors import EmptyTableError, FileFormatError
from recsys.tables import looks_like
from training.published_lines import as_text, read_csv

HEADERS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "movies": {"movie": ("movieId",), "title": ("title",), "genres": ("genres",)},
    "ratings": {
        "user": ("userId",),
        "movie": ("movieId",),
        "rating": ("rating",),
        "time": ("timestamp",),
    },
    "tags": {
        "user": ("userId",),
        "movie": ("movieId",),
        "tag": ("tag",),
        "time": ("timestamp",),
    },
    "links": {"movie": ("movieId",), "tmdb": ("tmdbId",)},
}
"""Of each file, our name of each column that is read, and its header."""

REQUIRED: Final = ("movies", "ratings")
Folder = Path | zipfile.Path


def read_movielens(source: Path) -> dict[str, pl.DataFrame]:
    """The lines of each file that is there, in published order.

    Args:
        source: a folder or a zip archive with the files, or with one folder that has them.

    Returns:
        By name, those of `HEADERS`; `tags` and `links` may be missing. The columns of `HEADERS` and
        `SURPLUS` as trimmed text, empty values null, and `line`, the row in the file from 1.

    Raises:
        FileFormatError: `source` or a required file is missing, damaged or of another format.
        MissingColumnError: a file lacks a column.
        EmptyTableError: a required file has no lines.
    """
    with _opened(source) as top:
        folder = _home(top, source)
        found = {name: folder / f"{name}.csv" for name in HEADERS}
        return {name: _lines(file, name) for name, file in found.items() if file.is_file()}


@contextmanager
def _opened(source: Path) -> Iterator[Folder]:
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise FileFormatError(f"{source}: no such folder or file")
    if not zipfile.is_zipfile(source):
        with source.open("rb") as file:
            found = looks_like(file.read(512))
        raise FileFormatError(
            f"{source}: expected a folder or a complete zip archive, it looks like {found}"
        )
    try:
        with zipfile.ZipFile(source) as archive:
            yield zipfile.Path(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise FileFormatError(
            f"{source}: the archive is damaged and can't be read ({error}); download it again"
        ) from error


def _home(top: Folder, source: Path) -> Folder:
    """The folder that has the required files: the top one, or the only one in it that has them."""
    folders: list[Folder] = [top, *(entry for entry in top.iterdir() if entry.is_dir())]
    homes = [one for one in folders if all((one / f"{name}.csv").is_file() for name in REQUIRED)]
    if homes and (homes[0] == top or len(homes) == 1):
        return homes[0]
    there = ", ".join(sorted(one.name for one in (homes or top.iterdir()))) or "nothing"
    found = "one such folder, found" if homes else "movies.csv and ratings.csv, found"
    raise FileFormatError(
        f"{source}: expected {found} {there}; name the folder or zip archive of an edition with "
        "CSV files, such as ml-latest-small"
    )


def _lines(file: Folder, name: str) -> pl.DataFrame:
    lines = as_text(read_csv(file.read_bytes(), str(file)), HEADERS[name], str(file))
    if lines.is_empty() and name in REQUIRED:
        raise EmptyTableError(f"{file}: no lines below the header")
    return lines.with_row_index("line", offset=1)
