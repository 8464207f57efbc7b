from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import mido
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from musebridge import vocab
from musebridge.artifact import PRECISIONS, DiscriminatorInfo
from musebridge.bridge.app import preset
from musebridge.bridge.inference.discriminator import OnnxDiscriminator
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.cli import main
from musebridge.errors import CheckpointError, EngineError, ModelError
from musebridge.export.discriminator import export, read_back
from musebridge.training.adversarial import trained_discriminator
from musebridge.training.models import checkpoint
from musebridge.training.models.discriminator import Discriminator, DiscriminatorConfig
from musebridge.training.models.generator import Generator, GeneratorConfig, count_parameters
from musebridge.training.models.token_features import token_features

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = DiscriminatorConfig(n_layers=2, d_model=64, n_heads=4, n_kv_heads=2, d_ff=96, context=60, hidden=24)
SEEDED, CONTINUED = 20, 28
RECORD = {"corpus": {"name": "songs"}, "licence": "CC0"}
HISTORY = [{"step": 1, "loss": 1.0, "auroc": 0.6}, {"step": 2, "loss": 0.9, "auroc": 0.7}]
PHRASE = preset.FOLDER / "phrase.mid"


@pytest.fixture
def frozen() -> Generator:
    """A generator of other widths than the discriminator's, without groups of heads."""
    return randomised(Generator(GeneratorConfig(n_layers=1, d_model=48, n_heads=3, n_kv_heads=3, d_ff=40, context=64)))


@pytest.fixture(params=[True, False], ids=["hinted", "unhinted"])
def discriminator(request: pytest.FixtureRequest) -> Discriminator:
    return made(SHAPE, hinted=request.param)


@pytest.fixture
def folder(tmp_path: Path, frozen: Generator) -> Path:
    return saved(tmp_path / "discriminator", made(SHAPE), frozen)


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Callable[[Callable[[onnx.ModelProto], object]], Path]:
    """Return a function that writes a model which another function has changed."""

    def damage(change: Callable[[onnx.ModelProto], object]) -> Path:
        path = tmp_path / "damaged.onnx"
        export(folder, path, precision="fp32")
        proto = onnx.load_model(path)
        change(proto)
        onnx.save_model(proto, path)
        return path

    return damage


def randomised(model: torch.nn.Module):
    """Leave no weight at its initial zero."""
    torch.manual_seed(0)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
    return model.eval().requires_grad_(False)


def made(shape: DiscriminatorConfig, *, hinted: bool = True) -> Discriminator:
    discriminator = randomised(Discriminator(replace(shape, hinted=hinted)))
    discriminator.centre_N.copy_(torch.linspace(-1, 4, 18))
    discriminator.spread_N.copy_(torch.linspace(0.5, 2, 18))
    return discriminator


def saved(folder: Path, discriminator: Discriminator, frozen: Generator) -> Path:
    """Write what training leaves in a discriminator's folder."""
    state = {
        "shape": asdict(discriminator.config),
        "window": {"seeded": SEEDED, "continued": CONTINUED},
        "discriminator": discriminator.state_dict(),
        "best": discriminator.state_dict(),
        "history": HISTORY,
    }
    checkpoint.save_state(folder, state)
    checkpoint.save_generator(folder / checkpoint.WEIGHTS, frozen, RECORD)
    return folder


def windows(batch: int, length: int = SEEDED + CONTINUED) -> np.ndarray:
    return np.random.default_rng(4).integers(0, vocab.N_EVENTS, (batch, length))


