"""What a trained memory does, by taking its parts away or replacing them by the truth.

python -m experiments.analyse_memory [WEIGHTS] --images PHOTOS --masks MASKS --pairs LIST.csv -o OUT.md

Each row changes what the decoder gets from the memory, and nothing is trained again:

- as trained; `off` (ratio 0); `true ratio` (the missing share); `ratio 1` everywhere.
- `zero map`: the whole map of the site is 0; what the memory is worth beyond hiding the map from the decoder.
- `mean of all`: every region gets the same context, the memory's centre.
- `shuffled`: each region gets the context of another one, at its own ratio.
- `oracle routing`: set and weights are looked up with the features of the whole photo.
- `oracle context`: the context is the feature of the whole photo itself, at the true ratio.

The second table asks whether the context is nearer than the damaged region to the feature of the whole photo.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor

from cicm.assembly import load_weights
from cicm.data import PairedPhotos, read_pairs
from cicm.memory import ContextMemory, MemoryRead, augment, read_fast, route
from cicm.metrics import to_8bit
from cicm.metrics.psnr import psnr
from cicm.networks import Edit
from cicm.ops import as_map, as_regions, composite, missing_share

ROWS = (
    "as trained", "off", "zero map", "true ratio", "ratio 1", "mean of all", "shuffled", "oracle routing",
    "oracle context",
)  # fmt: skip


def edits(memory: ContextMemory, site: str, clean: Tensor, share: Tensor, order: Tensor) -> dict[str, Edit]:
    """One edit of the memory's site for each row; `clean` are the features of the whole photo there."""
    state = memory.state.detached()
    look = {"kind": memory.config.similarity, "center": state.center()}
    mixing = {"temperature": memory.config.temperature, "top": memory.config.read_top}
    known = as_regions(clean)

    def blend(features: Tensor, context: Tensor, ratio: Tensor) -> Tensor:
        return as_map(augment(as_regions(features), context, ratio, blend=memory.config.blend), features)

    def oracle(features: Tensor) -> Tensor:
        return read_fast(known, route(known, state.anchors, **look), state.contexts, **mixing, **look)[0]

    def read(features: Tensor) -> MemoryRead:
        return memory.read(features)

    changes = {
        "as trained": lambda f: read(f).features,
        "off": lambda f: f,
        "zero map": torch.zeros_like,
        "true ratio": lambda f: blend(f, read(f).context, share),
        "ratio 1": lambda f: blend(f, read(f).context, torch.ones_like(share)),
        "mean of all": lambda f: blend(f, state.center().expand_as(known), read(f).ratio),
        "shuffled": lambda f: blend(f, read(f).context[order], read(f).ratio),
        "oracle routing": lambda f: blend(f, oracle(f), read(f).ratio),
        "oracle context": lambda f: blend(f, known, share),
    }
    return {name: lambda place, f, change=change: change(f) if place == site else f for name, change in changes.items()}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", type=Path, help="default: those that ship")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=300, help="holes, drawn from the list")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    model = load_weights(options.weights).model
    pairs = read_pairs(options.pairs)
    generator = torch.Generator().manual_seed(0)
    pairs = [pairs[i] for i in sorted(torch.randperm(len(pairs), generator=generator)[: options.limit].tolist())]
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    nearness: dict[tuple[str, str], list[float]] = defaultdict(list)
    site, memory = next(iter(model.memories.items()))
    photos = PairedPhotos(pairs, options.images, options.masks)
    for index, pair in enumerate(pairs):
        sample = photos[index]
        image, hole = sample["image"][None], sample["hole"][None]
        corrupted = image * (1 - hole)
        kept: dict[str, Tensor] = {}

        def keep(place: str, features: Tensor, kept: dict[str, Tensor] = kept) -> Tensor:
            if place == site:
                kept["clean"] = features
            return features

        model.network(image, torch.zeros_like(hole), edit=keep)
        share = missing_share(hole, tuple(kept["clean"].shape[-2:])).reshape(-1)
        order = torch.randperm(len(share), generator=generator)
        for name, edit in edits(memory, site, kept["clean"], share, order).items():
            result = composite(model.network(corrupted, hole, edit=edit).image, corrupted, hole)
            scores[pair.band, name].append(psnr(to_8bit(result), to_8bit(image)).item())
        found = model(corrupted, hole).reads[site][0]
        known, damaged = as_regions(kept["clean"]), share > 0.5
        if damaged.any():
            for name, value in (("region", found.regions), ("context", found.context)):
                error = (value - known)[damaged].square().sum(-1).mean() / known[damaged].square().sum(-1).mean()
                nearness[pair.band, name].append(error.item())
            nearness[pair.band, "ratio where most is missing"].append(found.ratio[damaged].mean().item())
        if (share == 0).any():
            nearness[pair.band, "ratio where nothing is missing"].append(found.ratio[share == 0].mean().item())
    bands = list(dict.fromkeys(pair.band for pair in pairs))
    lines = [f"# What the memory at `{site}` does", "", f"{len(pairs)} holes of {options.pairs.name}; PSNR in dB.", ""]
    lines += ["| |" + "".join(f" {band} % |" for band in bands), "|---|" + "---|" * len(bands)]
    for name in ROWS:
        means = [sum(scores[band, name]) / len(scores[band, name]) for band in bands]
        lines.append(f"| {name} |" + "".join(f" {value:.2f} |" for value in means))
    lines += [
        "",
        "Squared distance to the feature of the whole photo, over that feature's own square, where more than half",
    ]
    lines += ["of a cell is missing; and the mean of the estimated ratio.", ""]
    lines += ["| |" + "".join(f" {band} % |" for band in bands), "|---|" + "---|" * len(bands)]
    for name in ("region", "context", "ratio where most is missing", "ratio where nothing is missing"):
        values = [nearness[band, name] for band in bands]
        lines.append(f"| {name} |" + "".join(f" {sum(v) / len(v):.3f} |" for v in values))
    text = "\n".join(lines) + "\n"
    print(text)
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
