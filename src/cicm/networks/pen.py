"""PEN-Net: an encoder whose maps are filled from the deepest upwards, each by attention on the one below it.

"Learning Pyramid-Context Encoder Network for High-Quality Image Inpainting" (CVPR 2019). The layers
and their order are those of the authors' PyTorch release, which differs a little from their paper, so that its weights
load and ours go back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from cicm.conventions import InputError
from cicm.networks.contract import Edit, FeatureSite, InpaintingNetwork, Prediction, SizeRule, unchanged
from cicm.networks.originals import dump_original, network_from
from cicm.networks.registry import register
from cicm.ops.attention import attend, untouched

DEPTH = 6
_LEAST = 1e-8
"""No weight of the attention is below this, as in the original; it is what a picture without any key is left with."""


class AttentionTransfer(nn.Module):
    """A map filled from its own known patches, which are chosen on the map below it, then four dilated convolutions.

    Args:
        channels: of the map; a multiple of 4 where it is refined.
        kernel: side of the patches that are compared.
        refined: whether the convolutions follow.
        guard: a map none of whose patches is known stays as it is. The original then multiplies it by 1e-8.
    """

    def __init__(self, channels: int, kernel: int = 3, refined: bool = True, guard: bool = True) -> None:
        super().__init__()
        self.kernel, self.guard = kernel, guard
        self.out_channels = channels  # where `attach` looks first
        convs = (nn.Conv2d(channels, channels // 4, 3, padding=d, dilation=d) for d in (1, 2, 4, 8))
        self.refine = nn.ModuleList(convs if refined else ())

    def forward(
        self, features: Float[Tensor, "B C Y X"], below: Float[Tensor, "B c h w"], hole: Float[Tensor, "B 1 H W"]
    ) -> Float[Tensor, "B C Y X"]:
        """Args:
        features: (B, C, 2h, 2w), to be filled.
        below: (B, c, h, w), where the likeness is looked at.
        hole: (B, 1, H, W), 1 = missing.
        """
        cells = F.interpolate(hole, size=below.shape[-2:], mode="bilinear", align_corners=True)
        usable = untouched(cells, self.kernel)
        filled = attend(below, below, features, usable, kernel=self.kernel, least=_LEAST)
        if self.guard:
            filled = torch.where(usable.flatten(1).any(1).view(-1, 1, 1, 1), filled, features)
        if not self.refine:
            return filled
        return torch.cat([F.relu(conv(filled)) for conv in self.refine], 1)


@register("pen")
class PEN(InpaintingNetwork):
    """10.2 M parameters at width 32, as published.

    Args:
        width: channels of the first map, a multiple of 4; the lowest has 16 times as many.
        guard: where no patch of a map is known, as for every seventh picture with a hole of 40-60 %, the map goes on as
            the encoder made it. False is the original, which loses the map there.

    Sites: `attended1` to `attended5`, the filled maps, which both the map above and the decoder read (a cell is 2 to 32
    pixels), and `bottom` (64 pixels). At 256x256 the bottom has 4x4 cells, and a large hole leaves none of them
    complete; `attended4` has the cells of 16 pixels that the other networks have.

    Differs from the original: the guard, and weights that begin at He's scale instead of 0.02, with which narrow
    networks hardly learn.
    """

    def __init__(self, width: int = 32, guard: bool = True) -> None:
        super().__init__()
        if width < 4 or width % 4:
            raise InputError(f"width must be a positive multiple of 4; got {width}.")
        channels = [width * share for share in (1, 2, 4, 8, 16, 16)]
        above, wide = [4, *channels[:-1]], channels[:-1]
        self.encoder = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(above, channels, strict=True))
        # lists go from fine to coarse
        self.attention = nn.ModuleList(
            AttentionTransfer(c, *((3, True) if level < 4 else (1, False)), guard=guard) for level, c in enumerate(wide)
        )
        inputs = [*(2 * c for c in wide[1:]), channels[-1]]
        self.decoder = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(inputs, wide, strict=True))
        self.pictures = nn.ModuleList(nn.Conv2d(2 * c, 3, 1) for c in wide)
        self.last = nn.ModuleList([nn.Conv2d(2 * width, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)])
        heads = {*self.pictures, self.last[1]}
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if module in heads:
                    nn.init.normal_(module.weight, std=0.02)  # so the image begins grey
                elif not module.weight.is_meta:
                    nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.sites = (
            *(FeatureSite(f"attended{level + 1}", c, 2 ** (level + 1)) for level, c in enumerate(wide)),
            FeatureSite("bottom", channels[-1], 2**DEPTH),
        )
        self.size = SizeRule(multiple_of=2**DEPTH, minimum=2**DEPTH)

    def forward(
        self, corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"], *, edit: Edit = unchanged
    ) -> Prediction:
        self.size.check(*corrupted.shape[-2:])
        missing = hole.to(corrupted.dtype)
        x = torch.cat([(corrupted * 2 - 1) * (1 - missing) + missing, missing], 1)  # the hole is white
        maps: list[Tensor] = []
        for conv in self.encoder:
            x = conv(x)
            x = F.relu(x) if len(maps) == DEPTH - 1 else F.leaky_relu(x, 0.2)
            maps.append(x)
        maps[-1] = edit("bottom", maps[-1])
        for level in reversed(range(DEPTH - 1)):
            maps[level] = edit(f"attended{level + 1}", self.attention[level](maps[level], maps[level + 1], hole))

        x, pictures = maps[-1], []
        for level in reversed(range(DEPTH - 1)):
            x = torch.cat([F.relu(self.decoder[level](_doubled(x))), maps[level]], 1)
            pictures.append((torch.tanh(self.pictures[level](x)) + 1) / 2)
        x = F.relu(self.last[0](_doubled(x)))
        return Prediction((torch.tanh(self.last[1](x)) + 1) / 2, tuple(pictures))


def _doubled(features: Tensor) -> Tensor:
    """Twice the height and width, bilinear with aligned corners."""
    return F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=True)


class PENDiscriminator(nn.Module):
    """Patches of the picture alone, spectral normalisation in all layers but the last.

    Args:
        width: channels of the first layer; the fourth has 8 times as many.

    Example:
        >>> PENDiscriminator(width=2)(torch.rand(2, 3, 256, 256)).shape
        torch.Size([2, 1, 27, 27])
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        channels = [3, *(width * share for share in (1, 2, 4, 8))]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 5, stride, 1, bias=False))
            for a, b, stride in zip(channels[:-1], channels[1:], (2, 2, 2, 1), strict=True)
        )
        self.head = nn.Conv2d(channels[-1], 1, 5, 1, 1)

    def forward(
        self, image: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"] | None = None
    ) -> Float[Tensor, "B 1 h w"]:
        """Logits, one per patch; (B, 3, H, W) in [0, 1]. The hole is not looked at."""
        x = image * 2 - 1
        for conv in self.layers:
            x = F.leaky_relu(conv(x), 0.2)
        return self.head(x)


