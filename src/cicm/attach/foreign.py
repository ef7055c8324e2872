"""Networks that were not written for us: their modules by path, the map in a module's output, its channels."""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cicm.conventions import InputError, describe

Place = int | str  # where in a module's output the map is: an index, a key, or the name of an attribute


def check_known(path: str, names: Sequence[str], what: str) -> None:
    """Refuse a name that is not among those; `what` begins the message, which names the nearest."""
    if path in names:
        return
    close = difflib.get_close_matches(path, names, n=1, cutoff=0.4)
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    hint = f"did you mean {close[0]!r}?" if close else f"there are {shown or 'none'}."
    raise InputError(f"{what} {path!r}; {hint}")


def module_at(network: nn.Module, path: str) -> nn.Module:
    """The module of that path, as in `named_modules`.

    Raises:
        InputError: there is none, and the message names the nearest; or it only holds others.
    """
    check_known(path, [name for name, _ in network.named_modules() if name], f"{type(network).__name__} has no module")
    module = network.get_submodule(path)
    if type(module).forward is nn.Module.forward:
        part = next((f", such as {f'{path}.{name}'!r}" for name, _ in reversed(list(module.named_children()))), "")
        raise InputError(
            f"{path!r} is a {type(module).__name__}, which no forward calls; choose a module that is called{part}."
        )
    return module


def channels_of(module: nn.Module, path: str) -> int:
    """How many channels a module says that it gives: its own `out_channels`, or those of the last convolution in it."""
    for attribute in ("out_channels", "num_features", "num_channels"):  # a block's own, a convolution's, a norm's
        for part in [module, *reversed(list(module.modules()))]:
            count = getattr(part, attribute, None)
            if isinstance(count, int) and count > 0:
                return count
    raise InputError(
        f"the channels of {path!r} ({type(module).__name__}) can't be told from the module. Give them, "
        f"attach(..., channels={{{path!r}: 64}}), or example= what the network is called with."
    )


def channels_seen(
    network: nn.Module, modules: Mapping[str, nn.Module], take: Mapping[str, Place], example: Any
) -> dict[str, int]:
    """The channels that a call shows. Modes, running statistics and random generators are afterwards as before.

    Raises:
        InputError: a module was not run, or its output holds no map.
    """
    seen: dict[str, int] = {}

    def look(path: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _, args, output: seen.update({path: map_in(output, take.get(path), path)[1].shape[1]})

    handles = [module.register_forward_hook(look(path)) for path, module in modules.items()]
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.no_grad(), torch.random.fork_rng():
            network.eval()
            if isinstance(example, Mapping):
                network(**example)
            else:
                network(*(example if isinstance(example, tuple | list) else (example,)))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    if missed := [path for path in modules if path not in seen]:
        raise InputError(f"the example did not run the module {missed[0]!r}. Choose one that the forward calls.")
    return seen


def map_in(output: Any, take: Place | None, path: str) -> tuple[Place | None, Tensor]:
    """Where the map is in a module's output (None: it is the output), and the map.

    Raises:
        InputError: there is no (B, C, h, w) map.
    """
    place: Place | None = None
    found = output
    if not isinstance(output, Tensor) or take is not None:
        parts = _parts(output)
        if take is None:
            place = next((p for p, value in parts.items() if isinstance(value, Tensor)), None)
        else:
            place = take + len(parts) if isinstance(take, int) and take < 0 else take
        found = parts.get(place) if place in parts else getattr(output, str(place), None)  # type: ignore[arg-type]
    if not isinstance(found, Tensor) or found.ndim != 4 or not found.is_floating_point():
        what = "the output" if place is None else f"part {place!r} of the output"
        got = describe(found) if isinstance(found, Tensor) else type(output if place is None else found).__name__
        raise InputError(
            f"a memory reads feature maps (B, C, h, w), floating point; {what} of {path!r} is {got}. "
            "Choose another module, or say with take={path: index or name} which part is the map."
        )
    return place, found


def _parts(output: Any) -> Mapping[Any, Any]:
    if dataclasses.is_dataclass(output):
        return {f.name: getattr(output, f.name) for f in dataclasses.fields(output)}
    if isinstance(output, Mapping):
        return output
    return dict(enumerate(output)) if isinstance(output, tuple | list) else {}


def put(output: Any, place: Place | None, found: Tensor) -> Any:
    """The output with another map in its place; the original is left alone."""
    if place is None:
        return found
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return dataclasses.replace(output, **{str(place): found})
    if isinstance(output, tuple | list):
        if isinstance(place, str):
            return output._replace(**{place: found})  # type: ignore[union-attr]
        items = [found if index == place else value for index, value in enumerate(output)]
        return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
    other = copy.copy(output)
    if isinstance(other, Mapping):
        other[place] = found  # type: ignore[index]
    else:
        setattr(other, str(place), found)
    return other
