"""Exponential moving average of the weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """A copy of a model whose parameters follow the original's slowly, and whose buffers are the original's.

    A memory's contexts are buffers: they already are running means, on the scale of the latest features, and are
    copied rather than averaged. The copy writes only to itself.

    Args:
        decay: share that is kept per step; early on less, (1 + t) / (10 + t), so that the random start is forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model's present weights; to be called once after each optimizer step."""
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        mine: list[Tensor] = list(self.model.parameters())
        theirs: list[Tensor] = list(model.parameters())
        if mine:
            torch._foreach_lerp_(mine, theirs, 1 - keep)
        for own, other in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(other)
