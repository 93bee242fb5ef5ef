"""`recsys bundles` shows what a registry holds; a damaged bundle ends it with code 3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import publisher
import pytest

from serving.cli.main import main


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry with two bundles, the second current."""
    for seed in (1, 2):
        publisher.publish(tmp_path / "registry", seed)
    return tmp_path / "registry"


def run(*arguments: str | Path) -> int:
    try:
        main(["bundles", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def printed_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    captured = capsys.readouterr()
    result: dict[str, Any] = json.loads(captured.out)
    return result


def test_list_names_every_bundle_and_marks_the_current_one(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list", "--registry", root, "--json") == 0
    result = printed_json(capsys)
    assert result["current"] == "v000002"
    assert [row["version"] for row in result["bundles"]] == ["v000001", "v000002"]
    assert [row["current"] for row in result["bundles"]] == [False, True]
    newest = result["bundles"][1]
    assert newest["files"] == len(publisher.BUILT)
    assert newest["horizon"] == "2031-04-02T00:00:00Z"
    assert newest["metrics"]["ndcg@10"] == 0.25
    sizes = [(root / "bundles" / "v000002" / name).stat().st_size for name in publisher.BUILT]
    assert newest["size_bytes"] == sum(sizes)


def test_list_prints_a_table(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--registry", root) == 0
    text = capsys.readouterr().out
    assert "v000002 ● current" in text
    assert "2031-04-02" in text


def test_list_of_an_empty_registry_is_empty_and_of_a_missing_one_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list", "--registry", tmp_path, "--json") == 0
    assert printed_json(capsys)["bundles"] == []
    assert run("list", "--registry", tmp_path / "none") == 3
    assert "there is no registry at" in capsys.readouterr().err


def test_list_shows_a_damaged_manifest_beside_the_good_ones(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "bundles" / "v000001" / "MANIFEST.json").write_text("{}")
    assert run("list", "--registry", root, "--json") == 0
    first, second = printed_json(capsys)["bundles"]
    assert "MANIFEST.json" in first["damaged"]
    assert "damaged" not in second


def test_show_prints_the_verified_manifest_of_the_current_bundle(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", "--registry", root, "--json") == 0
    manifest = printed_json(capsys)
    assert manifest["version"] == "v000002"
    assert list(manifest["files"]) == list(publisher.BUILT)
    assert run("show", "v000001", "--registry", root) == 0
    text = capsys.readouterr().out
    for expected in ("v000001", "cross_encoder.after", "0.5", *publisher.BUILT):
        assert expected in text


def test_show_of_a_damaged_bundle_fails_and_names_the_file(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "bundles" / "v000002" / "text.faiss").write_bytes(b"IxFI")
    assert run("show", "--registry", root) == 3
    captured = capsys.readouterr()
    assert "text.faiss has 4 bytes, expected 44" in captured.err
    assert captured.out == ""


def test_rollback_and_activate_change_the_current_bundle(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("rollback", "--registry", root, "--json") == 0
    assert printed_json(capsys) == {"current": "v000001"}
    assert run("activate", "v000002", "--registry", root) == 0
    assert "v000002 is current" in capsys.readouterr().out
    assert (root / "CURRENT").read_text() == "v000002\n"


def test_wrong_usage_ends_with_code_2_and_an_unknown_version_with_3(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("list") == 2
    assert run("publish") == 2
    assert run("show", "../v000001", "--registry", root) == 3
    assert "has no bundle '../v000001'" in capsys.readouterr().err


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("list", "show", "activate", "rollback", "sign", "prune"):
        assert run(command, "--help") == 0
        assert "Example: recsys bundles" in capsys.readouterr().out
