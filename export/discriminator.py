"""The discriminator as an ONNX graph, with the frozen generator that hints to it inside.

One graph takes windows of any length and says how real their ends are::

    tokens   (B, T) int64   windows: the end of a seed, and what follows it
    seeded   ()     int64   how many tokens of each are the seed's
    →
    verdict  (B,)   float32 logit that the continuation is real

With the generator inside, one file judges what any generator wrote, in the way
that training did: the hints are those of the generator that the discriminator
knows, and are about the window alone. It doubles the file and the time.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from musebridge import vocab
from musebridge.artifact import DiscriminatorInfo
from musebridge.config import build
from musebridge.errors import CheckpointError, ModelError, one_line
from musebridge.export import parity, quantize
from musebridge.export.nodes import CONTRIB, Nodes, Transformer, write
from musebridge.files import replacing
from musebridge.training.adversarial import trained_discriminator
from musebridge.training.adversarial.trained_discriminator import TrainedDiscriminator
from musebridge.training.models import checkpoint
from musebridge.training.models.discriminator import Discriminator, DiscriminatorConfig
from musebridge.training.models.generator import Generator, GeneratorConfig, norm, rope_table
from musebridge.training.models.token_features import N_TOKEN_FEATURES, kinds


def export(path: Path, out: Path, *, precision: str) -> DiscriminatorInfo:
    """Turn a trained discriminator into one ``.onnx`` file, checked before it is written.

    Args:
        path: the folder of the discriminator, or the checkpoint in it; beside it lies the generator whose token
            features it reads.
        out: the file to write; an older one stays as it is when this fails.
        precision: of the weights, one of ``artifact.PRECISIONS``.

    Returns:
        What the file says about itself.

    Raises:
        CheckpointError: there is no discriminator, or not its generator.
        ModelError: the graph disagrees with the discriminator, or the file cannot be written.
    """
    return export_trained(trained_discriminator.load(path), path, out, precision=precision)


def export_trained(trained: TrainedDiscriminator, path: Path, out: Path, *, precision: str) -> DiscriminatorInfo:
    """Export a discriminator that was loaded; see :func:`export`."""
    folder = path if path.is_dir() else path.parent
    generator, _ = checkpoint.load(folder)
    if not trained.was_trained_on(generator):
        raise CheckpointError(f"{folder}: its generator is not the one that the discriminator was trained on")
    info = replace(trained.info, precision=precision)
    with replacing(out, ModelError) as partial:
        write(build_graph(trained.discriminator, generator, info), info, partial)
        parity.check_discriminator(trained.discriminator, generator, partial)
    return info


def read_back(path: Path) -> TrainedDiscriminator:
    """Return the discriminator of an exported file, as exact as the file's precision.

    One that is shipped as weights (``musebridge.training.adversarial.trained_discriminator``) needs none of this; of
    the one that ships as a graph alone there is nothing better. What judges single tokens, which only training asks
    for, is not in the file: it is random.

    Raises:
        ModelError: the file is missing or damaged, or no discriminator.
    """
    try:
        model = onnx.load_model(path, load_external_data=False)
    except Exception as error:  # of no common class
        raise ModelError(f"{path}: is not an ONNX file ({one_line(error)}); export it again") from error
    info = DiscriminatorInfo.from_metadata({entry.key: entry.value for entry in model.metadata_props}, str(path))
    try:
        discriminator = Discriminator(build(DiscriminatorConfig, info.record["discriminator"], str(path)))
        _fill(discriminator, {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = one_line(error)
        raise ModelError(f"{path}: its weights do not fit its description ({reason}); export it again") from error
    return TrainedDiscriminator(discriminator.eval().requires_grad_(False), info)


@torch.no_grad()
def _fill(discriminator: Discriminator, stored: dict[str, npt.NDArray[Any]]) -> None:
    """Give a discriminator the weights of a graph."""
    blocks: list[Any] = [*discriminator.blocks]
    for i, block in enumerate(blocks):
        a = block.attention
        for name, *layers in (("qkv", a.query, a.key, a.value), ("out", a.out), ("up", block.up), ("down", block.down)):
            whole_NK = _matrix(stored, f"{name}judge_{i}", width=layers[0].in_features)
            parts = torch.split(whole_NK, [layer.out_features for layer in layers])
            for layer, part_NK in zip(layers, parts, strict=True):
                layer.weight.copy_(part_NK)
    for weight, name in (
        (discriminator.embedding.weight, "judge_embedding"),
        (discriminator.hint.weight.T, "hint"),
        (discriminator.hidden.weight.T, "hidden_weight"),
        (discriminator.hidden.bias, "hidden_bias"),
        (discriminator.verdict.weight.T, "whole_weight"),
        (discriminator.verdict.bias, "whole_bias"),
        (discriminator.centre_N, "centre"),
        (discriminator.spread_N, "spread"),
    ):
        weight.copy_(torch.tensor(stored[name]))


def _matrix(stored: dict[str, npt.NDArray[Any]], name: str, *, width: int) -> Tensor:
    """Return a weight (N, ``width``) that :meth:`Nodes.linear` stored."""
    if f"{name}_scale" in stored:
        return torch.tensor(quantize.restored(stored[name], stored[f"{name}_scale"], width))
    return torch.tensor(stored[name].T).float()


def build_graph(discriminator: Discriminator, generator: Generator, info: DiscriminatorInfo) -> Any:
    """Return the ``onnx.ModelProto`` of a discriminator and of the generator that hints to it."""
    nodes = Nodes(info.precision)
    nodes.integers("time_axis", 1)
    nodes.integers("last_axis", -1)
    nodes.integers("none", 0)
    features_BTF = _token_features(nodes, generator) if discriminator.config.hinted else _no_hints(nodes)
    end = nodes.add("Squeeze", [nodes.add("Shape", ["tokens"], start=1, end=2)])
    judged_C = nodes.add("Range", ["seeded", end, nodes.constant("step", np.int64(1))])
    told_BTD = nodes.add("MatMul", [features_BTF, nodes.constant("hint", discriminator.hint.weight.T)])
    x_BTD = nodes.add("Add", [_embedded(nodes, "judge", discriminator, "tokens"), _cast(nodes, told_BTD, nodes.type)])
    transformer = _transformer(nodes, "judge", discriminator.config.blocks, causal=False)
    h_BCD = _cast(nodes, transformer.append(x_BTD, [*discriminator.blocks], judged_C))
    figures_BN = _statistics(nodes, *(nodes.add("Gather", [x, judged_C], axis=1) for x in ("tokens", features_BTF)))
    figures_BN = nodes.add("Sub", [figures_BN, nodes.constant("centre", discriminator.centre_N)])
    figures_BN = nodes.add("Div", [figures_BN, nodes.constant("spread", discriminator.spread_N)])
    pooled_BD = nodes.add("Concat", [nodes.add("ReduceMean", [h_BCD, "time_axis"], keepdims=0), figures_BN], axis=-1)
    # What remains is little work, and its inputs are of too different sizes for eight bits.
    hidden_BD = nodes.add("Relu", [_affine(nodes, "hidden", discriminator.hidden, pooled_BD)])
    nodes.add("Squeeze", [_affine(nodes, "whole", discriminator.verdict, hidden_BD), "last_axis"], "verdict")
    describe = helper.make_tensor_value_info
    inputs = [describe("tokens", TensorProto.INT64, ["B", "T"]), describe("seeded", TensorProto.INT64, [])]
    return nodes.model("discriminator", inputs, [describe("verdict", TensorProto.FLOAT, ["B"])])


def _token_features(nodes: Nodes, generator: Generator) -> str:
    """Append :func:`musebridge.training.models.token_features.token_features`; return them, (B, T, F)."""
    end, one = nodes.integers("end", np.iinfo(np.int64).max), nodes.constant("one", np.float32(1))
    read_BT = nodes.add("Slice", ["tokens", "none", "last_axis", "time_axis"])
    asked_BT = nodes.add("Slice", ["tokens", "time_axis", end, "time_axis"])  # from 1 on, along axis 1
    transformer = _transformer(nodes, "hint", generator.config, causal=True)
    h_BTD = transformer.append(_embedded(nodes, "hint", generator, read_BT), [*generator.blocks])
    logits_BTV = _cast(nodes, nodes.linear(h_BTD, "head", generator.head.weight[: vocab.N_EVENTS]))
    log_p_BTV = nodes.add("LogSoftmax", [logits_BTV], axis=-1)
    # BEGIN is never sampled; where a seed opens with it, it is not asked for.
    asked_BT = nodes.add("Min", [asked_BT, nodes.constant("last_event", np.int64(vocab.N_EVENTS - 1))])
    chosen_BT1 = nodes.add("GatherElements", [log_p_BTV, nodes.add("Unsqueeze", [asked_BT, "last_axis"])], axis=-1)
    weighted_BTV = nodes.add("Mul", [nodes.add("Exp", [log_p_BTV]), log_p_BTV])
    likelier_BTV = nodes.add("Cast", [nodes.add("Greater", [log_p_BTV, chosen_BT1])], to=TensorProto.FLOAT)
    token_features = [
        nodes.add("Neg", [chosen_BT1]),
        nodes.add("Neg", [nodes.add("ReduceSum", [weighted_BTV, "last_axis"])]),
        nodes.add("Log", [nodes.add("Add", [nodes.add("ReduceSum", [likelier_BTV, "last_axis"]), one])]),
    ]
    return nodes.add(
        "Pad", [nodes.add("Concat", token_features, axis=-1), nodes.integers("first_has_none", 0, 1, 0, 0, 0, 0)]
    )


def _no_hints(nodes: Nodes) -> str:
    """Append hints that say nothing, (B, T, F)."""
    token_BT1 = nodes.add("Unsqueeze", [nodes.add("Cast", ["tokens"], to=TensorProto.FLOAT), "last_axis"])
    return nodes.add("Mul", [token_BT1, nodes.constant("nothing", np.zeros(N_TOKEN_FEATURES, np.float32))])


def _statistics(nodes: Nodes, part_BC: str, features_BCF: str) -> str:
    """Append :func:`musebridge.training.models.token_features.statistics`; return them, (B, N)."""
    table = nodes.constant("kinds", kinds(torch.empty(0)))
    kind_BKC = nodes.add("Transpose", [nodes.add("Gather", [table, part_BC])], perm=[0, 2, 1])
    count_BK1 = nodes.add("ReduceSum", [kind_BKC, "last_axis"])
    count_BK1 = nodes.add("Max", [count_BK1, nodes.constant("least", np.float32(1))])
    by_kind_BKF = nodes.add("Div", [nodes.add("MatMul", [kind_BKC, features_BCF]), count_BK1])
    share_BK = nodes.add("ReduceMean", [kind_BKC, "last_axis"], keepdims=0)
    mean_BF = nodes.add("ReduceMean", [features_BCF, "time_axis"], keepdims=0)
    mean_B2 = nodes.add("Gather", [mean_BF, nodes.integers("surprise_and_entropy", 0, 1)], axis=-1)
    return nodes.add("Concat", [nodes.add("Flatten", [by_kind_BKF]), share_BK, mean_B2], axis=-1)


def _transformer(nodes: Nodes, name: str, config: GeneratorConfig, *, causal: bool) -> Transformer:
    """Return what appends blocks that read whole windows."""
    H, K, P = config.n_heads, config.n_kv_heads, config.d_head
    angles = [
        nodes.weight(f"{name}_{part}", table) for part, table in zip(("cos", "sin"), rope_table(config), strict=True)
    ]
    split = nodes.integers(f"{name}_heads", 0, -1, K, P)
    group = nodes.integers(f"{name}_group", *(head * K // H for head in range(H)))
    joined = nodes.integers(f"{name}_joined", 0, -1, H * P)

    def for_each_query(x_BTD: str) -> str:
        """Repeat the head of each group."""
        heads_BTKP = nodes.add("Reshape", [x_BTD, split])
        return nodes.add("Reshape", [nodes.add("Gather", [heads_BTKP, group], axis=2), joined])

    def attend(q: str, k: str, v: str, _: str, wanted: str) -> str:
        q, k = (nodes.add("RotaryEmbedding", [x, "none", *angles], domain=CONTRIB) for x in (q, k))
        inputs = [nodes.some(q, wanted), for_each_query(k), for_each_query(v)]
        # Scaled before; see Transformer.
        attributes = {"num_heads": H, "scale": 1.0, "unidirectional": int(causal)}
        return nodes.add("MultiHeadAttention", inputs, domain=CONTRIB, **attributes)

    return Transformer(nodes, f"{name}_", config, attend)


def _embedded(nodes: Nodes, name: str, model: Generator | Discriminator, tokens: str) -> str:
    """Append the normed embedding of tokens; the norm is done in the table."""
    return nodes.add("Gather", [nodes.weight(f"{name}_embedding", norm(model.embedding.weight)), tokens])


def _affine(nodes: Nodes, name: str, layer: nn.Linear, x: str) -> str:
    """Append a layer in full precision."""
    product = nodes.add("MatMul", [x, nodes.constant(f"{name}_weight", layer.weight.T)])
    return nodes.add("Add", [product, nodes.constant(f"{name}_bias", layer.bias)])


def _cast(nodes: Nodes, x: str, type_: npt.DTypeLike = np.float32) -> str:
    """Append a cast where the graph is of another type than float32."""
    if nodes.type == np.float32:
        return x
    return nodes.add("Cast", [x], to=helper.np_dtype_to_tensor_dtype(np.dtype(type_)))
