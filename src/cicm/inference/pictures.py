"""What becomes of a picture before and after a network sees it; NumPy alone, so that any runtime can be below it."""

from __future__ import annotations

import copy
import os
import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, Self, overload

import numpy as np
from PIL import Image

from cicm.conventions import InputError, Notice, SizeRule
from cicm.inference.crops import Crop, plan_crops
from cicm.inference.seams import soften
from cicm.inference.tiles import cut, depth, fill_levels, plan_levels
from cicm.photos.masks import missing_pixels
from cicm.photos.photo import Photo, check_mask_size, open_photo
from cicm.photos.pixels import Box, Pixels, pixels_of_array, pixels_of_image

if TYPE_CHECKING:
    from torch import Tensor

LARGE_HOLE = 0.6
"""Missing share above which a warning is given: the models are trained and scored up to 60 percent."""

WHOLE = 512 * 512
"""Pixels of a picture that is always seen whole; larger ones are cut around the hole."""

STRATEGIES = ("auto", "whole", "crop", "tile", "resize")

RELATIVE = 0.5
"""Known pixels around a group of holes, as a share of its shorter side, where that is more than the margin."""


BATCH = 2**21
"""Pixels in one forward: 32 pictures of 256x256; bounds the memory of a large batch."""


class LargeHoleWarning(Notice):
    """More than 60 percent of the picture would be filled: often a mask of the other polarity."""


@dataclass(frozen=True)
class Report:
    """What was done to one picture.

    Args:
        height: of the picture.
        width: of the picture.
        missing: share of the pixels that were filled.
        box: the part that the network saw, (left, top, right, bottom); of several crops what encloses them.
        reduced: factor by which that part was reduced for the network; 1 is none. The largest, if there are several.
        network_size: (height, width) that the network computed, padding included. The largest, if there are several.
        device: where.
        seconds: from the decoded picture to the filled one; of the whole call for a batch.
        strategy: what was done: `whole`, `resize`, `crop` or `tile`.
        crops: the parts, each around a group of holes, in the order in which they were filled.
        tiles: how often the network was called.
        feather: pixels over which the step at the border was taken out of the fill.
    """

    height: int
    width: int
    missing: float
    box: Box
    reduced: float
    network_size: tuple[int, int]
    device: str
    seconds: float = 0.0
    strategy: str = "whole"
    crops: tuple[Box, ...] = ()
    tiles: int = 1
    feather: int = 0


@dataclass(frozen=True)
class Plan:
    """Which part of a picture the network sees, and at which size.

    Args:
        box: (left, top, right, bottom).
        work: (height, width) of that part for the network, before padding.
        padded: (height, width) that the network's size rule asks for.
    """

    box: Box
    work: tuple[int, int]
    padded: tuple[int, int]

    @property
    def reduced(self) -> float:
        """How many times smaller the network sees it; 1 is as it is."""
        left, top, right, bottom = self.box
        return max(bottom - top, right - left) / max(self.work)


class Canvas(Protocol):
    """A picture that is being filled."""

    def read(self, box: Box) -> np.ndarray:
        """(h, w, 3) float32 in [0, 1]."""

    def write(self, box: Box, colours: np.ndarray, places: np.ndarray) -> None:
        """Store colours (h, w, 3) where places (h, w) are True."""


