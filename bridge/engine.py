"""The transformer step, with ONNX Runtime.

All buffers are allocated once, and twice: for the stream in use, and for the one
that will follow it. Keys and values are input and output of the
graph at the same address, so a call moves only tokens in and logits out, and
going back to an earlier position is setting a number. The graph is described in
``musebridge.export.graph``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from musebridge import vocab
from musebridge.artifact import ModelInfo
from musebridge.bridge.sampling import Logits
from musebridge.errors import EngineError, ModelError

_PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
_TYPES: dict[str, type[np.generic]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_MEND = "the model may be damaged: export it again"
_CHUNK = 256
"""Attention of a call is computed for all its pairs of tokens, also the later ones that causality
hides: 2,048 tokens take 521 ms in one call and 358 ms in these (12 M parameters in int8)."""
_FATAL_ONLY = 4  # errors come as exceptions; they need not be printed as well


class OnnxEngine:
    """An exported generator and what it has read; for one thread at a time.

    Args:
        path: the exported model.
        threads: threads that compute. One leaves the MIDI sender in peace.
        provider: ``cpu`` or ``cuda``.

    Raises:
        ModelError: the file is missing, damaged, no MuseBridge model or of another
            vocabulary, or the installed onnxruntime cannot run it on ``provider``.
    """

    info: ModelInfo
    """What the model says about itself."""
    capacity: int
    """Positions that fit."""
    length: int
    """Positions filled."""

    def __init__(self, path: Path, *, threads: int = 1, provider: str = "cpu") -> None:
        self._session = _open(path, threads, provider)
        self.info = ModelInfo.from_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))
        self.capacity, self.length = self.info.context, 0
        self._device = provider
        self._last_B = np.zeros(1, np.int32)
        self._total = np.zeros((), np.int32)
        self._token_BT = np.zeros((1, 1), np.int64)
        try:
            self._other = self._cache()
            self._buffers, self._one, self.length = self._cache()
            self.step(vocab.BEGIN)  # the first call is slow: not while someone plays
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            raise ModelError(f"{path}: does not run: {_one_line(error)}") from error
        self.rollback(0)

    @property
    def provider(self) -> str:
        """ONNX Runtime's name of what computes."""
        name: str = self._session.get_providers()[0]
        return name

    def step(self, token: int) -> Logits:
        """Read one token; return the logits after it, shape (V,), as :meth:`prefill` does."""
        if not 0 <= token < vocab.N_TOKENS:
            raise ValueError(f"token must be in 0..{vocab.N_TOKENS - 1}, found {token}")
        if self.length == self.capacity:
            raise ValueError(f"at most {self.capacity} positions fit the context, found {self.length + 1}")
        self._token_BT[0, 0] = token
        logits_V: Logits = self._run(self._one)[0]
        return logits_V

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Read tokens; return the logits after the last, shape (V,).

        The array is the caller's to change until the next call, which overwrites it.
        How tokens are cut into calls changes logits by rounding only, which in int8 is
        its quantisation noise; the same calls always give the same bits.

        Raises:
            ValueError: there is no token, one is outside the vocabulary, or they
                do not fit behind ``length``.
            EngineError: inference failed; nothing was read.
        """
        tokens_T, start = self._fitting(tokens), self.length
        try:
            for first in range(0, len(tokens_T), _CHUNK):
                chunk_T = tokens_T[first : first + _CHUNK]
                wanted_N = np.array([len(chunk_T) - 1])
                logits_NV = self._run(_Call(self, self._buffers, chunk_T[None], wanted_N))
        except EngineError:
            self.length = start
            raise
        logits_V: Logits = logits_NV[0]
        return logits_V

    def score(self, tokens: Sequence[int]) -> Logits:
        """Read tokens as :meth:`prefill` does; return the logits after each, shape (T, V)."""
        tokens_T = self._fitting(tokens)
        return self._run(_Call(self, self._buffers, tokens_T[None], np.arange(len(tokens_T))))

    def swap(self) -> None:
        """Exchange the two caches; every other method is about the one in use."""
        mine = self._buffers, self._one, self.length
        (self._buffers, self._one, self.length), self._other = self._other, mine

    def rollback(self, length: int) -> None:
        """Forget every position from ``length`` on; 0 forgets all.

        Raises:
            ValueError: ``length`` is not in 0 ... ``self.length``.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"length must be in 0..{self.length}, found {length}")
        self.length = length

    def _fitting(self, tokens: Sequence[int]) -> npt.NDArray[np.int64]:
        """Return tokens that can be read now, or refuse them."""
        tokens_T = np.array(tokens, np.int64)
        if not tokens_T.size or tokens_T.min() < 0 or tokens_T.max() >= vocab.N_TOKENS:
            raise ValueError(f"tokens must be at least one, each in 0..{vocab.N_TOKENS - 1}, found {list(tokens)[:8]}")
        if self.length + len(tokens_T) > self.capacity:
            raise ValueError(f"at most {self.capacity} positions fit the context, found {self.length + len(tokens_T)}")
        return tokens_T

    def _run(self, call: _Call) -> Logits:
        """Run one call; return its logits, shape (N, V)."""
        end = self.length + call.n_tokens
        self._last_B[0] = end - 1
        self._total[()] = end
        try:
            if self._device != "cpu":
                call.feed()
            self._session.run_with_iobinding(call.binding)
        except Exception as error:  # of no common class
            raise EngineError(f"inference failed at position {end - 1} ({_one_line(error)}); {_MEND}") from error
        if not np.isfinite(call.logits_NV).all():
            raise EngineError(f"the logits at position {end - 1} are not finite; {_MEND}")
        self.length = end
        return call.logits_NV

    def _cache(self) -> tuple[dict[str, Any], _Call, int]:
        """Return K/V buffers, the call that reads one token into them, and how many positions are filled."""
        buffers = self._allocate()
        return buffers, _Call(self, buffers, self._token_BT, np.zeros(1, np.int64)), 0

    def _allocate(self) -> dict[str, Any]:
        """Return the K/V buffers, one value for each of the graph's names."""
        shape = (1, self.info.n_kv_heads, self.info.context, self.info.d_head)
        types = {i.name: _TYPES[i.type] for i in self._session.get_inputs() if i.type in _TYPES}
        names = [f"{kind}{layer}" for layer in range(self.info.n_layers) for kind in "kv"]
        if absent := set(names) - set(types):
            raise EngineError(f"the graph has no buffer {min(absent)}; {_MEND}")
        return {name: ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, types[name]), self._device) for name in names}


