"""Draws docs/pictures/album.jpg: street frames with a hole, filled without an album and with one.

python -m experiments.album_picture --frames street/test/image --sequence Seq05VD --at 40 70 100 130 \
    -o docs/pictures/album.jpg

The album of a frame holds the frames around all of those shown, up to four seconds before and after, and not the frame
itself. Prints which frames lent pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cicm.exemplar.album import make_album
from cicm.inference import Inpainter
from cicm.photos.headers import find_images
from cicm.photos.photo import read_image
from experiments.aligned import psnr_in
from experiments.joining import object_hole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--sequence", required=True)
    parser.add_argument("--at", type=int, nargs="+", required=True, help="numbers of the frames in the sequence")
    parser.add_argument("--width", type=int, default=240)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    frames = [file for file in find_images(options.frames) if file.name.startswith(options.sequence)]
    near = sorted({place for at in options.at for place in range(at - 4, at + 5) if 0 <= place < len(frames)})
    rows = []
    for at in options.at:
        picture = read_image(frames[at])
        hole = object_hole(picture.shape[:2], np.random.default_rng(at))
        damaged = picture.copy()
        damaged[hole] = 255
        row = [damaged]
        album = make_album([frames[place] for place in near if place != at])
        for lent in (None, album):
            inpainter = Inpainter.from_pretrained(device="cpu", album=lent)
            row.append(inpainter(damaged, hole))
            assert inpainter.report is not None
            told = f"{psnr_in(row[-1], picture, hole):.1f} dB in the hole, from {list(inpainter.report.lenders)}"
            print(frames[at].name, told, *inpainter.report.notes, flush=True)
        rows.append(np.concatenate(row, 1))
    whole = Image.fromarray(np.concatenate(rows))
    size = (3 * options.width, round(whole.height * 3 * options.width / whole.width))
    whole.resize(size, Image.Resampling.LANCZOS).save(options.output, quality=88)


if __name__ == "__main__":
    main()
