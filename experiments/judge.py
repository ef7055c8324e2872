"""Can a freshly trained classifier tell a filled place from a photo? For each way to fill, on photos it never saw.

    python -m experiments.judge --fills runs/joiner-fills --cases runs/joining --seeds 3 [-o OUT.md]

`--fills` is what `experiments.joiner fills` made of the training photos, `--cases` the cache of `experiments.joining`
on test photos. For each way a small network learns from windows of 64x64 around deep missing pixels, one filled and
one of the photo itself, of the training photos; then it is asked about windows of the test photos. 50 % is a coin. The
same windows, the same steps and the same seeds for all ways. Nothing here was used to train a joiner.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.evaluation.intervals import interval
from cicm.files import evenly_spaced, write_atomic
from experiments.joiner import load
from experiments.joining import RULES, Case

SIDE, DEEP = 64, 6.0

WINDOWS = 3
"""Of each hole."""

Pair = tuple[np.ndarray, np.ndarray]


def windows(case: Case) -> list[tuple[int, int]]:
    """Upper left corners around missing pixels that lie deep, or as deep as there are."""
    deep = distance_transform_edt(case.hole)
    rows, columns = np.nonzero(deep >= min(DEEP, float(deep.max())))
    rng = np.random.default_rng(zlib.crc32(f"{case.band}-{case.name}".encode()))
    picked = rng.integers(0, len(rows), WINDOWS)
    bounds = [size - SIDE for size in case.hole.shape]
    return [
        (min(max(int(rows[k]) - SIDE // 2, 0), bounds[0]), min(max(int(columns[k]) - SIDE // 2, 0), bounds[1]))
        for k in picked
    ]


def pairs_of(case: Case, filled: np.ndarray) -> list[Pair]:
    """Windows (SIDE, SIDE, 3) uint8, filled and true."""
    filled, true = (np.rint(picture * 255).clip(0, 255).astype(np.uint8) for picture in (filled, case.image))
    return [
        (filled[y : y + SIDE, x : x + SIDE].copy(), true[y : y + SIDE, x : x + SIDE].copy()) for y, x in windows(case)
    ]


def training_case(path: Path) -> Case:
    kept = load(path)
    image, network, patches = (kept[name].astype(np.float32) / 255 for name in ("image", "network", "patches"))
    return Case(path.stem, "training", image, kept["hole"], network, patches[0])


def stored_case(path: Path) -> Case:
    with np.load(path) as kept:
        pictures = [kept[name].astype(np.float32) / 255 for name in ("image", "network", "patches")]
        return Case(
            path.stem,
            "object" if path.stem.startswith("object") else "bands",
            *pictures[:1],
            kept["hole"],
            *pictures[1:],
        )


class Classifier(nn.Sequential):
    """(B, 3, 64, 64) in [-1, 1] -> (B,) logits, above 0 for filled."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inside, outside in ((3, 24), (24, 48), (48, 64), (64, 96)):
            layers += [nn.Conv2d(inside, outside, 4, 2, 1), nn.GroupNorm(4, outside), nn.LeakyReLU(0.1)]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 1), nn.Flatten(0))


def tensor(pictures: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def learn(pairs: list[Pair], seed: int, steps: int) -> Classifier:
    torch.manual_seed(seed)
    model, rng = Classifier(), np.random.default_rng(seed)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / steps)
        picked = [pairs[k] for k in rng.integers(0, len(pairs), 24)]
        seen = tensor([one for pair in picked for one in pair])
        if rng.random() < 0.5:
            seen = seen.flip(-1)
        asked = torch.tensor([1.0, 0.0]).repeat(len(picked))
        loss = F.binary_cross_entropy_with_logits(model(seen), asked)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def accuracy(model: Classifier, pairs: list[Pair]) -> np.ndarray:
    """(N,) 0, 0.5 or 1: how many of a pair's two windows were named right."""
    with torch.inference_mode():
        filled, true = (model(tensor([pair[side] for pair in pairs])) for side in (0, 1))
    return ((filled > 0).float() + (true <= 0).float()).numpy() / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fills", type=Path, required=True)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=600)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    crops = evenly_spaced(sorted(options.fills.glob("*.npz")), options.crops)
    tests = sorted(options.cases.glob("*.npz"))
    lines = ["| | holes from mask files | objects |", "|---|---|---|"]
    for name, rule in RULES.items():
        rule_: Callable[[Case], np.ndarray] = rule
        taught = [pair for path in crops for case in [training_case(path)] for pair in pairs_of(case, rule_(case))]
        asked: dict[str, list[Pair]] = {"bands": [], "object": []}
        for path in tests:
            case = stored_case(path)
            asked[case.band] += pairs_of(case, rule_(case))
        models = [learn(taught, seed, options.steps) for seed in range(options.seeds)]
        cells = []
        for pairs in asked.values():
            right = np.mean([accuracy(model, pairs) for model in models], 0).reshape(-1, WINDOWS).mean(1) * 100
            low, high = interval(right) or (0.0, 0.0)
            cells.append(f"{right.mean():.0f} % [{low:.0f}, {high:.0f}]")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    if options.output:
        write_atomic(options.output, "\n".join(lines) + "\n", overwrite=True)


if __name__ == "__main__":
    main()
