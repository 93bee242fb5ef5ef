"""How benchmarks hand out their figures: JSON files in a folder, and tables for people."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel
from rich import box
from rich.table import Table

from serving.cli.output import RESULTS, print_json, results_folder

Found = TypeVar("Found", bound=BaseModel)
OutOption = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Folder for figures and plots.", callback=results_folder),
]


def written(found: BaseModel, out: Path, name: str) -> Path:
    """The folder, with the figures in it as `name`.json."""
    (out / f"{name}.json").write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return out


def printed(found: Found, show: Callable[[Found], None], *, as_json: bool) -> None:
    """Print the figures as one JSON object, or show them."""
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        show(found)


def table_of(title: str, *columns: str) -> Table:
    """An empty table; the first column, if named, is of names, the others are of numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left")
    return table


def show_line(text: str) -> None:
    """A line under a table."""
    RESULTS.print(text, style="dim", highlight=False, markup=False)
