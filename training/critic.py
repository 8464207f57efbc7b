"""The critic: what the discriminator will say of a continuation, guessed at each token from what came before.

A verdict on the whole does not tell which tokens earned it. How much the guess rises
with a token does, roughly (Sutton 1988; Konda and Tsitsiklis 2000, "Actor-Critic
Algorithms"), and it can be asked of tokens that did not come as well as of the one
that did: a generator that learns from all of them learns from less noise.

The critic begins as the discriminator, but no token hears a later one.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from musebridge.training.course import Course, DiscriminatorTraining
from musebridge.training.discriminate import verdicts
from musebridge.training.discriminator import Discriminator
from musebridge.training.hints import addends, means
from musebridge.training.judging import Scores
from musebridge.training.samples import Pairs, kept

_AT_ONCE = 32
_STEADY = 10.0
"""Weight of what is guessed a token later, beside the verdict.

Both are what a guess should foresee (Sutton 1988, "temporal differences"). The verdict alone lets guesses rise and
fall from token to token by more than music tells, which its own variance hides.
"""


class Critic(Discriminator):
    """Windows to the verdict that is expected, at each token."""

    def __init__(self, discriminator: Discriminator) -> None:
        super().__init__(replace(discriminator.config, causal=True))
        self.load_state_dict(discriminator.state_dict())

    def forward(self, window_BT: Tensor, hints_BTF: Tensor, seeded: int) -> Tensor:  # type: ignore[override]
        """Return the verdict that is expected after the seed and after each token of the continuation, (B, C + 1).

        Args:
            window_BT, hints_BTF, seeded: as for a verdict.
        """
        hints_BTF = self.told(hints_BTF)
        x_BSD = self.heard(window_BT, hints_BTF)[0][:, seeded - 1 :]
        sum_BCN = addends(window_BT[:, seeded:], hints_BTF[:, seeded:]).cumsum(1)
        before_B1, x_BCD = self.token(x_BSD[:, :1])[..., 0], x_BSD[:, 1:]
        return torch.cat([before_B1, self._expected(x_BCD, x_BCD.cumsum(1), sum_BCN)], 1).float()

    def of_others(self, window_BT: Tensor, hints_BTF: Tensor, other_BCK: Tensor, other_hints_BCKF: Tensor) -> Tensor:
        """Return the verdict that would be expected had another token come in place of one, (B, C, K).

        Args:
            window_BT, hints_BTF: as for a verdict.
            other_BCK, other_hints_BCKF: K tokens for each of the continuation, and the hints of these.
        """
        hints_BTF, other_hints_BCKF = self.told(hints_BTF), self.told(other_hints_BCKF)
        (B, T), (C, K) = window_BT.shape, other_BCK.shape[1:]
        seeded, place_T = T - C, torch.arange(T, device=window_BT.device)
        x_BTD, past = self.heard(window_BT, hints_BTF)
        # Each of the K is a row of tokens that hear what came before them in the window, and themselves.
        sees_CS = torch.cat([place_T < place_T[seeded:, None], torch.eye(C, dtype=torch.bool, device=x_BTD.device)], 1)
        row_MC, row_hints_MCF = (x.transpose(1, 2).flatten(0, 1) for x in (other_BCK, other_hints_BCKF))
        past = [(key.repeat_interleave(K, 0), value.repeat_interleave(K, 0)) for key, value in past]
        y_MCD, _ = self.heard(row_MC, row_hints_MCF, first=seeded, past=past, sees_TS=sees_CS)
        y_BCKD = y_MCD.view(B, K, C, -1).transpose(1, 2)
        x_BCD, mine_BCN = x_BTD[:, seeded:], addends(window_BT[:, seeded:], hints_BTF[:, seeded:])
        earlier_BC1D, earlier_BC1N = ((x.cumsum(1) - x)[:, :, None] for x in (x_BCD, mine_BCN))
        sum_BCKN = earlier_BC1N + addends(other_BCK, other_hints_BCKF)
        return self._expected(y_BCKD, earlier_BC1D + y_BCKD, sum_BCKN).float()

    def _expected(self, x_BCD: Tensor, sum_BCD: Tensor, sum_BCN: Tensor) -> Tensor:
        """Return the expected verdict, (B, C, ...).

        What is written counts by its share of the whole, judged as if it were the whole; the rest is guessed from
        where the music is.

        Args:
            x_BCD: what is made of the newest token, (B, C, ..., D).
            sum_BCD, sum_BCN: over the continuation up to it, of that and of what the statistics are made from.
        """
        C = x_BCD.shape[1]
        length_C1 = torch.arange(1, C + 1, device=x_BCD.device).view(C, *[1] * (x_BCD.ndim - 2))
        share = length_C1[..., 0] / C
        so_far = self.judged(sum_BCD / length_C1, means(sum_BCN, length_C1))
        expected: Tensor = share * so_far + (1 - share) * self.token(x_BCD)[..., 0]
        return expected


class Criticism(Course):
    """A critic's training, on a frozen generator's continuations and a discriminator's verdicts on them.

    Args:
        discriminator: as it is after its own training.
        train, held_out: pairs of different pieces; their artificial continuations are learnt from.
        folder: of state and weights.
        config: how to train, as the discriminator was.
        command: how it was started, for the record.
        seed: of weights, order and dropout.
        compile: compile the loss; slower to start, faster to run.
    """

    figure = "explained"

    def __init__(
        self,
        discriminator: Discriminator,
        train: Pairs,
        held_out: Pairs,
        folder: Path,
        config: DiscriminatorTraining,
        *,
        command: str,
        seed: int = 0,
        compile: bool = True,
    ) -> None:
        torch.manual_seed(seed)
        self.critic = Critic(discriminator).to(next(discriminator.parameters()).device)
        self._compiled = torch.compile(_loss) if compile else _loss
        super().__init__(self.critic, train, folder, config, command=command, seed=seed)
        self._held_out = held_out
        if not self.has_ended:
            self._verdict_N, self._held_out_verdict_N = (
                kept(folder / f"{name}.npy", len(part), partial(_verdicts, discriminator, part))
                for name, part in (("verdicts", train), ("held-out-verdicts", held_out))
            )

    def _loss(self, at: npt.NDArray[np.int64]) -> Tensor:
        window_BT, hints_BTF = (x.to(self.device) for x in artificial(self.train[at]))
        verdict_B = torch.from_numpy(self._verdict_N[at]).float().to(self.device)
        loss: Tensor = self._compiled(self.critic, window_BT, hints_BTF, verdict_B, self._seeded)
        return loss

    @torch.no_grad()
    def _measure(self) -> float:
        """Return which share of the verdicts' variance the guesses explain, on average over the tokens."""
        self.critic.eval()
        parts = []
        window_NT, hints_NTF = artificial(self._held_out)
        for window_BT, hints_BTF in zip(
            torch.split(window_NT, _AT_ONCE), torch.split(hints_NTF, _AT_ONCE), strict=True
        ):
            with torch.autocast(self.device.type, torch.bfloat16):
                parts.append(self.critic(window_BT.to(self.device), hints_BTF.to(self.device), self._seeded))
        verdict_N1 = torch.from_numpy(self._held_out_verdict_N)[:, None]
        error = (torch.cat(parts).cpu() - verdict_N1).square().mean()
        return float(1 - error / verdict_N1.var(correction=0))

    @property
    def _seeded(self) -> int:
        return self.train.window.seeded


def _loss(critic: Critic, window_BT: Tensor, hints_BTF: Tensor, verdict_B: Tensor, seeded: int) -> Tensor:
    value_BC = critic(window_BT, hints_BTF, seeded)
    verdict_B1 = verdict_B[:, None].expand_as(value_BC)
    return F.mse_loss(value_BC, verdict_B1) + _STEADY * F.mse_loss(value_BC[:, :-1], value_BC[:, 1:].detach())


def artificial(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Return the windows that the generator wrote, and their hints."""
    window_NT = np.concatenate([pairs.seed_NT, pairs.fake_NT], 1)
    return torch.from_numpy(window_NT), torch.from_numpy(pairs.hints_N2TF[:, 1]).float()


def _verdicts(discriminator: Discriminator, pairs: Pairs) -> Scores:
    return verdicts(discriminator, *artificial(pairs), pairs.window.seeded)
