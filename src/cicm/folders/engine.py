"""Many pictures at a time: workers that read, cut, encode and write, and one thread that runs the network.

Each worker fills its pictures with the very code that fills a single one. Only the call of the network is lent: it is
handed to the thread that iterates, which puts together what has the same shape and is waiting at that moment. So a
batch forms by itself where the network is what others wait for, and nobody waits for a batch to fill.
"""

from __future__ import annotations

import copy
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from cicm.conventions import InputError
from cicm.inference.painter import BATCH, PictureInpainter

T = TypeVar("T")
R = TypeVar("R")


class Stopped(Exception):
    """The run ended while this picture waited for the network."""


@dataclass(frozen=True)
class Engine:
    """How much happens at a time. None of it changes a result, but for a batch's rounding.

    Args:
        workers: threads that read and write; None takes one more than there are cores, and one for each of a batch.
        batch: most pictures in one forward; None takes 1 on a CPU, where larger ones are slower, and 8 elsewhere.
        ram: bytes that the pictures in work may take together, about; a larger picture is done alone.
    """

    workers: int | None = None
    batch: int | None = None
    ram: int = 2**31

    def __post_init__(self) -> None:
        for name in ("workers", "batch", "ram"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1; got {value}.")

    def run(
        self,
        jobs: Iterable[T],
        work: Callable[[T, Any], R],
        inpainter: PictureInpainter,
        stop: threading.Event | None = None,
    ) -> Iterator[R]:
        """Do all jobs; give what `work` gives, as it comes.

        Args:
            jobs: taken one by one, as workers become free.
            work: called in a worker's thread, with an inpainter of its own.
            inpainter: its network runs in the thread that iterates.
            stop: once set, no further job begins; those begun are finished.
        """
        batch = self.batch or (1 if inpainter.device.type == "cpu" else 8)
        count = self.workers or (_cores() + batch)
        stop = stop or threading.Event()
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        source, turn = iter(jobs), threading.Lock()

        def loop() -> None:
            if torch := sys.modules.get("torch"):  # an exported model runs without it
                torch.set_num_threads(1)  # of this thread: the cores belong to the network
            own = copy.copy(inpainter)
            own.model = _Lent(inpainter.model, events)
            try:
                while not stop.is_set():
                    with turn:
                        job = next(source, source)
                    if job is source:
                        break
                    events.put(_Result(work(job, own)))  # type: ignore[arg-type]
            except BaseException as error:
                events.put(_Fatal(error))
            finally:
                events.put(None)

        threads = [threading.Thread(target=loop, name=f"cicm-{n}", daemon=True) for n in range(count)]
        for thread in threads:
            thread.start()
        alive, waiting = count, deque[_Request]()
        try:
            while alive:
                if waiting and events.empty():
                    _forward(inpainter.model, _together(waiting, batch))
                    continue
                event = events.get()
                if isinstance(event, _Request):
                    waiting.append(event)
                elif isinstance(event, _Result):
                    yield event.value
                elif isinstance(event, _Fatal):
                    raise event.error
                else:
                    alive -= 1
        finally:
            stop.set()
            for request in waiting:
                request.answer(Stopped("the run ended"))
            while alive:
                event = events.get()
                if isinstance(event, _Request):
                    event.answer(Stopped("the run ended"))
                alive -= event is None
            for thread in threads:
                thread.join()


class Budget:
    """Bytes shared among workers, first come, first served; one that asks for more than there is gets all."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._turn = threading.Condition()
        self._line: deque[object] = deque()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Wait until that much is free, and keep it."""
        size, ticket = min(size, self._total), object()
        with self._turn:
            self._line.append(ticket)
            self._turn.wait_for(lambda: self._line[0] is ticket and self._free >= size)
            self._line.popleft()
            self._free -= size
            self._turn.notify_all()
        try:
            yield
        finally:
            with self._turn:
                self._free += size
                self._turn.notify_all()


# The network, lent


@dataclass(frozen=True)
class _Result:
    value: Any


@dataclass(frozen=True)
class _Fatal:
    error: BaseException


class _Request:
    """One call of the network that waits for its turn; tensors, or arrays where torch is not used."""

    def __init__(self, corrupted: Any, hole: Any) -> None:
        self.corrupted, self.hole = corrupted, hole
        self.shape = (tuple(corrupted.shape[1:]), corrupted.dtype, str(getattr(corrupted, "device", "")))
        self._answered = threading.Event()
        self._answer: Any = None

    def answer(self, answer: Any) -> None:
        self._answer = answer
        self._answered.set()

    def wait(self) -> Any:
        self._answered.wait()
        if isinstance(self._answer, BaseException):
            raise self._answer
        assert self._answer is not None
        return self._answer


class _Lent:
    """The model as a worker holds it: calls are handed over, all else is the model's own."""

    def __init__(self, model: Any, events: queue.SimpleQueue) -> None:
        self._model, self._events = model, events

    def __call__(self, corrupted: Any, hole: Any) -> Any:
        request = _Request(corrupted, hole)
        self._events.put(request)
        return request.wait()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def _together(waiting: deque[_Request], batch: int) -> list[_Request]:
    """Take the oldest call out of the line, and those of its shape that fit into one forward with it."""
    first = waiting[0]
    pixels = first.corrupted.shape[2] * first.corrupted.shape[3]
    room = min(batch, max(1, BATCH // pixels))
    taken: list[_Request] = []
    for request in waiting:
        if request.shape == first.shape and (not taken or room >= len(request.corrupted)):
            taken.append(request)
            room -= len(request.corrupted)
    for request in taken:
        waiting.remove(request)
    return taken


def _forward(model: Any, requests: list[_Request]) -> None:
    try:
        call = _call_arrays if isinstance(requests[0].corrupted, np.ndarray) else _call_tensors
        answers = call(model, requests)
    except Exception as error:
        if len(requests) > 1:  # too little memory for all, or one that can't be done: the others must not suffer
            for request in requests:
                _forward(model, [request])
        else:
            requests[0].answer(error)
        return
    except BaseException:
        for request in requests:
            request.answer(Stopped("the run ended"))
        raise
    for request, answer in zip(requests, answers, strict=True):
        request.answer(answer)


def _call_arrays(model: Any, requests: list[_Request]) -> list[np.ndarray]:
    made = model(np.concatenate([r.corrupted for r in requests]), np.concatenate([r.hole for r in requests]))
    return [made[part] for part in _parts(requests)]


def _call_tensors(model: Any, requests: list[_Request]) -> list[Any]:
    import torch

    from cicm.assembly.inpainter import Inpainting
    from cicm.networks import Prediction

    with torch.inference_mode():
        if len(requests) == 1:
            made = model(requests[0].corrupted, requests[0].hole)
        else:
            made = model(torch.cat([r.corrupted for r in requests]), torch.cat([r.hole for r in requests]))
    image, earlier = made.prediction.image, made.prediction.earlier
    return [
        Inpainting(Prediction(image[part], tuple(one[part] for one in earlier)), made.composite[part], {})
        for part in _parts(requests)
    ]


def _parts(requests: list[_Request]) -> Iterator[slice]:
    start = 0
    for request in requests:
        yield slice(start, start := start + len(request.corrupted))


def _cores() -> int:
    import os

    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1
