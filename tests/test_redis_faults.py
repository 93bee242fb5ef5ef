"""A Redis that is down, slow or talks nonsense costs no answer, and is never acknowledged for."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2
from log_lines import CANARY, lines, logged
from shelf_ranker import ShelfRanker
from shelf_server import NOW, Call, refusal, running, until
from state_stores import opened, redis_store
from typer.testing import CliRunner

from recsys import v1
from recsys.errors import ConfigurationError, StateError, StateUnavailableError
from recsys.recommender import ChangesTaken
from recsys.state import ItemChange, ShopperKey, StateStore, redis_link
from recsys.state.redis_store import RedisTimes
from serving import live_catalogue, state_stores
from serving.bench.redis_process import RedisProcess
from serving.bench.tcp_proxy import TcpProxy, tcp_proxy
from serving.cli.events import app
from serving.counted_store import StateCall, StateOutcome
from serving.live_catalogue import CATALOGUE_CHANGES_MISSING
from serving.recent_events import RECENT_EVENTS_MISSING
from serving.server import SERVICE, Server
from serving.settings import ServerSettings

TIMES = RedisTimes(read=0.1, write=0.2)
AT_ONCE = {"changes_seconds": 0.05}
FAULTS: dict[str, Callable[[TcpProxy], None]] = {
    "stopped": TcpProxy.stop,
    "slow by 2 s": lambda proxy: proxy.slow(2.0),
    "another protocol": lambda proxy: proxy.answer(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "no protocol": lambda proxy: proxy.answer(bytes(range(256)) * 9),
    "another kind of answer": lambda proxy: proxy.answer(b"+OK\r\n"),
    "an endless list": lambda proxy: proxy.answer(b"*2147483647\r\n"),
    "lists in lists": lambda proxy: proxy.answer(b"*1\r\n" * 100_000),
    "a hundred megabytes": lambda proxy: proxy.answer(b"$104857600\r\n" + bytes(100 << 20)),
}


@pytest.fixture
def proxy(
    redis_server: RedisProcess, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TcpProxy]:
    """Stands before an empty Redis, which is tried again often."""
    assert redis_url
    monkeypatch.setattr(redis_link, "PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(live_catalogue, "AGAIN_SECONDS", 0.05)
    with tcp_proxy(redis_server.port) as between:
        yield between


def url_of(proxy: TcpProxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}/0"


@contextmanager
def serving(proxy: TcpProxy, ranker: ShelfRanker | None = None) -> Iterator[tuple[Server, Call]]:
    """A server whose Redis is behind the proxy."""
    with (
        closing(redis_store(url_of(proxy), TIMES)) as store,
        running(ranker or ShelfRanker(), store, **AT_ONCE) as served,
    ):
        yield served


def event(event_id: str) -> v1.Event:
    time = Timestamp()
    time.FromDatetime(NOW - timedelta(minutes=1))
    return v1.Event(
        event_id=event_id, user_id=CANARY, item_id="mug", event_type="view", event_time=time
    )


def record(call: Call, event_id: str) -> v1.RecordEventsResponse:
    request = v1.RecordEventsRequest(events=[event(event_id)])
    answer: v1.RecordEventsResponse = call.events.RecordEvents(request, timeout=30.0)
    return answer


def is_recorded(call: Call, event_id: str) -> bool:
    """Whether it is acknowledged now, as a client does that sends it again until it is."""
    request = v1.RecordEventsRequest(events=[event(event_id)])
    ended = call.events.RecordEvents.future(request, timeout=30.0)
    assert ended.code() in {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    return bool(ended.code() is grpc.StatusCode.OK)


def lacks(call: Call) -> list[str]:
    """What an answer lacks, but for what those of the shelf lack always."""
    answer = call.recommend(user_id=CANARY, timeout=30.0)
    assert len(answer.items) == 6
    return sorted(set(answer.degraded) - {"stale_bundle"})


def counted(server: Server, asked: StateCall, outcome: StateOutcome) -> float:
    labels = {"call": asked.value, "outcome": outcome.value}
    return server.metrics.registry.get_sample_value("recsys_state_calls_total", labels) or 0.0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_redis_costs_no_answer_and_ends_by_itself(
    proxy: TcpProxy, redis_url: str, log: io.StringIO, fault: str
) -> None:
    with serving(proxy) as (server, call):
        until(lambda: is_recorded(call, "before"))
        until(lambda: lacks(call) == [])
        FAULTS[fault](proxy)
        for _ in range(10):
            assert lacks(call) == [RECENT_EVENTS_MISSING]
            assert call.health_of(SERVICE) == health_pb2.HealthCheckResponse.SERVING
        for number in range(7):
            code, text, _ = refusal(lambda number=number: record(call, f"during-{number}"))  # type: ignore[misc]
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "safe" in text
            assert str(proxy.port) not in text
        proxy.mend()
        until(lambda: is_recorded(call, "after"))
        until(lambda: lacks(call) == [])
        outcomes = {how: counted(server, StateCall.READ_SHOPPER, how) for how in StateOutcome}
    assert sum(outcomes.values()) - outcomes[StateOutcome.OK] >= 10
    with closing(opened(redis_url)) as store:
        ids = [one.event_id for one in store.events_after(0, 100).events]
    assert len(ids) == len(set(ids))
    assert {"before", "after"} <= set(ids)
    said = [line["event"] for line in lines(log) if line.get("call") == "read_shopper"]
    assert "state_store_fails" in said
    assert said[-1] == "state_store_answers"
    assert CANARY not in log.getvalue()


def test_a_redis_that_fails_is_left_alone(proxy: TcpProxy) -> None:
    with serving(proxy) as (server, call):
        until(lambda: lacks(call) == [])
        proxy.slow(60.0)
        for _ in range(60):
            assert lacks(call) == [RECENT_EVENTS_MISSING]
        assert counted(server, StateCall.READ_SHOPPER, StateOutcome.NOT_ASKED) > 30


def test_a_refused_event_that_is_sent_again_counts_once(proxy: TcpProxy, redis_url: str) -> None:
    with serving(proxy) as (_, call):
        until(lambda: is_recorded(call, "before"))
        proxy.slow(2.0)
        refusal(lambda: record(call, "lost answer"))
        proxy.mend()
        until(lambda: is_recorded(call, "lost answer"))
    with closing(opened(redis_url)) as store:
        assert [one.event_id for one in store.events_after(0, 9).events] == [
            "before",
            "lost answer",
        ]


class Following(ShelfRanker):
    """Knows what changes it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[str] = []

    def after(self, changes: Sequence[ItemChange]) -> tuple[ShelfRanker, ChangesTaken]:
        self.given += [change.item_id for change in changes]
        return self, ChangesTaken()


