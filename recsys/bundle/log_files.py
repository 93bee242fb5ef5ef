"""The interaction log as bundle files: arrays in safetensors, ids in JSON.

It is no part of the package's door: it needs the table libraries, which reading a registry doesn't.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.bundle.arrays import load_arrays, save_arrays
from recsys.bundle.json_files import load_json, save_json
from recsys.errors import BundleCorruptError
from recsys.interactions import Impressions, InteractionLog, Searches

LOG: Final = "log"
"""The log's folder in a bundle."""

LOG_ARRAYS: Final = "log.safetensors"
LOG_IDS: Final = "log_ids.json"


class _Ids(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    queries: tuple[str, ...]


_PARTS: Final = {
    "impressions": tuple(f.name for f in fields(Impressions)),
    "searches": tuple(f.name for f in fields(Searches) if f.name != "queries"),
}
"""Arrays of each part that the log keeps apart from its events."""

_EVENT_ARRAYS: Final = tuple(
    f.name
    for f in fields(InteractionLog)
    if f.name not in _Ids.model_fields and f.name not in _PARTS
)
_ARRAY_NAMES: Final = tuple(
    sorted([*_EVENT_ARRAYS, *(f"{part}.{name}" for part in _PARTS for name in _PARTS[part])])
)


def save_log(log: InteractionLog, folder: Path) -> None:
    """Write two files into an existing folder; equal logs give equal bytes."""
    arrays = {name: getattr(log, name) for name in _EVENT_ARRAYS}
    for part, names in _PARTS.items():
        arrays |= {f"{part}.{name}": getattr(getattr(log, part), name) for name in names}
    save_arrays(folder / LOG_ARRAYS, arrays)
    ids = _Ids(user_ids=log.user_ids, item_ids=log.item_ids, queries=log.searches.queries)
    save_json(folder / LOG_IDS, ids.model_dump())


def load_log(folder: Path) -> InteractionLog:
    """Read what `save_log` wrote.

    Raises:
        BundleCorruptError: a file is missing or unreadable, or the two don't belong together.
    """
    arrays = load_arrays(folder / LOG_ARRAYS)
    if tuple(sorted(arrays)) != _ARRAY_NAMES:
        raise BundleCorruptError(
            f"{folder / LOG_ARRAYS} holds arrays {sorted(arrays)}, expected {list(_ARRAY_NAMES)}; "
            "train again"
        )
    ids = _load_ids(folder / LOG_IDS)
    parts = {
        part: {name: arrays.pop(f"{part}.{name}") for name in names}
        for part, names in _PARTS.items()
    }
    log = InteractionLog(
        user_ids=ids.user_ids,
        item_ids=ids.item_ids,
        **arrays,  # type: ignore[arg-type]
        impressions=Impressions(**parts["impressions"]),  # type: ignore[arg-type]
        searches=Searches(ids.queries, **parts["searches"]),  # type: ignore[arg-type]
    )
    users, rows = len(log.user_ids), len(log.item)
    if len(log.user_offsets) != users + 1 or log.user_offsets[-1] != rows:
        raise BundleCorruptError(
            f"{folder} has {users} user ids and {rows} events, but offsets for "
            f"{len(log.user_offsets) - 1} users and {log.user_offsets[-1]} events; train again"
        )
    for part, names in _PARTS.items():
        if not getattr(log, part).is_sound():
            sizes = {name: len(parts[part][name]) for name in names}
            raise BundleCorruptError(
                f"{folder / LOG_ARRAYS} holds {part} whose arrays do not belong together, of "
                f"sizes {sizes}; train again"
            )
    return log


def logged_users(bundle: Path) -> tuple[str, ...]:
    """The shoppers that have a history in a bundle, by the names that it has for them.

    Args:
        bundle: its folder.

    Raises:
        BundleCorruptError: the list is missing or unreadable.
    """
    return _load_ids(bundle / LOG / LOG_IDS).user_ids


def _load_ids(path: Path) -> _Ids:
    try:
        return _Ids.model_validate(load_json(path))
    except ValidationError as error:
        raise BundleCorruptError(
            f"{path} does not hold lists of texts named {', '.join(_Ids.model_fields)}; train again"
        ) from error
