"""`recsys erase`: removes shoppers from everything that is kept of them, and says what is left."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rich.progress import Progress

from recsys.bundle import Registry
from recsys.bundle.log_files import logged_users
from recsys.errors import BundleError
from recsys.pseudonyms import Pseudonyms
from recsys.state import StateStore
from training.erase_dataset import DatasetErasure, DatasetPlace, visitors


@dataclass(frozen=True)
class ErasureOptions:
    """How to erase.

    Attributes:
        names: by which the places may name shoppers.
        erased_at: microseconds since the epoch, UTC; what they did before does not come back.
        dry_run: count alone.
    """

    names: Pseudonyms
    erased_at: int
    dry_run: bool = False


@dataclass(frozen=True)
class Places:
    """Where shoppers are to be erased from.

    Attributes:
        datasets: folders.
        state: the server's store.
        registry: whose bundles are looked at; None looks at none.
    """

    datasets: tuple[Path, ...] = ()
    state: StateStore | None = None
    registry: Path | None = None


@dataclass(frozen=True)
class BundleHolding:
    """What a bundle holds of the shoppers.

    Attributes:
        version: of the bundle.
        current: whether it is the one that is served.
        shoppers: how many have a history in it.
        unreadable: why nobody knows; empty where it could be read.
    """

    version: str
    current: bool
    shoppers: int
    unreadable: str = ""


@dataclass(frozen=True)
class ErasureSummary:
    """What was erased, or would be; and what is left to do.

    Attributes:
        shoppers: how many were given.
        unknown: how many of them nothing was found of anywhere; a mistyped id, or done before.
        dry_run: whether nothing was changed.
        datasets: what they held.
        state_events: what the store held; None without a store.
        bundles: those that hold a history of theirs, oldest first, and those nobody can read.
        unfinished: work of training runs that were killed: may hold what was made of histories.
        next_steps: what to do, in order, until nothing is left.
    """

    shoppers: int
    unknown: int
    dry_run: bool
    datasets: tuple[DatasetErasure, ...]
    state_events: int | None
    bundles: tuple[BundleHolding, ...]
    unfinished: tuple[Path, ...]
    next_steps: tuple[str, ...]


class Place(Protocol):
    """What holds shoppers and can be rid of them."""

    @property
    def where(self) -> object:
        """What to call it in messages."""
        ...

    @property
    def key(self) -> str | None:
        """Fingerprint of the key by which it names shoppers."""
        ...

    def found(self, names: Collection[str]) -> set[str]:
        """Those of the names that are known here."""
        ...

    def visits(self, names: Collection[str]) -> set[str]:
        """Ids of the sessions in which they did anything."""
        ...

    def count(self, names: Collection[str], as_given: Collection[str]) -> None:
        """Count what `erase` would remove."""
        ...

    def erase(self, names: Collection[str], as_given: Collection[str], erased_at: int) -> None:
        """Remove them; again completes what was interrupted."""
        ...


def erase(
    user_ids: Sequence[str], places: Places, options: ErasureOptions, progress: Progress
) -> ErasureSummary:
    """Remove shoppers, and what was recorded without an account in their visits, from all places.

    A run that was killed is completed by the same run again: visits, by which acts without an
    account are found, go before the shoppers that they are known by.

    Args:
        user_ids: the shop's own ids, at least one.
        places: where to look; all of them are looked at before anything is changed.
        options: how.
        progress: shows a bar.

    Raises:
        ConfigurationError: a place names shoppers by a key that is not given.
        DataError: a dataset is damaged, can't be written, or an export is running.
        StateError: the store can't do it.
        BundleError: there is no such registry.
    """
    wanted = tuple(dict.fromkeys(user_ids))
    store = None if places.state is None else StorePlace(places.state)
    datasets = [DatasetPlace(folder) for folder in places.datasets]
    held: list[Place] = [*([store] if store else []), *datasets]
    who = _Wanted(wanted, options.names)
    bundles = _bundles(places.registry, who)
    for place in held:
        who.look(place)
    task = progress.add_task("erase", total=2 * len(held))
    for visiting in (True, False):
        for place in held:
            names = who.visitors(place) if visiting else set(who.names(place))
            as_given = names if visiting else {*names, *wanted}
            if names and options.dry_run:
                place.count(names, as_given)
            elif names:
                place.erase(names, as_given, options.erased_at)
            progress.advance(task)
    work = places.registry / "work" if places.registry else None
    unfinished = tuple(sorted(work.iterdir())) if work and work.is_dir() else ()
    return ErasureSummary(
        shoppers=len(wanted),
        unknown=len(set(wanted) - who.known),
        dry_run=options.dry_run,
        datasets=tuple(place.summary() for place in datasets),
        state_events=store.events if store else None,
        bundles=bundles,
        unfinished=unfinished,
        next_steps=tuple(_next_steps(places, bundles, unfinished)),
    )


class StorePlace:
    """A state store as a place that holds shoppers.

    Attributes:
        events: how many were counted or erased so far.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.where = "the state store"
        self.key = store.pseudonym_key
        self.events = 0

    def found(self, names: Collection[str]) -> set[str]:
        """See `Place.found`."""
        return set(self._store.held(names).user_ids)

    def visits(self, names: Collection[str]) -> set[str]:
        """See `Place.visits`."""
        return set(self._store.held(names).session_ids)

    def count(self, names: Collection[str], _: Collection[str]) -> None:
        """See `Place.count`."""
        self.events += self._store.held(names).events

    def erase(self, names: Collection[str], _: Collection[str], erased_at: int) -> None:
        """See `Place.erase`."""
        self.events += self._store.erase(names, erased_at)


