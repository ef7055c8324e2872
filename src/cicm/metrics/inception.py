"""The Inception v3 that FID is defined on: TensorFlow's network of 2015-12-05, with the names of pytorch-fid.

It differs from torchvision's Inception v3 (Szegedy et al. 2015) in its weights, in 1008 classes, in average pools
that leave the padding out of the mean, and in a max pool where the last block should have an average pool. That last
one is thought to be a mistake of the original network; the published figures depend on it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cicm.metrics.published import published
from cicm.metrics.state import Batch
from cicm.metrics.trunks import Design, load_network

NUM_FEATURES = 2048
_INPUT_SIZE = 299
POOLED = {
    "network": published("fid-inception").filename,
    "features": f"pooled, {NUM_FEATURES}",
    "resize": "299, bilinear, align_corners=False, no antialiasing (pytorch-fid)",
}
"""The protocol of features of `inception_pooled`."""


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int | tuple[int, int], **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, bias=False, **options)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()


def average_pool(x: Tensor) -> Tensor:
    """3x3 means, stride 1; the padding is not counted, as TensorFlow does it."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def max_pool(x: Tensor) -> Tensor:
    """3x3 maxima, stride 1."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


class _BlockA(nn.Module):
    """35x35 cells: 1x1, 5x5, two 3x3, pool."""

    def __init__(self, in_channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(in_channels, 64, 1)
        self.branch5x5_1 = Conv(in_channels, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Conv(in_channels, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, padding=1)
        self.branch_pool = Conv(in_channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(average_pool(x))], dim=1)


class _BlockB(nn.Module):
    """35x35 -> 17x17 cells."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(in_channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = Conv(in_channels, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, F.max_pool2d(x, 3, stride=2)], dim=1)


class _BlockC(nn.Module):
    """17x17 cells: 1x1, 7x7 and two 7x7 as rows and columns, pool."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        row: dict[str, Any] = {"kernel": (1, 7), "padding": (0, 3)}
        column: dict[str, Any] = {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = Conv(in_channels, 192, 1)
        self.branch7x7_1 = Conv(in_channels, width, 1)
        self.branch7x7_2 = Conv(width, width, **row)
        self.branch7x7_3 = Conv(width, 192, **column)
        self.branch7x7dbl_1 = Conv(in_channels, width, 1)
        self.branch7x7dbl_2 = Conv(width, width, **column)
        self.branch7x7dbl_3 = Conv(width, width, **row)
        self.branch7x7dbl_4 = Conv(width, width, **column)
        self.branch7x7dbl_5 = Conv(width, 192, **row)
        self.branch_pool = Conv(in_channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(average_pool(x))], dim=1)


class _BlockD(nn.Module):
    """17x17 -> 8x8 cells."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(in_channels, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Conv(in_channels, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, F.max_pool2d(x, 3, stride=2)], dim=1)


class _BlockE(nn.Module):
    """8x8 cells: 1x1, 3x3 and two 3x3 that fork into row and column, pool: means in the first, maxima in the last."""

    def __init__(self, in_channels: int, last: bool) -> None:
        super().__init__()
        row: dict[str, Any] = {"kernel": (1, 3), "padding": (0, 1)}
        column: dict[str, Any] = {"kernel": (3, 1), "padding": (1, 0)}
        self.branch1x1 = Conv(in_channels, 320, 1)
        self.branch3x3_1 = Conv(in_channels, 384, 1)
        self.branch3x3_2a = Conv(384, 384, **row)
        self.branch3x3_2b = Conv(384, 384, **column)
        self.branch3x3dbl_1 = Conv(in_channels, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = Conv(384, 384, **row)
        self.branch3x3dbl_3b = Conv(384, 384, **column)
        self.branch_pool = Conv(in_channels, 192, 1)
        self.pool = max_pool if last else average_pool

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        forks = [
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
        ]
        return torch.cat([self.branch1x1(x), *forks, self.branch_pool(self.pool(x))], dim=1)


class FidInception(nn.Module):
    """The network with the names of pytorch-fid's file; `fc` is in the file and is not used.

    23,850,960 parameters: torchvision's 27,161,264 less the auxiliary classifier's 3,326,696, plus the 16,392 of eight
    more classes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3)
        self.Mixed_5b = _BlockA(192, pooled=32)
        self.Mixed_5c = _BlockA(256, pooled=64)
        self.Mixed_5d = _BlockA(288, pooled=64)
        self.Mixed_6a = _BlockB(288)
        self.Mixed_6b = _BlockC(768, width=128)
        self.Mixed_6c = _BlockC(768, width=160)
        self.Mixed_6d = _BlockC(768, width=160)
        self.Mixed_6e = _BlockC(768, width=192)
        self.Mixed_7a = _BlockD(768)
        self.Mixed_7b = _BlockE(1280, last=False)
        self.Mixed_7c = _BlockE(2048, last=True)
        self.fc = nn.Linear(NUM_FEATURES, 1008)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 2048"]:
        """(B, 3, H, W) in [0, 1], any size -> the pooled features.

        The image is resized to 299x299, bilinear, align_corners=False, without a filter against aliasing, and brought
        to [-1, 1]: pytorch-fid's way. Other resizes give other figures.
        """
        return self.maps(image).mean(dim=(2, 3))

    def maps(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 2048 8 8"]:
        """The last map, before the mean over its cells."""
        x = F.interpolate(image, size=(_INPUT_SIZE, _INPUT_SIZE), mode="bilinear", align_corners=False)
        x = 2 * x - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))


# batch counters do nothing in eval mode, and files from before PyTorch 0.4.1 do not have them
DESIGN = Design(FidInception, optional=(".num_batches_tracked",))


@lru_cache(maxsize=1)
def _shared(path: str | Path | None = None) -> FidInception:
    """The network with its published weights, loaded once."""
    network = load_network(DESIGN, published("fid-inception"), path)
    assert isinstance(network, FidInception)
    return network


def inception_pooled(path: str | Path | None, batch: Batch) -> tuple[Tensor, Tensor]:
    """(B, 2048) of both sides; one pass for fid and kid."""

    def compute() -> tuple[Tensor, Tensor]:
        network = _shared(path).to(batch.image.device)
        return network(batch.composite.float()), network(batch.image.float())

    return batch.once(("inception", path), compute)
