from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from musebridge.artifact import DiscriminatorInfo
from musebridge.bridge.core.candidates import Candidates, continue_with_best
from musebridge.bridge.core.continuation import continue_piece, cut, read
from musebridge.bridge.core.settings import Settings
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.errors import ModelError
from musebridge.events import NoteOff, NoteOn, Timed
from musebridge.vocab import NOTE_OFF

SETTINGS = Settings(top_p=1.0)
INFO = DiscriminatorInfo(
    context=64,
    seed_length=16,
    continuation_length=24,
    precision="fp32",
    parameters=1,
    corpus="songs",
    licence="CC0",
    generator="0123456789abcdef",
)


class Listener:
    """A judge that takes down what it is asked, and likes what a function says."""

    def __init__(self, likes: Callable[[list[int]], float]) -> None:
        self.info, self._likes = INFO, likes
        self.asked: list[tuple[np.ndarray, int]] = []

    def judge(self, window_BT: np.ndarray, seed_length: int) -> np.ndarray:
        self.asked.append((window_BT, seed_length))
        return np.array([self._likes(window_T.tolist()[seed_length:]) for window_T in window_BT], np.float32)


def strikes(tokens: list[int]) -> float:
    """Return how many notes begin."""
    return sum(token < 128 for token in tokens)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch = pytest.importorskip("torch", reason="an engine of random weights needs: pip install -e '.[train]'")
    from musebridge.export.graph import build_graph, describe
    from musebridge.export.nodes import write
    from musebridge.training.models.generator import Generator, GeneratorConfig

    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(n_layers=2, d_model=64, n_heads=4, n_kv_heads=2, d_ff=96, context=128)).eval()
    for weight in generator.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    info = describe(generator, {}, "fp32")
    write(build_graph(generator, info), info, path)
    return path


@pytest.fixture
def engine(model: Path) -> OnnxEngine:
    return OnnxEngine(model)


@pytest.fixture
def seed(make_piece) -> list[Timed]:
    return make_piece(1, notes=8)


def stream(engine: OnnxEngine, seed: list[Timed], count: int, number: int = 0) -> Candidates:
    return Candidates(engine, *read(seed), np.random.default_rng(number), count)


def best(engine: OnnxEngine, judge: Listener, seed: list[Timed], count: int, seconds: float = 12.0) -> list[Timed]:
    rng = np.random.default_rng(5)
    return continue_with_best(engine, seed, judge=judge, count=count, seconds=seconds, settings=SETTINGS, rng=rng)


def test_a_single_candidate_is_what_continue_writes(engine: OnnxEngine, seed: list[Timed]) -> None:
    only = stream(engine, seed, count=1).write(60, SETTINGS)[0]
    plain = continue_piece(engine, seed, seconds=60.0, settings=SETTINGS, rng=np.random.default_rng(0))
    assert len(only.tokens) == 60
    assert len(only.events) > 20
    assert only.events == plain[: len(only.events)]


def test_the_best_goes_on_and_is_what_the_next_ones_follow(engine: OnnxEngine, seed: list[Timed]) -> None:
    judge = Listener(strikes)
    written = best(engine, judge, seed, count=4)
    before = read(seed)[0]
    assert len(judge.asked) > 2
    for window_BT, seed_length in judge.asked:
        assert (window_BT.shape, seed_length) == ((4, 16 + 24), 16)
        assert window_BT[:, :16].tolist() == [before[-16:]] * 4
        before += max(window_BT[:, 16:].tolist(), key=strikes)
    struck = sum(isinstance(timed.event, NoteOn) for timed in written)
    assert struck <= strikes(before[len(read(seed)[0]) :])


def test_what_is_liked_is_written(engine: OnnxEngine, seed: list[Timed]) -> None:
    def notes_per_token(likes: Callable[[list[int]], float]) -> float:
        judge = Listener(likes)
        best(engine, judge, seed, count=6)
        chosen = [max(window_BT[:, n:].tolist(), key=likes) for window_BT, n in judge.asked]
        return float(np.mean([strikes(tokens) for tokens in chosen]))

    assert notes_per_token(strikes) > notes_per_token(lambda tokens: -strikes(tokens)) + 2


def test_a_short_seed_is_judged_as_far_as_it_goes(engine: OnnxEngine, seed: list[Timed]) -> None:
    judge = Listener(strikes)
    best(engine, judge, seed[:1], count=2, seconds=0.1)
    ((window_BT, seed_length),) = judge.asked
    before = read(seed[:1])[0]
    assert (seed_length, window_BT[0, :seed_length].tolist()) == (len(before), before)


def test_the_same_seed_gives_the_same_music(engine: OnnxEngine, seed: list[Timed]) -> None:
    assert best(engine, Listener(strikes), seed, count=3) == best(engine, Listener(strikes), seed, count=3)


def test_every_note_ends_within_the_time_asked_for(engine: OnnxEngine, seed: list[Timed]) -> None:
    written = best(engine, Listener(strikes), seed, count=2, seconds=2.5)
    start_s = seed[-1].time_s
    assert max(timed.time_s for timed in written) == pytest.approx(start_s + 2.5, abs=0.011)
    sounding: set[int] = set()
    for timed in written:
        match timed.event:
            case NoteOn(pitch=pitch):
                assert pitch not in sounding
                sounding.add(pitch)
            case NoteOff(pitch=pitch):
                sounding.remove(pitch)
    assert not sounding


def test_music_longer_than_the_window_is_written(engine: OnnxEngine, seed: list[Timed]) -> None:
    judge = Listener(strikes)
    best(engine, judge, seed, count=2, seconds=45.0)
    assert 24 * len(judge.asked) > 2 * engine.capacity


def test_a_piece_that_the_generator_cannot_hold_is_refused(engine: OnnxEngine, seed: list[Timed]) -> None:
    judge = Listener(strikes)
    judge.info = DiscriminatorInfo.from_metadata({**INFO.to_metadata(), "musebridge.continued": "128"}, "d.onnx")
    with pytest.raises(ModelError, match="judges 128 tokens at once, the generator reads 128 at most"):
        best(engine, judge, seed, count=2)


def test_a_cut_ends_what_sounds() -> None:
    music = [Timed(0.0, NoteOn(pitch=60, velocity=64)), Timed(1.0, NoteOn(pitch=64, velocity=64))]
    assert cut(music, 1.0) == [music[0], Timed(1.0, NoteOff(pitch=60))]


def test_candidates_end_what_was_handed_over(engine: OnnxEngine, seed: list[Timed]) -> None:
    held = Timed(seed[-1].time_s, NoteOn(pitch=30, velocity=64))
    judge = Listener(strikes)
    events = continue_with_best(
        engine,
        [*seed, held],
        judge=judge,
        count=2,
        seconds=1.0,
        settings=SETTINGS,
        rng=np.random.default_rng(5),
        begin_s=held.time_s + 0.5,
        handed_over=[held],
    )
    begin_s, first = held.time_s + 0.5, next(timed for timed in events if timed.event.pitch == 30)
    assert isinstance(first.event, NoteOff)
    assert begin_s <= first.time_s <= begin_s + 1.0 + 0.01
    assert NOTE_OFF + 30 not in judge.asked[0][0][0][: judge.asked[0][1]]
