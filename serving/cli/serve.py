"""`recsys serve`: answer gRPC calls from a published bundle."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from serving.cli.output import NOTES, new_app

app = new_app()
STATE: Final = "state.sqlite"
"""The state store's file in a registry."""


PortOption = Annotated[
    int | None, typer.Option(min=0, max=65_535, help="Default 50051; 0 takes any free one.")
]
MetricsPortOption = Annotated[
    int | None,
    typer.Option(min=0, max=65_535, help="Metrics for Prometheus, on this machine; absent: none."),
]
WatchOption = Annotated[
    bool | None, typer.Option(help="Change to what becomes current while it runs; default.")
]
AdminPortOption = Annotated[
    int | None,
    typer.Option(min=0, max=65_535, help="Operators' calls, on loopback; absent: none."),
]
ExperimentsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="TOML file of experiments to run; see docs/operations.md."),
]
LogImpressionsOption = Annotated[
    bool | None,
    typer.Option(help="Record what answers show as events; default: where experiments run."),
]
StateOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|URL",
        help="File for events, made if need be, or redis://HOST:PORT/DATABASE, the password in "
        "RECSYS_REDIS_PASSWORD. [default: REGISTRY/state.sqlite]",
    ),
]
PublicKeyOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Ed25519 key (PEM); refuse bundles not signed for it."),
]
PseudonymKeyOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Key; shoppers' ids are kept as pseudonyms by it alone."),
]


@app.command()
def serve(  # noqa: PLR0913, PLR0917
    registry: Annotated[Path, typer.Option(help="Folder of the published bundles.")],
    port: PortOption = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; default 127.0.0.1.")
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(help="Version to stay with; absent: the current one.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Calls scored at a time; default 2.")
    ] = None,
    reflection: Annotated[bool, typer.Option(help="Let clients list services.")] = False,
    state: StateOption = None,
    metrics_port: MetricsPortOption = None,
    watch: WatchOption = None,
    admin_port: AdminPortOption = None,
    public_key: PublicKeyOption = None,
    pseudonym_key: PseudonymKeyOption = None,
    experiments: ExperimentsOption = None,
    log_impressions: LogImpressionsOption = None,
    settings: Annotated[
        Path | None, typer.Option(help="TOML file of more settings; options stand above it.")
    ] = None,
) -> None:
    """Answer gRPC calls until SIGTERM or Ctrl-C; logs one JSON object a line on stderr.

    The log's line `ready` has address and bundle. Calls under way finish before the server ends.
    When another bundle becomes current, it is tried out first and calls go on meanwhile.

    Example: recsys serve --registry shop/registry --port 50051
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's core logs plain text beside the JSON
    _leave_out_unused()
    from recsys.bundle import PublicKey, Registry  # noqa: PLC0415
    from recsys.pseudonyms import Pseudonyms  # noqa: PLC0415
    from serving.following import following  # noqa: PLC0415
    from serving.logs import configure_logs, log_uncaught  # noqa: PLC0415
    from serving.server import serve_until_stopped  # noqa: PLC0415
    from serving.settings import load_settings  # noqa: PLC0415
    from serving.state_stores import store_to_serve  # noqa: PLC0415
    from training.process import set_up_process  # noqa: PLC0415

    options: dict[str, object] = {
        "host": host,
        "port": port,
        "workers": workers,
        "reflection": reflection or None,
        "metrics_port": metrics_port,
        "watch": watch,
        "admin_port": admin_port,
        "experiments": experiments,
        "log_impressions": log_impressions,
    }
    given = {name: value for name, value in options.items() if value is not None}
    chosen = load_settings(settings, given)
    key = None if public_key is None else PublicKey.read(public_key)
    names = Pseudonyms() if pseudonym_key is None else Pseudonyms.read(pseudonym_key)
    bundles = Registry(registry, public_key=key)
    configure_logs()
    log_uncaught()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold shoppers' histories
    set_up_process()
    bundles.versions()  # a mistyped folder is told before anything is made in it
    with closing(store_to_serve(state or str(registry / STATE), chosen)) as store:
        served = partial(following, registry=bundles, settings=chosen, bundle=bundle)
        serve_until_stopped(chosen, served, _say_ready, store, names)


def _leave_out_unused() -> None:
    """Let LightGBM and transformers do without what they import where it is installed: 55 MiB."""
    for name in ("pandas", "pyarrow", "accelerate"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def _say_ready(address: str, version: str) -> None:
    if NOTES.is_terminal:  # elsewhere stderr holds JSON lines only
        NOTES.print(f"[bold green]ready[/] on {address} with bundle {version}; Ctrl-C stops")
        NOTES.print(f"try: recsys recommend USER --address {address}")
