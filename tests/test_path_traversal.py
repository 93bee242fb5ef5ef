"""No name and no file of a registry leads out of it: nothing elsewhere is opened or changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import intruder
import publisher
import pytest

from recsys.bundle import FileEntry, Manifest, Registry

SCRIPT = Path(intruder.__file__)
ELSEWHERE = "elsewhere"
GOOD, LINKED, CLIMBING, LINKED_FILE, LINKED_FOLDER, LINKED_MANIFEST = (
    f"v{number:06d}" for number in range(1, 7)
)
REASONS = {
    CLIMBING: "safe relative path",
    LINKED: "has no bundle",
    LINKED_FILE: "config.json is a symbolic link",
    LINKED_FOLDER: "notes is not in the manifest",
    LINKED_MANIFEST: "MANIFEST.json is a symbolic link",
    "staged-file": "'notes/config.json' is a symbolic link",
    "staged-folder": "'notes/more'",
}
"""Why each is refused; what is no version's name is none."""

VERBS = ("folder", "manifest", "verify", "activate", "reading", "previous")


@dataclass(frozen=True)
class Trap:
    """A registry with ways out of it, and a whole bundle beside it that must not be reached."""

    root: Path
    elsewhere: Path

    def bundle(self, version: str) -> Path:
        return self.root / "bundles" / version

    def names(self) -> list[str]:
        """What is no version, and would be a bundle if it were taken for a path."""
        return [
            f"../../{ELSEWHERE}",
            f"{GOOD}/../../../{ELSEWHERE}",
            str(self.elsewhere),
            f"./{GOOD}",
            f"{GOOD}/",
            "..",
            "",
            "v000001\0",
        ]


def copied(trap: Trap, version: str) -> Path:
    """A bundle that would be sound under its new name."""
    shutil.copytree(trap.bundle(GOOD), trap.bundle(version))
    manifest = Manifest.read(trap.bundle(version)).model_copy(update={"version": version})
    (trap.bundle(version) / "MANIFEST.json").write_bytes(manifest.to_bytes())
    return trap.bundle(version)


def moved_out(trap: Trap, path: Path) -> None:
    """Put a link in the place of what lies elsewhere from now on."""
    there = trap.elsewhere / f"{path.parent.name}-{path.name}"
    path.rename(there)
    path.symlink_to(there)


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    trap = Trap(tmp_path / "registry", tmp_path / ELSEWHERE)
    publisher.publish(trap.root, 1)
    shutil.copytree(trap.bundle(GOOD), trap.elsewhere)
    moved_out(trap, copied(trap, LINKED))
    climbing = copied(trap, CLIMBING)
    secret = (trap.elsewhere / "config.json").read_bytes()
    entry = FileEntry(sha256=hashlib.sha256(secret).hexdigest(), size=len(secret))
    manifest = Manifest.read(climbing)
    files = manifest.files | {f"notes/../../../../{ELSEWHERE}/config.json": entry}
    climbed = Manifest.model_construct(**dict(manifest) | {"files": files})
    (climbing / "MANIFEST.json").write_bytes(climbed.to_bytes())
    moved_out(trap, copied(trap, LINKED_FILE) / "config.json")
    moved_out(trap, copied(trap, LINKED_FOLDER) / "notes")
    moved_out(trap, copied(trap, LINKED_MANIFEST) / "MANIFEST.json")
    for name in ("staged-file", "staged-folder"):
        (trap.root / name).mkdir()
    (trap.root / "staged-file" / "config.json").symlink_to(trap.elsewhere / "config.json")
    (trap.root / "staged-folder" / "more").symlink_to(trap.elsewhere / "notes")
    (trap.root / "bundles" / ".tmp-link").symlink_to(trap.elsewhere)
    return trap


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_nothing_outside_the_registry_is_opened_or_changed(strace: str, trap: Trap) -> None:
    asked = [(verb, name) for name in trap.names() for verb in VERBS]
    links = (CLIMBING, LINKED_FILE, LINKED_FOLDER, LINKED_MANIFEST)
    asked += [(verb, version) for version in links for verb in ("verify", "activate")]
    asked += [(verb, LINKED) for verb in VERBS]
    asked += [("publish", "staged-file"), ("publish", "staged-folder")]
    before, log = snapshot(trap.elsewhere), trap.root.parent / "log"
    command = [strace, "-f", "-y", "-o", str(log), "-e", "trace=%file", sys.executable, "-B"]
    done = subprocess.run(
        [*command, str(SCRIPT), str(trap.root)],
        check=True,
        capture_output=True,
        input="".join(f"{json.dumps(one)}\n" for one in asked),
        text=True,
        timeout=60,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(asked)
    for one, answer in zip(asked, answers, strict=True):
        assert answer.startswith("Bundle"), f"{one} was let through"
        assert REASONS.get(one[1], "has no bundle") in answer
    calls = log.read_text().splitlines()
    assert any("config.json" in call and "openat" in call for call in calls)
    assert [call for call in calls if ELSEWHERE in call] == []
    assert snapshot(trap.elsewhere) == before
    assert Registry(trap.root).current() == GOOD
