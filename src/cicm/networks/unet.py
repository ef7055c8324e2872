"""The plain network: a UNet of 15 convolutions.

"Cross-Image Context for Single Image Inpainting" (NeurIPS 2022), section 5, says no more of it than its number of
convolutional layers. This layout is ours: stem, four of stride 2, five dilated ones at the bottom (1, 2, 4, 2, 1),
four up with skips, head. At width 64 and 256x256 the lowest map is 512x16x16 and sees about 368 pixels far.
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
from cicm.networks.layers import Norm, Padding, conv_block
from cicm.networks.registry import register
from cicm.ops import biharmonic, pull_push

DILATIONS = (1, 2, 4, 2, 1)

Start = Literal["hole", "smooth", "biharmonic"]
_FIRST_FILLS = {"smooth": pull_push, "biharmonic": biharmonic}


@register("unet")
class UNet(InpaintingNetwork):
    """15 convolutions: 25.8 M parameters and 37.6 GMAC (256x256) at width 64, 6.5 M and 9.5 GMAC at width 32.

    Args:
        width: channels of the stem; the lowest map has 8 times as many.
        norm: normalisation after each convolution but the last.
        start: `hole` gives the network the corrupted image with its hole at 0; `smooth` and `biharmonic` fill the hole
            by `cicm.ops.pull_push` or `cicm.ops.biharmonic` first and let the network predict the difference to that.
            The paper does not say; decision 1 in docs/decisions has the measurements.
        slope: negative slope of the rectifiers; 0 is a ReLU.
        padding: what the convolutions find beyond the border. With `zeros` a cell can tell its place in the crop;
            `reflect` and `replicate` repeat the picture. `reflect` needs pictures of 80x80 or more.

    Sites: `down1`, `down2`, `down3` (encoder maps, which also feed the skips), `bottom` (after the dilated
    convolutions, where the memory sits by default), `up3`, `up2` (decoder maps at the resolution of `down3` and
    `down2`, where the surroundings of a hole are known).
    """

    def __init__(
        self,
        width: int = 64,
        norm: Norm = "none",
        start: Start = "hole",
        slope: float = 0.1,
        padding: Padding = "zeros",
    ) -> None:
        super().__init__()
        if width < 1:
            raise InputError(f"width must be at least 1; got {width}.")
        if start not in get_args(Start):
            raise InputError(f"start must be one of {', '.join(get_args(Start))}; got {start!r}.")
        if padding not in get_args(Padding):
            raise InputError(f"padding must be one of {', '.join(get_args(Padding))}; got {padding!r}.")
        self.start = start
        stem, *down = (width, 2 * width, 4 * width, 8 * width, 8 * width)
        channels = (stem, *down)
        shared = {"norm": norm, "slope": slope, "padding_mode": padding}
        self.stem = conv_block(4, stem, 5, **shared)  # type: ignore[arg-type]
        self.down = nn.ModuleList(
            conv_block(a, b, 4, stride=2, **shared)  # type: ignore[arg-type]
            for a, b in pairwise(channels)
        )
        self.bottom = nn.ModuleList(
            conv_block(channels[-1], channels[-1], 3, dilation=d, **shared)  # type: ignore[arg-type]
            for d in DILATIONS
        )
        self.up = nn.ModuleList(
            conv_block(below + skip, skip, 3, **shared)  # type: ignore[arg-type]
            for below, skip in zip(channels[:0:-1], channels[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(stem, 3, 3, padding=1, padding_mode=padding)
        if start != "hole":  # an untrained network then is the first fill itself
            nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.sites = (
            FeatureSite("down1", channels[1], 2),
            FeatureSite("down2", channels[2], 4),
            FeatureSite("up2", channels[2], 4),
            FeatureSite("down3", channels[3], 8),
            FeatureSite("up3", channels[3], 8),
            FeatureSite("bottom", channels[4], 16),
        )
        # A reflection is as wide as the map at most, less one cell: the bottom needs 5 cells for dilation 4.
        self.size = SizeRule(multiple_of=16, minimum=80 if padding == "reflect" else 32)

    def forward(
        self, corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"], *, edit: Edit = unchanged
    ) -> Prediction:
        self.size.check(*corrupted.shape[-2:])
        fill = _FIRST_FILLS.get(self.start)
        first = fill(corrupted, hole) if fill else corrupted * (1 - hole)
        features = self.stem(torch.cat([first, hole.to(first.dtype)], 1))
        skips = []
        for depth, down in enumerate(self.down, start=1):
            skips.append(features)
            features = down(features)
            if depth < len(self.down):
                features = edit(f"down{depth}", features)
        for block in self.bottom:
            features = block(features)
        features = edit("bottom", features)
        for depth, up in zip(range(len(self.up) - 1, -1, -1), self.up, strict=True):
            wider = F.interpolate(features, scale_factor=2.0, mode="nearest")
            features = up(torch.cat([wider, skips.pop()], 1))
            if depth >= 2:
                features = edit(f"up{depth}", features)
        image = self.head(features)
        return Prediction(first + image if fill else image)
