"""The transformer step, with ONNX Runtime.

All buffers are allocated once, and twice: for the stream in use, and for the one
that will follow it. Keys and values are input and output of the
graph at the same address, so a call moves only tokens in and logits out, and
going back to an earlier position is setting a number. The graph is described in
``musebridge.export.graph``.

Array names end in their shape: B streams, T time, N wanted positions, V tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from musebridge import vocab
from musebridge.artifact import ModelInfo
from musebridge.bridge.core.sampling import Logits
from musebridge.bridge.inference.huge_pages import large_pages
from musebridge.bridge.inference.runtime import REPAIR_HINT, open_model
from musebridge.errors import EngineError, ModelError, one_line

_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
}
_CHUNK = 256
"""Attention of a call is computed for all its pairs of tokens, also the later ones that causality
hides: 2,048 tokens take 521 ms in one call and 358 ms in these (12 M parameters in int8)."""
_A_STEP = {"B": 1, "T": 1, "N": 1}
"""The graph's sizes in a step of one stream. A session that knows them leaves the branch for many tokens away, and is
faster by 3 % (1.08 after 1.12 ms at 1,024, 15 M parameters in int8)."""


class OnnxEngine:
    """An exported generator and what it has read; for one thread at a time.

    Args:
        path: the exported model.
        threads: threads that compute. One leaves the MIDI sender in peace.
        provider: ``cpu`` or ``cuda``.

    Raises:
        ModelError: the file is missing, damaged, no MuseBridge generator or of another
            vocabulary, or the installed onnxruntime cannot run it on ``provider``.
    """

    info: ModelInfo
    """What the model says about itself."""
    capacity: int
    """Positions that fit."""

    def __init__(self, path: Path, *, threads: int = 1, provider: str = "cpu") -> None:
        with large_pages():
            self._session, self._device = open_model(path, threads, provider), provider
            self._stepping = open_model(path, threads, provider, **_A_STEP)
            self.info = ModelInfo.from_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))
            self.capacity = self.info.context
            try:
                self._mine, self._other = self._streams(1), self._streams(1)
                self._mine.step([vocab.BEGIN])  # the first call is slow: not while someone plays
            except Exception as error:  # onnxruntime's exceptions have no base class of their own
                raise ModelError(f"{path}: does not run: {one_line(error)}") from error
        self._forked: Streams | None = None
        self.rollback(0)

    @property
    def provider(self) -> str:
        """ONNX Runtime's name of what computes."""
        name: str = self._session.get_providers()[0]
        return name

    @property
    def length(self) -> int:
        """Positions filled."""
        return self._mine.length

    def step(self, token: int) -> Logits:
        """Read one token; return the logits after it, shape (V,), as :meth:`prefill` does."""
        logits_V: Logits = self._mine.step([token])[0]
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
                logits_BNV = self._mine.run(_Call(self._session, self._mine, chunk_T[None], wanted_N))
        except EngineError:
            self._mine.length = start
            raise
        logits_V: Logits = logits_BNV[0, 0]
        return logits_V

    def score(self, tokens: Sequence[int]) -> Logits:
        """Read tokens as :meth:`prefill` does; return the logits after each, shape (T, V)."""
        tokens_T = self._fitting(tokens)
        call = _Call(self._session, self._mine, tokens_T[None], np.arange(len(tokens_T)))
        logits_TV: Logits = self._mine.run(call)[0]
        return logits_TV

    def swap(self) -> None:
        """Exchange the two caches; every other method is about the one in use."""
        self._mine, self._other = self._other, self._mine

    def fork(self, count: int) -> Streams:
        """Return so many streams that go on from what was read; those of an earlier fork end."""
        if self._forked is None or self._forked.count != count:
            self._forked = self._streams(count)
        self._forked.follow(self._mine)
        return self._forked

    def rollback(self, length: int) -> None:
        """Forget every position from ``length`` on; 0 forgets all.

        Raises:
            ValueError: ``length`` is not in 0 ... ``self.length``.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"length must be in 0..{self.length}, found {length}")
        self._mine.length = length

    def _fitting(self, tokens: Sequence[int]) -> npt.NDArray[np.int64]:
        """Return tokens that can be read now, or refuse them."""
        tokens_T = np.array(tokens, np.int64)
        if not tokens_T.size or tokens_T.min() < 0 or tokens_T.max() >= vocab.N_TOKENS:
            raise ValueError(f"tokens must be at least one, each in 0..{vocab.N_TOKENS - 1}, found {list(tokens)[:8]}")
        if self.length + len(tokens_T) > self.capacity:
            raise ValueError(f"at most {self.capacity} positions fit the context, found {self.length + len(tokens_T)}")
        return tokens_T

    def _streams(self, count: int) -> Streams:
        return Streams(self._stepping if count == 1 else self._session, self.info, self._device, count)


class Streams:
    """B streams of one length, which a step makes longer by a token each; made by :meth:`OnnxEngine.fork`."""

    length: int
    """Positions filled."""

    def __init__(self, session: Any, info: ModelInfo, device: str, count: int) -> None:
        self.count, self.length = count, 0
        self._device, self._capacity = device, info.context
        self.last_B, self.total = np.zeros(count, np.int32), np.zeros((), np.int32)
        self.buffers = self._allocate(info, session.get_inputs())
        token_BT = np.zeros((count, 1), np.int64)
        self._one = _Call(session, self, token_BT, np.zeros(1, np.int64))
        self._after_BV: Logits = self._one.logits_BNV[:, 0]
        # A step sweeps the processor's caches, so Python behind it runs cold, and numpy's most: with assignments to
        # arrays, and isfinite of all logits, it took 0.07 of 1.1 ms more at 1,024.
        self._token, self._last, self._filled = token_BT.data, self.last_B.data, self.total.data

    def step(self, tokens: Sequence[int]) -> Logits:
        """Read one token of each stream; return the logits after them, shape (B, V), until the next call.

        Raises:
            ValueError: a token is outside the vocabulary, or does not fit.
            EngineError: inference failed; nothing was read.
        """
        for i, token in enumerate(tokens):
            if not 0 <= token < vocab.N_TOKENS:
                raise ValueError(f"token must be in 0..{vocab.N_TOKENS - 1}, found {token}")
            self._token[i, 0] = token
        if self.length == self._capacity:
            raise ValueError(f"at most {self._capacity} positions fit the context, found {self.length + 1}")
        self.run(self._one)
        return self._after_BV

    def follow(self, other: Streams) -> None:
        """Forget everything, and go on from where a single stream is."""
        for name, value in self.buffers.items():
            value.update_inplace(np.repeat(other.buffers[name].numpy(), self.count, 0))
        self.length = other.length

    def run(self, call: _Call) -> Logits:
        """Run one call; return its logits, shape (B, N, V)."""
        end = self.length + call.n_tokens
        for i in range(self.count):
            self._last[i] = end - 1
        self._filled[()] = end
        try:
            if self._device != "cpu":
                call.feed()
            call.session.run_with_iobinding(call.binding)
        except Exception as error:  # of no common class
            raise EngineError(f"inference failed at position {end - 1} ({one_line(error)}); {REPAIR_HINT}") from error
        if not math.isfinite(sum(call.values)):
            raise EngineError(f"the logits at position {end - 1} are not finite; {REPAIR_HINT}")
        self.length = end
        return call.logits_BNV

    def _allocate(self, info: ModelInfo, inputs: list[Any]) -> dict[str, Any]:
        """Return the K/V buffers, one value for each of the graph's names."""
        shape = (self.count, info.n_kv_heads, info.context, info.d_head)
        types = {i.name: _TYPES[i.type] for i in inputs if i.type in _TYPES}
        names = [f"{kind}{layer}" for layer in range(info.n_layers) for kind in "kv"]
        if absent := set(names) - set(types):
            raise EngineError(f"the graph has no buffer {min(absent)}; {REPAIR_HINT}")
        return {name: ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, types[name]), self._device) for name in names}


class _Call:
    """One shape of call, with its memory bound: (B, T) tokens in, (B, N, V) logits out."""

    def __init__(
        self, session: Any, streams: Streams, tokens_BT: npt.NDArray[np.int64], wanted_N: npt.NDArray[np.int64]
    ) -> None:
        self.session, self.n_tokens = session, tokens_BT.shape[1]
        self.logits_BNV: Logits = np.zeros((streams.count, len(wanted_N), vocab.N_TOKENS), np.float32)
        inputs = {"tokens": tokens_BT, "wanted": wanted_N, "last": streams.last_B, "total": streams.total}
        self._inputs = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in inputs.items()}
        self.binding = session.io_binding()
        self.binding.bind_ortvalue_output("logits", ort.OrtValue.ortvalue_from_numpy(self.logits_BNV))
        for name, value in streams.buffers.items():
            self.binding.bind_ortvalue_input(name, value)
            self.binding.bind_ortvalue_output(f"{name}_out", value)
        self.feed()
        self.values = self.logits_BNV.reshape(-1).data

    def feed(self) -> None:
        """Bind the inputs: once where the device reads this memory, else before each run, which copies them."""
        for name, value in self._inputs.items():
            self.binding.bind_ortvalue_input(name, value)
