"""ONNX Runtime as engine and discriminator need it: a model opened, or refused in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnxruntime as ort

from musebridge.errors import ModelError, one_line

REPAIR_HINT = "the model may be damaged: export it again"
_PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
_NO_GRAPH = "No graph was found", "does not have a graph"
_FATAL_ONLY = 4  # errors come as exceptions; they need not be printed as well


def open_model(path: Path, threads: int, provider: str, **sizes: int) -> Any:
    """Return an ``onnxruntime.InferenceSession``.

    Args:
        path: the exported model.
        threads: threads that compute.
        provider: ``cpu`` or ``cuda``.
        sizes: of the graph's dimensions, for a session that is of these alone.

    Raises:
        ModelError: the file is missing or damaged, or the installed onnxruntime cannot run it on ``provider``.
    """
    if provider not in _PROVIDERS:
        raise ModelError(f"provider must be one of {', '.join(_PROVIDERS)}, found {provider!r}")
    absent = ModelError(
        f"onnxruntime {ort.__version__} has no {provider} provider here; use the cpu provider, "
        "or put onnxruntime-gpu in onnxruntime's place, and install NVIDIA's driver"
    )
    if _PROVIDERS[provider][0] not in ort.get_available_providers():
        raise absent
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file; make a model with 'musebridge export'")
    # Tiled attention pays for long inputs; for single tokens the plain kind is faster
    # (1.07 instead of 1.30 ms a step at position 900, 12 M parameters in int8).
    os.environ.setdefault("ORT_GQA_DISABLE_FLASH_ATTENTION", "1")
    # Queries in eight bits, as their keys are, where the processor has VNNI; see musebridge.export.quantize.
    os.environ.setdefault("ORT_MLAS_QKGEMM_S8_APPROX_VNNI", "1")
    try:
        session = ort.InferenceSession(path, _options(threads, sizes), _PROVIDERS[provider])
    except Exception as error:  # of no common class
        raise ModelError(_why_not(path, error)) from error
    if session.get_providers()[0] != _PROVIDERS[provider][0]:  # without a driver it falls back in silence
        raise absent
    return session


def _options(threads: int, sizes: dict[str, int]) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    # Several threads wait for each other by spinning, but only while a step runs:
    # between steps the cores belong to the MIDI sender.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    for name, size in sizes.items():
        options.add_free_dimension_override_by_name(name, size)
    return options


def _why_not(path: Path, error: Exception) -> str:
    if type(error).__name__ == "InvalidProtobuf" or any(m in str(error) for m in _NO_GRAPH):
        return f"{path}: is not an ONNX file, or is cut short; copy it again or make one with 'musebridge export'"
    return (
        f"{path}: onnxruntime {ort.__version__} cannot load it ({one_line(error)}); "
        "update onnxruntime, or export the model again"
    )
