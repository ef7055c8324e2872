"""Painters whose model takes NumPy arrays: an exported network, or a classical method. No torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from cicm.conventions import InputError, SizeRule
from cicm.exemplar import classical
from cicm.inference.exemplars import Finder, lending
from cicm.inference.painter import PictureInpainter
from cicm.inference.plan import Plan
from cicm.inference.settings import FillSettings
from cicm.photos.resampling import averages, cubic, mirrored


@dataclass(frozen=True)
class Device:
    """Where a model of arrays runs.

    Args:
        type: "cpu" or "cuda".
        runtime: what runs it, where a reader of the report should know; empty elsewhere.
    """

    type: str = "cpu"
    index: int = 0
    runtime: str = ""

    def __str__(self) -> str:
        place = self.type if self.type == "cpu" else f"{self.type}:{self.index}"
        return f"{place} ({self.runtime})" if self.runtime else place


class ArrayInpainter(PictureInpainter):
    """Fills holes in pictures of any size and kind, one part at a time.

    Its `model` takes (1, 3, h, w) in [0, 1], 0 in the hole, and (1, 1, h, w), 1 = missing, both float32, of a size that
    the rule allows, and gives (1, 3, h, w).
    """

    def _call(self, colours: np.ndarray, gone: np.ndarray, plan: Plan) -> np.ndarray:
        return np.stack([self._call_one(*one, plan) for one in zip(colours, gone, strict=True)])

    def _call_one(self, colours: np.ndarray, gone: np.ndarray, plan: Plan) -> np.ndarray:
        size, missing = gone.shape, gone[..., None].astype(np.float32)
        seen = colours.astype(np.float32) * (1 - missing)
        if plan.work != size:  # averages over the known pixels alone
            share = averages(1 - missing, plan.work)
            known = (share >= 0.5).astype(np.float32)
            seen = averages(seen, plan.work) / np.maximum(share, 0.5) * known
            missing = 1 - known
        axes = tuple(zip(plan.work, plan.padded, strict=True))
        rows, columns = (mirrored(*axis, self.size.padding) for axis in axes)
        inputs = (part[rows][:, columns].transpose(2, 0, 1)[None] for part in (seen, missing))
        filled = self.model(*(np.ascontiguousarray(one) for one in inputs))[0].transpose(1, 2, 0)
        top, left = (self.size.before(*axis) for axis in axes)
        filled = filled[top : top + plan.work[0], left : left + plan.work[1]]
        return np.clip(cubic(filled, size) if plan.work != size else filled, 0.0, 1.0)


class Classical:
    """A method without learning as a model of arrays; it sees 8-bit colours.

    Raises:
        InputError: an unknown name, or a package that is not installed.
    """

    def __init__(self, name: str) -> None:
        if name not in classical.FILLS:
            raise InputError(f"a classical method is {', '.join(classical.FILLS)}; got {name!r}.")
        self.name = name
        self._fill, find = classical.FILLS[name]
        find()

    def __call__(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """(B, 3, H, W) and (B, 1, H, W) float32 -> (B, 3, H, W)."""
        return np.stack([self._one(*one) for one in zip(image, hole[:, 0] > 0.5, strict=True)])

    def _one(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        eight_bit = np.ascontiguousarray(np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8))
        filled = self._fill(eight_bit, hole)
        scale = np.float32(255 if filled.dtype == np.uint8 else 1)
        return (filled.astype(np.float32) / scale).transpose(2, 0, 1)


class ClassicalInpainter(ArrayInpainter):
    """Fills holes in pictures of any size and kind by a method without learning.

    Args:
        name: `telea`, `navier-stokes` or `biharmonic`.
        album, settings: as of `Inpainter`. The fill is the method's alone unless the settings say otherwise, and with
            the strategy `auto` OpenCV's two see a picture as it is, whatever its size, since they look at a hole's rim
            alone.

    Example:
        >>> image = np.full((8, 8, 3), 40, np.uint8)
        >>> int(ClassicalInpainter("telea")(image, np.eye(8, dtype=bool))[0, 0, 0])
        40
    """

    size = SizeRule()
    device = Device()

    def __init__(
        self, name: str, *, album: str | os.PathLike | Finder | None = None, settings: FillSettings | None = None
    ) -> None:
        self.model = Classical(name)
        settings = settings or FillSettings(fill="network")
        if settings.strategy == "auto" and name != "biharmonic":
            settings = settings.changed(strategy="whole")
        super().__init__(settings, lending(album))


class PatchInpainter(ArrayInpainter):
    """Fills holes with patches of real pixels alone; there is no network, and the result is that of `fill="exemplar"`.

    Args:
        album, settings: as of `Inpainter`.
    """

    size = SizeRule(16, 32)  # of the network that ships, so that crops are the same as beside it
    device = Device()

    def __init__(
        self, *, album: str | os.PathLike | Finder | None = None, settings: FillSettings | None = None
    ) -> None:
        self.model = _NoModel()
        super().__init__((settings or FillSettings()).changed(fill="exemplar"), lending(album))


class _NoModel:
    name = "no network"

    def __call__(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        raise InputError("the model `exemplar` has no network; its only fill is exemplar. Choose another model.")
