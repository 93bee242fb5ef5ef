"""How the project's figures look: colours, and the parts that several of them share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.report import Estimate

INK: Final = "#202124"
FAINT: Final = "#80868b"
BLUE: Final = "#3a86b7"
RED: Final = "#e4572e"
COLOURS: Final = {
    "popularity": "#b4bac1",
    "bm25_knn": "#8ecae6",
    "bm25_knn_counts": BLUE,
    "zero_shot": "#a7d7a9",
    "fine_tuned": "#3f9b4f",
    "without_text": "#f9cdb0",
    "bi_encoder": "#f2966b",
    "system": RED,
    "oracle": "#7b6fb0",
}
"""By system, see `training.report.SYSTEM_NAMES`."""

PngFile = Path | BinaryIO
"""Where a figure goes: a path, or a file opened for writing."""


@contextmanager
def style() -> Iterator[None]:
    """Fonts, colours and grid of every figure made inside."""
    with rc_context(
        {
            "font.size": 9.5,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.edgecolor": FAINT,
            "axes.labelcolor": FAINT,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e8eaed",
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "legend.frameon": False,
            "figure.constrained_layout.h_pad": 0.12,
            "figure.constrained_layout.w_pad": 0.12,
        }
    ):
        yield


def panels(figure: Figure, *columns: int) -> list[list[Axes]]:
    """Rows of axes, one row for each given number of columns; a row's axes have equal widths."""
    grid = figure.add_gridspec(len(columns), 1)
    rows = []
    for row, count in enumerate(columns):
        inner = grid[row, 0].subgridspec(1, count)
        rows.append([figure.add_subplot(inner[0, column]) for column in range(count)])
    return rows


def list_downwards(axes: Axes, names: Sequence[str], largest: float) -> None:
    """Names at 0, 1, …, first on top; room at the right for the labels of bars up to `largest`."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.22 * largest or 1.0)


def whisker(axes: Axes, one: Estimate, place: float) -> None:
    """A horizontal interval at a height."""
    ends = [[one.mean - one.low], [one.high - one.mean]]
    axes.errorbar(
        [one.mean], [place], xerr=ends, fmt="none", ecolor=INK, elinewidth=1.1, capsize=2.5
    )


def annotate(axes: Axes, right_of: float, place: float, text: str, *, bold: bool) -> None:
    """Text beside the end of a bar."""
    axes.annotate(
        text,
        (right_of, place),
        (5, 0),
        textcoords="offset points",
        va="center",
        fontweight="bold" if bold else "normal",
    )


def save(figure: Figure, file: PngFile) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
