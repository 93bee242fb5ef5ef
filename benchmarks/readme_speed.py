"""Write the figures of a run of `recsys bench all` into the README.

    recsys bench all --registry REG --out benchmarks/results
    python benchmarks/readme_speed.py [benchmarks/results] [README.md]

Replaces what stands between the two marks of the section Speed; everything else stays as it is.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Final

from serving.bench.speed_tables import Benchmarks

START: Final = "<!-- speed: written by benchmarks/readme_speed.py -->\n"
END: Final = "<!-- /speed -->\n"


def with_figures(readme: str, found: Benchmarks) -> str:
    """The text with the figures between the marks.

    Raises:
        ValueError: a mark is missing or there twice.
    """
    if readme.count(START) != 1 or readme.count(END) != 1:
        raise ValueError(f"expected {START.strip()!r} and {END.strip()!r} once each in the README")
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{found.markdown()}\n{END}{after}"


def main() -> None:
    """Read the figures and rewrite the README."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("figures", type=Path, nargs="?", default=Path("benchmarks/results"))
    parser.add_argument("readme", type=Path, nargs="?", default=Path("README.md"))
    options = parser.parse_args()
    text = options.readme.read_text(encoding="utf-8")
    found = Benchmarks.read(options.figures)
    options.readme.write_text(with_figures(text, found), encoding="utf-8")


if __name__ == "__main__":
    main()
