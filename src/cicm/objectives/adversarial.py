"""Adversarial losses: the relativistic average one (Eq. 5-6; Jolicoeur-Martineau, ICLR 2019), and the first of all.

Both come as a pair of functions of the same arguments, so that either can be named in a recipe (`ADVERSARIES`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Mean = Callable[[Tensor], Tensor]  # expectation over the batch, and over ranks where there are several


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

    Example:
        >>> import torch
        >>> discriminator_loss(torch.tensor([9.0]), torch.tensor([-9.0])).item() < 1e-6
        True
    """
    return generator_loss(fake, real, mean)


def bce_generator_loss(
    real: Float[Tensor, "B *patch"], fake: Float[Tensor, "B *patch"], mean: Mean = _mean
) -> Float[Tensor, ""]:
    """The generator's non-saturating loss (Goodfellow et al., NeurIPS 2014), -E[log sigmoid(C(fake))]; MISF's.

    Args:
        real: not looked at; the generator cannot change it.
        fake: logits C(prediction), one or several per image.

    Returns:
        scalar >= 0; log 2 when the discriminator cannot tell.

    Example:
        >>> import torch
        >>> round(bce_generator_loss(torch.zeros(2), torch.zeros(2)).item(), 4)
        0.6931
    """
    return F.softplus(-fake).mean()


def bce_discriminator_loss(
    real: Float[Tensor, "B *patch"], fake: Float[Tensor, "B *patch"], mean: Mean = _mean
) -> Float[Tensor, ""]:
    """The discriminator's side, (-E[log sigmoid(C(real))] - E[log(1 - sigmoid(C(fake)))]) / 2; MISF halves it too.

    Args:
        real, fake: logits; `fake` of a detached prediction.

    Example:
        >>> import torch
        >>> round(bce_discriminator_loss(torch.zeros(2), torch.zeros(2)).item(), 4)
        0.6931
    """
    return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2


def hinge_generator_loss(
    real: Float[Tensor, "B *patch"], fake: Float[Tensor, "B *patch"], mean: Mean = _mean
) -> Float[Tensor, ""]:
    """The generator's side of the hinge loss (Lim and Ye 2017), -E[C(fake)]; DeepFill v2's and PEN-Net's.

    Args:
        real: not looked at; the generator cannot change it.
        fake: logits C(result), one or several per image.

    Returns:
        scalar, without a bound.

    Example:
        >>> import torch
        >>> hinge_generator_loss(torch.zeros(2), torch.tensor([1.0, 2.0])).item()
        -1.5
    """
    return -fake.mean()


def hinge_discriminator_loss(
    real: Float[Tensor, "B *patch"], fake: Float[Tensor, "B *patch"], mean: Mean = _mean
) -> Float[Tensor, ""]:
    """The discriminator's side, (E[max(0, 1 - C(real))] + E[max(0, 1 + C(fake))]) / 2.

    Args:
        real, fake: logits; `fake` of a detached result.

    Returns:
        scalar >= 0; 1 when the discriminator cannot tell, 0 when all logits are beyond 1 on their side.

    Example:
        >>> import torch
        >>> hinge_discriminator_loss(torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 0.5])).item()
        0.625
    """
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


Adversary = Literal["ragan", "bce", "hinge"]

ADVERSARIES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "ragan": (generator_loss, discriminator_loss),
    "bce": (bce_generator_loss, bce_discriminator_loss),
    "hinge": (hinge_generator_loss, hinge_discriminator_loss),
}
"""Name -> the generator's loss and the discriminator's, each of (real, fake, mean)."""
