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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from musebridge import vocab
from musebridge.artifact import PRECISIONS, ModelInfo
from musebridge.errors import ModelError
from musebridge.export import parity
from musebridge.export.nodes import CONTRIB, Nodes, Transformer, beside, write
from musebridge.training import corpus as corpora
from musebridge.training.checkpoint import load_generator
from musebridge.training.generator import Generator, count_parameters, norm


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
    with beside(out) as partial:
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
    nodes, config = Nodes(info.precision), generator.config
    nodes.weight("cos", generator.cos)
    nodes.weight("sin", generator.sin)

    def attend(q: str, k: str, v: str, name: str) -> str:
        return nodes.add(
            "GroupQueryAttention",
            [q, k, v, f"k{name}", f"v{name}", "last", "total", "cos", "sin"],
            *(f"attended{name}", f"k{name}_out", f"v{name}_out"),
            domain=CONTRIB,
            num_heads=config.n_heads,
            kv_num_heads=config.n_kv_heads,
            do_rotary=1,
            scale=1.0,
        )

    # The norm after the embedding depends on the token alone: it goes into the table.
    table = nodes.weight("embedding", norm(generator.embedding.weight))
    transformer = Transformer(nodes, "", config, attend)
    x_BTD = nodes.add("Gather", [table, "tokens"])
    h_BTD = transformer.append(x_BTD, [*generator.blocks], "wanted")
    nodes.add("Cast", [nodes.linear(h_BTD, "head", generator.head.weight)], "logits", to=TensorProto.FLOAT)
    return nodes.model("generator", _inputs(generator, nodes.type), _outputs(generator, nodes.type))


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
