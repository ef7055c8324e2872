"""The objectives that RFR, MISF and JPGNet were published with, as sections of a recipe.

A section's numbers are weights; its defaults are the published ones, 0 leaves a term out. A section's terms join those
of Eq. 9: a network trained by its own objective sets `objective.weights.inpaint` to 0, and the terms of a memory keep
their weights. In the log a term is called by its section and name, as `rfr.valid`.

Facts are those of the published code, where it differs from the paper:
    RFR     "Recurrent Feature Reasoning for Image Inpainting" (CVPR 2020)
    MISF    "MISF: Multi-level Interactive Siamese Filtering for High-Fidelity Image Inpainting" (CVPR 2022)
    JPGNet  "JPGNet: Joint Predictive Filtering and Generative Network for Image Inpainting" (ACM MM 2021)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from cicm.objectives.features import Features, perceptual, style
from cicm.objectives.reconstruction import masked_l1, share_l1, total_variation
from cicm.objectives.structure import structural_similarity

Judge = Callable[[Tensor], tuple[Tensor, list[Tensor]]]
"""Pictures (B, 3, H, W) in [0, 1] -> logits (B, 1, h, w), and the maps before them."""


@dataclass(frozen=True)
class Seen:
    """What the terms are taken from.

    Args:
        prediction: (B, 3, H, W), raw.
        composite: (B, 3, H, W), the prediction in the hole, the image around it.
        image: (B, 3, H, W) in [0, 1].
        hole: (B, 1, H, W), 1 = missing.
        features: name of a classifier -> its maps; needed for the terms of a section's `from_features` alone.
        share: mean of the whole batch's holes, over all its portions; for MISF's `share = "batch"` and PEN-Net's terms.
        maps: what the network predicts besides, by name; (B, N, h, w) logits of label maps begin with `labels`.
        earlier: (B, 3, h, w) each, predictions of earlier stages or smaller scales, coarse to fine.
        label: (B, H, W), classes of the whole picture, and void; None without label maps.
        judge: pictures -> logits and maps of a discriminator without gradients of its own; for LaMa's alone.
    """

    prediction: Tensor
    composite: Tensor
    image: Tensor
    hole: Tensor
    features: Mapping[str, Features] = field(default_factory=dict)
    share: Tensor | None = None
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    label: Tensor | None = None
    earlier: tuple[Tensor, ...] = ()
    judge: Judge | None = None


class Section:
    """A published objective: its fields that are numbers are the weights of its terms.

    Attributes:
        classifier: whose features some terms need; empty for none.
        from_features: the names of these terms.
        settings: fields that are numbers and no weights.
    """

    title: ClassVar[str]
    classifier: ClassVar[str] = ""
    from_features: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[tuple[str, ...]] = ()

    def weights(self) -> dict[str, float]:
        """Name of a term, as in the log -> its weight."""
        return {f"{self.title}.{name}": weight for name, weight in _numbers(self).items()}

    def left_out(self) -> list[str]:
        """Terms of the published objective that this one does without."""
        published = type(self)()
        return [n for n, w in self.weights().items() if w == 0 and published.weights()[n] != 0]

    def needs_features(self) -> list[str]:
        """Terms with a weight that need the classifier."""
        named = [f"{self.title}.{name}" for name in self.from_features]
        return [name for name in named if self.weights()[name] != 0]

    def terms(self, seen: Seen) -> dict[str, Tensor]:
        """The terms with a weight, before weighting: each the mean over portions of equal size."""
        wanted = [name for name, weight in _numbers(self).items() if weight != 0]
        return {f"{self.title}.{name}": value for name, value in self._terms(seen, wanted).items()}

    def _terms(self, seen: Seen, wanted: list[str]) -> dict[str, Tensor]:
        raise NotImplementedError


def _numbers(section: Any) -> dict[str, float]:
    values = {f.name: getattr(section, f.name) for f in fields(section) if f.name not in section.settings}
    return {name: value for name, value in values.items() if isinstance(value, (int, float))}


@dataclass(frozen=True)
class RFRObjective(Section):
    """1 valid + 6 hole + 0.05 perceptual + 120 style + 0.1 variation; no discriminator.

    Args:
        valid, hole: L1 of the raw prediction on known and on missing pixels, means over all pixels (`masked_l1`).
        perceptual, style: on the pools 1 to 3 of VGG-16, of the raw prediction plus of the composite.
        variation: of the composite's missing part (`total_variation`).
    """

    title: ClassVar[str] = "rfr"
    classifier: ClassVar[str] = "vgg16"
    from_features: ClassVar[tuple[str, ...]] = ("perceptual", "style")
    layers: ClassVar[tuple[str, ...]] = ("pool1", "pool2", "pool3")

    valid: float = 1.0
    hole: float = 6.0
    perceptual: float = 0.05
    style: float = 120.0
    variation: float = 0.1

    def _terms(self, seen: Seen, wanted: list[str]) -> dict[str, Tensor]:
        terms = {}
        if "valid" in wanted:
            terms["valid"] = masked_l1(seen.prediction, seen.image, 1 - seen.hole)
        if "hole" in wanted:
            terms["hole"] = masked_l1(seen.prediction, seen.image, seen.hole)
        if "variation" in wanted:
            terms["variation"] = total_variation(seen.composite * seen.hole)
        if "perceptual" in wanted or "style" in wanted:
            look = seen.features[self.classifier]
            with torch.no_grad():
                targets = look(seen.image, self.layers)
            raw, pasted = look(seen.prediction, self.layers), look(seen.composite, self.layers)
            if "perceptual" in wanted:
                terms["perceptual"] = perceptual(raw, targets) + perceptual(pasted, targets)
            if "style" in wanted:
                terms["style"] = style(raw, targets) + style(pasted, targets)
        return terms


@dataclass(frozen=True)
class MISFObjective(Section):
    """1 L1 / mean(hole) + 0.1 perceptual + 250 style, and 0.1 adversarial, which is `objective.weights.adversarial`.

    EdgeConnect's, from which MISF and JPGNet's generator have it.

    Args:
        l1: of the raw prediction, divided by the missing share (`share_l1`).
        perceptual: on relu1_1, 2_1, 3_1, 4_1, 5_1 of VGG-19, of the raw prediction.
        style: on relu2_2, 3_4, 4_4, 5_2, of the missing part alone, the rest black.
        share: what L1 is divided by: of each `image` its own missing share, or that of the whole `batch` (the
            original's).
    """

    title: ClassVar[str] = "misf"
    classifier: ClassVar[str] = "vgg19"
    from_features: ClassVar[tuple[str, ...]] = ("perceptual", "style")
    layers: ClassVar[tuple[str, ...]] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    style_layers: ClassVar[tuple[str, ...]] = ("relu2_2", "relu3_4", "relu4_4", "relu5_2")

    l1: float = 1.0
    perceptual: float = 0.1
    style: float = 250.0
    share: Literal["image", "batch"] = "image"

    def _terms(self, seen: Seen, wanted: list[str]) -> dict[str, Tensor]:
        terms = {}
        if "l1" in wanted:
            share = seen.share if self.share == "batch" else None
            terms["l1"] = share_l1(seen.prediction, seen.image, seen.hole, share)
        if "perceptual" in wanted:
            look = seen.features[self.classifier]
            with torch.no_grad():
                targets = look(seen.image, self.layers)
            terms["perceptual"] = perceptual(look(seen.prediction, self.layers), targets)
        if "style" in wanted:
            look = seen.features[self.classifier]
            with torch.no_grad():
                targets = look(seen.image * seen.hole, self.style_layers)
            terms["style"] = style(look(seen.prediction * seen.hole, self.style_layers), targets)
        return terms


@dataclass(frozen=True)
class JPGNetObjective(Section):
    """1 L1 + 0.2 (-SSIM), of the raw output of the filter's and of the fusion's stage.

    Args:
        l1: mean absolute error over all pixels.
        ssim: MINUS the structural similarity, so the term lies in [-1, 1] and -1 is best (`structural_similarity`).
    """

    title: ClassVar[str] = "jpgnet"

    l1: float = 1.0
    ssim: float = 0.2

    def _terms(self, seen: Seen, wanted: list[str]) -> dict[str, Tensor]:
        terms = {}
        if "l1" in wanted:
            terms["l1"] = (seen.prediction - seen.image).abs().mean()
        if "ssim" in wanted:
            terms["ssim"] = -structural_similarity(seen.prediction, seen.image)
        return terms
