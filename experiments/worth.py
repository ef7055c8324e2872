"""What is a memory worth? For each site: true features, perfect routing, routing by damaged features, learned routes.

python -m experiments.worth run --data DATA --out runs/claim --content street --site up3 --seed 0 --arms none query
python -m experiments.worth table --out runs/claim --content street --site up3 [--role test]

All arms of a seed begin with the same plain network (`experiments.claim_base`) up to the site, and train what lies
behind it for the same steps on the same crops and holes. What an arm reads was never seen by a gradient: the memory is
seeded anew, from the other frames of the sequence (street) or from other photos (scenes, faces). Every file is written
once, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cicm.conventions import BANDS
from cicm.files import atomic
from cicm.memory import ContextMemory, LearnedTable, MemoryConfig, MemoryState
from cicm.memory.query import QueryHead
from cicm.memory.seeding import from_regions
from cicm.metrics.squeeze import load_squeeze_features
from cicm.metrics.sqz_distance import map_distance
from cicm.networks import InpaintingNetwork
from cicm.objectives import reconstruction
from cicm.ops import as_regions, composite, missing_share
from experiments.claim_base import features_at, follow, plain, rate_at
from experiments.claim_data import (
    CHOICE,
    TEST,
    TRAIN,
    as_images,
    corner,
    crop,
    hole_of,
    mask_files,
    painted,
    singles,
    street,
)
from experiments.keys import SAMPLES, Estimator, Keyed, Weighed, blocks, drawn, fit

BEHIND = {"bottom": 0, "up3": 1, "up2": 2}
"""Site -> the first block of the decoder that lies behind it."""

TEMPERATURE, SETS, CONTEXTS = 0.05, 13, 40
EPISODES, CROPS, RATE = 4, 2, 1e-3
REACH = 4
"""Frames to either side that a street memory holds in training, and at the test where it is called `near`."""

ARMS = (
    "none",
    "true",
    "perfect",
    "damaged",
    "query",
    "flat",
    "regress",
    "table",
    "keys",
    "guess",
    "placed",
    "weighed",
    "strange",
)
"""`flat` is `query` with one set; `regress` the same head that predicts the feature itself, without any memory; `keys`,
`placed`, `weighed` and `guess` are those of `experiments.keys`, for streets; `strange` is `weighed` with another street
always, in training and at the test: as many parameters, and contents that are of no use."""

ALONE = ("none", "true", "regress", "guess")
"""Arms that read no memory."""


def grid(photo: np.ndarray) -> np.ndarray:
    """The photo without the last rows and columns that do not fill a cell of 16."""
    return photo[: photo.shape[0] // 16 * 16, : photo.shape[1] // 16 * 16]


@dataclass
class Content:
    """Photos of one kind in their roles, and what a memory for one of them is made of.

    Args:
        photos: role (`train`, `choice`, `test`) -> photos, uint8.
        groups: role -> for each photo the sequence and its place in it; photos of no sequence are all of one.
        street: whether the memory of a photo holds its sequence; else one memory of training photos serves all.
    """

    photos: dict[str, list[np.ndarray]]
    groups: dict[str, list[tuple[str, int]]]
    street: bool


def load(content: str, data: Path) -> Content:
    if content == "street":
        sequences = street(data / "street")
        photos: dict[str, list[np.ndarray]] = {}
        groups: dict[str, list[tuple[str, int]]] = {}
        for role, names in (("train", TRAIN), ("choice", (CHOICE,)), ("test", (TEST,))):
            photos[role] = [f for name in names for f in sequences[name]]
            groups[role] = [(name, i) for name in names for i in range(len(sequences[name]))]
        return Content(photos, groups, True)
    count = {"train": 1500, "choice": 60, "test": 200}
    folder = {"train": "train", "choice": "val", "test": "test"}
    photos = {role: singles(data / content / folder[role], n) for role, n in count.items()}
    return Content(photos, {role: [("", i) for i in range(len(p))] for role, p in photos.items()}, False)


class Albums:
    """Features of whole photos, and the memories that are seeded from them; kept, because all arms share them."""

    def __init__(self, network: InpaintingNetwork, site: str, content: Content, seed: int) -> None:
        self.network, self.site, self.content, self.seed = network, site, content, seed
        self._maps: dict[tuple[str, int], Tensor] = {}
        self._states: dict[tuple, MemoryState] = {}
        self._pairs: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def damaged(self, image: Tensor, hole: Tensor) -> Tensor:
        """(B, C, h, w) at the site, of damaged pictures."""
        return features_at(self.network, self.site, image, hole)

    def pairs(self, role: str, out: Path) -> tuple[Tensor, Tensor]:
        """(M, C, h, w) in float16: maps of all photos of a role, whole and damaged; from their file if it is there."""
        if role not in self._pairs:
            saved = out / f"pairs-{self.site}-{role}-{self.seed}.pt"
            if not saved.exists():
                values, keys = [], []
                for photo in self.content.photos[role]:
                    image = as_images([grid(photo)])
                    holes = [blocks(image.shape[2], image.shape[3], odd) for odd in (0, 1)]
                    first, second = (self.damaged(image, hole) for hole in holes)
                    share = missing_share(holes[1], (first.shape[2], first.shape[3]))
                    values.append(self.features(image).half())
                    keys.append((first * (1 - share) + second * share).half())
                with atomic(saved) as part:
                    torch.save((torch.cat(values), torch.cat(keys)), part)
            self._pairs[role] = torch.load(saved, weights_only=True)
        return self._pairs[role]

    def keyed(self, role: str, index: int, out: Path, rng: np.random.Generator, look: dict) -> Keyed:
        """A memory with keys for one photo; see `state` for the albums."""
        values, keys = self._album(role, index, out, look)
        return drawn(values, keys, rng, look["sets"] * look["contexts"])

    def maps(self, role: str, index: int, out: Path, rng: np.random.Generator, look: dict) -> Tensor:
        """(M, C, h, w): the album of one photo with its places."""
        return self._album(role, index, out, look)[0]

    def _album(self, role: str, index: int, out: Path, look: dict) -> tuple[Tensor, Tensor]:
        source, members = role, self.others(role, index, 0 if look["album"] == "all" else REACH)
        if look["album"] == "wrong":
            source, members = self.strangers(role, index)
        values, keys = self.pairs(source, out)
        return values[members], keys[members]

    def strangers(self, role: str, index: int) -> tuple[str, list[int]]:
        """The role, and the numbers, of frames of another sequence; for training photos the other one of training."""
        if role == "train":
            mine = self.content.groups[role][index][0]
            others = [i for i, (name, _) in enumerate(self.content.groups[role]) if name != mine]
            return role, self.others(role, others[index * 7919 % len(others)], REACH)
        source = "choice" if role == "test" else "test"
        return source, self.others(source, index * 7919 % len(self.content.photos[source]), REACH)

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """(B, C, h, w) at the site, of whole pictures."""
        return features_at(self.network, self.site, image)

    def regions(self, role: str, index: int) -> Tensor:
        """(N, C) in float16: all regions of a whole photo."""
        if (role, index) not in self._maps:
            image = as_images([grid(self.content.photos[role][index])])
            self._maps[role, index] = as_regions(self.features(image)).half()
        return self._maps[role, index]

    def others(self, role: str, index: int, reach: int) -> list[int]:
        """The other frames of the same sequence within reach; for 0 every second one, this frame not among them."""
        name, place = self.content.groups[role][index]

        def wanted(at: int) -> bool:
            return 0 < abs(at - place) <= reach if reach else (at - place) % 2 == 1

        return [i for i, (other, at) in enumerate(self.content.groups[role]) if other == name and wanted(at)]

    def state(self, role: str, index: int, sets: int, contexts: int, album: str = "near") -> MemoryState:
        """A memory for one photo.

        Args:
            album: `near`, the sequence's frames around this one; `all`, every second one of all; `wrong`, frames of
                another sequence; for photos without a sequence always training photos.
        """
        key: tuple = ("train", sets, contexts)
        source, members = "train", []
        if self.content.street and album == "wrong":
            source = "choice" if role == "test" else "test"
            middle = index * 7919 % len(self.content.photos[source])
            members = self.others(source, middle, REACH)
            key = (source, middle, sets, contexts)
        elif self.content.street:
            source, members = role, self.others(role, index, REACH if album == "near" else 0)
            near = album == "near"
            key = (role, index if near else self.content.groups[role][index][1] % 2, sets, contexts, album)
        if key not in self._states:
            rng = np.random.default_rng((self.seed, len(members), sets * contexts))
            if not members:
                members = list(range(len(self.content.photos["train"])))
            most = max(4000, 4 * sets * contexts)
            each = max(1, -(-most // len(members)))
            parts = []
            for member in members:
                regions = self.regions(source, member)
                parts.append(regions[torch.from_numpy(rng.permutation(len(regions))[:each])])
            found = from_regions(
                torch.cat(parts).float(), sets, contexts, torch.Generator().manual_seed(self.seed), "centred"
            )
            self._states[key] = MemoryState(found.anchors, found.contexts, found.weight())
        return self._states[key]


class Reader(nn.Module):
    """What an arm does at the site.

    Args:
        arm: one of `ARMS`.
        first: what a learned table begins with.
    """

    def __init__(self, arm: str, channels: int, first: MemoryState) -> None:
        super().__init__()
        self.arm = arm
        sets, contexts = (1, SETS * CONTEXTS) if arm == "flat" else (SETS, CONTEXTS)
        learned = arm in ("query", "flat", "table")
        config = MemoryConfig(
            sets=sets,
            contexts=contexts,
            ratio="true",
            temperature=TEMPERATURE,
            route="query" if learned else "feature",
            kind="table" if arm == "table" else "memory",
        )
        self.memory = (LearnedTable if arm == "table" else ContextMemory)(channels, config)
        self.head = QueryHead(channels) if arm == "regress" else None
        self.estimator: Estimator | Weighed | None = Weighed(channels) if arm in ("weighed", "strange") else None
        if arm in ("keys", "guess", "placed"):
            self.estimator = Estimator(channels, arm == "keys", arm == "placed")
        with torch.no_grad():
            self.hold(first)

    def hold(self, state: MemoryState) -> None:
        """Look into this state from now on; a learned table keeps its own."""
        memory = self.memory
        memory.filled.fill_(1.0)
        if self.arm != "table" or not hasattr(self, "begun"):
            self.begun = True
            for name, value in zip(("anchors", "contexts", "mass"), (*state[:2], state.weight()), strict=True):
                if name in memory._buffers:
                    setattr(memory, name, value)  # sizes may differ from those of training
                else:
                    getattr(memory, name).data.copy_(value)

    def forward(
        self, features: Tensor, share: Tensor, truth: Tensor, states: list, hard: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B, C, h, w) as the decoder gets them, and terms and numbers of the route, per region.

        Args:
            share: (B, 1, h, w), missing share of each cell.
            truth: (B, C, h, w), features of the undamaged photos.
            states: memories, each for an equal part of the batch, in order.
        """
        wide = features.float()
        if self.arm == "none":
            return features, {}
        if self.arm == "true":
            return (wide + share * (truth - wide)).to(features.dtype), {}
        if self.estimator is not None:
            guess, _ = self.estimator(wide, share, states)
            off = (guess - truth).square().sum(1) / (truth.square().sum(1) + 1e-6)
            return (wide + share * (guess - wide)).to(features.dtype), {"error": off.reshape(-1)}
        if self.head is not None:
            guess, trust = self.head(wide)
            error = (guess - truth).square().sum(1) / (truth.square().sum(1) + 1e-6)
            return (wide + share * trust * (guess - wide)).to(features.dtype), {"error": error.reshape(-1)}
        done, found = [], []
        for state, part, gone, real in zip(states, *(t.chunk(len(states)) for t in (wide, share, truth)), strict=True):
            self.hold(state)
            memory = self.memory
            keep = memory.config
            memory.config = replace(keep, read_top=0.0) if hard else keep
            asked = {"query": real} if self.arm == "perfect" else {}
            read = memory.read(part, gone.reshape(-1), **asked)
            memory.config = keep
            done.append(read.features)
            if self.arm != "perfect":
                told = memory.read(real, gone.reshape(-1), query=real)
                sets, contexts = memory.route_error(read, as_regions(real))
                same = (read.sets == told.sets).float()
                both = same * (read.weights.argmax(-1) == told.weights.argmax(-1))
                found.append({"set_nats": sets, "context_nats": contexts, "same_set": same, "same_context": both})
        told_all = {name: torch.cat([f[name] for f in found]) for name in found[0]} if found else {}
        return torch.cat(done).to(features.dtype), told_all


