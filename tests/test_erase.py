"""Erasing shoppers: their rows go from every place, nobody else's do, and they stay away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl
import publisher
import pytest
from rich.progress import Progress
from small_shop import CUT, ITEMS, event_table, small_rows
from test_pseudonyms import KEY, OTHER, key_file

from recsys.errors import ConfigurationError, DataError
from recsys.interactions import microseconds
from recsys.pseudonyms import Pseudonyms
from recsys.state import EventRecord, SqliteStateStore
from recsys.tables import Dataset, append_part, dataset_lock, write_dataset
from serving.cli.main import main
from training.erase import ErasureOptions, ErasureSummary, Places, erase
from training.export_events import export_events
from training.pseudonymise import pseudonymise
from training.training_data import read_shop_data

GONE: Final = "user-07"
VISIT: Final = "visit-of-user-07"
NOW: Final = microseconds(CUT + timedelta(days=100))
COLUMNS: Final = ("events", "users", "rejected")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A shop whose events are two parts; `GONE` browsed without an account first."""
    rows = small_rows()
    visit = [
        ("session:" + VISIT, ITEMS[0], "view", CUT - timedelta(days=9)),
        (GONE, ITEMS[0], "purchase", CUT - timedelta(days=9)),
        ("session:other", ITEMS[0], "view", CUT - timedelta(days=9)),
    ]
    events = event_table([*rows, *visit]).with_columns(session_id=pl.lit(None, pl.String))
    sessions = pl.Series([None] * len(rows) + [VISIT, VISIT, "other"], dtype=pl.String)
    events = events.with_columns(session_id=sessions, email=pl.col("user_id") + "@example.org")
    folder = tmp_path / "shop"
    items = pl.DataFrame({"item_id": ITEMS, "title": [f"Thing {name}" for name in ITEMS]})
    users = pl.DataFrame({"user_id": [GONE, "user-08"], "name": ["Eve", "Bob"]})
    write_dataset(folder, items, events.head(50).drop("email"), users)
    (folder / "events.parquet").unlink()
    (folder / "events").mkdir()
    events.head(200).write_parquet(folder / "events" / "a.parquet")
    events.slice(200).drop("email").write_parquet(folder / "events" / "b.parquet")
    (folder / "rejected").mkdir()
    lines = pl.DataFrame({"Customer": [GONE, "x", "y"], "n": [1, 2, 3], "reason": ["bad"] * 3})
    lines.write_parquet(folder / "rejected" / "lines.parquet")
    lines.head(1).write_parquet(folder / "rejected" / "events.parquet")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStateStore]:
    with closing(SqliteStateStore(tmp_path / "state.sqlite")) as opened:
        yield opened


def record(event_id: str, user_id: str = GONE, session_id: str | None = None) -> EventRecord:
    time = microseconds(CUT + timedelta(days=1))
    return EventRecord(event_id, user_id, ITEMS[1], "view", time, session_id)


def run(
    *datasets: Path,
    store: SqliteStateStore | None = None,
    registry: Path | None = None,
    names: Pseudonyms | None = None,
    users: Sequence[str] = (GONE,),
    dry_run: bool = False,
) -> ErasureSummary:
    options = ErasureOptions(names or Pseudonyms(), NOW, dry_run)
    with Progress(disable=True) as progress:
        return erase(users, Places(datasets, store, registry), options, progress)


def counts(summary: ErasureSummary) -> list[tuple[int, int, int]]:
    return [(one.events, one.users, one.rejected) for one in summary.datasets]


def export(store: SqliteStateStore, folder: Path) -> tuple[int, int]:
    with Progress(disable=True) as progress:
        summary = export_events(store, folder, progress)
    return summary.exported, summary.erased


def raw(folder: Path) -> pl.DataFrame:
    parts = sorted((folder / "events").glob("*.parquet"))
    return pl.concat(map(pl.read_parquet, parts), how="diagonal")


def traces(folder: Path, text: str = GONE) -> list[Path]:
    """Files in which they stand; parquet by its values, which the files compress."""
    found = []
    for path in folder.rglob("*"):
        if path.suffix == ".parquet":
            values = str(pl.read_parquet(path).to_dicts())
        else:
            values = path.read_text() if path.is_file() else ""
        if text in values:
            found.append(path)
    return found


