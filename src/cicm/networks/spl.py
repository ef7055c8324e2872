"""SPL: a prior of what the picture means, predicted from its known part, modulates the repair.

"Context-Aware Image Inpainting with Learned Semantic Priors" (IJCAI 2021). A second branch sees the picture at
twice its size and learns to predict the features that a frozen classifier has of the complete picture; the map that
these are read from modulates the residual blocks of the first. The layers and their order follow the published code,
so that published weights load.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
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

IMPORTANT = 0.8
"""A pixel of the decoder belongs to the one region where its importance is above this, to the other elsewhere."""
LAYERS = 6
"""Convolutions of a dense block; each sees the outputs of all before it."""


@register("spl")
class SPL(InpaintingNetwork):
    """45.6 M parameters and 210.8 GMAC (256x256) at width 64, as published.

    Args:
        width: channels of the first layers; the lowest maps have 4 times as many.
        blocks: residual blocks that the prior modulates.
        dense: residual dense blocks of the prior's branch.
        teacher: channels of the classifier's features, the map `prior` of a prediction; 152 are those of the paper's.

    Sites: `encoder1` (stride 2), `prior` (the map that modulates), `bottom` (before the modulated blocks, which can
    spread what a memory adds there; a cell is 4 pixels).

    The hole is white for the network and is not among its inputs in the first branch; there it divides the pixels whose
    means and variances are taken.
    """

    def __init__(self, width: int = 64, blocks: int = 8, dense: int = 16, teacher: int = 152) -> None:
        super().__init__()
        for name, value in (("width", width), ("blocks", blocks), ("dense", dense), ("teacher", teacher)):
            if value < 1:
                raise InputError(f"{name} must be at least 1; got {value}.")
        w = width
        self.encoder = nn.ModuleList(
            [
                nn.Conv2d(3, w, 7, padding=3, padding_mode="reflect"),
                nn.Conv2d(w, 2 * w, 4, 2, 1),
                nn.Conv2d(2 * w, 4 * w, 4, 2, 1),
            ]
        )
        self.norms = nn.ModuleList(HoleNorm(channels) for channels in (w, 2 * w, 4 * w))
        self.prior = Prior(w, dense, teacher)
        self.middle = nn.ModuleList(ModulatedResidual(4 * w, 2 * w) for _ in range(blocks))
        self.up1, self.norm1 = nn.Conv2d(4 * w, 8 * w, 3, padding=1), ImportanceNorm()
        self.up2, self.norm2 = nn.Conv2d(2 * w, 4 * w, 3, padding=1), ImportanceNorm()
        self.head = nn.Conv2d(w, 3, 7, padding=3, padding_mode="reflect")
        self.sites = (
            FeatureSite("encoder1", 2 * w, 2),
            FeatureSite("prior", 4 * w, 4),
            FeatureSite("bottom", 4 * w, 4),
        )
        self.size = SizeRule(multiple_of=4, minimum=12)  # the residual blocks reflect 2 of at least 3 cells

    def forward(
        self, corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"], *, edit: Edit = unchanged
    ) -> Prediction:
        self.size.check(*corrupted.shape[-2:])
        hole = hole.to(corrupted.dtype)
        white = corrupted * (1 - hole) + hole
        layout, prior = self.prior(torch.cat([doubled(white), doubled(hole)], 1), edit)
        features = white
        for depth, (conv, norm) in enumerate(zip(self.encoder, self.norms, strict=True)):
            features = conv(features)
            features = F.relu(norm(features, F.interpolate(hole, size=features.shape[-2:], mode="nearest")))
            if depth == 1:
                features = edit("encoder1", features)
        features = edit("bottom", features)
        for block in self.middle:
            features = block(features, layout)
        features = F.relu(self.norm1(F.pixel_shuffle(self.up1(features), 2)))
        features = F.relu(self.norm2(F.pixel_shuffle(self.up2(features), 2)))
        return Prediction((torch.tanh(self.head(features)) + 1) / 2, maps={"prior": prior})


class Prior(nn.Module):
    """From the known part at twice its size to the map that modulates, and to the classifier's features."""

    def __init__(self, width: int, dense: int, teacher: int) -> None:
        super().__init__()
        w = width
        self.encoder = nn.ModuleList(
            [
                nn.Conv2d(4, w, 7, padding=3, padding_mode="reflect"),
                nn.Conv2d(w, 2 * w, 4, 2, 1),
                nn.Conv2d(2 * w, 4 * w, 4, 2, 1),
                nn.Conv2d(4 * w, 4 * w, 4, 2, 1),
            ]
        )
        self.lowest = nn.Conv2d(4 * w, 4 * w, 3, padding=1)
        self.dense = nn.ModuleList(DenseBlock(4 * w, max(1, w // 2)) for _ in range(dense))
        self.fuse = nn.Conv2d(dense * 4 * w, 4 * w, 1)
        self.smooth = nn.Conv2d(4 * w, 4 * w, 3, padding=1)
        self.recover = nn.ModuleList(PlainResidual(4 * w) for _ in range(4))
        self.features = nn.Conv2d(4 * w, teacher, 1)

    def forward(
        self, twice: Float[Tensor, "B 4 H2 W2"], edit: Edit = unchanged
    ) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B teacher h w"]]:
        x = twice
        for conv in self.encoder:
            x = F.leaky_relu(conv(x), 0.1)
        encoded, x, outputs = x, self.lowest(x), []
        for block in self.dense:
            x = block(x)
            outputs.append(x)
        x = self.smooth(self.fuse(torch.cat(outputs, 1))) + encoded
        for residual in self.recover:
            x = residual(x)
        x = edit("prior", x)
        return x, self.features(x)


class DenseBlock(nn.Module):
    """x plus what `LAYERS` convolutions find in it, each of which sees all before it (RDN, CVPR 2018)."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(channels + i * growth, growth, 3, padding=1) for i in range(LAYERS))
        self.fuse = nn.Conv2d(channels + LAYERS * growth, channels, 1)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        seen = x
        for layer in self.layers:
            seen = torch.cat([seen, F.relu(layer(seen))], 1)
        return x + self.fuse(seen)


class PlainResidual(nn.Module):
    """x plus two 3x3 convolutions of it, borders reflected, without normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
        self.second = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        return x + self.second(F.relu(self.first(x)))


class ModulatedResidual(nn.Module):
    """x plus two 3x3 convolutions of it, the first with dilation 2, each after a modulation by a layout."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.modulate1, self.modulate2 = Modulation(channels, hidden), Modulation(channels, hidden)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=2, dilation=2, padding_mode="reflect")
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Float[Tensor, "B C h w"], layout: Float[Tensor, "B D a b"]) -> Float[Tensor, "B C h w"]:
        inner = self.conv1(F.relu(self.modulate1(x, layout)))
        return x + self.conv2(F.relu(self.modulate2(inner, layout)))


class Modulation(nn.Module):
    """Instance normalisation whose scale and shift are read from a layout, pixel by pixel (SPADE, CVPR 2019).

    Args:
        layout: channels of the layout; None: as many as `channels`.
    """

    def __init__(self, channels: int, hidden: int, layout: int | None = None) -> None:
        super().__init__()
        self.shared = nn.Conv2d(layout or channels, hidden, 3, padding=1)
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C h w"], layout: Float[Tensor, "B D a b"]) -> Float[Tensor, "B C h w"]:
        if layout.shape[-2:] != x.shape[-2:]:
            layout = F.interpolate(layout, size=x.shape[-2:], mode="nearest")
        read = F.relu(self.shared(layout))
        return F.instance_norm(x) * (1 + self.gamma(read)) + self.beta(read)


class SPLDiscriminator(nn.Module):
    """EdgeConnect's discriminator, which SPL was trained against: overlapping patches, spectral norm, no biases.

    Args:
        width: channels of the first layer; the widest has 8 times as many. 2.8 M parameters at 64.

    Example:
        >>> SPLDiscriminator(width=4)(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 1, 6, 6])
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        channels, strides = (3, width, 2 * width, 4 * width, 8 * width, 1), (2, 2, 2, 1, 1)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride, 1, bias=False))
            for (a, b), stride in zip(pairwise(channels), strides, strict=True)
        )

    def forward(
        self, image: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"] | None = None
    ) -> Float[Tensor, "B 1 h w"]:
        """Logits, one per patch; the image is taken in [0, 1] as it is, the hole is not looked at."""
        for layer in self.layers[:-1]:
            image = F.leaky_relu(layer(image), 0.2)
        return self.layers[-1](image)


