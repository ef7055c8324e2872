"""Checkpoints that survive a kill at any moment.

A checkpoint is written to a temporary file in the run's folder, flushed to the disk, and only then given its name; the
one before it is kept. It holds tensors and plain data alone, so that it is read with `weights_only=True`.
"""

from __future__ import annotations

import io
import os
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from cicm.conventions import InputError
from cicm.files import PART, atomic, digest_of

LAST = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
FORMAT = 1
_DIGEST_BYTES = 32  # a SHA-256 of everything before it ends each file: a flipped bit is found, not trained on


class Checkpoint(NamedTuple):
    """A checkpoint that was read, and what had to be passed over on the way to it."""

    state: dict[str, Any]
    path: Path
    damaged: list[str]


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` as the folder's last checkpoint and keep the one before it.

    Args:
        state: tensors, numbers, strings, lists and dicts; it gets a `format` key.
    """
    last = folder / LAST
    with atomic(last) as temporary:
        with open(temporary, "wb") as file:
            torch.save({**state, "format": FORMAT}, file)
        digest = digest_of(temporary)
        with open(temporary, "ab") as file:
            file.write(bytes.fromhex(digest))
            file.flush()
            os.fsync(file.fileno())
        _keep(last, folder / PREVIOUS)  # only now: on a full disk both are still there


def _keep(last: Path, previous: Path) -> None:
    """Give the last checkpoint its second name."""
    if last.exists():
        # A second name for the same file, so that there is no moment without a checkpoint called LAST.
        second = last.with_name(f".{PREVIOUS}.{os.getpid()}{PART}")
        second.unlink(missing_ok=True)
        try:
            os.link(last, second)
            os.replace(second, previous)
        except OSError:  # a file system without hard links: PREVIOUS is then what a kill right here leaves
            os.replace(last, previous)


def load(path: Path) -> dict[str, Any]:
    """Read one checkpoint.

    Raises:
        InputError: damaged, of another format, or not a checkpoint at all.
    """
    try:
        data = path.read_bytes()
        content, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
        if digest_of(content) != digest.hex():
            raise InputError(f"{path} is damaged: its content does not fit its checksum.")
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # a checksum proves no more than that these are the bytes that were written
        told = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path} cannot be read as a checkpoint: {told}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        got = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise InputError(
            f"{path} must be a checkpoint of format {FORMAT}; got {got!r}. Train on with the older version."
        )
    return state


def find(folder: Path) -> Checkpoint | None:
    """The folder's newest checkpoint that is whole; None where there never was one.

    Raises:
        InputError: there are checkpoints, and all are damaged.
    """
    damaged: list[str] = []
    for path in (folder / LAST, folder / PREVIOUS):
        if path.exists():
            try:
                return Checkpoint(load(path), path, damaged)
            except InputError as error:
                damaged.append(str(error))
    if damaged:
        raise InputError(
            f"no checkpoint in {folder} can be read: {' '.join(damaged)} Begin anew with another --output, "
            "or put a good copy there."
        )
    return None


def random_states() -> dict[str, Any]:
    """The states of all global random generators of this process, as tensors and plain data."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002  # others may use it
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [
            name,
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ],
        "python": [version, list(internal), gauss_next],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put back what `random_states` took."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
    name, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal), gauss_next))
