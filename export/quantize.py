"""Weights in eight bits: block-wise, with activations rounded token by token.

Measured with a 12 M generator (validation NLL 2.54) on one core with VNNI and AMX,
step at position 900, change of NLL over 20,480 tokens::

    weights                                step    prefill of 512   NLL
    8 bits in blocks of 32                 1.11 ms      107 ms    +0.0001
    8 bits in blocks of 128                1.01 ms       80 ms    +0.0001
    8 bits in blocks of 256                1.00 ms       76 ms    +0.0005
    8 bits a channel, dynamic activations  1.10 ms       35 ms    +0.0020
    4 bits in blocks of 32                 0.90 ms      114 ms    +0.0191

Dynamic quantisation prefills faster, but it rounds all tokens of a call with one
scale, so a token's logits depend on the tokens after it; and its product
saturates on the many CPUs that have AVX2 without VNNI.

Keys and values are rounded too, with a scale for each layer that nothing exceeds. Before and after, on one
core without AMX: a step at position 1,024 1.20 and 0.63 ms, at 2,000 2.18 and 0.90 ms; 2,047 tokens of
prefill 470 and 484 ms. The change of NLL over 100 k tokens went from +0.0008 to +0.0016, and with blocks of
256, which are some 5 % faster there, to +0.0018.

Where the processor has VNNI, queries of single tokens are rounded as well (``bridge.runtime`` asks for it). Medians
of 1,200 steps in turns, twice: 0.97 and 0.79, 1.00 and 0.79 ms at 1,024; 1.10 and 1.00, 1.35 and 1.13 ms at 2,000; no
difference at 128. NLL +0.0018 and +0.0019.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BLOCK = 256
FEW = 16
"""Tokens up to which attention over rounded keys and values is the faster; it takes one at a time."""
_ZERO_POINT = 128


def blockwise(
    weight_NK: npt.NDArray[np.float32], block: int = BLOCK
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Round each run of ``block`` weights along K to 8 bits with a scale of its own.

    The layout is that of ``com.microsoft.MatMulNBits``; the last block is
    padded with zeros where K is no multiple of ``block``.

    Returns:
        The rounded weights, shape (N, blocks, block), with 128 meaning zero, and
        their scales, shape (N, blocks). ``(rounded - 128) * scale`` is within half
        a scale of the weight.
    """
    N, K = weight_NK.shape
    padded = np.pad(weight_NK, ((0, 0), (0, -K % block))).reshape(N, -1, block)
    scale = np.abs(padded).max(axis=2, keepdims=True) / 127
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    rounded = np.rint(padded / scale) + _ZERO_POINT
    return rounded.astype(np.uint8), scale[:, :, 0]


def restored(rounded: npt.NDArray[np.uint8], scales: npt.NDArray[np.float32], width: int) -> npt.NDArray[np.float32]:
    """Return the weights, shape (N, ``width``), that :func:`blockwise` rounded to these."""
    N, blocks, _ = rounded.shape
    weight: npt.NDArray[np.float32] = (rounded.astype(np.float32) - _ZERO_POINT) * scales.reshape(N, blocks, 1)
    return weight.reshape(N, -1)[:, :width]
