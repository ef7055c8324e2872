"""A tiny set of photos and masks, and a method that knows the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from cicm.data.datasets import PairedPhotos
from cicm.data.pair_lists import Pair
from cicm.data.pairs import make_pairs
from cicm.evaluation.classical import Method

SIDE = 32


@dataclass
class TinySet:
    """Photos, masks, and the list that pairs them."""

    images: Path
    masks: Path
    pairs: list[Pair]

    def truth(self, pair: Pair) -> Tensor:
        return PairedPhotos([pair], self.images, self.masks)[0]["image"]

    def hole(self, pair: Pair) -> np.ndarray:
        return PairedPhotos([pair], self.images, self.masks)[0]["hole"][0].numpy() > 0.5


def picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth picture with some noise, so that no two methods agree on it."""
    y, x = np.mgrid[0:height, 0:width] / 32
    waves = [np.sin(rng.uniform(1, 4) * x + rng.uniform(0, 6)) + np.cos(rng.uniform(1, 4) * y) for _ in range(3)]
    return np.clip(np.stack(waves, -1) * 50 + 128 + rng.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinySet:
    """Seven photos, five of them larger than 32x32 in one direction, one in a folder; three masks a band."""
    root = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(7)
    (root / "photos" / "town").mkdir(parents=True)
    for number in range(7):
        name = f"town/p.{number}.png" if number == 3 else f"p{number}.png"
        size = (SIDE, SIDE) if number < 2 else (SIDE + 8 * number, SIDE + 2)
        Image.fromarray(picture(rng, *size)).save(root / "photos" / name)
    for band, rows in {"0-20": (3, 4, 5), "20-40": (9, 10, 11), "40-60": (15, 16, 17)}.items():
        (root / "masks" / band).mkdir(parents=True)
        for count in rows:  # holes of `count` rows of 32: a share of count / 32
            mask = np.zeros((SIDE, SIDE), np.uint8)
            start = int(rng.integers(1, SIDE - count - 1))
            mask[start : start + count] = 255
            Image.fromarray(mask).save(root / "masks" / band / f"rows{count}.png")
    pairs = make_pairs(root / "photos", root / "masks", 0, sizes=(SIDE,))
    return TinySet(root / "photos", root / "masks", pairs)


class Shifted(Method):
    """Fills with the truth plus a constant that depends on the photo: scores can be worked out by hand."""

    def __init__(self, tiny: TinySet, shifts: dict[str, float] | float = 0.0, name: str = "shifted") -> None:
        self.tiny, self.shifts, self.name, self.detail = tiny, shifts, name, "the truth, shifted"

    def fill(self, corrupted: Tensor, hole: Tensor, pairs: Sequence[Pair]) -> Tensor:
        filled = corrupted.clone()
        for index, pair in enumerate(pairs):
            shift = self.shifts if isinstance(self.shifts, float) else self.shifts[pair.image]
            filled[index] += hole[index] * (self.tiny.truth(pair) + shift)
        return filled
