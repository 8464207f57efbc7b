"""What numbers matrix products are of: bfloat16 where the device multiplies it, float32 where it would be imitated.

A processor without instructions for bfloat16 converts every number before and after, and is several times slower so.
"""

from __future__ import annotations

import torch


def product_type(device: torch.device) -> torch.dtype:
    """Return the type that products are fastest in, where their rounding does not matter much."""
    has_bfloat16 = (
        torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _processor_has_bfloat16()
    )
    return torch.bfloat16 if has_bfloat16 else torch.float32


def autocast(device: torch.device) -> torch.autocast:
    """Return a context in which matrix products are of that type; norms, sums and losses stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=product_type(device) == torch.bfloat16)


def multiplies_with_onednn(device: torch.device) -> bool:
    """Return whether products on this device are oneDNN's, which may be absent from a build of torch."""
    return device.type == "cpu" and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _processor_has_bfloat16() -> bool:
    # oneDNN says yes of every AVX-512, and imitates it where there is no more than that.
    if torch.cpu._is_avx512_supported() and not torch.cpu._is_avx512_bf16_supported():
        return False
    return multiplies_with_onednn(torch.device("cpu")) and torch.ops.mkldnn._is_mkldnn_bf16_supported()
