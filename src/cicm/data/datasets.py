"""Photos and holes as samples: at random for training, from a fixed list for scoring."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from cicm.conventions import InputError
from cicm.data.generators import HoleGenerator
from cicm.data.pair_lists import Pair
from cicm.data.pairs import hole_of
from cicm.files import reason_of
from cicm.photos.headers import find_images
from cicm.photos.labels import Classes, read_labels
from cicm.photos.photo import read_image

HoleMaker = Callable[[int, int, np.random.Generator], Tensor]
"""(height, width, rng) -> (1, height, width) float, 1 = missing."""


class Skipped(NamedTuple):
    """A file that was passed over, and why."""

    path: str
    reason: str


class Labels(NamedTuple):
    """The label maps of some photos.

    Args:
        files: one per photo, in their order.
        classes: how they are read.
    """

    files: Sequence[Path]
    classes: Classes


class Drawn(NamedTuple):
    """One training sample as it is drawn.

    Args:
        image: (h, w, 3) uint8.
        hole: (1, h, w).
        label: (h, w) uint8, classes and `cicm.photos.labels.VOID`, of the whole picture, hole or not; None without.
    """

    image: np.ndarray
    hole: Tensor
    skipped: list[Skipped]
    label: np.ndarray | None = None


class Sample(TypedDict):
    """One training sample: `image` (3, h, w) in [0, 1], `hole` (1, h, w), the files passed over on the way to it."""

    image: Tensor
    hole: Tensor
    skipped: list[Skipped]


class TrainingPhotos(Dataset[Sample]):
    """Random crops of the photos of a folder, each with a random hole.

    A sample depends on (seed, epoch, index) and on nothing else: not on the order of the calls, the number of worker
    processes, or the cache. `photos[epoch, index]` gives it; `photos[index]` is the one of epoch 0.

    Args:
        root: a folder, searched by `find_images`, or the files themselves.
        crop: side, or (height, width), of the samples in pixels.
        holes: (height, width, rng) -> (1, height, width); by default a `HoleGenerator` over all bands.
        scale: least and largest factor by which a photo is reduced before cropping, drawn evenly on a log scale. It
            never goes below the factor at which the photo just covers the crop, so 0 means down to the whole photo.
        native: share of the crops that are cut out as they are, without reducing; needs a scale that reaches 1.
        flip: mirror half of the crops left to right.
        small: what a photo smaller than the crop does: "error" stops, "skip" passes it over, "enlarge" stretches it
            just as far as needed.
        on_error: "stop" at a file that can't be read, or "skip" it: the next file that can be read stands in, and the
            sample's `skipped` names the ones passed over.
        cache_mb: decoded photos are kept up to this many megabytes (10^6 bytes), shared out over the worker processes.
        labels: a label map for each photo; it is cut and mirrored as its photo, and resized to the nearest, so that no
            class comes from between two others. Photos and holes stay the same as without.

    Raises:
        InputError: a setting out of its range, a folder without images; and from a sample: a file that can't be read,
            or is too small; a label map of another size than its photo, or with values outside the classes.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> Image.new("RGB", (40, 50), "red").save(folder / "red.png")
        >>> sample = TrainingPhotos(folder, crop=32)[0]
        >>> tuple(sample["image"].shape), tuple(sample["hole"].shape), sample["image"][:, 0, 0].tolist()
        ((3, 32, 32), (1, 32, 32), [1.0, 0.0, 0.0])
    """

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        crop: int | tuple[int, int] = 128,
        holes: HoleMaker | None = None,
        *,
        seed: int = 0,
        scale: tuple[float, float] = (0.0, 1.0),
        native: float = 0.5,
        flip: bool = True,
        small: Literal["error", "skip", "enlarge"] = "error",
        on_error: Literal["stop", "skip"] = "stop",
        cache_mb: float = 0.0,
        labels: Labels | None = None,
    ) -> None:
        self.paths = find_images(root) if isinstance(root, str | Path) else [Path(path) for path in root]
        self.crop = (crop, crop) if isinstance(crop, int) else (int(crop[0]), int(crop[1]))
        self.holes = HoleGenerator() if holes is None else holes
        self.seed, self.scale, self.native, self.flip = seed, (float(scale[0]), float(scale[1])), native, flip
        self.small, self.on_error, self.cache_mb = small, on_error, cache_mb
        self._cache = _Cache(cache_mb)
        self._seen = [_state_of(path) for path in self.paths]
        self.labels = labels
        if labels is not None and len(labels.files) != len(self.paths):
            raise InputError(f"each photo needs its label map; got {len(labels.files)} for {len(self.paths)} photos.")
        if not self.paths:
            raise InputError("expected one photo or more; got an empty list.")
        if min(self.crop) < 1:
            raise InputError(f"crop must be 1 pixel or more; got {crop}.")
        if seed < 0:
            raise InputError(f"seed must be 0 or above; got {seed}.")
        if not 0.0 <= self.scale[0] <= self.scale[1] <= 1.0 or self.scale[1] == 0:
            raise InputError(f"scale must be (least, largest) with 0 <= least <= largest <= 1; got {scale}.")
        if not 0.0 <= native <= 1.0:
            raise InputError(f"native is a share of the crops, in [0, 1]; got {native}.")
        if small not in ("error", "skip", "enlarge"):
            raise InputError(f"small must be error, skip or enlarge; got {small!r}.")
        if on_error not in ("stop", "skip"):
            raise InputError(f"on_error must be stop or skip; got {on_error!r}.")
        if not cache_mb >= 0:
            raise InputError(f"cache_mb must be 0 (no cache) or above; got {cache_mb}.")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        drawn = self.draw(key)
        return {"image": to_image(drawn.image), "hole": drawn.hole, "skipped": drawn.skipped}

    def draw(self, key: int | tuple[int, int]) -> Drawn:
        """Like indexing, with the image as (h, w, 3) uint8: a batch is turned into floats faster than its parts."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self.paths):
            raise IndexError(f"index {index} of {len(self.paths)} photos")
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(epoch, index)))
        photo, label, skipped = self._readable(index)
        cut = self._cutter(photo.shape[:2], rng)
        image = cut(photo)
        hole = self.holes(*self.crop, rng)
        return Drawn(image, hole, skipped, None if label is None else np.ascontiguousarray(cut(label)))

    def _read(self, place: int) -> tuple[np.ndarray, np.ndarray | None]:
        """A photo, and its label map where there are some."""
        photo = self._cache.get(place)
        if photo is None:
            photo = read_image(self.paths[place])
            if _state_of(self.paths[place]) != self._seen[place]:
                raise InputError(
                    f"{self.paths[place]} was changed while it was in use: its size or its time is another one than at "
                    "the start. Put the old file back, or start again (a training goes on from its last checkpoint)."
                )
            self._cache.keep(place, photo)
        if self.labels is None:
            return photo, None
        label = self._cache.get(~place)  # the places below zero are those of the label maps
        if label is None:
            label = read_labels(self.labels.files[place], self.labels.classes, photo.shape[:2])
            self._cache.keep(~place, label)
        return photo, label

    def _readable(self, index: int) -> tuple[np.ndarray, np.ndarray | None, list[Skipped]]:
        """The photo at the index and its label map, or, where skipping was asked for, the next that can be used."""
        skipped: list[Skipped] = []
        for step in range(len(self.paths)):
            place = (index + step) % len(self.paths)
            path = self.paths[place]
            try:
                photo, label = self._read(place)
            except (InputError, OSError) as problem:
                if self.on_error == "stop":
                    raise _with_path(path, problem) from problem
                skipped.append(Skipped(str(path), reason_of(problem)))
                continue
            if self.small == "enlarge" or (photo.shape[0] >= self.crop[0] and photo.shape[1] >= self.crop[1]):
                return photo, label, skipped
            size = f"{photo.shape[0]}x{photo.shape[1]} pixels are fewer than the crop's {self.crop[0]}x{self.crop[1]}"
            if self.small == "error":
                raise InputError(f'photo too small: {path}: {size}. Use a smaller crop, or small="skip" or "enlarge".')
            skipped.append(Skipped(str(path), f"{size}."))
        raise InputError(
            f"none of the {len(self.paths)} photos can be used; the first: {skipped[0].path}: {skipped[0].reason}"
        )

    def _cutter(self, size: tuple[int, int], rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
        """A random window of a picture of (height, width), reduced to the crop's size.

        Returns:
            what cuts it out of a photo (H, W, 3), which is averaged, or a label map (H, W), of which the nearest pixel
            is taken; may give a view.
        """
        # Every number is drawn whether it is used or not: a photo's size must not shift the hole's randomness.
        as_is, where, top, left, mirrored = rng.random(5).tolist()
        height, width = self.crop
        covering = max(height / size[0], width / size[1])
        least, largest = max(self.scale[0], covering), max(self.scale[1], covering)
        factor = least * (largest / least) ** where
        if largest == 1 and as_is < self.native:
            factor = 1.0
        window_height = min(size[0], max(1, round(height / factor)))
        window_width = min(size[1], max(1, round(width / factor)))
        top = int(top * (size[0] - window_height + 1))
        left = int(left * (size[1] - window_width + 1))

        def cut(picture: np.ndarray) -> np.ndarray:
            part = picture[top : top + window_height, left : left + window_width]
            if (window_height, window_width) != self.crop:
                part = _resized(part, self.crop)
            return part[:, ::-1] if self.flip and mirrored < 0.5 else part

        return cut


def _state_of(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None without one."""
    try:
        told = path.stat()
    except OSError:
        return None
    return told.st_size, told.st_mtime_ns


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A photo (H, W, 3) by averages, a label map (H, W) to the nearest; at (height, width)."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    if picture.ndim == 2:
        return np.asarray(image.resize(size[::-1], Image.Resampling.NEAREST))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC, reducing_gap=3.0))


class PairedSample(TypedDict):
    """One sample to score: `image` (3, H, W) in [0, 1], `hole` (1, H, W), and the pair they come from.

    `label`: (H, W) uint8, classes and void of the whole picture; None without label maps.
    """

    image: Tensor
    hole: Tensor
    pair: Pair
    label: Tensor | None


class PairedPhotos(Dataset[PairedSample]):
    """The photos of a fixed list with their holes, to be scored.

    Args:
        masks: folder that its masks are in; None if all of them are painted from seeds.
        fit: how a larger photo comes to that size: "crop" cuts out its middle and changes no pixel; "reduce" first
            makes it as small as still covers the size. A smaller photo is an error: enlarged ones score too well.
        invert: black is missing in the mask files.
        labels: the label map of each pair's photo, in the order of the pairs.

    Raises:
        InputError: an empty list, an unknown fit; and from a sample: a file that can't be read, a photo that is too
            small, a hole outside its band, a label map that does not fit its photo or its classes.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        images: str | Path,
        masks: str | Path | None = None,
        *,
        fit: Literal["crop", "reduce"] = "crop",
        invert: bool = False,
        labels: Labels | None = None,
    ) -> None:
        if not pairs:
            raise InputError("expected one pair or more; got an empty list.")
        if fit not in ("crop", "reduce"):
            raise InputError(f"fit must be crop or reduce; got {fit!r}.")
        self.pairs = list(pairs)
        self.images, self.masks = Path(images), None if masks is None else Path(masks)
        self.fit, self.invert, self.labels = fit, invert, labels

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> PairedSample:
        pair = self.pairs[index]
        path = self.images / pair.image
        whole, size = read_image(path), (pair.height, pair.width)
        photo = _fitted(path, whole, size, self.fit)
        label = None
        if self.labels is not None:
            there = read_labels(self.labels.files[index], self.labels.classes, whole.shape[:2])
            label = torch.from_numpy(np.ascontiguousarray(_fitted(path, there, size, self.fit)))
        hole = hole_of(pair, self.masks, invert=self.invert)
        return {"image": to_image(photo), "hole": hole, "pair": pair, "label": label}


def _fitted(path: Path, photo: np.ndarray, size: tuple[int, int], fit: str) -> np.ndarray:
    height, width = size
    if photo.shape[0] < height or photo.shape[1] < width:
        raise InputError(
            f"{path} has {photo.shape[0]}x{photo.shape[1]} pixels, fewer than the {height}x{width} it is scored at; "
            "images are never enlarged to score them. Make the list anew with a smaller size."
        )
    if fit == "reduce":
        factor = max(height / photo.shape[0], width / photo.shape[1])
        reduced = (max(width, round(photo.shape[1] * factor)), max(height, round(photo.shape[0] * factor)))
        how = Image.Resampling.BICUBIC if photo.ndim == 3 else Image.Resampling.NEAREST  # a label map has two axes
        photo = np.asarray(Image.fromarray(photo).resize(reduced, how))
    top, left = (photo.shape[0] - height) // 2, (photo.shape[1] - width) // 2
    return photo[top : top + height, left : left + width]


class _Cache:
    """Decoded photos by place, up to a number of bytes; what is in stays in, because every photo is equally likely.

    Empty again in a copy (a worker process fills its own, within its part of the bytes).
    """

    def __init__(self, megabytes: float) -> None:
        self.megabytes = megabytes
        self.used = 0
        self.photos: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, float]:
        return {"megabytes": self.megabytes}

    def __setstate__(self, state: dict[str, float]) -> None:
        self.__init__(state["megabytes"])  # type: ignore[misc]

    def get(self, place: int) -> np.ndarray | None:
        return self.photos.get(place)

    def keep(self, place: int, photo: np.ndarray) -> None:
        worker = get_worker_info()
        limit = 1e6 * self.megabytes / (1 if worker is None else worker.num_workers)
        if self.used + photo.nbytes <= limit:
            self.photos[place] = photo
            self.used += photo.nbytes


def to_image(pixels: np.ndarray) -> Tensor:
    """(H, W, 3) or (B, H, W, 3) uint8 -> (3, H, W) or (B, 3, H, W) float32 in [0, 1], contiguous.

    Example:
        >>> to_image(np.full((1, 2, 3), 51, dtype=np.uint8))[0]
        tensor([[0.2000, 0.2000]])
    """
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, -3))
    return torch.from_numpy(planes).to(torch.float32).div_(255)


def _with_path(path: str | os.PathLike[str], problem: Exception) -> InputError:
    """The problem as an InputError that names the file, once."""
    reason = reason_of(problem)
    named = reason if str(path) in reason else f"can't read {path}: {reason}"
    return InputError(f'{named} To train without such files: on_error="skip".')
