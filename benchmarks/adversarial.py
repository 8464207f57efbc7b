"""Time of sampling, and of a generator's update in each mode of the straight-through objective.

The rival of sampling is the loop that was here before: keys and values grow by
concatenation, tokens are drawn by ``multinomial``. The rival of the parallel
mode is the sequential one, which back-propagates through every cached step, in a
process of its own; how well their gradients agree is measured beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from musebridge import vocab
from musebridge.benchmarks.measure import Row, elsewhere, in_turns, row_of, seconds
from musebridge.errors import CorpusError
from musebridge.training.adversarial import objectives
from musebridge.training.compute import malloc
from musebridge.training.compute.precision import autocast, product_type
from musebridge.training.data import corpus
from musebridge.training.models.checkpoint import load
from musebridge.training.models.discriminator import Discriminator, DiscriminatorConfig
from musebridge.training.models.generator import Generator
from musebridge.training.sampling.gumbel import parallel, sequential
from musebridge.training.sampling.pairs import starts_within_pieces
from musebridge.training.sampling.sampler import gumbel_noise, sample, sample_continuations

NAIVE, OURS = "continuations, concatenated cache", "continuations, allocated cache, compiled"
SEQUENTIAL, PARALLEL = "update, sequential", "update, parallel"


def rows_of(
    checkpoint: Path, corpus_dir: Path, *, seeds: int, seed_length: int, length: int, update_batch: int, rounds: int
) -> list[Row]:
    """Measure a trained generator on seeds from the validation split; see :func:`rows`.

    Raises:
        CheckpointError: it is no default generator.
        CorpusError: the split has too few windows.
    """
    generator = load(checkpoint)[0].requires_grad_(True)
    tokens = corpus.load(corpus_dir).splits["validation"]
    starts = starts_within_pieces(tokens, seed_length, seed=0)[:seeds]
    if len(starts) < seeds:
        raise CorpusError(
            f"{corpus_dir}: validation has {len(starts)} windows of {seed_length} tokens, {seeds} are asked for"
        )
    seed_BT = torch.from_numpy(np.stack([tokens[s : s + seed_length].astype(np.int64) for s in starts]))
    names = ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_ff", "context")
    shape = DiscriminatorConfig(**{name: getattr(generator.config, name) for name in names})
    return [*rows(generator, shape, seed_BT, length=length, update_batch=update_batch, rounds=rounds)]


def rows(
    generator: Generator,
    discriminator: DiscriminatorConfig,
    seed_BT: Tensor,
    *,
    length: int,
    update_batch: int,
    rounds: int,
) -> Iterator[Row]:
    """Measure sampling on all seeds, and updates and gradients on the first ``update_batch``, in turns.

    Args:
        generator: trained, for the gradients to mean something.
        discriminator: its shape.
        seed_BT: token ids.
        length: of a continuation.
        update_batch: seeds of an update.
        rounds: how often each is measured.
    """
    yield from _rates(generator, seed_BT, length, rounds)
    few_BT = seed_BT[:update_batch]
    noise_BTV = gumbel_noise(len(few_BT), length, torch.Generator().manual_seed(0))
    given = generator, discriminator, few_BT, noise_BTV
    modes = {SEQUENTIAL: None, PARALLEL: 0, "update, parallel, 1 Jacobi iteration": 1}
    with ExitStack() as stack:
        subjects = {name: stack.enter_context(elsewhere(_updates, *given, mode)) for name, mode in modes.items()}
        yield from in_turns(subjects, rounds, turn=1)
    yield from _agreement(generator, few_BT, noise_BTV, rounds)


@contextmanager
def _updates(
    generator: Generator, shape: DiscriminatorConfig, seed_BT: Tensor, noise_BTV: Tensor, jacobi_iterations: int | None
) -> Iterator[Callable[[], object]]:
    """Give what finds an update's gradient: in parallel with Jacobi iterations, sequentially where these are None."""
    malloc.keep_freed()
    judge = Discriminator(shape).eval().requires_grad_(False)
    frozen = Generator(generator.config).eval().requires_grad_(False)
    frozen.load_state_dict(generator.state_dict())
    compiled, dtype = torch.compile(objectives.gumbel_loss), product_type(seed_BT.device)

    def loss() -> Tensor:
        if jacobi_iterations is None:
            return objectives.recognised(judge, frozen, seed_BT, sequential(generator, seed_BT, noise_BTV, 1.0))
        tokens_BT = sample(generator, seed_BT, noise_BTV, dtype=dtype, compile=True)
        found: Tensor = compiled(
            generator, judge, frozen, seed_BT, tokens_BT, noise_BTV, torch.tensor(1.0), jacobi_iterations
        )
        return found

    def update() -> None:
        with autocast(seed_BT.device):
            value = loss()
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        generator.zero_grad()

    yield update


