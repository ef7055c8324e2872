"""Published weights of the original networks into files of ours, and back.

What comes from outside is never unpickled freely: `weights_only=True`, its size bounded before it is opened, its shapes
compared before anything is allocated for them.
"""

from __future__ import annotations

import datetime
import hashlib
import inspect
import os
import pickle
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cicm.assembly.inpainter import MemoryInpainter
from cicm.assembly.model import ModelConfig
from cicm.assembly.weights import FORMAT, MAX_BYTES, UNUSABLE, check_target, load_weights, read_header, save_weights
from cicm.conventions import InputError
from cicm.networks import InpaintingNetwork, maker
from cicm.networks.originals import (
    Misfit,
    compare_shapes,
    convertible,
    origin,
    original_code,
    original_shapes,
    recognise,
)

State = dict[str, Tensor]

CONTAINERS = ("generator", "state_dict", "model")
"""Under which keys a checkpoint keeps the network; the first that is there counts."""
COUNTERS = ("n_iter", "iteration")
MAX_TENSORS = 100_000
MAX_NAME = 300
MARGIN_BYTES = 2**26
WIDTHS = (64, 32, 16, 8, 4)

PUBLISHED: dict[tuple[str, str], tuple[str, str | None]] = {
    ("rfr", ""): ("", "n_iter"),
    ("misf", ""): ("", "iteration"),
    ("jpgnet", "generator"): ("generator.pth", "iteration"),
    ("jpgnet", "edges"): ("edges.pth", "iteration"),
    ("jpgnet", "filter"): ("filter.pth", None),
    ("jpgnet", "fusion"): ("0_fusion.pth", None),  # its loader wants a number in front
}
"""(network, part) -> file name within a folder, and the counter of the container; no counter: a bare state dict."""


@dataclass(frozen=True)
class Checkpoint:
    """A published file that was read.

    Args:
        path: where it was.
        state: its tensors, by the original's names.
        sha256: of the file.
        iteration: of the training that made it; None where the file does not say.
        notes: what was unwrapped or taken off, for people.
    """

    path: Path
    state: State
    sha256: str
    iteration: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conversion:
    """What was written, and what is worth knowing about it.

    Args:
        paths: the files.
        config: the model, as the file of ours describes it.
        notes: one sentence each, for people.
        card: of the file of ours.
    """

    paths: tuple[Path, ...]
    config: ModelConfig
    notes: tuple[str, ...] = ()
    card: dict[str, Any] = field(default_factory=dict)


