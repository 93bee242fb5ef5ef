"""The process that opens a bundle first: what kills it or holds it up is told, with the file."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
from bundle_copies import publish_variant
from trained_shop import TrainedShop

from recsys.bundle import Registry
from recsys.errors import BundleCorruptError
from recsys.recommender import try_out
from serving.canary import send_canary
from serving.loading import BundleLoader

UNCHECKED = """
import sys
import recsys.ranker.boosting
recsys.ranker.boosting.check_model_text = lambda text: None
from serving.canary import main
main(sys.argv[1:])
"""
"""A canary that hands LightGBM whatever there is."""


@pytest.fixture
def registry(trained_shop: TrainedShop, tmp_path: Path) -> Registry:
    """A copy of the trained registry."""
    root = tmp_path / "registry"
    shutil.copytree(trained_shop.registry, root)
    return Registry(root)


def test_a_file_that_kills_its_reader_kills_the_canary_alone(registry: Registry) -> None:
    def cut(folder: Path) -> None:
        path = folder / "ranker" / "full" / "lambdarank.txt"
        text = path.read_text()
        path.write_text(text[: text.index("leaf_value")])

    version = publish_variant(registry, cut)
    registry.verify(version)  # the manifest is of the bad file
    command = [sys.executable, "-P", "-c", UNCHECKED]
    loader = BundleLoader(registry, canary=partial(send_canary, command=command))
    with pytest.raises(BundleCorruptError, match=r"ranker/full/lambdarank\.txt: .* died of SIG"):
        loader.load(version, lambda: 200.0)
    with pytest.raises(BundleCorruptError, match=r"ranker/full/lambdarank\.txt: .*no sound"):
        try_out(registry.folder(version), lambda _: None)


def test_a_file_that_is_read_forever_is_named(tmp_path: Path) -> None:
    hanging = "import time; print('\"ranker/trees.txt\"', flush=True); time.sleep(60)"
    with pytest.raises(BundleCorruptError, match=r"ranker/trees\.txt: .* not done after 1 s"):
        send_canary(tmp_path, command=[sys.executable, "-c", hanging], patience=1.0)
