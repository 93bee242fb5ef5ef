"""Write the figures of a run of `recsys bench` into the README.

    recsys bench all --registry REG --out bench
    recsys bench features --out bench                   # these three take longer,
    recsys bench index --out bench                      # and their tables are left out
    recsys bench catalogue --registry REG --out bench   # where they were not run
    python benchmarks/readme_speed.py bench [README.md]

Replaces what stands between the two marks of the section Speed; everything else stays as it is.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from serving.bench.speed_tables import Benchmarks, with_figures


def main() -> None:
    """Read the figures and rewrite the README."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("figures", type=Path)
    parser.add_argument("readme", type=Path, nargs="?", default=Path("README.md"))
    options = parser.parse_args()
    text = options.readme.read_text(encoding="utf-8")
    found = Benchmarks.read(options.figures)
    options.readme.write_text(with_figures(text, found), encoding="utf-8")


if __name__ == "__main__":
    main()
