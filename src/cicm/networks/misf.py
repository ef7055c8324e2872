"""MISF: filters predicted for every pixel, at the image and at its features.

"MISF: Multi-level Interactive Siamese Filtering for High-Fidelity Image Inpainting" (CVPR 2022). One branch encodes,
fills and decodes; a second predicts 3x3 kernels for each pixel of the encoded features and of the decoded image. The
layers, their order and what is never used follow the published code, so that published weights load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.conventions import InputError
from cicm.networks.contract import Edit, FeatureSite, InpaintingNetwork, Prediction, SizeRule, unchanged
from cicm.networks.layers import DilatedResidual, TripleConv
from cicm.networks.originals import dump_original, network_from
from cicm.networks.registry import register
from cicm.ops import filter_pixels

TAPS = 9
STRETCH = 4
"""Each plane of semantic kernels is used for so many consecutive weights: 9 w planes for the 36 w of 4 w channels."""
BLOCKS = 8


@register("misf")
class MISF(InpaintingNetwork):
    """23.1 M parameters and 130 GMAC (256x256) at width 64, as published.

    Args:
        width: channels of the first layer; the lowest maps have 4 and 8 times as many.

    Sites: `encoder1` (which both branches read), `encoder2` (before the semantic filter), `prediction` (the lowest map
    of the branch that predicts the kernels), `bottom` (after the semantic filter and before the residual blocks, which
    can spread what a memory adds there; a cell is 4 pixels).

    Differs from the published code: pictures need not be square. There the kernels' planes are stretched in a volume
    whose height and width are exchanged; the stretch itself, which gives neighbouring taps the same weight and
    straddles channels, is kept. And the branch that predicts kernels begins at He's scale instead of 0.02, with which
    its gradient vanishes in narrow networks: nothing normalises its 21 layers.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        if width < 1:
            raise InputError(f"width must be at least 1; got {width}.")
        self.encoder0 = nn.Conv2d(4, width, 7, padding=3, padding_mode="reflect")
        self.encoder1 = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.encoder2 = nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1)
        self.middle = nn.ModuleList(DilatedResidual(4 * width) for _ in range(BLOCKS))
        self.decoder2 = nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1)
        self.decoder1 = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.decoder0 = nn.Conv2d(width, 3, 7, padding=3, padding_mode="reflect")
        self.prediction = _KernelPrediction(width)
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)  # so the image begins grey, whatever the width
                if name.startswith("prediction.") and name != "prediction.image":
                    nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.sites = (
            FeatureSite("encoder1", 2 * width, 2),
            FeatureSite("encoder2", 4 * width, 4),
            FeatureSite("prediction", 8 * width, 4),
            FeatureSite("bottom", 4 * width, 4),
        )
        self.size = SizeRule(multiple_of=4, minimum=12)  # the residual blocks reflect 2 of at least 3 cells

    def forward(
        self, corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"], *, edit: Edit = unchanged
    ) -> Prediction:
        self.size.check(*corrupted.shape[-2:])
        given = torch.cat([corrupted * (1 - hole), hole.to(corrupted.dtype)], 1)
        features = normed(self.encoder0(given))
        encoded = edit("encoder1", normed(self.encoder1(features)))
        features = edit("encoder2", normed(self.encoder2(encoded)))
        semantic, pixelwise = self.prediction(given, encoded, edit)
        features = edit("bottom", filter_pixels(features, semantic, share=STRETCH))
        for block in self.middle:
            features = block(features)
        features = normed(self.decoder2(features))
        features = normed(self.decoder1(features))
        image = filter_pixels(self.decoder0(features), pixelwise)
        return Prediction((torch.tanh(image) + 1) / 2)


