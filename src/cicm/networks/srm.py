"""SRM-style: a generator that was learned on the whole training set is the memory; the damaged picture asks it.

"Generative Memory-Guided Semantic Reasoning Model for Image Inpainting" (IEEE TCSVT 2022). After the description, not
the authors' code, which is not public. Known from the abstract: a generative memory is learned first, on the whole
training set, and models how semantic patterns are distributed; the damaged picture is then matched with it, and an
encoder and decoder keep the pixels consistent. Assumed: everything else, that is a generator of modulated convolutions
(AdaIN) on a learned constant, a code of 128 numbers from the encoder's lowest map, the generator's maps joined to the
decoder at four scales, and how it is learned first: `stage = "memory"` has to give the picture through the code alone,
so that what it gives can only come from the generator. The noise that the authors take from known features is left out.
It would be checked against the authors' outputs, or against their published figures after full training on Places2 and
CelebA-HQ; neither was possible.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.conventions import InputError
from cicm.networks.contract import Edit, FeatureSite, InpaintingNetwork, Prediction, SizeRule, unchanged
from cicm.networks.layers import conv_block
from cicm.networks.registry import register

CODE = 128
CONSTANT = 8  # side of the learned map that the generator begins with; stretched to the lowest map's size

Stage = Literal["memory", "inpaint"]


@register("srm")
class SRM(InpaintingNetwork):
    """28.6 M parameters and 63.1 GMAC (256x256) at width 64.

    Args:
        width: channels of the stem; the lowest map has 8 times as many.
        stage: `memory` is the first part of the training, encoder and generator without the decoder; `inpaint` the
            whole. The second begins from the weights of the first, with `generator` frozen (`training.freeze`).

    Sites: `down1`, `down2`, `down3` (of the encoder), `bottom` (its lowest map, which the code is taken from).

    `earlier` holds what the generator alone gives.
    """

    def __init__(self, width: int = 64, stage: Stage = "inpaint") -> None:
        super().__init__()
        if width < 1:
            raise InputError(f"width must be at least 1; got {width}.")
        if stage not in get_args(Stage):
            raise InputError(f"stage must be one of {', '.join(get_args(Stage))}; got {stage!r}.")
        self.stage = stage
        channels = (width, 2 * width, 4 * width, 8 * width, 8 * width)
        self.stem = conv_block(4, width, 5, slope=0.1)
        self.down = nn.ModuleList(conv_block(a, b, 4, stride=2, slope=0.1) for a, b in pairwise(channels))
        self.code = nn.Sequential(nn.Linear(channels[-1], CODE), nn.LeakyReLU(0.1), nn.Linear(CODE, CODE))
        self.generator = Generator(channels[::-1])
        self.join = conv_block(2 * channels[-1], channels[-1], 3, slope=0.1)
        self.up = nn.ModuleList(conv_block(a + 2 * b, b, 3, slope=0.1) for a, b in pairwise(channels[::-1]))
        self.head = nn.Conv2d(width, 3, 3, padding=1)
        if stage == "memory":
            for part in (self.join, self.up, self.head):
                part.requires_grad_(False)
        self.sites = tuple(
            FeatureSite("bottom" if i == 4 else f"down{i}", c, 2**i) for i, c in enumerate(channels) if i
        )
        self.size = SizeRule(multiple_of=16, minimum=32)

    def forward(
        self, corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"], *, edit: Edit = unchanged
    ) -> Prediction:
        self.size.check(*corrupted.shape[-2:])
        features = self.stem(torch.cat([corrupted * (1 - hole), hole.to(corrupted.dtype)], 1))
        skips = []
        for site, down in zip(self.sites, self.down, strict=True):
            skips.append(features)
            features = edit(site.name, down(features))
        made = self.generator(self.code(features.mean((2, 3))), (features.shape[-2], features.shape[-1]))
        remembered = self.generator.picture(made[-1])
        if self.stage == "memory":
            return Prediction(remembered, (remembered,))
        features = self.join(torch.cat([features, made[0]], 1))
        for up, generated in zip(self.up, made[1:], strict=True):
            wider = F.interpolate(features, scale_factor=2.0, mode="nearest")
            features = up(torch.cat([wider, skips.pop(), generated], 1))
        return Prediction((torch.tanh(self.head(features)) + 1) / 2, (remembered,))


class Generator(nn.Module):
    """From a code to maps of every scale, coarse to fine, and to a picture: what the training set has in common.

    Args:
        channels: of each scale.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.randn(1, channels[0], CONSTANT, CONSTANT))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise((channels[0], *channels)))
        self.styles = nn.ModuleList(nn.Linear(CODE, 2 * c) for c in channels)
        self.last = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, code: Float[Tensor, "B code"], size: tuple[int, int]) -> list[Tensor]:
        """One map (B, C, h, w) for each scale; the coarsest has `size`."""
        x = F.interpolate(self.constant, size=size, mode="bilinear", align_corners=False)
        x = x.expand(len(code), -1, -1, -1)
        maps = []
        for depth, (conv, style) in enumerate(zip(self.convs, self.styles, strict=True)):
            if depth:
                x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            scale, shift = style(code)[..., None, None].chunk(2, 1)
            x = F.leaky_relu(F.instance_norm(conv(x)) * (1 + scale) + shift, 0.1)
            maps.append(x)
        return maps

    def picture(self, finest: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 3 H W"]:
        """In [0, 1]."""
        return (torch.tanh(self.last(finest)) + 1) / 2
