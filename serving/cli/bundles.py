"""`recsys bundles`: what a registry holds, and which bundle is served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import JsonValue
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from recsys.errors import BundleError
from serving.cli.output import NOTES, RESULTS, JsonOption, new_app, print_json

if TYPE_CHECKING:
    from recsys.bundle import Manifest, Registry

app = new_app()
HEADLINE_METRICS = 3

RegistryOption = Annotated[
    Path, typer.Option("--registry", help="The folder that `recsys train` publishes into.")
]
SigningKeyOption = Annotated[
    Path | None,
    typer.Option("--signing-key", metavar="FILE", help="Ed25519 key (PEM) that signs the choice."),
]


@dataclass(frozen=True)
class _Row:
    version: str
    current: bool
    manifest: Manifest | None
    damage: str = ""


@app.callback()
def bundles() -> None:
    """List, show, choose, sign and remove published bundles."""


@app.command("list")
def list_bundles(registry: RegistryOption, *, json: JsonOption = False) -> None:
    """List the published bundles, oldest first; files are not verified.

    Example: recsys bundles list --registry shop/registry
    """
    store = _open(registry)
    current = _current(store)
    rows = list(_rows(store, current))
    if json:
        shown = [_row_json(row) for row in rows]
        print_json({"registry": registry, "current": current, "bundles": shown})
        return
    RESULTS.print(_overview(rows))
    if not rows:
        NOTES.print(f"{escape(str(registry))} holds no bundle yet; `recsys train` publishes one.")


@app.command()
def show(
    registry: RegistryOption,
    version: Annotated[str | None, typer.Argument(help="Default: the one that is served.")] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Verify every file of a bundle and show its manifest.

    Example: recsys bundles show v000002 --registry shop/registry
    """
    store = _open(registry)
    manifest = store.verify(version or store.current())
    if json:
        print_json(manifest.model_dump(mode="json"))
        return
    for table in _details(manifest):
        RESULTS.print(table)


@app.command()
def activate(
    registry: RegistryOption,
    version: Annotated[str, typer.Argument(help="A version that `list` names.")],
    signing_key: SigningKeyOption = None,
    *,
    json: JsonOption = False,
) -> None:
    """Verify a bundle and make it the one that is served.

    Servers that were started with a public key go back to an older bundle only by signed order.

    Example: recsys bundles activate v000001 --registry shop/registry
    """
    _open(registry, signing_key).activate(version)
    _report(version, json=json)


@app.command()
def rollback(
    registry: RegistryOption, signing_key: SigningKeyOption = None, *, json: JsonOption = False
) -> None:
    """Verify the bundle before the current one and make it the one that is served.

    Example: recsys bundles rollback --registry shop/registry
    """
    _report(_open(registry, signing_key).rollback(), json=json)


@app.command()
def sign(
    registry: RegistryOption,
    signing_key: Annotated[Path, typer.Option("--signing-key", metavar="FILE", help="PEM file.")],
    version: Annotated[str | None, typer.Argument(help="Default: the one that is served.")] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Verify a bundle and sign its manifest, for servers that were started with a public key.

    Example: recsys bundles sign v000002 --registry shop/registry --signing-key signing.pem
    """
    chosen = version or _open(registry).current()
    _open(registry, signing_key).sign(chosen)
    if json:
        print_json({"signed": chosen})
    else:
        RESULTS.print(f"[bold]{chosen}[/bold] is signed.")


@app.command()
def prune(
    registry: RegistryOption,
    keep: Annotated[int, typer.Option(min=1, help="Newest bundles that stay.")],
    *,
    json: JsonOption = False,
) -> None:
    """Remove old bundles; the current one stays, and so does what a running server has open.

    Example: recsys bundles prune --registry shop/registry --keep 3
    """
    pruned = _open(registry).prune(keep)
    if json:
        print_json({"removed": pruned.removed, "in_use": pruned.in_use})
        return
    RESULTS.print(f"removed: {', '.join(pruned.removed) or 'none'}")
    if pruned.in_use:
        NOTES.print(f"kept, since a server has it open: {', '.join(pruned.in_use)}")


def _report(version: str, *, json: bool) -> None:
    if json:
        print_json({"current": version})
    else:
        RESULTS.print(f"[bold]{version}[/bold] is current: running servers change to it.")


def _open(registry: Path, signing_key: Path | None = None) -> Registry:
    from recsys.bundle import Registry, SigningKey  # noqa: PLC0415

    key = None if signing_key is None else SigningKey.read(signing_key)
    return Registry(registry, signing_key=key)


def _current(store: Registry) -> str | None:
    try:
        return store.current()
    except BundleError as error:
        if store.versions():
            NOTES.print(f"[yellow]warning:[/yellow] {escape(str(error))}")
        return None


def _rows(store: Registry, current: str | None) -> Iterator[_Row]:
    for version in store.versions():
        try:
            yield _Row(version, version == current, store.manifest(version))
        except BundleError as error:
            yield _Row(version, version == current, None, str(error))


def _row_json(row: _Row) -> dict[str, JsonValue]:
    start: dict[str, JsonValue] = {"version": row.version, "current": row.current}
    if row.manifest is None:
        return start | {"damaged": row.damage}
    fields = row.manifest.model_dump(mode="json", include={"horizon", "parent", "metrics"})
    return start | fields | {"files": len(row.manifest.files), "size_bytes": row.manifest.size}


def _overview(rows: list[_Row]) -> Table:
    table = Table(title="Bundles", title_justify="left")
    table.add_column("version", no_wrap=True)
    table.add_column("knows events before", no_wrap=True)
    table.add_column("files", justify="right")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("offline metrics")
    for row in rows:
        name = f"{row.version} [green]● current[/green]" if row.current else row.version
        table.add_row(name, *_cells(row))
    return table


def _cells(row: _Row) -> tuple[str, str, str, str]:
    if row.manifest is None:
        return "", "", "", f"[red]{escape(row.damage)}[/red]"
    manifest = row.manifest
    horizon = f"{manifest.horizon:%Y-%m-%d %H:%M} UTC"
    return horizon, str(len(manifest.files)), decimal(manifest.size), _headline(manifest.metrics)


def _details(manifest: Manifest) -> Iterator[Table]:
    plain = manifest.model_dump(mode="json", exclude={"version", "files", "metrics"})
    yield _pairs(f"Bundle {manifest.version}: every file matches its sum", plain)
    files = Table("file", "SHA-256", title="Files", title_justify="left")
    files.add_column("size", justify="right")
    for name, entry in manifest.files.items():
        files.add_row(name, f"{entry.sha256[:16]}…", decimal(entry.size))
    yield files
    if manifest.metrics:
        yield _pairs("Offline metrics", manifest.metrics)


def _pairs(title: str, values: Mapping[str, JsonValue]) -> Table:
    table = Table("what", title=title, title_justify="left")
    table.add_column("value", overflow="fold")
    for name, value in _leaves(values):
        table.add_row(escape(name), escape(_text(value)))
    return table


def _leaves(values: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, JsonValue]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _headline(metrics: Mapping[str, JsonValue]) -> str:
    """The numbers at the top level, the nested ones where there is none there."""
    numbers = [pair for pair in metrics.items() if _is_number(pair[1])] or [
        pair for pair in _leaves(metrics) if _is_number(pair[1])
    ]
    return ", ".join(f"{escape(name)} {_text(value)}" for name, value in numbers[:HEADLINE_METRICS])


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: JsonValue) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)
