"""Where tensors are computed: the CPU, or a CUDA device where there is one."""

from __future__ import annotations

from typing import Literal

import torch

from recsys.errors import ModelError

Device = Literal["cpu", "cuda"]


def usable_device(wanted: Literal["auto", "cpu", "cuda"]) -> Device:
    """The device that a setting means on this machine; `auto` is CUDA where there is one.

    Raises:
        ModelError: CUDA is wanted, and PyTorch finds none.
    """
    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise ModelError(
            f"device is set to cuda, but PyTorch {torch.__version__} finds no CUDA device; install "
            'a CUDA build of PyTorch and its driver, or set device = "auto" or "cpu"'
        )
    return "cpu"
