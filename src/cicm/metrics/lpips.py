"""LPIPS v0.1 (Zhang et al. 2018): learned distance of deep features, on AlexNet, VGG-16 or SqueezeNet trunks.

The networks are ours; the weights are the published ones: torchvision's trunks, read from files whose checksums are
known (`cicm models`), and the learned heads, which ship with this package. Without the trunk's file there is no LPIPS.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cicm.conventions import InputError
from cicm.metrics.published import published
from cicm.metrics.registry import Metric
from cicm.metrics.state import Batch, PerImage, Running
from cicm.metrics.trunks import Design, Trunk, alexnet, load_network, read_tensors, squeezenet, unit, vgg16
from cicm.published import locate

TRUNKS: dict[str, tuple[Design, str]] = {
    "alex": (Design(alexnet, unused=("classifier.",)), "alexnet"),
    "vgg": (Design(vgg16, unused=("classifier.",)), "vgg16"),
    "squeeze": (Design(squeezenet, unused=("classifier.",)), "squeezenet1_1"),
}
"""Name in LPIPS -> how the trunk is built, name of its file."""

_VERSION = "0.1"  # v0.0 did not normalise its input


class LPIPS(nn.Module):
    """The distance, given a trunk and its heads.

    Args:
        trunk: hands out L maps.
        heads: L weights (C_l,), none negative.

    Raises:
        InputError: heads that do not fit the trunk, or a negative weight.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: Trunk, heads: list[Tensor]) -> None:
        super().__init__()
        shapes = [tuple(head.shape) for head in heads]
        if shapes != [(channels,) for channels in trunk.channels]:
            raise InputError(f"the heads must have {trunk.channels} weights; got {shapes}.")
        if any(bool((head < 0).any()) for head in heads):
            raise InputError("the heads of LPIPS must not be negative; a negative weight makes it no distance.")
        self.trunk = trunk
        for index, head in enumerate(heads):
            self.register_buffer(f"head{index}", head.view(1, -1, 1, 1))
        # the ImageNet mean and deviation, moved to inputs in [-1, 1] and rounded, as the original has them
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    def forward(self, composite: Float[Tensor, "B 3 H W"], image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B"]:
        """`sum_l mean_ij w_l . (u_l,ij(x) - u_l,ij(y))^2`, with unit-length features u (Eq. 1 of the LPIPS paper).

        Args:
            composite: (B, 3, H, W) in [0, 1]; brought to [-1, 1], which the published weights expect, by 2 x - 1.
                Feeding [0, 1] straight in is a mistake that published tables contain.
            image: (B, 3, H, W) in [0, 1].

        Returns:
            (B,), at least 0; 0 for identical images; symmetric.
        """
        maps = zip(self._maps(composite), self._maps(image), strict=True)
        layers = [
            (self.get_buffer(f"head{index}") * (unit(x) - unit(y)).square()).sum(dim=1).mean(dim=(1, 2))
            for index, (x, y) in enumerate(maps)
        ]
        return torch.stack(layers).sum(dim=0)

    def _maps(self, image: Tensor) -> list[Tensor]:
        x = 2 * image - 1
        return self.trunk((x - self.shift) / self.scale)


def load_heads(net: str) -> list[Float[Tensor, "C"]]:
    """The learned heads of one LPIPS: one (C_l,) for each layer.

    Raises:
        InputError: unknown net; the package's file is damaged.

    Example:
        >>> [len(head) for head in load_heads("alex")]
        [64, 192, 384, 256, 256]
    """
    _check_name(net)
    tensors = read_tensors(locate(published("lpips-heads")))
    prefix, ending = f"v{_VERSION}.{net}.lin", ".model.1.weight"
    count = sum(name.startswith(prefix) for name in tensors)
    return [tensors[f"{prefix}{index}{ending}"].flatten() for index in range(count)]


def load_lpips(net: str = "vgg", path: str | Path | None = None) -> LPIPS:
    """LPIPS with its published weights.

    Args:
        net: "alex", "vgg" or "squeeze"; name it beside every figure, they are not comparable.

    Raises:
        MissingWeights: the trunk's file is not on this machine.
        InputError: unknown net; a file that is not the published one.
    """
    _check_name(net)
    design, name = TRUNKS[net]
    trunk = load_network(design, published(name), path)
    assert isinstance(trunk, Trunk)
    return LPIPS(trunk, load_heads(net)).eval().requires_grad_(False)


def _check_name(net: str) -> None:
    if net not in TRUNKS:
        raise InputError(f"unknown LPIPS network {net!r}; known are {', '.join(TRUNKS)}.")


def _load_score(net: str, path: str | Path | None, scaled: bool) -> Callable[[Batch], Tensor]:
    network = load_lpips(net, path)

    def score(batch: Batch) -> Tensor:
        pair = [picture.float() for picture in (batch.composite, batch.image)]
        if not scaled:  # the network takes 2 x - 1 of what it is given
            pair = [(picture + 1) / 2 for picture in pair]
        return network.to(batch.image.device)(*pair)

    return score


def running(metric: Metric, *, path: str | Path | None = None, scaled: bool = True) -> Running:
    """`scaled`: False feeds [0, 1], as some projects do by mistake."""
    net = metric.name.removeprefix("lpips-")
    _check_name(net)
    values = "[-1, 1]" if scaled else "[0, 1], which the weights do not expect"
    protocol = {"network": f"torchvision {TRUNKS[net][1]}", "version": _VERSION, "input": values}
    return PerImage(metric, partial(_load_score, net, path, scaled), protocol, path)
