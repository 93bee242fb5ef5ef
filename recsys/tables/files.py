"""Finding a table's parquet files in a dataset folder, and telling what a file really is."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from recsys.errors import DataError, EmptyTableError, FileFormatError

_MAGIC: Final = b"PAR1"
_LOOKS_LIKE: Final = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"<", "an HTML or XML page"),
    (b"{", "JSON"),
    (b"[", "JSON"),
    (b"ARROW1", "an Arrow IPC (Feather) file"),
    (b"PARE", "an encrypted parquet file"),
)


def table_parts(folder: Path, name: str) -> tuple[Path, ...]:
    """Parquet files of a table: `NAME.parquet`, or `NAME-*.parquet`, or all below a folder `NAME`.

    Files and folders whose names start with a dot or an underscore are never read. Order: by path.

    Returns:
        No files when the table is not there.

    Raises:
        DataError: more than one of the three forms is there.
    """
    single = [folder / f"{name}.parquet"]
    forms = {
        f"{name}.parquet": [path for path in single if path.is_file()],
        f"{name}-*.parquet": sorted(path for path in folder.glob(f"{name}-*.parquet")),
        f"{name}/": sorted(_below(folder / name)),
    }
    present = [form for form, paths in forms.items() if paths]
    if len(present) > 1:
        raise DataError(
            f"{folder}: the {name} table is there more than once, as {' and '.join(present)}; "
            "remove all but one"
        )
    return tuple(forms[present[0]]) if present else ()


def _below(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*.parquet")
        if path.is_file()
        and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    ]


def check_parquet(path: Path) -> None:
    """Look at a file's first and last bytes and at its footer.

    Raises:
        EmptyTableError: the file has no bytes.
        FileFormatError: it is not a parquet file, or a damaged one.
    """
    start, end = _ends(path)
    if not start:
        raise EmptyTableError(f"{path}: the file is empty (0 bytes); write it again")
    if start[:4] != _MAGIC:
        raise FileFormatError(
            f"{path}: not a parquet file as its name says, it looks like {looks_like(start)}; "
            "convert it to parquet"
        )
    if end != _MAGIC:
        raise FileFormatError(f"{path}: the parquet file is cut off; copy or write it again")
    try:
        pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise FileFormatError(
            f"{path}: the parquet footer is damaged ({error}); write it again"
        ) from error


def looks_like(start: bytes) -> str:
    """Name the format that a file's first bytes suggest."""
    head = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, description in _LOOKS_LIKE:
        if head.startswith(magic):
            return description
    return "binary data of another kind" if b"\0" in start else "text, such as CSV"


def _ends(path: Path) -> tuple[bytes, bytes]:
    try:
        with path.open("rb") as file:
            start = file.read(512)
            file.seek(max(0, path.stat().st_size - 4))
            return start, file.read(4)
    except OSError as error:
        raise FileFormatError(f"{path}: can't be read: {error.strerror}") from error
