"""A transformer's blocks as ONNX nodes, for every graph that holds some; and a model's way to its file.

Where ONNX Runtime has one operator for several steps, it is taken:
``com.microsoft.MatMulNBits`` for products in eight bits, and norms that add the
residual first. Tensor names end in their shape, as in
``musebridge.training.models.generator``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from torch import Tensor, cat, full, ones

from musebridge.artifact import DiscriminatorInfo, ModelInfo
from musebridge.export import quantize
from musebridge.training.models.generator import NORM_EPS, Block, GeneratorConfig

CONTRIB = "com.microsoft"
_OPSET, _IR_VERSION = 23, 11


class Nodes:
    """The nodes and weights of a graph that grows.

    Args:
        precision: of the weights, one of ``artifact.PRECISIONS``.
        name: what the names of its nodes begin with.
    """

    def __init__(self, precision: str, name: str = "") -> None:
        self.precision, self.name = precision, name
        self.type = np.dtype(np.float16 if precision == "fp16" else np.float32)
        self.is_rounded = precision == "int8"
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}

    def branch(self, name: str) -> Nodes:
        """Return the nodes, none yet, of a graph within this one, of the same weights: one name is one value."""
        inner = Nodes(self.precision, name)
        inner.weights = self.weights
        return inner

    def constant(self, name: str, values: npt.ArrayLike | Tensor) -> str:
        """Keep values as they are; return the name."""
        if name not in self.weights:
            array = values.detach().numpy() if isinstance(values, Tensor) else np.asarray(values)
            self.weights[name] = numpy_helper.from_array(np.require(array, requirements="C"), name)
        return name

    def weight(self, name: str, values: Tensor) -> str:
        """Keep values in the graph's type; return the name."""
        with np.errstate(over="ignore"):  # what overflows makes logits that the engine refuses
            return self.constant(name, values.detach().numpy().astype(self.type))

    def integers(self, name: str, *values: int) -> str:
        """Keep a vector of integers, as shapes and axes are; return the name."""
        return self.constant(name, np.array(values, np.int64))

    def add(self, kind: str, inputs: Sequence[str], *outputs: str, domain: str = "", **attributes: Any) -> str:
        """Append a node; return its first output, named after the node where no name is given."""
        name = f"{self.name}{kind}_{len(self.nodes)}"
        outputs = outputs or (name,)
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs[0]

    def linear(self, x: str, name: str, weight_NK: Tensor, *outputs: str) -> str:
        """Append ``x @ weight.T`` in the graph's precision; the output is named as in :meth:`add`."""
        if not self.is_rounded:
            return self.add("MatMul", [x, self.weight(name, weight_NK.T)], *outputs)
        N, K = weight_NK.shape
        if name not in self.weights:
            rounded, scales = quantize.blockwise(weight_NK.detach().numpy())
            self.constant(name, rounded)
            self.constant(f"{name}_scale", scales.reshape(-1))
        return self.add(
            "MatMulNBits",
            [x, name, f"{name}_scale"],
            *outputs,
            domain=CONTRIB,
            N=N,
            K=K,
            bits=8,
            block_size=quantize.BLOCK,
            accuracy_level=4,  # the product itself runs on eight-bit integers
        )

    def norm(self, x: str, gain: str) -> str:
        """Append a root-mean-square norm over the last axis, scaled by ``gain``."""
        return self.add("SimplifiedLayerNormalization", [x, gain], epsilon=NORM_EPS, axis=-1)

    def some(self, x_BTD: str, wanted: str) -> str:
        """Append a choice of positions, where not all are wanted; return them."""
        return self.add("Gather", [x_BTD, wanted], axis=1) if wanted else x_BTD

    def split(self, x: str, *widths: int) -> tuple[str, str]:
        """Append a split of the last axis in two; return the parts."""
        names = f"{x}_a", f"{x}_b"
        self.add("Split", [x, self.integers(f"{x}_widths", *widths)], *names, axis=-1)
        return names

    def graph(self, outputs: list[Any]) -> Any:
        """Return the ``onnx.GraphProto`` of a branch; inputs and weights are the whole graph's."""
        return helper.make_graph(self.nodes, self.name, [], outputs)

    def model(self, name: str, inputs: list[Any], outputs: list[Any]) -> Any:
        """Return the ``onnx.ModelProto`` of everything that was added."""
        graph = helper.make_graph(self.nodes, name, inputs, outputs, [*self.weights.values()])
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="musebridge")


