"""Train the network that joins a network's fill with fills of real pixels (`cicm.exemplar.joining`).

    python -m experiments.joiner fills --photos PHOTOS --out runs/joiner-fills            (once; resumable)
    python -m experiments.joiner train --fills runs/joiner-fills --out runs/joiner        (resumable)
    python -m experiments.joiner ship --from runs/joiner/step-600.pt    (writes the averaged weights into the package)

`fills` makes what the joiner sees: for crops of 256x256 of the training photos and holes of seeded generators (bands
0 to 60 percent, and compact ones as of objects), the fill of the weights that ship and two fills of PatchMatch.
One file for each crop, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from cicm.exemplar.joining import BLOCKS, CORRECTION, DEPTH, MULTIPLE, SIGMAS, SLOPE, SMOOTH, STRIDES
from cicm.exemplar.joining import WEIGHTS as WEIGHTS_FILE
from cicm.files import atomic
from cicm.metrics.squeeze import SqueezeFeatures, load_squeeze_features
from cicm.metrics.sqz_distance import map_distance

SIDE = 256

PART = 128
"""Side of what one step of training sees of a crop, around a missing pixel."""

WEIGHTS = {"error": 1.0, "distance": 4.0, "dull": 1.5, "judge": 0.0}

WIDE = 14.0
"""Half of the crops of a batch have a hole that is so deep, in pixels."""


class Joiner(nn.Module):
    """The joiner in torch, to train it; `cicm.exemplar.joining.Joiner` computes the same in NumPy.

    Args:
        widths: channels at 1/2, 1/4 and 1/8 of the size.
    """

    def __init__(self, widths: tuple[int, int, int] = (24, 32, 48)) -> None:
        super().__init__()
        first, second, third = widths
        inside = {"down1": 32, "down2": first, "down3": second, "bottom": third}
        inside |= {"up2": third + second, "up1": second + first}
        outside = {"down1": first, "down2": second, "down3": third, "bottom": third, "up2": second, "up1": first}
        for name in BLOCKS:
            block = nn.Sequential(
                nn.Conv2d(inside[name], outside[name], 3, STRIDES.get(name, 1), 1),
                nn.LeakyReLU(SLOPE),
                nn.Conv2d(outside[name], outside[name], 3, 1, 1),
                nn.LeakyReLU(SLOPE),
            )
            self.add_module(name, block)
        self.head = nn.Conv2d(first, 24, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # it begins as the mean of both fills

    def forward(self, network: Tensor, patches: Tensor, hole: Tensor, depth: Tensor) -> Tensor:
        """(B, 3, H, W), (B, 3, H, W), (B, 1, H, W), (B, 1, H, W) -> (B, 3, H, W)."""
        height, width = hole.shape[-2:]
        away = (depth / DEPTH).clamp(max=1.0)
        seen = torch.cat([hole, away, network - 0.5, patches - 0.5], dim=1)
        seen = F.pixel_unshuffle(F.pad(seen, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate"), 2)
        one = self.down1(seen)
        two = self.down2(one)
        low = self.bottom(self.down3(two))
        two = self.up2(torch.cat([_twice(low), two], dim=1))
        one = self.up1(torch.cat([_twice(two), one], dim=1))
        given = F.pixel_shuffle(self.head(one), 2)[..., :height, :width]
        shares, correction = blur(torch.sigmoid(given[:, :3]), SMOOTH), CORRECTION * torch.tanh(given[:, 3:])
        difference = patches - network
        middle, low = blur(difference, SIGMAS[0]), blur(difference, SIGMAS[1])
        joined = blur(correction, SIGMAS[1]) + shares[:, :1] * (difference - middle)
        joined = joined + shares[:, 1:2] * (middle - low) + shares[:, 2:] * low
        return torch.where(hole > 0, (network + hole * joined).clamp(0.0, 1.0), network)


def blur(picture: Tensor, sigma: float) -> Tensor:
    """As `cicm.exemplar.joining.blur`, (B, C, H, W)."""
    offsets = torch.arange(-int(3 * sigma + 0.5), int(3 * sigma + 0.5) + 1, dtype=picture.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel, reach, channels = kernel / kernel.sum(), len(offsets) // 2, picture.shape[1]
    across = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    picture = F.conv2d(F.pad(picture, (reach, reach, 0, 0), mode="replicate"), across, groups=channels)
    down = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    return F.conv2d(F.pad(picture, (0, 0, reach, reach), mode="replicate"), down, groups=channels)


class Judge(nn.Module):
    """Sees a picture and its hole, and says for each place whether it looks filled; spectrally normalised."""

    def __init__(self, widths: tuple[int, ...] = (32, 48, 64, 96)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inside, outside in pairwise((4, *widths)):
            layers += [spectral_norm(nn.Conv2d(inside, outside, 4, 2, 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)))

    def forward(self, picture: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W), (B, 1, H, W) -> logits (B, 1, H/16, W/16), and the share of the hole in each of their cells."""
        logits = self.layers(torch.cat([picture * 2 - 1, hole], 1))
        return logits, F.adaptive_avg_pool2d(hole, logits.shape[-2:])


