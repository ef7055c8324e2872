"""A published checkpoint, read without running what it may hold.

What comes from outside is never unpickled freely: `weights_only=True`, and its size is bounded before it is opened.
"""

from __future__ import annotations

import os
import pickle
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from cicm.assembly.archive import ArchiveError, is_torchscript, prefix_of, tensors_of_archive
from cicm.assembly.weights import FORMAT, MAX_BYTES, PICKLES, UNUSABLE, read_header
from cicm.conventions import InputError
from cicm.files import check_readable, digest_of

State = dict[str, Tensor]

_CONTAINERS = ("generator", "state_dict", "model", "netG", "G")
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


def read_checkpoint(
    path: str | os.PathLike, *, prefixes: Sequence[str] = (), objects_beside: bool = False
) -> Checkpoint:
    """Read the tensors of a published file (.pth, .pt, .ckpt or .safetensors) without running what it may hold.

    Containers are unwrapped, and the prefix that DataParallel puts before every name is taken off. Of a TorchScript
    file the named tensors are read and nothing else.

    Args:
        prefixes: of the network's names, where a file holds more than one network: the first that any name begins
            with is taken off, and what begins otherwise is left out.
        objects_beside: a pickle may hold objects beside the tensors; they are passed over, not made.

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
        found = _unpickled(file, stream, prefixes, objects_beside) if pickled else _tensors_of(file)
    state, iteration, notes = _unwrapped(file, found)
    if prefix := prefix_of(state, _everywhere(prefixes)):
        others = {name.split(".")[0] for name in state if not name.startswith(prefix)}
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        left = f"; left out: {', '.join(map(_shown, sorted(others)))}" if others else ""
        notes = (*notes, f"took the names that begin with {prefix!r}{left}")
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if claimed > 4 * size:  # a view can repeat its numbers; those of a network do not
        raise InputError(f"{file} has {size} bytes and claims tensors of {claimed}: it is damaged, or made to harm.")
    return Checkpoint(file, state, digest, iteration, notes)


def _everywhere(prefixes: Sequence[str]) -> list[str]:
    """The prefixes, below a container's key and without one."""
    return [f"{container}{prefix}" for prefix in prefixes for container in ("state_dict.", "")]


def _unpickled(file: Path, stream: Any, prefixes: Sequence[str], objects_beside: bool) -> Any:
    archive = _archive(file, stream)
    if archive and is_torchscript(archive.namelist()):
        return _of_archive(file, archive, prefixes)
    stream.seek(0)
    try:
        return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if archive and objects_beside:
            return _of_archive(file, archive, prefixes)
        reason = str(error).replace("\n", " ")
        told = reason.split("Unsupported global: ")[-1].split(" was not ")[0] if "global" in reason else ""
        raise InputError(
            f"{file} was not opened: it is damaged, or holds more than tensors and plain data"
            f"{f' ({told})' if told else ''}, which could run code. Save its state dict alone where you trust it."
        ) from error
    except Exception as error:  # damage inside a pickle can raise anything, also struct.error or an assertion
        reason = next(iter(str(error).splitlines()), "").split(". ")[0].rstrip(".") or type(error).__name__
        raise InputError(f"{file} is damaged, or no checkpoint of torch: {reason}. Get it again.") from error


def _archive(file: Path, stream: Any) -> zipfile.ZipFile | None:
    """The file as an archive, of a size that is read; None for the layout that torch had before archives."""
    if not zipfile.is_zipfile(stream):
        return None
    try:
        archive = zipfile.ZipFile(stream)
        unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InputError(f"{file} is a damaged archive: {error}. Get it again.") from error
    if unpacked > MAX_BYTES:
        raise InputError(
            f"{file} unpacks to {unpacked / 2**30:.1f} GiB; checkpoints up to {MAX_BYTES // 2**30} GiB are read."
        )
    return archive


def _of_archive(file: Path, archive: zipfile.ZipFile, prefixes: Sequence[str]) -> State:
    """The named tensors of an archive that holds more than tensors."""
    try:
        found = tensors_of_archive(archive, tuple(_everywhere(prefixes)))
    except (ArchiveError, zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, zlib.error) as error:
        raise InputError(
            f"{file} can't be read without running it: {error}. Get it again, or its state dict."
        ) from error
    if not found:
        raise InputError(
            f"{file} holds no tensor that has a name: it was frozen when it was traced, or is no network. "
            "Only the code in it could use it, and that is not run here. Get the network's state dict instead."
        )
    return found


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
