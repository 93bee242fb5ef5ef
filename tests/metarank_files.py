"""Events as Metarank's documentation and demo have them, in files, and their import."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from training.import_metarank import MetarankOptions, import_metarank
from training.published_lines import ImportSummary

Event = dict[str, Any]
NOON = 1_661_342_400_000
"""2022-08-24 12:00 UTC, in milliseconds."""


def item(item_id: str, time: object = str(NOON), /, **fields: object) -> Event:
    common = {"event": "item", "id": f"{item_id}-{time}", "timestamp": time, "item": item_id}
    return common | {"fields": _fields(fields)}


def user(user_id: str, time: object = NOON, /, **fields: object) -> Event:
    common = {"event": "user", "id": f"{user_id}-{time}", "timestamp": time, "user": user_id}
    return common | {"fields": _fields(fields)}


def ranking(event_id: str, items: Sequence[str], time: object = NOON, **more: object) -> Event:
    shown = [{"id": one, "relevancy": 1.0 / place} for place, one in enumerate(items, start=1)]
    return {"event": "ranking", "id": event_id, "timestamp": time, "items": shown} | more


def interaction(event_id: str, item_id: str, kind: str = "click", **more: object) -> Event:
    common = {"event": "interaction", "id": event_id, "type": kind, "item": item_id}
    return common | {"timestamp": NOON, "fields": []} | more


def _fields(fields: dict[str, object]) -> list[dict[str, object]]:
    return [{"name": name, "value": value} for name, value in fields.items()]


def query(text: str) -> list[dict[str, object]]:
    return _fields({"query": text})


EVENTS: list[Event] = [
    item(
        "3114",
        "1636907100000",
        title="Toy Story 2",
        popularity=112.767,
        release_date=9.412416e8,
        genres=["animation", "comedy", "family"],
        tags=["pixar", "disney"],
        actors=["tom hanks", "joan cusack"],
        director="john lasseter",
    ),
    item("4002", "1636907100000", name="Planes", overview="They fly.", price=9, available=False),
    user("alice", age=33, gender="f"),
    ranking("r1", ["4002", "3114"], user="alice", session="alice1", fields=query("toys")),
    interaction(
        "i1", "3114", timestamp="2022-08-24T12:00:07Z", ranking="r1", user="alice", session="alice1"
    ),
    interaction(
        "i2",
        "3114",
        "purchase",
        timestamp=NOON + 9_000,
        user="alice",
        fields=_fields({"count": 2, "price": 7.5, "shipping": "DHL"}),
    ),
]


def lines_of(events: Iterable[Event]) -> bytes:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in events).encode()


def write_events(path: Path, events: Iterable[Event] = EVENTS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines_of(events))
    return path


def imported(
    source: Path,
    out: Path,
    options: MetarankOptions = MetarankOptions(),  # noqa: B008  # frozen
    max_rejects_share: float = 0.01,
) -> ImportSummary:
    with Progress(disable=True) as progress:
        return import_metarank(source, out, progress, options, max_rejects_share=max_rejects_share)


def make_metarank(path: Path) -> Path:
    """300 rankings of 12 of 60 items, 40 visitors, clicks and purchases, over a month."""
    rng = np.random.default_rng(3)
    colors = ["red", "green", "blue"]
    events = [
        item(
            f"p{number}",
            str(NOON),
            title=f"Story no. {number} in {colors[number % 3]}",
            category=["books", colors[number % 3]],
            price=float(number + 1),
        )
        for number in range(60)
    ]
    for number in range(300):
        time = NOON + number * 8_640_000
        shown = [f"p{one}" for one in rng.permutation(60)[:12]]
        who = {"user": f"u{number % 40}", "session": f"s{number}"}
        events.append(ranking(f"r{number}", shown, str(time), **who))
        for kind, share in (("click", 0.2), ("purchase", 0.05)):
            events += [
                interaction(
                    f"{kind}-{number}-{place}",
                    one,
                    kind,
                    timestamp=time + 1_000 * (place + 1),
                    ranking=f"r{number}",
                    **who,
                )
                for place, one in enumerate(shown)
                if rng.random() < share
            ]
    return write_events(path, events)
