"""Which index finds the photos that show the same place as a damaged photo?

python -m experiments.album_index --frames street/test/image --sequence Seq05VD --others scenes/train --masks masks \
    [--every 4] [--count 5000] [--cache FILE.npz] -o results/album-index.md

Each frame of the sequence is damaged in turn. The index holds all other frames and `--count` other photos. A look-up is
right where one of the first four photos is a frame within one second (a neighbour in the sequence). The frame itself is
left out. One thread; seconds are of that thread.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cicm.assembly import MemoryInpainter, load_weights
from cicm.exemplar.album import Album, Entry, in_sets, regions_of
from cicm.files import write_atomic
from cicm.memory import ContextMemory
from cicm.memory.visit import look_up
from cicm.photos.headers import find_images
from cicm.photos.photo import read_image
from experiments.aligned import HOLES, hole_for

FIRST, SECOND = 4, 31
"""Photos that are looked at; frames in a second, by the numbers in their names."""

SIDE = 128
"""Side of the square that the network sees of a photo."""

TEMPERATURE = 0.1
"""Of Eq. 4, where the photos themselves are read as contexts."""


class _Enough(Exception):
    """The memory was read; the rest of the network is not needed."""


def contexts_of(model: MemoryInpainter, picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """(L * K,) how much the known regions of a photo read from each context (Eq. 1, 4); they sum to 1."""
    memory = model.memories["bottom"]
    assert isinstance(memory, ContextMemory)
    seen = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BILINEAR)).astype(np.float32) / 255
    part = np.asarray(Image.fromarray(hole.astype(np.uint8) * 255).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) > 0
    image, gone = torch.from_numpy(seen).movedim(-1, 0)[None], torch.from_numpy(part).float()[None, None]
    reads = []

    def edit(site: str, features: torch.Tensor) -> torch.Tensor:
        if site == "bottom":
            reads.append(look_up(memory, features, gone))
            raise _Enough
        return features

    with suppress(_Enough), torch.inference_mode():
        model.network(image * (1 - gone), gone, edit=edit)
    known = 1 - torch.nn.functional.adaptive_avg_pool2d(gone, reads[0].features.shape[-2:]).flatten()
    total = torch.zeros(memory.config.sets, memory.config.contexts)
    total.index_add_(0, reads[0].sets, reads[0].weights * known[:, None])
    return (total / total.sum().clamp_min(1e-6)).flatten().numpy()


def in_one_colour(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The photo with its hole filled by the mean colour."""
    seen = picture.copy()
    seen[hole] = picture[~hole].mean(0).round().astype(np.uint8)
    return seen


def described(files: list[Path], model: MemoryInpainter, cache: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """(N, 9, C) float16 regions of whole photos, and (N, L * K) what the network's memory says of them."""
    if cache and cache.is_file():
        with np.load(cache) as stored:
            if stored["names"].tolist() == [file.name for file in files]:
                return stored["regions"], stored["contexts"]
    regions, contexts = [], []
    for number, file in enumerate(files):
        picture = read_image(file)
        whole = np.zeros(picture.shape[:2], dtype=bool)
        regions.append(regions_of(picture, whole)[0].astype(np.float16))
        contexts.append(contexts_of(model, picture, whole))
        if number % 500 == 0:
            print(f"{number} of {len(files)} photos", flush=True)
    if cache:
        names = np.array([file.name for file in files])
        np.savez(cache, regions=np.stack(regions), contexts=np.stack(contexts), names=names)
    return np.stack(regions), np.stack(contexts)


def number_of(file: Path) -> int:
    return int(file.stem.split("_")[-1].lstrip("f"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("frames", "others", "masks"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--sequence", required=True)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    frames, others = find_images(options.frames), find_images(options.others)
    chosen = sorted(np.random.default_rng(0).permutation(len(others))[: options.count])
    files = frames + [others[index] for index in chosen]
    model = load_weights().model
    regions, contexts = described(files, model, options.cache)
    whole = regions.astype(np.float32)
    started = time.process_time()
    anchors, sets = in_sets(regions)
    seconds_sets = time.process_time() - started
    album = Album(Path(), tuple(Entry(f.name, str(n)) for n, f in enumerate(files)), regions, anchors, sets)
    middle = whole.mean(1)
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    profiles = contexts / np.linalg.norm(contexts, axis=1, keepdims=True)

    queries = [file for file in frames if file.name.startswith(options.sequence)][:: options.every]
    hits: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    seconds, visited = defaultdict(list), []
    seen_in: list[float] = []
    for kind in HOLES:
        rng = np.random.default_rng(1)
        for file in queries:
            picture, own = read_image(file), files.index(file)
            hole = hole_for(kind, picture.shape[:2], options.masks, rng)
            right = {
                n
                for n, f in enumerate(frames)
                if n != own and f.name.startswith(options.sequence) and abs(number_of(f) - number_of(file)) <= SECOND
            }

            def count(name: str, scores: np.ndarray, began: float, own=own, right=right, kind=kind) -> None:
                scores = scores.copy()
                scores[own] = -np.inf
                first = np.argsort(-scores, kind="stable")[:FIRST]
                seconds[name].append(time.process_time() - began)
                hits[name][kind].append(bool(right & set(first.tolist())))

            def by_regions(found: np.ndarray, near: np.ndarray | slice = slice(None)) -> np.ndarray:
                return np.einsum("mrc,rc->mr", regions[near].astype(np.float32), found)

            began = time.process_time()
            found, known = regions_of(picture, hole)
            seen_in.append(time.process_time() - began)
            weight = known / known.sum()
            began = time.process_time()
            near = album.candidates(found, known)
            scores = np.full(len(files), -np.inf)
            scores[near] = by_regions(found, near) @ weight
            count("**sets (Eq. 1), then regions: what ships**", scores, began)
            visited.append(len(near) / len(files))
            began = time.process_time()
            alike = by_regions(found)
            count("all photos, regions", alike @ weight, began)
            began = time.process_time()
            read = np.exp((by_regions(found) - 1) / TEMPERATURE)
            count("all photos, read by Eq. 4", (read / read.sum(0)) @ weight, began)
            plain, _ = regions_of(in_one_colour(picture, hole), np.zeros_like(hole))
            began = time.process_time()
            count("all photos, regions; hole in one colour, all regions alike", by_regions(plain).mean(1), began)
            mean = weight @ found
            began = time.process_time()
            count("all photos, one mean", middle @ mean, began)
            asked = contexts_of(model, picture, hole)
            began = time.process_time()
            count("the network's own memory, how much is read from each context", profiles @ asked, began)
        print(kind, {name: round(float(np.mean(of[kind])), 3) for name, of in hits.items()}, flush=True)

    lines = [
        f"{len(files)} photos ({len(frames)} street frames), {len(queries)} damaged frames of {options.sequence}, "
        f"holes of {len(HOLES)} kinds; {len(anchors)} sets, made in {seconds_sets:.1f} s.",
        "",
        "| index | " + " | ".join(HOLES) + " | seconds a look-up |",
        "|---|" + "---|" * (len(HOLES) + 1),
    ]
    for name, of in hits.items():
        cells = " | ".join(f"{np.mean(of[kind]):.2f}" for kind in HOLES)
        lines.append(f"| {name} | {cells} | {np.median(seconds[name]):.3f} |")
    lines += [
        "",
        f"The sets compare {100 * np.mean(visited):.0f} % of the photos. To see the damaged photo takes "
        f"{np.median(seen_in):.2f} s more, whatever the index.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.output:
        write_atomic(options.output, text, overwrite=True)


if __name__ == "__main__":
    main()
