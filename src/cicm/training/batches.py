"""From the `[data]` section to batches for training and to a fixed set for validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from itertools import repeat
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cicm.conventions import InputError
from cicm.data.datasets import Labels, TrainingPhotos, to_image
from cicm.data.generators import HoleGenerator
from cicm.data.lama_holes import LaMaHoles
from cicm.data.loading import MixedStream, TrainingStream
from cicm.datasets import classes_of, find, layout_named, photos_of
from cicm.files import digest_of, evenly_spaced
from cicm.photos.headers import find_images, image_size
from cicm.training.config import DataConfig

_VALIDATION_SEED = 1_000_003  # holes and crops of validation are the same for every run, whatever its seed


def training_photos(data: DataConfig) -> list[Path]:
    """The training photos that a recipe asks for.

    Raises:
        InputError: no folder, no photo, or none that fits `match`.
    """
    paths = _matching(photos_in(data, "train"), Path(data.train), data.match)
    return evenly_spaced(paths, data.limit) if data.limit else paths


def photos_in(data: DataConfig, part: Literal["train", "val"]) -> list[Path]:
    """All photos of a folder, or those of a layout's split; below `data.train` or `data.val`.

    Raises:
        InputError: no folder, no photo, or a data set that is not complete.
    """
    root, split = (data.train, data.train_split) if part == "train" else (data.val, data.val_split)
    if data.labels:
        return list(_labelled(data, part))
    return photos_of(root, data.layout, split) if data.layout else find_images(root)


def _labelled(data: DataConfig, part: Literal["train", "val"]) -> dict[Path, Path]:
    """Photo -> label map, of a layout's split; photos without one are left out.

    Raises:
        InputError: no photo has one.
    """
    root, split = (data.train, data.train_split) if part == "train" else (data.val, data.val_split)
    there = find(layout_named(data.layout), root, split)
    both = zip(there.photos, there.labels or [None] * len(there.photos), strict=True)
    found = {Path(root, photo): Path(root, label) for photo, label in both if label is not None}
    if not found:
        raise InputError(
            f"data.labels asks for label maps; the split {split} of {data.layout} in {root} has none. See "
            f"cicm data check {data.layout}."
        )
    return found


def _labels_for(data: DataConfig, part: Literal["train", "val"], paths: Sequence[Path]) -> Labels | None:
    if not data.labels:
        return None
    found = _labelled(data, part)
    return Labels([found[path] for path in paths], classes_of(data.layout))


def training_stream(
    data: DataConfig, paths: Sequence[Path], seed: int, *, rank: int, world: int, pin_memory: bool = False
) -> TrainingStream | MixedStream:
    """Batches of one rank; together the ranks see `data.batch_size` images per step.

    Raises:
        InputError: the batch does not divide over the ranks, or a setting that the data set refuses.
    """
    stream = _stream(data, paths, seed, rank, world, pin_memory)
    if not data.large_crop:
        return stream
    large = [path for path in paths if min(image_size(path)) >= data.large_crop]
    if not large:
        raise InputError(f"no photo in {data.train} has {data.large_crop} pixels. Use a smaller data.large_crop.")
    fewer = data.batch_size * data.crop**2 // data.large_crop**2
    wide = replace(data, crop=data.large_crop, batch_size=fewer, large_crop=0, large_every=0)
    return MixedStream(stream, _stream(wide, large, seed, rank, world, pin_memory), data.large_every)


def _stream(
    data: DataConfig, paths: Sequence[Path], seed: int, rank: int, world: int, pin_memory: bool
) -> TrainingStream:
    if data.batch_size % world:
        raise InputError(f"{data.batch_size} crops of {data.crop} do not divide over {world} devices evenly.")
    photos = TrainingPhotos(
        paths,
        data.crop,
        LaMaHoles() if data.holes == "lama" else HoleGenerator(data.bands, data.kinds, data.border),
        labels=_labels_for(data, "train", paths),
        seed=seed,
        scale=data.scale,
        native=data.native,
        flip=data.flip,
        small=data.small,
        on_error=data.on_error,
        cache_mb=data.cache_mb,
    )
    own = data.batch_size // world
    return TrainingStream(photos, own, seed, rank=rank, world=world, workers=data.workers, pin_memory=pin_memory)


def photo_hash(paths: Sequence[Path], root: str | Path) -> str:
    """A digest of the photos' names below their folder, in order: what a resumed run must find again.

    Example:
        >>> photo_hash([Path("a/x.jpg")], "a") == photo_hash([Path("b/x.jpg")], "b")
        True
    """
    names = "\n".join(path.relative_to(root).as_posix() for path in paths)
    return digest_of(names.encode())


@dataclass(frozen=True)
class ValidationSet:
    """The same crops with the same holes at each validation; every photo once per band.

    Args:
        images: (n, 3, h, w) uint8.
        labels: (n, h, w) uint8, classes and void; None without label maps.
        holes: band -> (n, 1, h, w) bool, True = missing.
    """

    images: Tensor
    holes: dict[str, Tensor]
    labels: Tensor | None = None

    def batches(self, band: str, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(image (b, 3, h, w) in [0, 1], hole (b, 1, h, w)) of a band."""
        for image, hole in zip(self.images.split(size), self.holes[band].split(size), strict=True):
            yield image.float() / 255, hole.float()

    def labels_of_batches(self, size: int) -> Iterator[Tensor | None]:
        """(b, h, w) uint8 of each of `batches`, or None for each."""
        yield from repeat(None) if self.labels is None else self.labels.split(size)


def validation_set(data: DataConfig, count: int) -> ValidationSet:
    """Read the validation photos: `count` of those that are large enough, cropped without reducing or mirroring.

    Raises:
        InputError: no folder, no photo, none large enough, or one that cannot be read.
    """
    paths = _matching(photos_in(data, "val"), Path(data.val), data.match)
    labels = None
    large = [path for path in paths if min(image_size(path)) >= data.crop]
    if not large:
        raise InputError(f"no photo in {data.val} has {data.crop}x{data.crop} pixels or more. Use a smaller data.crop.")
    images: list[np.ndarray] = []
    holes: dict[str, Tensor] = {}
    for band in data.bands:
        generator = HoleGenerator([band], data.kinds, data.border)
        chosen = evenly_spaced(large, count)
        photos = TrainingPhotos(
            chosen,
            data.crop,
            generator,
            seed=_VALIDATION_SEED,
            scale=(1.0, 1.0),
            native=1.0,
            flip=False,
            labels=_labels_for(data, "val", chosen),
        )
        drawn = [photos.draw(index) for index in range(len(photos))]
        images = [one.image for one in drawn]  # the same for each band: a crop does not depend on the hole
        holes[band] = torch.stack([one.hole for one in drawn]) > 0.5
        if found := [one.label for one in drawn if one.label is not None]:
            labels = torch.from_numpy(np.stack(found))
    pixels = (to_image(np.stack(images)) * 255).round().to(torch.uint8)
    return ValidationSet(pixels, holes, labels)


def _matching(paths: list[Path], root: Path, patterns: Sequence[str]) -> list[Path]:
    if not patterns:
        return paths
    kept = [path for path in paths if any(fnmatch(path.relative_to(root).as_posix(), p) for p in patterns)]
    if not kept:
        raise InputError(f"no photo in {root} fits data.match = {list(patterns)}; the first there is {paths[0].name}.")
    return kept