def write(model: Any, info: ModelInfo | DiscriminatorInfo, path: Path) -> None:
    """Write a model together with what it says about itself."""
    helper.set_model_props(model, info.to_metadata())
    onnx.save_model(model, path)


def key_gain(config: GeneratorConfig) -> float:
    """Return what normed queries and keys are multiplied with, so that their products need no scale."""
    return float(config.d_head**-0.25)


Attend = Callable[[str, str, str, str, str], str]
"""Appends attention: given queries (B, T, H P), keys and values (B, T, K P), queries and keys normed but
not rotated, the block's name, and which positions to return (a name, none for all of them), it returns
what comes before the output projection."""


class Transformer:
    """A stack of blocks in a graph.

    Args:
        nodes: to append to.
        name: what the names of its weights begin with.
        config: its shape.
        attend: appends the attention of one block.
    """

    def __init__(self, nodes: Nodes, name: str, config: GeneratorConfig, attend: Attend) -> None:
        self._nodes, self._name, self._attend = nodes, name, attend
        self._one_D = nodes.weight(f"{name}one_D", ones(config.d_model))
        # Scaling queries and keys here rather than their products lets ONNX Runtime
        # use its matrix-vector kernel: 0.27 of 1.34 ms a step at position 900.
        self._gain_P = nodes.weight(f"{name}gain_P", full((config.d_head,), key_gain(config)))

    def append(self, x_BTD: str, blocks: Sequence[Block], wanted: str = "") -> str:
        """Append the blocks; return the normed residual stream after them.

        Args:
            x_BTD: the embedded tokens.
            blocks: the blocks.
            wanted: name of the positions to return, where not all are.
        """
        h_BTD = self._nodes.norm(x_BTD, self._one_D)
        for i, block in enumerate(blocks):
            # What follows the last attention concerns single positions: compute it for the wanted ones.
            kept = wanted if i == len(blocks) - 1 else ""
            h_BTD, x_BTD = self._block(block, f"{self._name}{i}", h_BTD, x_BTD, kept)
        return h_BTD

    def _block(self, block: Block, name: str, h_BTD: str, x_BTD: str, wanted: str) -> tuple[str, str]:
        """Append a block; return the normed and the plain residual stream after it."""
        nodes = self._nodes
        y_BTD, x_BTD = self._attention(block, name, h_BTD, wanted), nodes.some(x_BTD, wanted)
        y_BTD = nodes.linear(y_BTD, f"out{name}", block.attention.out.weight)
        h_BTD, x_BTD = self._add_and_norm(x_BTD, y_BTD)
        u_BTF = nodes.add("Relu", [nodes.linear(h_BTD, f"up{name}", block.up.weight)])
        u_BTF = nodes.add("Mul", [u_BTF, u_BTF])
        return self._add_and_norm(x_BTD, nodes.linear(u_BTF, f"down{name}", block.down.weight))

    def _attention(self, block: Block, name: str, h_BTD: str, wanted: str) -> str:
        """Append attention up to its output projection; queries, keys and values are one product."""
        a, nodes = block.attention, self._nodes
        H, K, P = a.config.n_heads, a.config.n_kv_heads, a.config.d_head
        together = nodes.linear(h_BTD, f"qkv{name}", cat([a.query.weight, a.key.weight, a.value.weight]))
        qk, v = nodes.split(together, (H + K) * P, K * P)
        qk = nodes.add("Reshape", [qk, nodes.integers(f"heads{name}", 0, -1, H + K, P)])
        qk = nodes.norm(qk, self._gain_P)
        qk = nodes.add("Reshape", [qk, nodes.integers(f"flat{name}", 0, -1, (H + K) * P)])
        q, k = nodes.split(qk, H * P, K * P)
        return self._attend(q, k, v, name, wanted)

    def _add_and_norm(self, x_BTD: str, y_BTD: str) -> tuple[str, str]:
        """Append the residual sum; return it normed and plain."""
        total = f"{self._nodes.name}residual_{len(self._nodes.nodes)}"
        outputs = (f"normed_{total}", "", "", total)
        inputs = [y_BTD, x_BTD, self._one_D]
        kind = "SkipSimplifiedLayerNormalization"
        self._nodes.add(kind, inputs, *outputs, domain=CONTRIB, epsilon=NORM_EPS)
        return outputs[0], total
