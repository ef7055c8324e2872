"""One file for a trained model: safetensors, with the configuration and the card as JSON in its header."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cicm.assembly.inpainter import MemoryInpainter
from cicm.assembly.model import ModelConfig, build
from cicm.conventions import InputError
from cicm.files import atomic, check_output, check_readable

FORMAT = "cicm-1"
MAX_BYTES = 4 * 2**30
MAX_HEADER = 2**24
ENDINGS = (".safetensors",)
PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # how files begin that `torch.save` wrote
UNUSABLE = (AttributeError, KeyError, TypeError, ValueError, RuntimeError, OverflowError, SafetensorError)
"""What a header that is JSON, but not ours, can raise; RecursionError is a RuntimeError."""
DEFAULT = Path(__file__).resolve().parent.parent / "weights" / "unet-cicm-scenes.safetensors"


@dataclass(frozen=True)
class LoadedModel:
    """A model from a file, in evaluation mode, with what the file says about it."""

    model: MemoryInpainter
    config: ModelConfig
    card: dict[str, Any]


def default_weights() -> Path:
    """The weights that come with the package.

    Raises:
        InputError: they are missing from this installation.
    """
    if not DEFAULT.is_file():
        raise InputError(
            f"the package's own weights are missing: expected {DEFAULT}. Reinstall, or name a weights file."
        )
    return DEFAULT


def save_weights(
    path: str | os.PathLike,
    model: MemoryInpainter,
    config: ModelConfig,
    card: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a model as one safetensors file, atomically.

    Args:
        config: what `build` needs to make it again.

    Raises:
        InputError: what `check_output` refuses; values that are not finite.
    """
    target = check_output(path, endings=ENDINGS, overwrite=overwrite, what="weights file", make_folder=True)
    tensors = {}
    for name, tensor in model.state_dict().items():
        tensors[name] = tensor.detach().cpu().contiguous().clone()
        if not torch.isfinite(tensors[name]).all():
            raise InputError(f"{name} holds values that are not finite; nothing was written.")
    header = {"format": FORMAT, "config": json.dumps(config.to_dict()), "card": json.dumps(dict(card or {}))}
    with atomic(target, overwrite=overwrite) as temporary:
        save_file(tensors, temporary, metadata=header)
    return target


def check_buildable(config: ModelConfig) -> None:
    """Refuse a model that can't be built, or that no weights file could hold; takes no memory for its numbers.

    Raises:
        InputError: as `build`; a size that makes no sense, or of more than `MAX_BYTES`.
    """
    try:
        with torch.device("meta"):
            tensors = build(config).state_dict().values()
    except InputError:
        raise
    except (*UNUSABLE, AssertionError) as error:
        told = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"model: the network {config.network!r} can't be built so: {told[:200]}") from error
    if (size := sum(tensor.numel() * tensor.element_size() for tensor in tensors)) > MAX_BYTES:
        raise InputError(
            f"model: its numbers would take {size / 2**30:.0f} GiB; at most {MAX_BYTES // 2**30} GiB can be written "
            "and read. Make the network narrower, or the memory smaller."
        )


def read_header(path: str | os.PathLike, what: str = "weights file") -> dict[str, str]:
    """The text in a safetensors file's header, without its tensors and without torch's help.

    Raises:
        InputError: missing, a folder, too large, not safetensors, a pickle, or damaged.
    """
    file = check_readable(path, what)
    size, most = file.stat().st_size, MAX_BYTES
    if size > most:
        raise InputError(f"the {what} {file} has {size / 2**20:.0f} MiB; at most {most // 2**20} MiB are read.")
    with file.open("rb") as stream:
        start = stream.read(8)
        if start[:2] in PICKLES:
            raise InputError(
                f"{file} is a pickle (.pth, .pt), which can run code when it is opened; expected safetensors. "
                "Published weights become safetensors with cicm convert."
            )
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else MAX_HEADER + 1
        text = stream.read(length) if length <= min(size, MAX_HEADER) else b""
    try:
        header = json.loads(text)
        metadata = header.get("__metadata__", {}) if isinstance(header, dict) else None
        if not isinstance(metadata, dict):
            raise ValueError("no header")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not a whole safetensors file (its header can't be read). Get it again.") from error
    return metadata


def load_weights(path: str | os.PathLike | None = None, device: str | torch.device = "cpu") -> LoadedModel:
    """Read a model that `save_weights` wrote; in evaluation mode, float32.

    Args:
        path: a file; None for the weights that come with the package.

    Raises:
        InputError: missing, damaged, a pickle, not one of ours, or tensors that do not fit its own configuration.
    """
    file = default_weights() if path is None else Path(path)
    header = read_header(file)
    if "album" in header:
        raise InputError(f"{file} is an album of photos, not a model. Use it with cicm inpaint --album {file.name}.")
    if header.get("format") != FORMAT:
        raise InputError(
            f"{file} is safetensors but not a cicm model (expected format {FORMAT!r} in its header, "
            f"got {header.get('format')!r}). Published weights become a cicm model with cicm convert."
        )
    try:
        config = ModelConfig.from_dict(json.loads(header["config"]))
        card = json.loads(header.get("card", "{}"))
        if not isinstance(card, dict):
            raise ValueError("its card is not an object")
        with torch.device("meta"):  # shapes alone, so that a small file can't ask for all memory
            expected = build(config).state_dict()
        tensors = load_file(file, device="cpu")
    except UNUSABLE as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{file} is damaged, or of another version: {reason} Get it again.") from error
    missing, surplus = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    wrong = [n for n in expected if n in tensors and tensors[n].shape != expected[n].shape]
    if missing or surplus or wrong:
        first = [*missing, *surplus, *wrong][0]
        raise InputError(
            f"{file} does not fit its own configuration ({config.network!r}): {len(missing)} tensors missing, "
            f"{len(surplus)} surplus, {len(wrong)} of another shape, the first is {first!r}. Get it again."
        )
    for name, tensor in expected.items():  # the same bytes under another type's name would be other numbers
        given = tensors[name]
        if given.is_floating_point() != tensor.is_floating_point() or not (
            tensor.is_floating_point() or given.dtype == tensor.dtype
        ):
            raise InputError(
                f"{file} is damaged: {name!r} must be {str(tensor.dtype)[6:]}; it is labelled "
                f"{str(given.dtype)[6:]}. Get it again."
            )
    model = build(config)
    model.load_state_dict(tensors)
    if bad := [n for n, t in model.state_dict().items() if not torch.isfinite(t).all()]:
        raise InputError(f"{file} holds values that are not finite, first in {bad[0]!r}. Get it again.")
    return LoadedModel(model.eval().to(device), config, card)
