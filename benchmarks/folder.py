"""A folder of photos: the engine against a plain loop over the same network, and against OpenCV's Telea.

Photos are cut from the examples, 256x256 and, some, 512x512; JPEG in, JPEG out. The ways take turns, each round into a
folder of its own. `loop` is `fill_photo` and `save_photo` one after another; `network alone` is what the forward takes.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.timing import Timed, in_turn
from cicm.data import to_hole
from cicm.folders import Engine, FolderTask, MaskFolder, fill_folder
from cicm.inference import Inpainter
from cicm.photos import open_photo, save_photo

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PHOTOS = int(os.environ.get("CICM_BENCH_PHOTOS", "40"))


def make_photos(place: Path) -> list[str]:
    """Turned and mirrored examples; every fourth twice as large."""
    names = []
    for folder in ("photos", "masks"):
        (place / folder).mkdir()
    sources = sorted((EXAMPLES / "photos").glob("*.jpg"))
    for number in range(PHOTOS):
        source = sources[number % len(sources)]
        photo, mask = (
            Image.open(source).convert("RGB"),
            Image.open(EXAMPLES / "masks" / f"{source.stem}.png").convert("L"),
        )
        size = (512, 512) if number % 4 == 3 else (256, 256)
        turn = Image.Transpose(number // len(sources) % 7)
        photo.resize(size).transpose(turn).save(place / f"photos/{number:03}.jpg", quality=92)
        mask.resize(size, Image.Resampling.NEAREST).transpose(turn).save(place / f"masks/{number:03}.png")
        names.append(f"{number:03}")
    return names


def main() -> list[dict[str, object]]:
    import cv2

    threads = torch.get_num_threads()
    inpainter = Inpainter.from_pretrained()
    with tempfile.TemporaryDirectory() as folder:
        place, numbers = Path(folder), count()
        names = make_photos(place)

        def target() -> Path:
            return place / f"out{next(numbers)}"

        def engine(options: Engine) -> None:
            summary = fill_folder(
                inpainter, FolderTask(place / "photos", target(), MaskFolder(place / "masks")), options
            )
            assert summary.done == len(names)

        def loop() -> None:
            out = target()
            out.mkdir()
            for name in names:
                photo = open_photo(place / f"photos/{name}.jpg")
                repaired, _ = inpainter.fill_photo(photo, place / f"masks/{name}.png")
                save_photo(repaired, out / f"{name}.jpg")

        def telea() -> None:
            out = target()
            out.mkdir()
            for name in names:
                image = cv2.imread(str(place / f"photos/{name}.jpg"))
                mask = cv2.imread(str(place / f"masks/{name}.png"), cv2.IMREAD_GRAYSCALE)
                cv2.imwrite(
                    str(out / f"{name}.jpg"), cv2.inpaint(image, (mask > 127).astype(np.uint8), 5, cv2.INPAINT_TELEA)
                )

        seen = []
        for name in names:
            pixels = open_photo(place / f"photos/{name}.jpg").pixels.rgb()
            hole = to_hole(place / f"masks/{name}.png")[None].to(inpainter.device)
            image = torch.from_numpy(pixels.transpose(2, 0, 1))[None].to(inpainter.device)
            seen.append((image * (1 - hole), hole))

        def network() -> None:
            with torch.inference_mode():
                for corrupted, hole in seen:
                    inpainter.model(corrupted, hole).composite.sum().item()

        ways = {
            "network alone": network,
            "loop": loop,
            "engine": lambda: engine(Engine()),
            "engine, one worker": lambda: engine(Engine(1, 1)),
            "engine, batches of 4": lambda: engine(Engine(batch=4)),
            "OpenCV's Telea, loop": telea,
        }
        spent: dict[str, list[float]] = {name: [] for name in ways}

        def counted(name: str) -> None:
            before = time.process_time()
            ways[name]()
            spent[name].append(time.process_time() - before)

        rounds = int(os.environ.get("CICM_BENCH_ROUNDS", "3"))
        times: dict[str, Timed] = in_turn({name: partial(counted, name) for name in ways}, rounds=rounds, warm=1)
        began = time.perf_counter()
        task = FolderTask(place / "photos", place / "planned", MaskFolder(place / "masks"))
        task.plan()
        planned = time.perf_counter() - began
    rows: list[dict[str, object]] = [
        {
            "way": name,
            "photos/s": PHOTOS / timed.median,
            "of the loop": times["loop"].median / timed.median,
            "seconds": str(timed),
            "CPU seconds": statistics.median(spent[name][1:]),  # says more than the clock where others compute too
        }
        for name, timed in times.items()
    ]
    what = f"{PHOTOS} photos on {inpainter.device}, {threads} thread(s) for the network"
    return [
        *rows,
        {
            "way": f"{what}; plan alone",
            "photos/s": PHOTOS / planned,
            "of the loop": "",
            "seconds": planned,
            "CPU seconds": "",
        },
    ]
