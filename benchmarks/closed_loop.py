"""Experiments in a running server, held against what is true of the shoppers who see them.

    python benchmarks/closed_loop.py --out FOLDER [--users 200] [--items 200] [--repetitions 100]
        [--shoppers 400] [--config FILE]

A simulated shop gets a bundle and a server, which runs three experiments for two weeks: most
popular against the full ranker, both interleaved, and the full ranker exploring. Simulated shoppers
visit it over gRPC; what the server recorded is exported and reported. Then both arms' lists for
every visit are asked of the library, and shoppers, arms and clicks are drawn a hundred times over
(`replayed_experiments.py`). Held against the truth are

- the report's interval of the lift of clicks per impression,
- the off-policy estimate of a less exploring ranker, from the exploring one's propensities,
- the lists that interleaving takes to find the better arm, beside those of whole lists.

Written to FOLDER: `closed_loop.json`, with what must hold and whether it does, and
`closed_loop.png`. The shop, the bundle and the library's lists are kept there for the next run.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from pydantic import BaseModel
from replayed_experiments import LIST_COUNTS, Repeated, Visited, repeat
from rich import print as show
from rich.progress import Progress
from rich.table import Table
from served_experiments import (
    DAYS,
    EXPLORED,
    HISTORY_DAYS,
    POOL,
    POPULAR,
    PRE_DAYS,
    SEED,
    WANTED,
    Served,
    Sizes,
    World,
    ids,
    openings,
    request,
    served,
)

from recsys.bundle import load_arrays, save_arrays
from recsys.config import load_configuration, profile
from serving.bench.machine import Machine, this_machine
from training.plot_style import BLUE, RED, style
from training.process import set_up_process

HOLDS_AT_LEAST: Final = 0.93
"""Of the repetitions; at 95 % a tenth of all runs find fewer than 92 of 100."""

SMALL: Final = Path(__file__).with_name("small_shop.toml")
EXACT: Final = 1e-3
"""Relative error that a logged propensity may have."""


class Options(BaseModel):
    """From the command line."""

    out: Path
    repetitions: int
    shoppers: int
    sizes: Sizes


class Found(BaseModel):
    """All figures of a run."""

    machine: Machine
    users: int
    items: int
    served: Served
    repeated: Repeated
    held: dict[str, bool]
    """What must hold, and whether it did."""


def visited(world: World, progress: Progress) -> Visited:
    """What both arms would show to three weeks' visitors, from what the bundle knows."""
    visitors, size = world.visitors(SEED + 1), world.shop.config.policy.list_size
    days = range(HISTORY_DAYS, HISTORY_DAYS + PRE_DAYS + DAYS)
    opened = list(openings(visitors, days))
    rows = {name: row for row, name in enumerate(world.shop.item_ids)}
    item = np.full((2, len(opened), size), -1)
    chance = np.zeros(item.shape)
    pool = np.full((len(opened), POOL), -np.inf)
    pool_click = np.zeros(pool.shape)
    task = progress.add_task("both arms' lists", total=len(opened))
    for row, opening in enumerate(opened):
        popular = world.recommender.recommend(request(visitors, opening, size), policy=POPULAR)
        full = popular
        if opening.day >= HISTORY_DAYS + PRE_DAYS:
            full = world.recommender.recommend(request(visitors, opening, POOL))
            pool[row, : len(full.items)] = [one.score for one in full.items]
            click = visitors.click_chances(opening, ids(full, POOL))
            pool_click[row, : len(click)] = click
        for arm, answer in enumerate((popular, full)):
            shown = ids(answer, size)
            item[arm, row, : len(shown)] = [rows[name] for name in shown]
            click = visitors.click_chances(opening, shown)
            chance[arm, row, : len(shown)] = click * world.looks[: len(shown)]
        progress.advance(task)
    return Visited(
        user=np.array([one.user for one in opened]),
        day=np.array([one.day for one in opened]) - HISTORY_DAYS - PRE_DAYS,
        item=item,
        chance=chance,
        pool=pool,
        pool_click=pool_click,
        looks=world.looks,
    )


def kept(world: World, path: Path, progress: Progress) -> Visited:
    """`visited`, from the file of an earlier run where there is one."""
    if not path.exists():
        save_arrays(path, vars(visited(world, progress)))
    arrays = load_arrays(path)
    user, day, item = (arrays[name].astype(np.int64) for name in ("user", "day", "item"))
    names = ("chance", "pool", "pool_click", "looks")
    chance, pool, pool_click, looks = (arrays[name].astype(np.float64) for name in names)
    return Visited(user, day, item, chance, pool, pool_click, looks)


