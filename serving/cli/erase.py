"""`recsys erase`."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recsys.errors import ConfigurationError
from serving.cli.output import NOTES, RESULTS, JsonOption, new_app, print_json
from serving.cli.serve import STATE

if TYPE_CHECKING:
    from training.erase import ErasureSummary

app = new_app()


@app.command()
def erase(  # noqa: PLR0913
    user: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A shopper's own id; may be repeated.")
    ] = None,
    users: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Text file of ids, one a line.")
    ] = None,
    dataset: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="A dataset; may be repeated.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(metavar="FILE|URL", help="State store. [default: REGISTRY/state.sqlite]"),
    ] = None,
    registry: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Registry, to be looked through.")
    ] = None,
    pseudonym_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Key, where pseudonyms are kept.")
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count; change nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove shoppers from datasets and the state store; say which bundles still hold them.

    Servers and their store may run meanwhile, exports may not. Killed, it is to be run again.

    Example: recsys erase --user U00042 --dataset shop --registry registry
    """
    from rich.progress import Progress  # noqa: PLC0415

    from recsys.interactions import microseconds  # noqa: PLC0415
    from recsys.pseudonyms import Pseudonyms  # noqa: PLC0415
    from serving.state_stores import store_to_read  # noqa: PLC0415
    from training.erase import ErasureOptions, Places  # noqa: PLC0415
    from training.erase import erase as run  # noqa: PLC0415

    wanted = [*(user or []), *(_listed(users) if users else [])]
    if not wanted or any(not one.strip() for one in wanted):
        raise typer.BadParameter("name at least one shopper, with --user ID or --users FILE")
    if not (dataset or state or registry):
        raise typer.BadParameter("name the places: --dataset, --state, --registry")
    names = Pseudonyms() if pseudonym_key is None else Pseudonyms.read(pseudonym_key)
    named = state or _usual_store(registry)
    options = ErasureOptions(names, microseconds(datetime.now(UTC)), dry_run)
    with ExitStack() as opened:
        store = opened.enter_context(closing(store_to_read(named))) if named else None
        progress = opened.enter_context(Progress(console=NOTES))
        summary = run(wanted, Places(tuple(dataset or ()), store, registry), options, progress)
    if as_json:
        print_json({**asdict(summary), "state": named})
    else:
        _show(summary, named)


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"can't read shoppers' ids from {path}: {error}") from error
    return [line for line in lines if line]


def _usual_store(registry: Path | None) -> str | None:
    return str(registry / STATE) if registry and (registry / STATE).is_file() else None


def _show(summary: ErasureSummary, state: str | None) -> None:
    did = "would erase" if summary.dry_run else "erased"
    for one in summary.datasets:
        RESULTS.print(
            f"{one.folder}: {did} {one.events:,} events, {one.users:,} rows of users, "
            f"{one.rejected:,} rejected rows",
            highlight=False,
            soft_wrap=True,
        )
        for path in one.not_searched:
            RESULTS.print(f"not looked at: {path}", highlight=False, soft_wrap=True)
    if summary.state_events is not None:
        RESULTS.print(
            f"{state}: {did} {summary.state_events:,} events", highlight=False, soft_wrap=True
        )
    for bundle in summary.bundles:
        current = " (current)" if bundle.current else ""
        what = bundle.unreadable or f"holds histories of {bundle.shoppers:,} of them"
        RESULTS.print(f"bundle {bundle.version}{current}: {what}", highlight=False, soft_wrap=True)
    if summary.unknown:
        RESULTS.print(
            f"nothing was found of {summary.unknown:,} of {summary.shoppers:,} shoppers",
            highlight=False,
            soft_wrap=True,
        )
    for number, step in enumerate(summary.next_steps, start=1):
        RESULTS.print(f"{number}. {step}", highlight=False, markup=False, soft_wrap=True)
