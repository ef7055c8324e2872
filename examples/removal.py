"""Remove an object from each of eight photos in three ways; makes the pictures of docs/object-removal.md.

    python -m examples.removal [-o docs/pictures]

Each picture: the hole in white, the network alone, both (the default), patches of real pixels alone. The photos are
under CC BY 2.0, see ATTRIBUTION.csv. None of them was used for training. The masks were drawn by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from cicm import Inpainter

HERE = Path(__file__).resolve().parent
NAMES = ("player", "bison", "ferry", "wall", "bottle", "lighthouse", "canoe", "bench")
WAYS = ("network", "both", "exemplar")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=HERE.parent / "docs" / "pictures")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    inpainters = [Inpainter.from_pretrained(fill=way) for way in WAYS]
    for name in NAMES:
        photo = np.asarray(Image.open(HERE / "photos" / f"{name}.jpg").convert("RGB"))
        hole = np.asarray(Image.open(HERE / "masks" / f"{name}.png").convert("L")) > 127
        shown = np.where(hole[..., None], np.uint8(255), photo)
        strip = np.concatenate([shown, *(inpainter(photo, hole) for inpainter in inpainters)], 1)
        Image.fromarray(strip).save(folder / f"removal-{name}.jpg", quality=85, optimize=True)
        print(folder / f"removal-{name}.jpg")


if __name__ == "__main__":
    main()
