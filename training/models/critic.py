"""The critic: what the discriminator will say of a continuation, guessed at each token from what came before.

Of a verdict on the whole, a token can have earned no more than what was not to be expected before it came
(Konda and Tsitsiklis 2000, "Actor-Critic Algorithms"). A generator that is credited with that alone learns from
less noise.

The critic begins as the discriminator, but no token attends to a later one.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from musebridge.training.models.discriminator import Discriminator
from musebridge.training.models.token_features import running_statistics


class Critic(Discriminator):
    """Windows to the verdict that is expected, at each token."""

    def __init__(self, discriminator: Discriminator) -> None:
        super().__init__(replace(discriminator.config, causal=True))
        self.load_state_dict(discriminator.state_dict())

    def forward(self, window_BT: Tensor, features_BTF: Tensor, seed_length: int) -> Tensor:  # type: ignore[override]
        """Return the verdict that is expected after the seed and after each token of the continuation, (B, C + 1).

        What is written counts by its share of the whole, judged as if it were the whole; the rest is guessed from
        where the music is.

        Args:
            window_BT, features_BTF, seed_length: as for a verdict.
        """
        features_BTF = self.readable(features_BTF)
        x_BSD = self.token_states(window_BT, features_BTF, seed_length - 1)
        length_C = torch.arange(1, x_BSD.shape[1], device=x_BSD.device)
        pooled_BCD = x_BSD[:, 1:].cumsum(1) / length_C[:, None]
        so_far_BC = self.verdict_of(
            pooled_BCD, running_statistics(window_BT[:, seed_length:], features_BTF[:, seed_length:])
        )
        share_S = F.pad(length_C / len(length_C), (1, 0))
        value_BS: Tensor = share_S * F.pad(so_far_BC, (1, 0)) + (1 - share_S) * self.token(x_BSD)[..., 0]
        return value_BS.float()
