"""Files: the one way to write, to check an output, to walk a folder and to say what went wrong with a path."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from cicm.conventions import InputError
from cicm.locks import is_of_dead, mark_of_process

PART = ".part"
"""Ending of a file that is being written: `.NAME.PROCESS.RANDOM.part` (and the target's ending) beside its target."""

_PART = re.compile(r"\..*?(?:\.([0-9a-f]{8}-[0-9]+))?\.[0-9a-f]{16}\.part(\.\w+)?", re.DOTALL)
_FORGOTTEN_SECONDS = 7 * 86400  # nobody writes at one file that long: its writer died on another machine
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
_swept: set[Path] = set()

T = TypeVar("T")


def reason_of(problem: BaseException) -> str:
    """What went wrong, as one line without the path.

    Example:
        >>> reason_of(FileNotFoundError(2, "No such file or directory"))
        'No such file or directory.'
    """
    text = (problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)).strip()
    if text.startswith("cannot identify image file"):
        text = "not an image, or a damaged one"
    return (" ".join(text.split()) or type(problem).__name__).rstrip(".") + "."


def disk_failure(problem: BaseException | None) -> OSError | None:
    """The disk's own failure (full, over a limit, read-only, broken) behind an error, if there is one.

    Libraries written in C++ and Rust wrap it, or tell no more than its number.

    Example:
        >>> disk_failure(RuntimeError("I/O error: No space left on device (os error 28)")).errno
        28
    """
    seen: set[int] = set()
    while problem is not None and id(problem) not in seen:  # errors that were raised again can lead in a circle
        seen.add(id(problem))
        if isinstance(problem, OSError) and problem.errno in _FULL:
            return problem
        told = re.search(r"\(os error (\d{1,3})\)", str(problem))
        if told and (number := int(told[1])) in _FULL:
            return OSError(number, os.strerror(number))
        problem = problem.__cause__ or problem.__context__
    return None


# Writing --------------------------------------------------------------------------------------------------------------


@contextmanager
def atomic(path: str | os.PathLike, *, overwrite: bool = True) -> Iterator[Path]:
    """A file that appears whole or not at all: yields the path to write to, in the same folder.

    When the block ends without an error the file is flushed to the disk, gets the permissions of a new file, and takes
    its name in one step. Otherwise it is removed, and what was there before stays. What writers left in the folder that
    were killed is removed too.

    Args:
        overwrite: an existing file is replaced; without it a file that appeared meanwhile is left alone.

    Raises:
        InputError: the file exists and `overwrite` is off.
        OSError: what the disk says, such as that it is full, also where a library has said it in other words.
    """
    target = Path(path)
    temporary = hidden_beside(target)
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # permissions: those of a new file
        mode = temporary.stat().st_mode
        yield temporary
        os.chmod(temporary, mode)  # a library may have put a file of its own in its place, for the owner alone
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        place(temporary, target, overwrite=overwrite)
    except Exception as error:
        if failure := disk_failure(error):
            raise OSError(failure.errno, failure.strerror, os.fspath(target)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def hidden_beside(target: Path) -> Path:
    """A name for what becomes a file or a folder; what killed processes left under such names is removed first."""
    if target.parent not in _swept:
        _swept.add(target.parent)
        remove_leftovers(target.parent)
    stem = target.stem.encode("utf-8", "ignore")[:64].decode("utf-8", "ignore")  # a name has at most 255 bytes
    return target.parent / f".{stem}.{mark_of_process()}.{secrets.token_hex(8)}{PART}{target.suffix}"


def remove_leftovers(folder: str | os.PathLike) -> int:
    """Remove what processes were writing in a folder when they were killed; returns how many things that were.

    Each is removed if its writer was a process of this machine and is dead, or if nobody touched it for a week.
    """
    removed, now = 0, time.time()
    try:
        with os.scandir(Path(folder)) as entries:
            for entry in entries:
                if not (match := _PART.fullmatch(entry.name)) or entry.is_symlink():
                    continue
                old = now - entry.stat(follow_symlinks=False).st_mtime > _FORGOTTEN_SECONDS
                if old or (match[1] and is_of_dead(match[1])):
                    shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)
                    removed += 1
    except OSError:  # gone meanwhile, or not ours to remove: it harms nobody
        pass
    return removed


def write_atomic(path: str | os.PathLike, data: bytes | str, *, overwrite: bool = True) -> None:
    """Write a file that appears whole or not at all, and is read back before it takes its name.

    Raises:
        InputError: the file exists and `overwrite` is off.
        OSError: what the disk says; a short write is one too.
    """
    content = data.encode() if isinstance(data, str) else data
    with atomic(path, overwrite=overwrite) as temporary:
        with open(temporary, "wb") as file:
            file.write(content)
        if (size := temporary.stat().st_size) != len(content):
            raise OSError(errno.EIO, f"only {size} of {len(content)} bytes were written", os.fspath(path))
        if digest_of(temporary) != digest_of(content):
            raise OSError(errno.EIO, "the bytes read back are not those that were written", os.fspath(path))


