"""The generator as an ONNX graph, built node by node.

One graph serves prefill and step, for any number of tokens::

    tokens   (B, T) int64     the tokens that follow what the buffers hold
    wanted   (N,)   int64     which of the T positions to return logits for
    last     (B,)   int32     index of the last filled position after this call
    total    ()     int32     positions filled after this call, last + 1
    k0, v0 … (B, K, S, P)     one pair of buffers a layer, S the whole context
    →
    logits   (B, N, V) float32
    k0_out, v0_out …          the same buffers: bind each to its input's memory

``com.microsoft.GroupQueryAttention`` writes keys and values in place where
input and output share memory, so a step moves no cache. It rotates queries and
keys itself; its norms of queries and keys run on GPUs only, so they are nodes
here. ONNX Runtime takes more than one token after a filled buffer at batch 1 only.

In int8 keys and values are rounded as well: at 1,024 tokens they are most of what a
step reads, and a step is then about twice as fast. To many tokens at once ONNX
Runtime attends slowly in this form, one by one. So there are two graphs of the same
weights under one ``If``: for few tokens over the buffers as they are, for many over
a copy in 32 bits. In the latter, the last layer attends from the wanted positions alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from musebridge import vocab
from musebridge.artifact import PRECISIONS, ModelInfo
from musebridge.errors import ModelError
from musebridge.export import parity, quantize
from musebridge.export.nodes import CONTRIB, Attend, Nodes, Transformer, key_gain, write
from musebridge.files import replacing
from musebridge.training.data import corpus as corpora
from musebridge.training.models.checkpoint import load
from musebridge.training.models.generator import Generator, count_parameters, norm


def export(
    checkpoint: Path,
    out: Path,
    *,
    precision: str,
    corpus: Path | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> ModelInfo:
    """Turn a trained generator into one ``.onnx`` file, checked before it is written.

    Args:
        checkpoint: a generator, or the run folder that holds one.
        out: the file to write; an older one stays as it is when this fails.
        precision: of the weights, one of ``artifact.PRECISIONS``.
        corpus: where given, the change of validation NLL is measured on it, which takes a minute.
        on_progress: called with the share of that which is done, 0..1.

    Returns:
        What the file says about itself.

    Raises:
        CheckpointError: the checkpoint cannot be read, or is no default generator's.
        CorpusError: the corpus cannot be read, or is shorter than the context.
        ModelError: the precision is unknown, the graph disagrees with the generator, or the file cannot be written.
    """
    generator, record = load(checkpoint)
    validation = corpora.load(corpus).splits["validation"] if corpus else None
    info = describe(generator, record, precision)
    with replacing(out, ModelError) as partial:
        model = build_graph(generator, info)
        write(model, info, partial)
        parity.check(generator, partial)
        if validation is not None:
            change = parity.nll_change(generator, partial, validation, on_progress=on_progress)
            info = replace(info, nll_change=change)
            write(model, info, partial)
    return info


def describe(generator: Generator, record: dict[str, Any], precision: str) -> ModelInfo:
    """Return what an export of ``generator`` will say about itself."""
    if precision not in PRECISIONS:
        raise ModelError(f"precision must be one of {', '.join(PRECISIONS)}, found {precision!r}")
    nll = record.get("validation_nll")
    config = generator.config
    return ModelInfo(
        context=config.context,
        n_layers=config.n_layers,
        n_kv_heads=config.n_kv_heads,
        d_head=config.d_head,
        precision=precision,
        parameters=count_parameters(generator),
        corpus=str(record.get("corpus", {}).get("name", "unknown")),
        licence=str(record.get("licence", "unknown")),
        validation_nll=nll if nll is not None and math.isfinite(nll) else None,
        record=record,
    )


def build_graph(generator: Generator, info: ModelInfo) -> Any:
    """Return the ``onnx.ModelProto`` of a generator, in the precision that ``info`` names."""
    nodes = Nodes(info.precision)
    whole = _Body(generator, nodes)
    if nodes.is_rounded:
        few, many = (_Body(generator, nodes.branch(name)) for name in ("few_", "many_"))
        few.append(few.in_place)
        many.append(many.beside)
        length = nodes.add("Shape", ["tokens"], start=1, end=2)
        is_few = nodes.add("Squeeze", [nodes.add("LessOrEqual", [length, nodes.integers("most", quantize.FEW)])])
        ways = {f"{way}_branch": body.nodes.graph(body.outputs) for way, body in (("then", few), ("else", many))}
        nodes.add("If", [is_few], *(output.name for output in whole.outputs), **ways)
    else:
        whole.append(whole.in_place)
    return nodes.model("generator", whole.inputs, whole.outputs)


class _Body:
    """The generator in a graph, or in a branch of it.

    Args:
        generator: to be appended.
        nodes: to append to.
    """

    def __init__(self, generator: Generator, nodes: Nodes) -> None:
        self.nodes, self._generator, self._config = nodes, generator, generator.config

    @property
    def inputs(self) -> list[Any]:
        """Descriptions of what the graph is given."""
        info = helper.make_tensor_value_info
        return [
            info("tokens", TensorProto.INT64, ["B", "T"]),
            info("wanted", TensorProto.INT64, ["N"]),
            info("last", TensorProto.INT32, ["B"]),
            info("total", TensorProto.INT32, []),
            *self._buffers("", ""),
        ]

    @property
    def outputs(self) -> list[Any]:
        """Descriptions of what it returns."""
        shape: list[str | int | None] = ["B", "N", vocab.N_TOKENS]
        logits = helper.make_tensor_value_info(f"{self.nodes.name}logits", TensorProto.FLOAT, shape)
        return [logits, *self._buffers(self.nodes.name, "_out")]

    def append(self, attend: Attend) -> None:
        """Append everything, with one of the two ways to attend."""
        nodes, generator = self.nodes, self._generator
        # The norm after the embedding depends on the token alone: it goes into the table.
        table = nodes.weight("embedding", norm(generator.embedding.weight))
        nodes.weight("cos", generator.cos)
        nodes.weight("sin", generator.sin)
        x_BTD = nodes.add("Gather", [table, "tokens"])
        h_BTD = Transformer(nodes, "", self._config, attend).append(x_BTD, [*generator.blocks], "wanted")
        logits = f"{nodes.name}logits"
        if nodes.type == np.float32:
            nodes.linear(h_BTD, "head", generator.head.weight, logits)
        else:
            nodes.add("Cast", [nodes.linear(h_BTD, "head", generator.head.weight)], logits, to=TensorProto.FLOAT)

    def in_place(self, q: str, k: str, v: str, name: str, wanted: str) -> str:
        """Append attention that reads the buffers and writes into them."""
        buffers = [f"{kind}{name}" for kind in "kv"]
        scales = self._scales(name) if self.nodes.is_rounded else []
        present = [f"{self.nodes.name}{buffer}_out" for buffer in buffers]
        return self.nodes.some(self._attention([q, k, v, *buffers], present, scales), wanted)

    def beside(self, q: str, k: str, v: str, name: str, wanted: str) -> str:
        """Append attention that reads a copy of the buffers in 32 bits, and adds to them what is new."""
        nodes, (none, start, end, all_) = self.nodes, self._span
        buffers, scales, axis = [f"{kind}{name}" for kind in "kv"], self._scales(name), nodes.integers("time", 2)
        before = [nodes.add("Slice", [buffer, none, start, axis]) for buffer in buffers]
        past = [nodes.add("DequantizeLinear", [*both]) for both in zip(before, scales, strict=True)]
        present = [f"{nodes.name}{buffer}" for buffer in buffers]
        inputs = [q, k, v, *past]
        y_BTD = self._of_wanted(inputs, present, wanted) if wanted else self._attention(inputs, present, [])
        for buffer, read, exact, scale in zip(buffers, before, present, scales, strict=True):
            new = nodes.add("Slice", [exact, start, end, axis])
            rounded = nodes.add("QuantizeLinear", [new, scale, nodes.constant("nought", np.int8(0))])
            after = nodes.add("Slice", [buffer, end, all_, axis])
            nodes.add("Concat", [read, rounded, after], f"{nodes.name}{buffer}_out", axis=2)
        return y_BTD

    def _of_wanted(self, inputs: list[str], present: list[str], wanted: str) -> str:
        """Append attention for the wanted positions alone, which ``GroupQueryAttention`` has no form for."""
        nodes, (none, start, end, _), c = self.nodes, self._span, self._config
        q, k, v, *past = inputs
        q, k = (nodes.add("RotaryEmbedding", [x, start, "cos", "sin"], domain=CONTRIB) for x in (q, k))
        at_N1 = nodes.add("Unsqueeze", [nodes.add("Add", [wanted, start]), nodes.integers("one", 1)])
        filled_S = nodes.add("Slice", [nodes.integers("positions", *range(c.context)), none, end])
        seen_NS = nodes.add("LessOrEqual", [filled_S, at_N1])
        return nodes.add(
            "Attention",
            [nodes.some(q, wanted), k, v, seen_NS, *past],
            *(f"{present[0]}_attended", *present),
            q_num_heads=c.n_heads,
            kv_num_heads=c.n_kv_heads,
            scale=1.0,
        )

    @cached_property
    def _span(self) -> tuple[str, str, str, str]:
        """Names of lengths: nothing, what was read before, that and what is read now, all that fits."""
        nodes = self.nodes
        end = nodes.add("Reshape", [nodes.add("Cast", ["total"], to=TensorProto.INT64), nodes.integers("one", 1)])
        start = nodes.add("Sub", [end, nodes.add("Shape", ["tokens"], start=1, end=2)])
        return nodes.integers("none", 0), start, end, nodes.integers("all", self._config.context)

    def _attention(self, inputs: list[str], present: list[str], scales: list[str]) -> str:
        rounded = {"k_quant_type": "PER_TENSOR", "v_quant_type": "PER_TENSOR", "kv_cache_bit_width": 8}
        return self.nodes.add(
            "GroupQueryAttention",
            [*inputs, "last", "total", "cos", "sin", *(["", "", "", *scales] if scales else [])],
            *(f"{present[0]}_attended", *present),
            domain=CONTRIB,
            num_heads=self._config.n_heads,
            kv_num_heads=self._config.n_kv_heads,
            do_rotary=1,
            scale=1.0,
            **(rounded if scales else {}),
        )

    def _scales(self, layer: str) -> list[str]:
        """Return names of what a layer's rounded keys and values are multiplied with; none of these is out of range."""
        value_KD = self._generator.get_parameter(f"blocks.{layer}.attention.value.weight")
        # Normed, a vector of width D is as long as the root of D, so no product is larger than a row times that.
        largest = {
            "k": self._config.d_head**0.5 * key_gain(self._config),
            "v": self._config.d_model**0.5 * value_KD.norm(dim=1).max().item(),
        }
        names = {f"{kind}{layer}_scale": np.float32(most / 127) for kind, most in largest.items()}
        return [self.nodes.constant(name, scale) for name, scale in names.items()]

    def _buffers(self, before: str, after: str) -> list[Any]:
        c, type_ = self._config, np.dtype(np.int8) if self.nodes.is_rounded else self.nodes.type
        names = [f"{before}{kind}{i}{after}" for i in range(c.n_layers) for kind in "kv"]
        shape: list[str | int | None] = ["B", c.n_kv_heads, c.context, c.d_head]
        return [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(type_), shape) for name in names]