def right(discriminator: Discriminator, frozen: Generator, window_BT: np.ndarray, seed_length: int) -> np.ndarray:
    window = torch.from_numpy(window_BT)
    return discriminator(window, token_features(frozen, window), seed_length).whole_B.numpy()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_file_judges_as_the_discriminator_does(
    tmp_path: Path, discriminator: Discriminator, frozen: Generator, precision: str
) -> None:
    export(saved(tmp_path, discriminator, frozen), tmp_path / "d.onnx", precision=precision)
    exported = OnnxDiscriminator(tmp_path / "d.onnx")
    window_BT = windows(6)
    window_BT[:3, 0] = vocab.BEGIN
    right_B = right(discriminator, frozen, window_BT, SEEDED)
    atol = {"fp32": 1e-4, "fp16": 5e-3, "int8": 0.03}[precision]
    assert right_B.std() > 3 * atol  # so that the line below can fail
    np.testing.assert_allclose(exported.judge(window_BT, SEEDED), right_B, atol=atol)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_read_back_judges_as_the_discriminator_does(
    tmp_path: Path, discriminator: Discriminator, frozen: Generator, precision: str
) -> None:
    info = export(saved(tmp_path, discriminator, frozen), tmp_path / "d.onnx", precision=precision)
    taught, window_BT = read_back(tmp_path / "d.onnx"), windows(6)
    assert taught.info == info
    assert taught.discriminator.config == discriminator.config
    right_B = right(discriminator, frozen, window_BT, SEEDED)
    atol = {"fp32": 1e-4, "fp16": 5e-3, "int8": 0.03}[precision]
    np.testing.assert_allclose(right(taught.discriminator, frozen, window_BT, SEEDED), right_B, atol=atol)


@pytest.mark.parametrize("name", ["qkvjudge_1", "hidden_weight", "centre"])
def test_a_discriminator_that_lacks_weights_cannot_be_read_back(damaged: Callable[..., Path], name: str) -> None:
    def change(proto: onnx.ModelProto) -> None:
        del proto.graph.initializer[[weight.name for weight in proto.graph.initializer].index(name)]

    with pytest.raises(ModelError, match=rf"d.onnx: its weights do not fit its description \('{name}'\)"):
        read_back(damaged(change))


def test_only_a_discriminator_can_be_read_back(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a generator, here a discriminator is needed"):
        read_back(preset.load("call").model)
    (folder / "d.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"d.onnx: is not an ONNX file"):
        read_back(folder / "d.onnx")
    with pytest.raises(ModelError, match=r"none.onnx: is not an ONNX file"):
        read_back(folder / "none.onnx")


@pytest.mark.parametrize(("length", "seed_length"), [(2, 1), (30, 2), (60, 50), (60, 1)])
def test_seed_and_continuation_may_have_any_length(
    folder: Path, frozen: Generator, length: int, seed_length: int
) -> None:
    export(folder, folder / "d.onnx", precision="fp32")
    window_BT = windows(2, length)
    verdict_B = OnnxDiscriminator(folder / "d.onnx").judge(window_BT, seed_length)
    np.testing.assert_allclose(verdict_B, right(made(SHAPE), frozen, window_BT, seed_length), atol=1e-4)


def test_a_window_is_judged_alone_as_in_a_batch(folder: Path) -> None:
    export(folder, folder / "d.onnx", precision="int8")
    exported, window_BT = OnnxDiscriminator(folder / "d.onnx"), windows(5)
    alone_B = np.concatenate([exported.judge(row[None], SEEDED) for row in window_BT])
    np.testing.assert_allclose(alone_B, exported.judge(window_BT, SEEDED), atol=1e-4)


def test_the_file_says_what_it_is(folder: Path, frozen: Generator, tmp_path: Path) -> None:
    out = tmp_path / "models" / "d.onnx"
    info = export(folder, out, precision="int8")
    assert info == DiscriminatorInfo(
        context=60,
        seed_length=SEEDED,
        continuation_length=CONTINUED,
        precision="int8",
        parameters=count_parameters(made(SHAPE)),
        corpus="songs",
        licence="CC0",
        generator=checkpoint.hash_of(frozen)[:16],
        validation_auroc=0.7,
        record={"discriminator": asdict(SHAPE), "history": HISTORY, "generator": RECORD},
    )
    assert OnnxDiscriminator(out).info == info
    assert [path.name for path in out.parent.iterdir()] == ["d.onnx"]


def test_other_weights_have_another_hash(frozen: Generator) -> None:
    before = checkpoint.hash_of(frozen)[:16]
    frozen.head.weight[0, 0] += 1e-3
    assert checkpoint.hash_of(frozen)[:16] != before


def test_a_graph_that_disagrees_is_not_written_and_the_old_file_stays(tmp_path: Path, frozen: Generator) -> None:
    discriminator = made(SHAPE)
    discriminator.verdict.weight *= 1000  # and with it every rounding
    out = tmp_path / "d.onnx"
    out.write_text("the old one")
    with pytest.raises(ModelError, match=r"nothing was written: whole windows: a verdict is off by.*short seeds"):
        export(saved(tmp_path, discriminator, frozen), out, precision="int8")
    assert out.read_text() == "the old one"
    assert not list(tmp_path.glob("*.partial"))


def test_only_the_folder_of_a_discriminator_is_one(folder: Path, tmp_path: Path) -> None:
    checkpoint.save_state(tmp_path / "run", {"generator": {}, "discriminator": {}, "progress": {}})
    assert trained_discriminator.find(folder)
    assert not trained_discriminator.find(tmp_path / "run")
    assert not trained_discriminator.find(folder / checkpoint.WEIGHTS)
    assert not trained_discriminator.find(tmp_path / "nowhere")


def test_a_checkpoint_of_weights_is_the_discriminator_of_its_folder(folder: Path, tmp_path: Path) -> None:
    trained = trained_discriminator.load(folder)
    trained_discriminator.save(folder / trained_discriminator.FILE, trained)
    again = trained_discriminator.load(folder / trained_discriminator.FILE)
    assert again.info == trained.info
    assert again.discriminator.config == SHAPE
    weights = trained.discriminator.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in again.discriminator.state_dict().items())
    for precision in PRECISIONS:
        for name, path in (("folder", folder), ("file", folder / trained_discriminator.FILE)):
            export(path, tmp_path / f"{name}.onnx", precision=precision)
        assert (tmp_path / "folder.onnx").read_bytes() == (tmp_path / "file.onnx").read_bytes()
    (folder / checkpoint.STATE).unlink()  # as it is shipped
    assert trained_discriminator.load(folder).info == trained.info


def test_what_is_no_checkpoint_of_a_discriminator_is_one_line(folder: Path, tmp_path: Path) -> None:
    path = folder / trained_discriminator.FILE
    with pytest.raises(CheckpointError, match=f"^{folder / checkpoint.WEIGHTS}: holds no discriminator; train one"):
        trained_discriminator.load(folder / checkpoint.WEIGHTS)
    path.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=f"^{path}: is not a checkpoint"):
        trained_discriminator.load(path)
    trained = trained_discriminator.load(folder)
    checkpoint.save_weights(path, trained.discriminator, {"musebridge.kind": "discriminator"})
    with pytest.raises(CheckpointError, match=f"^{path}: is not a discriminator .*lacks"):
        trained_discriminator.load(path)
    checkpoint.save_weights(path, torch.nn.Linear(2, 2), trained.info.to_metadata())
    with pytest.raises(CheckpointError, match=f"^{path}: is not a discriminator"):
        trained_discriminator.load(path)


