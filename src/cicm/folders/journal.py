"""What a run has done, kept beside the results, so that a killed run goes on where it stood.

`OUT/.cicm/journal.jsonl` is only ever appended to; each shard has a file of its own. A result takes three steps:

1. it is written whole below `OUT/.cicm/`, and synced to the disk;
2. the journal says `ready`, with the result's size and digest, and is synced;
3. the result takes its place by one rename, and the journal says `done`.

A run that dies before 2 leaves nothing, and does the photo again. Between 2 and 3 the digest tells whether the rename
happened. After it nothing is open: `done` needs no sync, since `ready` and the digest prove as much.

A run that replaces results says `end` when it has been through all its photos. Until then the same command goes on with
it; after that it begins anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cicm import __version__
from cicm.conventions import InputError
from cicm.files import digest_of, reason_of
from cicm.locks import alone
from cicm.terminal import shown

_FOLDER = ".cicm"
_FORMAT = 1
_MAX_LINE = 2**20

Inputs = list[list[Any]]
"""[name, size in bytes, time of change in nanoseconds] of each file that a result is made of."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The last that a journal says of a job.

    Args:
        output: path of the result, below the folder of results.
        settings: digest of the settings that it was made with.
        finished: it has taken its place; otherwise it was about to.
    """

    output: str
    inputs: Inputs
    settings: str
    size: int
    digest: str
    finished: bool
    run: str = ""


@dataclass
class Ledger:
    """All journals of a folder of results, read.

    Args:
        entries: job's key -> the last entry.
        settings: digest of settings -> the settings in words.
        replacing: runs that replace results and have not come to their end.
        ended: runs that have been through all their photos.
        damaged: lines that could not be read; what they said counts as not done.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    replacing: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    damaged: int = 0

    def proves(self, key: str, out: Path, *, read: bool = False) -> bool:
        """Whether the result of a job is in its place, whole, and the one that was made then.

        Args:
            read: look at the bytes of finished results too; without it their size tells.
        """
        entry = self.entries.get(key)
        if entry is None:
            return False
        file = out / entry.output
        try:
            if file.is_symlink() or not file.is_file() or file.stat().st_size != entry.size:
                return False
            return (entry.finished and not read) or _is_of(entry.digest, file)
        except OSError:
            return False


def read_ledger(out: Path) -> Ledger:
    """What the journals of a folder of results say; empty if there are none.

    A line that a killed run left unfinished, or that anything else damaged, is left out: the photo is then done again,
    or refused because its result exists.

    Raises:
        InputError: a journal that can't be opened.
    """
    ledger = Ledger()
    folder = out / _FOLDER
    try:
        files = sorted(folder.glob("journal*.jsonl"), key=lambda file: file.stat().st_mtime_ns)
        for file in files:
            with file.open("rb") as stream:
                while line := stream.readline(_MAX_LINE):
                    _take(ledger, line)
        ledger.replacing -= ledger.ended
    except OSError as error:
        raise InputError(f"the journal in {shown(folder)} can't be read: {reason_of(error)}") from error
    return ledger


def digest_of_settings(settings: Mapping[str, Any]) -> str:
    """Names settings in 16 letters; equal settings have equal names, in whatever order they are given."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _is_of(digest: str, file: Path) -> bool:
    """Whether a journal's digest is that of a file."""
    if len(digest) == 64:
        return digest == digest_of(file)
    with file.open("rb") as stream:  # journals of the first versions hold a shorter one
        return digest == hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


