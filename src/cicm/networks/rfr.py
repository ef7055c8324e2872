"""RFR: one small UNet, called again and again, fills the hole from its rim inwards.

"Recurrent Feature Reasoning for Image Inpainting" (CVPR 2020). Partial convolutions keep account of what is known.
Each recurrence moves the rim 12 pixels inwards, fills features inside, and looks for like cells elsewhere; in the end
the features of all recurrences are averaged where each was known. Names and order of the layers in the published code
are in `_RENAMES`, so that its weights load and ours go back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.conventions import InputError
from cicm.networks.contract import Edit, FeatureSite, InpaintingNetwork, Prediction, SizeRule, unchanged
from cicm.networks.originals import dump_original, network_from
from cicm.networks.registry import register
from cicm.ops.precision import full_precision

Kernel = Literal[7, 5]

# Partial convolution --------------------------------------------------------------------------------------------------


def partial_conv_plain(
    x: Float[Tensor, "B C H W"],
    known: Float[Tensor, "B G H W"],
    weight: Float[Tensor, "O C k k"],
    *,
    stride: int = 1,
    padding: int = 0,
    groups: tuple[int, ...] | None = None,
) -> tuple[Float[Tensor, "B O h w"], Float[Tensor, "B 1 h w"]]:
    """The definition of `partial_conv`: a mask channel for each input channel, summed by a convolution of ones."""
    groups = groups or (x.shape[1],)
    mask = torch.cat([known[:, i : i + 1].expand(-1, size, -1, -1) for i, size in enumerate(groups)], 1)
    total = F.conv2d(mask, torch.ones_like(weight, dtype=mask.dtype), None, stride, padding)
    reached = total.clamp(0, 1)
    share = weight[0].numel() / (total + 1e-8) * reached
    y = F.conv2d(x * mask.to(x.dtype), weight, None, stride, padding)
    return y * share.to(y.dtype), reached[:, :1]


def partial_conv(
    x: Float[Tensor, "B C H W"],
    known: Float[Tensor, "B G H W"],
    weight: Float[Tensor, "O C k k"],
    *,
    stride: int = 1,
    padding: int = 0,
    groups: tuple[int, ...] | None = None,
) -> tuple[Float[Tensor, "B O h w"], Float[Tensor, "B 1 h w"]]:
    """Convolve what is known, scaled up by how little that is; a window with anything known gives a known cell.

    Padding counts as unknown, so borders are scaled up even in a complete image. One channel and a box sum give what
    the dense form takes a second convolution for.

    Args:
        known: (B, G, H, W) in float32 or wider (half precision cannot count 3136 cells); 1 = known.
        groups: how many input channels each of the G masks stands for; without it the one mask stands for all.

    Returns:
        (B, O, h, w), 0 where nothing is known; and what is known now.

    Example:
        >>> known = torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]])
        >>> y, reached = partial_conv(torch.full((1, 1, 1, 4), 2.0), known, torch.ones(1, 1, 3, 3), padding=1)
        >>> y.flatten(), reached.flatten()
        (tensor([18., 18.,  0.,  0.]), tensor([1., 1., 0., 0.]))
    """
    groups = groups or (x.shape[1],)
    masks = known.split(1, 1)
    counted = sum(size * mask for size, mask in zip(groups, masks, strict=True))
    # divisor_override: a sum, exact in whole numbers, where an average times the area rounds
    total = F.avg_pool2d(counted, weight.shape[-1], stride, padding, divisor_override=1)
    reached = total.clamp(0, 1)
    share = weight[0].numel() / (total + 1e-8) * reached
    parts = [part * mask.to(x.dtype) for part, mask in zip(x.split(groups, 1), masks, strict=True)]
    y = F.conv2d(torch.cat(parts, 1) if len(parts) > 1 else parts[0], weight, None, stride, padding)
    return y * share.to(y.dtype), reached


class _PartialConv(nn.Module):
    """`partial_conv` with its weight; never a bias, as in the original."""

    def __init__(self, groups: tuple[int, ...], outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.groups, self.stride, self.padding = groups, stride, kernel // 2
        self.weight = nn.Parameter(torch.empty(outputs, sum(groups), kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # the default of nn.Conv2d

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        return partial_conv(x, known, self.weight, stride=self.stride, padding=self.padding, groups=self.groups)

    def extra_repr(self) -> str:
        return f"{self.groups}, {tuple(self.weight.shape)}, stride={self.stride}"


# Attention ------------------------------------------------------------------------------------------------------------


class Look(NamedTuple):
    """Where the cells of one recurrence looked.

    Args:
        scores: (B, N, N); row q holds the shares that cell q takes of all cells; rows sum to 1.
        known: (B, 1, h, w); which cells were known then, and so may keep to it.
    """

    scores: Float[Tensor, "B N N"]
    known: Float[Tensor, "B 1 h w"]


def attention_plain(
    features: Float[Tensor, "B C h w"], before: Look | None = None, ratio: Tensor | None = None
) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B N N"]]:
    """The definition of `attention`: a map of scores for each key, each summed over 3x3 cells."""
    height, width = features.shape[-2:]
    cells = features.flatten(2)
    keys = cells + 1e-7
    keys = keys / keys.norm(dim=1, keepdim=True)
    scores = torch.einsum("bcp,bcq->bpq", keys, cells).unflatten(2, (height, width))
    scores = torch.softmax(9 * F.avg_pool2d(scores, 3, 1, 1), 1).flatten(2)
    if before is not None:
        assert ratio is not None
        held, fresh = before.known.flatten(2), ratio.abs() + 1e-7
        scores = (before.scores.transpose(1, 2) * held + scores * fresh) / (held + fresh)
    found = torch.einsum("bpq,bcp->bcq", scores, keys)
    return found.unflatten(2, (height, width)), scores.transpose(1, 2)


def attention(
    features: Float[Tensor, "B C h w"], before: Look | None = None, ratio: Tensor | None = None
) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B N N"]]:
    """Each cell as a mixture of the directions of all cells, by likeness of 3x3 surroundings.

    The sum over 3x3 moves from the scores (N per cell) to the features (C per cell), which is the same by linearity,
    and mixing with the recurrence before is one interpolation. Memory still grows with N squared.

    Args:
        features: (B, C, h, w); computed in float32 or wider.
        before: the look of the recurrence before; cells known then keep part of it.
        ratio: (1,), weight of the new scores against the held ones; needed with `before`.

    Returns:
        (B, C, h, w) in the features' dtype, and the scores (B, N, N) for the next recurrence.

    Differs from the paper: the published code sums over 3x3 where the paper averages, and mixes directions where the
        paper mixes features. We follow the code, because its weights were learned so.

    Example:
        >>> found, scores = attention(torch.tensor([[[[9.0, 0.0]], [[0.0, 9.0]]]]))
        >>> found[0, :, 0, 0], scores.shape
        (tensor([0.5000, 0.5000]), torch.Size([1, 2, 2]))
    """
    with full_precision(features):
        wide = features.to(torch.promote_types(features.dtype, torch.float32))
        keys = wide.flatten(2) + 1e-7
        keys = keys / keys.norm(dim=1, keepdim=True)
        around = F.avg_pool2d(wide, 3, 1, 1, divisor_override=1).flatten(2)
        scores = torch.softmax(around.transpose(1, 2) @ keys, -1)
        if before is not None:
            assert ratio is not None
            fresh = ratio.abs() + 1e-7
            scores = torch.lerp(before.scores, scores, fresh / (before.known.flatten(2).transpose(1, 2) + fresh))
        found = keys @ scores.transpose(1, 2)
        return found.unflatten(2, features.shape[-2:]).to(features.dtype), scores


class Attention(nn.Module):
    """Attention beside the features it looked at, and a 1x1 convolution that joins the two."""

    def __init__(self, channels: int, *, mixes: bool) -> None:
        super().__init__()
        self.ratio = nn.Parameter(torch.ones(1), requires_grad=mixes)
        self.combine = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, features: Tensor, before: Look | None) -> tuple[Tensor, Tensor]:
        found, scores = attention(features, before, self.ratio)
        return self.combine(torch.cat([found, features], 1)), scores


# Network --------------------------------------------------------------------------------------------------------------


class Reasoning(nn.Module):
    """The UNet inside the recurrence, with attention on its second lowest level."""

    def __init__(self, width: int, *, mixes: bool) -> None:
        super().__init__()
        w = width

        def down(inputs: int, outputs: int) -> nn.Sequential:
            conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))

        def level(inputs: int, rectifier: nn.Module) -> nn.Sequential:
            conv = nn.Conv2d(inputs, 8 * w, 3, padding=2, dilation=2, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(8 * w), rectifier)

        def up(inputs: int, outputs: int) -> nn.Sequential:
            conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2, inplace=True))

        self.enc_1, self.enc_2, self.enc_3 = down(w, 2 * w), down(2 * w, 4 * w), down(4 * w, 8 * w)
        self.enc_4, self.enc_5, self.enc_6 = (level(8 * w, nn.ReLU(inplace=True)) for _ in range(3))
        self.dec_5, self.dec_4 = (level(16 * w, nn.LeakyReLU(0.2, inplace=True)) for _ in range(2))
        self.dec_3 = up(16 * w, 8 * w)
        self.attention = Attention(8 * w, mixes=mixes)
        self.dec_2, self.dec_1 = up(12 * w, 4 * w), up(6 * w, w)

    def forward(self, x: Tensor, known: Tensor, before: Look | None, edit: Edit) -> tuple[Tensor, Look]:
        e1 = edit("enc_1", self.enc_1(x))
        e2 = edit("enc_2", self.enc_2(e1))
        e3 = self.enc_3(e2)
        e4 = self.enc_4(e3)
        e5 = self.enc_5(e4)
        e6 = edit("bottom", self.enc_6(e5))
        y = self.dec_5(torch.cat([e6, e5], 1))
        y = edit("dec_4", self.dec_4(torch.cat([y, e4], 1)))
        y = self.dec_3(torch.cat([y, e3], 1))
        y, scores = self.attention(y, before)
        y = self.dec_2(torch.cat([y, e2], 1))
        y = self.dec_1(torch.cat([y, e1], 1))
        return y, Look(scores, known[..., ::4, ::4])  # the nearest cell of a map four times as fine is its first


class _Refine(nn.Module):
    """1x1, 3x3, 1x1 with a quarter of the channels inside, beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inside = channels // 4
        self.conv1, self.norm1 = nn.Conv2d(channels, inside, 1, bias=False), nn.BatchNorm2d(inside)
        self.conv2, self.norm2 = nn.Conv2d(inside, inside, 3, padding=1, bias=False), nn.BatchNorm2d(inside)
        self.conv3, self.norm3 = nn.Conv2d(inside, channels, 1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu(self.norm3(self.conv3(y)) + x)


@register("rfr")
class RFR(InpaintingNetwork):
    """31.2 M parameters at width 64, 0.49 M at width 8.

    Args:
        width: channels of the stem, a multiple of 8; the lowest map has 8 times as many.
        recurrences: how often the UNet runs; 6 fill holes up to 160 pixels across, and what lies deeper stays empty.
        kernel: of the stem's second layer and of the two that move the rim; 5 is the original's variant for smaller
            holes, with 8 pixels a recurrence in place of 12.

    Sites, each visited once per recurrence: `enc_1` and `enc_2` (which also feed the skips), `dec_4`, and `bottom`
    (the output of enc_6, where the memory sits by default).
    """

    batch_statistics = True

    def __init__(self, width: int = 64, recurrences: int = 6, kernel: Kernel = 7) -> None:
        super().__init__()
        if width < 8 or width % 8:
            raise InputError(f"width must be a positive multiple of 8; got {width}.")
        if recurrences < 1:
            raise InputError(f"recurrences must be at least 1; got {recurrences}.")
        if kernel not in get_args(Kernel):
            raise InputError(f"kernel must be 7 (the original) or 5 (its variant for smaller holes); got {kernel}.")
        self.recurrences = recurrences
        self.stem1, self.stem1_norm = _PartialConv((3,), width, 7, stride=2), nn.BatchNorm2d(width)
        self.stem2, self.stem2_norm = _PartialConv((width,), width, kernel), nn.BatchNorm2d(width)
        self.grow1, self.grow2 = (_PartialConv((width,), width, kernel) for _ in range(2))
        self.grow_norm = nn.BatchNorm2d(width)
        self.reason = Reasoning(width, mixes=recurrences > 1)
        self.up, self.up_norm = nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width)
        self.tail = _PartialConv((3, width), width // 2, 3)
        self.refine = _Refine(width // 2)
        self.head = nn.Conv2d(width, 3, 3, padding=1, bias=False)
        self.sites = (
            FeatureSite("enc_1", 2 * width, 4),
            FeatureSite("enc_2", 4 * width, 8),
            FeatureSite("dec_4", 8 * width, 16),
            FeatureSite("bottom", 8 * width, 16),
        )
        self.size = SizeRule(multiple_of=16, minimum=32)

    def remaining(self, hole: Float[Tensor, "B 1 H W"], visit: int) -> Float[Tensor, "B 1 h w"]:
        """What the recurrence number `visit` still takes for missing, at half the picture's size: each one moves the
        rim by 6 cells (4 with kernel 5)."""
        known = F.max_pool2d(1 - hole, 7, stride=2, padding=3)
        kernel = self.grow1.weight.shape[-1]
        for _ in range(2 * visit + 3):  # the stem's second layer, and two in each recurrence up to this one
            known = F.max_pool2d(known, kernel, stride=1, padding=kernel // 2)
        return 1 - known

    def forward(
        self, corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"], *, edit: Edit = unchanged
    ) -> Prediction:
        self.size.check(*corrupted.shape[-2:])
        given = (1 - hole).to(torch.promote_types(hole.dtype, torch.float32))

        x, known = self.stem1(corrupted, given)
        x, known = self.stem2(F.relu(self.stem1_norm(x)), known)
        x = F.relu(self.stem2_norm(x))

        # Sums over the stem and the recurrences, in float32; `known` is 0 or 1, so that its square is itself.
        total, count = x * known, known
        before = None
        for _ in range(self.recurrences):
            x, known = self.grow1(x, known)
            x, known = self.grow2(x, known)
            x, before = self.reason(F.leaky_relu(self.grow_norm(x), 0.01, inplace=True), known, before, edit)
            x = x * known.to(x.dtype)  # what the UNet made beyond the rim waits for a later recurrence
            total, count = total + x, count + known
        merged = total / (count + 1e-7 * (self.recurrences + 1))

        y = F.leaky_relu(self.up_norm(self.up(merged.to(x.dtype))), 0.01, inplace=True)
        masks = torch.cat([given, F.interpolate(known, scale_factor=2.0, mode="nearest")], 1)
        y, _ = self.tail(torch.cat([corrupted, y], 1), masks)
        y = F.leaky_relu(y, 0.01, inplace=True)
        return Prediction(self.head(torch.cat([y, self.refine(y)], 1)))


# Parameters of the original -------------------------------------------------------------------------------------------

_RENAMES = {
    "stem1.": "Pconv1.",
    "stem1_norm.": "bn1.",
    "stem2.": "Pconv2.",
    "stem2_norm.": "bn20.",
    "grow1.": "Pconv21.",
    "grow2.": "Pconv22.",
    "grow_norm.": "bn2.",
    "reason.attention.ratio": "RFRModule.att.att.ratio",
    "reason.attention.combine.": "RFRModule.att.combiner.",
    "reason.": "RFRModule.",
    "up.": "Tconv.",
    "up_norm.": "bn3.",
    "tail.": "tail1.",
    "refine.conv": "tail2.conv",
    "refine.norm": "tail2.bn",
    "head.": "out.",
}
"""Beginnings of our names -> of the original's, the first that fits."""


def rename(name: str) -> str:
    """Our state-dict name -> the original's.

    Example:
        >>> rename("reason.enc_1.0.weight"), rename("refine.norm1.bias")
        ('RFRModule.enc_1.0.weight', 'tail2.bn1.bias')
    """
    ours = next(beginning for beginning in _RENAMES if name.startswith(beginning))
    return _RENAMES[ours] + name.removeprefix(ours)


def from_original(state: Mapping[str, Any], **options: Any) -> RFR:
    """The published code's parameters as an RFR in evaluation mode.

    Args:
        state: its state dict, or the published container that holds it as `generator`.
        options: of `RFR`; width and kernel are read from the shapes.

    Raises:
        InputError: a name missing, surplus or of another shape; nothing is allocated before that.
    """
    state = state["generator"] if isinstance(state.get("generator"), Mapping) else state
    strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise InputError(
            f"expected a state dict of tensors; got other values under {', '.join(map(str, strange[:5]))}. "
            "Give the generator's state dict, or a container that holds it as `generator`."
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if tensor.ndim == 4}
    seen = {}
    if "Pconv1.weight" in shapes:
        seen["width"] = shapes["Pconv1.weight"][0]
    if "Pconv2.weight" in shapes:
        seen["kernel"] = shapes["Pconv2.weight"][-1]
    return network_from(lambda: RFR(**seen | options), state, rename)  # type: ignore[return-value]


def to_original(network: RFR) -> dict[str, Tensor]:
    """The inverse: all parameters and buffers under the original's names, on the CPU."""
    return dump_original(network, rename)