def test_a_discriminator_beside_another_generator_is_not_exported(folder: Path, frozen: Generator) -> None:
    trained_discriminator.save(folder / trained_discriminator.FILE, trained_discriminator.load(folder))
    frozen.head.weight[0, 0] += 1e-3
    checkpoint.save_generator(folder / checkpoint.WEIGHTS, frozen, RECORD)
    with pytest.raises(CheckpointError, match="its generator is not the one that the discriminator was trained on"):
        export(folder / trained_discriminator.FILE, folder / "d.onnx", precision="fp32")


def test_an_export_reads_the_state_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the optimizers' moments as well, and is the largest file of a run."""
    read: list[Path] = []
    load = checkpoint.load_state
    monkeypatch.setattr(checkpoint, "load_state", lambda path: read.append(path) or load(path))
    run("export", folder, "-o", folder / "d.onnx", "--precision", "fp32")
    assert read == [folder]


def test_a_discriminator_that_was_never_measured_is_refused(folder: Path) -> None:
    state = checkpoint.load_state(folder)
    checkpoint.save_state(folder, {**state, "best": {}})
    with pytest.raises(CheckpointError, match="holds no discriminator"):
        export(folder, folder / "d.onnx", precision="fp32")


def test_a_generator_is_not_taken_for_a_discriminator_nor_the_other_way_round(folder: Path) -> None:
    refused(preset.load("call").model, "is a generator, here a discriminator is needed")
    export(folder, folder / "d.onnx", precision="fp32")
    with pytest.raises(ModelError, match="is a discriminator, here a generator is needed"):
        OnnxEngine(folder / "d.onnx")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "there is no such file")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(folder: Path, share: float) -> None:
    export(folder, folder / "d.onnx", precision="fp32")
    whole = (folder / "d.onnx").read_bytes()
    (folder / "d.onnx").write_bytes(whole[: int(len(whole) * share)])
    refused(folder / "d.onnx", "")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("vocabulary", "feedfacefeedface", "has vocabulary 'feedfacefeedface'"),
        ("seeded", "0", "metadata seed_length must be a whole number from 1, found 0"),
        ("continued", "many", "metadata continuation_length cannot be read"),
        ("continued", "99", "does not run"),
        ("precision", "int3", "precision must be one of fp32, fp16, int8, found 'int3'"),
        ("validation_auroc", "NaN", "validation_auroc must be a finite number or null"),
        ("kind", "oracle", "is a oracle, here a discriminator is needed"),
    ],
)
def test_metadata_that_cannot_be_is_refused(damaged: Callable[..., Path], field: str, value: str, reason: str) -> None:
    def change(proto: onnx.ModelProto) -> None:
        next(entry for entry in proto.metadata_props if entry.key == f"musebridge.{field}").value = value

    refused(damaged(change), reason)


