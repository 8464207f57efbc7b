"""Straight-through samples: exactly one-hot forward, the soft relaxation's gradient backward, in both modes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from musebridge.training.models.discriminator import Discriminator, DiscriminatorConfig
from musebridge.training.models.generator import Generator, GeneratorConfig
from musebridge.training.models.token_features import token_features
from musebridge.training.sampling.gumbel import parallel, sequential, straight_through
from musebridge.training.sampling.sampler import gumbel_noise, sample

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = GeneratorConfig(n_layers=2, d_model=16, n_heads=2, n_kv_heads=1, d_ff=24, context=16)
SEEDED, WRITTEN = 4, 6


def sampled(
    generator: Generator, seed_BT: Tensor, noise_BTV: Tensor, temperature: float, jacobi_iterations: int = 0
) -> Tensor:
    """The parallel mode on what the generator wrote."""
    tokens_BT = sample(generator, seed_BT, noise_BTV, dtype=torch.float64)
    return parallel(generator, seed_BT, tokens_BT, noise_BTV, temperature, jacobi_iterations=jacobi_iterations)


MODES = pytest.mark.parametrize("mode", [sequential, sampled])


def generator_of(seed: int) -> Generator:
    """A generator of random weights: fresh, it would ignore its input. In double precision, for finite differences."""
    torch.manual_seed(seed)
    made = Generator(SHAPE).double()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return made


@pytest.fixture
def generator() -> Generator:
    return generator_of(0)


SEED_BT = torch.randint(0, 388, (3, SEEDED), generator=torch.Generator().manual_seed(1))
NOISE_BTV = gumbel_noise(3, WRITTEN, torch.Generator().manual_seed(2)).double()
WEIGHT_BTV = torch.randn(3, WRITTEN, 388, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def gradient(generator: Generator, written_BTV: Tensor) -> Tensor:
    """Return the gradient of a weighted sum of what was written, with respect to all weights."""
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad((WEIGHT_BTV * written_BTV).sum(), [*generator.parameters()])]
    )


@MODES
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_forward_pass_is_exactly_one_hot(generator, mode, temperature):
    written_BTV = mode(generator, SEED_BT, NOISE_BTV, temperature)
    assert written_BTV.unique().tolist() == [0.0, 1.0]
    assert (written_BTV.sum(-1) == 1).all()


@MODES
def test_the_same_noise_gives_the_tokens_that_were_sampled(generator, mode):
    written_BTV = mode(generator, SEED_BT, NOISE_BTV, 0.7)
    assert torch.equal(written_BTV.argmax(-1), sample(generator, SEED_BT, NOISE_BTV, dtype=torch.float64))


def test_the_gradient_is_the_soft_relaxations_by_finite_differences():
    logits_BTV = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    noise_BTV, weight_BTV = torch.randn(2, 2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    logits_BTV.requires_grad_()
    tokens_BT = (logits_BTV + noise_BTV).argmax(-1)
    (weight_BTV * straight_through(logits_BTV, noise_BTV, tokens_BT, 0.6)).sum().backward()

    def soft_sum(moved_BTV: Tensor) -> Tensor:
        return (weight_BTV * ((moved_BTV + noise_BTV) / 0.6).softmax(-1)).sum()

    for index in [(0, 0, 0), (0, 2, 4), (1, 1, 3)]:
        step_BTV = torch.zeros_like(logits_BTV)
        step_BTV[index] = 1e-5
        with torch.no_grad():
            slope = (soft_sum(logits_BTV + step_BTV) - soft_sum(logits_BTV - step_BTV)) / 2e-5
        torch.testing.assert_close(logits_BTV.grad[index], slope, rtol=1e-6, atol=1e-10)


def test_the_generators_gradient_is_the_soft_relaxations_by_finite_differences(generator):
    """The tokens that were sampled stay the context; along a direction the soft tokens change as the gradient says."""
    direction = {name: torch.randn_like(weight) for name, weight in generator.named_parameters()}
    along = torch.cat([d.flatten() for d in direction.values()])
    found = gradient(generator, sampled(generator, SEED_BT, NOISE_BTV, 0.6)) @ along
    tokens_BT = sample(generator, SEED_BT, NOISE_BTV, dtype=torch.float64)
    at, window_BT = {n: w.detach().clone() for n, w in generator.named_parameters()}, torch.cat([SEED_BT, tokens_BT], 1)

    @torch.no_grad()
    def soft_sum(step: float) -> Tensor:
        moved = {name: weight + step * direction[name] for name, weight in at.items()}
        logits_BTV = torch.func.functional_call(generator, moved, window_BT[:, :-1])[:, SEEDED - 1 :, :388]
        return (WEIGHT_BTV * ((logits_BTV + NOISE_BTV) / 0.6).softmax(-1)).sum()

    torch.testing.assert_close(found, (soft_sum(1e-5) - soft_sum(-1e-5)) / 2e-5, rtol=2e-3, atol=1e-6)


def test_an_iteration_for_every_token_gives_the_sequential_gradient(generator):
    expected = gradient(generator, sequential(generator, SEED_BT, NOISE_BTV, 0.8))
    distances = [
        (gradient(generator, sampled(generator, SEED_BT, NOISE_BTV, 0.8, jacobi_iterations=n)) - expected).norm().item()
        for n in (0, WRITTEN - 1)
    ]
    assert distances[1] < 1e-4 * expected.norm().item()  # logits are float32
    assert distances[0] > 0.05 * expected.norm().item()


@MODES
def test_the_verdict_has_a_gradient_on_every_weight_of_the_generator(generator, mode):
    discriminator = Discriminator(DiscriminatorConfig(n_layers=1, d_model=16, n_heads=2, n_kv_heads=1, d_ff=24))
    discriminator.double().eval()
    torch.nn.init.normal_(discriminator.hint.weight)
    frozen = generator_of(7).requires_grad_(False)
    written_BTV = mode(generator, SEED_BT, NOISE_BTV, 0.5)
    seed_BTV = torch.nn.functional.one_hot(SEED_BT, 388).double()
    window_BTV = torch.cat([seed_BTV, written_BTV], 1)
    verdict = discriminator(window_BTV, token_features(frozen, window_BTV).double(), SEEDED)
    torch.nn.functional.softplus(-verdict.whole_B).mean().backward()
    assert {name: bool(weight.grad.any()) for name, weight in generator.named_parameters()} == {
        name: True for name, _ in generator.named_parameters()
    }