def held(one: Served, many: Repeated) -> dict[str, bool]:
    """What must hold."""
    enough = HOLDS_AT_LEAST * many.repetitions
    mixed, whole = (
        many.lists_needed(found) for found in (many.interleaving_finds, many.whole_lists_find)
    )
    return {
        "no call failed": one.failed_calls == 0,
        "the report's interval has the truth": one.lift.holds,
        "reports hold the true lift": many.plain_holds >= enough,
        "adjusted reports hold it": many.adjusted_holds >= enough,
        "interleaving prefers the better arm": one.interleaving == "full",
        "interleaving takes fewer lists": mixed is not None and (whole is None or mixed < whole),
        "logged propensities are those of the draw": one.propensity_error < EXACT,
        "the off-policy interval has the truth": one.off_policy.holds,
        "off-policy intervals hold the truth": many.off_policy_holds >= enough,
    }


def table(found: Found) -> Table:
    """The figures for a person."""
    one, many = found.served, found.repeated
    grid = Table("", "over gRPC", f"{many.repetitions} repetitions", title="Held against the truth")
    lift = one.lift
    grid.add_row(
        "true lift of clicks per impression", f"{lift.truth:+.1%}", f"{many.true_lift:+.1%}"
    )
    grid.add_row(
        "reported lift",
        f"{lift.estimate:+.1%} [{lift.low:+.1%}, {lift.high:+.1%}]",
        f"has it {many.plain_holds} times, adjusted {many.adjusted_holds}",
    )
    other = one.off_policy
    grid.add_row(
        "true clicks a list, off-policy", f"{other.truth:.3f}", f"{many.off_policy_truth:.3f}"
    )
    grid.add_row(
        f"estimated from lists that got {one.logged:.3f}",
        f"{other.estimate:.3f} [{other.low:.3f}, {other.high:.3f}] ({one.off_policy_answer})",
        f"has it {many.off_policy_holds} times, refused {many.off_policy_refused}",
    )
    for name, times in (
        ("interleaving", many.interleaving_finds),
        ("whole lists", many.whole_lists_find),
    ):
        said = f"{one.interleaving} ({one.interleaved_lists} lists)" if "inter" in name else ""
        grid.add_row(f"{name}: lists to find it in 4 of 5", said, str(many.lists_needed(times)))
    for promise, kept_it in found.held.items():
        grid.add_row(promise, "", "yes" if kept_it else "[red]no[/]")
    return grid


def plot(found: Found, path: Path) -> None:
    """How many lists find the better arm, and the interval of the run beside the truth."""
    many, lift = found.repeated, found.served.lift
    with style():
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, times, colour in (
            ("interleaved", many.interleaving_finds, RED),
            ("whole lists", many.whole_lists_find, BLUE),
        ):
            shares = [times[lists] / many.repetitions for lists in LIST_COUNTS]
            left.semilogx(LIST_COUNTS, shares, "o-", color=colour, label=name)
        left.set_title("experiments that find the better arm")
        left.set_xlabel("lists")
        left.set_xticks(LIST_COUNTS, [f"{lists:,}" for lists in LIST_COUNTS])
        left.minorticks_off()
        left.legend(loc="lower right")
        ends = [[lift.estimate - lift.low], [lift.high - lift.estimate]]
        right.errorbar([lift.estimate], [0], xerr=ends, fmt="o", color=BLUE, label="reported")
        right.plot([lift.truth], [0], "d", color=RED, label="true")
        right.axvline(0, color="grey", linewidth=0.8)
        right.set_yticks([])
        right.xaxis.set_major_formatter(PercentFormatter(1.0))
        right.set_title("lift of clicks per impression, over gRPC")
        right.legend(loc="upper left")
        figure.savefig(path, dpi=150)


def options_given() -> Options:
    """Read the command line."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--shoppers", type=int, default=400, help="of a repetition")
    parser.add_argument("--config", type=Path, default=SMALL, help="over the profile `fast`")
    given = vars(parser.parse_args())
    chosen = load_configuration(given.pop("config"), profile("fast"))
    users, items = given.pop("users"), given.pop("items")
    return Options(**given, sizes=Sizes(users=users, items=items, configuration=chosen))


def main() -> int:
    """Run, write, print; 1 where something does not hold that must."""
    options = options_given()
    options.out.mkdir(parents=True, exist_ok=True)
    set_up_process()
    with Progress(transient=True) as progress:
        world = World(options.out, options.sizes, progress)
        lists = kept(world, options.out / "lists.safetensors", progress)
        one = served(world, options.out, progress)
    many = repeat(lists, options.repetitions, options.shoppers, (EXPLORED, WANTED))
    found = Found(
        machine=this_machine(),
        users=options.sizes.users,
        items=options.sizes.items,
        served=one,
        repeated=many,
        held=held(one, many),
    )
    document = json.dumps(found.model_dump(mode="json"), indent=1)
    (options.out / "closed_loop.json").write_text(document + "\n", encoding="utf-8")
    plot(found, options.out / "closed_loop.png")
    show(table(found))
    return 0 if all(found.held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
