"""Tokens, vectors and pretrained weights: what becomes of a text on its way through the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from recsys.config import PACKAGED_MINILM
from recsys.errors import ModelError
from recsys.text import (
    BiEncoder,
    StateTable,
    TokenTable,
    encode_states,
    encode_vectors,
    load_bert,
    load_tokenizer,
    locate,
    save_tokenizer,
    share_weights,
)
from recsys.text.encode import batches_by_length

TEXTS = ["red mug", "", "small white ceramic cup and plate for tea", "lamp", "vintage clock 42"]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerFast:
    return load_tokenizer(str(tiny_bert))


@pytest.fixture(scope="module")
def encoder(tiny_bert: Path) -> BiEncoder:
    return BiEncoder.pretrained(str(tiny_bert), "fp32")


def reference_vectors(encoder: BiEncoder, texts: Sequence[str], size: int) -> NDArray[np.float32]:
    """Transformers' own padded forward pass, then the mean over the attention mask."""
    batch = encoder.tokenizer(
        list(texts), padding=True, truncation=True, max_length=size, return_tensors="pt"
    )
    with torch.inference_mode():
        states = encoder.bert(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    mean = (states * mask).sum(1) / mask.sum(1)
    vectors: NDArray[np.float32] = torch.nn.functional.normalize(mean, dim=-1).numpy()
    return vectors


def test_equal_weights_are_held_once_and_all_stay_what_they_were(tiny_bert: Path) -> None:
    one, other = (BiEncoder.pretrained(str(tiny_bert), "fp32").bert for _ in range(2))
    changed = "encoder.layer.1.output.dense.bias"
    with torch.no_grad():
        bias = other.get_parameter(changed)
        bias[2] = torch.nextafter(bias[2], torch.tensor(9.0))
    before = {name: weight.clone() for name, weight in other.named_parameters()}
    share_weights(one, other)
    for name, weight in other.named_parameters():
        assert torch.equal(weight, before[name])
        held_once = weight.data_ptr() == one.get_parameter(name).data_ptr()
        assert held_once == (name != changed)


def test_a_text_is_cut_to_its_budget_and_keeps_its_special_tokens(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    table = TokenTable.build(tokenizer, ["", "red mug", "red " * 50], 6)
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    rows = [table.ids[a:b].tolist() for a, b in pairwise(table.offsets.tolist())]
    red, mug = (tokenizer.convert_tokens_to_ids(word) for word in ("red", "mug"))
    assert rows == [[start, end], [start, red, mug, end], [start, red, red, red, red, end]]
    assert table.lengths.tolist() == [2, 4, 6]


def test_threads_that_cut_texts_at_different_lengths_share_a_tokenizer(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    texts = ["red " * 50] * 20

    def lengths(most: int) -> set[int]:
        tables = [TokenTable.build(tokenizer, texts, most) for _ in range(200)]
        return {int(length) for table in tables for length in table.lengths}

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lengths, (6, 9))) == [{6}, {9}]


def test_a_tokenizer_is_written_alike_wherever_it_is_from_and_whatever_it_was_asked(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer(["red mug"], truncation=True, max_length=3)
    save_tokenizer(tokenizer, tmp_path / "trained")
    again = PreTrainedTokenizerFast.from_pretrained(str(tmp_path / "trained"))
    again(["red mug", "cup"], truncation=True, max_length=4, padding=True)
    save_tokenizer(again, tmp_path / "indexed")
    for path in (tmp_path / "trained").iterdir():
        assert path.read_bytes() == (tmp_path / "indexed" / path.name).read_bytes()
    table, other = (TokenTable.build(one, ["red mug " * 9], 8) for one in (tokenizer, again))
    assert torch.equal(table.ids, other.ids)


def test_padded_tokens_come_in_the_order_asked_with_zeros_behind(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    table = TokenTable.build(tokenizer, ["red", "red mug and cup", ""], 8)
    ids, mask = table.padded(torch.tensor([2, 1, 2]))
    assert ids.shape == mask.shape == (3, 6)
    assert mask.sum(1).tolist() == [2, 6, 2]
    assert not ids[~mask].any()
    assert ids[1].tolist() == table.ids[3:9].tolist()
    nothing, nowhere = table.padded(torch.zeros(0, dtype=torch.int64))
    assert nothing.shape == nowhere.shape == (0, 0)


def test_a_table_extended_by_another_is_the_table_of_both(
    tokenizer: PreTrainedTokenizerFast, encoder: BiEncoder
) -> None:
    first = TokenTable.build(tokenizer, TEXTS[:2], 8)
    second = TokenTable.build(tokenizer, TEXTS[2:], 8)
    both = TokenTable.build(tokenizer, TEXTS, 8)
    tokens = first.extended(second)
    assert torch.equal(tokens.offsets, both.offsets)
    assert torch.equal(tokens.ids, both.ids)
    one, two, all_of_them = (
        encode_states(encoder.bert, table, layer=2, precision="fp32")
        for table in (first, second, both)
    )
    states = one.extended(two)
    assert torch.equal(states.offsets, all_of_them.offsets)
    torch.testing.assert_close(states.states, all_of_them.states, atol=2e-3, rtol=2e-3)


def test_no_texts_make_empty_tables(tokenizer: PreTrainedTokenizerFast, encoder: BiEncoder) -> None:
    table = TokenTable.build(tokenizer, [], 8)
    assert table.offsets.tolist() == [0]
    assert encode_states(encoder.bert, table, layer=2, precision="fp32").states.shape == (0, 32)
    assert encoder.embed([], max_tokens=8).shape == (0, 32)


def test_padded_states_are_the_stored_ones_with_zeros_behind() -> None:
    states = torch.arange(1.0, 11.0).view(5, 2).half()
    table = StateTable(torch.tensor([0, 1, 1, 5]), states)
    padded, mask = table.padded(torch.tensor([2, 0, 1]))
    assert mask.sum(1).tolist() == [4, 1, 0]
    assert torch.equal(padded[0], states[1:])
    assert padded[1].tolist() == [[1.0, 2.0], [0, 0], [0, 0], [0, 0]]
    assert not padded[2].any()


def test_batches_hold_every_row_once_within_the_budget() -> None:
    lengths = torch.tensor([5, 3, 9, 3, 40, 1])
    batches = list(batches_by_length(lengths, 12))
    assert [batch.tolist() for batch in batches] == [[5, 1, 3], [0], [2], [4]]


@pytest.mark.parametrize("max_tokens", [4, 32])
def test_vectors_are_the_mean_of_the_pretrained_models_states(
    encoder: BiEncoder, max_tokens: int
) -> None:
    vectors = encoder.embed(TEXTS, max_tokens=max_tokens)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors, reference_vectors(encoder, TEXTS, max_tokens), atol=1e-5)


def test_a_vector_does_not_depend_on_the_other_texts(encoder: BiEncoder) -> None:
    together = encoder.embed(TEXTS * 3, max_tokens=16)
    for row, text in enumerate(TEXTS):
        alone = encoder.embed([text], max_tokens=16)[0]
        for copy in range(3):
            np.testing.assert_allclose(together[row + copy * len(TEXTS)], alone, atol=1e-6)


def test_layers_see_few_numbers_of_rows_whatever_is_read(encoder: BiEncoder) -> None:
    seen: set[int] = set()

    def note(_: torch.nn.Module, given: tuple[torch.Tensor]) -> None:
        seen.add(given[0].shape[:-1].numel())

    dense = encoder.bert.get_submodule("encoder.layer.0.intermediate.dense")
    hook = dense.register_forward_pre_hook(note)
    try:
        for words in range(1, 14):
            for texts in (1, 2, 5, 11):
                encoder.embed(["mug " * words] * texts, max_tokens=16)
    finally:
        hook.remove()
    assert seen == {64, 128, 192}


def test_half_precision_stays_near_full_precision(tiny_bert: Path, encoder: BiEncoder) -> None:
    rough = BiEncoder.pretrained(str(tiny_bert), "bf16").embed(TEXTS, max_tokens=16)
    assert (rough * encoder.embed(TEXTS, max_tokens=16)).sum(1).min() > 0.999


def test_progress_counts_every_text_once(encoder: BiEncoder) -> None:
    seen: list[int] = []
    encoder.embed(TEXTS, max_tokens=16, advance=seen.append)
    tokens = TokenTable.build(encoder.tokenizer, TEXTS, 16)
    encode_states(encoder.bert, tokens, layer=1, precision="fp32", advance=seen.append)
    encode_vectors(encoder.bert, tokens, precision="fp32", advance=seen.append)
    assert sum(seen) == 3 * len(TEXTS)


def test_a_state_that_half_precision_cannot_hold_is_refused(tiny_bert: Path) -> None:
    encoder = BiEncoder.pretrained(str(tiny_bert), "fp32")
    encoder.bert.embeddings.LayerNorm.bias.data.fill_(1e6)
    tokens = TokenTable.build(encoder.tokenizer, TEXTS, 16)
    with pytest.raises(OverflowError, match=r"torch\.float16"):
        encode_states(encoder.bert, tokens, layer=0, precision="fp32")


def test_a_saved_model_gives_the_same_vectors(encoder: BiEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "bert.json",
        "model.safetensors",
    ]
    loaded = BiEncoder.load(tmp_path / "model", encoder.tokenizer, "fp32")
    before = encoder.embed(TEXTS, max_tokens=16)
    np.testing.assert_array_equal(before, loaded.embed(TEXTS, max_tokens=16))


def damage_nothing_there(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def damage_cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2_000])


def damage_other_shape(folder: Path) -> None:
    shape = json.loads((folder / "bert.json").read_text())
    (folder / "bert.json").write_text(json.dumps(shape | {"num_hidden_layers": 5}))


@pytest.mark.parametrize("damage", [damage_nothing_there, damage_cut_short, damage_other_shape])
def test_a_damaged_model_is_reported(
    encoder: BiEncoder, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    encoder.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelError, match="can't load the bi-encoder"):
        BiEncoder.load(tmp_path, encoder.tokenizer, "fp32")


def test_an_unknown_package_is_reported() -> None:
    with pytest.raises(ModelError, match="no_such_weights is not installed"):
        locate("package:no_such_weights")


def test_a_package_without_weights_is_reported() -> None:
    with pytest.raises(ModelError, match=r"no config\.json with weights"):
        locate("package:rich")


def test_a_folder_is_taken_as_it_is(tiny_bert: Path) -> None:
    assert locate(str(tiny_bert)) == str(tiny_bert)


def test_a_folder_without_a_model_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="can't load pretrained model"):
        load_bert(str(tmp_path))
    with pytest.raises(ModelError, match="can't load the tokenizer"):
        load_tokenizer(str(tmp_path))


def test_pretrained_weights_cut_short_are_reported(tiny_bert: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "model")
    damage_cut_short(tmp_path / "model")
    with pytest.raises(ModelError, match="can't load pretrained model"):
        load_bert(str(tmp_path / "model"))


def test_another_architecture_is_reported(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "distilbert"}))
    with pytest.raises(ModelError, match="of type 'distilbert'; expected 'bert'"):
        load_bert(str(tmp_path))


def test_the_packaged_model_gives_the_vectors_of_sentence_transformers() -> None:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    texts = ["white hanging heart t-light holder", "a mug", "set of 6 tins. garden. tea"]
    ours = BiEncoder.pretrained(PACKAGED_MINILM, "fp32").embed(texts, max_tokens=32)
    theirs = SentenceTransformer(locate(PACKAGED_MINILM), device="cpu").encode(texts)
    assert (ours * theirs).sum(1).min() >= 0.999
