"""MI-GAN: an encoder and a decoder of separable convolutions, made for phones.

"MI-GAN: A Simple Baseline for Image Inpainting on Mobile Devices" (ICCV 2023). Two forms of one network: in training
each convolution is the normalised sum of several tensors, for inference it is one (`folded`). A stored map of noise
belongs to the weights and exists at one size alone, so that a network takes pictures of that size and no other;
`cicm.Inpainter` cuts and reduces larger ones to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.conventions import InputError
from cicm.networks.contract import Edit, FeatureSite, InpaintingNetwork, Prediction, SizeRule, unchanged
from cicm.networks.originals import dump_original, network_from
from cicm.networks.registry import register

LOWEST = 4
"""Side of the lowest map."""
LIMIT = 256.0
"""Activations are cut off at plus and minus this; sane pictures never reach it."""
SMALLEST, LARGEST, WIDEST, MOST = 16, 1024, 2048, 64
"""Bounds of the side, the width and the number of tensors, so that a hostile file can't ask for more."""
SKIPS = (64, 32, 16)
"""Sides of the encoder's maps that are sites."""

Noise = Literal["stored", "fresh"]
Resampling = Literal["none", "down", "up"]


@register("migan")
class MIGAN(InpaintingNetwork):
    """5.9 M parameters and 10.6 GMAC at 256, 5.9 M and 14.4 GMAC at 512; no normalisation layer.

    Args:
        side: of the pictures, a power of two; published are 256 and 512.
        width: most channels of a map; 512 as published. A map of side r has `min(64 * width / r, width)`.
        tensors: of how many each convolution is the normalised sum; 0 is the inference form, 9 the published training.
        noise: `stored` adds the stored map always, `fresh` another one at each call in training mode, as published.

    Sites: `skip64`, `skip32`, `skip16` (the encoder's maps of these sides, which also go on to the decoder), `bottom`
    (4x4). At 256 a cell of `skip16` is 16 pixels, as at the lowest map of the other networks.

    Differs from the published code: the fixed blurring kernels are no parameters here; `to_original` puts them back.
    """

    def __init__(self, side: int = 256, width: int = 512, tensors: int = 0, noise: Noise = "stored") -> None:
        super().__init__()
        _check(side, width, tensors)
        if noise not in get_args(Noise):
            raise InputError(f"noise must be one of {', '.join(get_args(Noise))}; got {noise!r}.")
        levels = list(_levels(side))
        self.encoder = nn.ModuleDict()
        for level in levels:
            here, below = _channels(level, width), _channels(max(level // 2, LOWEST), width)
            block = nn.ModuleDict()
            if level == side:
                block["fromrgb"] = _convolution(4, here, 1, tensors=min(tensors, 1))
            block["conv1"] = Separable(here, here, tensors=tensors)
            block["conv2"] = Separable(here, below, resampling="down" if level > LOWEST else "none", tensors=tensors)
            self.encoder[f"b{level}"] = block
        self.synthesis = nn.ModuleDict()
        for level in reversed(levels):
            here, below = _channels(level, width), _channels(max(level // 2, LOWEST), width)
            noisy: dict[str, Any] = {"noise_side": level, "fresh": noise == "fresh"} if level > LOWEST else {}
            self.synthesis[f"b{level}"] = nn.ModuleDict(
                {
                    "conv1": Separable(
                        below, here, resampling="up" if level > LOWEST else "none", **noisy, tensors=tensors
                    ),
                    "conv2": Separable(here, here, **noisy, tensors=tensors),
                    "torgb": _convolution(here, 3, 1, tensors=tensors),
                }
            )
        skips = [FeatureSite(f"skip{r}", _channels(r, width), side // r) for r in SKIPS if r <= side]
        self.sites = (*skips, FeatureSite("bottom", width, side // LOWEST))
        self.size = SizeRule(multiple_of=side, minimum=side, maximum=side)

    def forward(
        self, corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"], *, edit: Edit = unchanged
    ) -> Prediction:
        """As the contract says; `earlier` are the pictures of all lower sizes, 4x4 first."""
        self.size.check(*corrupted.shape[-2:])
        hole = hole.to(corrupted.dtype)
        features = torch.cat([0.5 - hole, (2 * corrupted - 1) * (1 - hole)], 1)
        sites = {site.name for site in self.sites}
        skips = {}
        for name, block in _blocks(self.encoder):
            if "fromrgb" in block:
                features = activated(block["fromrgb"](features))
            features = block["conv1"](features)
            if (site := name.replace("b", "skip")) in sites:
                features = edit(site, features)
            skips[name] = features
            features = block["conv2"](features)
        features = edit("bottom", features)
        pictures: list[Tensor] = []
        for name, block in _blocks(self.synthesis):
            features = block["conv2"](block["conv1"](features) + skips[name])
            colours = block["torgb"](features)
            pictures.append(enlarged(pictures[-1]) + colours if pictures else colours)
        *earlier, image = ((picture + 1) / 2 for picture in pictures)
        return Prediction(image, tuple(earlier))


def _check(side: int, width: int, tensors: int) -> None:
    if not SMALLEST <= side <= LARGEST or side & (side - 1):
        raise InputError(f"side must be a power of two from {SMALLEST} to {LARGEST}; got {side}.")
    if not 1 <= width <= WIDEST:
        raise InputError(f"width must be from 1 to {WIDEST}; got {width}.")
    if tensors == 1 or not 0 <= tensors <= MOST:
        raise InputError(f"tensors must be 0, or from 2 to {MOST}; got {tensors}.")


def _blocks(held: nn.ModuleDict) -> list[tuple[str, Any]]:
    """Name and block; torch's own type does not know that a block has members."""
    return list(held.items())


def _levels(side: int) -> Iterator[int]:
    """The sides of all maps, from the largest."""
    while side >= LOWEST:
        yield side
        side //= 2


def _channels(level: int, width: int) -> int:
    return max(1, min(64 * width // level, width))


# Layers ---------------------------------------------------------------------------------------------------------------


def activated(x: Tensor, gain: float = 1.0) -> Tensor:
    """Leaky ReLU of slope 0.2 times the root of 2, which keeps the scale, and times `gain`; then cut off.

    Without gradients it writes over `x`, which saves 40 % of a forward's time on a CPU.

    Example:
        >>> activated(torch.tensor([1.0, -1.0, 1e9]))
        tensor([  1.4142,  -0.2828, 256.0000])
    """
    scale, limit = math.sqrt(2) * gain, LIMIT * gain
    if torch.is_grad_enabled():
        return (F.leaky_relu(x, 0.2) * scale).clamp(-limit, limit)
    return F.leaky_relu_(x, 0.2).mul_(scale).clamp_(-limit, limit)


def reduced(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H/2 W/2"]:
    """Half the height and width: every second value of a blur by (1, 3, 3, 1) / 8 each way, zeros around.

    Example:
        >>> reduced(torch.ones(1, 1, 4, 4))[0, 0]
        tensor([[0.7656, 0.7656],
                [0.7656, 0.7656]])
    """
    kernel = blur(x).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


def enlarged(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C 2*H 2*W"]:
    """Twice the height and width: zeros between the values, then a blur by (1, 3, 3, 1) / 4 each way, zeros around.

    Which is bilinear, but for the border, where bilinear enlarging repeats the last value.

    Example:
        >>> enlarged(torch.ones(1, 1, 2, 2))[0, 0, 0]
        tensor([0.5625, 0.7500, 0.7500, 0.5625])
    """
    wider = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2.0, mode="bilinear", align_corners=False)
    return wider[..., 2:-2, 2:-2]


def blur(like: Tensor) -> Float[Tensor, "4 4"]:
    """The fixed kernel, of sum 1; every value is exact in binary."""
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=like.dtype, device=like.device) / 8
    return line[:, None] * line


class Summed(nn.Conv2d):
    """A convolution in its training form: the sum of several tensors, of length 1 for each output channel.

    The tensors are the parameters `w0`, `w1`, ..., or `weight` where there is one; each starts as N(0, 1).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, groups: int, bias: bool, tensors: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias)
        shape = self.weight.shape
        self.register_parameter("weight", None)
        self.names = [f"w{index}" for index in range(tensors)] if tensors > 1 else ["weight"]
        for name in self.names:
            self.register_parameter(name, nn.Parameter(torch.randn(shape)))

    def kernel(self) -> Tensor:
        """(outputs, inputs / groups, k, k)."""
        total = getattr(self, self.names[0])
        for name in self.names[1:]:
            total = total + getattr(self, name)
        total = total / math.sqrt(len(self.names))
        return total * torch.rsqrt(total.square().sum((1, 2, 3), keepdim=True) + 1e-8)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.kernel(), self.bias)


def _convolution(
    inputs: int, outputs: int, kernel: int, *, groups: int = 1, bias: bool = True, tensors: int = 0
) -> nn.Conv2d:
    """Of one tensor or of several; both begin with kernels of length 1 and biases of 0."""
    conv: nn.Conv2d
    if tensors:
        conv = Summed(inputs, outputs, kernel, groups=groups, bias=bias, tensors=tensors)
    else:
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias)
        if not conv.weight.is_meta:
            with torch.no_grad():
                nn.init.normal_(conv.weight)
                conv.weight /= conv.weight.square().sum((1, 2, 3), keepdim=True).sqrt()
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class Separable(nn.Module):
    """3x3 in each channel alone, then 1x1 over channels; each activated, with a change of size between or after.

    Args:
        resampling: `down` halves before the 1x1, `up` doubles after it.
        noise_side: of the stored map of noise that is added, times a learned strength; 0 for none.
        fresh: in training mode the noise is another one at each call and for each picture.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        tensors: int,
        resampling: Resampling = "none",
        noise_side: int = 0,
        fresh: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, inputs, 3, groups=inputs, tensors=tensors)
        self.conv2 = _convolution(inputs, outputs, 1, bias=False, tensors=tensors)
        self.resampling, self.fresh = resampling, fresh
        self.noise_strength: Tensor | None = None
        if noise_side:
            self.noise_strength = nn.Parameter(torch.zeros(()))
            self.register_buffer("noise_const", torch.randn(noise_side, noise_side))

    def forward(self, x: Float[Tensor, "B C H W"], gain: float = 1.0) -> Float[Tensor, "B D h w"]:
        x = activated(self.conv1(x), gain)
        x = self.conv2(reduced(x) if self.resampling == "down" else x)
        if self.resampling == "up":
            x = enlarged(x)
        if self.noise_strength is not None:
            fresh = self.fresh and self.training
            noise = torch.randn_like(x[:, :1]) if fresh else self.noise_const.to(x.dtype)  # type: ignore[operator]
            x = x + noise * self.noise_strength.to(x.dtype)  # type: ignore[operator]
        return activated(x, gain)


# Training -------------------------------------------------------------------------------------------------------------


def folded(network: MIGAN) -> MIGAN:
    """The inference form of a training form, in evaluation mode: each sum of tensors worked out once.

    Example:
        >>> folded(MIGAN(side=16, width=4, tensors=3)).options["tensors"]
        0
    """
    state = {name: tensor for name, tensor in network.state_dict().items() if not _PIECE.search(name)}
    for name, module in network.named_modules():
        if isinstance(module, Summed):
            state[f"{name}.weight"] = module.kernel().detach()
    plain = MIGAN(network.options["side"], network.options["width"])
    plain.load_state_dict(state)
    return plain.eval()


class MIGANDiscriminator(nn.Module):
    """What MI-GAN was trained against: one logit for a picture and its hole. 39.0 M parameters at 256.

    Args:
        side, width, tensors: as of the network.

    Example:
        >>> judge = MIGANDiscriminator(side=16, width=4, tensors=2)
        >>> judge(torch.rand(4, 3, 16, 16), torch.zeros(4, 1, 16, 16)).shape
        torch.Size([4, 1])
    """

    GROUP = 4  # pictures whose spread is told to the judge

    def __init__(self, side: int = 256, width: int = 512, tensors: int = 9) -> None:
        super().__init__()
        _check(side, width, tensors)
        self.blocks = nn.ModuleDict()
        for level in _levels(side):
            here, below = _channels(level, width), _channels(max(level // 2, LOWEST), width)
            block = nn.ModuleDict()
            if level == side:
                block["fromrgb"] = _convolution(4, here, 1, tensors=tensors)
            if level > LOWEST:
                block["conv1"] = Separable(here, here, tensors=tensors)
                block["conv2"] = Separable(here, below, resampling="down", tensors=tensors)
                block["skip"] = _convolution(here, below, 1, bias=False, tensors=tensors)
            else:
                block["conv"] = Separable(here + 1, here, tensors=tensors)
                block["fc"] = _Dense(here * LOWEST**2, here)
                block["out"] = _Dense(here, 1)
            self.blocks[f"b{level}"] = block
        self.size = SizeRule(multiple_of=side, minimum=side, maximum=side)

    def forward(self, image: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1"]:
        """Logits of pictures in [0, 1], complete or composites, whose hole (1 = missing) the judge knows.

        Raises:
            InputError: another size; a batch of more than 4 that is no multiple of 4.
        """
        self.size.check(*image.shape[-2:])
        features = torch.cat([0.5 - hole.to(image.dtype), 2 * image - 1], 1)
        half = math.sqrt(0.5)
        *upper, last = (block for _, block in _blocks(self.blocks))
        for block in upper:
            if "fromrgb" in block:
                features = activated(block["fromrgb"](features))
            beside = block["skip"](reduced(features)) * half
            features = beside + block["conv2"](block["conv1"](features), half)
        features = last["conv"](torch.cat([features, self._spread(features)], 1))
        return last["out"](activated(last["fc"](features.flatten(1))))

    def _spread(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 1 h w"]:
        """Mean standard deviation within each group of pictures, as one more channel."""
        count, _, height, width = features.shape
        group = min(self.GROUP, count)
        if count % group:
            raise InputError(f"a batch of more than {group} must be a multiple of {group}; got {count}.")
        grouped = features.unflatten(0, (group, count // group))
        deviation = (grouped.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
        return deviation.repeat(group)[:, None, None, None].expand(-1, 1, height, width)


class _Dense(nn.Module):
    """A matrix with the learning rate of its values equalised: it is divided by the root of its inputs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Float[Tensor, "B inputs"]) -> Float[Tensor, "B outputs"]:
        return F.linear(x, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


# The published names --------------------------------------------------------------------------------------------------

_PIECE = re.compile(r"\.w[0-9]+$")
_NOISE = re.compile(r"(conv[12])\.(noise_const|noise_strength)$")


def rename(name: str) -> str:
    """Our name of a parameter -> the published training code's; the inference code's are ours.

    Example:
        >>> rename("synthesis.b8.conv1.noise_const"), rename("encoder.b4.conv1.conv2.w3")
        ('synthesis.b8.conv1.conv2.noise_const', 'encoder.b4.conv1.conv2.w3')
    """
    return _NOISE.sub(r"\1.conv2.\2", name)


def _same(name: str) -> str:
    return name


def fixed(network: MIGAN) -> dict[str, Tensor]:
    """What the published code stores and never changes: blurring kernels, and masks that put zeros between values."""
    made: dict[str, Tensor] = {}
    training = bool(network.options["tensors"])
    kernel = blur(torch.zeros(()))

    def add(place: str, channels: int, level: int, resampling: str) -> None:
        if training:
            made[f"{place}.resample_filter"] = kernel.clone()
            return
        word = "downsample" if resampling == "down" else "upsample"
        gain = 1 if resampling == "down" else 4
        made[f"{place}.{word}.filter.weight"] = (kernel * gain).expand(channels, 1, 4, 4).clone()
        if resampling == "up":
            mask = torch.zeros(1, 1, level, level)
            mask[..., ::2, ::2] = 1
            made[f"{place}.upsample.filter_const"] = mask

    inner = ".conv2" if training else ""
    for part in ("encoder", "synthesis"):
        for name, block in _blocks(getattr(network, part)):
            level = int(name[1:])
            for conv in ("conv1", "conv2"):
                layer = block[conv]
                if layer.resampling != "none":
                    channels = layer.conv2.in_channels if layer.resampling == "down" else layer.conv2.out_channels
                    add(f"{part}.{name}.{conv}{inner}", channels, level, layer.resampling)
            if part == "synthesis" and level > LOWEST:
                add(f"{part}.{name}", 3, level, "up")
    if training:  # there, though nothing is reduced at the lowest map
        made[f"encoder.b{LOWEST}.conv2.conv2.resample_filter"] = kernel.clone()
    return made


def from_original(state: Mapping[str, Any], **options: Any) -> MIGAN:
    """A network in evaluation mode with published parameters, of either form.

    Args:
        state: name -> tensor, as the published code has it.
        options: of `MIGAN`; side, width and number of tensors are read from the names and shapes.

    Raises:
        InputError: not parameters of a MI-GAN, or not all of them, or kernels that are not the fixed ones.
    """
    sides = [int(match[1]) for name in state if (match := re.fullmatch(r"encoder\.b([0-9]{1,4})\.fromrgb\.bias", name))]
    lowest = f"encoder.b{LOWEST}.conv1.conv1.bias"
    width = state.get(lowest)
    if len(sides) != 1 or not isinstance(width, Tensor) or not all(isinstance(t, Tensor) for t in state.values()):
        raise InputError(
            f"expected the parameters of a MI-GAN generator under their published names, with {lowest}; got "
            f"{len(state)} entries: {', '.join(map(str, list(state)[:4]))}. Give the generator's state dict."
        )
    tensors = sum(re.fullmatch(r"encoder\.b4\.conv1\.conv1\.w[0-9]+", name) is not None for name in state)
    given = {"side": sides[0], "width": width.numel(), "tensors": tensors, **options}
    with torch.device("meta"):
        constants = fixed(MIGAN(**given))
    kept = {name: tensor for name, tensor in state.items() if name not in constants}
    if missing := [name for name in constants if name not in state]:
        raise InputError(f"the file lacks {len(missing)} fixed kernels, the first is {missing[0]}. Get it again.")
    names = rename if given["tensors"] else _same
    network = network_from(lambda: MIGAN(**given), kept, names)
    assert isinstance(network, MIGAN)
    for name, tensor in fixed(network).items():
        if not torch.equal(tensor.to(state[name].dtype), state[name]):
            raise InputError(f"{name} must hold the fixed kernel of the published code; got another. Get it again.")
    return network


def to_original(network: MIGAN) -> dict[str, Tensor]:
    """The inverse: all parameters and fixed kernels under their published names.

    Example:
        >>> len(to_original(MIGAN(width=1)))
        154
    """
    return dump_original(network, rename if network.options["tensors"] else _same) | fixed(network)
