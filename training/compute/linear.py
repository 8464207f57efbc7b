"""Products of a few rows with matrices that stay as they are, as in sampling.

Given a matrix as it is, the processor's library reorders it each time, which for a few rows takes as long as the
product. So it is reordered once. What comes of that is opaque to torch's compiler; it sees an operator that takes
the matrix as it was.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from musebridge.training.compute.precision import multiplies_with_onednn, product_type

_ROWS = 16
"""For how many the order is chosen; that it be right for fewer matters most."""
_PACKED: MutableMapping[Tensor, Tensor] = WeakTensorKeyDictionary()


def packed(weight_NK: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a copy of a matrix in the type of the products, reordered where the processor has a use for that."""
    weight_NK = weight_NK.detach().to(dtype, copy=True)
    if multiplies_with_onednn(weight_NK.device) and dtype == product_type(weight_NK.device):
        _PACKED[weight_NK] = torch.ops.mkldnn._reorder_linear_weight(weight_NK, _ROWS)
    return weight_NK


def product(x: Tensor, weight_NK: Tensor) -> Tensor:
    """Return x W^T, (..., N), of rows (..., K) and a matrix that is perhaps packed, in the matrix's type."""
    x = x.to(weight_NK.dtype)
    if torch.compiler.is_compiling() and x.numel() == x.shape[-1]:
        # For one row the compiler's own loop is as fast as the library's, and there is nothing to call.
        wide = torch.promote_types(x.dtype, torch.float32)
        y_N = (x.flatten().to(wide) * weight_NK.to(wide)).sum(-1)
        return y_N.to(weight_NK.dtype).view(*x.shape[:-1], -1)
    y: Tensor = torch.ops.musebridge.product(x, weight_NK)
    return y


def _product(x: Tensor, weight_NK: Tensor) -> Tensor:
    reordered = _PACKED.get(weight_NK)
    if reordered is None:
        return F.linear(x, weight_NK)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, reordered, None, "none", [], "")
    return y


def _shape(x: Tensor, weight_NK: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(weight_NK))


torch.library.define("musebridge::product", "(Tensor x, Tensor weight_NK) -> Tensor")
torch.library.impl("musebridge::product", "default", _product)
torch.library.register_fake("musebridge::product", _shape)