# There ----------------------------------------------------------------------------------------------------------------


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
        network: the name that it is registered under here.
        files: one for each part of the original, in any order; one in all for most networks.
        output: ends in .safetensors.
        parts: part -> file, for files whose part shall not be found out from their names.
        options: of the network, where the shapes do not tell them.
        overwrite: replace `output` if it is there.

    Returns:
        what was written; `network` gives the same tensors back, bit for bit where they were float32.

    Raises:
        InputError: a file that can't be read safely, is of something else, or does not fit (the message lists every
            name); a part that is missing or comes twice; an output that is there. Nothing was written then.
    """
    module = original_code(network)
    target = check_target(output, overwrite=overwrite)
    for file in (*files, *(parts or {}).values()):
        if target.exists() and Path(file).exists() and target.samefile(file):
            raise InputError(f"{target} is the file to convert; choose another output.")
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
    config = ModelConfig(network, options_of(made))
    card = _card(network, held)
    save_weights(target, MemoryInpainter(made), config, card, overwrite=overwrite)
    return Conversion((target,), config, tuple(notes), card)


def options_of(network: InpaintingNetwork) -> dict[str, Any]:
    """The options that a network was made with, where they are not the defaults; `width` always.

    Example:
        >>> from cicm.networks import create
        >>> options_of(create("unet", width=8, start="smooth"))
        {'width': 8, 'start': 'smooth'}
    """
    known = inspect.signature(type(network)).parameters
    return {k: v for k, v in network.options.items() if k == "width" or v != known[k].default}


def read_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Read the tensors of a published file (.pth, .pt or .safetensors) without running what it may hold.

    Containers are unwrapped, and the prefix that DataParallel puts before every name is taken off.

    Raises:
        InputError: missing, too large, damaged, more than tensors and plain data, one of our own files, or a file of
            something else than a network: an optimizer, a discriminator.
    """
    file = Path(path)
    if file.is_dir():
        raise InputError(f"expected a checkpoint (.pth or .safetensors); {file} is a folder. Name the file in it.")
    if not file.is_file():
        raise InputError(f"no checkpoint at {file}; check the path.")
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{file} has {size / 2**30:.1f} GiB; checkpoints up to {MAX_BYTES // 2**30} GiB are read.")
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        pickled = stream.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
        stream.seek(0)
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
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{file} is damaged, or no checkpoint of torch: {reason} Get it again.") from error


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
        counters = [found[key] for key in COUNTERS if type(found.get(key)) is int]
        iteration = counters[0] if counters and 0 <= counters[0] < 2**53 else None
        key = next((key for key in CONTAINERS if isinstance(found.get(key), Mapping)), None)
        if key is None:
            raise InputError(_no_network(file, found))
        others = [str(other)[:MAX_NAME] for other in found if other != key and other not in COUNTERS]
        left = f"; left out: {', '.join(map(_shown, others))}" if others else ""
        notes.append(f"took the entry {key!r}{left}")
        found = found[key]
    if not isinstance(found, Mapping) or not _is_state(found):
        raise InputError(_no_network(file, found))
    if len(found) > MAX_TENSORS or any(len(name) > MAX_NAME or not name.isprintable() for name in found):
        raise InputError(
            f"{file} holds names that no network has (more than {MAX_TENSORS}, longer than {MAX_NAME}, or unprintable)."
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
        f"{file} holds no network: expected names and tensors, or a dict with one of {', '.join(CONTAINERS)}; "
        f"got {told or type(found).__name__}."
    )


def _shown(key: str) -> str:
    """A key from outside, without what a terminal would obey."""
    return repr(key[:60])


def _by_part(
    network: str, module: ModuleType, files: Sequence[str | os.PathLike], named: Mapping[str, str | os.PathLike]
) -> dict[str, Checkpoint]:
    """Part -> its file; the one part is named "" where the original is one file."""
    if not hasattr(module, "recognise_part"):
        if named:
            raise InputError(f"the original of {network} is one file, without parts; name the file alone.")
        if len(files) != 1:
            raise InputError(f"the original of {network} is one file; got {len(files)}.")
        return {"": read_checkpoint(files[0])}
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
        with _Allowance(MARGIN_BYTES + 4 * sum(4 * tensor.numel() for tensor in tensors)):
            made = module.from_original(_given({part: one.state for part, one in held.items()}), **options).eval()
    except (LookupError, *UNUSABLE) as error:  # InputError is a ValueError
        raise InputError(_what_is_wrong(network, held, error, options)) from error
    back = _parted(module, module.to_original(made))
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


def _parted(module: ModuleType, state: State) -> dict[str, State]:
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
    for width in () if sized else WIDTHS:  # the tensor that tells the width is lacking: the nearest of these
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
    if ends <= {"features", *(f"conv{i}" for i in range(1, 6))} and any(".weight_orig" in n for n in one.state):
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


# And back -------------------------------------------------------------------------------------------------------------


def restore(
    network: str, weights: str | os.PathLike, output: str | os.PathLike, *, overwrite: bool = False
) -> Conversion:
    """Write a weights file of ours as the original's code loads it.

    Args:
        network: what the file holds, as a check.
        weights: a .safetensors file of ours; memories are left out, which the notes say.
        output: a .pth file; a folder where the original is published in parts.
        overwrite: replace files that are there.

    Raises:
        InputError: not such a file, of another network, or an output that is there. Nothing was written then.
    """
    module = original_code(network)
    target, folder = Path(output), hasattr(module, "parts_of")
    _check_back(target, folder, overwrite)
    loaded = load_weights(weights)
    if (holds := loaded.config.network) != network:
        instead = f"use: cicm convert {holds} --to original" if holds in convertible() else "that has no original"
        raise InputError(f"{weights} holds the network {holds!r}, not {network!r}; {instead}.")
    parts = _parted(module, module.to_original(loaded.model.network))
    notes = []
    if sites := list(loaded.model.memories):
        notes.append(f"the memory at {' and '.join(sites)} was left out: the original has none")
    written: dict[Path, Any] = {}
    for part, state in parts.items():
        name, counter = PUBLISHED.get((network, part), (f"{part}.pth", None))
        written[target / name if folder else target] = {counter: 0, "generator": state} if counter else state
    target.parent.mkdir(parents=True, exist_ok=True)
    if folder:
        _write_folder(target, written)
    else:
        _write(target, written[target])
    return Conversion(tuple(written), loaded.config, tuple(notes), loaded.card)


def _check_back(target: Path, folder: bool, overwrite: bool) -> None:
    if folder:
        if target.suffix in (".pth", ".pt", ".safetensors") or target.is_file():
            raise InputError(f"expected a folder for the parts of the original; got {target}.")
        if target.is_dir() and any(target.iterdir()) and not overwrite:
            raise InputError(f"{target} is not empty; choose another folder, or allow overwriting.")
        return
    if target.suffix not in (".pth", ".pt"):
        raise InputError(f"the original's weights are written as .pth; got {target.name}. Change the ending.")
    if target.is_dir():
        raise InputError(f"expected a file to write weights to; {target} is a folder.")
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists; choose another name, or allow overwriting.")


def _write(target: Path, content: Any) -> None:
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _write_folder(target: Path, contents: Mapping[Path, Any]) -> None:
    """All files beside the folder first, so that it never holds some of them."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as beside:
        for path, content in contents.items():
            _write(Path(beside) / path.name, content)
        target.mkdir(exist_ok=True)
        for path in contents:
            os.replace(Path(beside) / path.name, path)
