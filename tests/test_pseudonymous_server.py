"""A server with a pseudonym key answers as one without, and keeps nobody's id."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import pytest
from rich.progress import Progress
from shelf_ranker import ShelfRanker
from shelf_server import NOW, Call, running
from test_event_service import event, stamp
from test_impression_log import plan
from test_pseudonyms import KEY, OTHER, by, key_file
from test_signing import run as succeed
from trained_shop import UNTIL, TrainedShop

from recsys import v1
from recsys.bundle import Registry
from recsys.errors import BundleCorruptError, BundleError, DataError, StateError
from recsys.pseudonyms import Pseudonyms
from recsys.recommender import Recommender, check_golden, load_golden
from recsys.state import SqliteStateStore
from recsys.tables import Dataset
from serving.cli.main import main
from serving.experiments import RunningExperiments
from serving.loading import BundleLoader, open_recommender
from serving.response_writing import attribution_token
from training.export_events import export_events
from training.index_catalogue import IndexOptions, index_catalogue
from training.pseudonymise import pseudonymise

NAMES: Final = by(KEY)
VISIT: Final = "visit-4711"


@pytest.fixture(scope="module")
def hidden(trained_shop: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained shop's dataset with pseudonyms, and a bundle of the same models over it."""
    folder = tmp_path_factory.mktemp("hidden")
    registry = Path(shutil.copytree(trained_shop.registry, folder / "registry"))
    with Progress(disable=True) as progress:
        pseudonymise(trained_shop.dataset, folder / "shop", NAMES, progress)
        index_catalogue(folder / "shop", registry, IndexOptions(until=UNTIL), progress)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStateStore]:
    with closing(SqliteStateStore(tmp_path / "state.sqlite")) as opened:
        yield opened


def renamed(recommender: Recommender) -> Recommender:
    """The same recommender, to which the same shoppers are known by their pseudonyms."""
    contents = recommender._contents
    users = tuple(map(NAMES.user, contents.log.user_ids))
    log = replace(contents.log, user_ids=users)
    return Recommender(replace(contents, log=log), recommender.version, recommender.horizon)


def asked(call: Call, shop: TrainedShop) -> list[v1.RecommendResponse | v1.RankResponse]:
    """What shoppers are answered before and after they do something."""
    items = shop.tables.items["item_id"].to_list()
    shoppers = [*shop.shoppers[:3], "never-seen"]
    acts = [
        event(f"e{number}", user_id=user, item_id=item, session_id=session)
        for number, (user, item, session) in enumerate(
            [(shoppers[0], items[3], "s1"), ("never-seen", items[5], ""), ("", items[7], VISIT)]
        )
    ]
    answers: list[v1.RecommendResponse | v1.RankResponse] = []
    for _ in range(2):
        answers += [call.recommend(user_id=user, as_of=NOW) for user in shoppers]
        answers += [
            call.stub.Rank(v1.RankRequest(user_id=user, item_ids=items[:9], as_of=NOW), timeout=9.0)
            for user in shoppers
        ]
        answers.append(call.recommend(session_id=VISIT, as_of=NOW))
        request = v1.RecordEventsRequest(events=acts)
        call.events.RecordEvents(request, timeout=9.0)
    return answers


def test_with_a_key_the_answers_are_those_without(
    trained_shop: TrainedShop, store: SqliteStateStore, tmp_path: Path
) -> None:
    with (
        closing(SqliteStateStore(tmp_path / "plain.sqlite")) as plain,
        running(open_recommender(trained_shop.registry), plain) as (_, call),
    ):
        expected = asked(call, trained_shop)
    with running(renamed(trained_shop.recommender), store, NAMES) as (_, call):
        found = asked(call, trained_shop)
    assert len({answer.SerializeToString() for answer in expected}) > 9
    for one, other in zip(found, expected, strict=True):
        assert list(one.items) == list(other.items)
        assert list(one.degraded) == list(other.degraded)
        assert one.attribution_token != other.attribution_token or not one.items
    kept = store.events_after(0, 9).events
    assert [one.user_id for one in kept] == [
        NAMES.user(trained_shop.shoppers[0]),
        NAMES.user("never-seen"),
        "session:" + NAMES.session(VISIT),
    ]
    assert kept[2].session_id == NAMES.session(VISIT)
    written = b"".join(path.read_bytes() for path in tmp_path.glob("state.sqlite*"))
    for user in (trained_shop.shoppers[0], "never-seen", VISIT):
        assert user.encode() not in written


