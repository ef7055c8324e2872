"""Which way to join the network's fill and the patches' fill is best? All ways on the same holes.

python -m experiments.joining --images scenes/test --masks masks --limit 100 [--cache FOLDER] [-o OUT.md] \\
    [--chart OUT.png]

Photos of 256 pixels, cut in the middle, each with one hole of each band from mask files and one lumpy hole as of an
object (18 to 30 % of the side across). A cell has PSNR and sqz-distance of the composite and the sharpness of the hole
(median over photos; 1 is as sharp as its surroundings). Differences are to the network alone, with the 95 % interval
over photos. Ctrl-C ends the run and prints the table so far.
"""

from __future__ import annotations

import argparse
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from cicm.evaluation.intervals import interval
from cicm.exemplar.joining import join
from cicm.exemplar.patches import fill_by_patches
from cicm.files import atomic, write_atomic
from cicm.inference import Inpainter
from cicm.metrics.psnr import psnr
from cicm.metrics.sharpness import sharpness
from cicm.metrics.squeeze import load_squeeze_features
from cicm.metrics.sqz_distance import sqz_distance
from cicm.photos.headers import find_images
from experiments.joining_rule import join as by_rule

SIDE = 256
BANDS = ("0-20", "20-40", "40-60", "object")


@dataclass
class Case:
    """One photo, one hole and its fills; pictures are (h, w, 3) float32 in [0, 1], the hole (h, w) bool."""

    name: str
    band: str
    image: np.ndarray
    hole: np.ndarray
    network: np.ndarray
    patches: np.ndarray


def photos(folder: Path, limit: int) -> list[Path]:
    """Photos that have 256 pixels, mixed by their names."""
    found = [path for path in find_images(folder) if not path.name.startswith("places-")]
    found = [path for path in found if min(Image.open(path).size) >= SIDE]
    return sorted(found, key=lambda path: zlib.crc32(path.name.encode()))[:limit]


def middle(path: Path) -> np.ndarray:
    picture = np.asarray(Image.open(path).convert("RGB"))
    top, left = (picture.shape[0] - SIDE) // 2, (picture.shape[1] - SIDE) // 2
    return np.ascontiguousarray(picture[top : top + SIDE, left : left + SIDE])


