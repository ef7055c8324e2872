"""Training in a process of its own: what happens to it does not happen to the table."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_PATIENCE_SECONDS = 120.0  # how long an interrupted training may take to write its checkpoint

Train = Callable[[Path, Path], None]
"""(resolved recipe, the run's folder) -> trained weights in it; raises RowFailed or InputError."""


class RowFailed(RuntimeError):
    """A row could not be made; the others go on."""


def train_apart(*, threads: int = 0, python: str = sys.executable) -> Train:
    """Training by `cicm train` in a process of its own, so that what happens to it does not happen to the table.

    An interruption is passed on and waited for: the run is saved, and the same command goes on with it.
    """

    def train(recipe: Path, folder: Path) -> None:
        words = [python, "-m", "cicm", "train", str(recipe), "--output", str(folder)]
        words += ["--threads", str(threads)] if threads else []
        with _termination_interrupts():  # before the process begins, so that no signal falls between the two
            # A session of its own: Ctrl-C reaches this process alone, which asks once for a stop; twice would not save.
            process = subprocess.Popen(
                words, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
            )
            last: list[str] = []
            assert process.stderr is not None
            reader = threading.Thread(target=_forward, args=(process.stderr, last), daemon=True)
            reader.start()
            try:
                code = process.wait()
            except BaseException:
                process.terminate()  # it saves, and ends
                try:
                    process.wait(_PATIENCE_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                raise
        reader.join(timeout=5)
        if code == 130:
            raise KeyboardInterrupt
        if code:
            raise RowFailed(f"training ended with exit code {code}: {last[-1] if last else 'without a word'}")

    return train


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does; only in the main thread, where Python handles signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _forward(lines: IO[str], last: list[str]) -> None:
    for line in lines:
        print(line, end="", file=sys.stderr, flush=True)
        if line.strip():
            last[:] = [line.strip()]
