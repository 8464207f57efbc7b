"""What the generator is asked for in phase 2, beside the likelihood of real music.

``gumbel``: that the discriminator take a straight-through sample for real
(Goodfellow et al. 2014, the non-saturating loss; see ``musebridge.training.sampling.gumbel``).
``ddo``: that its likelihood ratio to a frozen copy tell real continuations from
the copy's (Zheng et al. 2025, "Direct Discriminative Optimization"); no
discriminator is needed.
``best_of_n``: that it write what the discriminator picked among its own
continuations (expert iteration, Anthony et al. 2017).
``dpo``: that its likelihood ratio to a frozen copy rank continuations that it
wrote just now as the discriminator does (Rafailov et al. 2023, "Direct
Preference Optimization", appendix A.3).
``policy_gradient``: that the discriminator find more real what it writes, without
going further from a frozen copy than that is worth (Williams 1992, "REINFORCE";
the baseline is the mean of the seed's other continuations, Kool et al. 2019; KL penalty
of Ziegler et al. 2019). A discriminator's logit is a log ratio of densities, so where both weigh
the same, the best that can be reached is the distribution of real music. One step's
continuations should be hundreds: below that its gradient is mostly noise.
``actor_critic``: the same, but what a critic had expected before each token is the baseline (Konda and Tsitsiklis
2000; ``musebridge.training.models.critic``), and it learns from continuations of the frozen copy, each token weighed
by its likelihood ratio (Degris et al. 2012, "Off-Policy Actor-Critic"), so nothing is sampled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, ParamSpec

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from musebridge import vocab
from musebridge.training.adversarial.config import AdversarialConfig
from musebridge.training.adversarial.critic_trainer import CriticTrainer, artificial
from musebridge.training.adversarial.scorer import DiscriminatorScorer
from musebridge.training.compute.precision import product_type
from musebridge.training.models.critic import Critic
from musebridge.training.models.discriminator import Discriminator, Verdict
from musebridge.training.models.generator import Generator
from musebridge.training.models.token_features import branched_token_features
from musebridge.training.sampling.best_of_n import ranked, scored, written
from musebridge.training.sampling.gumbel import parallel, sequential
from musebridge.training.sampling.pairs import Pairs
from musebridge.training.sampling.sampler import gumbel_noise, sample

P = ParamSpec("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Who takes part in a step.

    Attributes:
        generator: is trained.
        frozen: as it was after phase 1.
        discriminator: in evaluation mode, without gradients.
        scorer: the discriminator with the frozen generator, whose token features it is given.
        critic_trainer: where tokens are credited one by one.
        compile: see ``musebridge.training.sampling.sampler``.
    """

    generator: Generator
    frozen: Generator
    discriminator: Discriminator
    scorer: DiscriminatorScorer
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


class Result(NamedTuple):
    """The objective's loss; where new continuations were written, these, (B, C), and verdicts on what was written."""

    loss: Tensor
    written_BT: Tensor | None = None
    verdict: Tensor | None = None


