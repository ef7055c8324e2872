"""The relativistic average adversarial loss (Eq. 5-6; Jolicoeur-Martineau, ICLR 2019)."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Mean = Callable[[Tensor], Tensor]
"""Expectation over the batch, and over ranks where there are several."""


def _mean(logits: Tensor) -> Tensor:
    return logits.mean()


def generator_loss(
    real: Float[Tensor, "B *patch"], fake: Float[Tensor, "B *patch"], mean: Mean = _mean
) -> Float[Tensor, ""]:
    """L_adv of Eq. 5: results should look more real than real pictures do on average, and the other way round.

    With D(x, y) = sigmoid(C(x) - E[C(y)]) of Eq. 6: -E[log(1 - D(real, fake))] - E[log D(fake, real)].

    Args:
        real, fake: logits C(image) and C(prediction), one or several per image.
        mean: expectation; the default is that of one process.

    Returns:
        scalar >= 0; 2 log 2 when the discriminator cannot tell.

    Example:
        >>> import torch
        >>> round(generator_loss(torch.zeros(2), torch.zeros(2)).item(), 4)
        1.3863
    """
    # softplus(z) = -log(1 - sigmoid(z)), without the overflow
    return F.softplus(real - mean(fake)).mean() + F.softplus(-(fake - mean(real))).mean()


def discriminator_loss(
    real: Float[Tensor, "B *patch"], fake: Float[Tensor, "B *patch"], mean: Mean = _mean
) -> Float[Tensor, ""]:
    """The discriminator's side, which the paper does not print: Eq. 5 with real and fake exchanged.

    Args:
        real, fake: logits; `fake` of a detached prediction.
        mean: as in `generator_loss`.

    Example:
        >>> import torch
        >>> discriminator_loss(torch.tensor([9.0]), torch.tensor([-9.0])).item() < 1e-6
        True
    """
    return generator_loss(fake, real, mean)
