"""Opens every file of a bundle by itself, so that the one at fault can be named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from typing import Final

import torch
from safetensors import SafetensorError, safe_open

from recsys.bundle import Manifest, load_json
from recsys.errors import BundleCorruptError, RecsysError
from recsys.ranker import read_booster
from recsys.recommender.contents import Contents
from recsys.recommender.golden import GOLDEN, check_golden, load_golden
from recsys.recommender.recommender import Recommender
from recsys.retrieval import VectorIndex

MODEL_FILES: Final = ("model.safetensors", "item_vectors.safetensors", "item_states.safetensors")
"""Names of files whose numbers all have to be finite; elsewhere NaN stands for what is unknown."""

WHOLE: Final = "all files together"


def try_out(folder: Path, reading: Callable[[str], None]) -> None:
    """Read a bundle as a server would, file by file, then as a whole; answer its golden queries.

    Weights, vectors and states have to be finite. Native readers may end the process on a file
    that is not what it seems: run this in one that may die.

    Args:
        folder: of the bundle, with verified sums.
        reading: told the name of each file, `WHOLE` and `GOLDEN` before it is opened.

    Raises:
        BundleCorruptError: names the file, or what does not fit.
    """
    for name, path in sorted(_files(folder)):
        reading(name)
        with _blaming(name):
            READERS[path.suffix](path)
    reading(WHOLE)
    with _blaming(WHOLE):
        manifest = Manifest.read(folder)
        contents = Contents.load(folder)
        recommender = Recommender(contents, manifest.version, manifest.horizon)
    reading(GOLDEN)
    check_golden(recommender, load_golden(folder))


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in READERS:
            yield path.relative_to(folder).as_posix(), path


@contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Whatever is raised, third-party readers' errors included, becomes an error with the name.

    The texts of others' errors stay out: they may quote what a bundle knows of a shopper.
    """
    try:
        yield
    except RecsysError as error:
        raise BundleCorruptError(f"{name}: {error}") from error
    except Exception as error:
        where = extract_tb(error.__traceback__)[-1]
        raise BundleCorruptError(f"{name}: {type(error).__name__} in {where.name}") from error


def _check_tensors(path: Path) -> None:
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                tensor = file.get_tensor(name)
                if path.name in MODEL_FILES and not bool(torch.isfinite(tensor).all()):
                    raise BundleCorruptError(f"{name} holds numbers that are not finite")
    except SafetensorError as error:
        raise BundleCorruptError(f"can't be read as safetensors: {error}") from error


def _check_lines(path: Path) -> None:
    with path.open(encoding="utf-8") as lines:
        for _ in lines:
            pass


READERS: Final[Mapping[str, Callable[[Path], object]]] = {
    ".json": load_json,
    ".jsonl": _check_lines,
    ".safetensors": _check_tensors,
    ".faiss": lambda path: VectorIndex.load(path.parent),
    ".txt": read_booster,
}
