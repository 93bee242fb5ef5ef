"""What the project's HTML pages share: templates, style, and figures inside the page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from io import BytesIO

from jinja2 import Environment, PackageLoader, StrictUndefined

from training.plot_style import PngFile


def page_environment() -> Environment:
    """The templates of this package; values are escaped, and an unknown name is an error."""
    return Environment(
        loader=PackageLoader("training"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def embedded(draw: Callable[[PngFile], None]) -> str:
    """A figure as a `data:` address, so that a page needs no other file."""
    file = BytesIO()
    draw(file)
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
