"""Gated convolution (DeepFill v2): a rough fill, then a fine one that copies from known places.

"Free-Form Image Inpainting with Gated Convolution" (ICCV 2019). Half of what each convolution gives is a gate for the
other half, so that the network learns where to trust its input. The layers, their order and their padding are those of
the TensorFlow original; the names of its parameters are those of the PyTorch port in which its weights circulate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from cicm.conventions import InputError
from cicm.networks.contract import Edit, FeatureSite, InpaintingNetwork, Prediction, SizeRule, unchanged
from cicm.networks.layers import pad_same
from cicm.networks.originals import dump_original, network_from
from cicm.networks.registry import register
from cicm.ops.attention import attend, nearest_aligned, untouched

Attention = Literal["original", "port"]


class GatedConv(nn.Module):
    """A convolution, ELU of one half of it, times the sigmoid of the other.

    Args:
        outputs: channels after the gate; the convolution has twice as many.
        scale: 2 halves height and width, -2 doubles them (nearest) before the convolution, 1 keeps them.
        rectified: ReLU in place of ELU.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, scale: int = 1, dilation: int = 1, rectified: bool = False
    ) -> None:
        super().__init__()
        self.scale, self.rectified = scale, rectified
        self.out_channels = outputs  # where `attach` looks first
        self.conv = nn.Conv2d(inputs, 2 * outputs, kernel, max(scale, 1), dilation=dilation)
        # A gate begins half open and ELU takes a part: with a gain of 2 the signal passes 17 layers unchanged in size.
        if not self.conv.weight.is_meta:
            nn.init.normal_(self.conv.weight, std=2 / (inputs * kernel**2) ** 0.5)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "B inputs H W"]) -> Float[Tensor, "B outputs h w"]:
        if self.scale < 0:
            x = F.interpolate(x, scale_factor=float(-self.scale), mode="nearest")
        values, gates = self.conv(pad_same(x, self.conv)).chunk(2, 1)
        return (F.relu(values) if self.rectified else F.elu(values)) * torch.sigmoid(gates)


