"""`recsys train` killed at random moments and around every write that counts, and run again.

    python benchmarks/training_kills.py DATASET --out FOLDER [--kills 20] [--seed 0]
        [--until TIME] [--profile fast] [--config FILE]

Trains once to the end, then into other registries, killing the process group with SIGKILL:

- at `--kills` moments, drawn uniformly from the time that the uninterrupted run took;
- at each file of a checkpoint of the cross-encoder's fine-tuning, as soon as the file is there;
- just before and just after each commit, the renames by which a finished stage, the bundle and the
  pointers to it become visible;
- before some of the calls that remove the work after publishing.

The last two need `strace` and are left out without it. After every kill a reader of the registry
has to find no bundle or a whole one; the run after it has to end with the same bytes as the
uninterrupted run and leave nothing of the work. Gates are open: a few shoppers can't tell.

Without `--config` the recipe is a small one with one thread. Over the dataset of `recsys simulate
--out DATASET --users 60 --items 400 --days 42` a training then takes half a minute, and the whole
drill about 25 minutes.

Written to FOLDER: `training_kills.json`, with what must hold and whether it does, and a plot.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from operator import le
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from pydantic import BaseModel

from recsys.bundle import Registry
from recsys.errors import BundleError
from serving.bench.machine import Machine, this_machine
from training.pipeline import CHECKPOINTS
from training.plot_style import INK, style
from training.workspace import REMOVED

Seen = Callable[[float], bool]
"""From the seconds since the start: whether it is time to kill."""

POLL_SECONDS: Final = 0.003
KILLED: Final = -signal.SIGKILL
HUNG: Final[Seen] = partial(le, 3_600.0)
HELD_AT_ITS_END: Final = "delay_exit=300000000:when=1"
"""What strace does to the first call, for the process to be killed just after it."""

FILES: Final = ("trainer_state*", "rng*", "scheduler*", "optimizer*", "*.bin", "model*", ".tmp*")
"""Of a checkpoint, from the last to the first; that of the weights has another name at first."""

SMALL: Final = """\
threads = 1
seed = 1
text = {item_max_tokens = 12, shopper_max_segments = 4}
windows = {ranker_windows = 2}
ranker = {rounds = 20, max_shoppers_per_window = 60}
bi_encoder = {max_pairs = 384, batch_size = 64, evaluation_steps = 2, \
max_evaluation_requests = 60, learning_rate = 1e-3}
cross_encoder = {max_groups = 120, max_evaluation_groups = 20, max_test_groups = 20, \
groups_per_batch = 8, candidates = 20, evaluation_steps = 3, dropout = 0.1, \
learning_rate = 1e-4, head_learning_rate = 1e-3}
"""


class Kill(BaseModel):
    """A run that was killed, and the current bundle and finished stages that it left."""

    moment: str
    seconds: float
    finished: list[str]
    served: str | None
    fault: str
    """Of what was visible; empty where all was whole."""


class Killed(BaseModel):
    """Runs into one registry: killed ones; exit code, time and last line of the one after them."""

    kills: list[Kill]
    code: int
    seconds: float
    said: str
    differing: list[str]
    """Files of the bundle with other bytes than the uninterrupted run's, or missing ones."""

    left: list[str]
    """What should have been removed."""


class TrainingKills(BaseModel):
    """All figures of a run."""

    machine: Machine
    uninterrupted_seconds: float
    stages: dict[str, float]
    """Seconds at which the uninterrupted run had finished each."""

    sums: dict[str, str]
    """SHA-256 of the files of its bundle; empty for those of its report."""

    killed: dict[str, list[Killed]]
    """By what was killed at; an entry for each registry."""

    held: dict[str, bool]
    """What must hold, and whether it did."""


class Options(BaseModel):
    """Of the command line."""

    dataset: Path
    out: Path
    kills: int
    seed: int
    profile: str
    config: Path | None
    until: datetime | None

    def command(self, folder: Path) -> list[str]:
        """`recsys train` without a registry; the small recipe is written to the folder."""
        config = self.config or folder / "small.toml"
        if self.config is None:
            config.write_text(SMALL, encoding="utf-8")
        until = [] if self.until is None else ["--until", self.until.isoformat()]
        command = [sys.executable, "-m", "serving.cli.main", "train", str(self.dataset), *until]
        return [*command, "--profile", self.profile, "--config", str(config), "--allow-worse"]


def finished_stages(registry: Path) -> list[str]:
    """Names of the stages that the next run would not make again."""
    names = [path.name for path in registry.glob("work/[!.]*/*")]
    return sorted(name for name in names if name != CHECKPOINTS and not name.startswith("."))


def is_written(registry: Path, file: str, since: float, _: float) -> bool:
    """Whether a file of a checkpoint was written since a time."""
    with suppress(FileNotFoundError):
        paths = registry.glob(f"work/*/{CHECKPOINTS}/checkpoint-*/{file}")
        return any(path.stat().st_mtime >= since for path in paths)
    return False