def discriminator_from_original(state: Mapping[str, Tensor]) -> PENDiscriminator:
    """A discriminator in evaluation mode with published parameters.

    Raises:
        InputError: other names than those of this discriminator.
    """
    kinds = ("weight_orig", "weight_u", "weight_v")
    names = {f"encoder.{i}.{kind}" for i in (0, 2, 4, 6) for kind in kinds} | {"classifier.weight", "classifier.bias"}
    if set(state) != names:
        raise InputError(
            "expected the parameters of PEN-Net's discriminator, encoder.0.weight_orig to classifier.bias; "
            f"got {len(state)} entries: {', '.join(map(str, list(state)[:4]))}."
        )
    made = PENDiscriminator(state["encoder.0.weight_orig"].shape[0]).eval()
    ours = ("original", "0._u", "0._v")
    named = {
        f"layers.{i}.parametrizations.weight.{mine}": state[f"encoder.{2 * i}.{kind}"]
        for i in range(4)
        for mine, kind in zip(ours, kinds, strict=True)
    }
    made.load_state_dict(named | {f"head.{kind}": state[f"classifier.{kind}"] for kind in ("weight", "bias")})
    return made


# The published names --------------------------------------------------------------------------------------------------


def rename(name: str) -> str:
    """Our name of a parameter -> the published code's; ours count from 0, theirs from 1.

    Example:
        >>> rename("encoder.5.bias"), rename("attention.3.refine.1.weight"), rename("last.1.weight")
        ('dw_conv06.0.bias', 'at_conv04.conv01.0.weight', 'decoder.2.weight')
    """
    part, index, *inner, kind = name.split(".")
    number = int(index) + 1
    match part:
        case "attention":
            return f"at_conv0{number}.conv0{inner[1]}.0.{kind}"
        case "last":
            return f"decoder.{2 * int(index)}.{kind}"
        case "pictures":
            return f"torgb{number}.0.{kind}"
        case _:
            return f"{'dw' if part == 'encoder' else 'up'}_conv0{number}.0.{kind}"


def from_original(state: Mapping[str, Any], **options: Any) -> PEN:
    """A network in evaluation mode with published parameters.

    Args:
        state: name -> tensor as the published code has it, or the file's whole content, which holds that mapping
            under `netG` or `generator`.
        options: of `PEN`; the width is read from the tensors.

    Raises:
        InputError: not parameters of this generator, or not all of them; lists what does not fit.
    """
    state = next((state[key] for key in ("netG", "generator") if isinstance(state.get(key), Mapping)), state)
    first = state.get("dw_conv01.0.weight")
    if not isinstance(first, Tensor) or first.ndim != 4 or not all(isinstance(t, Tensor) for t in state.values()):
        raise InputError(
            "expected the parameters of a PEN-Net generator under their published names, with dw_conv01.0.weight of "
            f"four axes; got {len(state)} entries: {', '.join(map(str, list(state)[:4]))}. Give the file of the "
            "generator, not of the discriminator."
        )
    return network_from(lambda: PEN(**{"width": first.shape[0], **options}), state, rename)  # type: ignore[return-value]


def to_original(network: PEN) -> dict[str, Tensor]:
    """The inverse: all parameters under their published names.

    Example:
        >>> list(to_original(PEN(width=4)))[0]
        'dw_conv01.0.weight'
    """
    return dump_original(network, rename)
