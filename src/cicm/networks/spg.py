"""SPG-Net: one network completes the labels, a second paints the picture that they describe.

"SPG-Net: Segmentation Prediction and Guidance Network for Image Inpainting" (BMVC 2018). Its authors' code is not
public. The layers and their order follow an UNOFFICIAL port, the only executable description there is, so that files of
that port load; nothing says that it is what the authors ran.
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
from cicm.networks.originals import dump_original, network_from
from cicm.networks.registry import register


@register("spg")
class SPGNet(InpaintingNetwork):
    """96.1 M parameters and 38.8 GMAC (256x256) at width 64 with 19 classes: two networks of one layout.

    Args:
        width: channels of the first layers; the lowest maps have 8 times as many.
        blocks: residual blocks at the lowest map of each network.
        classes: how many labels are told apart; the port has 35, with void among them.

    Sites: `down1`, `down2`, `down3` and `bottom` of the network that paints, `labels`, the lowest map of the one that
    completes labels. Both lowest maps are edited before their residual blocks; a cell is 16 pixels.

    Without labels it knows none: every plane of the map is 0, and the first network predicts all of it from the
    picture. The second gets the probabilities without a gradient, as in the port. `maps` of a prediction holds
    `labels`, the logits. Its batch norms use statistics of the batch in training.
    """

    batch_statistics = True
    takes_labels = True

    def __init__(self, width: int = 64, blocks: int = 9, classes: int = 19) -> None:
        super().__init__()
        for name, value in (("width", width), ("blocks", blocks), ("classes", classes)):
            if value < 1:
                raise InputError(f"{name} must be at least 1; got {value}.")
        self.labeller = Trunk(3 + classes, classes, width, blocks)
        self.painter = Trunk(3 + classes, 3, width, blocks)
        self.classes = classes
        w = width
        self.sites = (
            FeatureSite("down1", w, 2),
            FeatureSite("down2", 2 * w, 4),
            FeatureSite("down3", 4 * w, 8),
            FeatureSite("labels", 8 * w, 16),
            FeatureSite("bottom", 8 * w, 16),
        )
        self.size = SizeRule(multiple_of=16, minimum=32)  # the residual blocks reflect 1 of at least 2 cells

    def forward(
        self,
        corrupted: Float[Tensor, "B 3 H W"],
        hole: Float[Tensor, "B 1 H W"],
        *,
        edit: Edit = unchanged,
        labels: Float[Tensor, "B classes H W"] | None = None,
    ) -> Prediction:
        """Predict the labels, then the picture.

        Args:
            labels: (B, classes, H, W), one-hot or probabilities, 0 where unknown; what lies in the hole is not seen.
        """
        self.size.check(*corrupted.shape[-2:])
        known = 1 - hole.to(corrupted.dtype)
        picture = corrupted * known * 2 - 1  # -1 in the hole: the port scales after it masks
        if labels is None:
            labels = corrupted.new_zeros(len(corrupted), self.classes, *corrupted.shape[-2:])
        logits = self.labeller(
            torch.cat([picture, labels * known], 1), lambda site, x: edit("labels", x) if site == "bottom" else x
        )
        guide = torch.softmax(logits, 1).detach()
        image = torch.tanh(self.painter(torch.cat([picture, guide], 1), edit))
        return Prediction((image + 1) / 2, maps={"labels": logits})


class Trunk(nn.Module):
    """Four convolutions down to stride 16, residual blocks, four up; batch normalisation and ReLU after each.

    Args:
        outputs: channels of what goes, before any nonlinearity.
    """

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int) -> None:
        super().__init__()
        channels = [inputs, width, 2 * width, 4 * width, 8 * width]
        down: list[nn.Module] = [nn.ReflectionPad2d(3)]
        for depth, (a, b) in enumerate(pairwise(channels)):
            conv = nn.Conv2d(a, b, 3, 2, 1) if depth else nn.Conv2d(a, b, 7, 2)
            down += [conv, nn.BatchNorm2d(b), nn.ReLU()]
        up: list[nn.Module] = []
        for a, b in pairwise([8 * width, *channels[:0:-1]]):
            up += [nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=1), nn.BatchNorm2d(b), nn.ReLU()]
        # the names and places are also the port's
        self.down = nn.Sequential(*down)
        self.bottle_neck = nn.ModuleList(NormedResidual(8 * width) for _ in range(blocks))
        self.up = nn.Sequential(*up)
        self.out = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(width, outputs, 7))

    def forward(self, x: Float[Tensor, "B inputs H W"], edit: Edit = unchanged) -> Float[Tensor, "B outputs H W"]:
        for place, layer in enumerate(self.down):
            x = layer(x)
            if place and place % 3 == 0:  # after each ReLU
                x = edit("bottom" if place == len(self.down) - 1 else f"down{place // 3}", x)
        for block in self.bottle_neck:
            x = block(x)
        return self.out(self.up(x))


class NormedResidual(nn.Module):
    """x plus two 3x3 convolutions of it with batch normalisation, borders reflected; the sum is not rectified."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        return x + self.conv_block(x)


