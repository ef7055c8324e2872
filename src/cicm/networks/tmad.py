"""TMAD-style: a coarse repair asks a memory of the same picture's complete patches for texture.

"Texture Memory-Augmented Deep Patch-Based Image Inpainting" (IEEE TIP 2021). After the description, not the authors'
code, which was promised and never released. Known from abstract and discussions: a memory of patches from the known
part of the SAME picture, retrieved differentiably and trained together with the network that synthesises from them.
Assumed: everything else, that is the coarse network (our UNet), patches of 16 pixels every 8, one embedding for queries
and keys, a straight-through choice of the most similar patch at a temperature of 0.1, alignment to the coarse patch's
mean colour, overlapping patches averaged, and a residual network of four convolutions at full size; the loss on the
distribution of patches is left out. It would be checked against the authors' outputs, or against their published
figures after full training on Places2 and CelebA-HQ; neither was possible.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.networks.contract import Edit, InpaintingNetwork, Prediction, unchanged
from cicm.networks.layers import conv_block
from cicm.networks.registry import register
from cicm.networks.unet import UNet

PATCH, STEP = 16, 8
TEMPERATURE = 0.1


@register("tmad")
class TMAD(InpaintingNetwork):
    """26.3 M parameters and 44.6 GMAC (256x256) at width 64, most of them our UNet's.

    Args:
        width: channels of the first layers; of the UNet too.

    Sites: those of the UNet. `earlier` holds its coarse repair.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.coarse = UNet(width)
        steps = (3, width, 2 * width, 2 * width)
        self.embed = nn.Sequential(*(conv_block(a, b, 4, stride=2, slope=0.1) for a, b in pairwise(steps)))
        self.refine = nn.Sequential(
            conv_block(7, width, 3, slope=0.1), *(conv_block(width, width, 3, dilation=d, slope=0.1) for d in (2, 4))
        )
        self.head = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.head.weight)  # an untrained network is the coarse one
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.sites, self.size = self.coarse.sites, self.coarse.size

    def forward(
        self, corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"], *, edit: Edit = unchanged
    ) -> Prediction:
        hole = hole.to(corrupted.dtype)
        coarse = self.coarse(corrupted, hole, edit=edit).image
        filled = corrupted * (1 - hole) + coarse * hole
        texture = self.texture(filled, hole)
        residual = self.head(self.refine(torch.cat([filled, texture, hole], 1)))
        return Prediction(coarse + residual, (coarse,))

    def texture(self, filled: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 3 H W"]:
        """The picture put together from the memory's patches, each in place of the most similar one of `filled`.

        Args:
            filled: (B, 3, H, W), the coarse repair in the hole, the known pixels around it.
        """
        margin = (PATCH - STEP) // 2
        around = F.pad(filled, (margin,) * 4, mode="replicate")
        patches = F.unfold(around, PATCH, stride=STEP).transpose(1, 2)  # (B, N, 3 * PATCH^2)
        missing = F.unfold(F.pad(hole, (margin,) * 4), PATCH, stride=STEP).amax(1)
        complete = missing <= 0
        codes = F.normalize(self.embed(filled).flatten(2).transpose(1, 2), dim=-1, eps=1e-6)
        chosen = choose(codes, complete) @ patches
        # aligned: the mean colour stays the coarse patch's
        means, own = (p.unflatten(2, (3, -1)).mean(-1, keepdim=True) for p in (chosen, patches))
        aligned = (chosen.unflatten(2, (3, -1)) + own - means).flatten(2).transpose(1, 2)
        size = (around.shape[-2], around.shape[-1])
        summed = F.fold(aligned, size, PATCH, stride=STEP)
        count = F.fold(torch.ones_like(aligned), size, PATCH, stride=STEP)
        inside = (summed / count)[..., margin:-margin, margin:-margin]
        return filled * (1 - hole) + inside * hole


def choose(codes: Float[Tensor, "B N C"], complete: Bool[Tensor, "B N"]) -> Float[Tensor, "B N N"]:
    """For each patch the most similar complete one: one-hot rows, with the gradient of a softmax.

    A patch does not choose itself. Where fewer than two patches of a picture are complete all can be chosen.

    Args:
        codes: (B, N, C) of length 1.

    Example:
        >>> codes = torch.tensor([[[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]])
        >>> choose(codes, torch.tensor([[True, False, True]]))[0]
        tensor([[0., 0., 1.],
                [1., 0., 0.],
                [1., 0., 0.]])
    """
    enough = complete.sum(1, keepdim=True) >= 2
    usable = torch.where(enough, complete, torch.ones_like(complete))[:, None]
    itself = torch.eye(codes.shape[1], dtype=torch.bool, device=codes.device)
    scores = (codes @ codes.transpose(1, 2) / TEMPERATURE).masked_fill(~usable | itself, -torch.inf)
    soft = scores.softmax(-1)
    hard = F.one_hot(scores.argmax(-1), codes.shape[1]).to(soft.dtype)
    return hard + (soft - soft.detach())
