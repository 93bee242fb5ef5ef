"""Settings of the server: a file, options above it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from recsys.errors import ConfigurationError
from serving.cli.serve import app
from serving.settings import ServerSettings, load_settings


def written(folder: Path, text: str) -> Path:
    path = folder / "serving.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_options_stand_above_the_file_and_the_file_above_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "port = 1\nworkers = 7\nmax_connection_age_seconds = 60")
    found = load_settings(path, {"port": 2})
    assert found == ServerSettings(port=2, workers=7, max_connection_age_seconds=60.0)
    assert load_settings(None, {}) == ServerSettings()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("worker = 3", "worker"),
        ("workers = 0", "workers"),
        ("workers = ", "TOML"),
        ("max_wait_share = 1.5", "max_wait_share"),
        ("metrics_port = 70000", "metrics_port"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        load_settings(written(tmp_path, text), {})


def test_serve_refuses_a_wrong_settings_file_before_it_listens(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    arguments = ["--registry", str(tmp_path), "--settings", str(missing)]
    found = CliRunner().invoke(app, arguments)
    assert isinstance(found.exception, ConfigurationError)
    assert str(missing) in str(found.exception)
