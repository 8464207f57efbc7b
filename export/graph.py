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
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from musebridge import vocab
from musebridge.artifact import PRECISIONS, ModelInfo
from musebridge.errors import ModelError
from musebridge.export import parity, quantize
from musebridge.training import corpus as corpora
from musebridge.training.checkpoint import load_generator
from musebridge.training.generator import NORM_EPS, Block, Generator, count_parameters, norm

_OPSET, _IR_VERSION = 20, 9
_CONTRIB = "com.microsoft"


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
        CheckpointError: the checkpoint cannot be read.
        CorpusError: the corpus cannot be read, or is shorter than the context.
        ModelError: the precision is unknown, or the graph disagrees with the generator.
    """
    generator, record = load_generator(checkpoint)
    if not isinstance(generator, Generator):
        raise ModelError(f"{checkpoint}: is a reference generator; only the default kind can be exported")
    validation = corpora.load(corpus).splits["validation"] if corpus else None
    info = describe(generator, record, precision)
    partial = out.with_name(f"{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        model = build_graph(generator, info)
        _save(model, info, partial)
        parity.check(generator, partial)
        if validation is not None:
            change = parity.nll_change(generator, partial, validation, on_progress=on_progress)
            info = replace(info, nll_change=change)
            _save(model, info, partial)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
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


def _save(model: Any, info: ModelInfo, path: Path) -> None:
    helper.set_model_props(model, info.to_metadata())
    onnx.save_model(model, path)


def build_graph(generator: Generator, info: ModelInfo) -> Any:
    """Return the ``onnx.ModelProto`` of a generator, in the precision that ``info`` names."""
    nodes = _Nodes(info.precision)
    config = generator.config
    nodes.weight("one_D", torch.ones(config.d_model))
    # Scaling queries and keys here rather than their products lets ONNX Runtime
    # use its matrix-vector kernel: 0.27 of 1.34 ms a step at position 900.
    nodes.weight("gain_P", torch.full((config.d_head,), config.d_head**-0.25))
    nodes.weight("cos", generator.cos)
    nodes.weight("sin", generator.sin)
    # The norm after the embedding depends on the token alone: it goes into the table.
    table = nodes.weight("embedding", norm(generator.embedding.weight))
    x_BTD = nodes.add("Gather", [table, "tokens"])
    h_BTD = nodes.add("SimplifiedLayerNormalization", [x_BTD, "one_D"], epsilon=NORM_EPS, axis=-1)
    for i, block in enumerate(generator.blocks):
        assert isinstance(block, Block)
        h_BTD, x_BTD = _block(nodes, block, i, h_BTD, x_BTD, is_last=i == config.n_layers - 1)
    nodes.add("Cast", [nodes.linear(h_BTD, "head", generator.head.weight)], "logits", to=TensorProto.FLOAT)
    graph = helper.make_graph(
        nodes.nodes, "generator", _inputs(generator, nodes.type), _outputs(generator, nodes.type), nodes.weights
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="musebridge")


class _Nodes:
    """The nodes and weights of a graph that grows."""

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self.type = np.dtype(np.float16 if precision == "fp16" else np.float32)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def weight(self, name: str, values: Tensor) -> str:
        with np.errstate(over="ignore"):  # what overflows makes logits that the engine refuses
            return self.constant(name, values.detach().numpy().astype(self.type))

    def add(self, kind: str, inputs: Sequence[str], *outputs: str, domain: str = "", **attributes: Any) -> str:
        """Append a node; return its first output, named after the node where no name is given."""
        name = f"{kind}_{len(self.nodes)}"
        outputs = outputs or (name,)
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs[0]

    def linear(self, x: str, name: str, weight_NK: Tensor) -> str:
        """Append ``x @ weight.T`` in the graph's precision."""
        if self.precision != "int8":
            return self.add("MatMul", [x, self.weight(name, weight_NK.T)])
        N, K = weight_NK.shape
        rounded, scales = quantize.blockwise(weight_NK.detach().numpy())
        return self.add(
            "MatMulNBits",
            [x, self.constant(name, rounded), self.constant(f"{name}_scale", scales.reshape(-1))],
            domain=_CONTRIB,
            N=N,
            K=K,
            bits=8,
            block_size=quantize.BLOCK,
            accuracy_level=4,  # the product itself runs on eight-bit integers
        )


