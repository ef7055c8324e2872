"""LaMa: an encoder, residual blocks that see the whole picture through its spectrum, and a decoder; no skips.

"Resolution-robust Large Mask Inpainting with Fourier Convolutions" (WACV 2022). The layers and their order follow the
published code, so that published weights load: `blocks = 9` is lama-fourier, `blocks = 18` is big-lama.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.conventions import InputError
from cicm.networks.contract import Edit, FeatureSite, InpaintingNetwork, Prediction, SizeRule, unchanged
from cicm.networks.fourier import PARTS, FourierConvolution, FourierResidual
from cicm.networks.originals import dump_original, network_from
from cicm.networks.registry import register


@register("lama")
class LaMa(InpaintingNetwork):
    """27.0 M parameters and 31.9 GMAC (256x256) at width 64 with 9 blocks; 51.0 M and 55.1 GMAC with 18.

    Args:
        width: channels of the first layer; the lowest map has 8 times as many, three quarters of them global.
        blocks: residual Fourier blocks.

    Sites: `down1`, `down2` (of the encoder), `blocks` (after the residual blocks) and `bottom` (before them: they can
    spread what a memory adds there over the whole picture). At the last two a region is local and global channels
    together; a cell is 8 pixels.

    Its batch norms use statistics of the batch in training. Weights begin by each layer's own rule, as in the original.
    """

    batch_statistics = True
    no_onnx = "torch's exporter can't write the Fourier transforms of maps of any size. Use the .safetensors file"

    def __init__(self, width: int = 64, blocks: int = 9) -> None:
        super().__init__()
        if width < 1 or blocks < 1:
            raise InputError(f"width and blocks must be at least 1; got {width} and {blocks}.")
        w, self.bottom = width, (2 * width, 6 * width)
        self.stem = FourierConvolution((4, 0), (w, 0), kernel=7, padding=3)
        self.down1 = FourierConvolution((w, 0), (2 * w, 0), stride=2)
        self.down2 = FourierConvolution((2 * w, 0), (4 * w, 0), stride=2)
        self.down3 = FourierConvolution((4 * w, 0), self.bottom, stride=2)
        self.blocks = nn.ModuleList(FourierResidual(self.bottom) for _ in range(blocks))
        self.up3, self.up2, self.up1 = (
            nn.Sequential(nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1), nn.BatchNorm2d(b))
            for a, b in pairwise((8 * w, 4 * w, 2 * w, w))
        )
        self.head = nn.Conv2d(w, 3, 7, padding=3, padding_mode="reflect")
        self.sites = (
            FeatureSite("down1", 2 * w, 2),
            FeatureSite("down2", 4 * w, 4),
            FeatureSite("blocks", 8 * w, 8),
            FeatureSite("bottom", 8 * w, 8),
        )
        # The lowest map reflects 1 of at least 2 cells. The original pads with the edge's own pixels.
        self.size = SizeRule(multiple_of=8, minimum=16, padding="end")

    def forward(
        self, corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"], *, edit: Edit = unchanged
    ) -> Prediction:
        self.size.check(*corrupted.shape[-2:])
        x, _ = self.stem(torch.cat([corrupted * (1 - hole), hole.to(corrupted.dtype)], 1))
        x = edit("down1", self.down1(x)[0])
        x = edit("down2", self.down2(x)[0])
        near, far = edit("bottom", torch.cat(self.down3(x), 1)).split(self.bottom, 1)
        for block in self.blocks:
            near, far = block(near, far)
        x = edit("blocks", torch.cat([near, far], 1))
        for up in (self.up3, self.up2, self.up1):
            x = F.relu(up(x))
        return Prediction(torch.sigmoid(self.head(x)))


# The published names --------------------------------------------------------------------------------------------------

PREFIXES = ("generator.", "model.generator.")
"""What stands before the generator's names in a training checkpoint, and in the traced file of IOPaint."""

OBJECTS_BESIDE = True
"""The released checkpoint also holds configuration and callback objects, which are passed over unread."""

VARIANTS: tuple[dict[str, Any], ...] = ({}, {"blocks": 18})
"""lama-fourier and big-lama: their files have other names."""


def _places(blocks: int) -> dict[str, str]:
    """Our part -> the published code's place in its sequence; what has no parameters counts too."""
    after = 5 + blocks  # here the two halves are joined
    return {
        "stem": "1",
        "down1": "2",
        "down2": "3",
        "down3": "4",
        **{f"blocks.{i}.first": f"{5 + i}.conv1" for i in range(blocks)},
        **{f"blocks.{i}.second": f"{5 + i}.conv2" for i in range(blocks)},
        **{f"up{3 - i}.{j}": str(after + 1 + 3 * i + j) for i in range(3) for j in range(2)},
        "head": str(after + 11),
    }


def rename(name: str, blocks: int) -> str:
    """Our name of a parameter -> the published code's.

    Example:
        >>> rename("blocks.0.first.global_global.unit.norm.bias", 9), rename("up3.1.weight", 9), rename("head.bias", 9)
        ('model.5.conv1.ffc.convg2g.fu.bn.bias', 'model.16.weight', 'model.25.bias')
    """
    for ours, place in _places(blocks).items():
        if name.startswith(f"{ours}."):
            inner = name.removeprefix(f"{ours}.")
            for part, theirs in PARTS.items():
                if inner.startswith(f"{part}."):
                    inner = theirs + inner.removeprefix(part)
            return f"model.{place}.{inner}"
    raise AssertionError(f"no such parameter: {name}")


def from_original(state: Mapping[str, Any], **options: Any) -> LaMa:
    """A network in evaluation mode with published parameters.

    Args:
        state: name -> tensor as the published generator has it, without a prefix.
        options: of `LaMa`; width and blocks are read from the tensors.

    Raises:
        InputError: not parameters of a LaMa with Fourier blocks, or not all of them; lists what does not fit.
    """
    first = state.get("model.1.ffc.convl2l.weight")
    if not isinstance(first, Tensor) or first.ndim != 4 or not all(isinstance(t, Tensor) for t in state.values()):
        raise InputError(
            "expected the parameters of a LaMa generator under their published names, with model.1.ffc.convl2l.weight "
            f"of four axes; got {len(state)} entries: {', '.join(map(str, list(state)[:4]))}. lama-fourier and "
            "big-lama are known; lama-regular has no Fourier blocks."
        )
    blocks = sum(name.startswith("model.") and name.endswith(".conv1.ffc.convl2l.weight") for name in state)
    options = {"width": first.shape[0], "blocks": max(1, blocks), **options}
    return network_from(lambda: LaMa(**options), state, lambda name: rename(name, options["blocks"]))  # type: ignore[return-value]


def to_original(network: LaMa) -> dict[str, Tensor]:
    """The inverse: all parameters under their published names.

    Example:
        >>> list(to_original(LaMa(width=1)))[0]
        'model.1.ffc.convl2l.weight'
    """
    return dump_original(network, lambda name: rename(name, len(network.blocks)))


def published(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The generator's parameters as the original's checkpoints hold them."""
    return {"state_dict": {f"{PREFIXES[0]}{name}": tensor for name, tensor in state.items()}}
