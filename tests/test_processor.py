"""The precision of training follows the processor, and a given one does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recsys.config import CrossEncoderConfig, load_configuration, profile


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx512_vnni": True, "avx512_bf16": False, "amx_bf16": False}, "fp32"),
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({"neon": True, "bf16": True}, "bf16"),
        ({"neon": True, "bf16": False}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_training_uses_bf16_only_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert CrossEncoderConfig().precision == precision


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp32")])
def test_a_cuda_device_decides_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
    native: bool,
    precision: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: native)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": not native})
    assert CrossEncoderConfig().precision == precision


@pytest.mark.parametrize("given", ["bf16", "fp32"])
def test_a_given_precision_stays(tmp_path: Path, given: str) -> None:
    """Whatever this machine's processor would choose: a bundle's settings hold where it goes."""
    path = tmp_path / "settings.toml"
    path.write_text(f'[cross_encoder]\nprecision = "{given}"\n')
    for name in ("full", "fast"):
        assert load_configuration(path, profile(name)).cross_encoder.precision == given
