"""Puts experiments in force while calls are answered, with the bundles that their arms name."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from recsys.errors import RecsysError
from serving.canary import TimeLeft
from serving.experiments import ExperimentSlot, RunningExperiments
from serving.experiments_file import ServedPlan, load_experiments
from serving.loading import LoadedBundle
from serving.logs import describe_fault, serving_log
from serving.metrics import Metrics
from serving.ranking import Ranker
from serving.swapping import ServingBundle
from serving.watch import Watch, file_mark

log = serving_log()


@dataclass(frozen=True)
class _ArmBundle:
    """A bundle that arms name: what answers calls, and what to do when it does no more."""

    ranker: Ranker
    close: Callable[[], None]
    opened: weakref.ref[Ranker]


class ExperimentChanger:
    """Loads and warms up the bundles that arms name, lets calls see the plan, frees the others.

    Each version named is held once, however many arms name it, beside the current bundle, even
    where that is the same one. Until all of them are warm the plan before goes on, and on any
    failure as if nothing had been tried; meanwhile the bundles of both are in memory.

    Args:
        load: opens a version; see `BundleLoader.load`.
        prepare: see `Server.prepared`.
        slot: where calls find the plan.
    """

    def __init__(
        self,
        load: Callable[[str, TimeLeft], LoadedBundle],
        prepare: Callable[[Ranker], Ranker],
        slot: ExperimentSlot,
    ) -> None:
        self._load = load
        self._prepare = prepare
        self._slot = slot
        self._held: dict[str, _ArmBundle] = {}
        self._drained = Event()
        self._drained.set()

    def change_to(self, plan: ServedPlan, time_left: TimeLeft = lambda: math.inf) -> None:
        """Run another plan; returns when bundles that no arm names any more are freed.

        Args:
            plan: to run.
            time_left: asked between steps; once there is none, nothing has changed.

        Raises:
            DeadlineError: the time ran out.
            RecsysError: a bundle that an arm names can't be served; the message says why.
        """
        held = self._with_those_of(plan, time_left)
        before, self._drained = self._drained, Event()
        rankers = {version: held[version].ranker for version in plan.bundles}
        self._slot.put(RunningExperiments(plan, rankers), self._drained.set)
        leaving = [
            ServingBundle(version, before, one.close, one.opened)
            for version, one in held.items()
            if version not in plan.bundles
        ]
        self._held = {version: held[version] for version in plan.bundles}
        held.clear()
        for bundle in leaving:
            bundle.free()
        arms = [f"{one.name}/{arm.name}" for one in plan.experiments for arm in one.arms]
        log.info("experiments", arms=arms, bundles=sorted(plan.bundles))

    def close(self) -> None:
        """Let go of the bundles' folders; calls under way keep what they have in memory."""
        for one in self._held.values():
            one.close()

    def _with_those_of(self, plan: ServedPlan, time_left: TimeLeft) -> dict[str, _ArmBundle]:
        """All that is held, and what the plan's arms name beside it."""
        new: dict[str, _ArmBundle] = {}
        try:
            for version in sorted(plan.bundles - self._held.keys()):
                new[version] = self._opened(version, time_left)
        except BaseException:
            for one in new.values():
                one.close()
            raise
        return self._held | new

    def _opened(self, version: str, time_left: TimeLeft) -> _ArmBundle:
        loaded = self._load(version, time_left)
        try:
            ranker = self._prepare(loaded.ranker)
        except BaseException:
            loaded.close()
            raise
        return _ArmBundle(ranker, loaded.close, weakref.ref(loaded.ranker))


class ExperimentsWatch(Watch):
    """Looks at the file every so often, and runs what it says once it was changed.

    A file that is being written is left alone: it is read when it has stayed as it is from one look
    to the next. One that can't be run is logged and counted, and not read again until it changes,
    unless it only had to wait for the state store; the plan before goes on, also while the file is
    gone.

    Args:
        path: of the file.
        changer: changes the plan.
        metrics: count.
        seconds: between two looks.
        stopping: ends it once set; a change under way is given up then.
        is_ready: whether a change can succeed; until then, none is tried.
    """

    def __init__(
        self,
        path: Path,
        changer: ExperimentChanger,
        metrics: Metrics,
        seconds: float,
        stopping: Event,
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__("experiments watch", seconds, stopping)
        self._path = path
        self._changer = changer
        self._metrics = metrics
        self._is_ready = is_ready
        self._seen = self._latest = file_mark(path)

    def _look(self) -> None:
        before, self._latest = self._latest, file_mark(self._path)
        if self._latest == before != self._seen and self._is_ready():
            self._seen = before
            self._follow()

    def _follow(self) -> None:
        if self._seen is None:
            log.error("experiments_missing")
            return
        try:
            self._changer.change_to(load_experiments(self._path), self._time_left)
        except RecsysError as error:
            log.error("experiments_refused", reason=str(error))  # noqa: TRY400
        except Exception as error:  # noqa: BLE001
            log.error("experiments_refused", error=describe_fault(error))  # noqa: TRY400
        else:
            self._metrics.experiments_loaded(well=True)
            return
        self._metrics.experiments_loaded(well=False)
