"""What arms serve: bundles, rankers, draws and drafted lists; and from a file to a report."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Final

import pytest
from shelf_ranker import SHELF, ShelfRanker
from shelf_server import NOW, Call, running, until
from test_metrics_page import measured, series, value

from recsys.errors import BundleCorruptError, ConfigurationError, DeadlineError
from recsys.experiments import draft_propensity, read_labels
from recsys.recommender import (
    AS_TRAINED,
    Deadline,
    Exploration,
    RankedBy,
    RankedList,
    RankingPolicy,
    RecommendRequest,
)
from serving.canary import TimeLeft
from serving.experiment_changes import ExperimentChanger, ExperimentsWatch
from serving.experiments import ExperimentSlot, RunningExperiments
from serving.experiments_file import ServedPlan, load_experiments
from serving.loading import LoadedBundle
from serving.metrics import Metrics

OTHER: Final = "v000009"


class BackwardShelf(ShelfRanker):
    """Another bundle: the shelf from its end."""

    version = OTHER

    def recommend(
        self, request: RecommendRequest, deadline: Deadline, policy: RankingPolicy = AS_TRAINED
    ) -> RankedList:
        answer = super().recommend(replace(request, page_size=len(SHELF)), deadline, policy)
        items = answer.items[::-1][: request.page_size]
        return RankedList(items, self.version, ("from_the_end",), candidates=6)


def plan(tmp_path: Path, text: str) -> ServedPlan:
    file = tmp_path / "experiments.toml"
    file.write_text(text, encoding="utf-8")
    return load_experiments(file)


@contextmanager
def experimenting(tmp_path: Path, text: str) -> Iterator[tuple[ShelfRanker, BackwardShelf, Call]]:
    ranker, other = ShelfRanker(), BackwardShelf()
    with running(ranker) as (server, call):
        server.experiments.put(RunningExperiments(plan(tmp_path, text), {OTHER: other}))
        yield ranker, other, call


def user_in(experiments: ServedPlan, **arms: str) -> str:
    users = (f"u{number}" for number in range(10_000))
    return next(u for u in users if arms.items() <= experiments.assign(u).arms.items())


RANKERS: Final = """
[[experiments]]
name = "ranker"
overrides = { qa = "explored" }
arms = [
  { name = "plain" },
  { name = "popular", ranker = "popularity" },
  { name = "explored", temperature = 0.5, pool = 20 },
]

[[experiments]]
name = "bundle"
arms = [{ name = "now" }, { name = "other", bundle = "v000009" }]
"""


def test_an_arm_s_bundle_ranker_and_draw_are_what_its_shoppers_get(tmp_path: Path) -> None:
    experiments = plan(tmp_path, RANKERS)
    with experimenting(tmp_path, RANKERS) as (ranker, other, call):
        call.recommend(user_id=user_in(experiments, ranker="plain", bundle="now"))
        assert ranker.policies[-1] == AS_TRAINED
        popular = user_in(experiments, ranker="popular", bundle="other")
        answer = call.recommend(user_id=popular)
        assert answer.bundle_version == OTHER
        assert answer.experiment_arm == "bundle/other,ranker/popular"
        assert [item.item_id for item in answer.items] == list(SHELF)[::-1]
        assert other.policies == [RankingPolicy(RankedBy.POPULARITY)]
        explored = user_in(experiments, ranker="explored", bundle="now")
        for user in (explored, "qa"):
            answer = call.recommend(user_id=user)
            chance = Exploration(0.5, 20, answer.attribution_token)
            used = other if answer.bundle_version == OTHER else ranker
            assert used.policies[-1] == RankingPolicy(RankedBy.FULL, chance)
        assert "ranker" not in read_labels(answer.experiment_arm)
        call.recommend()
        assert ranker.policies[-1] == AS_TRAINED


DRAFTED: Final = """
[[experiments]]
name = "mixed"
interleaved = true
overrides = { qa = "b" }
arms = [{ name = "a" }, { name = "b", bundle = "v000009" }]