def test_their_rows_go_from_every_table_and_all_others_stay(dataset: Path) -> None:
    before = raw(dataset)
    theirs = pl.col("user_id").is_in([GONE, "session:" + VISIT])
    assert counts(run(dataset)) == [(before.filter(theirs).height, 1, 2)]
    after = raw(dataset)
    assert after.equals(before.filter(~theirs))
    assert "session:other" in after["user_id"]
    assert traces(dataset) == traces(dataset, VISIT) == []
    users = Dataset(dataset).scan_users()
    assert users is not None
    assert users.collect()["name"].to_list() == ["Bob"]
    assert [path.name for path in (dataset / "rejected").iterdir()] == ["lines.parquet"]
    assert pl.read_parquet(dataset / "rejected" / "lines.parquet")["Customer"].to_list() == [
        "x",
        "y",
    ]


def test_a_dry_run_counts_the_same_and_changes_nothing(
    dataset: Path, store: SqliteStateStore
) -> None:
    store.append_events([record("n1"), record("n2", "session:" + VISIT, VISIT)], 0, 0)
    files = {path: path.read_bytes() for path in dataset.rglob("*.*")}
    counted = run(dataset, store=store, dry_run=True)
    assert {path: path.read_bytes() for path in dataset.rglob("*.*")} == files
    assert counted.state_events == len(store.events_after(0, 9).events) == 2
    done = run(dataset, store=store)
    assert counts(done) == counts(counted)
    assert done.state_events == 2
    again = run(dataset, store=store)
    assert (counts(again), again.state_events, again.unknown) == ([(0, 0, 0)], 0, 1)


def test_the_only_shopper_may_be_erased(dataset: Path) -> None:
    everybody = raw(dataset)["user_id"].unique().to_list()
    run(dataset, users=everybody)
    assert raw(dataset).is_empty()
    assert run(dataset, users=everybody).unknown == len(everybody)
    users = Dataset(dataset).scan_users()
    assert users is not None
    assert users.collect()["user_id"].to_list() == ["user-08"] or users.collect().is_empty()


def test_an_export_goes_on_where_it_was_and_brings_nobody_back(
    dataset: Path, store: SqliteStateStore, tmp_path: Path
) -> None:
    store.append_events([record("n1"), record("n2")], 0, 0)
    assert export(store, dataset) == (2, 0)
    for path in tmp_path.glob("state.sqlite*"):
        shutil.copy(path, tmp_path / path.name.replace("state", "copy"))
    run(dataset, store=store)
    (part,) = (dataset / "events").glob("state-*.parquet")
    assert pl.read_parquet(part).is_empty()
    assert export(store, dataset) == (0, 0)
    part.unlink()
    with closing(SqliteStateStore(tmp_path / "copy.sqlite")) as old:
        old.append_events([record("n3", "user-09")], 0, 0)
        assert export(old, dataset) == (1, 2)
    assert traces(dataset) == []


def test_training_refuses_a_dataset_into_which_the_erased_came_back(dataset: Path) -> None:
    run(dataset)
    read_shop_data(dataset, None)
    back = event_table([(GONE, ITEMS[0], "view", CUT)]).with_columns(event_id=pl.lit("back"))
    part = append_part(dataset, "events", "dump", back)
    with pytest.raises(DataError, match="1 shoppers who were erased are back, with 1 events"):
        read_shop_data(dataset, None)
    part.unlink()
    later = back.with_columns(event_time=CUT + timedelta(days=101))
    append_part(dataset, "events", "dump", later)
    assert GONE in read_shop_data(dataset, None).log.user_ids


def test_replacing_the_dataset_does_not_forget_who_was_erased(dataset: Path) -> None:
    run(dataset)
    items = pl.DataFrame({"item_id": ITEMS, "title": ITEMS})
    write_dataset(dataset, items, event_table(small_rows()), overwrite=True)
    with pytest.raises(DataError, match="erased are back"):
        read_shop_data(dataset, None)


def test_pseudonyms_are_found_by_the_shop_s_own_ids(
    dataset: Path, store: SqliteStateStore, tmp_path: Path
) -> None:
    names = Pseudonyms.read(key_file(tmp_path, KEY, OTHER))
    older = Pseudonyms(names.secrets[:1])
    with Progress(disable=True) as progress:
        pseudonymise(dataset, tmp_path / "old", older, progress)
        pseudonymise(dataset, tmp_path / "new", names, progress)
    store.set_pseudonym_key(names.key)
    store.append_events([record("n1", names.user(GONE)), record("n2", names.user("user-01"))], 0, 0)
    folders = [dataset, tmp_path / "old", tmp_path / "new"]
    assert [traces(folder) == [] for folder in folders] == [False, True, True]
    summary = run(*folders, store=store, names=names)
    assert len(set(counts(summary)[1:])) == 1
    assert counts(summary)[0][:2] == counts(summary)[1][:2]
    assert (summary.state_events, summary.unknown) == (1, 0)
    for folder, by in zip(folders, (Pseudonyms(), older, names), strict=True):
        left = raw(folder)
        assert not {by.user(GONE), by.user("session:" + VISIT)} & set(left["user_id"])
        assert by.user("session:other") in left["user_id"]
        assert read_shop_data(folder, None).pseudonym_key == by.key


