"""LaMa's other half of a step: its discriminator, after the network, on a new forward of it.

Differs from `training.step`'s discriminators, which move first: here the network's terms see the discriminator of
before, in training mode, so that its batch norms use each batch's own statistics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from cicm.objectives import Judge, gradient_penalty, patch_loss


class Referee(nn.Module):
    """A `MapDiscriminator` with its loss, for the engine to wrap: the penalty's gradient is taken within the call.

    Args:
        r1: weight of the penalty.
    """

    def __init__(self, judge: nn.Module, r1: float) -> None:
        super().__init__()
        self.judge, self.r1 = judge, r1

    def forward(self, image: Tensor, fake: Tensor, hole: Tensor) -> Tensor:
        """The loss on pictures (B, 3, H, W) and detached predictions, which are judged apart."""
        real = image.detach().requires_grad_(self.r1 != 0)
        logits, invented = (_wide(self.judge(pictures)[0]) for pictures in (real, fake))
        loss = patch_loss(logits, invented, hole)
        return loss + self.r1 * gradient_penalty(logits, real) if self.r1 else loss


def constant_judge(fabric: Any, judge: Any) -> Judge:
    """A discriminator as a function of pictures, whose own parameters get no gradient."""

    def look(pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        # The bare network: the generator's step must neither reach nor synchronise its gradients.
        judge.requires_grad_(False)
        try:
            with fabric.autocast():
                logits, maps = judge(pictures)
        finally:
            judge.requires_grad_(True)
        return _wide(logits), [_wide(one) for one in maps]

    return look


def discriminator_step(
    fabric: Any,
    players: Any,
    batches: Sequence[Mapping[str, Tensor]],
    clip: float,
    forward: Callable[[Any, Mapping[str, Tensor]], Any],
) -> Tensor:
    """One step of the discriminator; returns its loss, the penalty included.

    Args:
        players: as `training.step` has them, `discriminator` a `Referee`; the network is in training mode and is called
            once for each micro-batch.
        clip: largest norm of the gradient; 0 clips nothing.
        forward: (model, batch) -> what the model gives.
    """
    players.discriminator_optimizer.zero_grad(set_to_none=True)
    losses = []
    for index, batch in enumerate(batches):
        with torch.no_grad():
            fake = forward(players.model, batch).prediction.image
        last = index == len(batches) - 1
        with nullcontext() if last else fabric.no_backward_sync(players.discriminator):
            loss = players.discriminator(batch["image"], fake, batch["hole"])
            fabric.backward(loss / len(batches))
        losses.append(loss.detach())
    fabric.clip_gradients(
        players.discriminator, players.discriminator_optimizer, max_norm=clip or math.inf, error_if_nonfinite=False
    )
    players.discriminator_optimizer.step()
    return torch.stack(losses).mean()


def _wide(values: Tensor) -> Tensor:
    """At least float32."""
    return values if values.dtype == torch.float64 else values.float()
