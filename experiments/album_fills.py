"""What an album is worth from end to end, and whether thousands of unrelated photos in it do harm.

python -m experiments.album_fills --frames street/test/image --sequence Seq05VD --others scenes/train --masks masks \
    [--every 4] [--count 5000] -o table.md

Frames of a sequence are damaged by object-shaped holes and repaired by `Inpainter` with its defaults: without an album,
with an album of the sequence's other frames, with one that holds `--count` other photos too, and with these alone. The
album finds its photos by itself; a frame's own file is left out. PSNR is of the hole's pixels; intervals are 95 %
bootstraps over blocks of neighbouring frames. One thread.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cicm.exemplar.album import Album, make_album
from cicm.files import digest_of, evenly_spaced, write_atomic
from cicm.inference import Inpainter
from cicm.metrics.squeeze import load_squeeze_features
from cicm.metrics.sqz_distance import sqz_distance
from cicm.photos.headers import find_images
from cicm.photos.photo import read_image
from experiments.aligned import cell, hole_for, psnr_in


@dataclass(frozen=True)
class Without:
    """An album without one of its photos."""

    album: Album
    digest: str

    @property
    def photos(self) -> tuple:
        return self.album.photos

    def find(self, picture: np.ndarray, hole: np.ndarray, *, count: int, without: object = ()) -> list:
        return self.album.find(picture, hole, count=count, without=(self.digest,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--sequence", default="")
    parser.add_argument("--others", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    frames = [file for file in find_images(options.frames) if file.name.startswith(options.sequence)]
    others = evenly_spaced(find_images(options.others), options.count)
    albums = {
        "no album": None,
        "the other frames": make_album(frames),
        f"the same and {len(others)} other photos": make_album([*frames, *others]),
        f"the {len(others)} other photos": make_album(others),
    }
    features = load_squeeze_features()
    inpainter = Inpainter.from_pretrained(device="cpu")
    near: dict[str, list[float]] = defaultdict(list)
    far: dict[str, list[float]] = defaultdict(list)
    for number, file in list(enumerate(frames))[:: options.every]:
        image = read_image(file)
        hole = hole_for("object", image.shape[:2], options.masks, np.random.default_rng(number))
        seen = np.where(hole[..., None], np.uint8(0), image)
        for name, album in albums.items():
            inpainter.album = None if album is None else Without(album, digest_of(file))
            filled = inpainter(seen, hole)
            near[name].append(psnr_in(filled, image, hole))
            pair = [torch.from_numpy(one.copy()).movedim(-1, 0)[None].float() / 255 for one in (filled, image)]
            with torch.inference_mode():
                far[name].append(float(sqz_distance(pair[0], pair[1], features)))
        print(number, {name: round(values[-1], 2) for name, values in near.items()}, flush=True)
    first, second, *_ = albums
    head = ("album", "PSNR in the hole, dB", "sqz-distance", "PSNR - without", "PSNR - the other frames")
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|---|"]
    for name in albums:
        gains = [
            cell([a - b for a, b in zip(near[name], near[base], strict=True)], 2) if name != base else ""
            for base in (first, second)
        ]
        lines.append(f"| {name} | {np.mean(near[name]):.2f} | {np.mean(far[name]):.4f} | {gains[0]} | {gains[1]} |")
    text = "\n".join(lines)
    print(text)
    write_atomic(options.output, f"{len(near[first])} frames\n\n{text}\n")


if __name__ == "__main__":
    main()
