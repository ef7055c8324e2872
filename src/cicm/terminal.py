"""What a person sees meanwhile: one progress bar for all verbs, one clock, one silencer of libraries on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TextIO

_PLAIN_EVERY_SECONDS = 20.0  # where there is no terminal a plain line is printed that often


class Progress:
    """How far it is: a live bar on a terminal, a plain line now and then elsewhere, nothing if quiet.

    Args:
        total: how many there are; None while that is not known.
        what: what is counted, such as "photos".
        done: how many were done before.
        quiet: show neither bar nor plain lines; `say` still speaks.
        stream: where to; stderr by default.

    Example:
        >>> with Progress(2, "photos", quiet=True) as progress:
        ...     progress.advance()
        >>> progress.done
        1
    """

    def __init__(
        self, total: int | None, what: str = "", *, done: int = 0, quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self.total, self.what, self.done, self.quiet = total, what, done, quiet
        self.stream = sys.stderr if stream is None else stream
        self.note = ""
        self._first = done
        self._began = self._spoke = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Self:
        self._began = self._spoke = time.monotonic()
        if not self.quiet and self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(elapsed_when_finished=True),
            )
            console = Console(file=self.stream, highlight=False, soft_wrap=True)
            self._bar = Bar(*columns, console=console, transient=True, speed_estimate_period=300)
            self._task = self._bar.add_task(self.what, total=self.total, completed=self.done, note="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def advance(self, by: int = 1, note: str | None = None) -> None:
        """So many more are done; `note` is shown beside the count until it changes."""
        self.update(self.done + by, note=note)

    def update(self, done: int, total: int | None = None, note: str | None = None) -> None:
        """So many are done, of so many where that has changed."""
        self.done = done
        self.total = self.total if total is None else total
        self.note = self.note if note is None else note
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self.total, note=self.note)
        elif not self.quiet and (now := time.monotonic()) - self._spoke >= _PLAIN_EVERY_SECONDS:
            self._spoke = now
            self._line(self._plain(now))

    def say(self, text: str) -> None:
        """One line that stays, above the bar."""
        self._line(text)

    def _plain(self, now: float) -> str:
        rate = (self.done - self._first) / max(now - self._began, 1e-9)
        of = f" of {self.total}" if self.total is not None else ""
        left = f", {duration((self.total - self.done) / rate)} left" if self.total is not None and rate else ""
        note = f", {self.note}" if self.note else ""
        return f"{self.done}{of}{' ' + self.what if self.what else ''}{note}{left}"

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self.stream, flush=True)


def duration(seconds: float) -> str:
    """In the two units that matter.

    Example:
        >>> duration(45), duration(90), duration(7300)
        ('45 s', '1 min 30 s', '2 h 1 min')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def shown(path: object) -> str:
    """A path as one line of text that any terminal can show: control characters and broken bytes are escaped.

    Example:
        >>> shown("two\\nlines")
        'two\\\\nlines'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def several(names: Sequence[str], most: int = 3) -> str:
    """The first few names of many, for a message.

    Example:
        >>> several(["a", "b", "c", "d"], 2)
        'a, b and 2 more'
    """
    head = ", ".join(shown(name) for name in names[:most])
    return head if len(names) <= most else f"{head} and {len(names) - most} more"


@contextmanager
def libraries_silent() -> Iterator[TextIO]:
    """Shut file descriptor 2, to which libtiff and others write complaints of their own; yields a stream to speak on.

    Python's own `sys.stderr` is silent meanwhile too where it writes to that descriptor; what we say goes to the
    yielded stream.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error to keep clean
        yield sys.stderr
        return
    sys.stderr.flush()
    try:
        direct = sys.stderr.fileno() == 2
    except (OSError, ValueError, AttributeError):
        direct = False
    stream = os.fdopen(os.dup(kept), "w", encoding=sys.stderr.encoding, errors="backslashreplace") if direct else None
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield stream or sys.stderr
    finally:
        if stream:
            stream.close()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