def object_hole(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(h, w) bool: one lumpy, stretched shape, 18 to 30 % of the shorter side across, clear of the border."""
    height, width = size
    radius = min(size) * rng.uniform(0.18, 0.30) / 2
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    reach = radius * (
        1 + sum(rng.uniform(-0.2, 0.2) / k * np.cos(k * angles + rng.uniform(0, 6.3)) for k in (1, 2, 3, 5))
    )
    stretch, edge = rng.uniform(0.7, 1.4), 1.8 * radius
    y, x = rng.uniform(edge, height - edge), rng.uniform(edge, width - edge)
    outline = np.stack([x + reach * np.cos(angles) / stretch, y + reach * np.sin(angles) * stretch], 1)
    canvas = Image.new("L", (width, height))
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in outline.tolist()], fill=255)
    return np.asarray(canvas) > 0


def cases(images: Path, masks: Path, limit: int, cache: Path | None) -> Iterator[Case]:
    inpainter = Inpainter.from_pretrained(device="cpu", fill="network")
    for number, path in enumerate(photos(images, limit)):
        for band in BANDS:
            kept = cache / f"{band}-{path.stem}.npz" if cache else None
            if kept and kept.is_file():
                with np.load(kept) as stored:
                    pictures, hole = [stored[name] for name in ("image", "network", "patches")], stored["hole"]
            else:
                image = middle(path)
                rng = np.random.default_rng([number, BANDS.index(band)])
                if band == "object":
                    hole = object_hole(image.shape[:2], rng)
                else:
                    files = find_images(masks / band)
                    hole = np.asarray(Image.open(files[int(rng.integers(len(files)))]).convert("L")) > 127
                broken = np.where(hole[..., None], np.uint8(0), image)
                pictures = [image, inpainter(broken, hole), fill_by_patches(broken, hole)]
                if kept:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    names = ("image", "network", "patches")
                    np.savez(kept, hole=hole, **dict(zip(names, pictures, strict=True)))
            image, network, patches = (picture.astype(np.float32) / 255 for picture in pictures)
            yield Case(path.stem, band, image, hole, network, patches)


RULES: dict[str, Callable[[Case], np.ndarray]] = {
    "network": lambda case: case.network,
    "patches": lambda case: case.patches,
    "half of each": lambda case: (case.network + case.patches) / 2,
    "joined by a rule": lambda case: by_rule(case.network, case.patches, case.hole),
    "joined (ships)": lambda case: join(case.network, case.patches, case.hole),
}

PARTS = (0.25, 0.5, 0.75)
"""Shares of the way from the network's fill to the joined one: the curve between error and looks."""


def ways(case: Case) -> dict[str, np.ndarray]:
    """Name -> fill, by each of `RULES` and on the way from the network to the joined one."""
    made = {name: rule(case) for name, rule in RULES.items()}
    joined = made["joined (ships)"]
    return made | {f"{part:.0%} of the way": case.network + part * (joined - case.network) for part in PARTS}


def draw(scores: dict[tuple[str, str], list[tuple[float, float, float]]], path: Path) -> None:
    """For each kind of hole: what is lost in PSNR against what is gained in sqz-distance, to the network alone."""
    import matplotlib.pyplot as plt

    steps = ["network", *(f"{part:.0%} of the way" for part in PARTS), "joined (ships)"]
    figure, axes = plt.subplots(1, len(BANDS), figsize=(3 * len(BANDS), 3.2), constrained_layout=True)
    for axis, band in zip(axes, BANDS, strict=True):
        mean = {name: np.mean(scores[name, band], axis=0) for name in (*RULES, *steps)}
        base = mean["network"]
        place = {name: (value[0] - base[0], 100 * (value[1] / base[1] - 1)) for name, value in mean.items()}
        axis.plot(*zip(*(place[name] for name in steps), strict=True), marker="o", label="network to joined")
        for name, mark in (("half of each", "s"), ("joined by a rule", "^"), ("patches", "x")):
            axis.plot(*place[name], marker=mark, linestyle="", label=name)
        axis.set_title(band if band == "object" else f"{band} %")
        axis.set_xlabel("PSNR - network [dB]")
    axes[0].set_ylabel("sqz-distance against the network [%]")
    axes[-1].legend(fontsize="small")
    with atomic(path, overwrite=True) as part:
        figure.savefig(part, format="png", dpi=80)


def tensor(picture: np.ndarray) -> Tensor:
    """(1, 3, h, w), rounded to 8 bits, from (h, w, 3) in [0, 1]."""
    return torch.from_numpy((np.rint(picture * 255.0).clip(0, 255) / 255).astype(np.float32).transpose(2, 0, 1))[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--chart", type=Path, help="draw error against looks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    features = load_squeeze_features()
    scores: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    try:
        for case in cases(options.images, options.masks, options.limit, options.cache):
            truth, hole = tensor(case.image), torch.from_numpy(case.hole)[None, None].float()
            scores["the photo itself", case.band].append((0.0, 0.0, float(sharpness(truth, hole))))
            made = ways(case)
            filled = torch.cat([tensor(fill) for fill in made.values()])
            with torch.inference_mode():
                near = psnr(filled, truth.expand_as(filled)).tolist()
                far = sqz_distance(filled, truth, features).tolist()
            sharp = [float(sharpness(one[None], hole)) for one in filled]
            for name, row in zip(made, zip(near, far, sharp, strict=True), strict=True):
                scores[name, case.band].append(row)
    except KeyboardInterrupt:
        pass  # the table so far
    print(f"{len(scores['network', BANDS[-1]])} photos")
    lines = ["| | " + " | ".join(BANDS) + " |", "|" + "---|" * (len(BANDS) + 1)]
    for name in dict.fromkeys([*RULES, *(name for name, _ in scores), "the photo itself"]):
        lines.append(f"| {name} | " + " | ".join(cell(scores, name, band) for band in BANDS) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    if options.output:
        write_atomic(options.output, text, overwrite=True)
    if options.chart:
        draw(scores, options.chart)


def cell(scores: dict[tuple[str, str], list[tuple[float, float, float]]], name: str, band: str) -> str:
    """Scores of the network; of a rule the differences to it; the sharpness is the median over photos."""
    ours, base = np.array(scores[name, band]), np.array(scores["network", band])
    sharp = f"{np.median(ours[:, 2]):.2f}"
    if name == "the photo itself":
        return sharp
    if name == "network":
        return f"{ours[:, 0].mean():.2f} dB, {ours[:, 1].mean():.4f}, {sharp}"
    change, farther = ours[:, 0] - base[:, 0], 100 * (ours[:, 1] - base[:, 1]) / base[:, 1].mean()
    (low, high), (least, most) = interval(change) or (0, 0), interval(farther) or (0, 0)
    nearer = f"{change.mean():+.2f} dB [{low:+.2f}, {high:+.2f}]"
    return f"{nearer}, {farther.mean():+.0f} % [{least:+.0f}, {most:+.0f}], {sharp}"


if __name__ == "__main__":
    main()
