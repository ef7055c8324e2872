"""The objective that LaMa was published with, as a section of a recipe, and its discriminator's loss.

"Resolution-robust Large Mask Inpainting with Fourier Convolutions" (WACV 2022). All terms look at the raw prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cicm.objectives.adversarial import bce_generator_loss
from cicm.objectives.published import Section, Seen
from cicm.objectives.reconstruction import masked_l1


@dataclass(frozen=True)
class LaMaObjective(Section):
    """10 known + 10 adversarial + 100 matching + 30 perceptual; no term compares the hole's pixels.

    Args:
        known, hole: L1 on known and on missing pixels, means over all pixels (`masked_l1`); the hole's is 0.
        adversarial: -log sigmoid of the logits, mean over patches of the whole picture.
        matching: mean squared difference of the discriminator's maps, mean over the maps.
        perceptual: mean squared difference of the maps of a scene parser's encoder, summed over its four stages ("high
            receptive field perceptual loss").
        r1: weight of the penalty on the discriminator's gradient at real pictures (`gradient_penalty`); no term of the
            network.
        encoder: the file `encoder_epoch_20.pth`, for `perceptual` alone. Its publisher gives no checksum, so that it
            has to be named.
    """

    title: ClassVar[str] = "lama"
    classifier: ClassVar[str] = "ade20k"
    from_features: ClassVar[tuple[str, ...]] = ("perceptual",)
    from_judge: ClassVar[tuple[str, ...]] = ("adversarial", "matching")
    settings: ClassVar[tuple[str, ...]] = ("r1",)
    layers: ClassVar[tuple[str, ...]] = ("layer1", "layer2", "layer3", "layer4")

    known: float = 10.0
    hole: float = 0.0
    adversarial: float = 10.0
    matching: float = 100.0
    perceptual: float = 30.0
    r1: float = 0.001
    encoder: str = ""

    @property
    def needs_judge(self) -> bool:
        """Whether a term with a weight looks at the discriminator."""
        return any(getattr(self, name) != 0 for name in self.from_judge)

    def _terms(self, seen: Seen, wanted: list[str]) -> dict[str, Tensor]:
        terms = {}
        if "known" in wanted:
            terms["known"] = masked_l1(seen.prediction, seen.image, 1 - seen.hole)
        if "hole" in wanted:
            terms["hole"] = masked_l1(seen.prediction, seen.image, seen.hole)
        if "adversarial" in wanted or "matching" in wanted:
            assert seen.judge is not None
            with torch.no_grad():
                real_logits, real = seen.judge(seen.image)
            logits, maps = seen.judge(seen.prediction)
            if "adversarial" in wanted:
                terms["adversarial"] = bce_generator_loss(real_logits, logits)
            if "matching" in wanted:
                terms["matching"] = squared_difference(maps, real) / len(maps)
        if "perceptual" in wanted:
            look = seen.features[self.classifier]
            with torch.no_grad():
                targets = look(seen.image, self.layers)
            terms["perceptual"] = squared_difference(look(seen.prediction, self.layers), targets)
        return terms


def squared_difference(maps: Sequence[Tensor], targets: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Mean squared difference of the maps, summed over the layers.

    Example:
        >>> squared_difference([torch.ones(1, 2, 2, 2), torch.ones(1, 1)], [torch.zeros(1, 2, 2, 2), torch.zeros(1, 1)])
        tensor(2.)
    """
    return torch.stack([F.mse_loss(a, b) for a, b in zip(maps, targets, strict=True)]).sum()


def patch_loss(
    real: Float[Tensor, "B 1 h w"], fake: Float[Tensor, "B 1 h w"], hole: Float[Tensor, "B 1 H W"]
) -> Float[Tensor, ""]:
    """LaMa's discriminator's loss: a patch of a prediction that lies outside the hole counts as real.

    mean over patches of softplus(-real) + softplus(fake) where the hole is + softplus(-fake) where it is not; the hole
    is taken to the patches by nearest interpolation.

    Args:
        real, fake: logits; `fake` of a detached prediction.
        hole: (B, 1, H, W), 1 = missing.

    Example:
        >>> logits, hole = torch.full((1, 1, 1, 2), 9.0), torch.tensor([[[[1.0, 0.0]]]])
        >>> round(patch_loss(logits, logits, hole).item(), 3)
        4.5
    """
    missing = F.interpolate(hole, size=fake.shape[-2:], mode="nearest")
    return (F.softplus(-real) + F.softplus(fake) * missing + F.softplus(-fake) * (1 - missing)).mean()


def gradient_penalty(logits: Float[Tensor, "B *patch"], image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, ""]:
    """R1 (Mescheder et al., ICML 2018) without its half: squared length of the logits' gradient, mean over images.

    Args:
        logits: of the image, which requires a gradient.

    Example:
        >>> image = torch.ones(2, 3, 1, 1, requires_grad=True)
        >>> gradient_penalty(2 * image.sum((1, 2, 3)), image).item()
        12.0
    """
    (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()