def ratios(rows: Sequence[Row]) -> str:
    """Return how sampling and the parallel update compare with their rivals, in one line."""
    p50 = {row.name: row.p50 for row in rows}
    return (
        f"sampling is {p50[OURS] / p50[NAIVE]:.1f} times as fast as with a concatenated cache, "
        f"a parallel update {p50[SEQUENTIAL] / p50[PARALLEL]:.1f} times as fast as a sequential one"
    )


def _rates(generator: Generator, seed_BT: Tensor, length: int, rounds: int) -> Iterator[Row]:
    rng, dtype = torch.Generator().manual_seed(0), product_type(seed_BT.device)
    subjects: dict[str, Callable[[], object]] = {
        NAIVE: lambda: _naive(generator, seed_BT, length, rng),
        "continuations, allocated cache, float32": lambda: sample_continuations(generator, seed_BT, length, rng),
        "continuations, allocated cache": lambda: sample_continuations(generator, seed_BT, length, rng, dtype=dtype),
        OURS: lambda: sample_continuations(generator, seed_BT, length, rng, dtype=dtype, compile=True),
    }
    rates: dict[str, list[float]] = {name: [] for name in subjects}
    subjects[OURS]()  # which compiles it
    for _ in range(rounds):
        for name, call in subjects.items():
            rates[name].append(len(seed_BT) / seconds(call))
    yield from (row_of(name, "1/s", np.array(rate)) for name, rate in rates.items())


@torch.inference_mode()
def _naive(generator: Generator, seed_BT: Tensor, length: int, rng: torch.Generator) -> Tensor:
    logits_BTV, cache = generator.extend(seed_BT, None)
    sampled: list[Tensor] = []
    for _ in range(length):
        probability_BV = logits_BTV[:, -1, : vocab.N_EVENTS].softmax(-1)
        sampled.append(torch.multinomial(probability_BV, 1, generator=rng))
        logits_BTV, cache = generator.extend(sampled[-1], cache)
    return torch.cat(sampled, 1)


def _agreement(generator: Generator, seed_BT: Tensor, noise_BTV: Tensor, rounds: int) -> Iterator[Row]:
    """Measure the cosine between the modes' gradients of random weights on the straight-through tokens, in float32."""
    cosines: dict[int, list[float]] = {0: [], 1: [], 4: []}
    tokens_BT = sample(generator, seed_BT, noise_BTV)
    for i in range(rounds):
        weight_BTV = torch.randn(noise_BTV.shape, generator=torch.Generator().manual_seed(i))

        def gradient(written_BTV: Tensor, weight_BTV: Tensor = weight_BTV) -> Tensor:
            parts = torch.autograd.grad((weight_BTV * written_BTV).sum(), [*generator.parameters()])
            return torch.cat([part.flatten() for part in parts])

        whole = gradient(sequential(generator, seed_BT, noise_BTV, 1.0))
        for jacobi_iterations, found in cosines.items():
            part = gradient(
                parallel(generator, seed_BT, tokens_BT, noise_BTV, 1.0, jacobi_iterations=jacobi_iterations)
            )
            found.append(torch.cosine_similarity(whole, part, dim=0).item())
    for jacobi_iterations, found in cosines.items():
        yield row_of(
            f"gradient, parallel with {jacobi_iterations} Jacobi iterations and sequential", "cosine", np.array(found)
        )