def test_a_bundle_of_the_renamed_dataset_answers_as_the_one_before(
    trained_shop: TrainedShop, hidden: Path
) -> None:
    golden = load_golden(trained_shop.bundle)
    asked = [one.model_copy(update={"user_id": NAMES.user(one.user_id)}) for one in golden]
    recommender = open_recommender(hidden / "registry")
    check_golden(recommender, asked)
    with pytest.raises(BundleCorruptError):
        check_golden(recommender, golden)


def test_a_bundle_with_pseudonyms_holds_no_id(trained_shop: TrainedShop, hidden: Path) -> None:
    folder = Registry(hidden / "registry").folder()
    files = {path.name: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    assert Registry(hidden / "registry").manifest(folder.name).pseudonym_key == NAMES.key
    for user in trained_shop.data.log.user_ids:
        assert [name for name, content in files.items() if f'"{user}"'.encode() in content] == []
        assert NAMES.user(user).encode() in files["log_ids.json"]


def test_an_answer_s_token_can_t_be_tried_for_ids() -> None:
    request = v1.RecommendRequest(user_id="U1", session_id="s", as_of=stamp(NOW))
    with running(ShelfRanker(), None, NAMES) as (_, call):
        answer = call.stub.Recommend(request, timeout=5.0)
    known = v1.RecommendRequest(
        user_id=NAMES.user("U1"), session_id=NAMES.session("s"), as_of=stamp(NOW)
    )
    version = answer.bundle_version
    assert answer.attribution_token == attribution_token(known, version, NOW)
    assert answer.attribution_token != attribution_token(request, version, NOW)


def test_arms_go_by_the_shop_s_own_ids_and_impressions_by_pseudonyms(
    store: SqliteStateStore, tmp_path: Path
) -> None:
    shoppers = ["qa", *(f"u{number}" for number in range(9))]
    arms = []
    for names, log in ((Pseudonyms(), False), (NAMES, True)):
        given: dict[str, object] = {"log_impressions": log, "impression_flush_seconds": 0.0}
        with running(ShelfRanker(), store if log else None, names, **given) as (server, call):
            server.experiments.put(RunningExperiments(plan(tmp_path)))
            arms.append([call.recommend(user_id=user).experiment_arm for user in shoppers])
    assert arms[0] == arms[1]
    assert len(set(arms[0])) > 2
    shown = {one.user_id for one in store.events_after(0, 10_000).events}
    assert shown == {NAMES.user(user) for user in shoppers}


def test_limits_are_of_what_the_caller_sends(store: SqliteStateStore) -> None:
    with running(ShelfRanker(), store, NAMES) as (_, call):
        with pytest.raises(grpc.RpcError, match="user_id: is 257 characters"):
            call.recommend(user_id="u" * 257)
        with pytest.raises(grpc.RpcError, match="session_id: is 257 characters"):
            call.recommend(session_id="u" * 257)
        long = [event("a", user_id="u" * 257), event("b", user_id=" "), event("c", user_id="u")]
        answer = call.events.RecordEvents(v1.RecordEventsRequest(events=long), timeout=9.0)
    assert [one.index for one in answer.rejected_events] == [0, 1]
    assert "u" * 20 not in str(answer)
    assert [one.user_id for one in store.events_after(0, 9).events] == [NAMES.user("u")]


@pytest.mark.parametrize(("first", "second"), [(None, KEY), (KEY, None), (KEY, OTHER)])
def test_a_server_takes_no_store_with_names_by_another_key(
    store: SqliteStateStore, first: str | None, second: str | None
) -> None:
    with running(ShelfRanker(), store, by(first) if first else Pseudonyms()) as (_, call):
        call.events.RecordEvents(v1.RecordEventsRequest(events=[event()]), timeout=9.0)
    with (
        pytest.raises(StateError, match=r"holds .*, but what is to come has"),
        running(ShelfRanker(), store, by(second) if second else Pseudonyms()),
    ):
        pass
    assert len(store.events_after(0, 9).events) == 1


def test_a_server_takes_no_bundle_with_names_by_another_key(hidden: Path) -> None:
    registry = Registry(hidden / "registry")
    before, now = registry.versions()
    for key, version in ((None, now), (by(OTHER).key, now), (NAMES.key, before)):
        refused: list[str] = []
        loader = BundleLoader(registry, partial(refused.append, version), pseudonym_key=key)
        with pytest.raises(BundleError, match=rf"bundle {version} holds .*but the server names"):
            loader.load(version, lambda: 60.0)
        assert refused == [version]


def test_no_ids_come_to_the_pseudonyms_of_a_dataset(
    trained_shop: TrainedShop, hidden: Path, store: SqliteStateStore, tmp_path: Path
) -> None:
    with running(ShelfRanker(), store) as (_, call):
        call.events.RecordEvents(v1.RecordEventsRequest(events=[event()]), timeout=9.0)
    with Progress(disable=True) as progress:
        with pytest.raises(DataError, match="holds pseudonyms by the key"):
            export_events(store, hidden / "shop", progress)
        mixed = Path(shutil.copytree(hidden / "shop", tmp_path / "mixed"))
        (mixed / "events").mkdir(exist_ok=True)
        events = mixed / "events.parquet"
        if events.exists():
            events.rename(mixed / "events" / "a.parquet")
        trained_shop.tables.events.head(3).write_parquet(mixed / "events" / "z.parquet")
        with pytest.raises(DataError, match="3 events name shoppers by their own ids"):
            index_catalogue(mixed, hidden / "registry", IndexOptions(until=UNTIL), progress)


def test_a_dataset_without_events_takes_the_store_s_key(
    hidden: Path, store: SqliteStateStore, tmp_path: Path
) -> None:
    with running(ShelfRanker(), store, NAMES) as (_, call):
        call.events.RecordEvents(v1.RecordEventsRequest(events=[event()]), timeout=9.0)
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(hidden / "shop" / "items.parquet", new / "items.parquet")
    with Progress(disable=True) as progress:
        assert export_events(store, new, progress).exported == 1
    assert Dataset(new).pseudonym_key == NAMES.key


def test_a_bundle_is_not_measured_on_names_it_does_not_know(
    trained_shop: TrainedShop, hidden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = (UNTIL + timedelta(days=1)).isoformat()
    arguments = ["evaluate", trained_shop.dataset, "--registry", hidden / "registry"]
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments), "--from", start])
    assert end.value.code == 3
    assert "shoppers' ids as they are" in capsys.readouterr().err


def test_the_commands_take_key_files(
    trained_shop: TrainedShop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = key_file(tmp_path, KEY, OTHER)
    command = ["pseudonymise", str(trained_shop.dataset), "--out", str(tmp_path / "new")]
    succeed(*command, "--pseudonym-key", str(key), "--json")
    assert f'"pseudonym_key": "{by(KEY, OTHER).key}"' in capsys.readouterr().out
    assert Dataset(tmp_path / "new").pseudonym_key == by(KEY, OTHER).key
    key.chmod(0o644)
    for arguments in (command, ["serve", "--registry", str(trained_shop.registry)]):
        with pytest.raises(SystemExit) as end:
            main([*arguments, "--pseudonym-key", str(key)])
        assert end.value.code == 3
        assert "chmod 600" in capsys.readouterr().err
