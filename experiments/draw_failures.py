"""Draw the photos on which the weights that ship do worst: corrupted, repaired, the photo itself.

python -m experiments.draw_failures SCORES.images.csv --images PHOTOS --masks MASKS --attribution CSV -o docs/pictures/failures.jpg

Only photos that are named in the attribution file (columns file, author, author_url, landing_url, license) are drawn; their
rows are written beside the picture.
"""  # noqa: E501

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cicm.assembly import load_weights
from cicm.data import PairedPhotos
from cicm.data.pair_lists import Pair
from cicm.evaluation.classical import to_array

WHITE = 1.0


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--attribution", type=Path, required=True)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    with options.attribution.open() as file:
        known = {row["file"]: row for row in csv.DictReader(file)}
    with options.scores.open() as file:
        lines = [line for line in file if not line.startswith("#")]
    rows = [row for row in csv.DictReader(lines) if row["image"] in known and row["band"] == "40-60"]
    rows = sorted(rows, key=lambda row: float(row["psnr"]))[: options.count]
    height, width = (int(side) for side in rows[0]["group"].split("x"))
    pairs = [Pair(row["image"], row["mask"], row["band"], height, width) for row in rows]
    model, strips = load_weights().model, []
    photos = PairedPhotos(pairs, options.images, options.masks)
    for index in range(len(pairs)):
        image, hole = photos[index]["image"][None], photos[index]["hole"][None]
        repaired = model(image * (1 - hole), hole).composite
        shown = image * (1 - hole) + WHITE * hole
        strips.append(np.concatenate([to_array(x[0].clamp(0, 1)) for x in (shown, repaired, image)], 1))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(strips)).save(options.output, quality=88)
    with options.output.with_suffix(".attribution.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "title", "author", "author_url", "source_url", "license", "changes"])
        for number, pair in enumerate(pairs, 1):
            r = known[pair.image]
            facts = r["author"], r["author_url"], r["landing_url"], r["license"]
            writer.writerow([number, Path(pair.image).stem, *facts, "reduced, cropped, damaged, repaired"])
    print(options.output)


if __name__ == "__main__":
    main()
