"""Lines of published files on their way into a dataset: as text, with reasons, counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Final, Self

import polars as pl

from recsys.errors import (
    EmptyTableError,
    FileFormatError,
    MissingColumnError,
    TooManyRejectsError,
)
from recsys.tables import RejectsFile, looks_like, write_document, write_table

SURPLUS: Final = "surplus"
"""Column with the first value that a CSV line has beyond its header; null on a whole line."""

OVERLONG: Final = {"more values than columns": pl.col(SURPLUS).is_not_null()}
_ISO: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class PublishedLines:
    """Lines of one file, each with the reason why it does not go into the dataset, if there is one.

    Attributes:
        source: where they come from, for messages and counts.
        columns: the columns that a reject shows, as published but under our names.
        lines: has, beside others, `line` (from 1), `reason` (str, why a line is malformed) and
            `left_out` (str, why a well-formed line is not used); null where neither holds. With a
            column `file` (str), `line` counts within each.
    """

    source: str
    columns: tuple[str, ...]
    lines: pl.DataFrame

    @property
    def kept(self) -> pl.DataFrame:
        """The lines that go into the dataset."""
        return self.lines.filter(pl.col("reason").is_null() & pl.col("left_out").is_null())

    @property
    def left_out(self) -> pl.DataFrame:
        """The well-formed lines that are not used."""
        return self.lines.filter(pl.col("reason").is_null() & pl.col("left_out").is_not_null())

    @property
    def rejected(self) -> pl.DataFrame:
        """The malformed lines, as published, with their number and reason."""
        malformed = self.lines.filter(pl.col("reason").is_not_null())
        return malformed.select("line", *self.columns, "reason")

    def require_few_rejects(self, allowed_share: float) -> None:
        """Refuse a file of which too much is malformed.

        Raises:
            TooManyRejectsError: more than `allowed_share` of the lines.
        """
        rejected = self.rejected
        if rejected.height > allowed_share * self.lines.height:
            first = rejected.row(0, named=True)
            part = f" of {first['file']}" if first.get("file") else ""
            raise TooManyRejectsError(
                f"{self.source}: {rejected.height} of {self.lines.height} lines are malformed, "
                f"first line {first['line']}{part} ({first['reason']}); a share of "
                f"{allowed_share:g} is allowed, --max-rejects-share 1 imports the good lines and "
                "writes the others beside them"
            )


@dataclass(frozen=True)
class ImportSummary:
    """What became of the lines.

    Attributes:
        lines: lines of the files.
        kept: lines that went into the dataset.
        left_out: well-formed lines that are of no use, by the first reason that holds.
        rejected: malformed lines, by the first reason that holds.
        items: rows of the items table.
        described: of those, items with a description.
        users: shoppers with an event.
        events: rows of the events table, by type.
        first_event: time of the earliest event, ISO 8601.
        last_event: time of the latest.
        remarks: what in the lines that went in has no place in the dataset, or was made up for it,
            with its number.
    """

    lines: int
    kept: int
    left_out: dict[str, int]
    rejected: dict[str, int]
    items: int
    described: int
    users: int
    events: dict[str, int]
    first_event: str
    last_event: str
    remarks: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        files: Collection[PublishedLines],
        items: pl.DataFrame,
        events: pl.DataFrame,
        remarks: Mapping[str, int] | None = None,
    ) -> Self:
        """Count `files`, of which `items` and `events` (at least one) were made."""
        times = events["event_time"].dt.strftime(_ISO)
        described = items["description"].count() if "description" in items.columns else 0
        return cls(
            lines=sum(file.lines.height for file in files),
            kept=sum(file.kept.height for file in files),
            left_out=_reasons({file.source: file.left_out["left_out"] for file in files}),
            rejected=_reasons({file.source: file.rejected["reason"] for file in files}),
            items=items.height,
            described=described,
            users=events["user_id"].n_unique(),
            events=_counts(events["event_type"]),
            first_event=str(times.min()),
            last_event=str(times.max()),
            remarks=dict(sorted((remarks or {}).items(), key=_most_frequent_first)),
        )


def read_csv(content: bytes, name: str) -> pl.DataFrame:
    """A CSV file with a header; all values are text, and the column `SURPLUS` comes last.

    Args:
        content: UTF-8.
        name: the file's, for messages.

    Raises:
        FileFormatError: it is not CSV.
        EmptyTableError: there is not even a header.
    """
    if looks_like(content[:512]) != "text, such as CSV":
        raise not_as_named(name, content)
    try:
        header = pl.read_csv(BytesIO(content), n_rows=0, infer_schema=False).columns
        return pl.read_csv(
            BytesIO(content),
            schema=dict.fromkeys([*header, SURPLUS], pl.String),
            missing_columns="insert",
            truncate_ragged_lines=True,
        )
    except pl.exceptions.NoDataError as error:
        raise EmptyTableError(f"{name}: the file is empty") from error
    except pl.exceptions.ComputeError as error:
        raise FileFormatError(f"{name}: not readable as CSV: {error}") from error


def not_as_named(name: str, start: bytes) -> FileFormatError:
    """The error for a file whose first bytes are of another format than its extension."""
    return FileFormatError(
        f"{name}: not a {Path(name).suffix} file as its name says, "
        f"it looks like {looks_like(start[:512])}"
    )


def as_text(table: pl.DataFrame, headers: Mapping[str, tuple[str, ...]], name: str) -> pl.DataFrame:
    """The columns of `headers` and `SURPLUS`, as trimmed text, empty values null.

    Args:
        table: as published.
        headers: our name of each column, and the headers it may have.
        name: the file's, for messages.

    Raises:
        MissingColumnError: a column is under none of its headers.
    """
    found = {column.strip().lstrip("\ufeff"): column for column in table.columns}
    chosen = {
        ours: found[header]
        for ours, known in headers.items()
        for header in known
        if header in found
    }
    missing = [" or ".join(known) for ours, known in headers.items() if ours not in chosen]
    if missing:
        there = ", ".join(column for column in table.columns if column != SURPLUS)
        raise MissingColumnError(f"{name}: no column {', '.join(missing)}; found {there}")
    text = {
        ours: pl.col(column).cast(pl.String).str.strip_chars() for ours, column in chosen.items()
    }
    values = [pl.when(value != "").then(value).alias(ours) for ours, value in text.items()]
    surplus = pl.col(SURPLUS) if SURPLUS in table.columns else pl.lit(None, pl.String)
    return table.select(*values, surplus.alias(SURPLUS))


def first_reason(cases: Mapping[str, pl.Expr]) -> pl.Expr:
    """The name of the first case that holds for a row; null where none does."""
    return pl.coalesce([pl.when(holds).then(pl.lit(name)) for name, holds in cases.items()])


def write_import(
    folder: Path,
    tables: Mapping[str, pl.DataFrame],
    files: Mapping[str, PublishedLines],
    summary: ImportSummary,
) -> None:
    """Write the tables, `summary.json`, and `rejected/NAME.parquet` for files with rejects."""
    for name, table in tables.items():
        write_table(folder, name, table)
    for name, file in files.items():
        if not file.rejected.is_empty():
            with RejectsFile(folder / "rejected" / f"{name}.parquet") as rejects:
                rejects.add(file.rejected)
    write_document(folder / "summary.json", asdict(summary))


def _reasons(files: Mapping[str, pl.Series]) -> dict[str, int]:
    """How often each reason occurs; of several files, each one's name stands before its reasons."""
    return {
        f"{Path(source).name}: {reason}" if len(files) > 1 else reason: lines
        for source, reasons in files.items()
        for reason, lines in _counts(reasons).items()
    }


def _counts(values: pl.Series) -> dict[str, int]:
    """How often each value occurs, most frequent first."""
    counts = values.drop_nulls().value_counts(name="count").rows()
    return dict(sorted(counts, key=_most_frequent_first))


def _most_frequent_first(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0]
