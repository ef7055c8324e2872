"""From a picture and a mask to the filled picture, whatever runs the network. NumPy alone; no torch.

All doors come to `_fill_all`: it cuts a picture into crops (one, if it is seen whole) and fills crop after crop.
`fill_crop` gives one crop its colours.
"""

from __future__ import annotations

import copy
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
from PIL import Image

from cicm.conventions import InputError, Notice, SizeRule
from cicm.files import digest_of
from cicm.inference.canvas import Canvas, Filling, PixelCanvas
from cicm.inference.exemplars import Finder, add_patches, borrow, check_fill, fill_done, fill_flat, lay_over
from cicm.inference.plan import Part, Plan, in_pieces, longest, plan_parts, plan_piece, within
from cicm.inference.report import Report
from cicm.inference.seams import soften
from cicm.inference.settings import FillSettings
from cicm.inference.tiles import cut, depth, fill_levels, plan_levels
from cicm.photos.marking import Marks, mark, mark_size
from cicm.photos.photo import Photo, open_photo
from cicm.photos.pixels import Pixels, pixels_of_array, pixels_of_image

if TYPE_CHECKING:
    from torch import Tensor

LARGE_HOLE = 0.6
"""Missing share above which a warning is given: the models are trained and scored up to 60 percent."""

BATCH = 2**21
"""Pixels in one forward: 32 pictures of 256x256; bounds the memory of a large batch."""


class LargeHoleWarning(Notice):
    """More than 60 percent of the picture would be filled: often a mask of the other polarity."""


class PictureInpainter:
    """Everything around the network; `Inpainter` has one in torch, `OnnxInpainter` one in onnxruntime.

    A subclass says what sizes its network takes and where it runs, and calls it (`_call`).

    Attributes:
        size: the network's size rule.
        device: where it runs; told in reports.
        model: the network.
        settings: how pictures are cut and joined around it.
        album: other photos, which may lend pixels; None for none.
        reports: what the last call did, one for each picture of a batch. With several threads it is the last one's;
            `fill_photo` gives back its own.
    """

    size: SizeRule
    device: Any
    model: Any

    def __init__(self, settings: FillSettings, album: Finder | None = None) -> None:
        check_fill(settings)
        self.settings = settings
        self.album = album
        self.reports: tuple[Report, ...] = ()

    @property
    def report(self) -> Report | None:
        """What the last call did, to its first picture."""
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
            mask: white = fill; whatever `cicm.data.to_hole` takes, of the picture's size; or `cicm.photos.Marks`, for
                boxes, polygons, a colour or transparency. For a batch one for all, or a sequence, array or tensor with
                one for each.
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
            return self._fill_pixels(pixels_of_array(image), mask, invert, started)[0].values
        if isinstance(image, Image.Image):
            filled = self._fill_pixels(pixels_of_image(image), mask, invert, started)[0].to_image(image.mode)
            kept = {name: value for name, value in image.info.items() if name != "transparency"}
            filled.info.update(kept)
            return filled
        if isinstance(image, (str, os.PathLike)):
            photo = open_photo(image)
            corner = replace(photo.pixels, values=photo.pixels.values[:1, :1])
            photo.with_pixels(corner).to_image()  # refuses 16-bit colour before the work, not after it
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
        own = (digest_of(photo.path),) if self.album is not None and photo.path.is_file() else ()
        pixels, report = self._fill_pixels(photo.pixels, mask, invert, started, own)
        return photo.with_pixels(pixels), report

    def plan(self, hole: np.ndarray) -> Plan:
        """Where to look and how large, for a hole (H, W) bool with something in it that is seen in one piece."""
        return plan_piece(hole, self.size, self.settings)

    def in_one_piece(self) -> Self:
        """The same with one forward for a picture of any size, as `plan` tells; shares the model."""
        other = copy.copy(self)
        other.settings = self.settings.changed(strategy="whole" if self.settings.strategy == "whole" else "resize")
        return other

    # What a subclass has

    def _call(self, colours: np.ndarray, gone: np.ndarray, plan: Plan) -> np.ndarray:
        """Call the network on B equal parts.

        Args:
            colours: (B, h, w, 3) float32 in [0, 1] of the plan's box.
            gone: (B, h, w) bool.
            plan: tells to which size to reduce and to pad.

        Returns:
            (B, h, w, 3) float32 in [0, 1].
        """
        raise NotImplementedError

    def _fill_other(self, image: Any, mask: Any, invert: bool, started: float) -> Any:
        """Fill a picture of a kind that is not known here."""
        raise InputError(
            f"image must be a path, a PIL image or a NumPy array; got {type(image).__name__}. "
            "Convert it with numpy.asarray."
        )

    # The one way to a filled picture

    def _fill_pixels(
        self, pixels: Pixels, mask: Any, invert: bool, started: float, own: Sequence[str] = ()
    ) -> tuple[Pixels, Report]:
        pixels, hole = mark(pixels, _marks_of(mask, invert))
        _warn_if_large(hole)
        canvas = PixelCanvas(pixels)
        (report,) = self._fill_all([canvas], [hole], started, own)
        return canvas.pixels, report

    def _fill_all(
        self, canvases: Sequence[Canvas], holes: Sequence[np.ndarray], started: float, own_files: Sequence[str] = ()
    ) -> tuple[Report, ...]:
        """Fill pictures in place, crop by crop; what was filled is known to the crops that come later.

        Returns:
            a report of each; `reports` may be another thread's by now.
        """
        fillings = [
            Filling(canvas, hole, plan_parts(hole, self.size, self.settings))
            for canvas, hole in zip(canvases, holes, strict=True)
        ]
        if self.album is not None:
            for filling in fillings:
                borrow(filling, self.album, own_files)
        for alike in _alike(fillings, together=not self.settings.feather):
            for part in alike[0].parts:
                own = [filling.own(part) for filling in alike]
                left = [fill_flat(filling, part, places) for filling, places in zip(alike, own, strict=True)]
                if any(places.any() for places in left):
                    self.fill_crop(alike, part, left)
                for filling, places in zip(alike, own, strict=True):
                    if feather := self.settings.feather:
                        gone = cut(filling.hole, part.box)
                        canvas = filling.canvas
                        soften(canvas.read, canvas.write, part.box, places, ~gone, depth(gone), feather)
                    cut(filling.missing, part.box)[places] = False
        reports = tuple(self._report(filling, started) for filling in fillings)
        self.reports = reports
        return reports

    def fill_crop(self, fillings: Sequence[Filling], part: Part, own: Sequence[np.ndarray]) -> None:
        """Give one crop its colours: of one picture, or the same crop of several, in one call of the network.

        Here, and nowhere else, it is decided what a crop is filled with: the network, real pixels, or both joined.

        Args:
            fillings: the pictures.
            part: the crop.
            own: for each picture (h, w) bool of the crop, the pixels to write. What is missing beside them belongs to
                crops that come later.
        """
        if self.settings.fill != "exemplar":
            self._fill_by_network(fillings, part, own)
        if self.settings.fill != "network":
            for filling, places in zip(fillings, own, strict=True):
                if places.any():
                    add_patches(filling, part, places, self.settings)
        for filling, places in zip(fillings, own, strict=True):
            lay_over(filling, part, places)

    def _fill_by_network(self, fillings: Sequence[Filling], part: Part, own: Sequence[np.ndarray]) -> None:
        if part.plan is None:
            for filling, places in zip(fillings, own, strict=True):
                self._fill_in_levels(filling, part, places)
            return
        colours = np.stack([filling.canvas.read(part.box) for filling in fillings])
        gone = np.stack([cut(filling.missing, part.box) for filling in fillings])
        filled = self._call(colours, gone, part.plan)
        for filling, one, places in zip(fillings, filled, own, strict=True):
            filling.canvas.write(part.box, one, places)
            filling.calls.append(part.plan)
            filling.reduced = max(filling.reduced, part.plan.reduced)

    def _fill_in_levels(self, filling: Filling, part: Part, own: np.ndarray) -> None:
        """Fill a crop from its widest places to its thinnest, in tiles where it is long."""
        side = longest(within(self.settings, self.size))
        gone = cut(filling.missing, part.box)
        levels = plan_levels(gone, min(self.settings.widest, side / 2))

        def fill(colours: np.ndarray, gone: np.ndarray) -> np.ndarray:
            height, width = gone.shape
            plan = Plan((0, 0, width, height), (height, width), self.size.nearest(height, width))
            filling.calls.append(plan)
            return self._call(colours[None], gone[None], plan)[0]

        canvas, settings = filling.canvas, self.settings
        fill_levels(
            canvas.read,
            canvas.write,
            fill,
            part.box,
            gone,
            own,
            levels,
            side,
            settings.margin,
            self.size.multiple_of,
        )
        filling.reduced = max(filling.reduced, levels[0].factor)

    def _report(self, filling: Filling, started: float) -> Report:
        parts, calls, size = filling.parts, filling.calls, filling.hole.shape
        edges = np.array([part.box for part in parts])
        if in_pieces(size, self.size, self.settings):
            strategy = "tile" if len(calls) > len(parts) else "crop"
        else:
            strategy = "whole" if not calls or calls[0].work == size else "resize"
        return Report(
            height=size[0],
            width=size[1],
            missing=float(filling.hole.mean()),
            box=(*edges[:, :2].min(0).tolist(), *edges[:, 2:].max(0).tolist()),
            reduced=filling.reduced,
            network_size=max((plan.padded for plan in calls), key=lambda padded: padded[0] * padded[1], default=(0, 0)),
            device=str(self.device),
            seconds=time.perf_counter() - started,
            strategy=strategy,
            crops=tuple(part.box for part in parts),
            tiles=len(calls),
            feather=self.settings.feather,
            fill=fill_done(self.settings),
            lenders=filling.lenders,
            notes=tuple(filling.notes),
        )


