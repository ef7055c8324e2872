"""The holes that LaMa is trained with: thick polylines or boxes, of any missing share.

"Resolution-robust Large Mask Inpainting with Fourier Convolutions" (WACV 2022); the numbers are those of its published
configurations. Over 1,500 holes the original's mean share is 0.354; of 100 holes 26 lie in the band 0-20, 39 in 20-40,
20 in 40-60, and 15 above.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

SIDE = 256
"""The numbers below are pixels of a picture of this side; in another one they grow with its shorter side."""


@dataclass(frozen=True)
class LaMaHoles:
    """Draws holes: with equal chances polylines or boxes, never both. The same state of `rng` gives the same hole.

    Args:
        lines: least and largest number of polylines, each of 1 to 5 straight pieces.
        length, width: largest number that is added to 10 and to 5 pixels, for each piece.
        boxes: least and largest number of boxes; the released big-lama saw 1 to 3.
        sides: least and largest side of a box, which stays `margin` pixels inside the picture.

    Differs from the original: lengths and widths grow with the crop, so that crops of other sides see holes of the same
        shares; at 256 pixels they are the original's.

    Example:
        >>> tuple(LaMaHoles()(64, 96, np.random.default_rng(0)).shape)
        (1, 64, 96)
    """

    lines: tuple[int, int] = (1, 6)
    length: int = 200
    width: int = 100
    boxes: tuple[int, int] = (1, 4)
    sides: tuple[int, int] = (30, 150)
    margin: int = 10

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Tensor:
        """Draw one hole: (1, height, width) float32, 1 = missing."""
        canvas = Image.new("1", (width, height))
        draw = self._lines if rng.random() < 0.5 else self._boxes
        draw(ImageDraw.Draw(canvas), height, width, rng)
        return torch.from_numpy(np.asarray(canvas).astype(np.float32))[None]

    def _lines(self, draw: ImageDraw.ImageDraw, height: int, width: int, rng: np.random.Generator) -> None:
        scale = min(height, width) / SIDE
        for index in range(rng.integers(self.lines[0], self.lines[1] + 1)):
            x, y = float(rng.integers(width)), float(rng.integers(height))
            for _ in range(1 + rng.integers(5)):
                angle = 0.01 + float(rng.integers(4))  # radians
                if index % 2 == 0:
                    angle = 2 * math.pi - angle
                long = scale * (10 + float(rng.integers(self.length)))
                thick = scale * (5 + float(rng.integers(self.width)))
                end_x = min(max(x + long * math.sin(angle), 0.0), float(width))
                end_y = min(max(y + long * math.cos(angle), 0.0), float(height))
                draw.line([x, y, end_x, end_y], fill=1, width=max(1, round(thick)))
                for cx, cy in ((x, y), (end_x, end_y)):  # the original's lines have round ends
                    draw.ellipse([cx - thick / 2, cy - thick / 2, cx + thick / 2, cy + thick / 2], fill=1)
                x, y = end_x, end_y

    def _boxes(self, draw: ImageDraw.ImageDraw, height: int, width: int, rng: np.random.Generator) -> None:
        scale = min(height, width) / SIDE
        margin = round(scale * self.margin)
        low, high = (max(1, round(scale * side)) for side in self.sides)
        for _ in range(rng.integers(self.boxes[0], self.boxes[1] + 1)):
            wide, tall = (int(rng.integers(low, high + 1)) for _ in range(2))
            left = int(rng.integers(margin, width - margin - wide + 1))
            top = int(rng.integers(margin, height - margin - tall + 1))
            draw.rectangle([left, top, left + wide - 1, top + tall - 1], fill=1)
