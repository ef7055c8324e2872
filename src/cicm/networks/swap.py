"""SWAP-style: pictures and labels are predicted at every scale, and a place borrows from places of its own label.

"Image Inpainting Guided by Coherence Priors of Semantics and Textures" (CVPR 2021). After the description, not the
authors' code, which is not public. Known from abstract and reviews: one decoder whose scales each give a picture and a
segmentation, which constrain the features together; between two scales, attention in which a place borrows from far
ones of the SAME semantics. Assumed: everything else, that is widths, depths, four scales, cosine attention with a
sharpness of 10 over complete cells, attention at the two coarser steps alone, plain convolutions, and no terms for the
two coherence losses. It would be checked against the authors' outputs, or against their published figures after full
training on Cityscapes and Outdoor Scenes; neither was possible.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.conventions import InputError
from cicm.networks.contract import Edit, FeatureSite, InpaintingNetwork, Prediction, SizeRule, unchanged
from cicm.networks.layers import conv_block
from cicm.networks.registry import register
from cicm.ops import missing_share

SHARPNESS = 10.0
"""Of the softmax over cosines."""
PREFERENCE = 30.0
"""By so much a key of the query's label is ahead: e^-30 of the others is left. Incomplete keys lie twice that back."""
DILATIONS = (1, 2, 4)

_SITES = ("down1", "down2", "bottom")
_MAPS = ("labels8", "labels4", "labels2", "labels")


@register("swap")
class SWAP(InpaintingNetwork):
    """12.7 M parameters and 48.0 GMAC (256x256) at width 64.

    Args:
        width: channels of the stem; the lowest map has 8 times as many.
        classes: how many labels it tells apart.

    Sites: `down1`, `down2` (of the encoder), `bottom` (before the dilated convolutions; a cell is 8 pixels).

    No label map is needed. `earlier` holds the pictures of the strides 8, 4 and 2, `maps` the logits of the labels as
    `labels8`, `labels4`, `labels2` and `labels`, to be trained on label maps (`objective.labels`).
    """

    def __init__(self, width: int = 64, classes: int = 19) -> None:
        super().__init__()
        for name, value in (("width", width), ("classes", classes)):
            if value < 1:
                raise InputError(f"{name} must be at least 1; got {value}.")
        channels = (width, 2 * width, 4 * width, 8 * width)
        self.stem = conv_block(4, width, 5, slope=0.1)
        self.down = nn.ModuleList(conv_block(a, b, 4, stride=2, slope=0.1) for a, b in pairwise(channels))
        self.bottom = nn.ModuleList(conv_block(channels[-1], channels[-1], 3, dilation=d, slope=0.1) for d in DILATIONS)
        self.up = nn.ModuleList(conv_block(a + b, b, 3, slope=0.1) for a, b in pairwise(channels[::-1]))
        self.pictures = nn.ModuleList(nn.Conv2d(c, 3, 3, padding=1) for c in channels[::-1])
        self.labels = nn.ModuleList(nn.Conv2d(c, classes, 3, padding=1) for c in channels[::-1])
        self.borrow = nn.ModuleList(nn.Conv2d(c, c, 1) for c in channels[:1:-1])
        self.sites = tuple(
            FeatureSite(name, c, 2 ** (i + 1)) for i, (name, c) in enumerate(zip(_SITES, channels[1:], strict=True))
        )
        self.size = SizeRule(multiple_of=8, minimum=16)

    def forward(
        self, corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"], *, edit: Edit = unchanged
    ) -> Prediction:
        self.size.check(*corrupted.shape[-2:])
        features = self.stem(torch.cat([corrupted * (1 - hole), hole.to(corrupted.dtype)], 1))
        skips = []
        for name, down in zip(_SITES, self.down, strict=True):
            skips.append(features)
            features = edit(name, down(features))
        for block in self.bottom:
            features = block(features)
        pictures, maps = [], {}
        for depth, (to_picture, to_labels) in enumerate(zip(self.pictures, self.labels, strict=True)):
            pictures.append((torch.tanh(to_picture(features)) + 1) / 2)
            logits = maps[_MAPS[depth]] = to_labels(features)
            if depth < len(self.borrow):
                complete = missing_share(hole, (features.shape[-2], features.shape[-1])) <= 0
                found = same_label_attention(features, logits.argmax(1), complete.to(features.dtype), logits.shape[1])
                features = features + self.borrow[depth](found)
            if depth < len(self.up):
                wider = F.interpolate(features, scale_factor=2.0, mode="nearest")
                features = self.up[depth](torch.cat([wider, skips.pop()], 1))
        return Prediction(pictures[-1], tuple(pictures[:-1]), maps)


def same_label_attention(
    features: Float[Tensor, "B C h w"],
    label: Int[Tensor, "B h w"],
    complete: Float[Tensor, "B 1 h w"],
    classes: int,
) -> Float[Tensor, "B C h w"]:
    """For each cell a mean over the complete cells of its own label, weighted by the cosine of the features.

    Where a picture has no complete cell of that label, all its complete cells count; where it has none at all, all
    cells. Label and completeness are further axes of the dot product, so that no table of all pairs is kept.

    Args:
        label: (B, h, w), the class of each cell.
        complete: (B, 1, h, w), 1 where no pixel of the cell is missing.

    Example:
        >>> features, label = torch.tensor([[[[1.0, 5.0, 9.0]]]]), torch.tensor([[[0, 1, 1]]])
        >>> same_label_attention(features, label, torch.tensor([[[[1.0, 1.0, 0.0]]]]), 2)
        tensor([[[[1., 5., 5.]]]])
    """
    rows = features.flatten(2).transpose(1, 2)
    kinds = F.one_hot(label.flatten(1), classes).to(rows.dtype)
    ready = complete.flatten(2).transpose(1, 2)
    directions = F.normalize(rows, dim=-1, eps=1e-6)
    queries = torch.cat([SHARPNESS * directions, PREFERENCE * kinds, torch.ones_like(ready)], -1)
    keys = torch.cat([directions, kinds, -2 * PREFERENCE * (1 - ready)], -1)
    found = F.scaled_dot_product_attention(queries[:, None], keys[:, None], rows[:, None], scale=1.0)
    return found[:, 0].transpose(1, 2).reshape_as(features)
