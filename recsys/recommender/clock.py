"""The times of requests against what a bundle knows, in microseconds since the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from recsys.errors import RequestError
from recsys.interactions import floor_to_hour, microseconds
from recsys.recommender.requests import RankRequest, RecommendRequest

REQUESTS_PER_BATCH: Final = 64
Asked = TypeVar("Asked", RecommendRequest, RankRequest)


@dataclass(frozen=True)
class BundleClock:
    """What time it is for requests to a bundle.

    Attributes:
        horizon: events before it are known; aware of its time zone.
        latest: a day past the last known event, or the horizon where that is later.
    """

    horizon: datetime
    latest: int

    def looking_back(self, as_of: datetime | None) -> int:
        """The moment features look back from: `as_of`, at most `latest`.

        Raises:
            RequestError: `as_of` is before the horizon or naive.
        """
        if as_of is None:
            return self.latest
        if as_of.tzinfo is None:
            raise RequestError("as_of", f"expected a time with a zone, found {as_of.isoformat()}")
        if as_of < self.horizon:
            raise RequestError(
                "as_of",
                f"{as_of.isoformat()} is before this bundle's horizon "
                f"{self.horizon.isoformat()}; it knows what happened until then and would leak",
            )
        return min(microseconds(as_of), self.latest)

    def moment(self, as_of: datetime | None) -> int:
        """The time of a request: what merchandising rules go by."""
        return self.latest if as_of is None else microseconds(as_of)

    def is_late(self, as_of: datetime | None) -> bool:
        """Whether the bundle is stale for a request: its windows end before `as_of`."""
        return as_of is not None and microseconds(as_of) > self.latest

    def batches(self, requests: Sequence[Asked]) -> list[list[Asked]]:
        """Runs of requests within the same hour of the clock, so that they share statistics.

        Raises:
            RequestError: as `looking_back` does.
        """
        batches: list[list[Asked]] = []
        hour = None
        for request in requests:
            own = floor_to_hour(self.looking_back(request.as_of))
            if own != hour or len(batches[-1]) == REQUESTS_PER_BATCH:
                batches.append([])
                hour = own
            batches[-1].append(request)
        return batches
