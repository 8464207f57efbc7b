"""A trained band to one ONNX file, which the bridge plays without torch.

Weights are kept in half precision and computed with in single: the graph casts them, which ONNX Runtime
does once, when it loads.
"""

from __future__ import annotations

import json
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from musebridge.band.families import BASS, PIANO
from musebridge.band.layout import PITCHES, STEPS
from musebridge.errors import ModelError
from musebridge.files import replacing
from musebridge.training.band.musegan import MuseGan
from musebridge.training.band.network import BandNetwork
from musebridge.training.band.registry import load

TOLERANCE = {"fp32": 1e-4, "fp16": 0.05}
"""By how much a logit of the file may differ from torch's."""
_SMALL = 1024
"""Weights of fewer numbers stay as they are."""


class _Playing(nn.Module):
    """A player with its outputs in a row: logits and velocities of each family."""

    def __init__(self, player: nn.Module) -> None:
        super().__init__()
        self.player = player

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return them."""
        return tuple(x for pair in self.player(*inputs).values() for x in pair)


def export(checkpoint: Path, out: Path, *, precision: str = "fp16") -> dict[str, str]:
    """Write a band or MuseGAN as ONNX, compare it with torch, and return its metadata.

    Raises:
        CheckpointError: it cannot be read.
        ModelError: it is a system that plays no band, or the file differs from it; nothing is written.
    """
    player, table, record = load(checkpoint)
    if not isinstance(player, BandNetwork | MuseGan):
        raise ModelError(
            f"{checkpoint}: a {table['system']['kind']} writes the player's part; only bands are exported here"
        )
    inputs = {"condition": torch.zeros(1, 3, STEPS, len(PITCHES[PIANO]))}
    if isinstance(player, MuseGan):
        inputs["noise"] = torch.zeros(1, player.config.noise)
    with torch.no_grad():
        families = list(player(*inputs.values()))
    model = _graph(player, inputs, [name for f in families for name in (f, f"{f}_velocity")])
    if precision == "fp16":
        _halve(model)
    metadata = _metadata(player, families, table, record, precision)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    data = model.SerializeToString()
    check(player, data, inputs, TOLERANCE[precision])
    with replacing(out, ModelError) as partial:
        partial.write_bytes(data)
    return metadata


def _graph(player: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> onnx.ModelProto:
    buffer, fast = BytesIO(), torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # a fused layer has no ONNX form
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter that needs no further package is called the old one
            torch.onnx.export(
                _Playing(player).eval(), tuple(inputs.values()), buffer, dynamo=False,  # type: ignore[arg-type]  # it will do
                input_names=list(inputs), output_names=outputs,
            )  # fmt: skip
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return onnx.load_from_string(buffer.getvalue())


def _halve(model: onnx.ModelProto) -> None:
    """Keep large weights as float16, cast where they are used."""
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < _SMALL:
            continue
        name, array = weight.name, numpy_helper.to_array(weight)
        weight.CopyFrom(numpy_helper.from_array(array.astype(np.float16), name + ".half"))
        casts.append(helper.make_node("Cast", [name + ".half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def check(player: nn.Module, data: bytes, inputs: dict[str, Tensor], tolerance: float) -> float:
    """Return by how much outputs differ at most, for a player's part and noise drawn at random.

    Raises:
        ModelError: by more than the tolerance.
    """
    generator = torch.Generator().manual_seed(0)
    fed = {name: torch.randn(x.shape, generator=generator) for name, x in inputs.items()}
    fed["condition"] = (fed["condition"] > 1.5).float()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    used = {i.name for i in session.get_inputs()}
    found = session.run(None, {name: x.numpy() for name, x in fed.items() if name in used})
    with torch.no_grad():
        right = _Playing(player).eval()(*fed.values())
    far = max(float(np.abs(a - b.numpy()).max()) for a, b in zip(found, right, strict=True))
    if not far <= tolerance:
        raise ModelError(f"the exported graph is off by {far:.3g}, allowed is {tolerance:g}; nothing was written")
    return far


def _metadata(
    player: BandNetwork | MuseGan, families: list[str], table: dict[str, Any], record: dict[str, Any], precision: str
) -> dict[str, str]:
    is_gan = isinstance(player, MuseGan)
    heard = not isinstance(player, MuseGan) or player.config.conditional
    fields = {
        "families": families,
        "pitches": {f: list(PITCHES[f]) for f in families},
        "condition_family": PIANO,
        "condition_pitches": list(PITCHES[PIANO]) if heard else [],
        "noise": player.config.noise if isinstance(player, MuseGan) else 0,
        "steps": STEPS,
        "steps_per_beat": 12,
        "sampling": "argmax" if is_gan else "sample",
        "monophonic": [] if is_gan else [BASS],
        "parameters": sum(weight.numel() for weight in player.parameters()),
        "record": {**record, "config": table},
        "validation_nll": record.get("validation_nll"),
    }
    texts = {
        "kind": "band",
        "precision": precision,
        "corpus": ", ".join(table["data"]["sources"]),
        "licence": "see presets/ATTRIBUTION.md",
    }
    return {f"musebridge.{key}": json.dumps(value) for key, value in fields.items()} | {
        f"musebridge.{key}": text for key, text in texts.items()
    }