[[experiments]]
name = "badges"
arms = [{ name = "without" }, { name = "with" }]
"""


def test_a_drafted_list_says_for_every_item_whose_pick_it_is(tmp_path: Path) -> None:
    first, second = list(SHELF), list(SHELF)[::-1]
    moment = NOW - timedelta(hours=1)
    begins: Counter[str] = Counter()
    with experimenting(tmp_path, DRAFTED) as (_, _, call):
        for number in range(40):
            user = f"u{number}"
            answer = call.recommend(user_id=user, page_size=4, as_of=moment)
            assert call.recommend(user_id=user, page_size=4, as_of=moment) == answer
            items = [item.item_id for item in answer.items]
            sent = [item.propensity for item in answer.items]
            assert sent == draft_propensity(first, second, items).tolist()
            assert all(chance > 0 for chance in sent)
            assert "mixed" not in read_labels(answer.experiment_arm)
            teams = [read_labels(item.experiment_arm)["mixed"] for item in answer.items]
            assert Counter(teams) == {"a": 2, "b": 2}
            for team, ranking in (("a", first), ("b", second)):
                picks = [item for item, own in zip(items, teams, strict=True) if own == team]
                assert picks == ranking[: len(picks)]
            others = {item.experiment_arm.split(",")[0] for item in answer.items}
            assert others == {answer.experiment_arm}
            assert answer.bundle_version == f"v000007,{OTHER}"
            assert set(answer.degraded) == {"stale_bundle", "from_the_end"}
            begins[teams[0]] += 1
        assert min(begins.values()) > 8
        forced = call.recommend(user_id="qa")
        assert forced.bundle_version == OTHER
        assert {item.experiment_arm for item in forced.items} == {""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RANKERS.replace('bundle = "v000009"', 'ranker = "full"'), "both decide on ranker"),
        (RANKERS.replace("temperature = 0.5, ", ""), "give both or neither"),
        (RANKERS.replace("v000009", "latest"), "experiments.1.arms.1.bundle"),
        (RANKERS.replace("popularity", "popular"), "experiments.0.arms.1.ranker"),
        (RANKERS.replace("0.5", "0.0"), "experiments.0.arms.2.temperature"),
        (RANKERS.replace('"bundle"', '"bundle"\ninterleaved = true'), "both decide on pool, temp"),
        (RANKERS.replace('"ranker"', '"ranker"\ninterleaved = true', 1), "takes two arms, found 3"),
        (DRAFTED.replace('name = "a"', 'name = "a", temperature = 1'), "rankings without chance"),
    ],
)
def test_arms_that_cannot_be_served_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plan(tmp_path, text)


def test_experiments_of_one_layer_may_decide_on_the_same(tmp_path: Path) -> None:
    text = RANKERS.replace('bundle = "v000009"', 'ranker = "full"')
    text = text.replace('name = "ranker"', 'name = "ranker"\nlayer = "l"\nend = 0.5')
    text = text.replace('name = "bundle"', 'name = "bundle"\nlayer = "l"\nstart = 0.5')
    experiments = plan(tmp_path, text)
    assert len(experiments.experiments) == 2


@dataclass
class Shelves:
    """Opens bundles of a shelf; a version that `is_damaged` can't be."""

    is_damaged: str = ""

    def __post_init__(self) -> None:
        self.alive: dict[str, weakref.ref[ShelfRanker]] = {}
        self.closed: list[str] = []
        self.opened: list[str] = []

    def load(self, version: str, time_left: TimeLeft) -> LoadedBundle:
        if time_left() <= 0:
            raise DeadlineError("no time")
        if version == self.is_damaged:
            raise BundleCorruptError(f"{version}: golden.jsonl is damaged")
        ranker = ShelfRanker()
        self.opened.append(version)
        self.alive[version] = weakref.ref(ranker)
        return LoadedBundle(ranker, lambda: self.closed.append(version))

    def is_freed(self, version: str) -> bool:
        return version in self.closed and self.alive[version]() is None


def naming(*versions: str) -> str:
    arms = ", ".join(f'{{ name = "{v}", bundle = "{v}" }}' for v in versions)
    return f'[[experiments]]\nname = "bundles"\narms = [{{ name = "now" }}, {arms}]\n'


