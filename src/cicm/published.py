"""Published files of weights: what is known of one, where it is looked for, how it is fetched and checked.

No file is used unless its SHA-256 is the published one. A file that is not there is a `MissingWeights`, which says
what to do; nothing is ever replaced by random weights. Nothing is fetched unless a person asks for it by name. This
module does not import torch, so that the command line can list the files at once.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from cicm.conventions import InputError
from cicm.files import PART, digest_of, place, reason_of

ENVIRONMENT = "CICM_WEIGHTS"
OFFLINE = "CICM_OFFLINE"
"""Set to anything but 0 it forbids every download."""
_CHUNK_BYTES = 1 << 20
_MAX_BYTES = 4 * 2**30
_TIMEOUT_SECONDS = 30.0


class MissingWeights(InputError):
    """A published file is needed that is not on this machine; the message says which one and how to get it."""


@dataclass(frozen=True)
class PublishedFile:
    """One file of published weights.

    Attributes:
        name: what `cicm models get` calls it.
        filename: the official name; the file is looked for under it.
        url: where it is published; None for a file that ships with this package, or that has no direct address.
        sha256: of the whole file; empty where nobody published one.
        num_bytes: exact size; a download that grows larger is cut off. 0 where it is not known.
        used_by: metrics, and training terms as a recipe names them below `objective`, that need it.
        home: a folder of this package that it ships in.
        page: where people find a file that has no direct address.
    """

    name: str
    filename: str
    url: str | None
    sha256: str
    num_bytes: int
    licence: str
    origin: str
    used_by: tuple[str, ...] = ()
    home: Path | None = None
    page: str = ""


# -- where files are looked for --------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """The folder that downloads are written to: `weights` in the user's cache of this package."""
    from platformdirs import user_cache_path

    return user_cache_path("cicm", appauthor=False) / "weights"


def folders() -> list[Path]:
    """Where a file is looked for, first match wins: the folder in CICM_WEIGHTS, then the cache.

    Raises:
        InputError: CICM_WEIGHTS names something that is not a folder.
    """
    named = []
    if value := os.environ.get(ENVIRONMENT):
        if not Path(value).is_dir():
            raise InputError(f"{ENVIRONMENT} must name a folder; got {value}. Make the folder, or unset the variable.")
        named.append(Path(value))
    return [*named, cache_folder()]


def find(file: PublishedFile, path: str | Path | None = None) -> Path | None:
    """Where the file lies, unchecked; None if it is in none of the folders.

    Args:
        path: an explicit file, or a folder that holds it under its official name; then nothing else is looked at.
    """
    if path is not None:
        given = Path(path)
        given = given / file.filename if given.is_dir() else given
        return given if given.is_file() else None
    return next((at for folder in _places(file) if (at := folder / file.filename).is_file()), None)


def _places(file: PublishedFile) -> list[Path]:
    return folders() + ([file.home] if file.home is not None else [])


def locate(file: PublishedFile, path: str | Path | None = None) -> Path:
    """Where the file lies, with size and SHA-256 checked.

    Raises:
        MissingWeights: it is nowhere.
        InputError: it is there, but it is not the published file.
    """
    at = find(file, path)
    if at is None:
        raise MissingWeights(missing(file, path))
    check(at, file)
    return at


def missing(file: PublishedFile, path: str | Path | None = None) -> str:
    """The sentence for a file that is not there: which, where it was looked for, how to get it."""
    where = str(path) if path is not None else ", ".join(str(folder) for folder in _places(file))
    users = ", ".join(file.used_by)
    return f"{users} needs {file.filename} ({file.origin}); not found in {where}. {_how_to_get(file)}"


def _how_to_get(file: PublishedFile) -> str:
    if file.home is not None:
        return "It is part of this package: install cicm again."
    return f"Run `cicm models get {file.name}`, or put {file.url} into a folder and name that in {ENVIRONMENT}."


def check(path: Path, file: PublishedFile) -> None:
    """Refuse a file that is not, byte for byte, the published one.

    Raises:
        InputError: another size or checksum, or unreadable.
    """
    try:
        status = path.stat()
        if file.num_bytes and status.st_size != file.num_bytes:
            raise InputError(
                f"{path} must be {file.filename} of {file.num_bytes} bytes; got {status.st_size} bytes. "
                f"Remove it. {_how_to_get(file)}"
            )
        found = _digest(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}. {_how_to_get(file)}") from error
    if found != file.sha256:
        raise InputError(
            f"{path} must have the SHA-256 {file.sha256[:12]}...; got {found[:12]}.... Remove it. {_how_to_get(file)}"
        )


