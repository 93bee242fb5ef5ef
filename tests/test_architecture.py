"""The structure of the code base: who imports whom, how large things are, what a package shows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import house_rules as rules
import numpy as np
import pytest
from conftest import ROOT
from house_rules import Source

Rule = Callable[[Source], list[str]]

TOP_LEVEL = (
    "pyproject.toml README.md recsys protos training serving tests data Makefile constraints.txt "
    ".ci .gitignore CHANGELOG.md CONTRIBUTING.md LICENSE docs benchmarks"
)
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".proto", ".sh", ""}


def read(pattern: str, *folders: str) -> list[Source]:
    """Files of the given top-level folders, generated stubs left out; sorted by path."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob(pattern)]
    sources = [
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(paths)
        if path.is_file() and path.suffix in TEXT_SUFFIXES and "__pycache__" not in path.parts
    ]
    return [source for source in sources if not source.path.startswith("recsys/v1/")]


LIBRARY = read("*.py", "recsys")
PRODUCT = [*LIBRARY, *read("*.py", "training", "serving")]
PYTHON = [*PRODUCT, *read("*.py", "tests", "benchmarks")]
TEXTS = [
    *PYTHON,
    *read("*", "protos", "docs", ".ci", "data"),
    *(
        Source(path.name, path.read_text())
        for path in ROOT.iterdir()
        if path.name in TOP_LEVEL.split() and path.is_file()
    ),
]


@pytest.mark.parametrize(
    ("rule", "sources"),
    [
        (rules.layers, PRODUCT),
        (rules.purity, LIBRARY),
        (rules.silence, PRODUCT),
        (rules.safe_files, PYTHON),
        (rules.sizes, PYTHON),
        (rules.doors, [source for source in PRODUCT if source.is_door]),
        (
            rules.documented_fields,
            [s for s in PRODUCT if "/config/" in s.path or s.path.endswith("settings.py")],
        ),
        (rules.portable, TEXTS),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_code_base_keeps_the_rule(rule: Rule, sources: list[Source]) -> None:
    assert sources
    problems = [problem for source in sources for problem in rule(source)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("rule", "path", "text", "line", "said"),
    [
        (
            rules.layers,
            "recsys/text/a.py",
            "import os\nfrom recsys.retrieval import b",
            2,
            "retrieval",
        ),
        (
            rules.layers,
            "recsys/text/a.py",
            "def f():\n    import recsys.bundle.b",
            2,
            "recsys.bundle",
        ),
        (rules.layers, "recsys/text/a.py", "from recsys import ranker", 1, "recsys.ranker"),
        (rules.layers, "recsys/text/a.py", "from ..features.frame import b", 1, "recsys.features"),
        (rules.layers, "recsys/text/__init__.py", "from ..state import b", 1, "recsys.state"),
        (rules.layers, "recsys/bundle/a.py", "from training import b", 1, "training"),
        (rules.layers, "recsys/__init__.py", "import recsys.errors", 1, "recsys.errors"),
        (rules.layers, "training/a.py", "from serving.cli import output", 1, "serving"),
        (rules.layers, "training/a.py", "from recsys.v1 import x_pb2", 1, "recsys.v1"),
        (rules.layers, "recsys/utils.py", "", 1, "no place in the layer table"),
        (rules.purity, "recsys/a.py", "import sys\nsys.argv[1]", 2, "sys.argv"),
        (rules.purity, "recsys/a.py", "import os as o\no.environ.get('X')", 2, "os.environ"),
        (rules.purity, "recsys/a.py", "from os import getenv", 1, "os.getenv"),
        (
            rules.purity,
            "recsys/a.py",
            "import numpy as np\nnp.random.seed(1)",
            2,
            "numpy.random.seed",
        ),
        (rules.purity, "recsys/a.py", "from datetime import datetime\ndatetime.now()", 2, "now"),
        (rules.purity, "recsys/a.py", "import socket", 1, "socket"),
        (rules.silence, "training/a.py", "x = 1\nprint(x)", 2, "print"),
        (rules.safe_files, "recsys/a.py", "import torch\ntorch.load('f')", 2, "torch.load"),
        (rules.safe_files, "recsys/a.py", "from joblib import dump", 1, "joblib"),
        (
            rules.safe_files,
            "recsys/a.py",
            "import numpy as np\nnp.load('f', allow_pickle=True)",
            2,
            "allow",
        ),
        (rules.sizes, "recsys/a.py", "x = 1\n" * 401, 401, "401 lines"),
        (rules.sizes, "recsys/a.py", "def f() -> None:\n" + "    x = 1\n" * 60, 1, "61 lines"),
        (rules.sizes, "recsys/a.py", "def f(a, b, c, *d, e, f, **g): ...", 1, "7 parameters"),
        (rules.doors, "recsys/a/__init__.py", '"""Two. Sentences."""', 1, "one sentence"),
        (rules.doors, "recsys/a/__init__.py", '"""One."""\nx = 1', 2, "more than a door"),
        (rules.doors, "recsys/a/__init__.py", '"""One."""\nfrom a import b', 1, "['b']"),
        (
            rules.doors,
            "recsys/a/__init__.py",
            '"""One."""\nfrom a import B, c\n\n__all__ = ["c", "B"]',
            4,
            "not sorted",
        ),
        (
            rules.documented_fields,
            "recsys/config.py",
            "class A:\n    a: int = 1\n    b = 2",
            2,
            "A.a",
        ),
        (rules.portable, "docs/a.md", f"x\ncd /{'home'}/me", 2, "machine"),
    ],
)
def test_each_rule_can_fail(rule: Rule, path: str, text: str, line: int, said: str) -> None:
    problems = rule(Source(path, text))
    assert len(problems) == 1
    assert problems[0].startswith(f"{path}:{line}: ")
    assert said in problems[0]


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (
            rules.layers,
            "recsys/text/a.py",
            "from recsys.errors import E\nfrom recsys.text.b import c",
        ),
        (rules.layers, "serving/a.py", "from recsys.v1 import x_pb2\nfrom training import b"),
        (rules.purity, "recsys/a.py", "def f(time):\n    return time.time()"),
        (rules.sizes, "recsys/a.py", "def f(self, a, b, c, d, e, f): ..."),
        (rules.sizes, "serving/cli/a.py", "@app.command()\ndef f(a, b, c, d, e, f, g): ..."),
        (rules.sizes, "recsys/a.py", 'def f():\n    """' + "x\n" * 70 + '"""'),
        (rules.doors, "recsys/a/__init__.py", '"""One."""'),
    ],
)
def test_each_rule_can_pass(rule: Rule, path: str, text: str) -> None:
    assert rule(Source(path, text)) == []


