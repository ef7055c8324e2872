"""The objectives that gated convolution and PEN-Net were published with: errors of all the pictures that they predict.

As sections of a recipe, like those of `published`. Both networks were trained in [-1, 1]; so their terms are twice the
difference of our pictures in [0, 1], and stand to the adversarial term as they did.

Facts are those of the published code:
    gated   "Free-Form Image Inpainting with Gated Convolution" (ICCV 2019)
    pen     "Learning Pyramid-Context Encoder Network for High-Quality Image Inpainting" (CVPR 2019)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from cicm.conventions import InputError
from cicm.objectives.published import Section, Seen
from cicm.objectives.reconstruction import LEAST_SHARE, masked_l1

_RANGE = 2.0
"""Width of [-1, 1] over that of [0, 1]."""


@dataclass(frozen=True)
class GatedObjective(Section):
    """1 L1 of the rough fill + 1 L1 of the fine one, and 1 adversarial, which is `objective.weights.adversarial`.

    Args:
        rough, fine: mean absolute error over all pixels, known ones included, of the raw prediction of each stage.
    """

    title: ClassVar[str] = "gated"

    rough: float = 1.0
    fine: float = 1.0

    def _terms(self, seen: Seen, wanted: list[str]) -> dict[str, Tensor]:
        terms = {}
        if "rough" in wanted:
            rough = _earlier(seen, 1, "gated.rough")[0]
            terms["rough"] = _RANGE * (rough - seen.image).abs().mean()
        if "fine" in wanted:
            terms["fine"] = _RANGE * (seen.prediction - seen.image).abs().mean()
        return terms


@dataclass(frozen=True)
class PENObjective(Section):
    """6 hole + 1 valid + 0.5 pyramid, and 0.1 adversarial, which is `objective.weights.adversarial`.

    Args:
        hole, valid: L1 of the raw prediction on missing and on known pixels, each divided by the share of such pixels
            in the whole batch, not below `LEAST_SHARE`.
        pyramid: L1 of the five smaller pictures, each against the image reduced to its size, added up.

    The facts do not say how the image is reduced: bilinear with aligned corners, as all else in that code.
    """

    title: ClassVar[str] = "pen"

    hole: float = 6.0
    valid: float = 1.0
    pyramid: float = 0.5

    def _terms(self, seen: Seen, wanted: list[str]) -> dict[str, Tensor]:
        terms = {}
        share = seen.hole.mean() if seen.share is None else seen.share
        for name, where, part in (("hole", seen.hole, share), ("valid", 1 - seen.hole, 1 - share)):
            if name in wanted:
                error = masked_l1(seen.prediction, seen.image, where)
                terms[name] = _RANGE * error / part.clamp(min=LEAST_SHARE)
        if "pyramid" in wanted:
            terms["pyramid"] = _RANGE * pyramid_l1(_earlier(seen, 5, "pen.pyramid"), seen.image)
        return terms


def pyramid_l1(pictures: tuple[Tensor, ...], image: Tensor) -> Tensor:
    """Mean absolute error of each smaller picture against the reduced image, summed over the pictures.

    Args:
        pictures: each (B, 3, h, w), of any size.
        image: (B, 3, H, W) in [0, 1].

    Example:
        >>> pyramid_l1((torch.full((1, 3, 1, 2), 0.5), torch.zeros(1, 3, 2, 2)), torch.zeros(1, 3, 4, 4)).item()
        0.5
    """
    reduced = (F.interpolate(image, size=p.shape[2:], mode="bilinear", align_corners=True) for p in pictures)
    return torch.stack([(p - target).abs().mean() for p, target in zip(pictures, reduced, strict=True)]).sum()


def _earlier(seen: Seen, count: int, term: str) -> tuple[Tensor, ...]:
    """The predictions before the last; a network without them can't be trained by such a term."""
    if len(seen.earlier) != count:
        raise InputError(
            f"the term {term} needs a network with {count} earlier predictions; this one has {len(seen.earlier)}. "
            f"Set objective.{term} to 0, or train the network {term.split('.')[0]!r}."
        )
    return seen.earlier