# Normalisation by regions (RN, AAAI 2020) -----------------------------------------------------------------------------


def region_norm(x: Float[Tensor, "B C h w"], region: Float[Tensor, "B 1 h w"]) -> Float[Tensor, "B C h w"]:
    """Each channel of each picture at mean 0 and variance 1, inside a region and outside it apart.

    Args:
        region: (B, 1, h, w) of 0 and 1.

    Returns:
        (B, C, h, w); a region without pixels changes nothing of the other.

    Example:
        >>> x = torch.tensor([[[[1.0, 3.0, 50.0, 90.0]]]])
        >>> region_norm(x, torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])).round(decimals=2)
        tensor([[[[-1.,  1., -1.,  1.]]]])
    """
    return _inside(x, region) + _inside(x, 1 - region)


def _inside(x: Tensor, region: Tensor) -> Tensor:
    """The region alone, 0 elsewhere: filled up with its mean the whole map is normalised, then scaled back."""
    count = region.sum((2, 3), keepdim=True).clamp(min=1)
    inside = x * region
    mean = inside.sum((2, 3), keepdim=True) / count
    share = count / (x.shape[2] * x.shape[3])
    return F.instance_norm(inside + (1 - region) * mean) * share.sqrt()


class HoleNorm(nn.Module):
    """`region_norm` of hole and known part, a scale for each of the two, and the sum of both shifts everywhere.

    That both shifts are added on either side is the published code's.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hole_gamma, self.hole_beta = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        self.known_gamma, self.known_beta = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "B C h w"], hole: Float[Tensor, "B 1 h w"]) -> Float[Tensor, "B C h w"]:
        gamma = hole * self.hole_gamma.view(-1, 1, 1) + (1 - hole) * self.known_gamma.view(-1, 1, 1)
        return region_norm(x, hole) * (1 + gamma) + (self.hole_beta + self.known_beta).view(-1, 1, 1)


class ImportanceNorm(nn.Module):
    """`region_norm` of the pixels that a learned map calls important and of the rest; scale and shift from that map."""

    def __init__(self) -> None:
        super().__init__()
        self.importance = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.gamma = nn.Conv2d(1, 1, 7, padding=3)
        self.beta = nn.Conv2d(1, 1, 7, padding=3)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        importance = torch.sigmoid(self.importance(torch.cat([x.mean(1, True), x.amax(1, True)], 1)))
        region = (importance > IMPORTANT).to(x.dtype)
        return region_norm(x, region) * (1 + self.gamma(importance)) + self.beta(importance)


def doubled(picture: Tensor) -> Tensor:
    """Twice the height and width, each pixel four times."""
    return F.interpolate(picture, scale_factor=2.0, mode="nearest")


# The published names --------------------------------------------------------------------------------------------------

_PREFIXES = {
    **{f"encoder.{i}": f"encoder_conv{i + 1}" for i in range(3)},
    **{f"norms.{i}": f"encoder_in{i + 1}" for i in range(3)},
    **{f"prior.encoder.{i}": f"encoder_conv{i + 1}_sm" for i in range(4)},
    "prior.lowest": "encoder_sm_out",
    "prior.fuse": "gff.0",
    "prior.smooth": "gff.1",
    "prior.features": "feature_mapping",
    "up1": "decoder.0",
    "norm1": "decoder.2.sa",
    "up2": "decoder.4",
    "norm2": "decoder.6.sa",
    "head": "decoder.9",
}
_NUMBERED = {"prior.dense": "rdbs", "prior.recover": "feature_recon", "middle": "middle"}
_INSIDE = {
    "prior.dense": {"layers.": "layers.", "fuse.": "lff."},
    "prior.recover": {"first.": "conv_block.1.", "second.": "conv_block.4."},
    "middle": {
        **{
            f"modulate{i}.{ours}.": f"conv_block.{place}.mlp_{theirs}."
            for i, place in ((1, 0), (2, 4))
            for ours, theirs in (("shared", "shared.0"), ("gamma", "gamma"), ("beta", "beta"))
        },
        "conv1.": "conv_block.3.",
        "conv2.": "conv_block.7.",
    },
}
_LEAVES = {
    "hole_gamma": "foreground_gamma",
    "hole_beta": "foreground_beta",
    "known_gamma": "background_gamma",
    "known_beta": "background_beta",
    "importance.weight": "conv1.weight",
    "gamma.weight": "gamma_conv.weight",
    "gamma.bias": "gamma_conv.bias",
    "beta.weight": "beta_conv.weight",
    "beta.bias": "beta_conv.bias",
}


def rename(name: str) -> str:
    """Our name of a parameter -> the published code's.

    Example:
        >>> rename("norms.0.hole_beta"), rename("prior.dense.3.layers.5.bias"), rename("middle.1.modulate2.gamma.bias")
        ('encoder_in1.foreground_beta', 'rdbs.3.layers.5.conv.bias', 'middle.1.conv_block.4.mlp_gamma.bias')
    """
    for ours, theirs in _NUMBERED.items():
        if name.startswith(f"{ours}."):
            number, inside = name.removeprefix(f"{ours}.").split(".", 1)
            for start, begins in _INSIDE[ours].items():
                if inside.startswith(start):
                    inside = begins + inside.removeprefix(start)
                    break
            if ours == "prior.dense" and inside.startswith("layers."):
                _, layer, leaf = inside.split(".")
                inside = f"layers.{layer}.conv.{leaf}"
            return f"{theirs}.{number}.{inside}"
    for ours, theirs in _PREFIXES.items():
        if name.startswith(f"{ours}."):
            leaf = name.removeprefix(f"{ours}.")
            return f"{theirs}.{_LEAVES.get(leaf, leaf)}"
    return name


def from_original(state: Mapping[str, Any], **options: Any) -> SPL:
    """A network in evaluation mode with published parameters.

    Args:
        state: name -> tensor as the published code has it, or the file's whole content, which holds that mapping
            under `generator`.
        options: of `SPL`; all are read from the tensors.

    Raises:
        InputError: not parameters of an SPL, or not all of them; lists what does not fit.
    """
    if isinstance(state.get("generator"), Mapping):
        state = state["generator"]
    first, last = state.get(rename("encoder.0.weight")), state.get(rename("prior.features.weight"))
    if not all(isinstance(t, Tensor) for t in (first, last, *state.values())):
        raise InputError(
            "expected the parameters of an SPL generator under their published names, with encoder_conv1.weight and "
            f"feature_mapping.weight; got {len(state)} entries: {', '.join(map(str, list(state)[:4]))}. Give the file "
            "of the generator, not of the discriminator."
        )
    assert isinstance(first, Tensor)
    assert isinstance(last, Tensor)
    read = {
        "width": first.shape[0] if first.ndim else 1,
        "teacher": last.shape[0] if last.ndim else 1,
        "blocks": max(1, len({name.split(".")[1] for name in state if name.startswith("middle.")})),
        "dense": max(1, len({name.split(".")[1] for name in state if name.startswith("rdbs.")})),
    }
    return network_from(lambda: SPL(**{**read, **options}), state, rename)  # type: ignore[return-value]


def to_original(network: SPL) -> dict[str, Tensor]:
    """The inverse: all parameters under their published names.

    Example:
        >>> list(to_original(SPL(width=1, blocks=1, dense=1)))[0]
        'encoder_conv1.weight'
    """
    return dump_original(network, rename)
