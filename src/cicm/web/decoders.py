"""Processes that decode uploads, so that a file that holds a decoder can be ended, which a thread can't.

A process that takes too long, or whose client has left, is killed, and another one takes its place.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from cicm.conventions import InputError
from cicm.machine import give_memory_back

T = TypeVar("T")

_START_SECONDS = 60.0  # a process that is not ready by then never will be
_LOOK_SECONDS = 0.1  # how often a waiting thread looks whether its client has left


class Gone(Exception):
    """Nobody waits for this work any more."""


class _Decoder:
    """One process, and the line to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would take this process's threads' locks with it
        self.line, there = context.Pipe()
        self.process = context.Process(target=_serve, args=(there,), name="cicm-decoder", daemon=True)
        self.process.start()
        there.close()
        self.ready = False

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.line.close()


class Decoders:
    """Runs functions in a few processes, one at a time in each.

    Args:
        count: processes; each is started when it is first needed.
        seconds: a piece of work that takes longer is ended.
    """

    def __init__(self, count: int = 2, seconds: float = 60.0) -> None:
        self.seconds = seconds
        self._free: queue.LifoQueue[_Decoder | None] = queue.LifoQueue()
        self._lock = threading.Lock()
        self._all: set[_Decoder] = set()
        self.closed = False
        for _ in range(count):
            self._free.put(None)

    def start(self) -> None:
        """Start one process before it is needed."""
        with suppress(queue.Empty):
            self._free.put(self._one(self._free.get_nowait()))

    def close(self) -> None:
        """End all processes; work that runs fails."""
        with self._lock:
            self.closed = True
            for decoder in self._all:
                decoder.process.kill()

    def run(self, gone: threading.Event, work: Callable[..., T], *args: Any) -> T:
        """Call a function of a module in another process, and wait for its value.

        Args:
            gone: when it is set the work is ended.

        Raises:
            InputError: that of the function, or the work took too long, or ended its process.
            Gone: `gone` was set.
            MemoryError: that of the function.
        """
        decoder = self._one(self._free.get())
        whole = False
        try:
            value = self._asked(decoder, gone, work, args)
            whole = True
        finally:
            if whole:
                self._free.put(decoder)
            else:
                with self._lock:
                    self._all.discard(decoder)
                decoder.end()
                self._free.put(None)
        if isinstance(value, _Failed):
            raise value.error
        return value

    def _one(self, free: _Decoder | None) -> _Decoder:
        if free is not None and free.process.is_alive():
            return free
        with self._lock:
            if self.closed:
                self._free.put(None)
                raise Gone
            self._all.discard(free)  # type: ignore[arg-type]
            made = _Decoder()
            self._all.add(made)
        return made

    def _asked(self, decoder: _Decoder, gone: threading.Event, work: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        try:
            if not decoder.ready:  # a second or more, which is not the file's fault
                decoder.ready = bool(self._answer(decoder, gone, _START_SECONDS))
            decoder.line.send((work, args))
            return self._answer(decoder, gone, self.seconds)
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            if self.closed:
                raise Gone from error
            raise InputError("the file ended the process that decoded it. Save it again.") from error

    def _answer(self, decoder: _Decoder, gone: threading.Event, seconds: float) -> Any:
        until = time.monotonic() + seconds
        while not decoder.line.poll(_LOOK_SECONDS):
            if gone.is_set() or self.closed:
                raise Gone
            if time.monotonic() > until:
                raise InputError(
                    f"the file could not be decoded within {seconds:g} seconds. Save it again, or smaller."
                )
        return decoder.line.recv()


class _Failed:
    """What a function raised."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _serve(line: Connection) -> None:
    """What such a process does, until its line ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the server, which then ends this
    warnings.simplefilter("ignore")
    import_module("cicm.web.opening")
    line.send(True)
    while True:
        try:
            work, args = line.recv()
        except (EOFError, OSError):
            return
        try:
            value = work(*args)
        except (InputError, MemoryError) as error:
            value = _Failed(error)
        except Exception:
            value = _Failed(RuntimeError(f"decoding failed:\n{traceback.format_exc()}"))
        line.send(value)
        del work, args, value
        give_memory_back()
