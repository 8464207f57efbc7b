"""Does the exported file compute what the generator computes?

The file is run by the engine that will play it, and torch in fp32 says what is right.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from musebridge import vocab
from musebridge.bridge.inference.discriminator import OnnxDiscriminator
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.errors import CorpusError, ModelError
from musebridge.export import quantize
from musebridge.training.models.discriminator import Discriminator
from musebridge.training.models.generator import Generator
from musebridge.training.models.token_features import token_features
from musebridge.training.sampling.sampler import sample_continuations

Logits = npt.NDArray[np.float32]

N_STEPS = 256
_AT_ONCE = quantize.FEW // 2
"""Tokens of a call, so few that the int8 graph reads its rounded buffers."""
CHUNKS = (1, 2, 7, 64, 3, 33, 128)
"""Lengths of prefill that are mixed, over and over, until the context is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a precision may stray from torch in fp32.

    Attributes:
        logit: largest difference of any logit.
        divergence: mean Kullback–Leibler divergence of the distributions, in nats.
    """

    logit: float
    divergence: float


TOLERANCES = {
    "fp32": Tolerance(logit=1e-3, divergence=1e-6),
    "fp16": Tolerance(logit=0.1, divergence=1e-5),
    "int8": Tolerance(logit=1.0, divergence=5e-3),
}
NLL_TOLERANCE = 0.01
VERDICT_TOLERANCES = {"fp32": 0.001, "fp16": 0.05, "int8": 0.3}
"""How far a verdict, a logit, may stray from torch in fp32."""
N_WINDOWS = 16
"""Windows on which a discriminator is compared."""


def check(generator: Generator, path: Path) -> None:
    """Compare an exported file with its generator, over single steps and chunks.

    Raises:
        ModelError: it differs; the message lists every comparison that failed.
    """
    engine = OnnxEngine(path)
    tokens = np.random.default_rng(0).integers(0, vocab.N_EVENTS, engine.capacity).tolist()
    right_TV = reference(generator, tokens)
    tolerance = TOLERANCES[engine.info.precision]
    failures = [
        *_differences("single steps", _by_steps(engine, tokens[:N_STEPS]), right_TV[:N_STEPS], tolerance),
        *_differences("steps after a rollback", _replayed(engine, tokens[:N_STEPS]), right_TV[:N_STEPS], tolerance),
        *_differences("mixed chunks", _by_chunks(engine, tokens), right_TV, tolerance),
    ]
    if failures:
        raise ModelError(f"the exported graph disagrees with its generator, nothing was written: {'; '.join(failures)}")


@torch.inference_mode()
def reference(generator: Generator, tokens: list[int]) -> Logits:
    """Return the generator's own logits after each token, shape (T, V)."""
    logits_TV: Logits = generator(torch.tensor([tokens]))[0].numpy()
    return logits_TV


