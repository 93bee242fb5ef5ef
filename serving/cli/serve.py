"""`recsys serve`: answer gRPC calls from a published bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from serving.cli.output import NOTES, new_app

app = new_app()


@app.command()
def serve(
    registry: Annotated[Path, typer.Option(help="Folder of the published bundles.")],
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes any free one.")] = 50_051,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    bundle: Annotated[str | None, typer.Option(help="Version; absent: the current one.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Calls scored at a time.")] = 2,
    reflection: Annotated[bool, typer.Option(help="Let clients list services.")] = False,
) -> None:
    """Answer gRPC calls until SIGTERM or Ctrl-C; logs one JSON object a line on stderr.

    The log's line `ready` has address and bundle. Calls under way finish before the server ends.

    Example: recsys serve --registry shop/registry --port 50051
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's core logs plain text beside the JSON
    from serving.loading import open_recommender  # noqa: PLC0415
    from serving.logs import configure_logs, log_uncaught  # noqa: PLC0415
    from serving.server import serve_until_stopped  # noqa: PLC0415
    from serving.settings import ServerSettings  # noqa: PLC0415
    from training.process import set_up_process  # noqa: PLC0415

    configure_logs()
    log_uncaught()
    set_up_process()
    settings = ServerSettings(host=host, port=port, workers=workers, reflection=reflection)
    serve_until_stopped(settings, lambda: open_recommender(registry, bundle), _say_ready)


def _say_ready(address: str, version: str) -> None:
    if NOTES.is_terminal:  # elsewhere stderr holds JSON lines only
        NOTES.print(f"[bold green]ready[/] on {address} with bundle {version}; Ctrl-C stops")
        NOTES.print(f"try: recsys recommend USER --address {address}")