def contextual_attention(
    asked: Float[Tensor, "B C h w"],
    given: Float[Tensor, "B C h w"],
    hole: Float[Tensor, "#B 1 H W"],
    attention: Attention = "original",
) -> Float[Tensor, "B C h w"]:
    """Each cell of a map put together from known patches of another, chosen by likeness at half the size.

    Args:
        asked, given: (B, C, h, w), height and width even; in the network both are the same map.
        hole: (B, 1, H, W), 1 = missing in `given`, of any size; one of a batch of 1 is for all.
        attention: `original`: scores are fused, and the hole is reduced to the map and then to half of it, each time to
            the nearest pixel. `port`: scores are not fused, and the hole is reduced in one step.

    Returns:
        (B, C, h, w); 0 for a picture that has no patch without a missing cell.

    Differs from the original: it takes the hole of the batch's first picture for all of them.
    """
    height, width = given.shape[-2:]
    half = (height // 2, width // 2)
    if attention == "original":
        hole = nearest_aligned(hole, (height, width))
    usable = untouched(nearest_aligned(hole, half), 3).expand(given.shape[0], -1, -1, -1)
    small = nearest_aligned(asked, half), nearest_aligned(given, half)
    return attend(small[0], small[1], given, usable, fused=attention == "original")


class _Layer(NamedTuple):
    """One gated convolution; `share` says its channels as a multiple of the width, the rest is as in `GatedConv`."""

    share: float
    kernel: int = 3
    scale: int = 1
    dilation: int = 1
    rectified: bool = False


def _branch(width: int, inputs: int, layers: Sequence[_Layer]) -> nn.ModuleList:
    channels = [inputs, *(int(width * layer.share) for layer in layers)]
    return nn.ModuleList(GatedConv(a, b, *layer[1:]) for (a, b), layer in zip(pairwise(channels), layers, strict=True))


_FIRST, _LOWEST = _Layer(1, kernel=5), _Layer(4)
_SPREAD = [_Layer(4, dilation=d) for d in (2, 4, 8, 16)]
_ROUGH = [_FIRST, _Layer(2, scale=2), _Layer(2), _Layer(4, scale=2), *[_LOWEST] * 2, *_SPREAD, *[_LOWEST] * 2]
_SPREADING = [_FIRST, _Layer(1, scale=2), _Layer(2), _Layer(2, scale=2), *[_LOWEST] * 2, *_SPREAD]
_LOOKING = [_FIRST, _Layer(1, scale=2), _Layer(2), _Layer(4, scale=2), _LOWEST, _Layer(4, rectified=True)]
_UP = [_Layer(2, scale=-2), _Layer(2), _Layer(1, scale=-2), _Layer(0.5)]


@register("gated")
class Gated(InpaintingNetwork):
    """4.05 M parameters at width 24, as published.

    Args:
        width: channels of the first layer after its gate, even; the lowest maps have 4 times as many. The original
            counts before the gate and calls 24 of ours 48.
        attention: `original`, or `port` for a port that is widely used, whose fills differ by up to 0.1; see
            `contextual_attention`.

    Sites: `encoder` (the rough stage at half the size), `rough` (its lowest map, before it is drawn), `attended` (what
    the contextual attention copied), `bottom` (where attention and convolutions of the fine stage are joined; a cell is
    4 pixels).

    Differs from the original: each picture of a batch has its own hole in the attention. Weights begin at a scale with
    which narrow networks learn too.
    """

    def __init__(self, width: int = 24, attention: Attention = "original") -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise InputError(f"width must be a positive multiple of 2; got {width}.")
        if attention not in get_args(Attention):
            raise InputError(f"attention must be one of {', '.join(get_args(Attention))}; got {attention!r}.")
        self.attention = attention
        w = width
        self.rough = _branch(w, 5, _ROUGH)
        self.rough_up = _branch(w, 4 * w, _UP)
        self.rough_out = nn.Conv2d(w // 2, 3, 3, padding=1)
        self.spreading = _branch(w, 3, _SPREADING)
        self.looking = _branch(w, 3, _LOOKING)
        self.copied = _branch(w, 4 * w, [_LOWEST] * 2)
        self.joined = _branch(w, 8 * w, [_LOWEST] * 2)
        self.fine_up = _branch(w, 4 * w, _UP)
        self.fine_out = nn.Conv2d(w // 2, 3, 3, padding=1)
        self.sites = (
            FeatureSite("encoder", 2 * w, 2),
            FeatureSite("rough", 4 * w, 4),
            FeatureSite("attended", 4 * w, 4),
            FeatureSite("bottom", 4 * w, 4),
        )
        self.size = SizeRule(multiple_of=8, minimum=32)

    def forward(
        self, corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"], *, edit: Edit = unchanged
    ) -> Prediction:
        self.size.check(*corrupted.shape[-2:])
        missing = hole.to(corrupted.dtype)
        known = (corrupted * 2 - 1) * (1 - missing)  # the hole is mid-grey

        x = torch.cat([known, torch.ones_like(missing), missing], 1)
        x = edit("encoder", _through(self.rough[:3], x))
        x = edit("rough", _through(self.rough[3:], x))
        rough = torch.tanh(self.rough_out(_through(self.rough_up, x)))

        x = rough * missing + known
        spread = _through(self.spreading, x)
        looking = _through(self.looking, x)
        found = contextual_attention(looking, looking, hole, self.attention)
        found = _through(self.copied, edit("attended", found))
        x = edit("bottom", self.joined[0](torch.cat([spread, found], 1)))
        x = _through(self.fine_up, self.joined[1](x))
        fine = torch.tanh(self.fine_out(x))
        return Prediction((fine + 1) / 2, ((rough + 1) / 2,))


def _through(layers: Any, x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


class GatedDiscriminator(nn.Module):
    """SN-PatchGAN: it sees the hole beside the picture, and every value of its last map is a logit.

    Args:
        width: channels of the first of six layers, all of stride 2; the last four have 4 times as many.

    Example:
        >>> GatedDiscriminator(width=2)(torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 8])
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        channels = [4, *(width * share for share in (1, 2, 4, 4, 4, 4))]
        self.layers = nn.ModuleList(spectral_norm(nn.Conv2d(a, b, 5, stride=2)) for a, b in pairwise(channels))

    def forward(self, image: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B logits"]:
        """Logits; (B, 3, H, W) in [0, 1] and the hole, 1 = missing -> (B, 4 width h w)."""
        x = torch.cat([image * 2 - 1, hole.to(image.dtype)], 1)
        for conv in self.layers:
            x = F.leaky_relu(conv(pad_same(x, conv)), 0.2)  # type: ignore[arg-type]
        return x.flatten(1)


def discriminator_from_original(state: Mapping[str, Tensor]) -> GatedDiscriminator:
    """A discriminator in evaluation mode with the port's parameters; its singular values take the step that is due.

    Raises:
        InputError: other names than those of this discriminator.
    """
    names = {f"conv{i}.conv_sn.{kind}" for i in range(1, 7) for kind in ("weight", "bias", "weight_u")}
    if set(state) != names:
        raise InputError(
            "expected the parameters of a gated discriminator, from conv1.conv_sn.weight to conv6.conv_sn.weight_u; "
            f"got {len(state)} entries: {', '.join(map(str, list(state)[:4]))}."
        )
    made = GatedDiscriminator(state["conv1.conv_sn.weight"].shape[0]).eval()
    for i in range(6):
        theirs = {kind: state[f"conv{i + 1}.conv_sn.{kind}"] for kind in ("weight", "bias", "weight_u")}
        rows = theirs["weight"].flatten(1)
        v = F.normalize(rows.T @ theirs["weight_u"].flatten(), dim=0)
        named = {
            "bias": theirs["bias"],
            "parametrizations.weight.original": theirs["weight"],
            "parametrizations.weight.0._u": F.normalize(rows @ v, dim=0),
            "parametrizations.weight.0._v": v,
        }
        made.layers[i].load_state_dict(named)
    return made


# The names that weights circulate under -------------------------------------------------------------------------------

_NAMES = {
    "rough": "conv1 conv2_downsample conv3 conv4_downsample conv5 conv6 conv7_atrous conv8_atrous conv9_atrous "
    "conv10_atrous conv11 conv12",
    "rough_up": "conv13_upsample conv14 conv15_upsample conv16",
    "spreading": "xconv1 xconv2_downsample xconv3 xconv4_downsample xconv5 xconv6 xconv7_atrous xconv8_atrous "
    "xconv9_atrous xconv10_atrous",
    "looking": "pmconv1 pmconv2_downsample pmconv3 pmconv4_downsample pmconv5 pmconv6",
    "copied": "pmconv9 pmconv10",
    "joined": "allconv11 allconv12",
    "fine_up": "allconv13_upsample allconv14 allconv15_upsample allconv16",
}
"""Our list of layers -> their names in the port, in order."""


def rename(name: str) -> str:
    """Our name of a parameter -> the port's.

    Example:
        >>> rename("rough.1.conv.weight"), rename("fine_up.0.conv.bias"), rename("fine_out.bias")
        ('conv2_downsample.conv.weight', 'allconv13_upsample.conv.conv.bias', 'allconv17.conv.bias')
    """
    branch, *inner, kind = name.split(".")
    if not branch.endswith("_out"):
        theirs = _NAMES[branch].split()[int(inner[0])]
        return f"{theirs}.{'conv.' if theirs.endswith('upsample') else ''}conv.{kind}"
    return f"{'conv17' if branch == 'rough_out' else 'allconv17'}.conv.{kind}"


def from_original(state: Mapping[str, Any], **options: Any) -> Gated:
    """A network in evaluation mode with published parameters, converted from TensorFlow by the port.

    Args:
        state: name -> tensor, or the file's whole content, which holds that mapping under `G` or `generator`.
        options: of `Gated`; the width is read from the tensors.

    Raises:
        InputError: not parameters of this generator, or not all of them; lists what does not fit.
    """
    state = next((state[key] for key in ("G", "generator") if isinstance(state.get(key), Mapping)), state)
    first = state.get("conv1.conv.weight")
    if not isinstance(first, Tensor) or first.ndim != 4 or not all(isinstance(t, Tensor) for t in state.values()):
        raise InputError(
            "expected the parameters of a gated generator under the names of its PyTorch port, with conv1.conv.weight "
            f"of four axes; got {len(state)} entries: {', '.join(map(str, list(state)[:4]))}. A TensorFlow checkpoint "
            "has to be converted by that port first; its discriminator has conv1.conv_sn.weight."
        )
    return network_from(lambda: Gated(**{"width": first.shape[0] // 2, **options}), state, rename)  # type: ignore[return-value]


def to_original(network: Gated) -> dict[str, Tensor]:
    """The inverse: all parameters under the port's names.

    Example:
        >>> list(to_original(Gated(width=2)))[0]
        'conv1.conv.weight'
    """
    return dump_original(network, rename)