def test_functions_and_files_are_small_as_a_rule() -> None:
    lengths = [one.lines for source in PRODUCT for one in rules.functions(source)]
    files = [len(source.text.splitlines()) for source in PRODUCT if not source.is_door]
    assert np.percentile(lengths, 50) <= 8
    assert np.percentile(lengths, 90) <= 28
    assert np.percentile(files, 50) <= 150


def test_a_function_is_measured_without_its_docstring_and_decorators() -> None:
    text = '@cache\ndef f(self, a: int) -> int:\n    """One.\n\n    Two.\n    """\n    return a\n'
    (measured,) = rules.functions(Source("recsys/a.py", text))
    assert (measured.at, measured.lines, measured.parameters) == (2, 2, 1)


def test_every_folder_of_code_is_a_package() -> None:
    folders = {(ROOT / source.path).parent for source in PRODUCT}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_data_holds_no_code() -> None:
    assert list((ROOT / "data").rglob("*.py")) == []


def test_the_top_level_is_fixed() -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: nothing says which files belong to the project")
    listing = subprocess.run(
        ["git", "ls-files"],  # noqa: S607
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = {line.partition("/")[0] for line in listing.splitlines()}
    assert found <= set(TOP_LEVEL.split())
    assert {"recsys", "training", "serving", "tests", "pyproject.toml"} <= found


def generate_stubs(protos: Path, out: Path) -> None:
    """What `make stubs` does."""
    files = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    outputs = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", *outputs, *files]
    subprocess.run(command, check=True, capture_output=True, text=True)


def stubs_in(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "recsys" / "v1").glob("*_pb2*.py*")}


def test_stubs_are_fresh(tmp_path: Path) -> None:
    generate_stubs(ROOT / "protos", tmp_path)
    fresh, kept = stubs_in(tmp_path), stubs_in(ROOT)
    assert sorted(kept) == sorted(fresh)
    assert [name for name in sorted(kept) if kept[name] != fresh[name]] == [], "run `make stubs`"