class _Call:
    """One shape of call, with its memory bound: (1, T) tokens in, (1, N, V) logits out."""

    def __init__(
        self,
        engine: OnnxEngine,
        buffers: dict[str, Any],
        tokens_BT: npt.NDArray[np.int64],
        wanted_N: npt.NDArray[np.int64],
    ) -> None:
        self.n_tokens = tokens_BT.shape[1]
        self.logits_NV: Logits = np.zeros((len(wanted_N), vocab.N_TOKENS), np.float32)
        inputs = {"tokens": tokens_BT, "wanted": wanted_N, "last": engine._last_B, "total": engine._total}
        self._inputs = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in inputs.items()}
        self.binding = engine._session.io_binding()
        self.binding.bind_ortvalue_output("logits", ort.OrtValue.ortvalue_from_numpy(self.logits_NV[None]))
        for name, value in buffers.items():
            self.binding.bind_ortvalue_input(name, value)
            self.binding.bind_ortvalue_output(f"{name}_out", value)
        self.feed()

    def feed(self) -> None:
        """Bind the inputs: once where the device reads this memory, else before each run, which copies them."""
        for name, value in self._inputs.items():
            self.binding.bind_ortvalue_input(name, value)


def _open(path: Path, threads: int, provider: str) -> Any:
    if provider not in _PROVIDERS:
        raise ModelError(f"provider must be one of {', '.join(_PROVIDERS)}, found {provider!r}")
    absent = ModelError(
        f"onnxruntime {ort.__version__} has no {provider} provider here; use the cpu provider, "
        "or install 'musebridge[gpu]' and NVIDIA's driver"
    )
    if _PROVIDERS[provider][0] not in ort.get_available_providers():
        raise absent
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file; make a model with 'musebridge export'")
    # Tiled attention pays for long inputs; for single tokens the plain kind is faster
    # (1.07 instead of 1.30 ms a step at position 900, 12 M parameters in int8).
    os.environ.setdefault("ORT_GQA_DISABLE_FLASH_ATTENTION", "1")
    try:
        session = ort.InferenceSession(path, _options(threads), _PROVIDERS[provider])
    except Exception as error:  # of no common class
        raise ModelError(_why_not(path, error)) from error
    if session.get_providers()[0] != _PROVIDERS[provider][0]:  # without a driver it falls back in silence
        raise absent
    return session


def _options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    # Several threads wait for each other by spinning, but only while a step runs:
    # between steps the cores belong to the MIDI sender.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _why_not(path: Path, error: Exception) -> str:
    if type(error).__name__ == "InvalidProtobuf" or "No graph was found" in str(error):
        return f"{path}: is not an ONNX file, or is cut short; copy it again or make one with 'musebridge export'"
    return (
        f"{path}: onnxruntime {ort.__version__} cannot load it ({_one_line(error)}); "
        "update onnxruntime, or export the model again"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
