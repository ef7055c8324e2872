"""Does an album of one's own photos help? Repairs of held-back photos of the same kind, nothing trained but where said.

python -m experiments.album --photos faces/train --wrong street/train/image --images faces/test --masks MASKS -o OUT.md

Rows, all on the weights that ship, against their own memory, on the same holes:

- `off`: no memory; `constant`: every region gets the mean of the album; `shuffled`: that of another region.
- `album of N`: a new memory of N of the photos, evenly spaced; `extended`: all photos added to the model's own memory;
  `wrong kind`: an album of 32 photos of another kind.
- `larger`, `colder`: four times the contexts, of 32 photos; a temperature of 0.03 in place of 0.1.
- `oracle`: the features of the whole photo itself at the true ratio, which is more than any album can know.
- `memory by gradient`, `network by gradient`: so many steps on the photos, of the memory's vectors with the network
  frozen, or of the network; no album, but what else the same photos can be used for.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cicm.assembly import MemoryInpainter, load_weights
from cicm.assembly.album import Album, with_album
from cicm.data import PairedPhotos
from cicm.data.datasets import TrainingPhotos
from cicm.data.generators import HoleGenerator
from cicm.data.pair_lists import pairs_hash
from cicm.data.pairs import make_pairs
from cicm.evaluation.intervals import interval
from cicm.inference.remember import remember
from cicm.memory import augment
from cicm.memory.controls import create
from cicm.metrics import to_8bit
from cicm.metrics.psnr import psnr
from cicm.metrics.squeeze import load_squeeze_features
from cicm.metrics.sqz_distance import sqz_distance
from cicm.ops import as_map, as_regions, composite, missing_share
from cicm.photos.headers import find_images

SITE, SIDE, BATCH = "bottom", 128, 6
FEW = 32
"""Photos of the albums of the wrong kind and of the larger size."""
Fill = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(image, corrupted, hole) -> composite; only the oracle looks at the image."""


def plain(model: MemoryInpainter) -> Fill:
    return lambda image, corrupted, hole: model(corrupted, hole).composite


def edited(model: MemoryInpainter, change: Callable[[Tensor, Tensor, Tensor], Tensor], knowing: bool = False) -> Fill:
    """The network with another edit at its site: (features, those of the whole photo, missing share) -> features.

    Args:
        knowing: the edit looks at the features of the whole photo.
    """

    def fill(image: Tensor, corrupted: Tensor, hole: Tensor) -> Tensor:
        kept: list[Tensor] = []

        def keep(site: str, features: Tensor) -> Tensor:
            if site == SITE:
                kept.append(features)
            return features

        if knowing:
            model.network(image, torch.zeros_like(hole), edit=keep)

        def edit(site: str, features: Tensor) -> Tensor:
            if site != SITE:
                return features
            share = missing_share(hole, (features.shape[-2], features.shape[-1])).reshape(-1)
            return change(features, kept[0] if knowing else features, share)

        return composite(model.network(corrupted, hole, edit=edit).image, corrupted, hole)

    return fill


def controls(model: MemoryInpainter, album: Album) -> dict[str, Fill]:
    filled = with_album(model, album)
    memory = filled.memories[SITE]
    center = memory.state.center()  # type: ignore[union-attr,operator]
    generator = torch.Generator().manual_seed(0)

    def blend(features: Tensor, context: Tensor, ratio: Tensor) -> Tensor:
        return as_map(augment(as_regions(features), context, ratio), features)

    def constant(features: Tensor, whole: Tensor, share: Tensor) -> Tensor:
        return blend(features, center.expand(len(share), -1), memory.read(features).ratio)  # type: ignore[operator]

    def shuffled(features: Tensor, whole: Tensor, share: Tensor) -> Tensor:
        read = memory.read(features)  # type: ignore[operator]
        return blend(features, read.context[torch.randperm(len(share), generator=generator)], read.ratio)

    return {
        "off": edited(model, lambda f, whole, share: f),
        "constant": edited(model, constant),
        "shuffled": edited(model, shuffled),
        "oracle": edited(model, lambda f, whole, share: blend(f, as_regions(whole), share), knowing=True),
    }


