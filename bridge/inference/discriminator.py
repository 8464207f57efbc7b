"""The discriminator, with ONNX Runtime: how real is a continuation?

The graph is described in ``musebridge.export.discriminator``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from musebridge.artifact import DiscriminatorInfo
from musebridge.bridge.inference.runtime import REPAIR_HINT, open_model
from musebridge.errors import EngineError, ModelError, one_line

Tokens = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]


class OnnxDiscriminator:
    """An exported discriminator; for one thread at a time.

    Args:
        path: the exported model.
        threads: threads that compute.
        provider: ``cpu`` or ``cuda``.

    Raises:
        ModelError: the file is missing, damaged, no MuseBridge discriminator or of another
            vocabulary, or the installed onnxruntime cannot run it on ``provider``.
    """

    info: DiscriminatorInfo
    """What the model says about itself."""

    def __init__(self, path: Path, *, threads: int = 1, provider: str = "cpu") -> None:
        self._session = open_model(path, threads, provider)
        self.info = DiscriminatorInfo.from_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))
        length = self.info.seed_length + self.info.continuation_length
        try:
            self.judge(np.zeros((1, length), np.int64), self.info.seed_length)
        except EngineError as error:
            raise ModelError(f"{path}: does not run: {error}") from error

    def judge(self, window_BT: Tokens, seed_length: int) -> Scores:
        """Return how real the continuations of some windows are, (B,): logits, the higher the more real.

        Args:
            window_BT: seeds and what follows them.
            seed_length: tokens of each that are the seed's; at least one, and less than T.

        Raises:
            EngineError: inference failed.
        """
        inputs = {"tokens": window_BT, "seeded": np.array(seed_length, np.int64)}
        try:
            scores_B: Scores = self._session.run(["verdict"], inputs)[0]
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            raise EngineError(f"the discriminator failed ({one_line(error)}); {REPAIR_HINT}") from error
        if not np.isfinite(scores_B).all():
            raise EngineError(f"the discriminator's verdicts are not finite; {REPAIR_HINT}")
        return scores_B
