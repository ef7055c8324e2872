"""The common beginning of all arms: a UNet, trained on crops of street frames and scenes, whose sites hold content.

python -m experiments.claim_base --data DATA --out runs/claim --seed 0 [--steps 1500] [--primed 600]      (resumable)

First the plain network. Nothing asks its low maps to say what a whole photo shows, and its decoder hardly looks at
them: no memory could help there. So in the second part half of the pictures get, in their missing cells, the features
that the whole photo has at one of the sites; encoder and decoder learn from both halves. All arms begin there, also
those without a memory.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cicm.files import atomic
from cicm.networks import InpaintingNetwork, create
from cicm.objectives import reconstruction
from cicm.ops import missing_share
from experiments.claim_data import TRAIN, as_images, corner, crop, painted, singles, street

BATCH, RATE, SCENES = 8, 2e-3, 1500

PRIMED = {"bottom": 0.2, "up3": 0.6, "up2": 0.2}
"""How often which site is given the whole photos' features in the second part."""


class Enough(Exception):
    """The site was reached; the rest of the network is not needed."""


def features_at(network: InpaintingNetwork, site: str, image: Tensor, hole: Tensor | None = None) -> Tensor:
    """(B, C, h, w): what the network has at a site, of whole pictures, or of damaged ones."""
    found = []
    hole = torch.zeros_like(image[:, :1]) if hole is None else hole

    def edit(name: str, features: Tensor) -> Tensor:
        if name == site:
            found.append(features)
            raise Enough
        return features

    with suppress(Enough), torch.autocast("cpu", dtype=torch.bfloat16):
        network(image * (1 - hole), hole, edit=edit)
    return found[0].float()


def given(network: InpaintingNetwork, site: str, image: Tensor, hole: Tensor, which: Tensor) -> Tensor:
    """The prediction where the pictures `which` (B,) bool have the whole photo's features in their missing cells."""
    true = features_at(network, site, image[which])

    def edit(name: str, features: Tensor) -> Tensor:
        if name != site:
            return features
        wide = features.float()
        share = missing_share(hole[which], (features.shape[-2], features.shape[-1]))
        mixed = wide[which] + share * (true - wide[which])
        return wide.index_copy(0, which.nonzero()[:, 0], mixed).to(features.dtype)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        return network(image * (1 - hole), hole, edit=edit).image.float()


def plain(width: int = 16) -> InpaintingNetwork:
    """The network of all arms."""
    return create("unet", width=width, start="smooth", padding="replicate")


def rate_at(step: int, steps: int, rate: float, warmup: int = 50) -> float:
    """Warm-up, then half a cosine down to a hundredth."""
    return rate * min(1.0, (step + 1) / warmup) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def follow(slow: nn.Module, fast: nn.Module, step: int, keep: float = 0.99) -> None:
    """Averaged weights: one step of a moving mean, shorter at the beginning."""
    share = max(1 - keep, 1 / (step + 2))
    with torch.no_grad():
        for a, b in zip(slow.parameters(), fast.parameters(), strict=True):
            a.lerp_(b, share)


def train(data: Path, out: Path, seed: int, plain_steps: int, primed_steps: int) -> None:
    steps = plain_steps + primed_steps
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    network = plain()
    averaged = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, betas=(0.9, 0.99))
    saved, done, seconds = out / f"base-{seed}.pt", 0, 0.0
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        network.load_state_dict(state["network"])
        averaged.load_state_dict(state["averaged"])
        if state["step"] >= steps:
            return
        optimizer.load_state_dict(state["optimizer"])
        done = state["step"]
    frames = [f for name, all_of in street(data / "street").items() if name in TRAIN for f in all_of]
    scenes = singles(data / "scenes" / "train", SCENES)
    log = (out / f"base-{seed}.jsonl").open("a")
    for step in range(done, steps):
        started = time.perf_counter()
        rng = np.random.default_rng((seed, step))
        crops = []
        for index in range(BATCH):
            photos = frames if index % 2 else scenes
            photo = photos[int(rng.integers(len(photos)))]
            one = crop(photo, corner(photo.shape, rng))
            crops.append(one[:, ::-1] if rng.random() < 0.5 else one)
        image, hole = as_images(crops), painted(BATCH, rng)
        primed = step >= plain_steps
        rate = rate_at(step, plain_steps, RATE)
        if primed:
            rate = rate_at(step - plain_steps, primed_steps, RATE / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        which = torch.arange(BATCH) % 4 >= 2 if primed else torch.zeros(BATCH, dtype=torch.bool)
        site = str(rng.choice(list(PRIMED), p=list(PRIMED.values())))
        if primed:
            prediction = given(network, site, image, hole, which)
        else:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                prediction = network(image * (1 - hole), hole).image.float()
        loss = reconstruction(prediction, image, hole, norm="log")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        follow(averaged, network, step)
        seconds += time.perf_counter() - started
        if (step + 1) % 50 == 0 or step + 1 == steps:
            record = {"step": step + 1, "loss": round(loss.item(), 4), "seconds": round(seconds / (step + 1 - done), 3)}
            if primed:
                with torch.no_grad():
                    for name in PRIMED:
                        ideal = given(network, name, image, hole, torch.ones(BATCH, dtype=torch.bool))
                        record[name] = round(reconstruction(ideal, image, hole, norm="log").item(), 4)
                    alone = network(image * (1 - hole), hole).image
                    record["alone"] = round(reconstruction(alone, image, hole, norm="log").item(), 4)
            log.write(json.dumps(record) + "\n")
            log.flush()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            with atomic(saved) as part:
                state = {"network": network.state_dict(), "averaged": averaged.state_dict(), "step": step + 1}
                torch.save(state | {"optimizer": optimizer.state_dict()}, part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--primed", type=int, default=600)
    options = parser.parse_args()
    train(options.data, options.out, options.seed, options.steps, options.primed)


if __name__ == "__main__":
    main()