def by_gradient(model: MemoryInpainter, paths: Sequence[Path], what: str, steps: int) -> MemoryInpainter:
    """Steps of Adam on the logarithm of the squared error in the hole; rates chosen on validation photos."""
    model = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if what == "memory":
        memory = model.memories[SITE]
        table = create(memory.channels, replace(memory.config, kind="table"))  # type: ignore[arg-type,type-var]
        table.load_state_dict(memory.state_dict())
        model.memories[SITE] = table
        learned, rate = list(table.parameters()), 0.1
    else:
        learned, rate = list(model.network.parameters()), 1e-4
    for parameter in learned:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(learned, lr=rate)
    photos = TrainingPhotos(paths, SIDE, HoleGenerator(), native=0.0, scale=(0.0, 0.75), small="enlarge")
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 5) * (1 - step / steps)
        samples = [photos[step, int(i)] for i in torch.randint(len(photos), (8,), generator=generator)]
        image = torch.stack([s["image"] for s in samples])
        hole = torch.stack([s["hole"] for s in samples])
        error = (model(image * (1 - hole), hole).prediction.image - image).square().mul(hole).mean((1, 2, 3))
        optimizer.zero_grad()
        torch.log10(error + 1e-5).mul(10).mean().backward()
        torch.nn.utils.clip_grad_norm_(learned, 10.0)
        optimizer.step()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("photos", "wrong", "images", "masks"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs="*", default=[8, 32, 128], help="sizes of smaller albums")
    parser.add_argument("--most", type=int, default=0, help="photos of an album at most, evenly spaced; 0 is all")
    parser.add_argument("--limit", type=int, default=46, help="photos to repair, each in three bands")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("-o", "--output", type=Path, required=True, help=".md; the scores go beside it as .json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_weights().model

    def spaced(paths: Sequence[Path], count: int) -> list[Path]:
        return [paths[i * len(paths) // count] for i in range(count)] if 0 < count < len(paths) else list(paths)

    every = spaced(find_images(options.photos), options.most)
    seconds: dict[str, float] = {}

    def album(name: str, paths: Sequence[Path], **settings) -> Album:
        started = time.process_time()
        made = remember(model, paths, **settings).album
        seconds[name] = time.process_time() - started
        print(f"{name}: {made.facts.photos} photos, {made.facts.regions} regions, {seconds[name]:.0f} s", flush=True)
        return made

    whole = album(f"album of {len(every)}", every)
    others = spaced(find_images(options.wrong), FEW)
    state = whole.pages[SITE]
    cold = replace(whole, pages={SITE: replace(state, config=replace(state.config, temperature=0.03))})
    albums = {f"album of {n}": album(f"album of {n}", spaced(every, n)) for n in options.counts if n < len(every)}
    albums[f"album of {len(every)}"] = whole
    albums["extended"] = album("extended", every, extend=True)
    albums[f"wrong kind, {len(others)}"] = album("wrong kind", others)
    few = spaced(every, FEW)
    albums[f"larger, of {len(few)}"] = album("larger", few, sets=26, contexts=80)
    albums["colder"] = cold
    rows: dict[str, Fill] = {"own memory": plain(model), **controls(model, whole)}
    rows |= {name: plain(with_album(model, one)) for name, one in albums.items()}
    for what in ("memory", "network") if options.steps else ():
        started = time.process_time()
        rows[f"{what} by gradient, {options.steps} steps"] = plain(by_gradient(model, every, what, options.steps))
        print(f"{what} by gradient: {time.process_time() - started:.0f} s", flush=True)

    chosen = spaced(find_images(options.images), options.limit)
    pairs = make_pairs(options.images, options.masks, seed=1, sizes=(SIDE,), photos=chosen)
    photos = PairedPhotos(pairs, options.images, options.masks, fit="reduce")
    squeeze = load_squeeze_features()
    scores: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    bands = list(dict.fromkeys(pair.band for pair in pairs))
    with torch.inference_mode():
        for band in bands:
            places = [i for i, pair in enumerate(pairs) if pair.band == band]
            for start in range(0, len(places), BATCH):
                samples = [photos[i] for i in places[start : start + BATCH]]
                image, hole = (torch.stack([s[key] for s in samples]) for key in ("image", "hole"))  # type: ignore[literal-required]
                for name, fill in rows.items():
                    result = to_8bit(fill(image, image * (1 - hole), hole))
                    scores[name][band]["psnr"] += psnr(result, to_8bit(image)).tolist()
                    scores[name][band]["sqz"] += sqz_distance(result, image, squeeze).tolist()
            print(f"band {band} done", flush=True)
    options.output.with_suffix(".json").write_text(
        json.dumps({"pairs": pairs_hash(pairs), "seconds_of_cpu": seconds, "scores": scores}, indent=1) + "\n"
    )
    text = table(scores, bands)
    options.output.write_text(text)
    print(text)


def table(scores: dict, bands: Sequence[str]) -> str:
    """Own memory as it is, then each row's difference to it with its interval; an asterisk where that excludes 0."""
    lines = []
    for metric, title, unit in (
        ("psnr", "PSNR in dB, more is better", 3),
        ("sqz", "sqz-distance x 1000, less is better", 2),
    ):
        factor = 1000 if metric == "sqz" else 1
        lines += [f"{title}:", "", "| |" + "".join(f" {band} % |" for band in bands), "|---|" + "---|" * len(bands)]
        base = {band: factor * np.array(scores["own memory"][band][metric]) for band in bands}
        lines.append("| own memory |" + "".join(f" {base[band].mean():.{unit - 1}f} |" for band in bands))
        for name in scores:
            if name == "own memory":
                continue
            cells = []
            for band in bands:
                change = factor * np.array(scores[name][band][metric]) - base[band]
                low, high = interval(change) or (np.nan, np.nan)
                star = " *" if low > 0 or high < 0 else ""
                cells.append(f" {change.mean():+.{unit}f} [{low:+.{unit}f}, {high:+.{unit}f}]{star} |")
            lines.append(f"| {name} |" + "".join(cells))
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
