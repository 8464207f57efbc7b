"""How phase 2 is run, and where a run stands."""

from __future__ import annotations

from dataclasses import dataclass

from musebridge.config import at_least, more_than
from musebridge.errors import ConfigError

OBJECTIVES = ("gumbel", "ddo", "best_of_n", "dpo", "policy_gradient", "actor_critic")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdversarialConfig:
    """How to fine-tune; the budget ends at ``tokens`` of continuation or ``seconds``, whichever is set.

    Attributes:
        objective: ``gumbel``, ``ddo``, ``best_of_n``, ``dpo``, ``policy_gradient`` or ``actor_critic``; see
            ``musebridge.training.adversarial.objectives``.
        seed_length, continuation_length: tokens of a seed and of its continuation.
        pairs, held_out: real and artificial continuations to train the discriminator on, and to measure it; of
            the first only seeds are needed where it is taken as it is and the objective writes anew.
        eval_pairs: held-out seeds by which checkpoints are measured.
        batch: seeds a step.
        grad_accumulation: parts that a step's seeds are computed in, one after another, which takes less memory; must
            divide ``batch``.
        lr, discriminator_lr: of AdamW, after ``warmup_steps``, falling linearly to zero at the end of the budget; a
            discriminator with 0 stays as it was.
        weight: of the objective.
        ce_weight: of the cross-entropy on real windows of ``ce_context`` tokens, ``ce_batch`` a step;
            0 for none.
        transpose: of these windows, see :class:`Augmentation`.
        temperature, last_temperature: of the relaxation, at the beginning and at the end (gumbel).
        sequential: back-propagate through every cached step (gumbel).
        jacobi_iterations: links of the chain through the context in the parallel mode (gumbel).
        beta: of the likelihood ratio of a continuation (ddo, dpo).
        kl: weight of the divergence from the pre-trained generator (policy_gradient, actor_critic).
        samples_per_seed: continuations of a seed to pick from, rank or weigh (best_of_n, dpo, policy_gradient); at
            least 2 where they are compared (dpo, policy_gradient).
        replay: share of replayed samples in a step of the discriminator.
        pause_above: a discriminator whose running AUROC is higher waits.
        ema: the average of the weights forgets 1 - ``ema`` a step; it is what is measured and saved.
        nll_rise, distinct: a checkpoint whose NLL rises by more, or whose distinct-4 falls under this share of the
            pre-trained generator's, is not taken, and ends the run.
        tolerance: a later checkpoint is taken unless its classifier's AUROC is higher than the lowest so far by this or
            more; two measurements of the same weights differ by as much.
        patience: end after this many measurements in a row whose checkpoint is not taken; 0 for never.
        validate_s, save_s: seconds between measurements and between checkpoints.
    """

    tokens: int = 0
    seconds: float = 0.0
    objective: str = "gumbel"
    seed_length: int = 192
    continuation_length: int = 192
    pairs: int = 16_384
    held_out: int = 2048
    eval_pairs: int = 512
    batch: int = 16
    grad_accumulation: int = 1
    lr: float = 5e-5
    discriminator_lr: float = 5e-5
    warmup_steps: int = 20
    weight: float = 1.0
    ce_weight: float = 1.0
    ce_context: int = 1024
    ce_batch: int = 2
    transpose: int = 5
    temperature: float = 1.0
    last_temperature: float = 0.5
    sequential: bool = False
    jacobi_iterations: int = 0
    beta: float = 0.05
    kl: float = 1.0
    samples_per_seed: int = 8
    replay: float = 0.5
    pause_above: float = 0.9
    clip: float = 1.0
    ema: float = 0.98
    nll_rise: float = 0.05
    distinct: float = 0.95
    tolerance: float = 0.01
    patience: int = 2
    seed: int = 0
    validate_s: float = 600.0
    save_s: float = 300.0

    def __post_init__(self) -> None:
        if (self.tokens > 0) == (self.seconds > 0):
            raise ConfigError("give the budget either as tokens or as seconds, more than 0")
        if self.objective not in OBJECTIVES:
            raise ConfigError(f"objective must be one of {', '.join(OBJECTIVES)}, found {self.objective!r}")
        at_least(self, 0, "jacobi_iterations", "lr", "discriminator_lr", "weight", "ce_weight", "replay", "ema")
        at_least(self, 0, "patience", "seed", "validate_s", "save_s", "nll_rise", "tolerance", "transpose")
        at_least(self, 0, "warmup_steps", "kl")
        at_least(self, 1, "seed_length", "continuation_length", "pairs", "held_out", "eval_pairs", "batch")
        at_least(self, 1, "grad_accumulation", "ce_context", "ce_batch", "samples_per_seed")
        more_than(self, 0, "temperature", "last_temperature", "clip", "beta")
        for name in ("replay", "pause_above", "distinct"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in 0..1, found {getattr(self, name)}")
        if self.objective in ("dpo", "policy_gradient") and self.samples_per_seed < 2:
            raise ConfigError(
                f"samples_per_seed must be at least 2 for {self.objective}, found {self.samples_per_seed}"
            )
        if self.batch % self.grad_accumulation:
            raise ConfigError(f"grad_accumulation must divide batch, found {self.grad_accumulation} and {self.batch}")
        if not self.ema < 1:
            raise ConfigError(f"ema must be less than 1, found {self.ema}")


@dataclass(slots=True)
class Progress:
    """Where a run stands; part of its checkpoint.

    Attributes:
        step, tokens, seconds: taken, written and spent so far.
        loss, nll, verdict: running means: of the objective, of real music, and of what the discriminator says of what
            was written; NaN where there is none.
        discriminator_auroc: a running mean too.
        paused: steps that the discriminator did not need.
        over: whether a limit was crossed.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float = float("nan")
    nll: float = float("nan")
    verdict: float = float("nan")
    discriminator_auroc: float = 0.5
    paused: int = 0
    over: bool = False