def place(temporary: str | os.PathLike, target: str | os.PathLike, *, overwrite: bool) -> None:
    """Give a whole file its name in one step, and make the name durable; the old name is gone afterwards.

    Raises:
        InputError: the target exists and `overwrite` is off.
    """
    taken = f"{os.fspath(target)} exists. Choose another name, or replace it with --overwrite."
    if overwrite:
        os.replace(temporary, target)
    else:
        try:
            os.link(temporary, target)  # unlike a rename it fails where something has come up meanwhile
            os.unlink(temporary)
        except FileExistsError:
            raise InputError(taken) from None
        except OSError:  # a file system without hard links
            if os.path.lexists(target):
                raise InputError(taken) from None
            os.replace(temporary, target)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(os.path.dirname(os.path.abspath(target)), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        except OSError:  # some network file systems refuse; the file itself is on the disk
            pass
        finally:
            os.close(folder)


def check_output(
    path: str | os.PathLike,
    *,
    endings: Collection[str] = (),
    inputs: Collection[str | os.PathLike] = (),
    overwrite: bool = False,
    what: str = "output",
    make_folder: bool = False,
) -> Path:
    """Refuse an output that could not or should not be written, before any work is done for it.

    Args:
        endings: those that are allowed, such as ".json"; any if empty.
        inputs: files that were read; the output must be none of them, whatever `overwrite` says.
        overwrite: an existing file may be replaced.
        what: names the file in messages.
        make_folder: make the folder above it if there is none.

    Raises:
        InputError: another ending, a folder, a missing or unwritable folder above it, an existing file, an input.
    """
    file = Path(path)
    try:
        _refuse_nul(file)
        if file.is_dir():
            example = file / f"result{next(iter(endings), '')}"
            raise InputError(f"the {what} must be a file; {file} is a folder. Name a file in it, such as {example}.")
        if endings and file.suffix.lower() not in endings:
            raise InputError(f"the {what} must end in {' or '.join(endings)}; got {file.name!r}. Change the ending.")
        if os.path.lexists(file):
            for other in inputs:
                if file.exists() and Path(other).exists() and os.path.samefile(file, other):
                    raise InputError(f"the {what} {file} is the input {other} itself. Write to another file.")
            if not overwrite:
                raise InputError(f"the {what} {file} exists. Choose another name, or replace it with --overwrite.")
            if not file.is_file():
                raise InputError(f"the {what} {file} is not a regular file. Choose another name.")
        if make_folder:
            file.parent.mkdir(parents=True, exist_ok=True)
        if not file.parent.is_dir():
            raise InputError(f"the folder {file.parent} of the {what} does not exist. Make it first.")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the path {str(file)!r} of the {what} can't be used: {reason_of(error)}") from error
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise InputError(f"no permission to write into the folder {file.parent}. Choose another one.")
    return file


def _refuse_nul(file: Path) -> None:
    if "\0" in str(file):  # Python's own checks say only that there is no such file
        raise ValueError("a path can't hold a NUL character")


# Reading --------------------------------------------------------------------------------------------------------------


def open_readable(path: str | os.PathLike, what: str = "file") -> BinaryIO:
    """Open a file for reading, and refuse what is no file with something in it. Never waits, as a pipe would make it.

    Args:
        what: names it in messages, such as "photo".

    Raises:
        InputError: missing, a folder, a device or a pipe, empty, or not readable.
    """
    file = Path(path)
    try:
        _refuse_nul(file)
        if file.is_dir():
            raise InputError(f"expected a file for the {what}; {file} is a folder. Name one file in it.")
        if not file.exists():
            raise InputError(f"the {what} {file} does not exist. Check the path.")
        pipe = f"the {what} {file} is no regular file but a device or a pipe. Save it to a file first."
        if not file.is_file():
            raise InputError(pipe)
        stream = open(file, "rb", opener=_at_once)  # noqa: SIM115  # the caller closes it
        told = os.fstat(stream.fileno())
        if stat.S_ISREG(told.st_mode) and told.st_size:
            return stream
        stream.close()
        if not stat.S_ISREG(told.st_mode):  # it took the file's place just now
            raise InputError(pipe)
        raise InputError(f"the {what} {file} is empty (0 bytes). Copy or export it again.")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the {what} {str(file)!r} can't be read: {reason_of(error)}") from error


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def check_readable(path: str | os.PathLike, what: str) -> Path:
    """Refuse what `open_readable` refuses; gives it back as a Path."""
    open_readable(path, what).close()
    return Path(path)


def read_bounded(path: str | os.PathLike, most_bytes: int, what: str = "file") -> bytes:
    """The bytes of a file that is not larger than it may be.

    Raises:
        InputError: what `open_readable` refuses, or too large.
    """
    with open_readable(path, what) as stream:
        try:
            data = stream.read(most_bytes + 1)
        except OSError as error:
            raise InputError(f"the {what} {os.fspath(path)} can't be read: {reason_of(error)}") from error
    if len(data) > most_bytes:
        raise InputError(
            f"the {what} {os.fspath(path)} is larger than {most_bytes} bytes, the most that such a file may have."
        )
    return data


def digest_of(source: str | os.PathLike | bytes) -> str:
    """SHA-256 of a file, or of bytes, as 64 hexadecimal digits.

    Example:
        >>> digest_of(b"")[:8]
        'e3b0c442'
    """
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with open(source, "rb", opener=_at_once) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# Folders --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Listing:
    """What a walk found.

    Args:
        files: wanted files, paths below the folder with "/", in the order of these paths.
        problems: (path, what is wrong with it) of what looks wanted, or may hold such files, and was left out.
        others: files that were not wanted, in the same order.
    """

    files: tuple[str, ...]
    problems: tuple[tuple[str, str], ...] = ()
    others: tuple[str, ...] = ()


def walk(
    root: str | os.PathLike,
    wanted: Callable[[str], bool],
    what: str = "files",
    *,
    inside: str | os.PathLike | None = None,
) -> Listing:
    """All wanted files below a folder, however deep, in the same order on every machine.

    Hidden files and folders are left out. The folder itself may be a link. Below it a link to a file inside the folder
    is that file; a link that leads out of the folder, to a folder, or to nothing is a problem and is not followed. A
    folder with a wanted name, such as `a.png`, is a problem if it holds no wanted file.

    Args:
        wanted: whether a file's name is of interest; only the name is looked at, nothing is opened.
        inside: the folder that links may lead to files of, if it is another than `root`, such as one above it.

    Raises:
        InputError: no such folder, not a folder, or one that can't be listed.
    """
    root = Path(root)
    if not root.exists():
        raise InputError(f"expected a folder of {what}; {root} does not exist. Check the path.")
    if not root.is_dir():
        raise InputError(f"expected a folder of {what}; {root} is a file. Give the folder that holds it.")
    real = os.path.realpath(root if inside is None else inside)
    files: list[str] = []
    others: list[str] = []
    problems: list[tuple[str, str]] = []
    suspects: list[str] = []
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(os.path.join(root, below)) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path, chosen = below + entry.name, wanted(entry.name)
                    if entry.is_symlink():
                        wrong = _wrong_link(real, entry)
                        if wrong and (chosen or entry.is_dir()):
                            problems.append((path, wrong))
                        elif not wrong:
                            (files if chosen else others).append(path)
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(path + "/")
                        suspects += [path + "/"] if chosen else []
                    elif not entry.is_file(follow_symlinks=False):
                        if chosen:
                            problems.append((path, "it is a device or a pipe, not a file. Save the picture to a file."))
                    else:
                        (files if chosen else others).append(path)
        except OSError as error:
            if not below:
                raise InputError(f"the folder {root} can't be listed: {reason_of(error)}") from error
            problems.append((below, f"this folder can't be listed: {reason_of(error)}"))
    files.sort()
    for path in suspects:
        after = bisect_left(files, path)
        if after == len(files) or not files[after].startswith(path):
            problems.append((path, f"it is a folder, and holds no {what}. Put the file in its place."))
    return Listing(tuple(files), tuple(sorted(problems)), tuple(sorted(others)))


def _wrong_link(root: str, entry: os.DirEntry) -> str:
    """Why a link is not followed; nothing if it leads to a file inside the folder."""
    target = os.path.realpath(entry.path)
    if not os.path.exists(target):
        return "it is a link to nothing. Copy the file here, or take the link away."
    if not is_inside(target, root):
        return "it is a link out of the folder, which is not followed. Copy what it leads to, or name that folder."
    if not os.path.isfile(target):
        return "it is a link to a folder, which is not followed. Name the folder itself, or copy it."
    return ""


def is_inside(path: str | os.PathLike, folder: str | os.PathLike) -> bool:
    """Whether a path lies in a folder, or is it, after all links are followed.

    Example:
        >>> is_inside("/a/b/c", "/a/b"), is_inside("/a/bc", "/a/b"), is_inside("/a/b/../c", "/a/b")
        (True, False, False)
    """
    real, above = os.path.realpath(path), os.path.realpath(folder)
    return real == above or real.startswith(above.rstrip(os.sep) + os.sep)


def evenly_spaced(items: Sequence[T], most: int) -> list[T]:
    """At most so many of a list, evenly spaced, in order; so that the list and not a person chooses.

    Example:
        >>> evenly_spaced("abcdef", 3), evenly_spaced("ab", 5)
        (['a', 'c', 'e'], ['a', 'b'])
    """
    count = len(items)
    return list(items) if count <= most else [items[index * count // most] for index in range(most)]