class _KernelPrediction(nn.Module):
    """A U-Net on three scales that predicts the kernels of both levels; it sees the other branch's first map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.at_full = TripleConv(4, width)
        self.at_half = TripleConv(width, 2 * width)
        self.at_quarter = TripleConv(4 * width, 4 * width)
        self.lowest = TripleConv(4 * width, 8 * width)
        self.up_quarter = TripleConv(12 * width, 4 * width)
        self.up_half = TripleConv(8 * width, 2 * width)
        self.up_full = TripleConv(3 * width, width)
        self.semantic = nn.Conv2d(4 * width, width * TAPS, 1)
        self.image = nn.Conv2d(width, 3 * TAPS, 1)
        self.unused = nn.Conv2d(12, 3, 3).requires_grad_(False)  # in every checkpoint, in no output

    def forward(
        self, given: Float[Tensor, "B 4 H W"], encoded: Float[Tensor, "B C H/2 W/2"], edit: Edit = unchanged
    ) -> tuple[Float[Tensor, "B planes h w"], Float[Tensor, "B 27 H W"]]:
        full = self.at_full(given)
        half = torch.cat([self.at_half(F.avg_pool2d(full, 2)), encoded], 1)
        quarter = self.at_quarter(F.avg_pool2d(half, 2))
        lowest = edit("prediction", self.lowest(quarter))  # of the same scale as `quarter`
        up = self.up_quarter(torch.cat([quarter, lowest], 1))
        up = self.up_half(torch.cat([half, doubled(up)], 1))
        up = self.up_full(torch.cat([full, doubled(up)], 1))
        return self.semantic(quarter), self.image(up)


def normed(features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Each channel of each picture at mean 0 and variance 1, rectified."""
    return F.relu(F.instance_norm(features))


def doubled(features: Tensor) -> Tensor:
    """Twice the height and width, bilinear."""
    return F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


# The published names --------------------------------------------------------------------------------------------------

_PREFIXES = {
    "encoder0": "encoder0.1",
    "encoder1": "encoder1.0",
    "encoder2": "encoder2.0",
    "decoder2": "decoder.0",
    "decoder1": "decoder.3",
    "decoder0": "decoder.7",
    "prediction.at_full": "kpn_model.conv1",
    "prediction.at_half": "kpn_model.conv2",
    "prediction.at_quarter": "kpn_model.conv3",
    "prediction.lowest": "kpn_model.conv4",
    "prediction.up_quarter": "kpn_model.conv7",
    "prediction.up_half": "kpn_model.conv8",
    "prediction.up_full": "kpn_model.conv9",
    "prediction.semantic": "kpn_model.kernels",
    "prediction.image": "kpn_model.core_img",
    "prediction.unused": "kpn_model.conv_final",
}
"""Our module -> the published code's; `middle` is the same in both."""


def rename(name: str) -> str:
    """Our name of a parameter -> the published code's.

    Example:
        >>> rename("prediction.at_half.conv1.2.bias"), rename("middle.0.conv_block.1.bias")
        ('kpn_model.conv2.conv1.2.bias', 'middle.0.conv_block.1.bias')
    """
    for ours, theirs in _PREFIXES.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    return name


def from_original(state: Mapping[str, Any], **options: Any) -> MISF:
    """A network in evaluation mode with published parameters.

    Args:
        state: name -> tensor as the published code has it, or the file's whole content, which holds that mapping
            under `generator`.
        options: of `MISF`; the width is read from the tensors.

    Raises:
        InputError: not parameters of a MISF, or not all of them; lists what does not fit.
    """
    if isinstance(state.get("generator"), Mapping):
        state = state["generator"]
    first = state.get(rename("encoder0.weight"))
    if not isinstance(first, Tensor) or first.ndim != 4 or not all(isinstance(t, Tensor) for t in state.values()):
        raise InputError(
            "expected the parameters of a MISF generator under their published names, with encoder0.1.weight of four "
            f"axes; got {len(state)} entries: {', '.join(map(str, list(state)[:4]))}. Give the file of the "
            "generator, not of the discriminator."
        )
    return network_from(lambda: MISF(**{"width": first.shape[0], **options}), state, rename)  # type: ignore[return-value]


def to_original(network: MISF) -> dict[str, Tensor]:
    """The inverse: all parameters under their published names.

    Example:
        >>> list(to_original(MISF(width=1)))[0]
        'encoder0.1.weight'
    """
    return dump_original(network, rename)
