"""Patch discriminators: one logit per patch."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """Convolutional discriminator C of Eq. 6 that judges overlapping patches, with spectral normalisation.

    The layout of pix2pix (Isola et al., CVPR 2017) with the normalisation of SN-GAN (Miyato et al., ICLR 2018);
    no sigmoid at the end, because Eq. 6 subtracts expectations of C before its sigmoid. With three stride-2 layers a
    logit sees 70x70 pixels.

    Args:
        width: channels of the first layer; doubled in each layer, at most 8 times as many.

    Example:
        >>> import torch
        >>> PatchDiscriminator(width=4)(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 1, 6, 6])
    """

    def __init__(self, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        channels = [3, *(width * min(2**i, 8) for i in range(layers + 1))]
        blocks: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(channels)):
            stride = 2 if i < layers else 1
            blocks += [spectral_norm(nn.Conv2d(a, b, 4, stride, 1)), nn.LeakyReLU(0.2)]
        blocks.append(spectral_norm(nn.Conv2d(channels[-1], 1, 4, 1, 1)))
        self.layers = nn.Sequential(*blocks)

    def forward(
        self, image: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"] | None = None
    ) -> Float[Tensor, "B 1 h w"]:
        """Logits, one per patch; (B, 3, H, W) in [0, 1] -> (B, 1, h, w). The hole is not looked at."""
        return self.layers(image * 2 - 1)


class MapDiscriminator(nn.Module):
    """LaMa's discriminator, which also hands out its maps: pix2pixHD's (Wang et al., CVPR 2018), with batch norm.

    Real and invented pictures are to be called apart: the batch norms would else see the mean of both. With the layers'
    own rules for first weights, as in the original; it sees the picture in [0, 1] and no hole.

    Args:
        width: channels of the first layer; doubled in each layer, at most 8 times as many.

    Example:
        >>> import torch
        >>> logits, maps = MapDiscriminator(width=4)(torch.rand(2, 3, 256, 256))
        >>> logits.shape, [m.shape[-1] for m in maps]
        (torch.Size([2, 1, 19, 19]), [129, 65, 33, 17, 18])
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        channels = (3, width, 2 * width, 4 * width, 8 * width, 8 * width)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 4, stride=2 if i < 4 else 1, padding=2), *([nn.BatchNorm2d(b)] if i > 0 else [])
            )
            for i, (a, b) in enumerate(pairwise(channels))
        )
        self.head = nn.Conv2d(8 * width, 1, 4, padding=2)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B 1 h w"], list[Tensor]]:
        """Logits, one per patch, and the maps of the five layers before them."""
        maps: list[Tensor] = []
        for layer in self.layers:
            image = F.leaky_relu(layer(image), 0.2)
            maps.append(image)
        return self.head(image), maps
