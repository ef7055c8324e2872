"""A generator that is told the edges, and one that predicts them.

"EdgeConnect: Generative Image Inpainting with Adversarial Edge Learning" (ICCV Workshops 2019). Parts of other
networks here, not registered: JPGNet completes what this generator gives.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from cicm.networks.contract import Edit, unchanged
from cicm.networks.layers import DilatedResidual
from cicm.ops import canny

BLOCKS = 8
_GRAY = (0.2125, 0.7154, 0.0721)  # red, green, blue in the original's gray (ITU-R BT.709), which its edges are found in


class Trunk(nn.Module):
    """Three convolutions down to stride 4, residual blocks, three up; instance normalisation and ReLU after each.

    Args:
        outputs: channels of what goes, before any nonlinearity.
        width: of the first layer; the lowest map has 4 times as many channels.
        bias: whether the convolutions of the residual blocks have one; the others do.
    """

    def __init__(self, inputs: int, outputs: int, width: int, bias: bool = True) -> None:
        super().__init__()
        w = width
        self.encoder = nn.ModuleList(
            [nn.Conv2d(inputs, w, 7), nn.Conv2d(w, 2 * w, 4, 2, 1), nn.Conv2d(2 * w, 4 * w, 4, 2, 1)]
        )
        self.middle = nn.ModuleList(DilatedResidual(4 * w, bias=bias) for _ in range(BLOCKS))
        self.decoder = nn.ModuleList(
            [nn.ConvTranspose2d(4 * w, 2 * w, 4, 2, 1), nn.ConvTranspose2d(2 * w, w, 4, 2, 1), nn.Conv2d(w, outputs, 7)]
        )
        for conv in self.convolutions():
            nn.init.normal_(conv.weight, std=0.02)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)

    def convolutions(self) -> list[Any]:
        """All of them, in the order in which they run."""
        return [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]

    def encode(self, x: Float[Tensor, "B inputs H W"]) -> Float[Tensor, "B C h w"]:
        """The lowest map, of stride 4."""
        x = F.pad(x, (3, 3, 3, 3), mode="reflect")
        for conv in self.encoder:
            x = F.relu(F.instance_norm(conv(x)), inplace=True)
        return x

    def decode(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B outputs H W"]:
        """From the lowest map to the picture; linear at its end."""
        for block in self.middle:
            x = block(x)
        *up, head = self.decoder
        for conv in up:
            x = F.relu(F.instance_norm(conv(x)), inplace=True)
        return head(F.pad(x, (3, 3, 3, 3), mode="reflect"))


class ImageGenerator(Trunk):
    """The picture, from its known pixels and a map of edges: 10.77 M parameters at width 64.

    It is not told the hole: hole pixels are white, as in the original.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__(4, 3, width)

    def forward(
        self,
        corrupted: Float[Tensor, "B 3 H W"],
        hole: Float[Tensor, "B 1 H W"],
        edges: Float[Tensor, "B 1 H W"],
        *,
        edit: Edit = unchanged,
    ) -> Float[Tensor, "B 3 H W"]:
        """Predict; `edit` is called with `generator` and the lowest map, before the residual blocks.

        Args:
            corrupted: (B, 3, H, W) in [0, 1], 0 in the hole.
            hole: (B, 1, H, W), 1 = missing.
            edges: (B, 1, H, W) in [0, 1], in the hole too.

        Returns:
            (B, 3, H, W) in [0, 1].
        """
        features = self.encode(torch.cat([corrupted + hole, edges.to(corrupted.dtype)], 1))
        return (torch.tanh(self.decode(edit("generator", features))) + 1) / 2


class EdgeGenerator(Trunk):
    """The edges of the complete picture, from those of its known part: 10.76 M parameters at width 64.

    All convolutions but the last are under spectral normalisation. Its estimate of a singular value takes one step
    when the weights have changed and none when they have not, so that a second forward of the same step - a
    discriminator's, a recomputation, another micro-batch - gives the same numbers. Under `torch.compile`, where no
    value can be asked for, every forward in training mode takes a step, as PyTorch's own layer does.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__(3, 1, width, bias=False)
        self._normed: list[Any] = [spectral_norm(conv) for conv in self.convolutions()[:-1]]
        self._sums: list[float] = []

    def forward(self, corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
        """Predict the edges; arguments as of `ImageGenerator`.

        Returns:
            (B, 1, H, W) in [0, 1]; the known part is predicted too.
        """
        x = torch.cat([gray(corrupted) * (1 - hole) + hole, known_edges(corrupted, hole), hole], 1)
        settled = self.training and not torch.compiler.is_compiling() and not x.is_meta and not self._changed()
        estimates = [conv.parametrizations.weight[0] for conv in self._normed] if settled else []
        try:
            for estimate in estimates:
                estimate.eval()
            return torch.sigmoid(self.decode(self.encode(x)))
        finally:
            for estimate in estimates:
                estimate.train()

    def _changed(self) -> bool:
        """Whether the weights are others than at the last call.

        By their sums: a tensor's version counter misses the steps of fused optimizers. All sums equal by chance would
        cost one step of an estimate.
        """
        weights = [conv.parametrizations.weight.original.detach() for conv in self._normed]
        before, self._sums = self._sums, torch.stack([weight.sum() for weight in weights]).tolist()
        return self._sums != before


def gray(image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 H W"]:
    """Brightness, by the original's weights.

    Example:
        >>> gray(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1))
        tensor([[[[0.2125]]]])
    """
    red, green, blue = image.split(1, 1)
    return _GRAY[0] * red + _GRAY[1] * green + _GRAY[2] * blue


def known_edges(corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
    """Canny's edges of the known part (sigma 2); none in the hole."""
    return canny(gray(corrupted), 1 - hole, sigma=2.0)
