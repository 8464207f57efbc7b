from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from musebridge import vocab
from musebridge.artifact import PRECISIONS, ModelInfo
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.errors import CheckpointError, ModelError
from musebridge.export.graph import build_graph, describe, export
from musebridge.training.data.corpus import CARD, SPLITS
from musebridge.training.models.checkpoint import save_generator
from musebridge.training.models.generator import Generator, GeneratorConfig, count_parameters

RECORD = {"corpus": {"name": "songs"}, "licence": "CC0", "validation_nll": 2.5}


@pytest.fixture
def checkpoint(tmp_path: Path, generator: Generator) -> Path:
    path = tmp_path / "run" / "generator.safetensors"
    save_generator(path, generator, RECORD)
    return path


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_exported_file_says_what_it_is(
    tmp_path: Path, checkpoint: Path, generator: Generator, precision: str
) -> None:
    out = tmp_path / "models" / "m.onnx"
    info = export(checkpoint, out, precision=precision, corpus=None)
    assert info == ModelInfo(
        context=300,
        n_layers=2,
        n_kv_heads=2,
        d_head=16,
        precision=precision,
        parameters=count_parameters(generator),
        corpus="songs",
        licence="CC0",
        validation_nll=2.5,
        record=RECORD,
    )
    assert OnnxEngine(out).info == info
    assert [p.name for p in out.parent.iterdir()] == ["m.onnx"]


def test_a_run_folder_is_a_checkpoint(tmp_path: Path, checkpoint: Path) -> None:
    export(checkpoint.parent, tmp_path / "m.onnx", precision="fp32", corpus=None)
    assert OnnxEngine(tmp_path / "m.onnx").capacity == 300


def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path, checkpoint: Path) -> None:
    for name in "ab":
        export(checkpoint, tmp_path / name, precision="int8", corpus=None)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_with_a_corpus_the_change_of_nll_is_measured_and_carried(tmp_path: Path, checkpoint: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", n_tokens=1000)
    info = export(checkpoint, tmp_path / "m.onnx", precision="int8", corpus=corpus)
    assert info.nll_change is not None
    assert 0 < abs(info.nll_change) < 0.01
    assert OnnxEngine(tmp_path / "m.onnx").info == info


def test_validation_that_never_happened_is_unknown_rather_than_nan(generator: Generator) -> None:
    assert describe(generator, {"validation_nll": float("nan")}, "fp32").validation_nll is None


def test_a_graph_that_disagrees_is_not_written_and_the_old_file_stays(tmp_path: Path, generator: Generator) -> None:
    with torch.no_grad():  # one giant in each block leaves its neighbours no precision
        generator.head.weight[:, 0] *= 1000
    save_generator(tmp_path / "generator.safetensors", generator, RECORD)
    out = tmp_path / "m.onnx"
    out.write_text("the old one")
    with pytest.raises(ModelError, match=r"nothing was written: single steps.*steps after a rollback.*mixed chunks"):
        export(tmp_path, out, precision="int8", corpus=None)
    assert out.read_text() == "the old one"
    assert not list(tmp_path.glob("*.partial"))


def test_weights_that_overflow_are_refused(tmp_path: Path, generator: Generator) -> None:
    with torch.no_grad():
        generator.head.weight *= 1e6
    save_generator(tmp_path / "generator.safetensors", generator, RECORD)
    with pytest.raises(ModelError, match="not finite"):
        export(tmp_path, tmp_path / "m.onnx", precision="fp16", corpus=None)


def test_an_unknown_precision_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="precision must be one of fp32, fp16, int8, found 'int5'"):
        export(checkpoint, tmp_path / "m.onnx", precision="int5", corpus=None)


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        export(tmp_path / "none", tmp_path / "m.onnx", precision="fp32", corpus=None)


def test_operators_and_opset_are_those_we_promise(generator: Generator) -> None:
    model = build_graph(generator, describe(generator, {}, "int8"))
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 23), ("com.microsoft", 1)]
    *_, choice = model.graph.node
    assert choice.op_type == "If"
    for way in choice.attribute:
        kinds = [node.op_type for node in way.g.node]
        # For many tokens the last layer's is of the wanted positions alone.
        wanted_alone = int(way.name == "else_branch")
        assert kinds.count("Attention") == wanted_alone
        assert kinds.count("GroupQueryAttention") == 2 - wanted_alone
        assert kinds.count("MatMulNBits") == 2 * 4 + 1
        assert "MatMul" not in kinds
        assert not way.g.initializer  # both have the same weights


def test_the_largest_key_and_value_can_be_rounded(generator: Generator) -> None:
    value_KD = generator.get_parameter("blocks.0.attention.value.weight")
    with torch.no_grad():  # nothing has a larger product with a row than what points the same way
        generator.embedding.weight[5] = value_KD[value_KD.norm(dim=1).argmax()]
    model = build_graph(generator, describe(generator, {}, "int8"))
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer}
    with torch.inference_mode():
        k, v = generator.extend(torch.tensor([[5]]), None)[1][0]
    assert v.abs().max().item() == pytest.approx(127 * weights["v0_scale"], rel=1e-3)
    assert 0.2 < k.abs().max().item() * generator.config.d_head**-0.25 / (127 * weights["k0_scale"]) <= 1


def test_one_layer_and_odd_shapes_are_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    odd = Generator(GeneratorConfig(n_layers=1, d_model=48, n_heads=3, n_kv_heads=3, d_ff=40, context=17)).eval()
    torch.nn.init.normal_(odd.head.weight)
    save_generator(tmp_path / "generator.safetensors", odd, {})
    for precision in PRECISIONS:
        assert export(tmp_path, tmp_path / "m.onnx", precision=precision, corpus=None).corpus == "unknown"


def test_a_batch_is_prefilled_as_its_rows_are(generator: Generator) -> None:
    model = build_graph(generator, describe(generator, {}, "fp32"))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    tokens_BT = np.random.default_rng(0).integers(0, vocab.N_EVENTS, (3, 20))
    buffers = {f"{kind}{i}": np.zeros((3, 2, 300, 16), np.float32) for i in range(2) for kind in "kv"}
    inputs = {
        "tokens": tokens_BT,
        "wanted": np.array([4, 19]),
        "last": np.full(3, 19, np.int32),
        "total": np.array(20, np.int32),
    }
    (logits_BNV,) = session.run(["logits"], inputs | buffers)
    with torch.inference_mode():
        right_BTV = generator(torch.from_numpy(tokens_BT)).numpy()
    np.testing.assert_allclose(logits_BNV, right_BTV[:, [4, 19]], atol=1e-4)


def test_the_file_is_one_file(tmp_path: Path, checkpoint: Path) -> None:
    out = tmp_path / "m.onnx"
    export(checkpoint, out, precision="fp32", corpus=None)
    model = onnx.load_model(out, load_external_data=False)
    assert not any(onnx.external_data_helper.uses_external_data(w) for w in model.graph.initializer)


def write_corpus(folder: Path, n_tokens: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(1)
    for split in SPLITS:
        np.save(folder / f"{split}.npy", rng.integers(0, vocab.N_EVENTS, n_tokens).astype(np.uint16))
    card = {"vocabulary": vocab.FINGERPRINT, "splits": {split: {"tokens": n_tokens} for split in SPLITS}}
    (folder / CARD).write_text(json.dumps(card))
    return folder
