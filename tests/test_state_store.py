"""Every state store keeps the same promises; the embedded one refuses files that it can't trust."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from recsys.errors import StateDamagedError, StateError
from recsys.state import (
    EventPage,
    EventRecord,
    HeldEvents,
    ItemChange,
    ItemRecord,
    RecordedChanges,
    ShopperKey,
    SqliteStateStore,
    StateStore,
)
from recsys.tables import EVENT_TYPES, Events, Items

Open = Callable[[], StateStore]
HURTING = (
    "nul \0, rtl \u202eabc, family 👩‍👩‍👧, marks e\u0301\u0302, \U0001f600, '; DROP TABLE events;--"
)


def event(number: int, time: int = 1_000) -> EventRecord:
    return EventRecord(f"e{number}", "u1", "i1", "view", time)


def item(item_id: str, **columns: object) -> ItemRecord:
    return ItemRecord(item_id, "Red mug")._replace(**columns)  # type: ignore[arg-type]


def upsert(record: ItemRecord, changed_at: int = 5) -> ItemChange:
    return ItemChange(record.item_id, changed_at, record, is_dated=True)


def test_records_have_the_contract_s_columns() -> None:
    assert EventRecord._fields == tuple(Events.columns())
    assert ItemRecord._fields == tuple(Items.columns())


def test_events_come_back_whole_and_in_order_after_opening_again(reopen: Open) -> None:
    full = EventRecord(
        HURTING, HURTING, "i", "purchase", 2**53 + 1, "s", "t", 0, HURTING, 3, 0.1, "", "arm", 1e-9
    )._replace(bundle_version="v000012", candidates=504)
    negative = event(2, time=-(10**15))
    appended = reopen().append_events([full, negative], received_at=9, late_before=0)
    assert (appended.recorded, appended.repeated, appended.late) == (2, 0, 1)
    page = reopen().events_after(0, 10)
    assert page.events == (full, negative)
    assert page.late == 1


def test_an_event_id_counts_once_within_and_across_batches_and_openings(reopen: Open) -> None:
    first = event(1)
    store = reopen()
    assert store.append_events([first, event(2), first], 9, 0).repeated == 1
    changed = first._replace(item_id="other")
    again = reopen().append_events([changed, event(3), event(2)], 9, 0)
    assert (again.recorded, again.repeated) == (1, 2)
    assert reopen().events_after(0, 10).events == (first, event(2), event(3))


def test_late_events_are_recorded_and_a_repeated_one_is_not_counted_again(reopen: Open) -> None:
    store = reopen()
    late = event(1, time=99)
    assert store.append_events([late, event(2, time=100)], 9, late_before=100).late == 1
    assert store.append_events([late], 9, late_before=100).late == 0
    assert store.events_after(0, 10).late == 1


def test_events_of_every_type_are_kept(reopen: Open) -> None:
    every = tuple(event(n)._replace(event_type=kind) for n, kind in enumerate(EVENT_TYPES))
    assert reopen().append_events(every, 9, 0).recorded == len(EVENT_TYPES)
    assert reopen().events_after(0, 99).events == every


def test_pages_of_events_meet_without_gap_or_overlap(reopen: Open) -> None:
    store = reopen()
    everything = tuple(event(number) for number in range(25))
    store.append_events(everything, 9, 0)
    seen: list[EventRecord] = []
    last = 0
    while page := store.events_after(last, 10).events:
        seen += page
        last = store.events_after(last, 10).last
    assert tuple(seen) == everything
    assert store.events_after(last, 10).last == last


def test_nothing_is_a_batch_too(reopen: Open) -> None:
    store = reopen()
    assert store.append_events([], 9, 0).recorded == 0
    assert store.change_catalogue([]) == RecordedChanges(0, ())
    assert store.events_after(0, 5).events == ()
    assert store.catalogue_changes() == ()


def test_writers_in_several_threads_lose_nothing(reopen: Open) -> None:
    store = reopen()

    def write(thread: int) -> int:
        own = [event(1_000 * thread + number) for number in range(20)]
        shared = [event(-number) for number in range(20)]
        return sum(store.append_events([one, two], 9, 0).recorded for one, two in zip(own, shared))  # noqa: B905

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, range(1, 5))) == 4 * 20 + 20
    assert len(store.events_after(0, 1_000).events) == 100


def test_the_last_change_of_an_item_remains_with_a_later_number(reopen: Open) -> None:
    store = reopen()
    cup = item("cup", description=HURTING, category=("A", "B"), tags=(), price=0.1, updated_at=7)
    store.change_catalogue([upsert(item("mug")), upsert(cup)])
    store.change_catalogue([upsert(item("mug", available=False)), ItemChange("gone", 6, None)])
    kept = reopen().catalogue_changes()
    assert [(one.item_id, one.item) for one in kept] == [
        ("cup", cup),
        ("mug", item("mug", available=False)),
        ("gone", None),
    ]
    numbers = [one.sequence for one in kept]
    assert numbers == sorted(set(numbers))
    assert numbers[0] > 1, "an older change kept its number"


def test_of_several_changes_in_one_batch_the_last_remains(reopen: Open) -> None:
    store = reopen()
    last = store.change_catalogue([upsert(item("mug")), ItemChange("mug", 6, None)]).last
    (kept,) = store.catalogue_changes()
    assert kept.item is None
    assert kept.sequence == last


def test_a_dated_change_from_before_the_last_one_is_left_out(reopen: Open) -> None:
    store = reopen()
    store.change_catalogue([upsert(item("mug", price=2.0), 7), upsert(item("cup"), 7)])
    changes = [upsert(item("mug"), 6), upsert(item("cup", price=3.0), 7), upsert(item("pan"), 1)]
    assert store.change_catalogue(changes).outdated == ("mug",)
    kept = {one.item_id: one.item for one in reopen().catalogue_changes()}
    assert kept == {
        "mug": item("mug", price=2.0),
        "cup": item("cup", price=3.0),
        "pan": item("pan"),
    }


def test_a_change_without_a_date_comes_after_all_that_is_known(reopen: Open) -> None:
    store = reopen()
    store.change_catalogue([upsert(item("mug", updated_at=70), 70)])
    assert store.change_catalogue([ItemChange("mug", 50, None)]).outdated == ()
    assert store.change_catalogue([upsert(item("mug"), 70)]).outdated == ("mug",)
    assert store.change_catalogue([ItemChange("mug", 60, item("mug"))]).outdated == ()
    (kept,) = store.catalogue_changes()
    assert kept.changed_at == 72
    assert kept.item == item("mug", updated_at=72)


def test_changes_after_a_number_are_those_recorded_since(reopen: Open) -> None:
    store = reopen()
    store.change_catalogue([upsert(item("mug")), upsert(item("cup"))])
    seen = store.catalogue_changes()[-1].sequence
    assert store.catalogue_changes(seen) == ()
    store.change_catalogue([upsert(item("mug", price=2.0)), upsert(item("pan"))])
    assert [one.item_id for one in store.catalogue_changes(seen)] == ["mug", "pan"]


def test_a_store_keeps_its_identity(reopen: Open) -> None:
    assert reopen().identity == reopen().identity


def test_a_closed_store_says_so(reopen: Open) -> None:
    store = reopen()
    store.close()
    with pytest.raises(StateError, match="closed"):
        store.append_events([event(1)], 9, 0)


def damaged(path: Path, at: int, length: int) -> None:
    content = bytearray(path.read_bytes())
    content[at : at + length] = bytes(length)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "state.sqlite"
    with closing(SqliteStateStore(path)) as store:
        store.append_events([event(number) for number in range(2_000)], 9, 0)
    return path


@pytest.mark.parametrize("page", [0, 1, 3, 10])
def test_a_file_with_a_lost_page_is_refused_and_named(
    filled: Path, tmp_path: Path, page: int
) -> None:
    path = Path(shutil.copy(filled, tmp_path / "state.sqlite"))
    damaged(path, at=4096 * page, length=4096)
    with pytest.raises(StateDamagedError, match=r"state\.sqlite is (damaged|a SQLite)"):
        SqliteStateStore(path)


def test_a_truncated_file_is_refused(filled: Path, tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(filled.read_bytes()[: 4096 * 9 + 17])
    with pytest.raises(StateDamagedError, match="restore it from a copy"):
        SqliteStateStore(path)


def test_another_kind_of_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database\n" * 100)
    with pytest.raises(StateDamagedError, match=r"notes\.txt"):
        SqliteStateStore(text)
    assert text.read_text() == "not a database\n" * 100
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(StateDamagedError, match="no state store"):
        SqliteStateStore(other)


def test_a_store_of_the_first_format_is_taken_on_with_all_its_events(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with closing(SqliteStateStore(path)) as store:
        store.append_events([event(1)], 9, 0)
    with closing(sqlite3.connect(path)) as connection:
        for column in ("bundle_version", "candidates"):
            connection.execute(f"ALTER TABLE events DROP COLUMN {column}")
        connection.execute("ALTER TABLE identity DROP COLUMN pseudonym_key")
        connection.execute("DROP TABLE erased")
        connection.execute("PRAGMA user_version = 1")
    shown = event(2)._replace(bundle_version="v000012", candidates=504)
    with closing(SqliteStateStore(path)) as store:
        store.append_events([shown], 9, 0)
    with closing(SqliteStateStore(path)) as store:
        assert store.events_after(0, 9).events == (event(1), shown)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    SqliteStateStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StateError, match="format 99, expected 3"):
        SqliteStateStore(path)


def test_a_place_that_can_t_be_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="unable to open"):
        SqliteStateStore(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="state"):
        SqliteStateStore(tmp_path / "file" / "state")


def test_a_shopper_s_acts_are_those_of_user_and_session_in_order_of_time(reopen: Open) -> None:
    store = reopen()
    mine, visit = event(1, time=30), event(2, time=10)._replace(user_id="other", session_id="s")
    both = event(3, time=20)._replace(session_id="s")
    shown = event(4, time=15)._replace(event_type="impression")
    foreign = event(5, time=12)._replace(user_id="other", session_id="t")
    store.append_events([mine, visit, both, shown, foreign], 99, 0)
    assert store.shopper_events(ShopperKey("u1", "s", 0, 99), 10) == (visit, both, mine)
    assert store.shopper_events(ShopperKey("u1", "", 0, 99), 10) == (both, mine)
    assert store.shopper_events(ShopperKey("", "s", 0, 99), 10) == (visit, both)
    assert store.shopper_events(ShopperKey("", "", 0, 99), 10) == ()


def test_a_shopper_s_latest_acts_within_the_times_are_kept(reopen: Open) -> None:
    store = reopen()
    acts = [event(number, time=10 * number) for number in range(6)]
    store.append_events(acts, 99, 0)
    assert store.shopper_events(ShopperKey("u1", "", 10, 40), 2) == (acts[2], acts[3])
    assert store.shopper_events(ShopperKey("u1", "", 10, 41), 9) == tuple(acts[1:5])


def test_acts_at_one_moment_come_in_the_order_of_recording(reopen: Open) -> None:
    store = reopen()
    acts = [event(number) for number in (3, 1, 2)]
    for act in acts:
        store.append_events([act], 99, 0)
    assert store.shopper_events(ShopperKey("u1", "", 0, 2_000), 9) == tuple(acts)


def test_erased_shoppers_are_gone_and_all_others_keep_their_numbers(reopen: Open) -> None:
    store = reopen()
    theirs = [event(number)._replace(user_id="gone", session_id="s") for number in (1, 3)]
    kept = [event(2), event(4)._replace(session_id="s")]
    store.append_events([theirs[0], kept[0], theirs[1], kept[1]], 9, 0)
    last = store.events_after(0, 10).last
    assert store.held(["gone", "never-seen"]) == HeldEvents(2, ("gone",), ("s",))
    assert store.erase(["gone", "never-seen"], erased_at=5_000) == 2
    store = reopen()
    assert store.held(["gone"]) == HeldEvents(0, (), ())
    assert store.events_after(0, 10) == EventPage(tuple(kept), 0, last)
    assert store.shopper_events(ShopperKey("gone", "s", 0, 9_999), 9) == (kept[1],)
    assert store.erase(["gone"], erased_at=5_000) == 0


def test_an_erased_shopper_comes_back_with_what_they_do_from_then_on(reopen: Open) -> None:
    store = reopen()
    store.append_events([event(1)], 9, 0)
    store.erase(["u1"], erased_at=5_000)
    store = reopen()
    again = [event(1), event(2, time=4_999), event(3, time=5_000)]
    others = [event(4)._replace(user_id="other")]
    appended = store.append_events([*again, *others], 9, late_before=4_500)
    assert (appended.recorded, appended.repeated, appended.late) == (2, 2, 1)
    assert store.events_after(0, 9).events == (again[2], *others)


def test_erasing_nobody_is_no_error(reopen: Open) -> None:
    store = reopen()
    store.append_events([event(1)], 9, 0)
    assert store.held([]) == HeldEvents(0, (), ())
    assert store.erase([], 5_000) == 0
    assert len(store.events_after(0, 9).events) == 1


def test_a_store_holds_names_by_one_key(reopen: Open) -> None:
    store = reopen()
    assert store.pseudonym_key is None
    store.set_pseudonym_key("a" * 16)
    store.set_pseudonym_key("b" * 16)
    store.append_events([event(1)], 9, 0)
    store = reopen()
    assert store.pseudonym_key == "b" * 16
    store.set_pseudonym_key("b" * 16)
    for other in (None, "a" * 16):
        with pytest.raises(StateError, match="holds pseudonyms by the key b"):
            store.set_pseudonym_key(other)
    assert store.pseudonym_key == "b" * 16