class PictureInpainter:
    """Everything around the network; `Inpainter` has one in torch, `OnnxInpainter` one in onnxruntime.

    A subclass says what sizes its network takes and where it runs, and fills a part (`_fill_part`).

    Attributes:
        size: the network's size rule.
        device: where it runs; told in reports.
        model: the network.
    """

    size: SizeRule
    device: Any
    model: Any

    def __init__(
        self,
        *,
        margin: int = 64,
        max_side: int = 1024,
        strategy: str = "auto",
        tile: int = 512,
        widest: int = 96,
        feather: int = 0,
    ) -> None:
        if strategy not in STRATEGIES:
            raise InputError(f"strategy must be one of {', '.join(STRATEGIES)}; got {strategy!r}.")
        for name, value, least in (
            ("margin", margin, 1),
            ("max_side", max_side, 32),
            ("tile", tile, 32),
            ("widest", widest, 8),
            ("feather", feather, 0),
        ):
            if value < least:
                raise InputError(f"{name} must be at least {least}; got {value}.")
        self.margin = margin
        self.max_side = max_side
        self.strategy = strategy
        self.tile = tile
        self.widest = widest
        self.feather = feather
        self.reports: tuple[Report, ...] = ()

    @property
    def report(self) -> Report | None:
        """What the last call did, to its first picture; `reports` has one for each picture of a batch."""
        return self.reports[0] if self.reports else None

    @overload
    def __call__(self, image: str | os.PathLike, mask: Any, *, invert: bool = ...) -> Image.Image: ...

    @overload
    def __call__(self, image: Image.Image, mask: Any, *, invert: bool = ...) -> Image.Image: ...

    @overload
    def __call__(self, image: np.ndarray, mask: Any, *, invert: bool = ...) -> np.ndarray: ...

    @overload
    def __call__(self, image: Tensor, mask: Any, *, invert: bool = ...) -> Tensor: ...

    def __call__(self, image: Any, mask: Any, *, invert: bool = False) -> Any:
        """Fill what the mask marks.

        Args:
            image: a path; a PIL image; an array (H, W), (H, W, 3) or (H, W, 4) of uint8, uint16 or floats in [0, 1];
                a floating tensor (3, H, W) or (B, 3, H, W) in [0, 1].
            mask: white = fill; whatever `cicm.data.to_hole` takes, of the picture's size. For a batch one for all, or a
                sequence, array or tensor with one for each.
            invert: black = fill.

        Returns:
            the same kind, size, mode and dtype, equal outside the hole bit for bit. A path gives an upright PIL image
            that carries the file's EXIF and profile; to write a file back as the file it was, use `fill_photo` and
            `cicm.photos.photo.save_photo`. A PIL image is taken as it stands, without turning it by its EXIF.

        Raises:
            InputError: a kind, shape, mode, size or value that is none of these; a mask with nothing or everything
                white; a file that can't be read.

        Warns:
            LargeHoleWarning: more than 60 percent would be filled.
        """
        started = time.perf_counter()
        if isinstance(image, np.ndarray):
            return self._fill_pixels(pixels_of_array(image), mask, invert, started).values
        if isinstance(image, Image.Image):
            filled = self._fill_pixels(pixels_of_image(image), mask, invert, started).to_image(image.mode)
            kept = {name: value for name, value in image.info.items() if name != "transparency"}
            filled.info.update(kept)
            return filled
        if isinstance(image, (str, os.PathLike)):
            photo = open_photo(image)
            photo.with_pixels(_corner(photo.pixels)).to_image()  # refuses 16-bit colour before the work, not after it
            return self.fill_photo(photo, mask, invert=invert)[0].to_image()
        return self._fill_other(image, mask, invert, started)

    def fill_photo(self, photo: Photo, mask: Any, *, invert: bool = False) -> tuple[Photo, Report]:
        """Fill an opened photo; 16-bit, palette and CMYK files included.

        Returns:
            the photo, ready for `cicm.photos.photo.save_photo`, and what was done.

        Raises:
            InputError: as a call.
        """
        started = time.perf_counter()
        pixels = self._fill_pixels(photo.pixels, mask, invert, started)
        return photo.with_pixels(pixels), self.reports[0]

    def plan(self, hole: np.ndarray) -> Plan:
        """Where to look and how large, for a hole (H, W) bool with something in it that is seen in one piece."""
        height, width = hole.shape
        box = (0, 0, width, height)
        if height * width > WHOLE and self.strategy != "whole":
            rows, columns = np.flatnonzero(hole.any(1)).tolist(), np.flatnonzero(hole.any(0)).tolist()
            margin = max(self.margin, rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
            top, bottom = max(0, rows[0] - margin), min(height, rows[-1] + 1 + margin)
            left, right = max(0, columns[0] - margin), min(width, columns[-1] + 1 + margin)
            box = (left, top, right, bottom)
        return self._seen(box, (height, width))

    def _seen(self, box: Box, size: tuple[int, int]) -> Plan:
        """How large the network sees a part of a picture of (height, width)."""
        left, top, right, bottom = box
        longest = max(size) if self.strategy == "whole" else self.max_side
        if max(bottom - top, right - left) <= longest:  # real pixels rather than padding, where there are any
            tall, wide = self.size.nearest(bottom - top, right - left)
            top, bottom = _grow(top, bottom, tall, size[0])
            left, right = _grow(left, right, wide, size[1])
        tall, wide = bottom - top, right - left
        factor = max(1.0, max(tall, wide) / longest)
        work = (max(1, round(tall / factor)), max(1, round(wide / factor)))
        return Plan((left, top, right, bottom), work, self.size.nearest(*work))

    def in_pieces(self, size: tuple[int, int]) -> bool:
        """Whether a picture of (height, width) is filled group by group, rather than in one piece as `plan` tells."""
        return self.strategy in ("crop", "tile") or (self.strategy == "auto" and size[0] * size[1] > WHOLE)

    def in_one_piece(self) -> Self:
        """The same with one forward for a picture of any size, as `plan` tells; shares the model."""
        other = copy.copy(self)
        other.strategy = "whole" if self.strategy == "whole" else "resize"
        return other

    def _fill_other(self, image: Any, mask: Any, invert: bool, started: float) -> Any:
        """Fill a picture of a kind that is not known here."""
        raise InputError(
            f"image must be a path, a PIL image or a NumPy array; got {type(image).__name__}. "
            "Convert it with numpy.asarray."
        )

    def _fill_part(self, colours: np.ndarray, gone: np.ndarray, plan: Plan) -> np.ndarray:
        """Call the network: (h, w, 3) float32 in [0, 1] and (h, w) bool of the plan's box -> (h, w, 3) float32."""
        raise NotImplementedError

    def _fill_pixels(self, pixels: Pixels, mask: Any, invert: bool, started: float) -> Pixels:
        hole = checked_hole(mask, pixels.size, invert)
        if self.feather or self.in_pieces(pixels.size):
            canvas = _PixelCanvas(pixels)
            self.reports = (self._fill_canvas(canvas, hole, started),)
            return canvas.pixels
        plan = self.plan(hole)
        left, top, right, bottom = plan.box
        part = hole[top:bottom, left:right]
        filled = pixels.filled(self._fill_part(pixels.rgb(plan.box), part, plan), part, plan.box)
        self.reports = (self._report(hole, plan, started),)
        return filled

    def _fill_canvas(self, canvas: Canvas, hole: np.ndarray, started: float) -> Report:
        """Fill one picture in place, part by part; what was filled is known to the parts that come later."""
        pieces = self.in_pieces(hole.shape)
        tiling = pieces and self.strategy != "crop"
        side = min(self.tile, self.max_side) if tiling else self.max_side
        if pieces:
            crops = plan_crops(hole, margin=self.margin, relative=RELATIVE, longest=side)
        else:
            box = self.plan(hole).box
            crops = (Crop(box, box),)
        made: list[Plan] = []

        def fill(colours: np.ndarray, gone: np.ndarray, plan: Plan | None = None) -> np.ndarray:
            height, width = gone.shape
            if plan is None:
                plan = Plan((0, 0, width, height), (height, width), self.size.nearest(height, width))
            made.append(plan)
            return self._fill_part(colours, gone, plan)

        missing, boxes, reduced = hole.copy(), [], 1.0
        for crop in crops:
            plan = self._seen(crop.box, hole.shape) if not tiling else None
            box = plan.box if plan else crop.box
            part, own = cut(missing, box), _inside(missing, crop.hole, box)
            if plan is None:
                levels = plan_levels(part, min(self.widest, side / 2))
                fill_levels(
                    canvas.read,
                    canvas.write,
                    fill,
                    box,
                    part,
                    own,
                    levels,
                    side,
                    self.margin,
                    self.size.multiple_of,
                )
                reduced = max(reduced, levels[0].factor)
            else:
                canvas.write(box, fill(canvas.read(box), part, plan), own)
                reduced = max(reduced, plan.reduced)
            if self.feather:
                gone = cut(hole, box)
                soften(canvas.read, canvas.write, box, own, ~gone, depth(gone), self.feather)
            part[own] = False  # a view of what is still missing
            boxes.append(box)
        edges = np.array(boxes)
        return replace(
            self._report(hole, max(made, key=lambda plan: plan.padded[0] * plan.padded[1]), started),
            box=(*edges[:, :2].min(0).tolist(), *edges[:, 2:].max(0).tolist()),
            reduced=reduced,
            strategy=("tile" if len(made) > len(boxes) else "crop") if pieces else self._one_piece(made[0], hole),
            crops=tuple(boxes),
            tiles=len(made),
            feather=self.feather,
        )

    def _report(self, hole: np.ndarray, plan: Plan, started: float) -> Report:
        return Report(
            height=hole.shape[0],
            width=hole.shape[1],
            missing=float(hole.mean()),
            box=plan.box,
            reduced=plan.reduced,
            network_size=plan.padded,
            device=str(self.device),
            seconds=time.perf_counter() - started,
            strategy=self._one_piece(plan, hole),
            crops=(plan.box,),
        )

    def _one_piece(self, plan: Plan, hole: np.ndarray) -> str:
        return "whole" if plan.work == hole.shape else "resize"


class _PixelCanvas:
    """A picture's stored numbers, being filled; the caller's are not written to."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = replace(pixels, values=pixels.values.copy())

    def read(self, box: Box) -> np.ndarray:
        return self.pixels.rgb(box)

    def write(self, box: Box, colours: np.ndarray, places: np.ndarray) -> None:
        here = cut(self.pixels.values, box)
        here[...] = replace(self.pixels, values=here).filled(colours, places).values


def checked_hole(mask: Any, size: tuple[int, int], invert: bool) -> np.ndarray:
    """(H, W) bool from any kind of mask; refuses another size, nothing to fill, and nothing known."""
    hole = missing_pixels(mask, invert=invert)
    check_mask_size(hole.shape, size)
    other = "is all white" if invert else "has no white"
    if not hole.any():
        raise InputError(
            f"nothing to fill: the mask {other}. White means fill; paint the places to fill white, or turn the "
            "meaning round with --invert (invert=True)."
        )
    if hole.all():
        raise InputError(
            f"nothing known to start from: the mask is all {'black' if invert else 'white'}, so the whole picture "
            "would be filled. Leave what is to stay black, or turn the meaning round with --invert (invert=True)."
        )
    if (share := float(hole.mean())) > LARGE_HOLE:
        warnings.warn(
            f"{share:.0%} of the picture would be filled, more than the models are trained for. White means fill; "
            "if the mask has it the other way round, use --invert (invert=True).",
            LargeHoleWarning,
            stacklevel=4,
        )
    return hole


def _inside(missing: np.ndarray, group: Box, box: Box) -> np.ndarray:
    """(h, w) bool of the box: what is missing inside the group's own box."""
    own = np.zeros((box[3] - box[1], box[2] - box[0]), dtype=bool)
    here = (group[0] - box[0], group[1] - box[1], group[2] - box[0], group[3] - box[1])
    cut(own, here)[...] = cut(missing, group)
    return own


def _grow(start: int, stop: int, wanted: int, limit: int) -> tuple[int, int]:
    """Widen [start, stop) to `wanted`, or as far as [0, limit) allows, evenly where there is room."""
    wanted = min(wanted, limit)
    start = max(0, min(start - (wanted - (stop - start)) // 2, limit - wanted))
    return start, start + wanted


def _corner(pixels: Pixels) -> Pixels:
    return replace(pixels, values=pixels.values[:1, :1])