def _over_hole(values: Tensor, share: Tensor) -> Tensor:
    return (values * share).sum() / share.sum().clamp(min=1e-6)


def _twice(small: Tensor) -> Tensor:
    return F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)


def object_hole(rng: np.random.Generator, side: int = SIDE) -> np.ndarray:
    """A compact hole of 18 to 45 percent of the side: two to four ellipses that overlap."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    size = rng.uniform(0.18, 0.45) * side / 2
    centre = rng.uniform(size, side - size, 2)
    hole = np.zeros((side, side), dtype=bool)
    for _ in range(int(rng.integers(2, 5))):
        radii = size * rng.uniform(0.35, 1.0, 2)
        middle = centre + rng.uniform(-0.5, 0.5, 2) * size
        angle = rng.uniform(0, np.pi)
        u = (x - middle[1]) * np.cos(angle) + (y - middle[0]) * np.sin(angle)
        v = (y - middle[0]) * np.cos(angle) - (x - middle[1]) * np.sin(angle)
        hole |= (u / radii[0]) ** 2 + (v / radii[1]) ** 2 < 1
    return hole


def make_fills(photos: Path, out: Path, rounds: int) -> None:
    import patchmatch
    import torch

    from cicm.data import HoleGenerator
    from cicm.inference import Inpainter
    from cicm.photos import read_image

    torch.set_num_threads(1)
    inpainter = Inpainter.from_pretrained(device="cpu", fill="network")
    generator = HoleGenerator()
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(p for p in photos.iterdir() if not p.name.startswith("places-") and p.suffix == ".jpg")
    for turn in range(rounds):
        for file in files:
            target = out / f"{file.stem}-{turn}.npz"
            if target.exists():
                continue
            rng = np.random.default_rng(zlib.crc32(target.stem.encode()))
            image = read_image(file)
            if min(image.shape[:2]) < SIDE:
                continue
            top, left = (int(rng.integers(0, size - SIDE + 1)) for size in image.shape[:2])
            image = np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE])
            hole = object_hole(rng) if rng.random() < 0.3 else generator.paint(SIDE, SIDE, rng)
            seen = image.copy()
            seen[hole] = 0
            network = inpainter(seen, hole)
            patches = []
            for seed in (0, 1):
                patchmatch.set_random_seed(seed)
                patches.append(patchmatch.inpaint(seen, hole.astype(np.uint8) * 255, patch_size=3))
            part = target.with_suffix(".part")
            with part.open("wb") as stream:
                np.savez(stream, image=image, hole=np.packbits(hole), network=network, patches=np.stack(patches))
            part.rename(target)


def load(path: Path) -> dict[str, np.ndarray]:
    """What `fills` wrote for one crop, turned or not; hole and depth included."""
    with np.load(path) as kept:
        found = {name: kept[name] for name in ("image", "network", "patches")}
        found["hole"] = np.unpackbits(kept["hole"]).reshape(SIDE, SIDE).astype(bool)
    found["depth"] = distance_transform_edt(found["hole"]).astype(np.float32)
    return found


def run(joiner: Joiner, batch: dict[str, torch.Tensor]) -> Tensor:
    return joiner(batch["network"], batch["patches"], batch["hole"], batch["depth"])  # type: ignore[no-any-return]


def batch_of(paths: list[Path], rng: np.random.Generator | None) -> dict[str, torch.Tensor]:
    """Tensors of several crops; where `rng` is given a part of `PART`, mirrored or not, with either seed's patches."""
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in ("image", "network", "patches", "hole", "depth")}
    for path in paths:
        found = load(path)
        here = (slice(None), slice(None))
        if rng is not None:
            y, x = np.nonzero(found["hole"])
            middle = int(rng.integers(len(y)))
            corner = [int(np.clip(place[middle] - PART // 2, 0, SIDE - PART)) // 8 * 8 for place in (y, x)]
            here = (slice(corner[0], corner[0] + PART), slice(corner[1], corner[1] + PART))
        flip = rng is not None and rng.random() < 0.5
        swap = rng is not None and rng.random() < 0.5
        for name, value in found.items():
            array = (value[int(swap)] if name == "patches" else value)[here]
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            if name in ("hole", "depth"):
                tensor = tensor[None].float()
            else:
                tensor = tensor.movedim(-1, -3).float() / 255
            rows[name].append(tensor.flip(-1) if flip else tensor)
    return {name: torch.stack(tensors) for name, tensors in rows.items()}


def texture(picture: torch.Tensor) -> torch.Tensor:
    """How much fine and how much middle detail the luma has around each pixel, (B, 2, H, W)."""
    luma = (picture * picture.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    kernel = picture.new_tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]]).view(1, 1, 3, 3)
    fine = F.conv2d(F.pad(luma, (1, 1, 1, 1), mode="replicate"), kernel)
    middle = blur(luma, SIGMAS[0]) - blur(luma, SIGMAS[1])
    return torch.cat([F.avg_pool2d(fine.abs(), 9, 1, 4), F.avg_pool2d(middle.abs(), 17, 1, 8)], 1)


def terms(joined: Tensor, batch: dict[str, torch.Tensor], features: SqueezeFeatures) -> dict[str, torch.Tensor]:
    """Error in dB below white (negative PSNR), feature distance, and how much of the photo's detail is missing."""
    error = (joined - batch["image"]).square().mean((1, 2, 3))
    with torch.no_grad():
        true = features(batch["image"])
        detail = texture(batch["image"])
    deep = batch["hole"] * (batch["depth"] > 2)
    short = ((detail - texture(joined)).clamp(min=0) * deep).sum((2, 3)) / (detail * deep).sum((2, 3)).clamp(min=1)
    return {
        "error": 10 * torch.log10(error + 1e-5),
        "distance": map_distance(features(joined), true) / batch["hole"].mean((1, 2, 3)).clamp(min=0.02),
        "dull": short.mean(1),
    }


def _found(fills: Path, without: set[str], wide: dict[Path, bool]) -> tuple[list[Path], list[Path]]:
    """All crops of photos that are not held out, and those of them with a wide hole; `wide` remembers."""
    files = sorted(p for p in fills.glob("*.npz") if p.stem.rpartition("-")[0] not in without)
    for path in files:
        if path not in wide:
            wide[path] = bool(load(path)["depth"].max() > WIDE)
    return files, [path for path in files if wide[path]]


def train(
    fills: Path, out: Path, steps: int, size: int, weights: dict[str, float], rate: float, start: Path | None
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(fills.glob("*.npz"))
    held = [path for path in files if zlib.crc32(path.stem.rpartition("-")[0].encode()) % 20 == 0][:48]
    photos = {path.stem.rpartition("-")[0] for path in held}
    wide: dict[Path, bool] = {}
    files, deep = _found(fills, photos, wide)
    joiner, features = Joiner(), load_squeeze_features().requires_grad_(False)
    optimizer = torch.optim.Adam(joiner.parameters(), lr=rate, betas=(0.9, 0.99))
    judge = Judge()
    judging = torch.optim.Adam(judge.parameters(), lr=2 * rate, betas=(0.5, 0.99))
    done, saved = 0, out / "last.pt"
    if start is not None:
        joiner.load_state_dict(torch.load(start, weights_only=True)["averaged"])
    averaged = copy.deepcopy(joiner)
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        joiner.load_state_dict(state["joiner"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        judge.load_state_dict(state["judge"])
        judging.load_state_dict(state["judging"])
        done = state["step"]
    print(f"{len(files)} crops, {len(deep)} with wide holes, {len(held)} held out, from step {done}", flush=True)
    log = (out / "log.jsonl").open("a")
    for step in range(done, steps):
        if step % 100 == 0:  # crops may still be coming
            files, deep = _found(fills, photos, wide)
        rng = np.random.default_rng(step)
        share = step / steps
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * share))
        picked = [among[int(rng.integers(len(among)))] for among in (files, deep) for _ in range(size // 2)]
        batch = batch_of(picked, rng)
        joined = run(joiner, batch)
        found = terms(joined, batch, features)
        if weights["judge"]:
            logits, share = judge(joined.detach(), batch["hole"])
            true, _ = judge(batch["image"], batch["hole"])
            told = _over_hole((1 + logits).relu(), share) + _over_hole((1 - true).relu(), share)
            judging.zero_grad()
            told.backward()
            judging.step()
            found["judge"] = -_over_hole(*judge(joined, batch["hole"]))[None]
            found["told"] = told.detach()[None]
        loss = sum(weight * found[name].mean() for name, weight in weights.items() if weight)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(joiner.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(averaged.parameters(), joiner.parameters(), strict=True):
                slow.lerp_(fast, max(0.005, 1 / (step + 2)))
        if (step + 1) % 100 == 0 or step + 1 == steps:
            record = {
                "step": step + 1,
                **{name: round(float(v.detach().mean()), 5) for name, v in found.items()},
            }
            if (step + 1) % 200 == 0 or step + 1 == steps:
                with torch.no_grad():
                    wholes = [batch_of(held[i : i + 8], None) for i in range(0, len(held), 8)]
                    parts = [terms(run(averaged, whole), whole, features) for whole in wholes]
                record["held"] = {k: round(float(torch.cat([p[k] for p in parts]).mean()), 5) for k in parts[0]}
            log.write(json.dumps(record) + "\n")
            log.flush()
            print(record, flush=True)
            state = {"joiner": joiner.state_dict(), "averaged": averaged.state_dict()}
            with atomic(saved, overwrite=True) as part:
                state |= {"judge": judge.state_dict(), "judging": judging.state_dict()}
                torch.save(state | {"optimizer": optimizer.state_dict(), "step": step + 1}, part)
            if (step + 1) % 300 == 0:  # the judge moves on: the best is chosen on validation photos
                with atomic(out / f"step-{step + 1}.pt", overwrite=True) as part:
                    torch.save({"averaged": averaged.state_dict(), "step": step + 1}, part)


def ship(saved: Path) -> None:
    """Write the averaged weights, float16, to where the package reads them."""
    state = torch.load(saved, weights_only=True)
    arrays = {name: np.ascontiguousarray(value.numpy().astype(np.float16)) for name, value in state["averaged"].items()}
    with atomic(WEIGHTS_FILE, overwrite=True) as part:
        save_file(arrays, part, {"step": str(state["step"]), "terms": "non-commercial, as the photos it learned from"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    fills = verbs.add_parser("fills")
    fills.add_argument("--photos", type=Path, required=True)
    fills.add_argument("--out", type=Path, required=True)
    fills.add_argument("--rounds", type=int, default=2)
    learn = verbs.add_parser("train")
    learn.add_argument("--fills", type=Path, required=True)
    learn.add_argument("--out", type=Path, required=True)
    learn.add_argument("--steps", type=int, default=3000)
    learn.add_argument("--batch", type=int, default=8)
    learn.add_argument("--rate", type=float, default=1e-3)
    learn.add_argument("--from", dest="start", type=Path, help="last.pt of a training to start from")
    for name, weight in WEIGHTS.items():
        learn.add_argument(f"--{name}", type=float, default=weight, help=f"weight of the term {name}")
    done = verbs.add_parser("ship")
    done.add_argument("--from", dest="start", type=Path, required=True)
    options = parser.parse_args()
    if options.verb == "ship":
        ship(options.start)
    elif options.verb == "fills":
        make_fills(options.photos, options.out, options.rounds)
    else:
        weights = {name: getattr(options, name) for name in WEIGHTS}
        train(options.fills, options.out, options.steps, options.batch, weights, options.rate, options.start)


if __name__ == "__main__":
    main()
