"""Shared fixtures: where the real data is, and a BERT small enough for every test."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trained_shop import TrainedShop

    from recsys.state import StateStore
    from serving.bench.redis_process import RedisProcess

# Set before anything imports transformers, torch or LightGBM: no test reaches the network, and the
# tiny models here lose time to threads.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parent.parent
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = """
a and as at by for from in of on or set small large the to with new old gift box bag mug cup plate
bowl jar candle holder lamp shade cushion blanket towel apron clock frame mirror basket tray board
bottle glass card paper ribbon ring necklace scarf hat shirt dress shoe toy doll game book pen
pencil knife spoon fork pan kettle heart star bird flower rose tree leaf cat dog christmas birthday
wedding garden kitchen bath home party red blue green white black pink yellow grey brown navy ivory
silver gold copper brass steel wood oak pine ceramic cotton linen wool silk leather vintage retro
modern rustic classic soap tea coffee
"""


def shared_data(name: str) -> Path:
    """A file of the shared data folder; skips the test where the folder is not there."""
    folder = Path(os.environ.get("RECSYS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    path = folder / name
    if not path.is_file():
        pytest.skip(
            f"{name} is not in {folder}; set RECSYS_SHARED_DATA to the folder that holds it"
        )
    return path


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder of pyproject.toml."""
    return ROOT


@pytest.fixture(scope="session")
def retail_path() -> Path:
    """Online Retail II, first year, as published (parquet)."""
    return shared_data("online_retail_2009_2010.parquet")


@pytest.fixture(scope="session")
def bandit_path() -> Path:
    """The small sample of the Open Bandit Dataset (parquet)."""
    return shared_data("open_bandit_sample.parquet")


@pytest.fixture(scope="session")
def strace(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program that harms system calls; skips the test where it is not there or may not."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    log = tmp_path_factory.mktemp("strace") / "log"
    probe = subprocess.run([program, "-f", "-o", log, "true"], check=False, capture_output=True)
    if probe.returncode != 0:
        pytest.skip(f"strace may not trace here: {probe.stderr.decode().strip()}")
    return program


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A durable Redis; skips the test where the program is not there."""
    from serving.bench.redis_process import is_redis_here, redis_process  # noqa: PLC0415

    if not is_redis_here():
        pytest.skip("redis-server is not installed")
    with redis_process(tmp_path_factory.mktemp("redis")) as process:
        yield process


@pytest.fixture
def redis_url(redis_server: RedisProcess) -> str:
    """Where a durable Redis with nothing in it is."""
    import redis  # noqa: PLC0415

    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(params=["sqlite", "redis"])
def state_at(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the test's state store is, or will be: each kind of store in turn."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return str(tmp_path / "state.sqlite")


@pytest.fixture
def reopen(state_at: str) -> Iterator[Callable[[], StateStore]]:
    """Opens the test's store, each time anew; what was open before is closed."""
    from state_stores import opened  # noqa: PLC0415

    stores: list[StateStore] = []

    def open_again() -> StateStore:
        for store in stores:
            store.close()
        stores.append(opened(state_at))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder of a BERT with random weights: 6 layers, width 32, 2 heads.

    Its WordPiece vocabulary has the letters, digits and `WORDS`: any English text has tokens.
    The weights are the same in every session.
    """
    import torch  # noqa: PLC0415
    from transformers import BertConfig, BertModel, BertTokenizer  # noqa: PLC0415

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [
        *SPECIAL_TOKENS,
        *letters,
        *(f"##{one}" for one in letters),
        *"-,.&'!?/()",
        *WORDS.split(),
    ]
    vocabulary = {piece: row for row, piece in enumerate(dict.fromkeys(pieces))}
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=6,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    folder = tmp_path_factory.mktemp("tiny-bert")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab=vocabulary, model_max_length=512).save_pretrained(folder)
    return folder


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the server logs during the test."""
    from log_lines import logged  # noqa: PLC0415

    with logged() as stream:
        yield stream


@pytest.fixture(scope="session")
def trained_shop(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedShop:
    """A very small shop with a bundle trained on its events before `trained_shop.UNTIL`."""
    from trained_shop import make_trained_shop  # noqa: PLC0415

    return make_trained_shop(tmp_path_factory.mktemp("trained"), tiny_bert)
