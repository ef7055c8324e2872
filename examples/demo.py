"""Repair the six photos of this folder with the weights that ship, and score what can be scored: `make demo`.

`flag` removes an object, so there is nothing true to compare with; the others are damaged on purpose. Photos: CC BY
2.0, see ATTRIBUTION.csv. None of them was trained on.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = Path("demo-output")
REMOVED = ("flag",)
RIVALS = ("telea", "navier-stokes", "biharmonic")


def main() -> None:
    print("loading torch and the weights that ship ...", flush=True)
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
    table = Table("photo", "missing", "seconds", "cicm", *RIVALS, title="PSNR of the composite in dB, higher is better")
    strips, made = [], []
    for path in sorted((HERE / "photos").glob("*.jpg")):
        name, mask = path.stem, HERE / "masks" / f"{path.stem}.png"
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
    print("sheet.png: damaged, repaired by cicm, by OpenCV's Telea, the photo itself")
    for path in made:
        print(path)


if __name__ == "__main__":
    sys.exit(main())
