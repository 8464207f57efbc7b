"""A band that always plays one pattern: an ONNX file of constants, so what it plays is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from musebridge.band.layout import PITCHES, STEPS

SURE = 20.0


def write(path: Path, onsets: Mapping[str, list[tuple[int, int, int]]], **told: object) -> Path:
    """Write a band whose families strike (step, pitch, length) of each four bars, at velocity bin 20 of 31."""
    nodes, outputs = [], []
    for family, notes in onsets.items():
        logits = np.zeros((1, 3, STEPS, len(PITCHES[family])), np.float32)
        logits[:, 0] = SURE
        for step, pitch, length in notes:
            row = PITCHES[family].index(pitch)
            logits[0, :, step, row] = (0, SURE, 0)
            logits[0, :, step + 1 : step + length, row] = np.array([[0], [0], [SURE]])
        loud = np.full((1, STEPS), 20 / 31, np.float32)
        for name, value in ((family, logits), (f"{family}_velocity", loud)):
            nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value)))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
    heard = helper.make_tensor_value_info("condition", TensorProto.FLOAT, (1, 3, STEPS, len(PITCHES["piano"])))
    model = helper.make_model(
        helper.make_graph(nodes, "pattern", [heard], outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    fields = {
        "families": list(onsets),
        "pitches": {family: list(PITCHES[family]) for family in onsets},
        "condition_pitches": list(PITCHES["piano"]),
        **{"noise": 0, "steps": STEPS, "steps_per_beat": 12, "sampling": "argmax", "monophonic": ["bass"]},
        **told,
    }
    for key, value in fields.items():
        model.metadata_props.add(key=f"musebridge.{key}", value=json.dumps(value))
    model.metadata_props.add(key="musebridge.kind", value="band")
    onnx.save(model, path)
    return path
