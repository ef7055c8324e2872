"""The encoder of a scene parser, whose maps stay large: ResNet-50 with dilated stages, trained on ADE20K.

23,631,808 parameters; names are those of the published file `encoder_epoch_20.pth` of the parser
`ade20k-resnet50dilated-ppm_deepsup`. LaMa compares pictures by it ("high receptive field perceptual loss").
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.metrics.trunks import Design

STAGES = ("layer1", "layer2", "layer3", "layer4")
MEAN = (0.485, 0.456, 0.406)  # of ImageNet's red, green and blue, which the encoder was trained with
DEVIATION = (0.229, 0.224, 0.225)


class _Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside an identity or a 1x1 convolution."""

    def __init__(self, inputs: int, middle: int, stride: int, dilation: int, *, project: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, 4 * middle, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * middle)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, 4 * middle, 1, stride, bias=False), nn.BatchNorm2d(4 * middle))
            if project
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        new = F.relu(self.bn1(self.conv1(x)))
        new = F.relu(self.bn2(self.conv2(new)))
        new = self.bn3(self.conv3(new))
        return F.relu(new + (x if self.downsample is None else self.downsample(x)))


class DilatedResNet(nn.Module):
    """A picture to the maps of its four stages, of 256, 512, 1024 and 2048 channels at stride 4, 8, 8 and 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = nn.Conv2d(64, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        self.conv3, self.bn3 = nn.Conv2d(64, 128, 3, 1, 1, bias=False), nn.BatchNorm2d(128)
        # The stride of the last two stages became a dilation; the first block of such a stage has half of it.
        self.layer1 = _stage(128, 64, 3, stride=1, first=1, dilation=1)
        self.layer2 = _stage(256, 128, 4, stride=2, first=1, dilation=1)
        self.layer3 = _stage(512, 256, 6, stride=1, first=1, dilation=2)
        self.layer4 = _stage(1024, 512, 3, stride=1, first=2, dilation=4)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] -> one map for each stage, fine to coarse."""
        mean, deviation = (
            torch.tensor(c, device=image.device).to(image.dtype).view(3, 1, 1) for c in (MEAN, DEVIATION)
        )
        x = (image - mean) / deviation
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(norm(conv(x)))
        x = F.max_pool2d(x, 3, 2, 1)
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


def _stage(inputs: int, middle: int, blocks: int, *, stride: int, first: int, dilation: int) -> nn.Sequential:
    begin = _Bottleneck(inputs, middle, stride, first, project=True)
    return nn.Sequential(
        begin, *(_Bottleneck(4 * middle, middle, 1, dilation, project=False) for _ in range(blocks - 1))
    )


ADE20K = Design(
    DilatedResNet,
    optional=("num_batches_tracked",),
    left_over=("_tmp_running_mean", "_tmp_running_var", "_running_iter"),
)
"""How the published file is read."""