def visible(registry: Path) -> tuple[str | None, str]:
    """The current bundle, and what is wrong with what a reader sees; empty for nothing."""
    bundles = Registry(registry)
    try:
        for version in bundles.versions() if registry.is_dir() else []:
            bundles.verify(version)
        return (bundles.current() if bundles.pointer.exists() else None), ""
    except BundleError as error:
        return None, str(error)


def sums_of(registry: Path) -> dict[str, str]:
    """Sums of all files of the current bundle, its manifest's own too; and names of its report."""
    bundles = Registry(registry)
    try:
        manifest = bundles.verify(bundles.current())
    except BundleError:
        return {}
    sums = {name: entry.sha256 for name, entry in manifest.files.items()}
    sums["MANIFEST.json"] = hashlib.sha256(manifest.to_bytes()).hexdigest()
    return sums | {f"report {path.name}": "" for path in registry.glob("reports/*/*")}


def leftovers(registry: Path) -> list[str]:
    """What a run that ended well has removed, and bundles but the first."""
    found = [*registry.glob("work/*"), *registry.rglob("*.tmp*")]
    found += sorted(registry.glob("bundles/v*"))[1:]
    return sorted({str(path.relative_to(registry)) for path in found})


class Drill:
    """Kills trainings, and compares what comes after with the uninterrupted one.

    Args:
        options: of the command line.
        folder: for the registry, of which there is one at a time, and logs.
    """

    def __init__(self, options: Options, folder: Path) -> None:
        self._options = options
        self._registry, self._published = folder / "registry", folder / "published"
        self._log, self._trace = folder / "train.log", folder / "strace.log"
        self._command = [*options.command(folder), "--registry", str(self._registry)]
        self._stages: dict[str, float] = {}
        self._sums: dict[str, str] = {}

    def run(self) -> TrainingKills:
        """All figures."""
        code, seconds = self._train(self._watch)
        if code != 0:
            raise SystemExit(f"the uninterrupted training failed: {self._log.read_text()}")
        self._sums = sums_of(self._registry)
        print(f"uninterrupted: {seconds:.1f} s", file=sys.stderr, flush=True)
        killed = {"at random": list(self._at_random(seconds)), "at files": [self._at_files()]}
        if shutil.which("strace") is not None:
            killed["at commits"] = [self._at_commits()]
            killed["at removals"] = list(self._at_removals())
        return TrainingKills(
            machine=this_machine(),
            uninterrupted_seconds=seconds,
            stages=self._stages,
            sums=self._sums,
            killed=killed,
            held=held(killed, [*self._stages, "v000001", "CURRENT"]),
        )

    def _at_random(self, seconds: float) -> Iterator[Killed]:
        """A registry for each kill; a moment that comes after a faster run's end is redrawn."""
        rng, count = np.random.default_rng(self._options.seed), 0
        while count < self._options.kills:
            self._start_over()
            run = self._train(partial(le, moment := rng.uniform(0.0, seconds)))
            if run[0] == KILLED:
                count += 1
                yield self._ended([self._kill(run, f"after {moment:.2f} s")])

    def _at_files(self) -> Killed:
        """One registry: at the last file of a checkpoint, then at one before it in the next."""
        self._start_over()
        kills: list[Kill] = []
        for name in FILES:
            run = self._train(partial(is_written, self._registry, name, time.time()))
            if run[0] != KILLED:
                return self._ended(kills, run)
            kills.append(self._kill(run, f"at {name}"))
        return self._ended(kills)

    def _at_commits(self) -> Killed:
        """One registry: just before the next commit, then just after it, until the work is gone."""
        self._start_over()
        kills: list[Kill] = []
        while not kills or REMOVED not in kills[-1].moment:
            for when, harm in (("before", "signal=KILL:when=1"), ("after", HELD_AT_ITS_END)):
                run = self._traced("rename", harm, lambda _: bool(self._calls("rename")))
                if run[0] != KILLED:
                    return self._ended(kills, run)
                target = Path(self._calls("rename")[-1].split('"')[3])
                kills.append(self._kill(run, f"{when} {target.name}"))
            if kills[-1].served and not self._published.exists():
                shutil.copytree(self._registry, self._published)
        return self._ended(kills)

    def _at_removals(self) -> Iterator[Killed]:
        """A registry for each of some calls that remove the work, just after publishing."""
        self._start_over(self._published)
        self._traced("unlinkat")
        calls = enumerate(self._calls("unlinkat"), start=1)
        ours = [at for at, line in calls if str(self._registry / "work") in line]
        for place in np.linspace(0, len(ours) - 1, 4).astype(int) if ours else ():
            self._start_over(self._published)
            run = self._traced("unlinkat", f"signal=KILL:when={ours[place]}")
            name = f"before call {place + 1} of {len(ours)} that remove the work"
            yield self._ended([self._kill(run, name)])

    def _start_over(self, like: Path | None = None) -> None:
        """With no registry, or a copy."""
        shutil.rmtree(self._registry, ignore_errors=True)
        if like is not None:
            shutil.copytree(like, self._registry)

    def _train(self, seen: Seen = HUNG, prefix: Sequence[str] = ()) -> tuple[int, float]:
        """Exit code or minus the signal, and seconds, of a run that is killed when `seen` says."""
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        command, seconds, started = [*prefix, *self._command], 0.0, time.perf_counter()
        with (
            self._log.open("w") as log,
            Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True) as run,
        ):
            try:
                while run.poll() is None and not seen(seconds):
                    time.sleep(POLL_SECONDS)
                    seconds = time.perf_counter() - started
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(run.pid, signal.SIGKILL)
        return run.returncode, seconds

    def _traced(self, call: str, harm: str = "", seen: Seen = HUNG) -> tuple[int, float]:
        """The same, with harm to a system call of the main thread, which makes all that count."""
        chosen = ["-y", "-e", f"trace={call}", *(["-e", f"inject={call}:{harm}"] if harm else [])]
        self._trace.write_text("")
        return self._train(seen, ["strace", "-o", str(self._trace), *chosen])

    def _calls(self, name: str) -> list[str]:
        """Those of the last traced run so far, whole lines only."""
        return re.findall(rf"^{name}\(.*\n", self._trace.read_text(errors="replace"), re.MULTILINE)

    def _watch(self, seconds: float) -> bool:
        """Note when stages are finished."""
        with suppress(FileNotFoundError):
            for name in finished_stages(self._registry):
                self._stages.setdefault(name, seconds)
        return False

    def _kill(self, run: tuple[int, float], moment: str) -> Kill:
        """What a reader finds after a kill."""
        served, fault = visible(self._registry)
        stages = finished_stages(self._registry)
        found = Kill(moment=moment, seconds=run[1], finished=stages, served=served, fault=fault)
        print(f"killed: {found.model_dump_json()}", file=sys.stderr, flush=True)
        return found

    def _ended(self, kills: list[Kill], last: tuple[int, float] | None = None) -> Killed:
        """With what the last run made of it, which is started now where it has not been yet."""
        code, seconds = last or self._train()
        ours, theirs = self._sums, sums_of(self._registry)
        found = Killed(
            kills=kills,
            code=code,
            seconds=seconds,
            said=self._log.read_text().strip().rpartition("\n")[2],
            differing=sorted(n for n in ours | theirs if ours.get(n) != theirs.get(n)),
            left=leftovers(self._registry),
        )
        print(f"and again: {found.model_dump_json(exclude={'kills'})}", file=sys.stderr, flush=True)
        return found


