"""One holder at a time: a lock beside what is written. It says who holds it, and ends with its holder."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cicm.conventions import InputError

_MOST_BYTES = 4096
_held: set[int] = set()


def _forget() -> None:
    """In a child made by fork: a lock ends with its holder, not with the last of the holder's children."""
    while _held:
        with suppress(OSError):
            os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def lock_of(file: str | os.PathLike) -> Path:
    """The lock of one file that is written, hidden beside it.

    Example:
        >>> lock_of("photos/album.safetensors").name
        '.album.safetensors.lock'
    """
    path = Path(file)
    return path.with_name(f".{os.fsencode(path.name)[:240].decode('utf-8', 'ignore')}.lock")


@contextmanager
def alone(lock: str | os.PathLike, what: str, instead: str = "Wait for it, or stop it.") -> Iterator[None]:
    """Hold something alone until the block ends, or the process does, also by being killed.

    The system frees the lock of a dead process. On a file system without locks the file itself counts: one that a dead
    process of this machine left is taken over.

    Args:
        lock: a file that is made here, and taken away at the end.
        what: is held, with the verb, such as "another run is writing to OUT".
        instead: what the caller may do.

    Raises:
        InputError: another process holds it; which one, since when, and what to do if it is dead.
        OSError: the lock can't be made.
    """
    path, mine = Path(lock), os.getpid()
    handle = _acquire(path, what, instead)
    _held.add(handle)
    try:
        me = {"pid": mine, "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with suppress(OSError):  # on a full disk it is a lock all the same, without a name
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(me | {"command": sys.argv[:3]}).encode()[:_MOST_BYTES], 0)
        yield
    finally:
        if os.getpid() == mine:
            _held.discard(handle)
            with suppress(OSError):
                if _is_still(handle, path):
                    os.unlink(path)
            os.close(handle)


def _acquire(path: Path, what: str, instead: str) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        try:
            _lock(handle, path, what, instead)
            if _is_still(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its last holder has taken it away meanwhile


def _lock(handle: int, path: Path, what: str, instead: str) -> None:
    owner = _owner(handle)
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(_told(path, owner, what, instead)) from None
    except (ImportError, OSError):  # a system or a file system without locks: the file is all there is
        if owner and not (owner.get("host") == platform.node() and is_dead(owner.get("pid"))):
            raise InputError(_told(path, owner, what, instead)) from None


def _owner(handle: int) -> dict[str, Any]:
    """Who wrote their name into a lock; empty if it can't be told."""
    try:
        os.lseek(handle, 0, os.SEEK_SET)
        found = json.loads(os.read(handle, _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _told(path: Path, owner: dict[str, Any], what: str, instead: str) -> str:
    if not owner:
        return f"{what}. {instead}"
    alive = owner.get("host") == platform.node() and not is_dead(owner.get("pid"))
    who = f"process {owner.get('pid')} on {owner.get('host')}, since {owner.get('since')}"
    return f"{what}: {who}. {instead}" + ("" if alive else f" If that process is dead, remove {path}.")


def _is_still(handle: int, path: Path) -> bool:
    """Whether a name still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def is_dead(pid: Any) -> bool:
    """Whether no process of this machine has that number; False where that can't be asked."""
    if not isinstance(pid, int) or pid <= 0 or os.name != "posix":  # elsewhere signal 0 is a signal
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def mark_of_process() -> str:
    """Names this process in a file's name: eight digits for the machine, and the process's number."""
    return f"{_mark_of_machine()}-{os.getpid()}"


def is_of_dead(mark: str) -> bool:
    """Whether a mark of `mark_of_process` is that of a process of this machine which is no more."""
    machine, _, pid = mark.partition("-")
    return machine == _mark_of_machine() and pid.isdecimal() and is_dead(int(pid))


def _mark_of_machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
