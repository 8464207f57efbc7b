"""A band, with ONNX Runtime: four bars of every family in one call, without state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from musebridge.band.artifact import BandInfo
from musebridge.band.layout import PITCHES, STEPS
from musebridge.bridge.inference.runtime import REPAIR_HINT, open_model
from musebridge.errors import EngineError, ModelError, one_line

Floats = npt.NDArray[np.float32]


class OnnxBand:
    """An exported band; for one thread at a time.

    Args:
        path: the exported model.
        threads: threads that compute.
        provider: ``cpu`` or ``cuda``.

    Raises:
        ModelError: the file is missing, damaged, no band or of another canvas, or it does not run here.
    """

    info: BandInfo
    """What the model says about itself."""

    def __init__(self, path: Path, *, threads: int = 1, provider: str = "cpu") -> None:
        self._session = open_model(path, threads, provider)
        self.info = BandInfo.from_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))
        self._inputs = {own.name for own in self._session.get_inputs()}
        silence = np.zeros((3, STEPS, len(PITCHES["piano"])), np.float32)
        try:
            self.logits(silence, np.zeros(self.info.noise, np.float32))
        except EngineError as error:
            raise ModelError(f"{path}: does not run: {error}") from error

    def logits(self, condition: Floats, noise: Floats) -> dict[str, tuple[Floats, Floats]]:
        """Return of each family the logits of its classes, (3, S, P), and the velocity 0..1 of each step, (S,).

        Args:
            condition: :func:`musebridge.band.layout.condition` of the player's part; all zeros where nothing is known.
            noise: standard normal, as many numbers as ``info.noise``.

        Raises:
            EngineError: inference failed.
        """
        fed = {"condition": condition[None], "noise": noise[None]}
        names = [name for family in self.info.families for name in (family, f"{family}_velocity")]
        try:
            outputs = self._session.run(names, {name: value for name, value in fed.items() if name in self._inputs})
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            raise EngineError(f"the band failed ({one_line(error)}); {REPAIR_HINT}") from error
        found = dict(zip(names, (out[0] for out in outputs), strict=True))
        for family in self.info.families:
            shapes = found[family].shape, found[f"{family}_velocity"].shape
            if shapes != ((3, STEPS, len(PITCHES[family])), (STEPS,)):
                raise EngineError(f"the band's {family} are of shapes {shapes}; {REPAIR_HINT}")
        if not all(np.isfinite(out).all() for out in found.values()):
            raise EngineError(f"the band's logits are not finite; {REPAIR_HINT}")
        return {family: (found[family], found[f"{family}_velocity"]) for family in self.info.families}
