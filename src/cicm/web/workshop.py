"""Where photos are repaired: one thread for the network, a few for files, and a line of bounded length before them.

A photo is decoded in another process, filled, encoded. At most `DESK` of them are in work at a time, and only so many
as the budget has room for by the pixels that they declare. A client that goes away, or a time that is up, takes its
photo out of the line, or out of the network before its next layer.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import math
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from cicm.conventions import InputError
from cicm.exemplar.handful import Handful
from cicm.inference.painter import LARGE_HOLE, PictureInpainter
from cicm.inference.report import Report
from cicm.machine import give_memory_back
from cicm.photos.headers import PictureTooLarge
from cicm.photos.photo import Photo, encode_photo
from cicm.web.budget import PIXEL_BYTES, Budget, is_own
from cicm.web.decoders import Decoders, Gone
from cicm.web.form import Order
from cicm.web.limits import Limits, Refused
from cicm.web.opening import AlbumPhotos, Preview, declared_pixels, opened, shown

T = TypeVar("T")

DESK = 3
"""Photos that are decoded at a time: one in each of decoding, the network, encoding."""


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


class Workshop:
    """Repairs photos for many at a time.

    Args:
        inpainter: used by one thread alone from now on.
        limits: for pixels and the length of the line.
        decoders: processes that decode, which stay the caller's; None makes its own.
    """

    def __init__(self, inpainter: PictureInpainter, limits: Limits, decoders: Decoders | None = None) -> None:
        self.inpainter = inpainter
        self.limits = limits
        self.budget = Budget()
        self.decoders = decoders or Decoders(seconds=min(60.0, limits.timeout / 2))
        self._own_decoders = decoders is None
        self._inside: Counter[str] = Counter()  # by client
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
        if self._own_decoders:
            self.decoders.close()
        self._files.shutdown(wait=False, cancel_futures=True)
        self._network.shutdown(wait=True, cancel_futures=True)
        for hook in self._hooks:
            hook.remove()

    def tidy(self) -> None:
        """Give the memory of finished work back to the system."""
        if not self._files._shutdown:
            self._files.submit(give_memory_back)

    @property
    def waiting(self) -> int:
        """Requests in the house beside the one that is worked on."""
        return max(0, self._inside.total() - 1)

    def check_line(self, client: str) -> None:
        """Refuse a client for whom there is no place.

        Raises:
            Refused: 429, the line is full, or half of it is this client's, who is not of this machine.
        """
        inside = self._inside.total()
        wait = math.ceil(min(60.0, max(1.0, self._seconds * inside / 2)))
        later = {"Retry-After": str(wait)}
        if inside > self.limits.queue:
            raise Refused(
                429,
                f"{self.waiting} photos are waiting already, the most that this server takes on. "
                f"Try again in {wait} seconds.",
                later,
            )
        if not is_own(client) and 2 * self._inside[client] > self.limits.queue:
            raise Refused(
                429,
                f"{self._inside[client]} photos of yours are here already, half of what this server takes on. "
                f"Try again in {wait} seconds.",
                later,
            )

    @asynccontextmanager
    async def place(self, client: str = "") -> AsyncIterator[None]:
        """A place in the line, from when the whole request is there until its answer is.

        Raises:
            Refused: as `check_line`.
        """
        self.check_line(client)
        self._inside[client] += 1
        try:
            yield
        finally:
            self._inside[client] -= 1
            if not self._inside[client]:
                del self._inside[client]

    async def repair(self, order: Order) -> Repaired:
        """Do what an order says.

        Raises:
            Refused: a file or a value that can't be used, or no memory for it.
        """
        gone = threading.Event()
        async with self._desk:
            pixels = await self._in(self._files, gone, declared_pixels, order, self.limits)
            async with self.budget.room(PIXEL_BYTES * pixels):
                started = time.perf_counter()
                made = await self._in(self._files, gone, self.decoders.run, gone, opened, order, self.limits)
                filled, report = await self._in(self._network, gone, self._filled, made, order, gone)
                del made
                repaired = await self._in(self._files, gone, self._closed, filled, report, order)
                del filled
                self._seconds += 0.2 * (time.perf_counter() - started - self._seconds)
                return repaired

    async def preview(self, image: bytes, side: int) -> Preview:
        """The photo as a small PNG, upright, for browsers that can't show its format.

        Raises:
            Refused: a file that can't be used.
        """
        gone, most = threading.Event(), self.limits.max_pixels
        async with self._desk:
            pixels = await self._in(self._files, gone, declared_pixels, Order(image), self.limits)
            async with self.budget.room(PIXEL_BYTES * pixels):
                return await self._in(self._files, gone, self.decoders.run, gone, shown, image, side, most)

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

    def _filled(
        self, made: tuple[Photo, np.ndarray, AlbumPhotos], order: Order, gone: threading.Event
    ) -> tuple[Photo, Report]:
        photo, hole, album = made
        painter = copy.copy(self.inpainter)  # shares the model
        painter.settings = painter.settings.changed(fill=order.fill, seed=order.seed)
        painter.album = Handful(album) if album else None
        self._current = gone
        try:
            return painter.fill_photo(photo, hole)
        finally:
            self._current = None

    def _look(self, *_: Any) -> None:
        """Called before each layer."""
        if self._current is not None and self._current.is_set():
            raise Gone

    def _closed(self, photo: Photo, report: Report, order: Order) -> Repaired:
        data, notes = encode_photo(photo, order.format)
        if report.missing > LARGE_HOLE:
            notes = (f"{report.missing:.0%} was filled, more than the model is trained for", *notes)
        notes = (*photo.notes, *report.notes, *notes)
        return Repaired(data, order.format or photo.format, report, order.seed, notes)


def _sentence(error: InputError) -> str:
    text = str(error).replace(" with --invert (invert=True)", " with invert")
    return text[:1].upper() + text[1:]
