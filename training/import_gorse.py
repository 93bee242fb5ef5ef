"""Turn a dump or an export of Gorse into a dataset: items with their labels, users, feedback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from rich.progress import Progress

from recsys.errors import EmptyTableError
from recsys.tables import new_dataset_folder
from training.event_types import LEFT_OUT, EventTypes
from training.item_fields import (
    NAMES,
    FieldMapping,
    items_table,
    note_unknown_items,
    users_table,
)
from training.published_lines import ImportSummary, PublishedLines, first_reason, write_import
from training.read_gorse import CATEGORIES, COMMENT, LABELS, SHOWN, GorseData, read_gorse

OPTION: Final = "--feedback"

_OWN: Final[dict[str, tuple[str, ...]]] = {
    "title": (COMMENT,),
    "description": (COMMENT,),
    "category": (CATEGORIES,),
    "tags": (LABELS,),
    "available": (SHOWN,),
}
FIELDS: Final[dict[str, tuple[str, ...]]] = {
    column: (*(f"{LABELS}.{name}" for name in names), *_OWN.get(column, ()))
    for column, names in NAMES.items()
} | {column: _OWN[column] for column in ("category", "available")}
"""Fields that become each column without being told, the preferred one first.

Gorse has no titles: a comment is one where the labels have none, else the description. What Gorse
keeps as categories and as hidden is not looked for in the labels.
"""


@dataclass(frozen=True)
class GorseOptions:
    """What to make of the data.

    Attributes:
        fields: which fields become which column of an item; see `FieldMapping.of`.
        feedback: what the types of feedback stand for; see `EventTypes.of`.
    """

    fields: Sequence[str] = ()
    feedback: Sequence[str] = ()


def import_gorse(
    source: Path,
    out: Path,
    progress: Progress,
    options: GorseOptions,
    *,
    overwrite: bool = False,
    max_rejects_share: float = 0.01,
) -> ImportSummary:
    """Read Gorse's items, users and feedback; the dataset appears whole or not at all.

    An item's `created_at` is its timestamp; a hidden item is not `available`. Feedback is an event
    with `event_id` `TYPE/USER/ITEM`, which Gorse keeps once; without a time it is left out.

    Args:
        source: see `read_gorse`.
        out: the dataset's folder; malformed lines and messages go to `rejected/` in it.
        progress: shows a bar of the bytes read.
        options: the rules.
        overwrite: replace the dataset that is there.
        max_rejects_share: malformed lines that are allowed, as a share of each file's.

    Raises:
        ConfigurationError: an option is of another form.
        DataError: `source` can't be read, `out` is taken, too much is malformed, or a type of
            feedback has no event type.
    """
    fields = FieldMapping.of(options.fields, FIELDS)
    event_types = EventTypes.of(OPTION, options.feedback)
    with new_dataset_folder(out, overwrite=overwrite) as folder:
        read = read_gorse(source, progress)
        lines = read.lines | {"feedback": _classified(read.lines["feedback"], event_types)}
        files = {
            stream: PublishedLines(read.names[stream], ("text",), rows)
            for stream, rows in lines.items()
        }
        for file in files.values():
            file.require_few_rejects(max_rejects_share)
        kept = files["feedback"].kept
        event_types.require_known(str(source), kept["type"], kept["event_type"])
        event_types.note_idle(read.lines["feedback"]["type"], read.remarks)
        _require_both(source, read, kept)
        events = _events(kept)
        items = items_table(read.items, fields, read.remarks, created_at=read.created)
        note_unknown_items(events, items, read.remarks)
        tables = {"items": items, "events": events}
        users = users_table(read.users, read.remarks)
        if users is not None:
            tables["users"] = users
        summary = ImportSummary.of(files.values(), items, events, read.remarks)
        write_import(folder, tables, files, summary)
    return summary


def _classified(feedback: pl.DataFrame, event_types: EventTypes) -> pl.DataFrame:
    """Say what is malformed as a repetition, what is left out, and what the rest stands for."""
    good = pl.col("reason").is_null()
    again = good & (good.cum_sum().over("type", "user", "item") > 1)
    key = "FeedbackType, UserId, ItemId: repeated"
    feedback = feedback.with_columns(
        reason=pl.coalesce("reason", first_reason({key: again})),
        event_type=event_types.event_type("type", pl.col("value")),
    )
    told = good & (pl.col("event_type") == LEFT_OUT)
    named = pl.format("FeedbackType {}: left out as told", "type")
    untimed = first_reason({"Timestamp: never given": good & pl.col("time").is_null()})
    return feedback.with_columns(left_out=pl.coalesce(pl.when(told).then(named), untimed))


def _require_both(source: Path, read: GorseData, feedback: pl.DataFrame) -> None:
    if not read.items.fields:
        raise EmptyTableError(f"{source}: no well-formed item")
    if feedback.is_empty():
        raise EmptyTableError(f"{source}: no well-formed feedback that can be used")


def _events(feedback: pl.DataFrame) -> pl.DataFrame:
    events = feedback.select(
        "event_type",
        event_id=pl.format("{}/{}/{}", "type", "user", "item"),
        user_id="user",
        item_id="item",
        event_time="time",
    )
    return events.sort("event_time", "event_id")
