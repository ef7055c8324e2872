"""A published checkpoint, read without running what it may hold.

What comes from outside is never unpickled freely: `weights_only=True`, and its size is bounded before it is opened.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from cicm.assembly.weights import FORMAT, MAX_BYTES, PICKLES, UNUSABLE, read_header
from cicm.conventions import InputError
from cicm.files import check_readable, digest_of

State = dict[str, Tensor]

_CONTAINERS = ("generator", "state_dict", "model")
"""Under which keys a checkpoint keeps the network; the first that is there counts."""
_COUNTERS = ("n_iter", "iteration")
_MAX_TENSORS = 100_000
_MAX_NAME = 300


@dataclass(frozen=True)
class Checkpoint:
    """A published file that was read.

    Args:
        iteration: of the training that made it; None where the file does not say.
        notes: what was unwrapped or taken off, for people.
    """

    path: Path
    state: State
    sha256: str
    iteration: int | None = None
    notes: tuple[str, ...] = ()


def read_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Read the tensors of a published file (.pth, .pt or .safetensors) without running what it may hold.

    Containers are unwrapped, and the prefix that DataParallel puts before every name is taken off.

    Raises:
        InputError: missing, too large, damaged, more than tensors and plain data, one of our own files, or a file of
            something else than a network: an optimizer, a discriminator.
    """
    file = check_readable(path, "checkpoint")
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{file} has {size / 2**30:.1f} GiB; checkpoints up to {MAX_BYTES // 2**30} GiB are read.")
    digest = digest_of(file)
    with file.open("rb") as stream:
        pickled = stream.read(2) in PICKLES
        stream.seek(0)
        if not pickled and file.suffix != ".safetensors":
            raise InputError(
                f"{file} is no checkpoint: expected a .pth file that torch.save wrote, or a .safetensors file. "
                "Check the path, or get the file again."
            )
        found = _unpickled(file, stream) if pickled else _tensors_of(file)
    state, iteration, notes = _unwrapped(file, found)
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if claimed > 4 * size:  # a view can repeat its numbers; those of a network do not
        raise InputError(f"{file} has {size} bytes and claims tensors of {claimed}: it is damaged, or made to harm.")
    return Checkpoint(file, state, digest, iteration, notes)


def _unpickled(file: Path, stream: Any) -> Any:
    if zipfile.is_zipfile(stream):
        stream.seek(0)
        try:
            with zipfile.ZipFile(stream) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise InputError(f"{file} is a damaged archive: {error}. Get it again.") from error
        if unpacked > MAX_BYTES:
            raise InputError(
                f"{file} unpacks to {unpacked / 2**30:.1f} GiB; checkpoints up to {MAX_BYTES // 2**30} GiB are read."
            )
    stream.seek(0)
    try:
        return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).replace("\n", " ")
        told = reason.split("Unsupported global: ")[-1].split(" was not ")[0] if "global" in reason else ""
        raise InputError(
            f"{file} was not opened: it is damaged, or holds more than tensors and plain data"
            f"{f' ({told})' if told else ''}, which could run code. Save its state dict alone where you trust it."
        ) from error
    except Exception as error:  # damage inside a pickle can raise anything, also struct.error or an assertion
        reason = next(iter(str(error).splitlines()), "").split(". ")[0].rstrip(".") or type(error).__name__
        raise InputError(f"{file} is damaged, or no checkpoint of torch: {reason}. Get it again.") from error


def _tensors_of(file: Path) -> State:
    header = read_header(file)
    if header.get("format") == FORMAT:
        raise InputError(
            f"{file} is a cicm model already. The way back is: cicm convert NAME FILE --to original -o OUT."
        )
    try:
        return load_file(file, device="cpu")
    except UNUSABLE as error:
        raise InputError(f"{file} is damaged: {error}. Get it again.") from error


def _unwrapped(file: Path, found: Any) -> tuple[State, int | None, tuple[str, ...]]:
    """The state dict in what a file holds, the iteration it names, and notes."""
    notes = []
    iteration = None
    if isinstance(found, Mapping) and not _is_state(found):
        counters = [found[key] for key in _COUNTERS if type(found.get(key)) is int]
        iteration = counters[0] if counters and 0 <= counters[0] < 2**53 else None
        key = next((key for key in _CONTAINERS if isinstance(found.get(key), Mapping)), None)
        if key is None:
            raise InputError(_no_network(file, found))
        others = [str(other)[:_MAX_NAME] for other in found if other != key and other not in _COUNTERS]
        left = f"; left out: {', '.join(map(_shown, others))}" if others else ""
        notes.append(f"took the entry {key!r}{left}")
        found = found[key]
    if not isinstance(found, Mapping) or not _is_state(found):
        raise InputError(_no_network(file, found))
    if len(found) > _MAX_TENSORS or any(len(name) > _MAX_NAME or not name.isprintable() for name in found):
        raise InputError(
            f"{file} holds names that no network has: over {_MAX_TENSORS}, longer than {_MAX_NAME}, or unprintable."
        )
    for name, tensor in found.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
            raise InputError(f"{file}: {name} must be a plain tensor of real numbers; got {tensor.dtype}.")
    state = {str(name): tensor.detach() for name, tensor in found.items()}
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
        notes.append('took "module." off every name: it was saved by DataParallel')
    return state, iteration, tuple(notes)


def _is_state(found: Mapping) -> bool:
    return bool(found) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items())


def _no_network(file: Path, found: Any) -> str:
    keys = [str(key) for key in found] if isinstance(found, Mapping) else []
    if any("discriminator" in key for key in keys):
        return f"{file} holds a discriminator, which repairs nothing; expected the generator's file."
    if "param_groups" in keys or any(key.startswith("optim") for key in keys):
        return f"{file} holds only the state of an optimizer; expected the file of the network."
    told = f"a dict of {', '.join(map(_shown, keys[:8])) or 'nothing'}" if isinstance(found, Mapping) else ""
    return (
        f"{file} holds no network: expected names and tensors, or a dict with one of {', '.join(_CONTAINERS)}; "
        f"got {told or type(found).__name__}."
    )


def _shown(key: str) -> str:
    """A key from outside, without what a terminal would obey."""
    return repr(key[:60])
