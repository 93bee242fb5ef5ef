"""What this machine's processor is good at."""

from __future__ import annotations

from typing import Final, Literal

_MULTIPLIES_BF16: Final = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""Capabilities by PyTorch's names: x86's two, then ARM's."""


def native_precision() -> Literal["bf16", "fp32"]:
    """`bf16` where the processor, or the CUDA device if there is one, multiplies it; else `fp32`.

    PyTorch computes in bf16 anywhere, but where the processor only knows fp32 every product is a
    conversion more, and takes several times as long as in fp32.
    """
    import torch  # noqa: PLC0415  (slow to import; most commands ask for no settings)

    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        native = any(capabilities.get(name, False) for name in _MULTIPLIES_BF16)
    return "bf16" if native else "fp32"
