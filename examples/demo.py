"""Repair eight photos of this folder with the included weights, and score five of them: `make demo`.

Five photos are damaged on purpose. From the others an object is removed, so there is no original to compare with. The
photos are under CC BY 2.0, see ATTRIBUTION.csv. None of them was used for training.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = Path("demo-output")
DAMAGED = ("barn", "bridge", "creek", "eagle", "spring")
REMOVED = ("flag", "player", "wall")
RIVALS = ("telea", "navier-stokes", "biharmonic")


def main() -> None:
    print("Loading PyTorch and the included weights ...", flush=True)
    import numpy as np
    from PIL import Image
    from rich.console import Console
    from rich.table import Table

    from cicm import Inpainter
    from cicm.data import to_hole
    from cicm.evaluation.classical import to_array, to_tensor
    from cicm.evaluation.methods import method_from
    from cicm.metrics import to_8bit
    from cicm.metrics.psnr import psnr

    OUT.mkdir(exist_ok=True)
    inpainter = Inpainter.from_pretrained()
    rivals = {name: method_from(name) for name in RIVALS}
    table = Table("photo", "missing", "seconds", "cicm", *RIVALS, title="PSNR in dB, higher is better")
    strips, made = [], []
    for name in (*DAMAGED, *REMOVED):
        path, mask = HERE / "photos" / f"{name}.jpg", HERE / "masks" / f"{name}.png"
        began = time.perf_counter()
        repaired = inpainter(Image.open(path), Image.open(mask))
        seconds = time.perf_counter() - began
        made.append(OUT / f"{name}.png")
        repaired.save(made[-1])

        photo = np.asarray(Image.open(path).convert("RGB"))
        image, hole = to_tensor(photo)[None], to_hole(mask)[None]
        fills = {n: method.fill(image * (1 - hole), hole, []) for n, method in rivals.items()}
        cells = ["-"] * (1 + len(RIVALS))
        if name not in REMOVED:
            results = [to_tensor(np.asarray(repaired.convert("RGB")))[None], *fills.values()]
            cells = [f"{psnr(to_8bit(r), to_8bit(image)).item():.2f}" for r in results]
        table.add_row(name, f"{hole.mean().item():.1%}", f"{seconds:.2f}", *cells)
        shown = np.where(hole[0, 0].numpy()[..., None] > 0, 255, photo).astype(np.uint8)
        strips.append([shown, np.asarray(repaired.convert("RGB")), to_array(fills["telea"][0]), photo])
    sheet = np.concatenate([np.concatenate(strip, 1) for strip in strips])
    made.append(OUT / "sheet.png")
    Image.fromarray(sheet).save(made[-1])
    Console(width=110).print(table)
    print("cicm is this package. The other three are classical methods of OpenCV and scikit-image.")
    print(f"{', '.join(REMOVED)} have no score: an object is removed, so there is no original to compare with.")
    print(f"\nThe repaired photos are in {OUT}/: {', '.join(path.name for path in made[:-1])}.")
    print(f"{made[-1]} shows each photo: damaged, repaired by cicm, repaired by Telea, original.")


if __name__ == "__main__":
    sys.exit(main())