def _block(nodes: _Nodes, block: Block, i: int, h_BTD: str, x_BTD: str, *, is_last: bool) -> tuple[str, str]:
    """Append a block; return the normed and the plain residual stream after it."""
    y_BTD = _attention(nodes, block, i, h_BTD)
    if is_last:  # what follows concerns single positions: compute it for the wanted ones
        y_BTD = nodes.add("Gather", [y_BTD, "wanted"], axis=1)
        x_BTD = nodes.add("Gather", [x_BTD, "wanted"], axis=1)
    y_BTD = nodes.linear(y_BTD, f"out{i}", block.attention.out.weight)
    h_BTD, x_BTD = _add_and_norm(nodes, x_BTD, y_BTD)
    u_BTF = nodes.add("Relu", [nodes.linear(h_BTD, f"up{i}", block.up.weight)])
    u_BTF = nodes.add("Mul", [u_BTF, u_BTF])
    return _add_and_norm(nodes, x_BTD, nodes.linear(u_BTF, f"down{i}", block.down.weight))


def _add_and_norm(nodes: _Nodes, x_BTD: str, y_BTD: str) -> tuple[str, str]:
    """Append the residual sum; return it normed and plain."""
    total = f"residual_{len(nodes.nodes)}"
    outputs = (f"normed_{total}", "", "", total)
    inputs = [y_BTD, x_BTD, "one_D"]
    nodes.add("SkipSimplifiedLayerNormalization", inputs, *outputs, domain=_CONTRIB, epsilon=NORM_EPS)
    return outputs[0], total


def _attention(nodes: _Nodes, block: Block, i: int, h_BTD: str) -> str:
    """Append attention up to its output projection; queries, keys and values are one product."""
    a = block.attention
    H, K, P = a.config.n_heads, a.config.n_kv_heads, a.config.d_head
    together = nodes.linear(h_BTD, f"qkv{i}", torch.cat([a.query.weight, a.key.weight, a.value.weight]))
    qk, v = _split(nodes, together, (H + K) * P, K * P)
    qk = nodes.add("Reshape", [qk, _shape(nodes, f"heads{i}", 0, -1, H + K, P)])
    qk = nodes.add("SimplifiedLayerNormalization", [qk, "gain_P"], epsilon=NORM_EPS, axis=-1)
    qk = nodes.add("Reshape", [qk, _shape(nodes, f"flat{i}", 0, -1, (H + K) * P)])
    q, k = _split(nodes, qk, H * P, K * P)
    return nodes.add(
        "GroupQueryAttention",
        [q, k, v, f"k{i}", f"v{i}", "last", "total", "cos", "sin"],
        *(f"attended{i}", f"k{i}_out", f"v{i}_out"),
        domain=_CONTRIB,
        num_heads=H,
        kv_num_heads=K,
        do_rotary=1,
        scale=1.0,
    )


def _split(nodes: _Nodes, x: str, *widths: int) -> tuple[str, str]:
    names = f"{x}_a", f"{x}_b"
    nodes.add("Split", [x, nodes.constant(f"{x}_widths", np.array(widths, np.int64))], *names, axis=-1)
    return names


def _shape(nodes: _Nodes, name: str, *sizes: int) -> str:
    return nodes.constant(name, np.array(sizes, np.int64))


def _inputs(generator: Generator, type_: np.dtype[Any]) -> list[Any]:
    info = helper.make_tensor_value_info
    return [
        info("tokens", TensorProto.INT64, ["B", "T"]),
        info("wanted", TensorProto.INT64, ["N"]),
        info("last", TensorProto.INT32, ["B"]),
        info("total", TensorProto.INT32, []),
        *_buffers(generator, "", type_),
    ]


def _outputs(generator: Generator, type_: np.dtype[Any]) -> list[Any]:
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", "N", vocab.N_TOKENS])
    return [logits, *_buffers(generator, "_out", type_)]


def _buffers(generator: Generator, suffix: str, type_: np.dtype[Any]) -> list[Any]:
    c = generator.config
    names = [f"{kind}{i}{suffix}" for i in range(c.n_layers) for kind in "kv"]
    shape: list[str | int | None] = ["B", c.n_kv_heads, c.context, c.d_head]
    return [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(type_), shape) for name in names]