def test_a_model_of_somebody_else_is_refused(damaged: Callable[..., Path]) -> None:
    refused(damaged(lambda proto: proto.ClearField("metadata_props")), "is not a MuseBridge model")


def test_an_opset_of_the_future_is_refused(damaged: Callable[..., Path]) -> None:
    def change(proto: onnx.ModelProto) -> None:
        proto.opset_import[0].version = 999

    refused(damaged(change), "cannot load it")


def test_verdicts_that_are_no_numbers_are_refused(damaged: Callable[..., Path]) -> None:
    def change(proto: onnx.ModelProto) -> None:
        table = next(weight for weight in proto.graph.initializer if weight.name == "judge_embedding")
        values = onnx.numpy_helper.to_array(table).copy()
        values[60] = np.nan
        table.CopyFrom(onnx.numpy_helper.from_array(values, table.name))

    exported = OnnxDiscriminator(damaged(change))
    assert np.isfinite(exported.judge(np.full((1, 48), 61), SEEDED)).all()
    with pytest.raises(EngineError, match="verdicts are not finite"):
        exported.judge(np.full((1, 48), 60), SEEDED)


def refused(path: Path, reason: str) -> None:
    """Assert that a file is refused in one line that names it and gives the reason."""
    with pytest.raises(ModelError) as caught:
        OnnxDiscriminator(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message


# At the command line


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def complaint(*arguments: object) -> str:
    """Run a command that must fail as a user's mistake does; return its one line."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert result.exit_code != 0
    return line


def test_export_then_continue_with_candidates_without_torch(folder: Path, tmp_path: Path) -> None:
    judge = tmp_path / "judge.onnx"
    assert "parameters, fp32" in run("export", folder, "-o", judge, "--precision", "fp32")
    for name in ("best", "again"):
        command = ["continue", PHRASE, "-o", tmp_path / f"{name}.mid", "--seconds", 4, "--candidates", 3]
        command += ["--discriminator", judge]
        script = (
            f"import sys; sys.modules['torch'] = None; from musebridge.cli import main; main({[*map(str, command)]})"
        )
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    best, again = ((tmp_path / f"{name}.mid").read_bytes() for name in ("best", "again"))
    assert best == again
    continuation = mido.MidiFile(tmp_path / "best.mid").tracks[1]
    struck, ended = (sum(m.type == kind for m in continuation) for kind in ("note_on", "note_off"))
    assert struck == ended > 0, "how many notes there are hangs on what the discriminator, which learned nothing, picks"


def test_candidates_without_a_discriminator_are_refused(tmp_path: Path) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(preset.load("call").model.read_bytes())
    line = complaint("continue", PHRASE, "-o", tmp_path / "o.mid", "--candidates", 2, "--model", model)
    assert f"{tmp_path / 'mine.discriminator.onnx'}: there is no such file" in line


def test_a_discriminator_without_candidates_is_refused(tmp_path: Path) -> None:
    line = complaint("continue", PHRASE, "-o", tmp_path / "o.mid", "--discriminator", tmp_path / "d.onnx")
    assert line == "Error: --discriminator chooses among candidates; give --candidates 2 or more"


def test_a_discriminators_likelihood_cannot_be_measured(folder: Path, tmp_path: Path) -> None:
    line = complaint("export", folder, "-o", tmp_path / "d.onnx", "--corpus", tmp_path)
    assert line == f"Error: --corpus measures a generator's likelihood; {folder} holds a discriminator"