class SPGDiscriminator(nn.Module):
    """The port's discriminators: one for pictures, and with `classes` one for label maps.

    Args:
        width: channels of the first layers; the widest have 4 times as many. 2.0 M parameters each at 64.
        classes: planes of label maps, given after the three of the picture; 0 for none.

    Example:
        >>> SPGDiscriminator(width=4)(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 3, 19, 19])
        >>> SPGDiscriminator(width=4, classes=5)(torch.rand(2, 8, 64, 64)).shape
        torch.Size([2, 6, 19, 19])
    """

    def __init__(self, width: int = 64, classes: int = 0) -> None:
        super().__init__()
        self.classes = classes
        self.picture = ScaledDiscriminator(3, width)
        self.labels = ScaledDiscriminator(classes, width) if classes else None

    def forward(
        self, image: Float[Tensor, "B planes H W"], hole: Float[Tensor, "B 1 H W"] | None = None
    ) -> Float[Tensor, "B scales h w"]:
        """Logits of all scales, stretched to the finest, so that each counts alike; the hole is not looked at."""
        found = self.picture(image[:, :3] * 2 - 1)
        found += self.labels(image[:, 3:]) if self.labels is not None else []
        size = found[0][0].shape[-2:]
        return torch.cat([F.interpolate(logits, size=size, mode="nearest") for logits, _ in found], 1)


class ScaledDiscriminator(nn.Module):
    """Three of one layout, for what is judged and for it at a half and a quarter of its size."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchTrunk(channels, width) for _ in range(3))

    def forward(self, planes: Float[Tensor, "B C H W"]) -> list[tuple[Tensor, list[Tensor]]]:
        """For each scale, fine to coarse, the logits (B, 1, h, w) and the maps of the layers before them."""
        found = []
        for scale in self.scales:
            found.append(scale(planes))
            planes = F.avg_pool2d(planes, 3, 2, 1, count_include_pad=False)
        return found


class PatchTrunk(nn.Module):
    """Four convolutions of 4x4, two of stride 2; batch normalisation after the middle two."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        w = width
        layout = ((channels, w, 2, False), (w, 2 * w, 2, True), (2 * w, 4 * w, 1, True))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 4, stride, 2), *([nn.BatchNorm2d(b)] if normed else []), nn.LeakyReLU(0.2))
            for a, b, stride, normed in layout
        )
        self.last = nn.Conv2d(4 * w, 1, 4, 1, 2)

    def forward(self, x: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B 1 h w"], list[Tensor]]:
        maps: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return self.last(x), maps


# The port's names -----------------------------------------------------------------------------------------------------


def rename(name: str) -> str:
    """Our name of a parameter -> the port's.

    Example:
        >>> rename("labeller.down.1.weight"), rename("painter.out.1.bias")
        ('SPNet.down.1.weight', 'SGNet.out.1.bias')
    """
    return name.replace("labeller.", "SPNet.").replace("painter.", "SGNet.")


def from_original(state: Mapping[str, Any], **options: Any) -> SPGNet:
    """A network in evaluation mode with the port's parameters.

    Args:
        state: name -> tensor; both networks of the port together, `SPNet.` and `SGNet.` before their names.
        options: of `SPGNet`; all are read from the tensors.

    Raises:
        InputError: not parameters of the port, or not all of them; lists what does not fit.
    """
    last = state.get("SPNet.out.1.weight")
    if not isinstance(last, Tensor) or last.ndim != 4 or not all(isinstance(t, Tensor) for t in state.values()):
        raise InputError(
            "expected the parameters of both networks of the port of SPG-Net, as SPNet.out.1.weight and "
            f"SGNet.out.1.weight; got {len(state)} entries: {', '.join(map(str, list(state)[:4]))}."
        )
    blocks = {name.split(".")[2] for name in state if name.startswith("SPNet.bottle_neck.")}
    read = {"width": last.shape[1], "classes": last.shape[0], "blocks": max(1, len(blocks))}
    return network_from(lambda: SPGNet(**{**read, **options}), state, rename)  # type: ignore[return-value]


def to_original(network: SPGNet) -> dict[str, Tensor]:
    """The inverse: all parameters under the port's names.

    Example:
        >>> list(to_original(SPGNet(width=1, blocks=1, classes=2)))[0]
        'SPNet.down.1.weight'
    """
    return dump_original(network, rename)
