from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from musebridge import vocab
from musebridge.artifact import ModelInfo
from musebridge.bridge.inference import engine as engine_module
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.bridge.inference.runtime import _options
from musebridge.errors import EngineError, ModelError
from musebridge.export.graph import build_graph, describe
from musebridge.training.models.generator import Generator, GeneratorConfig

POISON = 60
"""A token that a damaged model answers with NaN."""


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(n_layers=2, d_model=64, n_heads=4, n_kv_heads=2, d_ff=96, context=128)).eval()
    for weight in generator.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return generator


@pytest.fixture(scope="module", params=["fp32", "int8"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, generator: Generator) -> Path:
    path = tmp_path_factory.mktemp("model") / f"{request.param}.onnx"
    write(path, generator, request.param)
    return path


@pytest.fixture
def damaged(tmp_path: Path, generator: Generator) -> Callable[[Callable[[onnx.ModelProto], object]], Path]:
    """Return a function that writes a model which another function has changed."""

    def damage(change: Callable[[onnx.ModelProto], object]) -> Path:
        path = tmp_path / "damaged.onnx"
        proto = write(path, generator, "fp32")
        change(proto)
        onnx.save_model(proto, path)
        return path

    return damage


def write(path: Path, generator: Generator, precision: str) -> onnx.ModelProto:
    info = describe(generator, {}, precision)
    proto = build_graph(generator, info)
    onnx.helper.set_model_props(proto, info.to_metadata())
    onnx.save_model(proto, path)
    return proto


def tokens(count: int) -> list[int]:
    return np.random.default_rng(3).integers(0, vocab.N_EVENTS, count).tolist()


def steps(engine: OnnxEngine, sequence: list[int]) -> np.ndarray:
    return np.stack([engine.step(token).copy() for token in sequence])


def answer(engine: OnnxEngine, logits_V: np.ndarray, count: int) -> list[int]:
    """Continue with the likeliest token, and again."""
    sequence = []
    for _ in range(count):
        sequence.append(int(logits_V.argmax()))
        logits_V = engine.step(sequence[-1])
    return sequence


def test_a_new_engine_has_read_nothing(model: Path) -> None:
    engine = OnnxEngine(model)
    assert (engine.length, engine.capacity) == (0, 128)
    assert isinstance(engine.info, ModelInfo)


def test_logits_are_one_float_for_each_token(model: Path) -> None:
    logits_V = OnnxEngine(model).prefill([vocab.BEGIN])
    assert (logits_V.shape, logits_V.dtype) == ((vocab.N_TOKENS,), np.float32)


def test_the_engine_answers_as_the_generator_does(model: Path, generator: Generator) -> None:
    sequence = [vocab.BEGIN, *tokens(127)]
    with torch.inference_mode():
        right_TV = generator(torch.tensor([sequence]))[0].numpy()
    atol = {"fp32": 1e-4, "int8": 0.3}[model.stem]
    np.testing.assert_allclose(steps(OnnxEngine(model), sequence), right_TV, atol=atol)
    np.testing.assert_allclose(OnnxEngine(model).score(sequence), right_TV, atol=atol)


def test_the_likeliest_continuation_is_torchs(tmp_path: Path, generator: Generator) -> None:
    write(tmp_path / "m.onnx", generator, "fp32")
    engine, seed = OnnxEngine(tmp_path / "m.onnx"), tokens(20)
    sequence = list(seed)
    with torch.inference_mode():
        for _ in range(25):
            sequence.append(int(generator(torch.tensor([sequence]))[0, -1].argmax()))
    assert answer(engine, engine.prefill(seed), 25) == sequence[20:]


ROUNDING = {"fp32": 1e-3, "int8": 0.1}
"""How far the cut into calls moves a logit; in int8 a call rounds what it has read when it ends, and with VNNI what
single tokens ask for, and the last bit of what is rounded decides."""


@pytest.mark.parametrize("cut", [1, 2, 17, 63, 64])
def test_chunks_of_any_length_give_the_same_logits(model: Path, cut: int) -> None:
    whole, parts, sequence = OnnxEngine(model), OnnxEngine(model), tokens(65)
    parts.prefill(sequence[:cut])
    np.testing.assert_allclose(parts.prefill(sequence[cut:]), whole.prefill(sequence), atol=ROUNDING[model.stem])
    assert parts.length == whole.length == 65


def test_a_long_prefill_is_cut_into_chunks(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut, sequence = OnnxEngine(model), OnnxEngine(model), tokens(101)
    right_V = whole.prefill(sequence)
    monkeypatch.setattr(engine_module, "_CHUNK", 32)
    np.testing.assert_allclose(cut.prefill(sequence), right_V, atol=ROUNDING[model.stem])
    assert cut.length == 101


def test_a_chunk_that_fails_takes_those_before_it_along(
    damaged: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_CHUNK", 8)
    engine = OnnxEngine(damaged(lambda proto: spoil(proto, POISON)))
    engine.prefill([1, 2, 3])
    with pytest.raises(EngineError, match="not finite"):
        engine.prefill([*[5] * 15, POISON, *[5] * 10])
    assert engine.length == 3


def test_prefill_returns_the_last_row_of_score(model: Path) -> None:
    engine, sequence = OnnxEngine(model), tokens(30)
    rows = engine.score(sequence)
    engine.rollback(0)
    np.testing.assert_allclose(engine.prefill(sequence), rows[-1], atol=1e-5)


def test_a_step_of_one_stream_chooses_between_no_branches(model: Path, tmp_path: Path) -> None:
    options = _options(1, engine_module._A_STEP)
    options.optimized_model_filepath = str(tmp_path / "step.onnx")
    ort.InferenceSession(model, options, ["CPUExecutionProvider"])
    kinds = {node.op_type for node in onnx.load(tmp_path / "step.onnx").graph.node}
    assert "GroupQueryAttention" in kinds
    assert "If" not in kinds


def test_rollback_and_replay_are_exact(model: Path) -> None:
    engine, sequence = OnnxEngine(model), tokens(60)
    engine.prefill(sequence[:20])
    first_TV = steps(engine, sequence[20:])
    engine.rollback(20)
    assert engine.length == 20
    np.testing.assert_array_equal(steps(engine, sequence[20:]), first_TV)


def test_what_was_rolled_back_leaves_no_trace(model: Path) -> None:
    used, fresh, sequence = OnnxEngine(model), OnnxEngine(model), tokens(50)
    used.prefill(sequence[:10])
    used.prefill([POISON] * 100)
    used.rollback(10)
    fresh.prefill(sequence[:10])
    np.testing.assert_array_equal(steps(used, sequence[10:]), steps(fresh, sequence[10:]))


def test_a_second_answer_after_rollback_is_the_first(model: Path) -> None:
    engine = OnnxEngine(model)
    first = answer(engine, engine.prefill(tokens(30)), 50)
    engine.rollback(0)
    assert answer(engine, engine.prefill(tokens(30)), 50) == first


def test_the_rows_of_a_fork_know_nothing_of_each_other(model: Path) -> None:
    engine, before, after_BT = OnnxEngine(model), tokens(30), np.array(tokens(60)).reshape(3, 20)
    engine.prefill(before)
    fork = engine.fork(3)
    logits_TBV = np.stack([fork.step(tokens_B).copy() for tokens_B in after_BT.T.tolist()])
    for i, after in enumerate(after_BT.tolist()):
        engine.rollback(30)
        np.testing.assert_allclose(logits_TBV[:, i], steps(engine, after), atol=ROUNDING[model.stem])


def test_a_fork_leaves_the_stream_as_it_was_and_the_next_one_follows_it(model: Path) -> None:
    engine = OnnxEngine(model)
    engine.prefill(tokens(30))
    right_BV = engine.fork(2).step([5, 6]).copy()
    for _ in range(20):
        engine.fork(2).step([7, 7])
    assert engine.length == 30
    np.testing.assert_array_equal(engine.fork(2).step([5, 6]), right_BV)
    np.testing.assert_allclose(engine.step(5), right_BV[0], atol=1e-3)


def test_a_fork_is_refused_tokens_that_do_not_fit(model: Path) -> None:
    engine = OnnxEngine(model)
    engine.prefill(tokens(127))
    fork = engine.fork(2)
    with pytest.raises(ValueError, match=r"token must be in 0\.\.388, found 389"):
        fork.step([1, 389])
    fork.step([1, 2])
    with pytest.raises(ValueError, match="at most 128 positions fit the context, found 129"):
        fork.step([1, 2])


def test_a_row_that_is_no_number_ends_the_step_of_all(damaged: Callable[..., Path]) -> None:
    engine = OnnxEngine(damaged(lambda proto: spoil(proto, POISON)))
    engine.prefill([1, 2, 3])
    fork = engine.fork(2)
    with pytest.raises(EngineError, match="logits at position 3 are not finite"):
        fork.step([4, POISON])
    assert fork.length == 3
    assert np.isfinite(fork.step([4, 5])).all()


def test_the_caller_may_change_the_logits(model: Path) -> None:
    engine, untouched = OnnxEngine(model), OnnxEngine(model)
    engine.step(vocab.BEGIN)[:] = np.nan
    untouched.step(vocab.BEGIN)
    np.testing.assert_array_equal(engine.step(5), untouched.step(5))


def test_two_engines_of_one_file_share_nothing(model: Path) -> None:
    one, two = OnnxEngine(model), OnnxEngine(model)
    right_V = one.prefill(tokens(10)).copy()
    one.rollback(9)
    two.prefill(tokens(40))
    np.testing.assert_allclose(one.step(tokens(10)[-1]), right_V, atol=1e-3)


def test_two_threads_compute_the_same(model: Path) -> None:
    sequence = tokens(40)
    one_TV, two_TV = (steps(OnnxEngine(model, threads=n), sequence) for n in (1, 2))
    np.testing.assert_allclose(two_TV, one_TV, atol=1e-4)


def test_the_context_can_be_filled_but_not_overfilled(model: Path) -> None:
    engine = OnnxEngine(model)
    engine.prefill(tokens(127))
    engine.step(1)
    with pytest.raises(ValueError, match="at most 128 positions fit the context, found 129"):
        engine.step(2)
    with pytest.raises(ValueError, match="found 130"):
        engine.prefill([1, 2])
    assert engine.length == 128


@pytest.mark.parametrize("wrong", [[], [-1], [vocab.N_TOKENS], [1, 2, 1000]])
def test_tokens_outside_the_vocabulary_are_a_programmers_error(model: Path, wrong: list[int]) -> None:
    engine = OnnxEngine(model)
    with pytest.raises(ValueError, match=r"0\.\.388"):
        engine.prefill(wrong)
    for token in wrong[:1]:
        if token != 1:
            with pytest.raises(ValueError, match=r"token must be in 0\.\.388"):
                engine.step(token)
    assert engine.length == 0


@pytest.mark.parametrize("length", [-1, 6])
def test_rollback_only_goes_back(model: Path, length: int) -> None:
    engine = OnnxEngine(model)
    engine.prefill(tokens(5))
    with pytest.raises(ValueError, match=r"length must be in 0\.\.5"):
        engine.rollback(length)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "there is no such file; make a model with 'musebridge export'")


@pytest.mark.parametrize("content", [b"", b"I am no model.\n", bytes(range(256)) * 8])
def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.onnx"
    path.write_bytes(content)
    refused(path, "is not an ONNX file, or is cut short")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(model: Path, tmp_path: Path, share: float) -> None:
    path, whole = tmp_path / "cut.onnx", model.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path, "")


def test_a_model_of_somebody_else_is_refused(damaged: Callable[..., Path]) -> None:
    refused(damaged(lambda proto: proto.ClearField("metadata_props")), "is not a MuseBridge model")


def test_a_model_of_another_vocabulary_is_refused(damaged: Callable[..., Path]) -> None:
    refused(damaged(set_metadata("vocabulary", "feedfacefeedface")), "has vocabulary 'feedfacefeedface'")


@pytest.mark.parametrize(("field", "value"), [("n_layers", "3"), ("context", "64"), ("d_head", "8")])
def test_metadata_that_does_not_fit_its_graph_is_refused(damaged: Callable[..., Path], field: str, value: str) -> None:
    refused(damaged(set_metadata(field, value)), "does not run")


def test_an_opset_of_the_future_is_refused(damaged: Callable[..., Path]) -> None:
    def change(proto: onnx.ModelProto) -> None:
        proto.opset_import[0].version = 999

    refused(damaged(change), f"onnxruntime {ort.__version__} cannot load it")


def test_an_unknown_operator_is_refused(damaged: Callable[..., Path]) -> None:
    def change(proto: onnx.ModelProto) -> None:
        next(node for node in proto.graph.node if node.op_type == "Relu").op_type = "Telepathy"

    refused(damaged(change), "update onnxruntime, or export the model again")


def test_a_model_that_only_gives_nan_is_refused(damaged: Callable[..., Path]) -> None:
    refused(damaged(lambda proto: spoil(proto, slice(None))), "logits at position 0 are not finite")


def test_nan_while_playing_ends_the_step_and_changes_nothing(damaged: Callable[..., Path]) -> None:
    engine = OnnxEngine(damaged(lambda proto: spoil(proto, POISON)))
    right_TV = steps(engine, [1, 2, 3, 4])
    engine.rollback(2)
    with pytest.raises(EngineError, match="logits at position 2 are not finite"):
        engine.step(POISON)
    with pytest.raises(EngineError, match="logits at position 4 are not finite"):
        engine.prefill([3, POISON, 4])
    assert engine.length == 2
    np.testing.assert_array_equal(steps(engine, [3, 4]), right_TV[2:])


def test_a_provider_that_is_not_there_is_named(model: Path) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("the refusal of CUDA needs a computer without it")
    with pytest.raises(ModelError, match="has no cuda provider here; use the cpu provider, or put onnxruntime-gpu"):
        OnnxEngine(model, provider="cuda")


def test_an_unknown_provider_is_refused(model: Path) -> None:
    with pytest.raises(ModelError, match="provider must be one of cpu, cuda, found 'abacus'"):
        OnnxEngine(model, provider="abacus")


def refused(path: Path, reason: str) -> None:
    """Assert that a file is refused in one line that names it and gives the reason."""
    with pytest.raises(ModelError) as caught:
        OnnxEngine(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message


def set_metadata(field: str, value: str) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        next(entry for entry in proto.metadata_props if entry.key == f"musebridge.{field}").value = value

    return change


def spoil(proto: onnx.ModelProto, rows: int | slice) -> None:
    """Make rows of the embedding NaN."""
    table = next(weight for weight in proto.graph.initializer if weight.name == "embedding")
    values = onnx.numpy_helper.to_array(table).copy()
    values[rows] = np.nan
    table.CopyFrom(onnx.numpy_helper.from_array(values, "embedding"))