class Objective(ABC):
    """What a step asks of the generator.

    Args:
        config: how to fine-tune.
        compile: compile the loss; slower to start, faster to run.
    """

    needs_discriminator: ClassVar[bool] = True
    needs_critic: ClassVar[bool] = False
    learns_from_kept: ClassVar[bool] = False
    """Whether it learns from continuations that the frozen generator wrote; the others write anew."""

    def __init__(self, config: AdversarialConfig, *, compile: bool) -> None:
        self.config, self._compile = config, compile

    @abstractmethod
    def __call__(self, models: Models, step: Step) -> Result:
        """Return what a step's pairs give."""

    def _compiled(self, loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
        return torch.compile(loss) if self._compile else loss

    def _scored(self, models: Models, step: Step) -> tuple[Tensor, Tensor]:
        """Return new windows of each seed, (B, N, T), and how real they are, (B, N)."""
        seed_BT, rng = _seeds(models, step)
        given = seed_BT, self.config.continuation_length, self.config.samples_per_seed, rng
        return scored(models.generator, models.scorer, *given, compile=models.compile)

    def _of_new(self, loss: Tensor, window_BNT: Tensor, score_BN: Tensor) -> Result:
        return Result(loss, window_BNT[:, 0, self.config.seed_length :], score_BN.mean())


class Gumbel(Objective):
    """Write with noise that is kept, and ask the discriminator."""

    def __init__(self, config: AdversarialConfig, *, compile: bool) -> None:
        super().__init__(config, compile=compile)
        self.loss = self._compiled(gumbel_loss)

    def __call__(self, models: Models, step: Step) -> Result:
        """Return the loss of samples that are not taken for real, and these."""
        config, (seed_BT, rng) = self.config, _seeds(models, step)
        noise_BTV = gumbel_noise(len(seed_BT), config.continuation_length, rng)
        # A number that changes would be compiled anew each time; a tensor is not.
        temperature = torch.tensor(config.temperature + step.share * (config.last_temperature - config.temperature))
        if config.sequential:
            written_BTV = sequential(models.generator, seed_BT, noise_BTV, temperature)
            loss = recognised(models.discriminator, models.frozen, seed_BT, written_BTV)
            return Result(loss, written_BTV.detach().argmax(-1))
        dtype = product_type(seed_BT.device)
        tokens_BT = sample(models.generator, seed_BT, noise_BTV, dtype=dtype, compile=models.compile)
        given = models.generator, models.discriminator, models.frozen, seed_BT, tokens_BT, noise_BTV
        return Result(self.loss(*given, temperature, config.jacobi_iterations), tokens_BT)


class DirectDiscriminative(Objective):
    """Compare the likelihoods of real and artificial windows; no discriminator is asked."""

    needs_discriminator, learns_from_kept = False, True

    def __init__(self, config: AdversarialConfig, *, compile: bool) -> None:
        super().__init__(config, compile=compile)
        self.loss = self._compiled(ddo_loss)

    def __call__(self, models: Models, step: Step) -> Result:
        """Return the loss of the pairs as they are."""
        window_MT = torch.from_numpy(step.pairs.windows).to(models.device)
        return Result(self.loss(models.generator, models.frozen, window_MT, self.config.seed_length, self.config.beta))


class BestOfN(Objective):
    """Learn by heart what is scored highest."""

    def __init__(self, config: AdversarialConfig, *, compile: bool) -> None:
        super().__init__(config, compile=compile)
        self.loss = self._compiled(best_of_n_loss)

    def __call__(self, models: Models, step: Step) -> Result:
        """Return the loss of each seed's best continuation."""
        window_BNT, score_BN = self._scored(models, step)
        best_BT = ranked(window_BNT, score_BN)[:, 0]
        return self._of_new(self.loss(models.generator, best_BT, self.config.seed_length), window_BNT, score_BN)


class DirectPreference(Objective):
    """Learn the order in which continuations are scored."""

    def __init__(self, config: AdversarialConfig, *, compile: bool) -> None:
        super().__init__(config, compile=compile)
        self.loss = self._compiled(dpo_loss)

    def __call__(self, models: Models, step: Step) -> Result:
        """Return the loss of each seed's ranking."""
        config, (window_BNT, score_BN) = self.config, self._scored(models, step)
        given = models.generator, models.frozen, ranked(window_BNT, score_BN), config.seed_length, config.beta
        return self._of_new(self.loss(*given), window_BNT, score_BN)


class PolicyGradient(Objective):
    """Learn from each continuation by how much higher it is scored than the others of its seed."""

    def __init__(self, config: AdversarialConfig, *, compile: bool) -> None:
        super().__init__(config, compile=compile)
        self.loss = self._compiled(policy_gradient_loss)

    def __call__(self, models: Models, step: Step) -> Result:
        """Return the loss of new continuations, and the first of each seed."""
        config, (seed_BT, rng) = self.config, _seeds(models, step)
        length, n = config.continuation_length, config.samples_per_seed
        written_MC = written(models.generator, seed_BT, length, n, rng, compile=models.compile)
        verdict_M, features_MTF = models.scorer.score(seed_BT, written_MC)
        ahead_M = leave_one_out_advantage(verdict_M.view(-1, n)).flatten()
        loss = self.loss(models.generator, seed_BT, written_MC, features_MTF, ahead_M, config.kl)
        return Result(loss, written_MC[::n], verdict_M.mean())


class ActorCritic(Objective):
    """Learn from kept continuations by what the critic did not expect."""

    needs_critic, learns_from_kept = True, True

    def __init__(self, config: AdversarialConfig, *, compile: bool) -> None:
        super().__init__(config, compile=compile)
        self.loss = self._compiled(actor_critic_loss)

    def __call__(self, models: Models, step: Step) -> Result:
        """Return the loss of the pairs' artificial continuations."""
        trainer = models.critic_trainer
        assert trainer  # which a run of this objective begins with
        window_BT, features_BTF = (x.to(models.device) for x in artificial(step.pairs))
        verdict_B = torch.from_numpy(trainer.verdict_N[step.at]).float().to(models.device)
        given = models.generator, trainer.critic, window_BT, features_BTF, verdict_B
        return Result(self.loss(*given, self.config.seed_length, self.config.kl))


_CLASSES: dict[str, type[Objective]] = {
    "gumbel": Gumbel,
    "ddo": DirectDiscriminative,
    "best_of_n": BestOfN,
    "dpo": DirectPreference,
    "policy_gradient": PolicyGradient,
    "actor_critic": ActorCritic,
}
"""By the names that configurations and runs use, ``musebridge.training.adversarial.config.OBJECTIVES``."""


def objective_of(config: AdversarialConfig, *, compile: bool) -> Objective:
    """Return the objective that a configuration names."""
    return _CLASSES[config.objective](config, compile=compile)


def _seeds(models: Models, step: Step) -> tuple[Tensor, torch.Generator]:
    """Return the seeds on the generator's device, and randomness that follows from torch's seed."""
    rng = torch.Generator(models.device).manual_seed(torch.initial_seed())
    return torch.from_numpy(step.pairs.seed_NT).to(models.device), rng


def gumbel_loss(
    generator: Generator,
    discriminator: Discriminator,
    frozen: Generator,
    seed_BT: Tensor,
    tokens_BT: Tensor,
    noise_BTV: Tensor,
    temperature: float | Tensor,
    jacobi_iterations: int,
) -> Tensor:
    """Return the loss of samples that are not taken for real, in the parallel mode.

    Args:
        generator: to be trained.
        discriminator: in evaluation mode.
        frozen: gives the hints.
        seed_BT, tokens_BT, noise_BTV, temperature, jacobi_iterations: see
            :func:`musebridge.training.sampling.gumbel.parallel`.
    """
    written_BTV = parallel(generator, seed_BT, tokens_BT, noise_BTV, temperature, jacobi_iterations=jacobi_iterations)
    return recognised(discriminator, frozen, seed_BT, written_BTV)


def recognised(discriminator: Discriminator, frozen: Generator, seed_BT: Tensor, written_BTV: Tensor) -> Tensor:
    """Return the loss of straight-through continuations that are not taken for real."""
    seed_BTV = F.one_hot(seed_BT, vocab.N_TOKENS).to(written_BTV)
    window_BTV = torch.cat([seed_BTV, F.pad(written_BTV, (0, vocab.N_TOKENS - vocab.N_EVENTS))], 1)
    verdict: Verdict = discriminator(
        window_BTV, branched_token_features(frozen, seed_BT, written_BTV), seed_BT.shape[1]
    )
    return F.softplus(-verdict.whole_B).mean()


def ddo_loss(generator: Generator, frozen: Generator, window_MT: Tensor, seed_length: int, beta: float) -> Tensor:
    """Return the loss of a likelihood ratio that does not tell real continuations from the frozen generator's.

    Args:
        generator: to be trained.
        frozen: that wrote the artificial continuations.
        window_MT: real windows and, behind them, the artificial ones.
        seed_length: tokens of the seed, which do not count.
        beta: what the log ratio of a whole continuation is multiplied by.
    """
    real_B, fake_B = _log_ratios(generator, frozen, window_MT, seed_length, beta).chunk(2)
    return F.softplus(-real_B).mean() + F.softplus(fake_B).mean()


def best_of_n_loss(generator: Generator, best_BT: Tensor, seed_length: int) -> Tensor:
    """Return how unlikely the picked windows' continuations are, in nats per token."""
    return -log_likelihood(generator, best_BT, seed_length).mean() / (best_BT.shape[1] - seed_length)


def dpo_loss(generator: Generator, frozen: Generator, window_BNT: Tensor, seed_length: int, beta: float) -> Tensor:
    """Return the loss of a likelihood ratio that does not rank the N windows of a seed in their order, best first.

    The ratio is the worth of a window in the ranking model of Plackett and Luce; other arguments are those of
    :func:`ddo_loss`.
    """
    N = window_BNT.shape[1]
    worth_BN = _log_ratios(generator, frozen, window_BNT.flatten(0, 1), seed_length, beta).view(-1, N)
    of_the_rest_BN = worth_BN.flip(1).logcumsumexp(1).flip(1)
    return (of_the_rest_BN - worth_BN).sum(1).mean() / (N - 1)


def policy_gradient_loss(
    generator: Generator, seed_BT: Tensor, written_MC: Tensor, features_MTF: Tensor, ahead_M: Tensor, kl: float
) -> Tensor:
    """Return the generator's KL divergence from a frozen copy, per token; its gradient is that of what it outweighs.

    The divergence is estimated by the tokens that came: half the squared log likelihood ratio, whose gradient has
    the divergence's as its mean (Schulman 2020, "Approximating KL Divergence").

    Args:
        generator: to be trained; it wrote the continuations.
        seed_BT: seeds.
        written_MC: M / B continuations of each, side by side.
        features_MTF: what the copy thinks of seeds and continuations.
        ahead_M: how much better than the others of its seed each continuation is, in nats.
        kl: weight of the divergence.
    """
    log_p_MC = _chosen(generator.branch(seed_BT, written_MC)[1], written_MC)
    log_ratio_MC = log_p_MC + features_MTF[:, seed_BT.shape[1] :, 0]  # by surprise, which is the copy's -log p
    gain = (ahead_M[:, None] * log_p_MC).mean()  # its gradient is a score's; its value means nothing
    loss: Tensor = kl * log_ratio_MC.square().mean() / 2 - (gain - gain.detach())
    return loss


def leave_one_out_advantage(score_BN: Tensor) -> Tensor:
    """Return how much better each continuation was than the mean of its seed's others, (B, N), N at least 2."""
    N = score_BN.shape[1]
    return (score_BN - score_BN.mean(1, keepdim=True)) * N / (N - 1)


def actor_critic_loss(
    generator: Generator,
    critic: Critic,
    window_BT: Tensor,
    features_BTF: Tensor,
    verdict_B: Tensor,
    seed_length: int,
    kl: float,
) -> Tensor:
    """Return the KL divergence from the copy that wrote the windows, per token, less what is gained in verdicts.

    The divergence is estimated by the tokens that came, so that the copy need not read them again: with r the
    likelihood ratio, r log r - (r - 1) has the divergence as its mean and is never negative (Schulman 2020,
    "Approximating KL Divergence"). Its noise vanishes beside that of the verdicts.

    Args:
        generator: to be trained.
        critic: in evaluation mode.
        window_BT, features_BTF: windows, and what the copy thought while it wrote them.
        verdict_B: what the discriminator says of them.
        seed_length: tokens of the seed, which do not count.
        kl: weight of the divergence.
    """
    with torch.no_grad():
        unexpected_BC = verdict_B[:, None] - critic(window_BT, features_BTF, seed_length)[:, :-1]
    log_p_BC = _chosen(generator(window_BT[:, :-1], seed_length - 1), window_BT[:, seed_length:])
    log_ratio_BC = log_p_BC + features_BTF[:, seed_length:, 0]  # by surprise, which is the copy's -log p
    # Less 1, which has no gradient: what was gained so far, 0 at first, whatever the critic expects on average.
    weight_BC = log_ratio_BC.expm1()
    gain = (weight_BC * unexpected_BC).mean()
    divergence = (log_ratio_BC.exp() * log_ratio_BC - weight_BC).mean()
    loss: Tensor = kl * divergence - gain
    return loss


def _chosen(logits_BCV: Tensor, tokens_BC: Tensor) -> Tensor:
    """Return the log likelihood of tokens among all that can be sampled, (B, C)."""
    log_p_BCV = logits_BCV[..., : vocab.N_EVENTS].log_softmax(-1)
    return log_p_BCV.gather(-1, tokens_BC[..., None])[..., 0]


def _log_ratios(generator: Generator, frozen: Generator, window_MT: Tensor, seed_length: int, beta: float) -> Tensor:
    """Return ``beta`` times the log likelihood ratio of generator to frozen copy, (M,)."""
    with torch.no_grad():
        before_M = log_likelihood(frozen, window_MT, seed_length)
    return beta * (log_likelihood(generator, window_MT, seed_length) - before_M)


def log_likelihood(generator: Generator, window_BT: Tensor, seed_length: int) -> Tensor:
    """Return the log likelihood of each continuation given its seed, in nats, (B,)."""
    logits_BCV = generator(window_BT[:, :-1], seed_length - 1)
    return -F.cross_entropy(logits_BCV.transpose(1, 2), window_BT[:, seed_length:], reduction="none").sum(1)
