"""What the wheel holds, and that every pinned version is one this environment has."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

PACKAGES = {"recsys", "training", "serving"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built offline from a copy of the sources: no build folder is left behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in sorted(PACKAGES):
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(folder / "source")], check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_has_the_three_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    (described,) = {top for top in tops if top.endswith(".dist-info")}
    assert tops - {described} == PACKAGES
    assert f"{described}/licenses/LICENSE" in wheel.namelist()


def test_the_wheel_holds_every_module_the_stubs_types_the_typing_mark_and_templates(
    wheel: zipfile.ZipFile,
) -> None:
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py*")]
    expected = {
        path.relative_to(ROOT).as_posix() for path in files if path.suffix in {".py", ".pyi"}
    }
    found = {name for name in wheel.namelist() if name.partition("/")[0] in PACKAGES}
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "training").rglob("*.jinja")}
    assert templates
    assert found == expected | templates | {"recsys/py.typed"}


def test_the_wheel_starts_one_command(wheel: zipfile.ZipFile) -> None:
    (entry,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert wheel.read(entry).decode().split() == [
        "[console_scripts]",
        "recsys",
        "=",
        "serving.cli.main:main",
    ]


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names_of(requirements: Iterable[str]) -> set[str]:
    return {key(re.split(r"[<>=!~\[ ;]", one)[0]) for one in requirements}


def project() -> dict[str, Any]:
    described: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return described


def test_constraints_pin_every_direct_dependency() -> None:
    extras = project()["optional-dependencies"].values()
    direct = [*project()["dependencies"], *(one for extra in extras for one in extra)]
    assert names_of(direct) - {key(name) for name in pinned()} == set()


def test_constraints_are_the_versions_under_test() -> None:
    extras = project()["optional-dependencies"]
    peers = names_of(extras["bench"]) - names_of(extras["dev"])  # built on demand by who wants them
    installed = {key(name): version for name, version in pinned().items() if key(name) in peers}
    installed |= {key(one.name): one.version.partition("+")[0] for one in distributions()}
    differing = {
        name: (wanted, installed.get(key(name)))
        for name, wanted in pinned().items()
        if installed.get(key(name)) != wanted
    }
    assert differing == {}


def test_constraints_name_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    loose = [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+|#.*", line)]
    assert loose == []


def test_the_readme_names_files_that_exist() -> None:
    text = "".join((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
    targets = re.findall(r"\]\(([^)#:]+)\)", text)
    assert targets
    assert [target for target in targets if not Path(ROOT, target).exists()] == []