@lru_cache(maxsize=32)
def _digest(path: Path, modified_ns: int, num_bytes: int) -> str:
    """SHA-256 of a file; remembered as long as the file does not change."""
    return digest_of(path)


# -- fetching --------------------------------------------------------------------------------------------------------

Progress = Callable[[int, int], None]  # called with (bytes so far, bytes in all; 0 where that is not known)


def fetch(file: PublishedFile, folder: str | Path | None = None, *, progress: Progress | None = None) -> Path:
    """Download one file, check it, and only then give it its name.

    A download that is interrupted goes on where it stopped, if the server can. Proxies are those of the environment.

    Returns:
        Where the file lies. If the published file is there already, nothing is downloaded.

    Raises:
        InputError: no address or no checksum is known; downloads are forbidden (CICM_OFFLINE); a file of that name
            which is not the published one; no connection; too many or too few bytes; another checksum.
    """
    target = (cache_folder() if folder is None else Path(folder)) / file.filename
    if target.exists():
        check(target, file)
        return target
    if file.home is not None:
        raise InputError(f"{file.name} ships with this package and is not downloaded; it lies in {file.home}.")
    if file.url is None or not file.sha256:
        raise InputError(f"{file.name} can't be downloaded: no address or no checksum of it is known.")
    if os.environ.get(OFFLINE, "0") not in ("", "0"):
        raise InputError(f"{OFFLINE} is set, so nothing is downloaded. Unset it, or get {file.url} yourself.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.parent / f".{target.stem[:64]}.{file.sha256[:16]}{PART}{target.suffix}"
        with _alone(part) as sink:
            _download(file, sink, progress)
            os.fsync(sink.fileno())
        place(part, target, overwrite=True)
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "reason", None) or reason_of(error).rstrip(".")
        raise InputError(
            f"could not fetch {file.url} into {target.parent}: {reason}. Check the connection and the folder and run "
            f"it again, or get the file elsewhere and name its folder in {ENVIRONMENT}."
        ) from error
    return target


@contextmanager
def _alone(path: Path) -> Iterator[BinaryIO]:
    """A file to go on writing, for one process at a time; removed afterwards if it is empty."""
    with open(path, "a+b") as stream:
        try:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows: the check of the bytes is what keeps two downloads from mixing
            pass
        except OSError as error:
            raise InputError(f"another process downloads {path}. Wait for it.") from error
        try:
            yield stream
        finally:
            empty = os.fstat(stream.fileno()).st_size == 0
            stream.close()
            if empty:
                path.unlink()


def _download(file: PublishedFile, sink: BinaryIO, progress: Progress | None) -> None:
    """Append what is missing to a part of the file, and check the whole; what is wrong is emptied."""
    assert file.url is not None
    most = file.num_bytes or _MAX_BYTES
    have = sink.seek(0, os.SEEK_END)
    if have != file.num_bytes or not have:
        request = urllib.request.Request(
            file.url, headers={"Range": f"bytes={have}-"} if 0 < have < file.num_bytes else {}
        )
        with urllib.request.build_opener().open(request, timeout=_TIMEOUT_SECONDS) as response:
            answer = response.headers.get("Content-Range", "")
            if response.status != 206 or not answer.startswith(f"bytes {have}-"):
                sink.truncate(have := 0)  # from the start: this server knows no parts, or the part is of another file
            while chunk := response.read(_CHUNK_BYTES):
                have += len(chunk)
                if have > most:
                    sink.truncate(0)
                    raise InputError(f"{file.url} must be {most} bytes; it sends more. Not kept.")
                sink.write(chunk)
                if progress is not None:
                    progress(have, file.num_bytes)
    sink.flush()
    if file.num_bytes and have != file.num_bytes:
        raise InputError(f"{file.url} must be {file.num_bytes} bytes; got {have}. Run it again: it goes on from there.")
    if (found := digest_of(sink.name)) != file.sha256:
        sink.truncate(0)
        raise InputError(f"{file.url} must have the SHA-256 {file.sha256[:12]}...; got {found[:12]}.... Not kept.")
