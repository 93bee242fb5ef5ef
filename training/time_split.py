"""Division of the history before the cut into training, validation and label windows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from recsys.config import WindowsConfig
from recsys.errors import EmptyTableError
from recsys.interactions import DAY_US, HOUR_US, InteractionLog, floor_to_hour


@dataclass(frozen=True)
class Slice:
    """Events with `start <= time < end`, microseconds since the epoch, UTC."""

    start: int
    end: int


@dataclass(frozen=True)
class TimeSplit:
    """One global division by time; the encoder's slices come first and overlap no other.

    Attributes:
        train: what the encoder's gradient steps see.
        validation: what its early stopping looks at.
        windows: label windows of the ranker, oldest first; the last ends at the cut. They may
            overlap each other. The encoder's test slice is the last of them.
    """

    train: Slice
    validation: Slice
    windows: tuple[Slice, ...]

    @property
    def test(self) -> Slice:
        """The encoder's test slice."""
        return self.windows[-1]

    def describe(self) -> dict[str, list[str]]:
        """Start and end of each slice as ISO 8601, for summaries."""
        named = {"train": self.train, "validation": self.validation}
        named |= {f"ranker window {i + 1}": window for i, window in enumerate(self.windows)}
        return {name: [_iso(part.start), _iso(part.end)] for name, part in named.items()}


def split_by_time(log: InteractionLog, until: int, config: WindowsConfig) -> TimeSplit:
    """Divide the log's history before `until` (microseconds); slices start on full hours.

    Raises:
        EmptyTableError: the log spans too little time for a training slice.
    """
    if not len(log.time):
        raise EmptyTableError("no events before the cut; training needs a history")
    first = int(log.time.min())
    lengths = _lengths((until - first) / DAY_US, config)
    label, stride, held_back = (
        int(days * DAY_US) for days in (lengths.label, lengths.stride, lengths.validation)
    )
    if min(label, held_back) < HOUR_US:
        raise EmptyTableError(
            f"the log spans {(until - first) / DAY_US:.1f} days before the cut; "
            f"{lengths.windows} label windows and a validation slice need an hour each"
        )
    starts = [floor_to_hour(until - label - stride * i) for i in range(lengths.windows)]
    windows = tuple(Slice(a, until if a == starts[0] else a + label) for a in reversed(starts))
    validation = floor_to_hour(starts[-1] - held_back)
    return TimeSplit(
        train=Slice(first, validation),
        validation=Slice(validation, starts[-1]),
        windows=windows,
    )


class _Lengths(NamedTuple):
    """What a history is divided into, in days."""

    label: float
    stride: float
    validation: float
    windows: int


def _lengths(history: float, config: WindowsConfig) -> _Lengths:
    """As configured where the history is long enough; see `WindowsConfig`."""
    wanted = config.label_days + (config.ranker_windows - 1) * config.stride_days
    wanted += config.validation_days
    share = min(1.0, config.max_share_of_history * history / wanted)
    total = share * wanted
    stride, validation = share * config.stride_days, share * config.validation_days
    half = min(total / 2, total - validation)
    label = min(config.label_days, max(share * config.label_days, half))
    room = max(total - validation - label, 0.0)
    hours = int(room * DAY_US / HOUR_US)
    further = min(config.ranker_windows - 1, round(room / stride), hours)
    return _Lengths(label, room / further if further else stride, validation, 1 + further)


def _iso(time: int) -> str:
    return datetime.fromtimestamp(time / 1e6, tz=UTC).isoformat()
