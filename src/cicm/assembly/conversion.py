"""Published weights of the original networks into files of ours.

Shapes are compared before anything is allocated for them; `cicm.assembly.restoring` is the way back.
"""

from __future__ import annotations

import datetime
import inspect
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cicm.assembly.checkpoint import Checkpoint, State, read_checkpoint
from cicm.assembly.inpainter import MemoryInpainter
from cicm.assembly.model import ModelConfig
from cicm.assembly.weights import ENDINGS, UNUSABLE, save_weights
from cicm.conventions import InputError
from cicm.files import check_output
from cicm.networks import InpaintingNetwork, maker
from cicm.networks.originals import Misfit, compare_shapes, origin, original_code, original_shapes, recognise

_MARGIN_BYTES = 2**26
_WIDTHS = (64, 32, 16, 8, 4)


@dataclass(frozen=True)
class Conversion:
    """What was written, and what is worth knowing about it."""

    paths: tuple[Path, ...]
    config: ModelConfig
    notes: tuple[str, ...] = ()
    card: dict[str, Any] = field(default_factory=dict)


def convert(
    network: str,
    files: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    *,
    parts: Mapping[str, str | os.PathLike] | None = None,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write a published checkpoint as a weights file of ours, without memories.

    Args:
        files: one for each part of the original, in any order; one in all for most networks.
        parts: part -> file, for files whose part shall not be found out from their names.
        options: of the network, where the shapes do not tell them.

    Returns:
        what was written; `network` gives the same tensors back, bit for bit where they were float32.

    Raises:
        InputError: a file that can't be read safely, is of something else, or does not fit (the message lists every
            name); a part that is missing or comes twice; an output that is there. Nothing was written then.
    """
    module = original_code(network)
    inputs = [*files, *(parts or {}).values()]
    target = check_output(
        output, endings=ENDINGS, inputs=inputs, overwrite=overwrite, what="weights file", make_folder=True
    )
    known = inspect.signature(maker(network)).parameters
    if unknown := sorted(set(options or {}) - set(known)):
        raise InputError(f"network {network!r} has no option {unknown[0]!r}; it takes {', '.join(known)}.")
    held = _by_part(network, module, files, parts or {})
    notes = [f"{one.path.name}: {note}" for one in held.values() for note in one.notes]
    apart = getattr(module, "PICTURES_APART", {})  # pictures of a folder are filled in batches and must not meet there
    made, rounded, idle = _network(network, module, held, {**apart, **(options or {})})
    for name, value in apart.items():
        if name not in (options or {}):
            notes.append(
                f"{name} = {value!r}: pictures of a batch do not influence each other; one at a time is the original"
            )
    if rounded:
        notes.append(f"{len(rounded)} tensors were rounded to the type that the network has, the first is {rounded[0]}")
    if idle:
        notes.append(f"left out, as the options say: {', '.join(idle)}")
        held = {part: one for part, one in held.items() if part not in idle}
    config = ModelConfig(network, _options_of(made))
    card = _card(network, held)
    save_weights(target, MemoryInpainter(made), config, card, overwrite=overwrite)
    return Conversion((target,), config, tuple(notes), card)


def _options_of(network: InpaintingNetwork) -> dict[str, Any]:
    """The options that a network was made with, where they are not the defaults; `width` always.

    Example:
        >>> from cicm.networks import create
        >>> _options_of(create("unet", width=8, start="smooth"))
        {'width': 8, 'start': 'smooth'}
    """
    known = inspect.signature(type(network)).parameters
    return {k: v for k, v in network.options.items() if k == "width" or v != known[k].default}


def _by_part(
    network: str, module: ModuleType, files: Sequence[str | os.PathLike], named: Mapping[str, str | os.PathLike]
) -> dict[str, Checkpoint]:
    """Part -> its file; the one part is named "" where the original is one file."""
    if not hasattr(module, "recognise_part"):
        if named:
            raise InputError(f"the original of {network} is one file, without parts; name the file alone.")
        if len(files) != 1:
            raise InputError(f"the original of {network} is one file; got {len(files)}.")
        return {"": _read(module, files[0])}
    known = list(module.PARTS)
    for part in named:
        if part not in known:
            raise InputError(f"{network} has no part {part!r}; its parts are {', '.join(known)}.")
    held = {part: read_checkpoint(file) for part, file in named.items()}
    for file in files:
        one = read_checkpoint(file)
        try:
            part = module.recognise_part(one.state)
        except InputError as error:
            raise InputError(_told_of_another(network, one) or f"{file}: {error}") from error
        if part in held:
            raise InputError(f"two files of the part {part!r}: {held[part].path} and {file}. Leave one out.")
        held[part] = one
    needed = [part for part in known if part != "edges"]
    if missing := [part for part in needed if part not in held]:
        for one in held.values():
            if (guess := recognise(one.state)) and guess.network != network and len(held) == 1:
                raise InputError(_told_of_another(network, one))
        came = ", ".join(f"{part} ({one.path.name})" for part, one in held.items()) or "none"
        raise InputError(
            f"{network} is published in parts, and {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} "
            f"missing; got {came}. Name the files of {', '.join(needed)}, in any order."
        )
    return held


def _read(module: ModuleType, file: str | os.PathLike) -> Checkpoint:
    """A file of a network, by what the network's module knows of its published files."""
    beside = getattr(module, "OBJECTS_BESIDE", False)
    return read_checkpoint(file, prefixes=getattr(module, "PREFIXES", ()), objects_beside=beside)


