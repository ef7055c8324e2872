"""A model, a picture and a mask; out comes the same kind of picture, with the hole filled and all else untouched."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.conventions import InputError, describe
from cicm.data.photos import Photo, check_mask_size, open_photo
from cicm.data.pixels import Box, Pixels, pixels_of_array, pixels_of_image
from cicm.inference.crops import Crop, plan_crops
from cicm.inference.seams import soften
from cicm.inference.tiles import cut, depth, fill_levels, plan_levels

LARGE_HOLE = 0.6
"""Missing share above which a warning is given: the models are trained and scored up to 60 percent."""

WHOLE = 512 * 512
"""Pixels of a picture that is always seen whole; larger ones are cut around the hole."""

STRATEGIES = ("auto", "whole", "crop", "tile", "resize")

RELATIVE = 0.5
"""Known pixels around a group of holes, as a share of its shorter side, where that is more than the margin."""

BATCH = 2**21
"""Pixels in one forward: 32 pictures of 256x256; bounds the memory of a large batch."""


class LargeHoleWarning(UserWarning):
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


class Inpainter:
    """Fills holes in pictures of any size and kind.

    Args:
        model: a `cicm.assembly.MemoryInpainter`; it is moved to the device and put into evaluation mode.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" takes an accelerator where there is one.
        margin: known pixels that the network sees around a hole at least, in a picture that isn't seen whole.
        max_side: longest side of what the network sees.
        strategy: `whole`: the picture as it is. `resize`: one part around all holes, reduced if longer than `max_side`.
            `crop`: one around each group of holes, reduced likewise. `tile`: as crop, but wide holes are reduced until
            they are no wider than `widest`, thin ones are seen at full size, and what is longer than `tile` is done in
            tiles. `auto`: `tile`, and as ever for a picture of up to 512x512, which is seen whole.
        tile: side of a tile.
        widest: pixels across a hole, as the network sees it, up to which it fills well.
        feather: pixels inside the hole over which the step at its border is taken out of the fill; 0 leaves it.

    Raises:
        InputError: an unknown or absent device or strategy, a number out of its range.

    Example:
        >>> from cicm.assembly import ModelConfig, build
        >>> inpainter = Inpainter(build(ModelConfig("unet", {"width": 4})), device="cpu")
        >>> image, mask = np.full((20, 30, 3), 99, dtype=np.uint8), np.zeros((20, 30), dtype=bool)
        >>> mask[5:9, 5:9] = True
        >>> repaired = inpainter(image, mask)
        >>> repaired.shape, bool((repaired[~mask] == 99).all()), inpainter.report.network_size
        ((20, 30, 3), True, (32, 32))
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: str | torch.device = "auto",
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
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()
        self.margin = margin
        self.max_side = max_side
        self.strategy = strategy
        self.tile = tile
        self.widest = widest
        self.feather = feather
        self.reports: tuple[Report, ...] = ()

    @classmethod
    def from_pretrained(
        cls, path: str | os.PathLike | None = None, *, device: str | torch.device = "auto", **options: Any
    ) -> Inpainter:
        """The model in a weights file; without a path, the one that comes with the package.

        Args:
            path: a `.safetensors` file of cicm.
            device: as above.
            options: as above, by name.

        Raises:
            InputError: a file that is missing, damaged, a pickle or of another model; a device that is not there.
        """
        from cicm.assembly import default_weights, load_weights

        place = choose_device(device)  # before the file is read, so that a wrong name is told at once
        loaded = load_weights(default_weights() if path is None else path)
        return cls(loaded.model, device=place, **options)

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
            `cicm.data.photos.save_photo`. A PIL image is taken as it stands, without turning it by its EXIF.

        Raises:
            InputError: a kind, shape, mode, size or value that is none of these; a mask with nothing or everything
                white; a file that can't be read.

        Warns:
            LargeHoleWarning: more than 60 percent would be filled.
        """
        started = time.perf_counter()
        if isinstance(image, Tensor):
            return self._fill_tensor(image, mask, invert, started)
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
        raise InputError(
            f"image must be a path, a PIL image, a NumPy array or a torch tensor; got {type(image).__name__}. "
            "Convert it with numpy.asarray."
        )

    def fill_photo(self, photo: Photo, mask: Any, *, invert: bool = False) -> tuple[Photo, Report]:
        """Fill an opened photo; 16-bit, palette and CMYK files included.

        Returns:
            the photo, ready for `cicm.data.photos.save_photo`, and what was done.

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
        rule = self.model.network.size  # type: ignore[union-attr]
        left, top, right, bottom = box
        longest = max(size) if self.strategy == "whole" else self.max_side
        if max(bottom - top, right - left) <= longest:  # real pixels rather than padding, where there are any
            tall, wide = rule.nearest(bottom - top, right - left)  # type: ignore[union-attr,operator]
            top, bottom = _grow(top, bottom, tall, size[0])
            left, right = _grow(left, right, wide, size[1])
        tall, wide = bottom - top, right - left
        factor = max(1.0, max(tall, wide) / longest)
        work = (max(1, round(tall / factor)), max(1, round(wide / factor)))
        return Plan((left, top, right, bottom), work, rule.nearest(*work))  # type: ignore[union-attr,operator]

    def in_pieces(self, size: tuple[int, int]) -> bool:
        """Whether a picture of (height, width) is filled group by group, rather than in one piece as `plan` tells."""
        return self.strategy in ("crop", "tile") or (self.strategy == "auto" and size[0] * size[1] > WHOLE)

    # The kinds

    def _fill_pixels(self, pixels: Pixels, mask: Any, invert: bool, started: float) -> Pixels:
        hole = _checked_hole(mask, pixels.size, invert)
        if self.feather or self.in_pieces(pixels.size):
            canvas = _PixelCanvas(pixels)
            self.reports = (self._fill_canvas(canvas, hole, started),)
            return canvas.pixels
        plan = self.plan(hole)
        left, top, right, bottom = plan.box
        image = torch.from_numpy(np.ascontiguousarray(pixels.rgb(plan.box).transpose(2, 0, 1)))[None]
        part = hole[top:bottom, left:right]
        fill = self._forward(image, torch.from_numpy(part.astype(np.float32))[None, None], plan)
        filled = pixels.filled(fill[0].permute(1, 2, 0).cpu().numpy(), part, plan.box)
        self.reports = (self._report(hole, plan, started),)
        return filled

    def _fill_tensor(self, image: Tensor, mask: Any, invert: bool, started: float) -> Tensor:
        batch = (image[None] if image.ndim == 3 else image).detach()
        if batch.ndim != 4 or batch.shape[1] != 3 or not image.is_floating_point() or batch.numel() == 0:
            raise InputError(
                f"a tensor must be (3, H, W) or (B, 3, H, W), RGB, floating in [0, 1]; got {describe(image)}. "
                "Divide 8-bit values by 255, put the channels first with permute."
            )
        if not bool(torch.isfinite(batch).all()):
            raise InputError("image must be finite numbers in [0, 1]; got NaN or infinity. Mend these pixels first.")
        low, high = float(batch.min()), float(batch.max())
        if low < 0 or high > 1:
            raise InputError(f"image must lie in [0, 1]; got values in [{low:.4g}, {high:.4g}]. Divide by the largest.")
        size = (batch.shape[2], batch.shape[3])
        masks = _one_each(mask, len(batch))
        if masks is None:
            holes = [_checked_hole(mask, size, invert)] * len(batch)
        else:
            holes = [_checked_hole(one, size, invert) for one in masks]
        if self.feather or self.in_pieces(size):
            result, reports = torch.empty_like(batch), []
            for index, hole in enumerate(holes):
                canvas = _TensorCanvas(batch[index])
                reports.append(self._fill_canvas(canvas, hole, started))
                result[index] = canvas.values
            self.reports = tuple(reports)
            return result if image.ndim == 4 else result[0]
        plans = [self.plan(hole) for hole in holes]
        result = batch.clone()
        for start, stop in _runs(plans):
            left, top, right, bottom = plans[start].box
            part = torch.from_numpy(np.stack(holes[start:stop])[:, None, top:bottom, left:right]).to(batch.device)
            seen = batch[start:stop, :, top:bottom, left:right]
            fill = self._forward(seen.float(), part.float(), plans[start]).to(batch.device)
            inside = part.expand_as(seen)
            if not bool(torch.isfinite(fill[inside]).all()):
                raise InputError("the network gave NaN or infinity. Use other weights.")
            result[start:stop, :, top:bottom, left:right] = torch.where(inside, fill.to(seen.dtype), seen)
        self.reports = tuple(self._report(hole, plan, started) for hole, plan in zip(holes, plans, strict=True))
        return result if image.ndim == 4 else result[0]

    def _fill_canvas(self, canvas: _PixelCanvas | _TensorCanvas, hole: np.ndarray, started: float) -> Report:
        """Fill one picture in place, part by part; what was filled is known to the parts that come later."""
        rule = self.model.network.size  # type: ignore[union-attr]
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
                plan = Plan((0, 0, width, height), (height, width), rule.nearest(height, width))  # type: ignore[union-attr,operator]
            made.append(plan)
            image = torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1)))[None]
            filled = self._forward(image, torch.from_numpy(gone.astype(np.float32))[None, None], plan)
            return filled[0].permute(1, 2, 0).cpu().numpy()

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
                    int(rule.multiple_of),  # type: ignore[union-attr,arg-type]
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

    # The network

    @torch.inference_mode()
    def _forward(self, image: Tensor, hole: Tensor, plan: Plan) -> Tensor:
        """(B, 3, h, w) in [0, 1] and (B, 1, h, w) of the plan's box -> the filled part, same size, float32."""
        size = image.shape[-2:]
        corrupted = image * (1 - hole)
        if plan.work != tuple(size):
            # Averages over the known pixels alone, so that the hole's black does not bleed into its surroundings.
            # Where the picture lies, not on the device: MPS has no pooling by fractions.
            share = F.adaptive_avg_pool2d(1 - hole, plan.work)
            known = (share >= 0.5).to(hole.dtype)
            corrupted = F.adaptive_avg_pool2d(corrupted, plan.work) / share.clamp_min(0.5) * known
            hole = 1 - known
        corrupted, hole = corrupted.to(self.device), hole.to(self.device)
        rows = _mirrored(plan.work[0], plan.padded[0], self.device)
        columns = _mirrored(plan.work[1], plan.padded[1], self.device)
        corrupted, hole = (t.index_select(2, rows).index_select(3, columns) for t in (corrupted, hole))
        try:
            filled = self.model(corrupted, hole).composite
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
                raise
            raise InputError(
                f"not enough memory on {self.device} for {plan.padded[0]}x{plan.padded[1]} pixels. "
                "Use a smaller max_side, or device='cpu'."
            ) from error
        top, left = (_start(work, padded) for work, padded in zip(plan.work, plan.padded, strict=True))
        filled = filled[..., top : top + plan.work[0], left : left + plan.work[1]].float()
        if plan.work != tuple(size):
            filled = F.interpolate(filled, size=tuple(size), mode="bicubic", align_corners=False)
        return filled.clamp(0.0, 1.0)

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


