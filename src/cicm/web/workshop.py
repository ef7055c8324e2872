"""Where photos are repaired: one thread for the network, a few for files, and a line of bounded length before them.

A photo is decoded, filled, encoded. At most `DESK` of them are decoded at a time, so that memory stays flat however
many wait. A client that goes away, or a time that is up, takes its photo out of the line, or out of the network before
its next layer.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import io
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from cicm.conventions import InputError, notices_kept
from cicm.exemplar.handful import Handful
from cicm.files import digest_of
from cicm.inference.painter import LARGE_HOLE, PictureInpainter
from cicm.inference.report import Report
from cicm.photos.headers import PictureTooLarge
from cicm.photos.marking import Marks, mark
from cicm.photos.photo import Photo, decode_photo, encode_photo
from cicm.web.form import Order
from cicm.web.limits import Limits, Refused

T = TypeVar("T")

DESK = 3
"""Photos that are decoded at a time: one in each of decoding, the network, encoding."""


class _Gone(Exception):
    """Nobody waits for this repair any more."""


@dataclass(frozen=True)
class Repaired:
    """A file, ready to be sent.

    Args:
        data: the file.
        format: Pillow's name of its format.
        report: what was done.
        seed: of the search for patches.
        notes: what could not be kept, and what a reader may want to know.
    """

    data: bytes
    format: str
    report: Report
    seed: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Preview:
    """A picture that every browser shows.

    Args:
        data: PNG.
        height: of the photo itself.
        width: of the photo itself.
        format: of the photo itself.
    """

    data: bytes
    height: int
    width: int
    format: str


class Workshop:
    """Repairs photos for many at a time.

    Args:
        inpainter: used by one thread alone from now on.
        limits: for pixels and the length of the line.
    """

    def __init__(self, inpainter: PictureInpainter, limits: Limits) -> None:
        self.inpainter = inpainter
        self.limits = limits
        self._inside = 0
        self._seconds = 1.0  # what a photo took lately, for Retry-After
        self._desk = asyncio.Semaphore(DESK)  # first come, first served
        self._files = ThreadPoolExecutor(2, thread_name_prefix="cicm-files")
        self._network = ThreadPoolExecutor(1, thread_name_prefix="cicm-network")
        self._current: threading.Event | None = None
        modules = getattr(inpainter.model, "modules", tuple)  # only a network of torch has layers to stop before
        self._hooks = [module.register_forward_pre_hook(self._look) for module in modules()]

    def close(self) -> None:
        """Stop what runs, and let the threads end."""
        if self._current is not None:
            self._current.set()
        self._files.shutdown(wait=False, cancel_futures=True)
        self._network.shutdown(wait=True, cancel_futures=True)
        for hook in self._hooks:
            hook.remove()

    @property
    def waiting(self) -> int:
        """Requests in the house beside the one that is worked on."""
        return max(0, self._inside - 1)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place in the line, held while the body arrives and until the answer is there.

        Raises:
            Refused: 429, the line is full.
        """
        if self._inside > self.limits.queue:
            wait = math.ceil(min(60.0, max(1.0, self._seconds * self._inside / 2)))
            raise Refused(
                429,
                f"{self.waiting} photos are waiting already, the most that this server takes on. "
                f"Try again in {wait} seconds.",
                {"Retry-After": str(wait)},
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def repair(self, order: Order) -> Repaired:
        """Do what an order says.

        Raises:
            Refused: a file or a value that can't be used, or no memory for it.
        """
        gone = threading.Event()
        async with self._desk:
            started = time.perf_counter()
            photo, hole, album = await self._in(self._files, gone, self._opened, order)
            filled, report = await self._in(self._network, gone, self._filled, photo, hole, album, order, gone)
            del album
            repaired = await self._in(self._files, gone, self._closed, filled, report, order)
            self._seconds += 0.2 * (time.perf_counter() - started - self._seconds)
            return repaired

    async def preview(self, image: bytes, side: int) -> Preview:
        """The photo as a small PNG, upright, for browsers that can't show its format.

        Raises:
            Refused: a file that can't be used.
        """
        async with self._desk:
            return await self._in(self._files, threading.Event(), self._shown, image, side)

    async def _in(self, room: Executor, gone: threading.Event, work: Callable[..., T], *args: Any) -> T:
        """Run in another thread; when cancelled, wait until that has noticed, for it still holds the photo."""
        running = room.submit(work, *args)
        waiter = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(waiter)
        except asyncio.CancelledError:
            gone.set()
            if not running.cancel():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({waiter})
            if waiter.done() and not waiter.cancelled():
                waiter.exception()  # looked at, so that nobody complains
            raise
        except InputError as error:
            status = 413 if isinstance(error, PictureTooLarge) else 422
            raise Refused(status, _sentence(error)) from error
        except MemoryError as error:
            raise Refused(503, "There is not enough memory for this photo. Cut out the part to repair.") from error

    # In the threads

    def _opened(self, order: Order) -> tuple[Photo, np.ndarray, Handful | None]:
        photo = decode_photo(order.image, "the photo", max_pixels=self.limits.max_pixels)
        masks = () if order.mask is None else (decode_photo(order.mask, "the mask", max_pixels=self.limits.max_pixels),)
        marks = Marks(masks=masks, boxes=order.boxes, invert=order.invert, grow=order.grow)
        with notices_kept() as told:
            pixels, hole = mark(photo.pixels, marks)
        album, notes = self._album_of(order)
        return replace(photo, pixels=pixels, notes=(*photo.notes, *told, *notes)), hole, album

    def _album_of(self, order: Order) -> tuple[Handful | None, list[str]]:
        """The other photos, decoded, but for the damaged photo itself; and what is to be said of them."""
        photos, notes, own, left = [], [], digest_of(order.image), self.limits.max_album_pixels
        for name, data in order.album:
            digest = digest_of(data)
            if digest == own:
                notes.append(f"not copied from {name}: it is the photo itself")
                continue
            try:
                most = min(left, self.limits.max_pixels)
                photo = decode_photo(data, f"the album photo {name}", max_pixels=most)
            except PictureTooLarge as error:
                if left >= self.limits.max_pixels:
                    raise
                raise PictureTooLarge(
                    f"the photos of the album have more than {self.limits.max_album_pixels / 1e6:g} million pixels "
                    "together, the most that this server takes. Send fewer, or smaller ones."
                ) from error
            left -= photo.size[0] * photo.size[1]
            photos.append((name, photo.pixels.eight_bit().expanded(to_rgb=True).opaque().values, digest))
        return Handful(photos) if photos else None, notes

    def _filled(
        self, photo: Photo, hole: np.ndarray, album: Handful | None, order: Order, gone: threading.Event
    ) -> tuple[Photo, Report]:
        painter = copy.copy(self.inpainter)  # shares the model
        painter.settings = painter.settings.changed(fill=order.fill, seed=order.seed)
        painter.album = album
        self._current = gone
        try:
            return painter.fill_photo(photo, hole)
        finally:
            self._current = None

    def _look(self, *_: Any) -> None:
        """Called before each layer."""
        if self._current is not None and self._current.is_set():
            raise _Gone

    def _closed(self, photo: Photo, report: Report, order: Order) -> Repaired:
        data, notes = encode_photo(photo, order.format)
        if report.missing > LARGE_HOLE:
            notes = (f"{report.missing:.0%} was filled, more than the model is trained for", *notes)
        notes = (*photo.notes, *report.notes, *notes)
        return Repaired(data, order.format or photo.format, report, order.seed, notes)

    def _shown(self, image: bytes, side: int) -> Preview:
        photo = decode_photo(image, "the photo", max_pixels=self.limits.max_pixels)
        picture = photo.pixels.eight_bit().expanded(to_rgb=True).to_image()
        picture.thumbnail((side, side))
        buffer = io.BytesIO()
        profile = photo.metadata.icc if photo.pixels.layout in ("RGB", "RGBA", "P", "PA") else b""
        picture.save(buffer, "PNG", compress_level=1, **({"icc_profile": profile} if profile else {}))
        return Preview(buffer.getvalue(), *photo.size, photo.format)


def _sentence(error: InputError) -> str:
    text = str(error).replace(" with --invert (invert=True)", " with invert")
    return text[:1].upper() + text[1:]
