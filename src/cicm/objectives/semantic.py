"""The objectives of SPL, of SPG-Net and of the networks after a description, as sections of a recipe.

Facts are those of the published code, or, where there is none, ours; then it is said.
    spl     "Context-Aware Image Inpainting with Learned Semantic Priors" (IJCAI 2021)
    spg     "SPG-Net: Segmentation Prediction and Guidance Network for Image Inpainting" (BMVC 2018)
    stages  ours, for the SWAP-, TMAD- and SRM-style networks: what their authors minimise is not known
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cicm.conventions import InputError
from cicm.objectives.features import perceptual
from cicm.objectives.published import Section, Seen
from cicm.ops import cell_shares, label_planes


def weighted_l1(
    found: Float[Tensor, "B C H W"], target: Float[Tensor, "B C H W"], hole: Float[Tensor, "B 1 H W"], more: float
) -> Float[Tensor, ""]:
    """Mean absolute difference in which a missing place counts 1 + `more` times.

    mean(|found - target| (1 + more hole)).

    Args:
        hole: (B, 1, H, W), 1 = missing; at the size of the others.

    Example:
        >>> one = torch.ones(1, 3, 1, 2)
        >>> weighted_l1(one, 0 * one, torch.tensor([[[[1.0, 0.0]]]]), 2.0)
        tensor(2.)
    """
    return ((found - target).abs() * (1 + more * hole)).mean()


@dataclass(frozen=True)
class SPLObjective(Section):
    """10 L1 + 1 prior, and 1 adversarial (`bce`), which is `objective.weights.adversarial`.

    Args:
        l1: of the raw prediction; a missing pixel counts three times.
        prior: mean absolute difference between the predicted features (the map `prior`) and the teacher's of the
            complete picture; a missing cell counts four times.
        teacher: whose features: `vgg19` takes relu3_1, 256 channels at a quarter of the size; `labels` the shares of
            the classes in each cell, as many channels as classes. The paper's, a TResNet-L of 152 channels trained on
            OpenImages, is not public in a form that can be read here.
    """

    title: ClassVar[str] = "spl"
    classifier: ClassVar[str] = "vgg19"
    from_features: ClassVar[tuple[str, ...]] = ("prior",)
    layer: ClassVar[str] = "relu3_1"

    l1: float = 10.0
    prior: float = 1.0
    teacher: Literal["vgg19", "labels"] = "vgg19"

    def needs_features(self) -> list[str]:
        """None where label maps are the teacher."""
        return super().needs_features() if self.teacher == "vgg19" else []

    def _terms(self, seen: Seen, wanted: list[str]) -> dict[str, Tensor]:
        terms = {}
        if "l1" in wanted:
            terms["l1"] = weighted_l1(seen.prediction, seen.image, seen.hole, 2.0)
        if "prior" in wanted:
            if (found := seen.maps.get("prior")) is None:
                raise InputError(
                    "objective.spl.prior is about the network 'spl'; this one predicts no prior. Set it 0."
                )
            target, counted = self._taught(seen, (found.shape[-2], found.shape[-1]))
            if target.shape != found.shape:
                raise InputError(
                    f"model.options.teacher must be {target.shape[1]} for the teacher {self.teacher!r} at this size; "
                    f"the network predicts {tuple(found.shape)}, the teacher says {tuple(target.shape)}."
                )
            hole = F.interpolate(seen.hole, size=found.shape[-2:], mode="nearest")
            terms["prior"] = weighted_l1(found * counted, target, hole, 3.0)
        return terms

    def _taught(self, seen: Seen, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The teacher's features of the complete picture, and how much of each cell it speaks of."""
        with torch.no_grad():
            if self.teacher == "vgg19":
                (target,) = seen.features[self.classifier](seen.image, (self.layer,))
                return target, torch.ones_like(target[:, :1])
            if seen.label is None:
                raise InputError("objective.spl.teacher = 'labels' needs label maps; set data.labels = true.")
            shares = cell_shares(label_planes(seen.label, seen.maps["prior"].shape[1]).to(seen.image.dtype), size)
            return shares, shares.sum(1, keepdim=True)


@dataclass(frozen=True)
class SPGObjective(Section):
    """1 L1 + 10 perceptual on the picture, and 1 adversarial (`hinge`), which is `objective.weights.adversarial`.

    Labels learn by `objective.labels` (cross entropy), or with `objective.judged = "labelled"` adversarially.

    Args:
        l1: mean absolute error of the raw prediction; the paper has it, the port does not. Its weight is ours.
        perceptual: on relu1_1, 2_1, 3_1, 4_1, 5_1 of VGG-19, of the raw prediction; the weight is the port's.

    Left out of the port's: the difference of the discriminators' maps.
    """

    title: ClassVar[str] = "spg"
    classifier: ClassVar[str] = "vgg19"
    from_features: ClassVar[tuple[str, ...]] = ("perceptual",)
    layers: ClassVar[tuple[str, ...]] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

    l1: float = 1.0
    perceptual: float = 10.0

    def _terms(self, seen: Seen, wanted: list[str]) -> dict[str, Tensor]:
        terms = {}
        if "l1" in wanted:
            terms["l1"] = (seen.prediction - seen.image).abs().mean()
        if "perceptual" in wanted:
            look = seen.features[self.classifier]
            with torch.no_grad():
                targets = look(seen.image, self.layers)
            terms["perceptual"] = perceptual(look(seen.prediction, self.layers), targets)
        return terms


@dataclass(frozen=True)
class StagesObjective(Section):
    """1 L1 of the last prediction + 1 L1 of each earlier one, against the image averaged down to its size.

    Args:
        last: mean absolute error of the raw prediction.
        earlier: of the predictions of earlier stages or scales, their mean.
    """

    title: ClassVar[str] = "stages"

    last: float = 1.0
    earlier: float = 1.0

    def _terms(self, seen: Seen, wanted: list[str]) -> dict[str, Tensor]:
        terms = {}
        if "last" in wanted:
            terms["last"] = (seen.prediction - seen.image).abs().mean()
        if "earlier" in wanted:
            if not seen.earlier:
                raise InputError(
                    "objective.stages.earlier needs a network with earlier predictions; this one has none. Set it to 0."
                )
            errors = [
                (one - F.interpolate(seen.image, size=one.shape[-2:], mode="area")).abs().mean() for one in seen.earlier
            ]
            terms["earlier"] = torch.stack(errors).mean()
        return terms
