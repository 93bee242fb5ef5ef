"""Importing Metarank's events: what becomes of each of the four, and of bad lines and files."""

from __future__ import annotations

import bz2
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metarank_files import (
    EVENTS,
    NOON,
    Event,
    imported,
    interaction,
    item,
    lines_of,
    make_metarank,
    query,
    ranking,
    user,
    write_events,
)
from movielens_files import events_of, items_of

from recsys.config import Configuration
from recsys.errors import (
    ConfigurationError,
    DataError,
    EmptyTableError,
    FileFormatError,
    TooManyRejectsError,
)
from recsys.interactions import EventKind
from serving.cli.main import main
from training import json_lines
from training.import_metarank import MetarankOptions
from training.json_lines import parsed
from training.read_metarank import _EVENT
from training.training_data import read_training_data

AT_NOON = datetime(2022, 8, 24, 12, tzinfo=UTC)


def test_the_documented_events_become_items_impressions_acts_and_users(tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = imported(write_events(tmp_path / "events.jsonl"), out)
    movie, planes = items_of(out)["3114"], items_of(out)["4002"]
    assert (movie["title"], movie["category"], movie["tags"]) == (
        "Toy Story 2",
        ["animation", "comedy", "family"],
        ["pixar", "disney"],
    )
    assert (planes["title"], planes["description"], planes["price"], planes["available"]) == (
        "Planes",
        "They fly.",
        9.0,
        False,
    )
    events = events_of(out)
    assert [(one["item_id"], one["position"]) for one in events.values()][:2] == [
        ("4002", 0),
        ("3114", 1),
    ]
    shown, click = events["impression-r1-1"], events["interaction-i1"]
    for column in ("user_id", "session_id", "attribution_token", "query", "item_id"):
        assert click[column] == shown[column]
    assert (shown["query"], shown["attribution_token"]) == ("toys", "r1")
    assert (shown["event_time"], click["event_time"]) == (AT_NOON, AT_NOON.replace(second=7))
    bought = events["interaction-i2"]
    assert (bought["event_type"], bought["quantity"], bought["price"]) == ("purchase", 2, 7.5)
    assert pl.read_parquet(out / "users.parquet").rows() == [("alice", 33, "f")]
    assert summary.events == {"impression": 2, "click": 1, "purchase": 1}
    assert summary.remarks == {
        "interaction field shipping: not used": 1,
        "item field actors: not used": 1,
        "item field director: not used": 1,
        "item field popularity: not used": 1,
        "item field release_date: not used": 1,
    }
    assert (summary.lines, summary.kept, summary.described, summary.users) == (6, 6, 1, 1)


def test_the_latest_value_of_each_field_counts_wherever_it_stands(tmp_path: Path) -> None:
    events = [
        item("a", NOON + 5_000, title="Later", price=3),
        item("a", NOON + 1_000, title="Earlier", brand="Acme"),
        item("a", NOON + 9_000, price=None, color="red"),
        item("b", NOON + 9_000, title="First"),
        item("b", NOON + 9_000, title="Second of one time"),
        ranking("r", ["b", "a"], NOON, user="u"),
    ]
    imported(write_events(tmp_path / "events.jsonl", events), tmp_path / "out")
    a, b = items_of(tmp_path / "out").values()
    assert (a["title"], a["brand"], a["price"]) == ("Later", "Acme", 3.0)
    assert a["updated_at"] == AT_NOON.replace(second=9)
    assert b["title"] == "Second of one time"
    assert a["created_at"] == b["created_at"] == AT_NOON


def test_an_item_shown_after_its_metadata_exists_since_the_earliest_metadata(
    tmp_path: Path,
) -> None:
    events = [item("a", NOON + 1_000), item("a", NOON), ranking("r", ["a"], NOON + 9_000, user="u")]
    imported(write_events(tmp_path / "events.jsonl", events), tmp_path / "out")
    assert items_of(tmp_path / "out")["a"]["created_at"] == AT_NOON


@pytest.mark.parametrize(
    "time",
    [
        *(str(NOON), NOON, float(NOON), NOON // 1000, str(NOON // 1000)),
        *("2022-08-24T12:00:00Z", "2022-08-24T14:00:00.000+02:00"),
    ],
)
def test_a_timestamp_is_in_milliseconds_in_seconds_or_iso_8601(
    tmp_path: Path, time: object
) -> None:
    events = [item("a"), interaction("i", "a", user="u", timestamp=time)]
    imported(write_events(tmp_path / "events.jsonl", events), tmp_path / "out")
    assert events_of(tmp_path / "out")["interaction-i"]["event_time"] == AT_NOON


BAD: dict[str, Event | str] = {
    "not JSON": '{"event": "item"',
    "not an object": "[]",
    "event: missing": {"id": "x"},
    "event: not one of item, metadata, user, ranking, interaction": {"event": "click"},
    "item.item: missing": {"event": "item", "id": "x", "timestamp": NOON},
    "user.user: not an id (text that is not blank, or a whole number)": user(" "),
    "ranking.items: empty": ranking("r", []),
    "ranking.items.id: missing": ranking("r", []) | {"items": [{"item": "a"}]},
    "item.fields.value: not a boolean, number, text, or list of numbers or of texts": item(
        "a", color=[{"name": "red"}]
    ),
    "item.timestamp: before 1970": item("a", -1),
    "item.timestamp: after 2105": item("a", NOON * 5),
    "interaction.timestamp: no time with a zone, nor one since 1970 in milliseconds or seconds": (
        interaction("i", "a", timestamp="2022-08-24T12:00:00")
    ),
    "ranking.timestamp: no time with a zone, nor one since 1970 in milliseconds or seconds": (
        ranking("r", ["a"], "yesterday")
    ),
    "longer than 1 MiB": item("a", title="x" * 2**20),
}


def test_malformed_lines_are_set_aside_with_their_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "MAX_BYTES", 2**20)
    text = b"\xef\xbb\xbf" + lines_of(EVENTS) + b"\n  \r\n"
    text += b"".join(
        one.encode() + b"\n" if isinstance(one, str) else lines_of([one]) for one in BAD.values()
    )
    text += b'{"event": "item", "item": "\xff"}\n' + lines_of([interaction("i9", "a", user="u")])
    source = tmp_path / "events.jsonl"
    source.write_bytes(text)
    with pytest.raises(TooManyRejectsError, match=r"15 of 22 lines.*line 9 \(not JSON\)"):
        imported(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]
    summary = imported(source, tmp_path / "out", max_rejects_share=1)
    assert summary.rejected == dict.fromkeys(BAD, 1) | {"not JSON": 2}
    assert (summary.lines, summary.kept) == (22, 7)
    rejected = pl.read_parquet(tmp_path / "out" / "rejected" / "events.parquet")
    assert rejected["line"].to_list() == list(range(9, 24))
    assert rejected["text"][0] == BAD["not JSON"]
    assert rejected["text"][-1] == '{"event": "item", "item": "\\xff"}'
    assert rejected["text"].str.len_bytes().max() == 1_000
    assert "interaction-i9" in events_of(tmp_path / "out")


@settings(max_examples=50)
@given(st.binary(max_size=80) | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_no_line_fails_in_another_way_than_by_a_reason(line: bytes | str) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z"):
        parsed(_EVENT, line.encode() if isinstance(line, str) else line)


def test_an_act_without_a_visitor_has_that_of_its_ranking_or_the_session(tmp_path: Path) -> None:
    events = [
        item("a"),
        ranking("r1", ["a"], user="bob", session="s1", fields=query("hat")),
        ranking("r2", ["a"], session="s2"),
        ranking("r3", ["a"]),
        interaction("i1", "a", ranking="r1"),
        interaction("i2", "a", session="s2", user=""),
        interaction("i3", "a"),
        interaction("i4", "a", ranking="r1", user="eve", session="s4", fields=query("cap")),
        interaction("i5", "a", ranking="unknown", user=7, fields=None),
    ]
    summary = imported(write_events(tmp_path / "events.jsonl", events), tmp_path / "out")
    whose = {
        name: (one["user_id"], one["session_id"], one["query"])
        for name, one in events_of(tmp_path / "out").items()
    }
    assert whose == {
        "impression-r1-0": ("bob", "s1", "hat"),
        "impression-r2-0": ("session:s2", "s2", None),
        "interaction-i1": ("bob", "s1", "hat"),
        "interaction-i2": ("session:s2", "s2", None),
        "interaction-i4": ("eve", "s4", "cap"),
        "interaction-i5": ("7", None, None),
    }
    assert summary.left_out == {"neither user nor session": 2}


def test_what_was_sent_twice_under_one_id_counts_once(tmp_path: Path) -> None:
    events = [
        item("a"),
        item("a"),
        ranking("x", ["a", "a"], user="u"),
        ranking("x", ["a"], user="u"),
        interaction("x", "a", user="u", ranking="x"),
        interaction("x", "a", user="u"),
    ]
    summary = imported(write_events(tmp_path / "events.jsonl", events), tmp_path / "out")
    assert list(events_of(tmp_path / "out")) == [
        "impression-x-0",
        "impression-x-1",
        "interaction-x",
    ]
    assert summary.left_out == {"id that was there before": 2}
    assert (summary.lines, summary.kept) == (6, 4)


def test_types_of_interactions_are_known_told_or_asked_for(tmp_path: Path) -> None:
    kinds = ["Add-To-Cart", "wishlist", "like", "like", "click"]
    events = [interaction(f"i{n}", "a", kind, user="u") for n, kind in enumerate(kinds)]
    source = write_events(tmp_path / "events.jsonl", [item("a"), *events])
    with pytest.raises(
        DataError, match=r"no event type is known for like \(2\), wishlist \(1\).*--interaction lik"
    ):
        imported(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    told = MetarankOptions(
        interactions=("like=purchase", "wishlist=none", "click=view", "lick=hide")
    )
    summary = imported(source, tmp_path / "out", told)
    assert summary.events == {"purchase": 2, "add_to_cart": 1, "view": 1}
    assert summary.left_out == {"interaction wishlist: left out as told": 1}
    assert summary.remarks["lines that --interaction lick is about"] == 0
    for text in ("like", "like=buying", "=click", "like>=x=click"):
        with pytest.raises(ConfigurationError, match="expected NAME=EVENT or NAME>=3=EVENT"):
            imported(source, tmp_path / "out2", MetarankOptions(interactions=(text,)))


def test_labels_of_ranked_items_are_counted(tmp_path: Path) -> None:
    judged = ranking("r", ["a"], user="u") | {"items": [{"id": "a", "label": 3.0}, {"id": "b"}]}
    summary = imported(write_events(tmp_path / "e.jsonl", [item("a"), judged]), tmp_path / "out")
    assert summary.remarks["rankings with labels of their items: the labels are not used"] == 1
    assert summary.events == {"impression": 2}


def test_a_file_its_compressed_forms_and_a_folder_of_parts_give_the_same(tmp_path: Path) -> None:
    whole = write_events(tmp_path / "events.jsonl")
    text = whole.read_bytes()
    packed = {".gz": gzip.compress(text[:100]) + gzip.compress(text[100:])}
    packed |= {".bz2": bz2.compress(text), ".zst": pa.compress(text, "zstd", asbytes=True)}
    for ending, content in packed.items():
        (tmp_path / f"events.jsonl{ending}").write_bytes(content)
    parts = tmp_path / "parts"
    write_events(parts / "2022" / "b.jsonl", EVENTS[4:])
    write_events(parts / "2022" / "a.jsonl", EVENTS[2:4])
    (parts / "2021.json.gz").write_bytes(gzip.compress(lines_of(EVENTS[:2])))
    (parts / "_SUCCESS").write_bytes(b"")
    sources = [whole, *(tmp_path / f"events.jsonl{ending}" for ending in packed), parts]
    for number, source in enumerate(sources):
        imported(source, tmp_path / f"out{number}")
    for table in ("items", "events", "users"):
        contents = {
            (tmp_path / f"out{number}" / f"{table}.parquet").read_bytes()
            for number in range(len(sources))
        }
        assert len(contents) == 1, table
    (parts / "2022" / "b.jsonl").write_bytes(b"oops\n")
    with pytest.raises(TooManyRejectsError, match=r"first line 1 of 2022/b\.jsonl \(not JSON\)"):
        imported(parts, tmp_path / "out")
    (parts / "config.yml").write_text("features: []")
    with pytest.raises(FileFormatError, match=r"end in \.jsonl.* and no others, found config\.yml"):
        imported(parts, tmp_path / "out")


def test_sources_that_are_no_events_are_named_so(tmp_path: Path) -> None:
    def refused(content: bytes | None, error: type[DataError], said: str) -> None:
        source = tmp_path / "events.jsonl"
        if content is not None:
            source.write_bytes(content)
        with pytest.raises(error, match=said):
            imported(source, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused(None, FileFormatError, "no such file or folder")
    refused(b"", EmptyTableError, "no line with an event")
    refused(b" \n\n", EmptyTableError, "no line with an event")
    refused(json.dumps(EVENTS).encode(), FileFormatError, r"a JSON list.*jq -c '\.\[\]' events\.js")
    refused(b"PAR1\0\0", FileFormatError, "expected a JSON object a line, it looks like binary")
    refused(gzip.compress(lines_of(EVENTS))[:-9], FileFormatError, "can't be read to its end")
    refused(lines_of(EVENTS[:3]), EmptyTableError, "no well-formed `ranking` or `interaction`")
    refused(lines_of(EVENTS[3:]), EmptyTableError, "no well-formed `item` event")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileFormatError, match="found nothing"):
        imported(empty, tmp_path / "out")


def test_of_several_tenants_one_is_chosen(tmp_path: Path) -> None:
    other = [one | {"tenant": "north"} for one in (item("z"), interaction("n", "z", user="u"))]
    source = write_events(tmp_path / "events.jsonl", [*EVENTS, *other])
    with pytest.raises(DataError, match=r"the tenants default, north; .* --tenant"):
        imported(source, tmp_path / "out")
    summary = imported(source, tmp_path / "out", MetarankOptions(tenant="north"))
    assert list(items_of(tmp_path / "out")) == ["z"]
    assert list(events_of(tmp_path / "out")) == ["interaction-n"]
    assert summary.left_out == {"another tenant": 6}


def test_an_import_is_validated_and_read_for_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = make_metarank(tmp_path / "events.jsonl"), tmp_path / "shop"
    command = ["import", "metarank", str(source), "--out", str(out), "--json"]
    codes = [_exit_code(arguments) for arguments in (command, command, [*command, "--overwrite"])]
    assert codes == [0, 3, 0]
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first) == json.loads(second)
    assert json.loads((out / "summary.json").read_text()).items() <= json.loads(first).items()
    assert _exit_code(["validate", str(out), "--max-rejects-share", "0"]) == 0
    until = datetime(2022, 9, 15, tzinfo=UTC)
    data = read_training_data(out, until, Configuration())
    assert data.texts[data.log.item_rows["p4"]] == "story no. 4 in green. books green"
    clicks = events_of(out).values()
    expected = sum(one["event_type"] == "click" and one["event_time"] < until for one in clicks)
    assert (data.log.kind == EventKind.CLICK).sum() == expected > 100
    assert np.isfinite(data.catalogue.columns.created_at).all()


def test_the_command_prints_what_became_of_the_lines_and_refuses_odd_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_events(tmp_path / "events.jsonl")
    command = ["import", "metarank", str(source), "--out", str(tmp_path / "out")]
    assert _exit_code([*command, "--field", "tags=actors", "--interaction", "click=none"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "left out: interaction click: left out as told │ 1" in printed
    assert "item field director: not used │ 1" in printed
    assert "actors" not in printed
    for odd in (["--field", "actors"], ["--interaction", "like=buying"]):
        assert _exit_code([*command, "--overwrite", *odd]) == 2
        assert f"{odd[0]} {odd[1]}: expected" in " ".join(capsys.readouterr().err.split())


def _exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    return int(ending.value.code or 0)