@dataclass
class _Wanted:
    """The shoppers, by the names that places have for them, and their visits."""

    user_ids: tuple[str, ...]
    by: Pseudonyms
    known: set[str] = field(default_factory=set)
    visits: dict[str | None, set[str]] = field(default_factory=dict)

    def names_under(self, key: str | None, where: object) -> dict[str, str]:
        """Ids by name."""
        names = self.by.between(None, key, where)
        return {names.user(one): one for one in self.user_ids}

    def names(self, place: Place) -> Mapping[str, str]:
        return self.names_under(place.key, place.where)

    def look(self, place: Place) -> None:
        names = self.names(place)
        self.known |= {names[name] for name in place.found(names)}
        self.visits.setdefault(place.key, set()).update(place.visits(names))

    def visitors(self, place: Place) -> set[str]:
        """Who acted without an account in their visits, as far as the place's names tell."""
        found: set[str] = set()
        for key, session_ids in self.visits.items():
            if self.by.keys.index(key) <= self.by.keys.index(place.key):
                names = self.by.between(key, place.key, place.where)
                found |= {names.session(one) for one in session_ids}
        return visitors(found)


def _bundles(root: Path | None, who: _Wanted) -> tuple[BundleHolding, ...]:
    """The bundles that hold histories of these shoppers."""
    if root is None:
        return ()
    registry = Registry(root)
    found, versions, current = [], registry.versions(), ""
    with suppress(BundleError):
        current = registry.current()
    for version in versions:
        try:
            key = registry.manifest(version).pseudonym_key
            names = who.names_under(key, f"bundle {version}")
            held = {names[one] for one in names.keys() & logged_users(registry.folder(version))}
        except BundleError as error:
            found.append(BundleHolding(version, version == current, 0, str(error)))
            continue
        who.known |= held
        if held:
            found.append(BundleHolding(version, version == current, len(held)))
    return tuple(found)


def _next_steps(
    places: Places, bundles: Sequence[BundleHolding], unfinished: Sequence[Path]
) -> list[str]:
    registry, steps = places.registry, []
    dataset = places.datasets[0] if places.datasets else "DATASET"
    if any(bundle.current for bundle in bundles):
        steps.append(
            f"publish a bundle without them: `recsys index {dataset} --registry {registry}` (or "
            "`recsys train`, which also learns its models without them)"
        )
    if bundles:
        steps.append(
            "remove the bundles that hold them, when no server reads them any more: "
            f"`recsys bundles prune --registry {registry} --keep 1`"
        )
    if unfinished:
        steps.append(
            "when no training is running, remove what killed ones left in the folder work of "
            f"{registry}"
        )
    return steps