def test_a_key_that_fits_not_every_place_changes_nothing(dataset: Path, tmp_path: Path) -> None:
    with Progress(disable=True) as progress:
        pseudonymise(dataset, tmp_path / "other", Pseudonyms((bytes(32),)), progress)
    before = raw(dataset)
    with pytest.raises(ConfigurationError, match="other holds pseudonyms by the key"):
        run(dataset, tmp_path / "other", names=Pseudonyms.read(key_file(tmp_path, KEY)))
    assert raw(dataset).equals(before)


def test_what_no_table_reads_is_named(dataset: Path) -> None:
    (dataset / "notes.csv").write_text("whatever")
    (dataset / "events" / "_old.parquet").write_bytes(b"PAR1")
    (dataset / ".events.parquet.tmp").write_bytes(b"half")
    (dataset.parent / ".tmp-shop-0a1b").mkdir()
    named = [path.name for path in run(dataset).datasets[0].not_searched]
    assert named == ["_old.parquet", "notes.csv", ".tmp-shop-0a1b"]
    assert not (dataset / ".events.parquet.tmp").exists()


def test_a_table_that_is_linked_to_is_rewritten_where_it_is(dataset: Path, tmp_path: Path) -> None:
    part = dataset / "events" / "a.parquet"
    part.rename(tmp_path / "elsewhere.parquet")
    part.symlink_to(tmp_path / "elsewhere.parquet")
    run(dataset)
    assert part.is_symlink()
    assert GONE not in pl.read_parquet(tmp_path / "elsewhere.parquet")["user_id"]
    assert not list(tmp_path.glob(".*.tmp"))


def test_an_erasure_waits_for_no_export(dataset: Path) -> None:
    with dataset_lock(dataset), pytest.raises(DataError, match="another export or erasure"):
        run(dataset)


class KilledError(BaseException):
    """Stands in for a kill: nothing of ours handles it."""


def test_a_kill_at_any_call_is_made_up_for_by_the_next_run(dataset: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(dataset, tmp_path / "whole"))
    run(whole)
    number, was_hit = 0, True
    while was_hit:
        number, was_hit = number + 1, False

        def kill() -> None:
            nonlocal was_hit
            was_hit = True
            raise KilledError

        folder = Path(shutil.copytree(dataset, tmp_path / f"shop-{number}"))
        with suppress(KilledError), publisher.at_call(number, kill):
            run(folder)
        assert len(raw(folder)) in {len(raw(dataset)), len(raw(whole))} or was_hit
        run(folder)
        assert raw(folder).equals(raw(whole))
        assert traces(folder) == traces(folder, VISIT) == []
        assert read_shop_data(folder, None).sha256 == read_shop_data(whole, None).sha256
    assert 12 < number < 80


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = 0
    try:
        main(["erase", *map(str, arguments)])
    except SystemExit as end:
        code = int(end.code or 0)
    return code, capsys.readouterr().out


def test_the_command_takes_a_file_of_ids_and_prints_one_json_object(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = tmp_path / "users.txt"
    listed.write_text(f"{GONE}\r\nuser-08\n\nnobody\n")
    code, out = command(capsys, "--users", listed, "--dataset", dataset, "--json")
    found: dict[str, Any] = json.loads(out)
    assert code == 0
    assert (found["shoppers"], found["unknown"]) == (3, 1)
    assert GONE not in out
    assert not {GONE, "user-08"} & set(raw(dataset)["user_id"])
    code, out = command(capsys, "--user", GONE, "--dataset", dataset, "--dry-run")
    assert code == 0
    assert "would erase 0 events" in out
    assert "nothing was found of 1 of 1 shoppers" in out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--dataset", "shop"), 2),
        (("--user", "u"), 2),
        (("--user", " ", "--dataset", "shop"), 2),
        (("--user", "u", "--dataset", "nowhere"), 3),
        (("--user", "u", "--state", "nowhere"), 3),
        (("--user", "u", "--registry", "nowhere"), 3),
        (("--users", "nowhere", "--dataset", "shop"), 3),
        (("--user", "u", "--dataset", "shop", "--pseudonym-key", "nowhere"), 3),
    ],
)
def test_wrong_usage_and_failures_have_their_exit_codes(
    arguments: tuple[str, ...],
    code: int,
    dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(dataset.parent)
    before = raw(dataset)
    assert command(capsys, *arguments)[0] == code
    assert raw(dataset).equals(before)
