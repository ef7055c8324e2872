"""One photo from start to file, each in a process of its own on one thread: seconds, processor seconds, peak memory.

The photos are an example photo, mirrored into the size asked for; the hole is a square in the middle. `import torch`
stands beside them, since it is most of the start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

PHOTO = Path(__file__).resolve().parent.parent / "examples" / "photos" / "barn.jpg"
CASES = {"512x512, hole of 150x150": ((512, 512), 150), "6000x4000, hole of 800x800": ((6000, 4000), 800)}
ROUNDS = 3


def mirrored(size: tuple[int, int]) -> Image.Image:
    """The example photo, mirrored at its edges until it fills (width, height)."""
    picture = np.asarray(Image.open(PHOTO).convert("RGB"))
    missing = (size[1] - picture.shape[0], size[0] - picture.shape[1])
    return Image.fromarray(np.pad(picture, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric"))


def spent(command: list[str]) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak memory in GiB of a command, the best of some rounds by seconds."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        found.append((seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20))
    return min(found)


def main() -> list[dict[str, object]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        photo, mask, out = (str(Path(folder, name)) for name in ("photo.png", "mask.png", "out.png"))
        inpaint = ["-m", "cicm", "inpaint", photo, "--mask", mask, "-o", out, "--overwrite"]
        for name in ("import torch", *CASES):
            if name in CASES:
                size, side = CASES[name]
                mirrored(size).save(photo)
                hole = np.zeros((size[1], size[0]), np.uint8)
                top, left = (size[1] - side) // 2, (size[0] - side) // 2
                hole[top : top + side, left : left + side] = 255
                Image.fromarray(hole).save(mask)
            seconds, processor, memory = spent([sys.executable, *(inpaint if name in CASES else ["-c", name])])
            rows.append({"what": name, "s": round(seconds, 2), "CPU s": round(processor, 2), "GiB": round(memory, 2)})
            print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