class Journal:
    """Writes one run's journal; holds it alone while open.

    Args:
        out: the folder of results; it exists.
        settings: what decides about results, as plain data.
        name: of this journal among those of the folder, such as a shard's.
        replacing: the run replaces results, whatever an older one says of them.

    Raises:
        InputError: another run writes this journal, or it can't be written.
    """

    def __init__(
        self, out: Path, settings: Mapping[str, Any], *, name: str = "", run: str = "", replacing: bool = False
    ) -> None:
        self.folder = out / _FOLDER
        self.file = self.folder / (f"journal-{name}.jsonl" if name else "journal.jsonl")
        self.parts = self.folder / (f"parts-{name}" if name else "parts")
        self.settings = digest_of_settings(settings)
        self.run = run or secrets.token_hex(8)
        self._lock = threading.Lock()
        self._synced = threading.Lock()
        self._written = self._safe = 0
        self._cut = False
        began = {"kind": "run", "format": _FORMAT, "version": __version__, "run": self.run, "began": time.time()}
        began |= {"digest": self.settings, "settings": dict(settings), "replacing": replacing}
        with ExitStack() as open_:
            try:
                if self.folder.is_symlink():
                    raise InputError(f"{shown(self.folder)} is a link; expected a folder. Take it away.")
                self.folder.mkdir(exist_ok=True)
                open_.enter_context(
                    alone(
                        self.file.with_suffix(".lock"),
                        f"another run is writing to {shown(out)}",
                        "Wait for it, give each its --shard, or use another folder.",
                    )
                )
                self._remove_leftovers()
                self.parts.mkdir()
                open_.callback(shutil.rmtree, self.parts, ignore_errors=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
                self._handle = os.open(self.file, flags, 0o644)
                open_.callback(os.close, self._handle)
                if os.lseek(self._handle, 0, os.SEEK_END):
                    os.lseek(self._handle, -1, os.SEEK_END)
                    self._cut = os.read(self._handle, 1) != b"\n"
                self._append(began, sync=True)
            except OSError as error:
                raise InputError(f"no journal can be written in {shown(out)}: {reason_of(error)}") from error
            self._open = open_.pop_all()

    def ready(self, key: str, output: str, inputs: Inputs, size: int, digest: str) -> None:
        """Say, on the disk, that a result is about to take its place."""
        entry = {"output": output, "inputs": inputs, "settings": self.settings, "size": size, "digest": digest}
        self._append({"kind": "ready", "key": key, "run": self.run, **entry}, sync=True)

    def done(self, key: str) -> None:
        """Say that it has."""
        self._append({"kind": "done", "key": key, "run": self.run})

    def failed(self, key: str, error: str) -> None:
        """Say what kept a photo from being filled; it is tried again by the next run."""
        self._append({"kind": "failed", "key": key, "run": self.run, "error": error[:1000]})

    def end(self, runs: Collection[str] = ()) -> None:
        """Say that this run, and older ones that it went on with, have been through all their photos."""
        self._append({"kind": "end", "runs": sorted({self.run, *runs})}, sync=True)

    def close(self) -> None:
        """Let another run write it."""
        self._open.close()

    def _remove_leftovers(self) -> None:
        """Remove what killed runs left half written: of this journal, and of others that nobody holds."""
        for parts in self.folder.glob("parts*"):
            if parts == self.parts:
                shutil.rmtree(parts, ignore_errors=True)
            elif parts.is_dir() and not parts.is_symlink():
                lock = self.folder / f"journal{parts.name.removeprefix('parts')}.lock"
                with suppress(InputError), alone(lock, ""):
                    shutil.rmtree(parts, ignore_errors=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, record: dict[str, Any], *, sync: bool = False) -> None:
        line = json.dumps(record, ensure_ascii=True).encode() + b"\n"  # ASCII: also for names that are no Unicode
        with self._lock:
            if self._cut:  # by a kill or a full disk: that line ends here, so that it spoils no other
                line = b"\n" + line
            while line:  # O_APPEND: one write is one line; a disk that is nearly full may take less
                written = os.write(self._handle, line)
                self._cut = not line[:written].endswith(b"\n") if written else self._cut
                line = line[written:]
            self._written += 1
            mine = self._written
        if sync:
            with self._synced:  # whoever comes while another syncs is often covered by the next one's sync
                if self._safe < mine:
                    written = self._written
                    os.fsync(self._handle)
                    self._safe = written


def _take(ledger: Ledger, line: bytes) -> None:
    try:
        record = json.loads(line)
        kind = record["kind"]
        if kind == "run":
            ledger.settings[str(record["digest"])] = dict(record["settings"])
            if record.get("replacing"):
                ledger.replacing.add(str(record["run"]))
            return
        if kind == "end":
            ledger.ended.update(map(str, record["runs"]))
            return
        key = record["key"]
        if not isinstance(key, str):
            raise TypeError("a key is text")
        if kind == "ready":
            entry = Entry(
                str(record["output"]),
                [list(item) for item in record["inputs"]],
                str(record["settings"]),
                int(record["size"]),
                str(record["digest"]),
                False,
                str(record["run"]),
            )
            if not _safe_below(entry.output):
                raise ValueError("a result lies in the folder of results")
            ledger.entries[key] = entry
        elif kind == "done" and (last := ledger.entries.get(key)) and last.run == record["run"]:
            ledger.entries[key] = Entry(last.output, last.inputs, last.settings, last.size, last.digest, True, last.run)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        ledger.damaged += line.strip() != b""


def _safe_below(path: str) -> bool:
    """Whether a path with "/" stays below the folder that it is joined to.

    Example:
        >>> _safe_below("a/b.png"), _safe_below("../b.png"), _safe_below("/b.png")
        (True, False, False)
    """
    parts = path.split("/")
    return not os.path.isabs(path) and not {"", ".", "..", _FOLDER} & set(parts) and "\0" not in path
