"""A step's task for each of the objectives: what is written, who hears it, and what is made of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musebridge.training.adversarial import objectives
from musebridge.training.adversarial.config import AdversarialConfig
from musebridge.training.adversarial.critic_trainer import CriticTrainer, artificial
from musebridge.training.adversarial.scorer import DiscriminatorScorer
from musebridge.training.compute.precision import product_type
from musebridge.training.models.discriminator import Discriminator
from musebridge.training.models.generator import Generator
from musebridge.training.sampling.best_of_n import ranked, scored, written
from musebridge.training.sampling.gumbel import sequential
from musebridge.training.sampling.pairs import Pairs
from musebridge.training.sampling.sampler import gumbel_noise, sample

Loss = Callable[..., Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Who takes part in a step.

    Attributes:
        generator: is trained.
        frozen: as it was after phase 1.
        discriminator: in evaluation mode, without gradients.
        judge: the discriminator with the frozen generator, whose hints it hears.
        criticism: where tokens are credited one by one.
        compile: see ``musebridge.training.sampling.sampler``.
    """

    generator: Generator
    frozen: Generator
    discriminator: Discriminator
    judge: DiscriminatorScorer
    critic_trainer: CriticTrainer | None
    compile: bool

    @property
    def device(self) -> torch.device:
        """Where they all are."""
        return self.generator.head.weight.device


class Step(NamedTuple):
    """What a step is given: pairs, their places among all of them, and the share of the budget that is used up."""

    pairs: Pairs
    at: npt.NDArray[np.int64]
    share: float


class Asked(NamedTuple):
    """The objective's loss; where new continuations were written, these, (B, C), and verdicts on what was written."""

    loss: Tensor
    written_BT: Tensor | None = None
    verdict: Tensor | None = None


def gumbel(models: Models, config: AdversarialConfig, loss: Loss, step: Step) -> Asked:
    """Write with noise that is kept, and ask the discriminator."""
    seed_BT, rng = _seeds(models, step)
    noise_BTV = gumbel_noise(len(seed_BT), config.continuation_length, rng)
    # A number that changes would be compiled anew each time; a tensor is not.
    temperature = torch.tensor(config.temperature + step.share * (config.last_temperature - config.temperature))
    if config.sequential:
        written_BTV = sequential(models.generator, seed_BT, noise_BTV, temperature)
        asked = objectives.recognised(models.discriminator, models.frozen, seed_BT, written_BTV)
        return Asked(asked, written_BTV.detach().argmax(-1))
    tokens_BT = sample(models.generator, seed_BT, noise_BTV, dtype=product_type(seed_BT.device), compile=models.compile)
    given = models.generator, models.discriminator, models.frozen, seed_BT, tokens_BT, noise_BTV
    return Asked(loss(*given, temperature, config.jacobi_iterations), tokens_BT)


def ddo(models: Models, config: AdversarialConfig, loss: Loss, step: Step) -> Asked:
    """Compare the likelihoods of real and artificial windows; nobody is asked."""
    window_MT = torch.from_numpy(step.pairs.windows).to(models.device)
    return Asked(loss(models.generator, models.frozen, window_MT, config.seed_length, config.beta))


def best_of_n(models: Models, config: AdversarialConfig, loss: Loss, step: Step) -> Asked:
    """Learn by heart what is liked best."""
    window_BNT, score_BN = _scored(models, config, step)
    best_BT = ranked(window_BNT, score_BN)[:, 0]
    return _of_new(loss(models.generator, best_BT, config.seed_length), window_BNT, score_BN, config)


def dpo(models: Models, config: AdversarialConfig, loss: Loss, step: Step) -> Asked:
    """Learn the order in which they are liked."""
    window_BNT, score_BN = _scored(models, config, step)
    ranked_BNT = ranked(window_BNT, score_BN)
    asked = loss(models.generator, models.frozen, ranked_BNT, config.seed_length, config.beta)
    return _of_new(asked, window_BNT, score_BN, config)


def policy_gradient(models: Models, config: AdversarialConfig, loss: Loss, step: Step) -> Asked:
    """Learn from each by how much more it is liked than the others of its seed."""
    seed_BT, rng = _seeds(models, step)
    written_MC = written(
        models.generator, seed_BT, config.continuation_length, config.samples_per_seed, rng, compile=models.compile
    )
    verdict_M, hints_MTF = models.judge.score(seed_BT, written_MC)
    ahead_M = objectives.leave_one_out_advantage(verdict_M.view(-1, config.samples_per_seed)).flatten()
    asked = loss(models.generator, seed_BT, written_MC, hints_MTF, ahead_M, config.kl)
    return Asked(asked, written_MC[:: config.samples_per_seed], verdict_M.mean())


def actor_critic(models: Models, config: AdversarialConfig, loss: Loss, step: Step) -> Asked:
    """Learn from kept continuations by what the critic did not expect."""
    assert models.critic_trainer  # which a run of this objective begins with
    heard = *artificial(step.pairs), torch.from_numpy(models.critic_trainer.verdict_N[step.at]).float()
    on_device = (x.to(models.device) for x in heard)
    given = models.generator, models.critic_trainer.critic, *on_device
    return Asked(loss(*given, config.seed_length, config.kl))


TASKS: dict[str, Callable[[Models, AdversarialConfig, Loss, Step], Asked]] = {
    task.__name__: task for task in (gumbel, ddo, best_of_n, dpo, policy_gradient, actor_critic)
}
OF_KEPT = frozenset(task.__name__ for task in (ddo, actor_critic))
"""Those that learn of continuations that the frozen generator wrote; the others write anew."""


def _seeds(models: Models, step: Step) -> tuple[Tensor, torch.Generator]:
    """Return the seeds on the generator's device, and randomness that follows from torch's seed."""
    rng = torch.Generator(models.device).manual_seed(torch.initial_seed())
    return torch.from_numpy(step.pairs.seed_NT).to(models.device), rng


def _scored(models: Models, config: AdversarialConfig, step: Step) -> tuple[Tensor, Tensor]:
    seed_BT, rng = _seeds(models, step)
    given = models.generator, models.judge, seed_BT, config.continuation_length, config.samples_per_seed, rng
    return scored(*given, compile=models.compile)


def _of_new(loss: Tensor, window_BNT: Tensor, score_BN: Tensor, config: AdversarialConfig) -> Asked:
    return Asked(loss, window_BNT[:, 0, config.seed_length :], score_BN.mean())