class _TensorCanvas:
    """The same for (3, H, W) in [0, 1]."""

    def __init__(self, image: Tensor) -> None:
        self.values = image.clone()

    def read(self, box: Box) -> np.ndarray:
        left, top, right, bottom = box
        return self.values[:, top:bottom, left:right].float().permute(1, 2, 0).cpu().numpy()

    def write(self, box: Box, colours: np.ndarray, places: np.ndarray) -> None:
        if not np.isfinite(colours[places]).all():
            raise InputError("the network gave NaN or infinity. Use other weights.")
        left, top, right, bottom = box
        here = self.values[:, top:bottom, left:right]
        new = torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1))).to(here)
        here.copy_(torch.where(torch.from_numpy(places).to(here.device), new, here))


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device of that name; "auto" is CUDA, else Apple's MPS, else the CPU.

    Raises:
        InputError: an unknown name, or a device that this machine or this build of torch does not have.
    """
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(found)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"no device {str(name)!r} here; expected auto, cpu, cuda, cuda:N or mps, and torch built for it. "
            "Use --device cpu (device='cpu')."
        ) from error
    return device


def _checked_hole(mask: Any, size: tuple[int, int], invert: bool) -> np.ndarray:
    """(H, W) bool from any kind of mask; refuses another size, nothing to fill, and nothing known."""
    from cicm.data.holes import to_hole

    hole = to_hole(mask, invert=invert)[0].cpu().numpy() > 0.5
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


def _one_each(mask: Any, count: int) -> Sequence[Any] | None:
    """The masks of a batch, one for each picture; None if there is one for all."""
    several = isinstance(mask, (list, tuple)) or (isinstance(mask, (np.ndarray, Tensor)) and mask.ndim == 4)
    if not several:
        return None
    if len(mask) != count:
        raise InputError(f"expected one mask, or one for each of the {count} pictures; got {len(mask)}.")
    return mask


def _runs(plans: Sequence[Plan]) -> list[tuple[int, int]]:
    """Stretches of equal plans, as (start, stop), each small enough for one forward."""
    runs: list[tuple[int, int]] = []
    for index, plan in enumerate(plans):
        most = max(1, BATCH // (plan.padded[0] * plan.padded[1]))
        if runs and plans[runs[-1][0]] == plan and index - runs[-1][0] < most:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs


def _grow(start: int, stop: int, wanted: int, limit: int) -> tuple[int, int]:
    """Widen [start, stop) to `wanted`, or as far as [0, limit) allows, evenly where there is room."""
    wanted = min(wanted, limit)
    start = max(0, min(start - (wanted - (stop - start)) // 2, limit - wanted))
    return start, start + wanted


def _start(size: int, padded: int) -> int:
    """Where the picture begins in the padded one."""
    return (padded - size) // 2


def _mirrored(size: int, padded: int, device: torch.device) -> Tensor:
    """Indices that pad an axis by mirroring at its ends, as often as needed: hole mirrors as hole, known as known.

    Example:
        >>> _mirrored(3, 8, torch.device("cpu")).tolist()
        [2, 1, 0, 1, 2, 1, 0, 1]
    """
    period = max(1, 2 * (size - 1))
    steps = (torch.arange(padded, device=device) - _start(size, padded)) % period
    return torch.where(steps < size, steps, period - steps)


def _corner(pixels: Pixels) -> Pixels:
    return replace(pixels, values=pixels.values[:1, :1])
