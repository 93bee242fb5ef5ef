"""Settings of the server."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recsys.errors import ConfigurationError


class ServerSettings(BaseModel):
    """Where the server listens and what it takes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    """Address to listen on; the default answers this machine only."""

    port: int = Field(default=50_051, ge=0, le=65_535)
    """0 takes any free port."""

    reflection: bool = False
    """Whether clients may list services and messages."""

    metrics_host: str = "127.0.0.1"
    """Address of the metrics; they know no caller, but the shop's traffic."""

    metrics_port: int | None = Field(default=None, ge=0, le=65_535)
    """Port of the metrics (HTTP, for Prometheus); None serves none, 0 takes any free port."""

    admin_port: int | None = Field(default=None, ge=0, le=65_535)
    """Port for operators, on the loopback interface; None offers none, 0 takes any free port."""

    watch: bool = True
    """Whether the server changes to what becomes the registry's current bundle while it runs."""

    watch_seconds: float = Field(default=1.0, gt=0)
    """Time between two looks at the registry's pointer."""

    rollback_check_seconds: float = Field(default=30.0, ge=0)
    """How long after the start the bundle published before the served one is tried out, so that
    going back to it is quick."""

    experiments: Path | None = None
    """TOML file of the experiments to run; None runs none."""

    log_impressions: bool | None = None
    """Whether what `Recommend` shows is recorded as impressions in the state store; None means
    where experiments run. A shop that records its own impressions must say no, or they count
    twice."""

    impression_flush_seconds: float = Field(default=0.1, ge=0)
    """How long answers gather before their impressions are written together; what a killed process
    may lose."""

    workers: int = Field(default=2, ge=1, le=256)
    """Calls scored at the same time; more than the cores this process may use gains nothing."""

    max_waiting_calls: int = Field(default=32, ge=0, le=1_024)
    """Calls that wait for a worker; one more is refused at once with RESOURCE_EXHAUSTED."""

    max_writing_calls: int = Field(default=32, ge=1, le=1_024)
    """Calls of `EventService` and `CatalogService` at the same time; one more is refused at once
    with RESOURCE_EXHAUSTED. They take no worker."""

    max_wait_seconds: float = Field(default=5.0, gt=0)
    """Longest wait for a worker, also for calls with a later deadline or none."""

    max_wait_share: float = Field(default=0.4, gt=0, le=1)
    """Of the time a call has left, what it may be expected to wait for a worker; a call that would
    wait longer is refused at once with RESOURCE_EXHAUSTED."""

    max_answer_seconds: float = Field(default=1.0, gt=0)
    """Time a ranking may take, also for calls with a later deadline or none; what takes longer is
    cut short as for a caller's own deadline."""

    reserve_seconds: float = Field(default=0.004, ge=0)
    """Of a call's remaining time, what is kept for writing and sending the answer."""

    send_seconds: float = Field(default=0.002, ge=0)
    """An answer that is ready with less than this left ends with DEADLINE_EXCEEDED instead."""

    drain_seconds: float = Field(default=10.0, ge=0)
    """Time that calls under way get to finish when the server stops."""

    drain_notice_seconds: float = Field(default=0.0, ge=0)
    """Time between health saying NOT_SERVING and new calls being refused: what a load balancer
    needs to notice."""

    max_streams_per_connection: int = Field(default=1_024, ge=1)
    """Calls that one connection may have under way; its client holds more of them back."""

    max_connection_age_seconds: float = Field(default=1_800.0, gt=0)
    """Age at which a connection is asked to end and the client to connect anew, so that load
    balancers can spread clients; calls under way finish."""

    max_connection_age_grace_seconds: float = Field(default=30.0, gt=0)
    """Time that calls under way get on a connection that is too old."""

    keepalive_seconds: float = Field(default=60.0, gt=0)
    """How long a connection is silent before the server asks whether the client is still there."""

    keepalive_timeout_seconds: float = Field(default=20.0, gt=0)
    """Time for the answer to that; without one the connection ends."""

    min_client_ping_seconds: float = Field(default=10.0, gt=0)
    """A client that asks more often whether the server is there is sent away."""

    max_request_bytes: int = Field(default=1 << 20, ge=1 << 10)
    """Largest message taken; a larger one is refused before it is read."""

    max_response_bytes: int = Field(default=16 << 20, ge=1 << 10)
    """Largest message sent."""

    default_page_size: int = Field(default=10, ge=1)
    """Items returned when the request names no number."""

    max_page_size: int = Field(default=200, ge=1)
    """Most items a request may ask for."""

    max_ids: int = Field(default=1_000, ge=1)
    """Most values in a repeated field of a request."""

    max_id_chars: int = Field(default=256, ge=1)
    """Longest id, category or brand."""

    max_query_chars: int = Field(default=131_072, ge=1)
    """Longest query taken."""

    read_query_chars: int = Field(default=2_000, ge=1)
    """Characters of a query that are read; the rest could not reach the text model anyway."""

    max_events: int = Field(default=1_000, ge=1)
    """Most events in a batch."""

    max_recent_events: int = Field(default=200, ge=1)
    """Acts of a shopper since the bundle's horizon that an answer looks at, the latest."""

    changes_seconds: float = Field(default=1.0, gt=0)
    """Time between two looks at the state store for changes of the catalogue that another server
    has recorded, or that could not be read before."""

    redis_read_seconds: float = Field(default=0.05, gt=0)
    """Time that a Redis has to say what a shopper did; without it the answer is given."""

    redis_write_seconds: float = Field(default=2.0, gt=0)
    """Time that a Redis has to record a batch, or to read out a part of what it holds."""

    redis_may_lose: bool = False
    """Whether a Redis is taken whose settings let it lose what it has acknowledged; the log says in
    which ways."""

    max_items: int = Field(default=1_000, ge=1)
    """Most items in a batch."""

    max_title_chars: int = Field(default=10_000, ge=1)
    """Longest title, and address of a picture."""

    max_description_chars: int = Field(default=100_000, ge=1)
    """Longest description."""

    max_labels: int = Field(default=100, ge=1)
    """Most levels of a category path, and most tags of an item."""

    max_review_chars: int = Field(default=20_000, ge=1)
    """Longest text of a review."""

    @property
    def logs_impressions(self) -> bool:
        """See `log_impressions`."""
        running = self.experiments is not None
        return running if self.log_impressions is None else self.log_impressions


def load_settings(path: Path | None, given: Mapping[str, object]) -> ServerSettings:
    """Settings of a TOML file, those `given` by name above them.

    Raises:
        ConfigurationError: the file is missing, not TOML, or has an unknown or invalid setting; the
            message names the setting.
    """
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8")) if path else {}
    except OSError as error:
        raise ConfigurationError(f"can't read the settings {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not a TOML file: {error}") from error
    try:
        return ServerSettings.model_validate({**written, **given})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise ConfigurationError(f"{path or 'the settings'}: {problems}") from error
