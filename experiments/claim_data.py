"""Photos for the experiments on what a memory is worth: street sequences, scenes, faces; and holes from mask files.

Street (CamVid) is read at a quarter of its size, 240x180. Sequences 0001TP and 0016E5 of the training folder train,
0006R0 is for choosing settings, Seq05VD is the test. Scenes and faces have no sequences: other views of the same photo
stand in for them, or other photos.

Mask files are split by their name's checksum: a third for choosing settings, the others for the test.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cicm.conventions import BANDS
from cicm.data import HoleGenerator
from cicm.data.holes import resize_hole, to_hole
from cicm.files import evenly_spaced
from cicm.photos.headers import find_images

SIDE = 128
"""Side of the crops, pixels."""

FRAME = (240, 180)
"""Width and height of a street frame as it is read."""

TRAIN, CHOICE, TEST = ("0001TP", "0016E5"), "0006R0", "Seq05VD"


def street(root: Path) -> dict[str, list[np.ndarray]]:
    """Sequence -> its frames in order, uint8 (180, 240, 3): the parts that train, that choose and that test."""
    found: dict[str, list[np.ndarray]] = {}
    for part in ("train", "test"):
        for file in find_images(root / part / "image"):
            name = file.stem.split("_")[0]
            if name in ((*TRAIN, CHOICE) if part == "train" else (TEST,)):
                with Image.open(file) as photo:
                    found.setdefault(name, []).append(np.asarray(photo.resize(FRAME, Image.Resampling.BOX)))
    return found


def singles(root: Path, count: int, short: int = 180) -> list[np.ndarray]:
    """`count` photos of a folder, evenly spaced, the shorter side reduced to `short` pixels."""
    photos = []
    for file in evenly_spaced(find_images(root), count):
        with Image.open(file) as photo:
            factor = short / min(photo.size)
            size = (max(short, round(photo.width * factor)), max(short, round(photo.height * factor)))
            photos.append(np.asarray(photo.convert("RGB").resize(size, Image.Resampling.BOX)))
    return photos


def corner(shape: tuple[int, ...], rng: np.random.Generator, side: int = SIDE) -> tuple[int, int]:
    """Top and left of a square at a place drawn at random."""
    return int(rng.integers(0, shape[0] - side + 1)), int(rng.integers(0, shape[1] - side + 1))


def crop(photo: np.ndarray, at: tuple[int, int], side: int = SIDE) -> np.ndarray:
    return photo[at[0] : at[0] + side, at[1] : at[1] + side]


def as_images(crops: list[np.ndarray]) -> Tensor:
    """uint8 (H, W, 3) pictures of one size -> (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack(crops)).movedim(-1, 1).float() / 255


def painted(count: int, rng: np.random.Generator, side: int = SIDE) -> Tensor:
    """(count, 1, side, side): holes of the generator, all bands alike."""
    paint = HoleGenerator()
    return torch.stack([paint(side, side, rng) for _ in range(count)])


def mask_files(masks: Path, role: str) -> dict[str, list[Path]]:
    """Band -> mask files for `choice` or for `test`; no file serves both."""
    found: dict[str, list[Path]] = {}
    for band in BANDS:
        for file in find_images(masks / band):
            if (zlib.crc32(file.name.encode()) % 3 == 0) == (role == "choice"):
                found.setdefault(band, []).append(file)
    return found


def hole_of(files: list[Path], number: int, side: int = SIDE) -> Tensor:
    """(1, side, side): the hole of the file at a place drawn for `number`."""
    place = int(np.random.default_rng((len(files), number)).integers(len(files)))
    return resize_hole(to_hole(files[place]), (side, side))