@torch.inference_mode()
def check_discriminator(discriminator: Discriminator, generator: Generator, path: Path) -> None:
    """Compare an exported discriminator with the trained one, on what its generator writes out of nothing.

    Args:
        discriminator: in evaluation mode, as torch runs it in fp32.
        generator: gives the hints.
        path: the exported file.

    Raises:
        ModelError: a verdict differs; the message lists every comparison that failed.
    """
    exported = OnnxDiscriminator(path)
    info = exported.info
    begin_B1 = torch.full((N_WINDOWS, 1), vocab.BEGIN)
    rng = torch.Generator().manual_seed(0)
    written_BT = sample_continuations(generator, begin_B1, info.seed_length + info.continuation_length - 1, rng)
    window_BT = torch.cat([begin_B1, written_BT], 1)
    failures = []
    for name, skipped in (("whole windows", 0), ("short seeds", info.seed_length // 2)):
        part_BT, seed_length = window_BT[:, skipped:], info.seed_length - skipped
        right_B = discriminator(part_BT, token_features(generator, part_BT), seed_length).whole_B.numpy()
        far = np.abs(exported.judge(part_BT.numpy(), seed_length) - right_B).max()
        if not far <= VERDICT_TOLERANCES[info.precision]:
            failures.append(f"{name}: a verdict is off by {far:.3g}, allowed is {VERDICT_TOLERANCES[info.precision]:g}")
    if failures:
        raise ModelError(
            f"the exported graph disagrees with its discriminator, nothing was written: {'; '.join(failures)}"
        )


def nll_change(
    generator: Generator,
    path: Path,
    tokens: npt.NDArray[np.uint16],
    *,
    limit: int = 100_000,
    on_progress: Callable[[float], None] = lambda _: None,
) -> float:
    """Return the validation NLL of an exported file minus that of its generator, in nats per token.

    Windows as long as the context are spread evenly over the tokens, and the
    second half of each is scored.

    Args:
        generator: runs in fp32.
        path: the exported file.
        tokens: a packed split, shape (N,).
        limit: score at least this many tokens, or all there are.
        on_progress: called with the share that is done, 0..1.

    Raises:
        CorpusError: there are too few tokens for a single window.
        ModelError: the file is worse by more than ``NLL_TOLERANCE``.
    """
    engine = OnnxEngine(path)
    windows = _windows(tokens, engine.capacity, limit)
    changes: list[float] = []
    for window in windows:
        changes.append(_window_change(generator, engine, window))
        on_progress(len(changes) / len(windows))
    change = float(np.mean(changes))
    if not change <= NLL_TOLERANCE:
        raise ModelError(
            f"the exported graph's validation NLL is {change:+.4f} nats per token worse than its generator's "
            f"(allowed is {NLL_TOLERANCE}), nothing was written; export with another precision"
        )
    return change


def _windows(tokens: npt.NDArray[np.uint16], context: int, limit: int) -> list[list[int]]:
    if len(tokens) <= context:
        raise CorpusError(f"the validation split has {len(tokens)} tokens, a window needs {context + 1}; prepare more")
    count = min(-(-limit // (context - context // 2)), len(tokens) // context)
    starts = np.linspace(0, len(tokens) - context - 1, count).astype(int)
    return [tokens[start : start + context + 1].tolist() for start in starts]


def _window_change(generator: Generator, engine: OnnxEngine, window: list[int]) -> float:
    """Return the change of NLL over the second half of a window."""
    warm = engine.capacity // 2
    targets = torch.tensor(window[warm + 1 :])
    engine.rollback(0)
    engine.prefill(window[:warm])
    # A few at a time, as in playing: many at once are attended to before they are rounded.
    read = window[warm:-1]
    parts = [engine.score(read[i : i + _AT_ONCE]).copy() for i in range(0, len(read), _AT_ONCE)]
    exported_TV = torch.from_numpy(np.concatenate(parts))
    right_TV = torch.from_numpy(reference(generator, window[:-1])[warm:])
    return (F.cross_entropy(exported_TV, targets) - F.cross_entropy(right_TV, targets)).item()


def _by_steps(engine: OnnxEngine, tokens: list[int]) -> Logits:
    engine.rollback(0)
    return np.stack([engine.step(token).copy() for token in tokens])


def _replayed(engine: OnnxEngine, tokens: list[int]) -> Logits:
    """Read all, go back half-way, and read the second half again."""
    half = len(tokens) // 2
    first_TV = _by_steps(engine, tokens)[:half]
    engine.rollback(half)
    return np.concatenate([first_TV, [engine.step(token).copy() for token in tokens[half:]]])


def _by_chunks(engine: OnnxEngine, tokens: list[int]) -> Logits:
    engine.rollback(0)
    parts: list[Logits] = []
    for length in itertools.cycle(CHUNKS):
        if engine.length == len(tokens):
            return np.concatenate(parts)
        parts.append(engine.score(tokens[engine.length : engine.length + length]))
    raise AssertionError("cycle() does not end")


def _differences(name: str, found_TV: Logits, right_TV: Logits, tolerance: Tolerance) -> Iterator[str]:
    """Yield what is out of tolerance, in words."""
    far = np.abs(found_TV - right_TV).max()
    if not far <= tolerance.logit:
        yield f"{name}: a logit is off by {far:.3g}, allowed is {tolerance.logit:g}"
    log_found_TV, log_right_TV = (F.log_softmax(torch.from_numpy(x), -1) for x in (found_TV, right_TV))
    divergence = F.kl_div(log_found_TV, log_right_TV, log_target=True, reduction="batchmean").item()
    if not divergence <= tolerance.divergence:
        yield f"{name}: mean divergence is {divergence:.3g} nats, allowed is {tolerance.divergence:g}"
