"""The process that opens a bundle first: what kills it or holds it up is told, with the file."""

from __future__ import annotations

import io
import re
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
from log_lines import lines
from shelf_server import failed_loads, running, until
from trained_shop import TrainedShop

from recsys.bundle import Registry
from recsys.bundle.pointers import write_pointer
from recsys.errors import BundleCorruptError
from recsys.recommender import try_out
from serving.bench.variant_bundles import publish_variant
from serving.canary import send_canary
from serving.following import following
from serving.loading import BundleLoader
from serving.settings import ServerSettings

UNCHECKED = """
import recsys.ranker.boosting
recsys.ranker.boosting.check_model_text = lambda text: None
"""
"""Hands LightGBM whatever there is."""

CANARY = f"""
{UNCHECKED}
import sys
from serving.canary import main
main(sys.argv[1:])
"""


@pytest.fixture
def registry(trained_shop: TrainedShop, tmp_path: Path) -> Registry:
    """A copy of the trained registry."""
    root = tmp_path / "registry"
    shutil.copytree(trained_shop.registry, root)
    return Registry(root)


def cut(folder: Path) -> None:
    """Leave half of a tree."""
    path = folder / "ranker" / "full" / "lambdarank.txt"
    text = path.read_text()
    path.write_text(text[: text.index("leaf_value")])


def test_a_file_that_kills_its_reader_kills_the_canary_alone(registry: Registry) -> None:
    version = publish_variant(registry, cut)
    registry.verify(version)  # the manifest is of the bad file
    command = [sys.executable, "-P", "-c", CANARY]
    loader = BundleLoader(registry, canary=partial(send_canary, command=command))
    with pytest.raises(BundleCorruptError, match=r"ranker/full/lambdarank\.txt: .* died of SIG"):
        loader.load(version, lambda: 200.0)
    with pytest.raises(BundleCorruptError, match=r"ranker/full/lambdarank\.txt: .*no sound"):
        try_out(registry.folder(version), lambda _: None)


def test_a_server_serves_on_where_a_bundle_would_have_killed_it(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    (tmp_path / "sitecustomize.py").write_text(UNCHECKED)
    with (
        running(None, max_answer_seconds=60.0, max_wait_seconds=60.0) as (server, call),
        following(server, registry, ServerSettings(watch_seconds=0.02)),
    ):
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        write_pointer(registry.pointer, publish_variant(registry, cut))
        until(lambda: failed_loads(server) == 1, 200.0)
        assert call.recommend(timeout=60.0).bundle_version == "v000001"
    (failure,) = [line for line in lines(log) if line["event"] == "load_failed"]
    assert re.search(r"ranker/full/lambdarank\.txt: .* died of SIG", str(failure["reason"]))


def test_a_file_that_is_read_forever_is_named(tmp_path: Path) -> None:
    hanging = "import time; print('\"ranker/trees.txt\"', flush=True); time.sleep(60)"
    with pytest.raises(BundleCorruptError, match=r"ranker/trees\.txt: .* not done after 1 s"):
        send_canary(tmp_path, command=[sys.executable, "-c", hanging], patience=1.0)
