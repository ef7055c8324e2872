"""A weights file of ours as the original's code loads it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cicm.assembly.conversion import Conversion, parted
from cicm.assembly.weights import load_weights
from cicm.conventions import InputError
from cicm.files import atomic, check_output, hidden_beside
from cicm.networks.originals import convertible, original_code

_PUBLISHED: dict[tuple[str, str], tuple[str, str | None]] = {
    ("rfr", ""): ("", "n_iter"),
    ("misf", ""): ("", "iteration"),
    ("spl", ""): ("", "iteration"),
    ("jpgnet", "generator"): ("generator.pth", "iteration"),
    ("jpgnet", "edges"): ("edges.pth", "iteration"),
    ("jpgnet", "filter"): ("filter.pth", None),
    ("jpgnet", "fusion"): ("0_fusion.pth", None),  # its loader wants a number in front
}
"""(network, part) -> file name within a folder, and the counter of the container; no counter: a bare state dict."""


def restore(
    network: str, weights: str | os.PathLike, output: str | os.PathLike, *, overwrite: bool = False
) -> Conversion:
    """Write a weights file of ours as the original's code loads it.

    Args:
        weights: a .safetensors file of ours; memories are left out, which the notes say.
        output: a .pth file; a folder where the original is published in parts.

    Raises:
        InputError: not such a file, of another network, or an output that is there. Nothing was written then.
    """
    module = original_code(network)
    folder = hasattr(module, "parts_of")
    target = _check_folder(output, overwrite) if folder else _check_file(output, overwrite)
    loaded = load_weights(weights)
    if (holds := loaded.config.network) != network:
        instead = f"use: cicm convert {holds} --to original" if holds in convertible() else "that has no original"
        raise InputError(f"{weights} holds the network {holds!r}, not {network!r}; {instead}.")
    parts = parted(module, module.to_original(loaded.model.network))
    notes = []
    if sites := list(loaded.model.memories):
        notes.append(f"the memory at {' and '.join(sites)} was left out: the original has none")
    written: dict[Path, Any] = {}
    for part, state in parts.items():
        name, counter = _PUBLISHED.get((network, part), (f"{part}.pth", None))
        content = module.published(state) if hasattr(module, "published") else state
        written[target / name if folder else target] = {counter: 0, "generator": state} if counter else content
    if folder:
        _write_folder(target, written)
    else:
        _write(target, written[target])
    return Conversion(tuple(written), loaded.config, tuple(notes), loaded.card)


def _check_file(output: str | os.PathLike, overwrite: bool) -> Path:
    return check_output(
        output, endings=(".pth", ".pt", ".ckpt"), overwrite=overwrite, what="checkpoint", make_folder=True
    )


def _check_folder(output: str | os.PathLike, overwrite: bool) -> Path:
    target = Path(output)
    if target.suffix in (".pth", ".pt", ".safetensors") or target.is_file():
        raise InputError(f"expected a folder for the parts of the original; got {target}. Give a name without ending.")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise InputError(f"{target} is not empty. Choose another folder, or replace its files with --overwrite.")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _write(target: Path, content: Any) -> None:
    with atomic(target) as temporary, open(temporary, "wb") as file:  # a path's errors torch tells without their cause
        torch.save(content, file)


def _write_folder(target: Path, contents: Mapping[Path, Any]) -> None:
    """All files beside the folder first, so that it never holds some of them."""
    beside = hidden_beside(target)
    beside.mkdir()
    try:
        for path, content in contents.items():
            _write(beside / path.name, content)
        target.mkdir(exist_ok=True)
        for path in contents:
            os.replace(beside / path.name, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
