"""`recsys evaluate`: usage, what it writes and prints, and how it fails."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from small_shop import Prophet, small_rows, write_small_shop
from trained_shop import UNTIL, TrainedShop

from recsys.errors import BundleNotFoundError
from serving.cli.main import main

Call = Callable[..., int]
FILES = ["evaluation.html", "evaluation.json"]


class Loading(ModuleType):
    """Stands for `serving.loading`: opens the prophet instead of a bundle; keeps what was asked."""

    def __init__(self) -> None:
        super().__init__("serving.loading")
        self.asked: list[tuple[Path, str | None]] = []

    def open_recommender(self, registry: Path, version: str | None, _: Path) -> Prophet:
        self.asked.append((registry, version))
        if version == "v000009":
            raise BundleNotFoundError("no bundle v000009")
        return Prophet(small_rows())


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Loading:
    module = Loading()
    monkeypatch.setitem(sys.modules, "serving.loading", module)
    return module


@pytest.fixture(scope="module")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_shop(tmp_path_factory.mktemp("small") / "shop", small_rows())


@pytest.fixture
def call(small_shop: Path, tmp_path: Path) -> Call:
    """Runs the command with a registry in `tmp_path`; returns the exit code."""

    def run(*arguments: str) -> int:
        registry = ["--registry", str(tmp_path / "registry")]
        try:
            main(["evaluate", str(small_shop), *registry, *arguments])
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


def test_report_is_written_beside_the_bundles_and_printed(
    call: Call, loading: Loading, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--from", "2030-03-01") == 0
    folder = tmp_path / "registry" / "reports" / "v000003"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    printed = capsys.readouterr().out
    for words in (
        "+ bi-encoder",
        "this system",
        "fine-tuned text",
        "p by Holm for 20 comparisons",
        "Recall of candidates",
        "all together",
    ):
        assert words in printed
    assert str(folder / "evaluation.html") in printed
    assert loading.asked == [(tmp_path / "registry", None)]


def test_json_is_one_object_on_stdout(
    call: Call, loading: Loading, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "elsewhere" / "deep"
    options = ["--to", "2030-03-08T00:00:00Z", "--max-customers", "12", "--bundle", "v000003"]
    assert call("--from", "2030-03-01", *options, "--out", str(out), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert printed == written | {
        "report": str(out / "evaluation.html"),
        "data": str(out / "evaluation.json"),
    }
    assert printed["end"] == "2030-03-08T00:00:00Z"
    assert max(row["customers"] for row in printed["rows"]) == 12
    assert loading.asked == [(tmp_path / "registry", "v000003")]


@pytest.mark.parametrize(
    "wrong",
    [[], ["--from", "yesterday"], ["--from", "2030-03-01", "--max-customers", "0"]],
    ids=["no time", "no such time", "nobody"],
)
@pytest.mark.usefixtures("loading")
def test_wrong_usage_exits_with_2(call: Call, wrong: list[str]) -> None:
    assert call(*wrong) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "2030-02-28"], "it has seen what it would be asked to predict"),
        (["--from", "2030-03-01", "--to", "2030-03-01"], "not after its start"),
        (["--from", "2031-01-01"], "choose a period inside the log"),
        (["--from", "2030-03-01", "--bundle", "v000009"], "no bundle v000009"),
        (
            ["--from", "2030-03-01", "--out", "/dev/null/reports"],
            "choose another folder with --out",
        ),
    ],
)
@pytest.mark.usefixtures("loading")
def test_failures_exit_with_3_and_say_why(
    call: Call, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 3
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_trained_bundle_is_measured(
    trained_shop: TrainedShop,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    folders = [str(trained_shop.dataset), "--registry", str(trained_shop.registry)]
    options = ["--from", UNTIL.isoformat(), "--max-customers", "12", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *folders, *options, "--json"])
    assert end.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["bundle"], printed["truth"]) == (trained_shop.summary.version, "purchase")
    means = {
        (row["target"], row["system"]): row["metrics"]["ndcg@10"]["mean"]
        for row in printed["rows"]
        if row["segment"] == "everyone"
    }
    assert {system for _, system in means} >= {"popularity", "system", "oracle"}
    assert {target for target, _ in means} >= {"all", "new"}
    assert all(0 <= mean <= 1 for mean in means.values())
    assert means["all", "oracle"] > means["all", "popularity"]
    for one in printed["candidates"]:
        shares = [row["alone"]["mean"] for row in one["sources"]]
        assert 0 < max(shares) <= one["total"]["mean"] <= sum(shares) + 1e-9
        assert one["curve"][-1]["recall"] == one["total"]["mean"]
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