def held(killed: dict[str, list[Killed]], commits: list[str]) -> dict[str, bool]:
    """What must hold."""
    every = [one for some in killed.values() for one in some]
    moments = {name: [kill.moment for one in killed[name] for kill in one.kills] for name in killed}
    holds = {
        "killed at each file of a checkpoint": len(moments["at files"]) == len(FILES),
        "nothing partial visible": not any(kill.fault for one in every for kill in one.kills),
        "the run after it ends": all(one.code == 0 for one in every),
        "the same bytes as without a kill": not any(one.differing for one in every),
        "nothing left of the work": not any(one.left for one in every),
    }
    if "at commits" in killed:
        expected = [f"{when} {name}" for name in commits for when in ("before", "after")]
        holds["killed before and after each commit"] = {*expected} <= {*moments["at commits"]}
        holds["killed while the work was removed"] = bool(moments["at removals"])
    return holds


def plot(found: TrainingKills, path: Path) -> None:
    """Seconds of the run after each random kill, against when that was."""
    with style():
        figure = Figure(figsize=(7, 3.8), layout="constrained")
        axes = figure.subplots()
        killed = found.killed["at random"]
        axes.scatter([one.kills[0].seconds for one in killed], [one.seconds for one in killed])
        axes.axhline(found.uninterrupted_seconds, color=INK, linewidth=0.8)
        for name, seconds in found.stages.items():
            axes.axvline(seconds, color=INK, linewidth=0.6, linestyle=":")
            axes.text(seconds, 0, f" {name}", rotation=90, fontsize=7, ha="right", va="bottom")
        axes.set(xlim=(0, found.uninterrupted_seconds), ylim=(0, None), ylabel="next run's seconds")
        axes.set_xlabel("seconds until the kill; dotted: a stage is finished")
        axes.set_title(f"Killed {len(killed)} times, and run again")
        figure.savefig(path, dpi=150)


def options_given() -> Options:
    """Read the command line."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20, help="at random moments")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--profile", choices=("fast", "full"), default="fast")
    parser.add_argument("--config", type=Path, help="instead of the small recipe")
    parser.add_argument("--until", help="hide events from this time on")
    return Options.model_validate(vars(parser.parse_args()))


def main() -> int:
    """Kill, write, print; 1 where something does not hold that must."""
    options = options_given()
    options.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=options.out.resolve()) as name:
        found = Drill(options, Path(name)).run()
    text = found.model_dump_json(indent=2)
    (options.out / "training_kills.json").write_text(text + "\n", encoding="utf-8")
    plot(found, options.out / "training_kills.png")
    print(found.model_dump_json(indent=2, exclude={"machine", "sums"}))
    return 0 if all(found.held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