def hole_of(mask: Any, size: tuple[int, int], invert: bool) -> np.ndarray:
    """(H, W) bool from any kind of mask, for a picture of (height, width) without stored pixels.

    Raises:
        InputError: as `cicm.photos.marking.mark_size`.
    """
    hole = mark_size(size, _marks_of(mask, invert))
    _warn_if_large(hole)
    return hole


def _marks_of(mask: Any, invert: bool) -> Marks:
    if isinstance(mask, Marks):
        return replace(mask, invert=mask.invert != invert)
    return Marks(masks=(mask,), invert=invert)


def _warn_if_large(hole: np.ndarray) -> None:
    if (share := float(hole.mean())) > LARGE_HOLE:
        warnings.warn(
            f"{share:.0%} of the picture would be filled, more than the models are trained for. White means fill; "
            "if the mask has it the other way round, use --invert (invert=True).",
            LargeHoleWarning,
            stacklevel=5,
        )


def _alike(fillings: Sequence[Filling], together: bool) -> Iterator[Sequence[Filling]]:
    """Stretches of pictures whose one crop is seen alike, each small enough for one forward; all others alone."""
    start = 0
    while start < len(fillings):
        stop, first = start + 1, fillings[start].parts
        if together and len(first) == 1 and first[0].plan is not None:
            tall, wide = first[0].plan.padded
            most = max(1, BATCH // (tall * wide))
            while stop < len(fillings) and fillings[stop].parts == first and stop - start < most:
                stop += 1
        yield fillings[start:stop]
        start = stop
