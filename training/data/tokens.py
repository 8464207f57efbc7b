"""Arrays of tokens, as they lie on disk and as they are computed with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]
PackedTokens = npt.NDArray[np.uint16]
"""Of a corpus or of kept samples."""
AnyTokens = Tokens | PackedTokens