def _mean_over_missing(values: Tensor, share: Tensor) -> Tensor:
    weight = share.reshape(-1)
    return (values * weight).sum() / weight.sum().clamp_min(1e-6)


class Arm(nn.Module):
    """The common network with a reader at its site; what lies before the site is frozen."""

    def __init__(self, base: InpaintingNetwork, site: str, reader: Reader) -> None:
        super().__init__()
        self.network, self.site, self.reader = copy.deepcopy(base), site, reader
        self.network.requires_grad_(False)
        self.network.up[BEHIND[site] :].requires_grad_(True)  # type: ignore[union-attr,index]
        self.network.head.requires_grad_(True)  # type: ignore[union-attr]

    def forward(
        self, image: Tensor, hole: Tensor, truth: Tensor, states: list, hard: bool = False
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        found: dict[str, Tensor] = {}
        shares = []

        def edit(name: str, features: Tensor) -> Tensor:
            if name != self.site:
                return features
            share = missing_share(hole, (features.shape[-2], features.shape[-1]))
            shares.append(share)
            with torch.autocast("cpu", enabled=False):
                features, numbers = self.reader(features, share, truth, states, hard)
            found.update(numbers)
            return features

        with torch.autocast("cpu", dtype=torch.bfloat16):
            prediction = self.network(image * (1 - hole), hole, edit=edit).image
        return prediction.float(), found, shares[0]


def base_of(out: Path, seed: int) -> InpaintingNetwork:
    network = plain()
    state = torch.load(out / f"base-{seed}.pt", weights_only=True)
    network.load_state_dict(state["averaged"])
    return network.eval()


def run_arm(
    out: Path, content: Content, name: str, site: str, seed: int, arm: str, steps: int, albums: Albums
) -> tuple[Arm, dict]:
    """The trained arm, from its file where there is one."""
    torch.manual_seed(seed)
    sets, contexts = (1, SETS * CONTEXTS) if arm == "flat" else (SETS, CONTEXTS)
    first = albums.state("train", 0, sets, contexts)
    channels = albums.network.site(site).channels
    model = Arm(albums.network, site, Reader(arm, channels, first))
    averaged = copy.deepcopy(model)
    saved = out / f"{name}-{site}-{arm}-{seed}.pt"
    if saved.exists():
        averaged.load_state_dict(torch.load(saved, weights_only=True), strict=False)
        return averaged, {}
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=RATE, betas=(0.9, 0.99))
    photos, seconds, log = content.photos["train"], 0.0, []
    if model.reader.estimator is not None:
        log.append({"before": prepare(out, content, name, arm, model.reader.estimator, albums, seed)})
        averaged = copy.deepcopy(model)
    sums: dict[str, list[float]] = {}
    for step in range(steps):
        started = time.perf_counter()
        rng = np.random.default_rng((seed, step, 1))
        picked = rng.integers(0, len(photos), EPISODES)
        crops = [crop(photos[i], corner(photos[i].shape, rng)) for i in picked for _ in range(CROPS)]
        image, hole = as_images(crops), painted(len(crops), rng)
        truth = image[:0] if arm == "none" else albums.features(image)
        if arm in ("keys", "placed", "weighed", "strange"):
            make = albums.keyed if arm == "keys" else albums.maps
            odd = int(rng.integers(EPISODES + 2)) if arm == "weighed" else EPISODES  # who gets another street
            kinds = ["wrong" if place == odd or arm == "strange" else "near" for place in range(EPISODES)]
            states: list = [
                make("train", int(i), out, rng, usual(arm) | {"album": kind})
                for i, kind in zip(picked, kinds, strict=True)
            ]
        else:
            states = [first] if arm in ALONE else [albums.state("train", int(i), sets, contexts) for i in picked]
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps, RATE, 20)
        prediction, found, share = model(image, hole, truth, states)
        terms = {"inpaint": reconstruction(prediction, image, hole, norm="log")}
        terms |= {key: _mean_over_missing(value, share) for key, value in found.items()}
        loss = terms["inpaint"]
        if arm in ("query", "flat"):
            loss = loss + 0.1 * (terms["set_nats"] + terms["context_nats"])
        if arm in ("regress", "keys", "guess", "placed", "weighed", "strange"):
            loss = loss + 0.1 * terms["error"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        follow(averaged, model, step)
        seconds += time.perf_counter() - started
        for key, value in terms.items():
            sums.setdefault(key, []).append(float(value.detach()))
        if (step + 1) % 50 == 0 or step + 1 == steps:
            record = {"step": step + 1, "seconds": round(seconds / (step + 1), 3)}
            record |= {key: round(float(np.mean(values[-50:])), 4) for key, values in sums.items()}
            log.append(record)
            print(arm, seed, record, flush=True)
    with atomic(saved) as part:
        torch.save(averaged.state_dict(), part)
    return averaged, {"steps": steps, "log": log}


def prepare(
    out: Path, content: Content, name: str, arm: str, estimator: Estimator | Weighed, albums: Albums, seed: int
) -> list[float]:
    """Train an estimator on features of damaged and whole crops; these are made once."""
    saved = out / f"{name}-{albums.site}-samples-{seed}.pt"
    if not saved.exists():
        rng = np.random.default_rng((seed, 11))
        photos, damaged, whole, shares, numbers = content.photos["train"], [], [], [], []
        for _ in range(SAMPLES // 8):
            picked = rng.integers(0, len(photos), 8).tolist()
            image = as_images([crop(photos[i], corner(photos[i].shape, rng)) for i in picked])
            hole = painted(8, rng)
            damaged.append(albums.damaged(image, hole).half())
            whole.append(albums.features(image).half())
            shares.append(missing_share(hole, (damaged[0].shape[2], damaged[0].shape[3])))
            numbers += picked
        with atomic(saved) as part:
            torch.save((torch.cat(damaged), torch.cat(whole), torch.cat(shares), numbers), part)
    samples = torch.load(saved, weights_only=True)
    values, keys = albums.pairs("train", out)
    members = {i: albums.others("train", i, REACH) for i in range(len(content.photos["train"]))}
    album_of = {i: (values[m], keys[m]) for i, m in members.items()} if estimator.keyed or estimator.placed else {}
    others = arm in ("weighed", "strange")
    strange = {i: values[albums.strangers("train", i)[1]] for i in members} if others else None
    mean = values.float().mean((0, 2, 3))
    saved = out / f"{name}-{albums.site}-{arm}-head-{seed}.pt"
    return fit(estimator, samples, album_of, mean, seed, saved, strange=strange, every=1 if arm == "strange" else 3)[
        49::50
    ]


@torch.no_grad()
def score(
    model: Arm,
    out: Path,
    content: Content,
    albums: Albums,
    role: str,
    files: dict[str, list[Path]],
    every: int,
    look: dict,
) -> list[dict]:
    """One row for each photo and band: PSNR, distance, and what the route did.

    Args:
        look: album, sets, contexts, hard.
    """
    sqz, rows = load_squeeze_features(), []
    arm = model.reader.arm
    for index in range(0, len(content.photos[role]), every):
        photo = content.photos[role][index]
        state: MemoryState | Keyed | Tensor = model.reader.memory.state
        if arm in ("keys", "placed", "weighed", "strange"):
            make = albums.keyed if arm == "keys" else albums.maps
            state = make(role, index, out, np.random.default_rng((index, 9)), look)
        elif arm not in ALONE:
            state = albums.state(role, index, look["sets"], look["contexts"], look["album"])
        rng = np.random.default_rng((index, 5))
        image = as_images([crop(photo, corner(photo.shape, rng))] * len(BANDS))
        hole = torch.stack([hole_of(files[band], index) for band in BANDS])
        truth = albums.features(image)
        prediction, found, share = model(image, hole, truth, [state], look["hard"])
        filled = composite(prediction, image, hole).clamp(0, 1)
        error = (filled - image).square().mean((1, 2, 3)).clamp_min(1e-8)
        distance = map_distance(sqz(filled), sqz(image))
        for place, band in enumerate(BANDS):
            row = {"photo": index, "band": band, "psnr": float(-10 * error[place].log10())}
            row["sqz"] = float(distance[place])
            for key, value in found.items():
                row[key] = float(_mean_over_missing(value.view(len(BANDS), -1)[place], share[place]))
            rows.append(row)
    return rows


def usual(arm: str) -> dict:
    """How an arm looks at its memory in training: album, sizes, soft or hard."""
    sets, contexts = (1, SETS * CONTEXTS) if arm == "flat" else (SETS, CONTEXTS)
    return {"album": "near", "sets": sets, "contexts": contexts, "hard": False}


def looks(arm: str, content: Content) -> dict[str, dict]:
    """How a trained arm is read at the test: name -> changes of `usual`."""
    plain = usual(arm)
    if arm in (*ALONE, "table"):
        return {"": plain}
    contexts = plain["contexts"]
    if arm == "strange":
        return {"": plain | {"album": "wrong"}}
    if arm in ("placed", "weighed"):
        return {"": plain, "wrong": plain | {"album": "wrong"}}
    if arm == "keys":
        return {"": plain, "wrong": plain | {"album": "wrong"}, "near x10": plain | {"contexts": 10 * contexts}}
    found = {"": plain, "hard": plain | {"hard": True}}
    large = {"contexts": 10 * contexts, "album": "all"}
    if content.street and arm != "damaged":
        found |= {"wrong": plain | {"album": "wrong"}, "all": plain | {"album": "all"}}
        found |= {"hard wrong": found["hard"] | {"album": "wrong"}}
    return found if arm == "damaged" else found | {"x10": plain | large}


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    content = load(options.content, options.data)
    albums = Albums(base_of(options.out, options.seed), options.site, content, options.seed)
    for arm in options.arms:
        model, told = run_arm(
            options.out, content, options.content, options.site, options.seed, arm, options.steps, albums
        )
        if told:
            path = options.out / f"{options.content}-{options.site}-{arm}-{options.seed}-log.json"
            path.write_text(json.dumps(told))
        for role in options.roles:
            files = mask_files(options.data / "masks", role)
            for look, how in looks(arm, content).items():
                called = f"{arm} {look}".strip().replace(" ", "_")
                path = options.out / f"{options.content}-{options.site}-{role}-{called}-{options.seed}.json"
                if path.exists():
                    continue
                rows = score(model, options.out, content, albums, role, files, options.every, how)
                with atomic(path) as part:
                    Path(part).write_text(json.dumps(rows))
                by_band = {b: np.mean([r["psnr"] for r in rows if r["band"] == b]) for b in BANDS}
                print(role, called, options.seed, {b: round(float(v), 3) for b, v in by_band.items()}, flush=True)


def gathered(out: Path, prefix: str) -> dict[str, dict[int, list[dict]]]:
    """Arm -> seed -> rows."""
    found: dict[str, dict[int, list[dict]]] = {}
    for path in sorted(out.glob(f"{prefix}-*.json")):
        arm, _, seed = path.stem[len(prefix) + 1 :].rpartition("-")
        if seed.isdecimal():
            found.setdefault(arm, {})[int(seed)] = json.loads(path.read_text())
    return found


def difference(
    mine: dict[int, list[dict]], base: dict[int, list[dict]], band: str, key: str, draws: int = 4000
) -> tuple[float, float, float]:
    """Mean difference and its 95 % interval, by a bootstrap that draws seeds, then photos."""
    table = []
    for seed in sorted(set(mine) & set(base)):
        theirs = {row["photo"]: row[key] for row in base[seed] if row["band"] == band}
        table.append([row[key] - theirs[row["photo"]] for row in mine[seed] if row["band"] == band])
    values = np.array(table)
    rng = np.random.default_rng(0)
    seeds = rng.integers(0, len(values), (draws, len(values)))
    photos = rng.integers(0, values.shape[1], (draws, values.shape[1]))
    means = np.array([values[s][:, p].mean() for s, p in zip(seeds, photos, strict=True)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def table(options: argparse.Namespace) -> str:
    """Markdown: each arm against `none`, then what the routes did."""
    prefix = f"{options.content}-{options.site}-{options.role}"
    found, against = gathered(options.out, prefix), options.against
    lines = [
        f"{options.content}, site {options.site}, {options.role} photos; against `{against}` [95 %, seeds and photos]",
        "",
        "| arm | seeds | "
        + " | ".join(f"PSNR {b}" for b in BANDS)
        + " | "
        + " | ".join(f"sqz {b}" for b in BANDS)
        + " |",
        "|---" * (2 + 2 * len(BANDS)) + "|",
    ]
    for arm, seeds in found.items():
        cells = []
        for key, digits in (("psnr", 3), ("sqz", 5)):
            for band in BANDS:
                if arm == against:
                    mean = np.mean([r[key] for rows in seeds.values() for r in rows if r["band"] == band])
                    cells.append(f"{mean:.{digits}f}")
                else:
                    middle, low, high = difference(seeds, found[against], band, key)
                    cells.append(f"{middle:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]")
        lines.append(f"| {arm} | {len(seeds)} | " + " | ".join(cells) + " |")
    keys = ("same_set", "same_context", "set_nats", "context_nats")
    lines += ["", "| arm | band | same set | same context | set, bits | context, bits |", "|---|---|---|---|---|---|"]
    for arm, seeds in found.items():
        for band in BANDS:
            rows = [r for rows in seeds.values() for r in rows if r["band"] == band]
            if keys[0] in rows[0]:
                a, b, c, d = (float(np.mean([r[key] for r in rows])) for key in keys)
                lines.append(f"| {arm} | {band} | {a:.3f} | {b:.3f} | {c / np.log(2):.2f} | {d / np.log(2):.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    runs, tables = verbs.add_parser("run"), verbs.add_parser("table")
    for verb in (runs, tables):
        verb.add_argument("--out", type=Path, required=True)
        verb.add_argument("--content", choices=("street", "scenes", "faces"), default="street")
        verb.add_argument("--site", choices=tuple(BEHIND), default="up3")
    runs.add_argument("--data", type=Path, required=True)
    runs.add_argument("--seed", type=int, default=0)
    runs.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    runs.add_argument("--roles", nargs="+", choices=("choice", "test"), default=["choice", "test"])
    runs.add_argument("--steps", type=int, default=500)
    runs.add_argument("--every", type=int, default=1, help="score every so many photos")
    tables.add_argument("--against", default="none", help="the arm that others are compared with")
    tables.add_argument("--role", choices=("choice", "test"), default="test")
    options = parser.parse_args()
    run(options) if options.verb == "run" else print(table(options))


if __name__ == "__main__":
    main()
