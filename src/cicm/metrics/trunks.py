"""Trunks that hand out the maps of several layers: AlexNet, VGG-16, VGG-19 and SqueezeNet v1.1, torchvision's names.

Each is the `features` part of the classifier of the same name; the parameter names are those of torchvision's published
files. A trunk is built without memory for its parameters and gets them from a file (`load_trunk`), so that there is no
moment at which it could be used with random ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cicm.conventions import InputError, describe
from cicm.published import PublishedFile, locate


class Trunk(nn.Module):
    """A chain of layers that hands out the maps behind some of them.

    Args:
        features: the layers; their names become `features.0`, `features.1`, ...
        taps: indices of the layers whose output is handed out, rising.
        channels: channels of these outputs.
        minimum: least height and width of an image.
    """

    def __init__(self, features: nn.Sequential, taps: tuple[int, ...], channels: tuple[int, ...], minimum: int) -> None:
        super().__init__()
        self.features = features
        self.taps = taps
        self.channels = channels
        self.minimum = minimum

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """(B, 3, H, W), normalised as the weights expect -> one (B, C, h, w) for each tap.

        Raises:
            InputError: an image below the minimum.
        """
        if min(x.shape[2:]) < self.minimum:
            raise InputError(
                f"images must be at least {self.minimum}x{self.minimum} for this network; got {describe(x)}. "
                "Score larger images, or leave this metric out."
            )
        maps = []
        for index in range(self.taps[-1] + 1):
            x = self.features[index](x)
            if index in self.taps:
                maps.append(x)
        return maps


class _Fire(nn.Module):
    """SqueezeNet's block: a 1x1 convolution squeezes, a 1x1 and a 3x3 one expand side by side."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], dim=1)


def squeezenet() -> Trunk:
    """SqueezeNet v1.1 (Iandola 2016): 722,496 parameters, with the classifier's 513,000 the official 1,235,496."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, stride=2, ceil_mode=True)

    layers = [
        *(nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), pool()),
        *(_Fire(64, 16, 64), _Fire(128, 16, 64), pool()),
        *(_Fire(128, 32, 128), _Fire(256, 32, 128), pool()),
        *(_Fire(256, 48, 192), _Fire(384, 48, 192), _Fire(384, 64, 256), _Fire(512, 64, 256)),
    ]
    taps = (1, 4, 7, 9, 10, 11, 12)
    return Trunk(nn.Sequential(*layers), taps, channels=(64, 128, 256, 384, 384, 512, 512), minimum=17)


def alexnet() -> Trunk:
    """AlexNet (Krizhevsky 2014): 2,469,696 parameters, with the classifier's 58,631,144 the official 61,100,840."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, stride=2)

    layers = [
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), pool()),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), pool()),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), pool()),
    ]
    return Trunk(nn.Sequential(*layers), taps=(1, 4, 7, 9, 11), channels=(64, 192, 384, 256, 256), minimum=63)


def vgg16() -> Trunk:
    """VGG-16 (Simonyan 2014): 14,714,688 parameters, with the classifier's 123,642,856 the official 138,357,544."""
    return _vgg((2, 2, 3, 3, 3), taps=(3, 8, 15, 22, 29))


def vgg19() -> Trunk:
    """VGG-19 (Simonyan 2014): 20,024,384 parameters, with the classifier's 123,642,856 the official 143,667,240."""
    return _vgg((2, 2, 4, 4, 4), taps=(3, 8, 17, 26, 35))


def _vgg(convolutions: tuple[int, ...], taps: tuple[int, ...]) -> Trunk:
    """So many 3x3 convolutions in each of the five stages, a pool behind each; tapped before the pools."""
    widths = (64, 128, 256, 512, 512)
    layers: list[nn.Module] = []
    channels = 3
    for width, count in zip(widths, convolutions, strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2, stride=2))
    return Trunk(nn.Sequential(*layers), taps=taps, channels=widths, minimum=32)


def vgg_layers(trunk: Trunk) -> dict[str, int]:
    """The papers' names of a VGG's layers -> their indices: `conv1_1`, `relu1_1`, ..., `pool1`, `conv2_1`, ...

    Example:
        >>> with torch.device("meta"):
        ...     layers = vgg_layers(vgg19())
        >>> [layers[name] for name in ("relu1_1", "pool1", "relu3_4", "relu5_2", "pool5")]
        [1, 4, 17, 31, 36]
    """
    names: dict[str, int] = {}
    stage = place = 1
    for index, layer in enumerate(trunk.features):
        if isinstance(layer, nn.MaxPool2d):
            names[f"pool{stage}"] = index
            stage, place = stage + 1, 1
        elif isinstance(layer, nn.Conv2d):
            names[f"conv{stage}_{place}"] = index
        else:
            names[f"relu{stage}_{place}"] = index
            place += 1
    return names


@dataclass(frozen=True)
class Design:
    """How a network is built, and which of its file's names are not needed."""

    build: Callable[[], nn.Module]
    unused: tuple[str, ...] = ()  # beginnings of names in the file that belong to parts we leave out
    optional: tuple[str, ...] = ()  # endings of names in the network that older files do not have
    left_over: tuple[str, ...] = ()  # endings of names in the file that served its training alone


def load_network(design: Design, file: PublishedFile, path: str | Path | None = None) -> nn.Module:
    """A network with the weights of a published file: in eval mode, float32, on the CPU, without gradients.

    Raises:
        MissingWeights: the file is not on this machine.
        InputError: it is not the published file, or its names and shapes are not the network's.
    """
    at = locate(file, path)
    return fill(design, read_tensors(at), str(at))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a .pth file; of the latter, tensors only, no code is run."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise a dozen types for a damaged file
        raise InputError(f"{path} must hold tensors by name; could not read it: {type(error).__name__}.") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path} must hold tensors by name; got {type(content).__name__}.")
    return {str(name): value for name, value in content.items()}


def fill(design: Design, tensors: dict[str, Tensor], source: str) -> nn.Module:
    """Build the network and give it the tensors; every name and shape must fit.

    Raises:
        InputError: names that miss or are too many, or another shape.
    """
    with torch.device("meta"):  # no memory, no random values
        network = design.build()
    wanted = network.state_dict()
    beginnings, endings = design.unused or ("\0",), design.left_over or ("\0",)
    given = {n: value for n, value in tensors.items() if not (n.startswith(beginnings) or n.endswith(endings))}
    for name, value in wanted.items():
        if name not in given and design.optional and name.endswith(design.optional):
            given[name] = torch.zeros(value.shape, dtype=value.dtype)
    if given.keys() != wanted.keys():
        odd = sorted(given.keys() ^ wanted.keys())
        raise InputError(f"{source} does not fit the network: {len(odd)} names differ, such as {', '.join(odd[:3])}.")
    for name, value in wanted.items():
        if given[name].shape != value.shape:
            raise InputError(f"{source}: {name} must be {tuple(value.shape)}; got {tuple(given[name].shape)}.")
        if given[name].is_floating_point() != value.is_floating_point():
            raise InputError(f"{source}: {name} must be {value.dtype}; got {given[name].dtype}. Get it again.")
    network.load_state_dict({name: value.to(wanted[name].dtype) for name, value in given.items()}, assign=True)
    return network.eval().requires_grad_(False)


def unit(features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    """Each cell's vector divided by its length; a zero vector stays zero.

    Example:
        >>> unit(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)).flatten()
        tensor([0.6000, 0.8000])
    """
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)  # 1e-10 is LPIPS's own