class _Allowance(TorchDispatchMode):
    """Refuses to make more memory out of nothing than a file can need: a narrow file may claim a wide network."""

    def __init__(self, num_bytes: int) -> None:
        super().__init__()
        self.left = num_bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        inputs = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor) and not value.is_meta]
        if not inputs:  # memory is taken from the system when it is first written to, and this comes before
            fresh = (value for value in tree_leaves(made) if isinstance(value, Tensor) and not value.is_meta)
            self.left -= sum(value.numel() * value.element_size() for value in fresh)
            if self.left < 0:
                raise InputError("the shapes in it claim a network that is larger than the file.")
        return made


def _network(
    network: str, module: ModuleType, held: Mapping[str, Checkpoint], options: dict[str, Any]
) -> tuple[InpaintingNetwork, list[str], list[str]]:
    """The network that the files make, the tensors that were not kept bit for bit, the parts that it does not use."""
    tensors = [tensor for one in held.values() for tensor in one.state.values()]
    try:
        with _Allowance(_MARGIN_BYTES + 4 * sum(4 * tensor.numel() for tensor in tensors)):
            made = module.from_original(_given({part: one.state for part, one in held.items()}), **options).eval()
    except (LookupError, *UNUSABLE) as error:  # InputError is a ValueError
        raise InputError(_what_is_wrong(network, held, error, options)) from error
    back = parted(module, module.to_original(made))
    rounded = []
    idle = [part for part in held if part not in back]  # an option can leave a part out
    for part, one in held.items():
        for name, tensor in one.state.items() if part in back else ():
            kept = back[part][name]
            if tensor.is_floating_point() != kept.is_floating_point():
                raise InputError(f"{one.path}: {name} must be {kept.dtype}; got {tensor.dtype}. Nothing was written.")
            if not torch.equal(kept.to(tensor.dtype), tensor) and bool(tensor.isfinite().all()):
                assert tensor.dtype != kept.dtype, f"{name} of {network} comes back changed"
                rounded.append(name)
    return made, rounded, idle


def _given(parts: Mapping[str, State]) -> Any:
    return parts[""] if set(parts) == {""} else dict(parts)


def parted(module: ModuleType, state: State) -> dict[str, State]:
    """Part -> its share of an original's state; the one part is named "" where the original is one file."""
    return module.parts_of(state) if hasattr(module, "parts_of") else {"": state}


def _what_is_wrong(network: str, held: Mapping[str, Checkpoint], error: Exception, options: Mapping[str, Any]) -> str:
    """The sentence, and every name, for files that make no network."""
    for one in held.values():
        if not _is_part(network, one) and (told := _told_of_another(network, one)):
            return told
    files = ", ".join(str(one.path) for one in held.values())
    flat = {f"{part}.{n}" if part else n: t for part, one in held.items() for n, t in one.state.items()}
    fits = [error.fit] if isinstance(error, Misfit) else []
    sized = fits and 2 * len(fits[0].misshapen) < len(flat)
    for width in () if sized else _WIDTHS:  # the tensor that tells the width is lacking: the nearest of these
        with suppress(TypeError, ValueError):
            shapes = original_shapes(network, **{**options, "width": width})
            expected = {
                f"{part}.{n}" if part else n: s for part in held if part in shapes for n, s in shapes[part].items()
            }
            fits.append(compare_shapes(expected, flat))
    best = min(fits, key=lambda fit: fit.count, default=None)
    if best is None or best.exact:
        return f"{files}: {error}"
    return f"{files}: {Misfit(network, best)}"


def _is_part(network: str, one: Checkpoint) -> bool:
    """Whether it is one of the network's parts; a JPGNet's generator may be a whole RFR."""
    module = original_code(network)
    try:
        return hasattr(module, "recognise_part") and module.recognise_part(one.state) in module.PARTS
    except InputError:
        return False


def _told_of_another(network: str, one: Checkpoint) -> str:
    """The sentence for a file of another network; empty if it is none."""
    if guess := recognise(one.state):
        if guess.network == network:
            return ""
        more = " (with its other parts)" if guess.part else ""
        return f"{one.path}: {guess}; use: cicm convert {guess.network} {one.path.name} -o OUT{more}."
    ends = {name.split(".")[0] for name in one.state}
    edge_connects = {"features", *(f"conv{i}" for i in range(1, 6))}
    of_judge = (ends <= edge_connects or ends == {"encoder", "classifier"}) and any(
        "weight_orig" in n for n in one.state
    )
    if of_judge or all(".conv_sn." in n for n in one.state):  # MISF's and its kin's, PEN-Net's; the gated network's
        return f"{one.path} holds a discriminator, which repairs nothing; expected the generator's file."
    if all(name.startswith(("network.", "memories.")) for name in one.state):
        return f"{one.path} holds names of this package's own models, as a training checkpoint has them."
    return ""


def _card(network: str, held: Mapping[str, Checkpoint]) -> dict[str, Any]:
    from_where = origin(network)
    original = [
        {
            **({"part": part} if part else {}),
            "file": one.path.name,
            "sha256": one.sha256,
            **({"iteration": one.iteration} if one.iteration is not None else {}),
        }
        for part, one in held.items()
    ]
    return {
        "about": f"weights of the original {network}, converted; not trained by this project",
        "source": str(from_where),
        "licence": f"the weights keep the terms they were released on; the original's code: {from_where.licence}",
        "converted": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "original": original,
    }
