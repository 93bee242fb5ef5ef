"""The command group: light help, exit codes, and one line for a failure."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

from recsys.errors import DataError
from serving.cli import main as group

HEAVY = [
    "dataframely", "faiss", "grpc", "lightgbm", "matplotlib", "numpy", "polars", "redis", "scipy",
    "sklearn", "sentence_transformers", "torch", "transformers",
]  # fmt: skip


def recsys(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def modules_after(statement: str) -> set[str]:
    """Heavy modules that a fresh interpreter has loaded after `statement`."""
    report = (
        f"import json, sys\n{statement}\nprint(json.dumps(sorted(set(sys.modules) & {set(HEAVY)})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_loads_nothing_heavy() -> None:
    run = "from serving.cli.main import app\napp(['--help'], standalone_mode=False)"
    assert modules_after(run) == set()


def test_the_probe_for_heavy_modules_sees_one() -> None:
    assert modules_after("import numpy") == {"numpy"}


@pytest.mark.parametrize("module", [module for module, _ in group.COMMANDS.values()])
def test_a_command_loads_nothing_heavy_before_it_runs(module: str) -> None:
    assert modules_after(f"import serving.cli.{module}") == set()


def test_the_redis_client_is_loaded_only_for_a_redis() -> None:
    assert "redis" not in modules_after("import serving.server, serving.state_stores")


def test_help_lists_the_commands_in_pipeline_order() -> None:
    text = recsys("--help").stdout
    listed = text[text.index("Commands:") :].split("\n")[1:]
    assert [line.split()[0] for line in listed if line.strip()] == list(group.COMMANDS)


def leaves(name: str) -> dict[str, str]:
    """Help texts of a command, or of the commands below it, by their full names."""
    app = import_module(f"serving.cli.{group.COMMANDS[name][0]}").app
    command = typer.main.get_command(app)
    below = getattr(command, "commands", None)
    return (
        {f"{name} {one}": below[one].help or "" for one in below}
        if below
        else {name: command.help or ""}
    )


@pytest.mark.parametrize("name", group.COMMANDS)
def test_each_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        group.main([name, "--help"])
    assert stop.value.code == 0
    assert f"Usage: recsys {name}" in capsys.readouterr().out
    missing = [full for full, text in leaves(name).items() if f"Example: recsys {full}" not in text]
    assert missing == []


def test_version_is_the_distribution_s() -> None:
    done = recsys("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "recsys")


@pytest.mark.parametrize(
    "arguments", [(), ("recomend",), ("validate",), ("validate", "a", "--colour"), ("--nonsense",)]
)
def test_wrong_usage_ends_with_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = recsys(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_failure_of_ours_is_one_message_and_exit_code_3(tmp_path: Path) -> None:
    done = recsys("validate", str(tmp_path / "nowhere"))
    assert (done.returncode, done.stdout) == (3, "")
    (message,) = done.stderr.strip().splitlines()
    assert message.startswith("error: ")
    assert "nowhere" in message


def test_a_failure_that_is_not_ours_keeps_its_stack_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(group, "app", broken)
    with pytest.raises(ZeroDivisionError):
        group.main([])


def test_every_error_of_ours_is_caught(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(**_: object) -> None:
        raise DataError("shop/events.parquet: no rows")

    monkeypatch.setattr(group, "app", failing)
    with pytest.raises(SystemExit) as stop:
        group.main([])
    assert stop.value.code == group.EXIT_FAILURE
    assert capsys.readouterr().err == "error: shop/events.parquet: no rows\n"
