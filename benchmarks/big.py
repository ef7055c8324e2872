"""Large photos: what each way of seeing them costs and is worth, on holes whose content is known.

Photos: those in the folders of `CICM_BIG_PHOTOS` (separated as in PATH), else three that come with scikit-image. They
are reduced to `CICM_BIG_SIDE` pixels, 1280 by default, where longer; never enlarged. Holes are the same for every way:
`spots` are eight blobs of 24 to 80 pixels, `wide` is one of a third of the photo, `scratch` two lines 9 pixels wide.

Scores are over the missing pixels alone: PSNR; the feature distance `sqz` on the surroundings of the groups of holes;
and the seam, the mean step between neighbours across the hole's border over that of the photo itself at the same place
(below 1 smoother than the photo, above 1 a visible edge).
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from cicm.inference import Inpainter
from cicm.inference.crops import plan_crops
from cicm.inference.seams import step_at_border
from cicm.inference.tiles import cut
from cicm.metrics.squeeze import load_squeeze_features
from cicm.metrics.sqz_distance import sqz_distance

Row = dict[str, object]
Way = Callable[[np.ndarray, np.ndarray], np.ndarray]

WAYS: dict[str, dict[str, Any]] = {
    "whole": {"strategy": "whole"},
    "resize, 1024": {"strategy": "resize", "margin": 128},
    "resize, 512": {"strategy": "resize", "margin": 128, "max_side": 512},
    "crop, 1024": {"strategy": "crop"},
    "crop, 256": {"strategy": "crop", "max_side": 256},
    "tile, holes up to 64": {"strategy": "tile", "widest": 64},
    "tile, 96 (the default)": {"strategy": "tile"},
    "tile, 128": {"strategy": "tile", "widest": 128},
    "tile, 96, tiles of 256": {"strategy": "tile", "tile": 256},
    "tile, 96, margin 128": {"strategy": "tile", "margin": 128},
    "tile, 96, feather 4": {"strategy": "tile", "feather": 4},
    "tile, 96, feather 8": {"strategy": "tile", "feather": 8},
    "tile, 96, feather 16": {"strategy": "tile", "feather": 16},
}


def photos() -> list[np.ndarray]:
    folders = [Path(folder) for folder in os.environ.get("CICM_BIG_PHOTOS", "").split(os.pathsep) if folder]
    if folders:
        files = sorted(file for folder in folders for file in folder.iterdir() if file.suffix in (".jpg", ".png"))
    else:
        from skimage import data

        here = Path(data.__file__).parent
        files = [here / name for name in ("motorcycle_left.png", "rocket.jpg", "retina.jpg")]
    side = int(os.environ.get("CICM_BIG_SIDE", "1280"))
    found = []
    for file in files:
        image = Image.open(file).convert("RGB")
        if max(image.size) > side:
            scale = side / max(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BOX)
        found.append(np.array(image))
    return found


def blob(side: int, rng: np.random.Generator) -> np.ndarray:
    """(side, side) bool: a round thing with a wavy rim."""
    noise = torch.from_numpy(rng.standard_normal((1, 1, 5, 5)).astype(np.float32))
    waves = F.interpolate(noise, size=(side, side), mode="bicubic", align_corners=False)[0, 0].numpy()
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    return (x**2 + y**2) * 1.6 + 0.35 * waves < 1


def hole_of(kind: str, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    height, width = size
    hole = np.zeros(size, dtype=bool)
    if kind == "scratch":
        for _ in range(2):
            first, last = height * rng.uniform(0.05, 0.95, 2)
            path = np.linspace(0, 1, 4 * max(size))
            wave = 0.02 * height * np.sin(path * rng.uniform(3, 9))
            y, x = first + (last - first) * path + wave, width * (0.05 + 0.9 * path)
            for shift in np.ndindex(9, 9):
                hole[
                    np.clip(y.astype(int) + shift[0], 0, height - 1), np.clip(x.astype(int) + shift[1], 0, width - 1)
                ] = 1
        return hole
    count, sides = (1, (min(size) // 3, min(size) // 3 + 1)) if kind == "wide" else (8, (24, 81))
    for _ in range(count):
        side = int(rng.integers(*sides))
        top, left = int(rng.integers(0, height - side)), int(rng.integers(0, width - side))
        hole[top : top + side, left : left + side] |= blob(side, rng)
    return hole


def scores(filled: np.ndarray, photo: np.ndarray, hole: np.ndarray) -> dict[str, float]:
    error = ((filled[hole].astype(np.float64) - photo[hole]) / 255) ** 2
    parts = [crop.box for crop in plan_crops(hole, margin=32, relative=0.1, longest=256)]
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in parts]
    features = load_squeeze_features()

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32) / 255).permute(2, 0, 1)[None]

    with torch.inference_mode():
        far = [float(sqz_distance(tensor(cut(filled, part)), tensor(cut(photo, part)), features)) for part in parts]
    return {
        "psnr": float(-10 * np.log10(max(error.mean(), 1e-10))),
        "sqz": float(np.average(far, weights=areas)),
        "seam": step_at_border(filled / 255, hole) / max(step_at_border(photo / 255, hole), 1e-6),
    }


def telea(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.inpaint(np.ascontiguousarray(image[..., ::-1]), hole.astype(np.uint8), 5, cv2.INPAINT_TELEA)[..., ::-1]


def main() -> list[Row]:
    loaded = Inpainter.from_pretrained(device="auto")
    ways: dict[str, Way] = {"telea": telea}
    chosen = os.environ.get("CICM_BIG_WAYS", "")
    for name, options in WAYS.items():
        if not chosen or any(word in name for word in chosen.split(";")):
            ways[name] = Inpainter(loaded.model, device=loaded.device, **options)
    pictures, rows = photos(), []
    for kind in ("spots", "wide", "scratch"):
        found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for number, photo in enumerate(pictures):
            hole = hole_of(kind, photo.shape[:2], np.random.default_rng(number))
            corrupted = np.where(hole[..., None], np.uint8(0), photo)
            for name, way in ways.items():
                began = time.perf_counter()
                filled = way(corrupted, hole)
                seconds = time.perf_counter() - began
                found[name].append({**scores(filled, photo, hole), "seconds": seconds})
        for name, values in found.items():
            means = {key: statistics.fmean(value[key] for value in values) for key in values[0]}
            rows.append(
                {"holes": kind, "way": name, "photos": len(values), **{k: round(v, 3) for k, v in means.items()}}
            )
            print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
