"""Settings of the server."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ServerSettings(BaseModel):
    """Where the server listens and what it takes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    """Address to listen on; the default answers this machine only."""

    port: int = Field(default=50_051, ge=0, le=65_535)
    """0 takes any free port."""

    reflection: bool = False
    """Whether clients may list services and messages."""

    workers: int = Field(default=2, ge=1, le=256)
    """Calls scored at the same time; more than the cores this process may use gains nothing."""

    max_waiting_calls: int = Field(default=32, ge=0, le=1_024)
    """Calls that wait for a worker; one more is refused at once with RESOURCE_EXHAUSTED."""

    max_wait_seconds: float = Field(default=5.0, gt=0)
    """Longest wait for a worker, also for calls with a later deadline or none."""

    max_answer_seconds: float = Field(default=1.0, gt=0)
    """Time a ranking may take, also for calls with a later deadline or none; what takes longer is
    cut short as for a caller's own deadline."""

    reserve_seconds: float = Field(default=0.004, ge=0)
    """Of a call's remaining time, what is kept for writing and sending the answer."""

    drain_seconds: float = Field(default=10.0, ge=0)
    """Time that calls under way get to finish when the server stops."""

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