def test_bundles_of_arms_are_held_once_and_freed_after_their_last_call(tmp_path: Path) -> None:
    shelves, slot = Shelves(), ExperimentSlot()
    slot.put(RunningExperiments())
    changer = ExperimentChanger(shelves.load, lambda ranker: ranker, slot)
    changer.change_to(plan(tmp_path, naming("v000001", "v000002")))
    changer.change_to(plan(tmp_path, naming("v000002", "v000003")))
    assert shelves.opened == ["v000001", "v000002", "v000003"]
    assert shelves.is_freed("v000001")
    with slot.take() as running_:
        assert set(running_.rankers) == {"v000002", "v000003"}
    del running_
    changer.change_to(ServedPlan())
    assert shelves.is_freed("v000002")
    assert shelves.is_freed("v000003")
    changer.close()
    assert len(shelves.closed) == 3


def test_a_bundle_s_folder_is_held_until_the_last_call_has_ended(tmp_path: Path) -> None:
    shelves, slot = Shelves(), ExperimentSlot()
    slot.put(RunningExperiments())
    changer = ExperimentChanger(shelves.load, lambda ranker: ranker, slot)
    changer.change_to(plan(tmp_path, naming("v000001")))
    with ThreadPoolExecutor(1) as pool:
        with slot.take():
            change = pool.submit(changer.change_to, ServedPlan())
            until(lambda: slot.current is not None and not slot.current.rankers)
            assert shelves.closed == []
        change.result(timeout=10)
    assert shelves.closed == ["v000001"]


def test_a_plan_with_a_damaged_bundle_changes_nothing(tmp_path: Path) -> None:
    shelves, slot = Shelves(is_damaged="v000003"), ExperimentSlot()
    slot.put(RunningExperiments())
    changer = ExperimentChanger(shelves.load, lambda ranker: ranker, slot)
    changer.change_to(plan(tmp_path, naming("v000001")))
    before = slot.current
    with pytest.raises(BundleCorruptError, match=r"golden\.jsonl"):
        changer.change_to(plan(tmp_path, naming("v000002", "v000003")))
    assert slot.current is before
    assert shelves.closed == ["v000002"]
    with pytest.raises(DeadlineError):
        changer.change_to(plan(tmp_path, naming("v000004")), lambda: 0.0)
    changer.close()
    assert shelves.closed == ["v000002", "v000001"]


def test_the_file_is_followed_and_one_that_cannot_run_leaves_things_as_they_are(
    tmp_path: Path,
) -> None:
    shelves, slot, metrics, stopping = Shelves(), ExperimentSlot(), Metrics(), Event()
    slot.put(RunningExperiments())
    changer = ExperimentChanger(shelves.load, lambda ranker: ranker, slot)
    file = tmp_path / "experiments.toml"
    file.write_text(naming("v000001"), encoding="utf-8")
    watch = ExperimentsWatch(file, changer, metrics, 0.02, stopping)
    changer.change_to(load_experiments(file))
    watch.start()

    def versions() -> set[str]:
        return set(slot.current.rankers) if slot.current else set()

    def loads(outcome: str) -> float:
        name = "recsys_experiment_loads_total"
        return metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0

    file.write_text(naming("v000002"), encoding="utf-8")
    until(lambda: versions() == {"v000002"})
    for failures, text in enumerate(("[[experiments", "experiments = 3", naming("bad")), start=1):
        file.write_text(text, encoding="utf-8")
        until(lambda failures=failures: loads("failed") == failures)  # type: ignore[misc]
    file.unlink()
    file.with_suffix(".new").write_text(naming("v000003"), encoding="utf-8")
    assert versions() == {"v000002"}
    file.with_suffix(".new").rename(file)
    until(lambda: versions() == {"v000003"})
    until(lambda: shelves.is_freed("v000002"))
    until(lambda: (loads("ok"), loads("failed")) == (2, 3))
    stopping.set()
    watch.join()


def test_answers_of_arms_are_timed_by_arm(tmp_path: Path) -> None:
    experiments = plan(tmp_path, DRAFTED)
    with running(ShelfRanker()) as (server, call), measured(server) as address:
        server.experiments.put(RunningExperiments(experiments, {OTHER: BackwardShelf()}))
        call.recommend(user_id="u1")
        found = series(address)
        assert value(found, "bundle", version=OTHER) == 1
        assert value(found, "bundle", version="v000007") == 1
    arm = experiments.assign("u1").arms["badges"]
    assert value(found, "arm_seconds_count", experiment="badges", arm=arm) == 1
    assert value(found, "arm_seconds_count", experiment="mixed", arm="interleaved") == 1
