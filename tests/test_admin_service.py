"""Operators see what is served and change it, on a port of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from threading import Event

import grpc
import publisher
import pytest
from shelf_ranker import HORIZON, ShelfRanker
from shelf_server import Call, refusal, running, until, waits
from test_signing import write_keys

from recsys import v1
from recsys.bundle import PublicKey, Registry, SigningKey
from recsys.bundle.locks import publisher_lock
from recsys.errors import ConfigurationError, DeadlineError
from serving.admin_server import admin_server
from serving.admin_service import AdminService
from serving.canary import TimeLeft
from serving.loading import LoadedBundle
from serving.server import Server, utc_now
from serving.swapping import BundleSwapper


class Operator:
    """A registry of three bundles, a server of the last, and a connection to its other port."""

    def __init__(self, registry: Registry, server: Server, call: Call) -> None:
        self.registry = registry
        self.call = call
        self.loading: Callable[[TimeLeft], None] = lambda _: None
        self.stopping = Event()
        self.swapper = BundleSwapper(self._load, server.install, utc_now)
        self.service = AdminService(registry, self.swapper, server.rankers, self.stopping)
        self.swapper.change_to("v000003")
        self.stub: v1.AdminServiceStub

    def _load(self, version: str, time_left: TimeLeft) -> LoadedBundle:
        self.registry.verify(version)
        self.loading(time_left)
        ranker = ShelfRanker()
        ranker.version = version
        return LoadedBundle(ranker, lambda: None)

    def activate(self, version: str, timeout: float = 5.0) -> v1.ActivateBundleResponse:
        request = v1.ActivateBundleRequest(bundle_version=version)
        response: v1.ActivateBundleResponse = self.stub.ActivateBundle(request, timeout=timeout)
        return response

    def roll_back(self) -> v1.RollbackResponse:
        response: v1.RollbackResponse = self.stub.Rollback(v1.RollbackRequest(), timeout=5.0)
        return response

    @property
    def status(self) -> v1.GetStatusResponse:
        response: v1.GetStatusResponse = self.stub.GetStatus(v1.GetStatusRequest(), timeout=5.0)
        return response

    def answering(self) -> str:
        return self.call.recommend().bundle_version


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    for seed in (1, 2, 3):
        publisher.publish(tmp_path / "registry", seed)
    return Registry(tmp_path / "registry")


@pytest.fixture
def operator(registry: Registry) -> Iterator[Operator]:
    with running(None) as (server, call):
        operator = Operator(registry, server, call)
        with (
            admin_server(operator.service, 0) as address,
            grpc.insecure_channel(address) as channel,
        ):
            operator.stub = v1.AdminServiceStub(channel)
            yield operator


def test_status_says_what_is_served_and_what_should_be(operator: Operator) -> None:
    status = operator.status
    assert status.bundle_version == status.registry_version == "v000003"
    assert status.horizon.ToDatetime(UTC) == HORIZON
    assert abs(status.serving_since.ToDatetime(UTC) - utc_now()).total_seconds() < 60
    assert (status.swaps, status.load_failures, status.swap_in_progress) == (1, 0, False)
    assert not status.HasField("last_load_failure")
    publisher.publish(operator.registry.root, 4)
    assert operator.status.registry_version == "v000004"
    (operator.registry.root / "CURRENT").write_text("nonsense")
    assert operator.status.registry_version == ""


def test_activating_serves_the_bundle_and_moves_the_pointer(operator: Operator) -> None:
    response = operator.activate("v000001")
    assert response.bundle_version == operator.answering() == "v000001"
    assert response.previous_bundle_version == "v000003"
    assert operator.registry.current() == operator.status.bundle_version == "v000001"


def test_rolling_back_goes_one_bundle_at_a_time_to_the_oldest(operator: Operator) -> None:
    assert operator.roll_back().bundle_version == operator.answering() == "v000002"
    assert operator.roll_back().previous_bundle_version == "v000002"
    assert operator.registry.current() == "v000001"
    code, text, _ = refusal(operator.roll_back)
    assert code is grpc.StatusCode.NOT_FOUND
    assert "oldest" in text


def test_activating_what_is_served_only_moves_the_pointer(operator: Operator) -> None:
    operator.registry.activate("v000001")
    assert operator.activate("v000003").previous_bundle_version == "v000003"
    assert operator.registry.current() == "v000003"
    assert operator.status.swaps == 1


@pytest.mark.parametrize("version", ["", "v" * 17])
def test_a_version_that_can_be_none_names_its_field(operator: Operator, version: str) -> None:
    code, _, blamed = refusal(lambda: operator.activate(version))
    assert (code, blamed) == (grpc.StatusCode.INVALID_ARGUMENT, ["bundle_version"])


@pytest.mark.parametrize("version", ["v000009", "../v000001", "/etc", "v1"])
def test_an_unknown_version_is_not_found(operator: Operator, version: str) -> None:
    code, _, blamed = refusal(lambda: operator.activate(version))
    assert (code, blamed) == (grpc.StatusCode.NOT_FOUND, ["bundle_version"])
    assert operator.answering() == operator.registry.current() == "v000003"


def test_a_damaged_bundle_is_data_loss_and_names_the_file(operator: Operator) -> None:
    (operator.registry.folder("v000001") / "text.faiss").write_bytes(b"IxFI")
    code, text, _ = refusal(lambda: operator.activate("v000001"))
    assert code is grpc.StatusCode.DATA_LOSS
    assert "text.faiss has 4 bytes" in text
    assert operator.answering() == operator.registry.current() == "v000003"
    failure = operator.status.last_load_failure
    assert (operator.status.load_failures, failure.bundle_version) == (1, "v000001")
    assert "text.faiss" in failure.reason


def test_a_second_change_is_aborted_while_one_is_in_progress(operator: Operator) -> None:
    gate, begun = Event(), Event()

    def hold(_: TimeLeft) -> None:
        begun.set()
        waits(gate)

    operator.loading = hold
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(operator.activate, "v000001")
        assert begun.wait(5)
        assert operator.status.swap_in_progress
        code, text, _ = refusal(lambda: operator.activate("v000002"))
        assert code is grpc.StatusCode.ABORTED
        assert "swap in progress" in text
        assert operator.answering() == "v000003"
        gate.set()
        assert first.result().bundle_version == operator.answering() == "v000001"


def test_a_deadline_that_passes_changes_nothing(operator: Operator) -> None:
    ended = Event()

    def wait_for_the_deadline(time_left: TimeLeft) -> None:
        until(lambda: time_left() <= 0)
        ended.set()
        raise DeadlineError("no time")

    operator.loading = wait_for_the_deadline
    code, _, _ = refusal(lambda: operator.activate("v000001", timeout=0.2))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert ended.wait(5)
    until(lambda: not operator.status.swap_in_progress)
    assert operator.answering() == operator.registry.current() == "v000003"
    assert operator.status.load_failures == 0


def test_a_call_that_is_cancelled_and_a_server_that_stops_change_nothing(
    operator: Operator,
) -> None:
    begun = Event()

    def wait_for_the_end(time_left: TimeLeft) -> None:
        begun.set()
        until(lambda: time_left() <= 0)

    operator.loading = wait_for_the_end
    request = v1.ActivateBundleRequest(bundle_version="v000001")
    call = operator.stub.ActivateBundle.future(request)
    assert begun.wait(5)
    call.cancel()
    until(lambda: not operator.status.swap_in_progress)
    begun.clear()
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(refusal, lambda: operator.activate("v000001"))
        assert begun.wait(5)
        operator.stopping.set()
        assert stopped.result()[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert operator.answering() == operator.registry.current() == "v000003"


def test_a_registry_that_is_busy_aborts_the_change(operator: Operator) -> None:
    with publisher_lock(operator.registry.root):
        code, text, _ = refusal(lambda: operator.activate("v000001"))
    assert code is grpc.StatusCode.ABORTED
    assert "publishing" in text
    assert operator.answering() == "v000003"


def test_a_server_without_the_signing_key_cannot_go_back(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / "keys")
    root = tmp_path / "registry"
    signer = Registry(root, signing_key=SigningKey.read(private))
    for seed in (1, 2, 3):
        with signer.stage() as staged:
            publisher.build(staged, seed)
            signer.publish(staged, publisher.describe(seed))
    with running(None) as (server, call):
        reader = Registry(root, public_key=PublicKey.read(public))
        operator = Operator(reader, server, call)
        with (
            admin_server(operator.service, 0) as address,
            grpc.insecure_channel(address) as channel,
        ):
            operator.stub = v1.AdminServiceStub(channel)
            code, text, _ = refusal(lambda: operator.activate("v000002"))
            assert code is grpc.StatusCode.FAILED_PRECONDITION
            assert "--signing-key" in text
            assert operator.answering() == reader.current() == "v000003"
            signer.activate("v000002")
            assert operator.activate("v000002").bundle_version == operator.answering()


def test_the_port_that_shops_call_does_not_offer_it(operator: Operator) -> None:
    stub = v1.AdminServiceStub(operator.call.channel)
    code, _, _ = refusal(lambda: stub.GetStatus(v1.GetStatusRequest(), timeout=5.0))
    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_a_port_that_is_taken_is_refused(operator: Operator) -> None:
    with (
        pytest.raises(ConfigurationError, match="--admin-port"),
        admin_server(operator.service, operator.call.port),
    ):
        pass


def test_hundreds_of_changes_by_four_operators_end_well(operator: Operator) -> None:
    codes: list[grpc.StatusCode] = []

    def change(version: str) -> None:
        for _ in range(60):
            try:
                operator.activate(version)
            except grpc.RpcError as failure:
                codes.append(failure.code())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, ["v000001", "v000002", "v000003", "v000001"]))
    assert set(codes) <= {grpc.StatusCode.ABORTED}
    assert operator.answering() == operator.status.bundle_version == operator.registry.current()
