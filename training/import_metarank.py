"""Turn Metarank's events into a dataset: item metadata, rankings as impressions, interactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import polars as pl
from rich.progress import Progress

from recsys.errors import EmptyTableError
from recsys.tables import new_dataset_folder
from training.event_types import LEFT_OUT, EventTypes
from training.item_fields import (
    FieldMapping,
    Latest,
    items_table,
    note_unknown_items,
    users_table,
)
from training.published_lines import ImportSummary, PublishedLines, first_reason, write_import
from training.read_metarank import MetarankEvents, read_metarank

OPTION: Final = "--interaction"
SESSION: Final = "session:"
"""Stands before a session's id where it is the only name of a shopper."""

_FEEDBACK: Final = ("ranking", "interaction")
_INHERITED: Final = ("user", "session", "query")


@dataclass(frozen=True)
class MetarankOptions:
    """What to make of the events.

    Attributes:
        fields: which fields become which column of an item; see `FieldMapping.of`.
        interactions: what the types of interactions stand for; see `EventTypes.of`.
        tenant: whose events are read where there are several tenants.
    """

    fields: Sequence[str] = ()
    interactions: Sequence[str] = ()
    tenant: str | None = None


def import_metarank(
    source: Path,
    out: Path,
    progress: Progress,
    options: MetarankOptions,
    *,
    overwrite: bool = False,
    max_rejects_share: float = 0.01,
) -> ImportSummary:
    """Read Metarank's events and write a dataset that appears whole or not at all.

    The latest value of each field of an item counts; `created_at` is when the item is first heard
    of, in whatever event, `updated_at` its last metadata event.

    A ranking is an `impression` of each of its items at its position; its id is the
    `attribution_token`, of the interactions that name it, too. An interaction without a user,
    session or query has those of its ranking. Where there is still no user, the session stands
    for it, as `session:ID`; an event without either is left out, and so is a ranking or an
    interaction whose id was there before.

    Args:
        source: see `read_metarank`.
        out: the dataset's folder; malformed lines go to `rejected/events.parquet` in it.
        progress: shows a bar of the bytes read.
        options: the rules.
        overwrite: replace the dataset that is there.
        max_rejects_share: malformed lines that are allowed, as a share of all.

    Raises:
        ConfigurationError: an option is of another form.
        DataError: `source` can't be read, `out` is taken, too much is malformed, or a type of
            interaction has no event type.
    """
    fields = FieldMapping.of(options.fields)
    interactions = EventTypes.of(OPTION, options.interactions)
    with new_dataset_folder(out, overwrite=overwrite) as folder:
        read = read_metarank(source, progress, options.tenant)
        classified = _classified(read.lines, interactions)
        lines = PublishedLines(str(source), ("file", "text"), classified)
        lines.require_few_rejects(max_rejects_share)
        kept = lines.kept
        acts = kept.filter(event="interaction")
        interactions.require_known(str(source), acts["type"], acts["event_type"])
        interactions.note_idle(read.lines["type"], read.remarks)
        events = _events(kept)
        _require_both(source, read.items, events)
        items = _items(read, events, fields)
        note_unknown_items(events, items, read.remarks)
        tables = {"items": items, "events": events}
        users = users_table(read.users, read.remarks)
        if users is not None:
            tables["users"] = users
        summary = ImportSummary.of([lines], items, events, read.remarks)
        write_import(folder, tables, {"events": lines}, summary)
    return summary


def _require_both(source: Path, items: Latest, events: pl.DataFrame) -> None:
    if not items.fields:
        raise EmptyTableError(
            f"{source}: no well-formed `item` event; the catalogue with its titles comes from them"
        )
    if events.is_empty():
        raise EmptyTableError(
            f"{source}: no well-formed `ranking` or `interaction` event that can be used"
        )


def _classified(lines: pl.DataFrame, interactions: EventTypes) -> pl.DataFrame:
    """Say what is left out, and whose each event is: columns `user_id` and `event_type`."""
    good = pl.all_horizontal(pl.col("reason", "left_out").is_null())
    feedback = good & pl.col("event").is_in(_FEEDBACK)
    again = feedback & (feedback.cum_sum().over("event", "id") > 1)
    lines = lines.with_columns(
        left_out=pl.coalesce("left_out", first_reason({"id that was there before": again}))
    )
    rankings = lines.filter(good, event="ranking").select(
        pl.col("id").alias("ranking"), *(pl.col(name).alias(f"its_{name}") for name in _INHERITED)
    )
    lines = lines.join(rankings, on="ranking", how="left", maintain_order="left").with_columns(
        pl.coalesce(name, f"its_{name}") for name in _INHERITED
    )
    lines = lines.with_columns(
        user_id=pl.coalesce("user", pl.lit(SESSION) + pl.col("session")),
        event_type=interactions.event_type("type", pl.lit(None, pl.Float64)),
    )
    named = pl.format("interaction {}: left out as told", "type")
    return lines.with_columns(
        left_out=pl.coalesce(
            "left_out",
            pl.when(good & (pl.col("event_type") == LEFT_OUT)).then(named),
            first_reason({"neither user nor session": feedback & pl.col("user_id").is_null()}),
        )
    )


def _events(kept: pl.DataFrame) -> pl.DataFrame:
    common = (pl.col("time").alias("event_time"), pl.col("session").alias("session_id"), "query")
    impressions = (
        kept.filter(event="ranking")
        .select(
            "user_id",
            *common,
            attribution_token=pl.col("id"),
            item_id="shown",
            position=pl.int_ranges(pl.col("shown").list.len(), dtype=pl.Int32),
            event_type=pl.lit("impression"),
        )
        .explode("item_id", "position")
        .with_columns(event_id=pl.format("impression-{}-{}", "attribution_token", "position"))
    )
    interactions = kept.filter(event="interaction").select(
        "user_id",
        *common,
        "event_type",
        "quantity",
        "price",
        attribution_token=pl.col("ranking"),
        item_id="item",
        event_id=pl.format("interaction-{}", "id"),
    )
    both = pl.concat([impressions, interactions], how="diagonal")
    return both.sort("event_time", "event_id")


def _items(read: MetarankEvents, events: pl.DataFrame, fields: FieldMapping) -> pl.DataFrame:
    heard_of = dict(events.group_by("item_id").agg(pl.col("event_time").min()).iter_rows())
    created = {item: min(time, heard_of.get(item, time)) for item, time in read.items.first.items()}
    times: Mapping[str, Mapping[str, datetime]] = {
        "created_at": created,
        "updated_at": read.items.last,
    }
    return items_table(read.items, fields, read.remarks, **times)
