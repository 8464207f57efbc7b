"""A band as ONNX says what torch says."""

import json

import onnx
import pytest
import torch

from musebridge.errors import ModelError
from musebridge.export import band
from musebridge.training.band.registry import create
from musebridge.training.models.checkpoint import save_weights

SYSTEMS = [
    {"kind": "likelihood", "width": 8, "layers": 1, "heads": 2},
    {"kind": "musegan", "wiring": "jamming", "width": 8},
    {"kind": "musegan", "wiring": "hybrid", "width": 8, "conditional": False},
]


def checkpoint(folder, system):
    torch.manual_seed(0)
    table = {"data": {"sources": ["made/"]}, "system": system}
    metadata = {"config": json.dumps(table), "record": json.dumps({"step": 0})}
    save_weights(folder / "band.safetensors", create(system, {}).player, metadata)
    return folder


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.get("wiring", system["kind"]))
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_file_plays_as_the_network_does(tmp_path, system, precision):
    metadata = band.export(checkpoint(tmp_path, system), tmp_path / "band.onnx", precision=precision)
    found = {p.key: p.value for p in onnx.load(tmp_path / "band.onnx").metadata_props}
    assert found == metadata
    assert found["musebridge.kind"] == "band"


def test_a_frame_model_is_no_band(tmp_path):
    run = checkpoint(tmp_path, {"kind": "frames", "width": 8, "layers": 1, "heads": 2})
    with pytest.raises(ModelError, match="a frames writes the player's part; only bands are exported here"):
        band.export(run, tmp_path / "band.onnx")
