"""Do aligned copies from other frames of a drive fill holes better than the network alone?

python -m experiments.aligned --frames street/test/image --sequence Seq05VD --masks masks --every 8 \
    [--offsets -2 -1 1 2 | --other street/val/image] [--cache FOLDER] [-o OUT.md]

Each hole is filled by the network, then from an album: the frames at `--offsets` in the sequence, or, as a control,
four frames of another folder. PSNR is of the hole's pixels alone, sqz-distance of the whole frame. Differences are to
the network's fill, with 95 % intervals from a bootstrap over blocks of 4 neighbouring frames.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cicm.evaluation.intervals import interval
from cicm.exemplar.align import aligned_copies
from cicm.files import write_atomic
from cicm.inference import Inpainter
from cicm.metrics.squeeze import load_squeeze_features
from cicm.metrics.sqz_distance import sqz_distance
from cicm.photos.headers import find_images
from experiments.joining import object_hole, tensor

HOLES = ("object", "20-40", "40-60")
BLOCK = 4


def hole_for(kind: str, size: tuple[int, int], masks: Path, rng: np.random.Generator) -> np.ndarray:
    if kind == "object":
        return object_hole(size, rng)
    files = find_images(masks / kind)
    mask = Image.open(files[int(rng.integers(len(files)))]).convert("L")
    return np.asarray(mask.resize((size[1], size[0]), Image.Resampling.NEAREST)) > 127


def psnr_in(picture: np.ndarray, image: np.ndarray, hole: np.ndarray) -> float:
    error = (picture[hole].astype(np.float64) - image[hole]) ** 2
    return float(10 * np.log10(255**2 / max(error.mean(), 1e-3)))


def blocks(values: list[float]) -> np.ndarray:
    return np.array([np.mean(values[start : start + BLOCK]) for start in range(0, len(values), BLOCK)])


def cell(values: list[float], digits: int) -> str:
    found = interval(blocks(values))
    low, high = found if found else (float("nan"), float("nan"))
    return f"{np.mean(values):+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--sequence", default="")
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--most", type=int, default=1000)
    parser.add_argument("--holes", nargs="+", default=list(HOLES))
    parser.add_argument("--offsets", type=int, nargs="+", default=[-2, -1, 1, 2])
    parser.add_argument("--other", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    frames = [path for path in find_images(options.frames) if path.name.startswith(options.sequence)]
    elsewhere = find_images(options.other) if options.other else []
    inpainter, features = Inpainter.from_pretrained(device="cpu", fill="network"), load_squeeze_features()
    lines = [
        "| holes | frames | network: dB, sqz | with the album: dB | sqz, per cent | photos used | seconds |",
        "|" + "---|" * 7,
    ]
    for kind in options.holes:
        rows = []
        for number, place in list(enumerate(range(0, len(frames), options.every)))[: options.most]:
            image = np.asarray(Image.open(frames[place]).convert("RGB"))
            hole = hole_for(kind, image.shape[:2], options.masks, np.random.default_rng([place, HOLES.index(kind)]))
            broken = np.where(hole[..., None], np.uint8(0), image)
            kept = options.cache / f"{kind}-{frames[place].stem}.npy" if options.cache else None
            if kept and kept.is_file():
                network = np.load(kept)
            else:
                network = inpainter(broken, hole)
                if kept:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    np.save(kept, network)
            if elsewhere:
                album = [elsewhere[(7 * number + k * len(elsewhere) // 4) % len(elsewhere)] for k in range(4)]
            else:
                album = [frames[place + by] for by in options.offsets if 0 <= place + by < len(frames)]
            others = [np.asarray(Image.open(path).convert("RGB")) for path in album]
            started = time.perf_counter()
            fill = network.astype(np.float32) / 255
            copies = aligned_copies(broken.astype(np.float32) / 255, hole, others)
            seconds = time.perf_counter() - started
            filled = np.rint(copies.over(fill) * 255).astype(np.uint8)
            with torch.inference_mode():
                before, after = (
                    float(sqz_distance(tensor(p / 255), tensor(image / 255), features)) for p in (network, filled)
                )
            rows.append(
                (
                    psnr_in(network, image, hole),
                    psnr_in(filled, image, hole),
                    before,
                    after,
                    len(copies.used),
                    seconds,
                    frames[place].stem,
                )
            )
            if options.pictures:
                options.pictures.mkdir(parents=True, exist_ok=True)
                weight = np.repeat((copies.weight[..., None] * 255).astype(np.uint8), 3, 2)
                top, bottom = np.concatenate([image, broken], 1), np.concatenate([network, filled], 1)
                Image.fromarray(np.concatenate([top, bottom, np.concatenate([weight, weight], 1)])).save(
                    options.pictures / f"{kind}-{frames[place].stem}.png"
                )
        network_db, album_db, before, after, used, seconds, names = zip(*rows, strict=True)
        gains = [float(new - old) for new, old in zip(album_db, network_db, strict=True)]
        worst = sorted(zip(gains, names, strict=True))[:3]
        ratio = [100 * (new - old) / float(np.mean(before)) for new, old in zip(after, before, strict=True)]
        lines.append(
            f"| {kind} | {len(rows)} | {np.mean(network_db):.2f}, {np.mean(before):.4f} | {cell(gains, 2)} "
            f"| {cell(ratio, 0)} | {np.mean(used):.1f} | {np.mean(seconds):.2f} |"
        )
        print(lines[-1], "worst", worst, flush=True)
    if options.output:
        write_atomic(options.output, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
