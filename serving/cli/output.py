"""How commands print: a table for a person, one JSON object with `--json`; progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated

import typer
from rich.console import Console

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")
]
RESULTS = Console()
"""Tables for people, on stdout."""

NOTES = Console(stderr=True)
"""Progress and remarks, on stderr."""


def new_app() -> typer.Typer:
    """A typer application with the project's settings, for one command file."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def print_json(result: Mapping[str, object]) -> None:
    """Print `result` as one JSON object on one line of stdout; dates as ISO 8601, paths as text."""
    typer.echo(json.dumps(result, default=_plain, ensure_ascii=False))


def results_folder(out: Path) -> Path:
    """The folder of `--out`, made if need be; look before the long work, not after it.

    Raises:
        ConfigurationError: it can't be made, or nothing can be written to it.
    """
    from recsys.errors import ConfigurationError  # noqa: PLC0415

    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"the results can't be written to {out} ({error}); choose another folder with --out"
        ) from error
    return out


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)
