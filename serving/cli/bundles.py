"""`recsys bundles`: what a registry holds, and which bundle is served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer
from pydantic import JsonValue
from rich.markup import escape
from rich.table import Table

from recsys.bundle import Manifest, Registry
from recsys.errors import BundleError
from serving.cli.output import NOTES, RESULTS, JsonOption, new_app, print_json

app = new_app()
HEADLINE_METRICS = 3

RegistryOption = Annotated[
    Path, typer.Option("--registry", help="The folder that `recsys train` publishes into.")
]


@app.callback()
def bundles() -> None:
    """List, show and choose published bundles."""


@app.command("list")
def list_bundles(registry: RegistryOption, *, json: JsonOption = False) -> None:
    """List the published bundles, oldest first; files are not verified.

    Example: recsys bundles list --registry shop/registry
    """
    store = Registry(registry)
    current = _current(store)
    rows = [_summary(store, version, current) for version in store.versions()]
    if json:
        print_json({"registry": registry, "current": current, "bundles": rows})
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
    store = Registry(registry)
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
    *,
    json: JsonOption = False,
) -> None:
    """Verify a bundle and make it the one that is served.

    Example: recsys bundles activate v000001 --registry shop/registry
    """
    Registry(registry).activate(version)
    _report(version, json=json)


@app.command()
def rollback(registry: RegistryOption, *, json: JsonOption = False) -> None:
    """Verify the bundle before the current one and make it the one that is served.

    Example: recsys bundles rollback --registry shop/registry
    """
    _report(Registry(registry).rollback(), json=json)


def _report(version: str, *, json: bool) -> None:
    if json:
        print_json({"current": version})
    else:
        RESULTS.print(f"[bold]{version}[/bold] is current: a server that starts now serves it.")


def _current(store: Registry) -> str | None:
    try:
        return store.current()
    except BundleError as error:
        if store.versions():
            NOTES.print(f"[yellow]warning:[/yellow] {escape(str(error))}")
        return None


def _summary(store: Registry, version: str, current: str | None) -> dict[str, JsonValue]:
    row: dict[str, JsonValue] = {"version": version, "current": version == current}
    try:
        manifest = store.manifest(version)
    except BundleError as error:
        return row | {"damaged": str(error)}
    fields = manifest.model_dump(mode="json", include={"horizon", "parent", "metrics"})
    return row | fields | {"files": len(manifest.files), "size_bytes": manifest.size}


def _overview(rows: list[dict[str, JsonValue]]) -> Table:
    table = Table("version", "horizon", title="Bundles", title_justify="left")
    table.add_column("files", justify="right")
    table.add_column("size", justify="right")
    table.add_column("offline metrics")
    for row in rows:
        mark = "[green]● current[/green]" if row["current"] else ""
        name = f"{row['version']} {mark}".rstrip()
        if "damaged" in row:
            table.add_row(name, "", "", "", f"[red]{escape(str(row['damaged']))}[/red]")
        else:
            size, metrics = _size(row["size_bytes"]), _headline(row["metrics"])
            table.add_row(name, _day(row["horizon"]), str(row["files"]), size, metrics)
    return table


def _details(manifest: Manifest) -> Iterator[Table]:
    plain = manifest.model_dump(mode="json", exclude={"files", "metrics"})
    yield _pairs(f"Bundle {manifest.version}: every file matches its sum", plain)
    files = Table("file", "SHA-256", title="Files", title_justify="left")
    files.add_column("size", justify="right")
    for name, entry in manifest.files.items():
        files.add_row(name, f"{entry.sha256[:16]}…", _size(entry.size))
    yield files
    if manifest.metrics:
        yield _pairs("Offline metrics", manifest.metrics)


def _pairs(title: str, values: Mapping[str, JsonValue]) -> Table:
    table = Table("what", "value", title=title, title_justify="left")
    for name, value in _leaves(values):
        table.add_row(escape(name), escape(_text(value)))
    return table


def _leaves(values: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, JsonValue]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _headline(metrics: JsonValue) -> str:
    pairs = _leaves(metrics) if isinstance(metrics, dict) else iter(())
    numbers = [f"{escape(name)} {_text(value)}" for name, value in pairs if _is_number(value)]
    return ", ".join(numbers[:HEADLINE_METRICS])


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: JsonValue) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)


def _day(horizon: JsonValue) -> str:
    return str(horizon).replace("T", " ").removesuffix("Z")


def _size(size_bytes: JsonValue) -> str:
    size = float(str(size_bytes))
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