def test_a_server_that_starts_while_redis_is_down_answers_and_catches_up(
    proxy: TcpProxy, redis_url: str
) -> None:
    with closing(opened(redis_url)) as store:
        store.change_catalogue([ItemChange("mug", 5, None)])
    proxy.stop()
    ranker = Following()
    with serving(proxy, ranker) as (_, call):
        assert lacks(call) == [CATALOGUE_CHANGES_MISSING, RECENT_EVENTS_MISSING]
        similar = call.stub.SimilarItems(v1.SimilarItemsRequest(item_id="mug"), timeout=9.0)
        assert CATALOGUE_CHANGES_MISSING in similar.degraded
        assert not ranker.given
        proxy.mend()
        until(lambda: lacks(call) == [])
        assert ranker.given == ["mug"]


def test_while_redis_is_down_the_bundle_in_service_stays(proxy: TcpProxy) -> None:
    with serving(proxy) as (server, call):
        until(server.can_install)
        proxy.stop()
        assert not server.can_install()
        with pytest.raises(StateUnavailableError):
            server.install(ShelfRanker())
        assert lacks(call) == [RECENT_EVENTS_MISSING]
        proxy.mend()
        until(server.can_install)
        until(lambda: is_installed(server))
        until(lambda: lacks(call) == [])


def is_installed(server: Server) -> bool:
    with suppress(StateUnavailableError):
        server.install(ShelfRanker())
        return True
    return False


def test_what_one_server_changes_the_others_that_share_its_store_follow(state_at: str) -> None:
    one, other = Following(), Following()
    with (
        closing(opened(state_at)) as first,
        closing(opened(state_at)) as second,
        running(one, first, **AT_ONCE) as (_, call),
        running(other, second, **AT_ONCE),
    ):
        call.catalogue.DeleteItems(v1.DeleteItemsRequest(item_ids=["mug"]), timeout=9.0)
        assert one.given == ["mug"]
        until(lambda: other.given == ["mug"])


def test_a_server_takes_its_redis_as_its_settings_say(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServerSettings()
    with closing(state_stores.store_to_serve(redis_url, settings)) as store:
        store.append_events([], 0, 0)
    with logged() as log:
        down = _serve(f"redis://127.0.0.1:{_closed_port()}", settings)
    with closing(down) as store, pytest.raises(StateUnavailableError):
        store.shopper_events(ShopperKey("u", "", 0, 1), 1)
    assert [line["event"] for line in lines(log)] == ["state_store_unreachable"]
    monkeypatch.setenv(state_stores.PASSWORD, CANARY)
    with pytest.raises(StateError, match="refused") as refused:
        state_stores.store_to_serve(redis_url, settings)
    assert CANARY not in str(refused.value)
    absent = tmp_path / "ca.pem"
    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        _serve(f"rediss://127.0.0.1?ssl_ca_certs={absent}", settings)


def _serve(named: str, settings: ServerSettings) -> StateStore:
    return state_stores.store_to_serve(named, settings)


def _closed_port() -> int:
    with tcp_proxy(1) as between:
        return between.port


def test_without_the_client_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_stores, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'vitrine-recsys\[redis\]'"):
        state_stores.store_to_serve("redis://127.0.0.1", ServerSettings())


@pytest.mark.parametrize("scheme", ["redis", "REDIS", "redids"])
def test_a_wrong_address_is_not_quoted_by_the_command(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}://:{CANARY}/x@127.0.0.1"
    result = CliRunner().invoke(app, ["export", str(tmp_path), "--state", url])
    assert isinstance(result.exception, ConfigurationError)
    assert CANARY not in f"{result.exception} {result.output}"
