"""Where pretrained weights come from: a Python package, a folder or a hub id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, BertModel, PreTrainedTokenizerFast
from transformers.utils import logging

from recsys.errors import ModelError

PACKAGE_PREFIX: Final = "package:"


def locate(reference: str) -> str:
    """Resolve `package:NAME` to the folder in that package that holds `config.json`.

    Folders and hub ids are returned as they are.

    Raises:
        ModelError: the package is not installed or holds no model.
    """
    if not reference.startswith(PACKAGE_PREFIX):
        return reference
    name = reference.removeprefix(PACKAGE_PREFIX)
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ModelError(f"pretrained model {reference}: Python package {name} is not installed")
    folder = Path(next(iter(found.submodule_search_locations)))
    for config in sorted(folder.rglob("config.json")):
        if (config.parent / "model.safetensors").exists():
            return str(config.parent)
    raise ModelError(f"pretrained model {reference}: no config.json with weights in {folder}")


def load_bert(reference: str) -> BertModel:
    """Load a BERT without pooler, in fp32 and evaluation mode.

    Raises:
        ModelError: nothing can be loaded from there, or it is not of the BERT architecture.
    """
    place = locate(reference)
    try:
        architecture = AutoConfig.from_pretrained(place).model_type
        if architecture != "bert":
            raise ModelError(
                f"pretrained model {reference} is of type {architecture!r}; expected 'bert' "
                "(MiniLM, BGE, E5, GTE and other BERT checkpoints)"
            )
        with _quiet():
            model: BertModel = BertModel.from_pretrained(
                place, add_pooling_layer=False, use_safetensors=True
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"can't load pretrained model {reference}: {error}") from error
    model.float()
    model.eval()
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the loader's own bar and its note on the pooler, which is left out on purpose."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a tokenizer's files into a folder, which is made.

    They are the same whatever class of `transformers` it has, which depends on where it is from,
    and whatever it was last called with.

    Raises:
        OSError: the disk takes no more; `tokenizers` says so by an `Exception` of no kind.
    """
    try:
        unasked = deepcopy(tokenizer)
        unasked.backend_tokenizer.no_truncation()
        unasked.backend_tokenizer.no_padding()
        unasked.save_pretrained(folder)
        PreTrainedTokenizerFast.from_pretrained(str(folder)).save_pretrained(folder)
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise OSError(f"{folder}: {error}") from error


def load_tokenizer(reference: str) -> PreTrainedTokenizerFast:
    """Load the tokenizer that belongs to a pretrained model.

    Raises:
        ModelError: nothing can be loaded from there.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(locate(reference), use_fast=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"can't load the tokenizer of {reference}: {error}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(f"{reference} has no fast tokenizer (tokenizer.json)")
    return tokenizer
