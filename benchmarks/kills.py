"""Kill a folder run and a training 25 times each, at random moments, and count what was lost: nothing may be.

Each is run once to its end. Then it is begun again and again, killed by SIGKILL after a random part of that time, and
gone on with by the same command. After each kill every file under a result's name must be whole. When a run has come to
its end it must be the uninterrupted one in every number, and nothing may lie about; then another one begins.

Processes are forked from one that has imported all and computed nothing. So kills hit the work and not the imports.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cicm.assembly import ModelConfig, build, save_weights
from cicm.cli.main import main as command
from cicm.conventions import InputError
from cicm.folders.journal import read_ledger
from cicm.training import checkpoint

KILLS = int(os.environ.get("CICM_BENCH_KILLS", "25"))
KINDS = ("png", "jpg", "bmp", "webp", "tif")
SET = {
    "model.options.width": 2,
    "objective.weights.adversarial": 0.1,
    "training.discriminator_width": 2,
    "training.steps": 6,
    "training.save_every_steps": 1,
    "training.log_every_steps": 1,
    "training.validate_every_steps": 3,
    "training.val_images": 2,
    "training.grid_images": 1,
    "data.workers": 0,
}


def run(words: Sequence[str], seconds: float = 600) -> bool:
    """Run a command in a process of its own and kill it after that time; whether it came to its end."""
    child = os.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        code = 99
        try:
            code = command(list(words))
        finally:
            os._exit(code)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if code := os.waitstatus_to_exitcode(status):
                raise RuntimeError(f"{' '.join(words)} ended with {code}, without being killed")
            return True
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def campaign(
    what: str,
    words: Callable[[Path], list[str]],
    check: Callable[[Path, Path], Counter],
    compare: Callable[[Path, Path], Counter],
    place: Path,
) -> dict[str, object]:
    """Kill one kind of work again and again.

    Args:
        words: the command that works in a folder.
        check: (folder, the uninterrupted one) -> faults of a folder that was just killed.
        compare: the same for one that has come to its end.
    """
    whole, dice = place / f"{what}-whole", random.Random(0)
    began = time.monotonic()
    run(words(whole))
    seconds = time.monotonic() - began
    kills, finished, over = 0, 0, True
    faults: Counter = Counter()
    while kills < KILLS or not over:
        folder = place / f"{what}-{finished}"
        over = run(words(folder), dice.uniform(0, seconds) if kills < KILLS else 600)
        if over:
            faults += compare(folder, whole)
            finished += 1
        else:
            kills += 1
            faults += check(folder, whole)
            print(f"{what}: {kills} kills, {finished} runs, faults {dict(+faults)}", file=sys.stderr, flush=True)
    names = ("lost", "torn", "done twice", "different from an uninterrupted run", "left lying about")
    return {"killed": what, "times": kills, "runs brought to their end": finished, **{n: faults[n] for n in names}}


# A folder of photos ---------------------------------------------------------------------------------------------------


def make_photos(folder: Path, count: int, side: int, kinds: Sequence[str]) -> None:
    """Noise, which no format can store in a few bytes."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"{number:02}.{kinds[number % len(kinds)]}", quality=95)


def results(folder: Path) -> dict[str, bytes]:
    """The results that are there."""
    return {path.name: path.read_bytes() for path in folder.glob("*.*") if path.is_file()} if folder.exists() else {}


def check_photos(folder: Path, whole: Path) -> Counter:
    """Each result under its name is the whole one, and the journal proves it."""
    expected, there = results(whole), results(folder)
    ledger = read_ledger(folder) if there else None
    torn = sum(data != expected[name] for name, data in there.items())
    lost = sum(not (ledger and ledger.proves(name, folder, read=True)) for name in there)
    return Counter({"torn": torn, "lost": lost})


def compare_photos(folder: Path, whole: Path) -> Counter:
    """All results are there, each made once, and nothing else."""
    expected, there = results(whole), results(folder)
    records = map(json.loads, (folder / ".cicm/journal.jsonl").read_text().splitlines())
    done = Counter(record["key"] for record in records if record["kind"] == "done")
    return Counter(
        {
            "lost": len(expected.keys() - there.keys()),
            "different from an uninterrupted run": sum(there.get(name) != data for name, data in expected.items()),
            "done twice": sum(number > 1 for number in done.values()),
            "left lying about": len(there.keys() - expected.keys()) + len(list((folder / ".cicm").iterdir())) - 1,
        }
    )


# A training -----------------------------------------------------------------------------------------------------------


def check_training(folder: Path, whole: Path) -> Counter:
    """The newest checkpoint is whole, and once there was one there is one; so are the weights."""
    try:
        found = checkpoint.find(folder) if folder.exists() else None
    except InputError:
        return Counter({"lost": 1})
    log = folder / "log.jsonl"
    steps = log.read_bytes().count(b'"terms"') if log.exists() else 0
    saved = found.state["step"] if found else 0
    return Counter({"torn": len(found.damaged) if found else 0, "lost": int(saved < steps - 1)})


def compare_training(folder: Path, whole: Path) -> Counter:
    """Weights, best weights, pictures, log and names of files are those of the uninterrupted run."""
    files = {path.relative_to(whole) for path in whole.rglob("*")}
    there = {path.relative_to(folder) for path in folder.rglob("*")}
    same = [path for path in files if path.suffix in (".safetensors", ".png")]
    differ = sum(path not in there or content(folder / path) != content(whole / path) for path in same)
    differ += told(folder) != told(whole)
    return Counter(
        {
            "lost": len(files - there),
            "left lying about": len(there - files),
            "different from an uninterrupted run": differ,
        }
    )


def content(file: Path) -> tuple[object, bytes]:
    """A file's bytes; of safetensors the header as a table, because the order of what is in it is random."""
    data = file.read_bytes()
    if file.suffix != ".safetensors":
        return None, data
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def told(folder: Path) -> list[dict[str, object]]:
    """The log without what depends on the clock."""
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [{k: v for k, v in record.items() if k not in ("images_per_s", "loading_share")} for record in records]


def main(*which: str) -> list[dict[str, object]]:
    """Both campaigns, or those that are named."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        make_photos(place / "photos", 30, 96, KINDS)
        make_photos(place / "data/train", 6, 80, ("png",))
        make_photos(place / "data/val", 3, 80, ("png",))
        mask = Image.new("L", (96, 96))
        mask.paste(255, (30, 30, 70, 60))
        mask.save(place / "mask.png")
        config = ModelConfig("unet", {"width": 4})
        weights = str(save_weights(place / "small.safetensors", build(config), config))

        def fill(out: Path) -> list[str]:
            how = ["--mask", str(place / "mask.png"), "--weights", weights, "--workers", "3", "--fill", "network"]
            return ["inpaint", str(place / "photos"), *how, "-o", str(out)]

        def train(out: Path) -> list[str]:
            changes = [part for key, value in SET.items() for part in ("--set", f"{key}={value}")]
            return ["train", "unet-cicm-toy", "--data", str(place / "data"), "--output", str(out), *changes]

        import lightning_fabric  # noqa: F401  # before the forks

        import cicm.folders.engine
        import cicm.inference
        import cicm.training.loop  # noqa: F401

        campaigns = {
            "folder": (fill, check_photos, compare_photos),
            "training": (train, check_training, compare_training),
        }
        return [campaign(what, *campaigns[what], place) for what in which or campaigns]


if __name__ == "__main__":
    for row in main(*sys.argv[1:]):
        print(json.dumps(row))
