"""Networks and their original code: where it is, on which terms; its parameter names into our networks, and back.

Our code is written from facts about the originals and is Apache-2.0. Weights that others released keep their own terms.

The file of a network with an original has `from_original(state, **options)`, which gives the network in evaluation
mode, and `to_original(network)`; where the original is published in several files also `PARTS`, `parts_of(state)` and
`recognise_part(state)`. What else is known of published files: `PREFIXES` (of the network's names), `OBJECTS_BESIDE`
(the file holds more than tensors), `VARIANTS` (options that change the names), `published(state)` (how a checkpoint
holds them).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from cicm.conventions import InputError
from cicm.networks.contract import InpaintingNetwork
from cicm.networks.registry import create, maker, names

Rename = Callable[[str], str]  # our state-dict name -> the original's; one to one over a network's state dict

Shapes = dict[str, tuple[int, ...]]

_ENOUGH = 0.8  # share of names, of file and network together, from which on a file is said to be of a network


# Where they come from -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Origin:
    """Where a network was first written down as code, and on which terms.

    Args:
        source: the repository; "this project" for a network that has no original.
        revision: the commit that the facts were taken from; empty for our own.
    """

    source: str
    revision: str
    licence: str

    def __str__(self) -> str:
        return f"{self.source} @ {self.revision}" if self.revision else self.source


_DESCRIBED = Origin("this project, after the description, not the authors' code", "", "Apache-2.0")

ORIGINS = {
    "unet": Origin("this project", "", "Apache-2.0"),
    "srm": _DESCRIBED,
    "swap": _DESCRIBED,
    "tmad": _DESCRIBED,
    "gated": Origin(
        "github.com/JiahuiYu/generative_inpainting",
        "3a53243",
        "CC BY-NC 4.0; parameters under the names of nipponjo/deepfillv2-pytorch, which has no licence file",
    ),
    "pen": Origin("github.com/researchmm/PEN-Net-for-Inpainting", "8721a55", "MIT"),
    "rfr": Origin("github.com/jingyuanli001/RFR-Inpainting", "e1cad6a", "MIT; its partial convolution BSD-3-Clause"),
    "migan": Origin(
        "github.com/Picsart-AI-Research/MI-GAN",
        "ca4df2e",
        "MIT (inference); its training code holds files of NVIDIA's, all rights reserved. Weights: MIT",
    ),
    "lama": Origin("github.com/advimman/lama", "786f593", "Apache-2.0"),
    "misf": Origin(
        "github.com/tsingqguo/misf",
        "775ef7d",
        "no licence file; derived from edge-connect (CC BY-NC 4.0): all rights reserved",
    ),
    "spg": Origin(
        "github.com/yccyenchicheng/pytorch-SegInpaint",
        "13de7de",
        "unofficial port, no licence file; derived from SPADE (CC BY-NC-SA 4.0) and others: all rights reserved",
    ),
    "spl": Origin(
        "github.com/WendongZh/SPL",
        "35d5329",
        "no licence file; derived from edge-connect (CC BY-NC 4.0) and others: all rights reserved",
    ),
    "jpgnet": Origin(
        "github.com/tsingqguo/jpgnet",
        "4798b6d",
        "no licence file; derived from edge-connect (CC BY-NC 4.0) and others: all rights reserved",
    ),
}


def origin(name: str) -> Origin:
    """Where a registered network comes from; a network that was registered elsewhere states nothing."""
    return ORIGINS.get(name, Origin("not stated", "", "not stated"))


# Names into ours, and back --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """How a checkpoint compares with a network, in the original's names.

    Args:
        missing: what the network has and the checkpoint lacks.
        misshapen: name, expected shape, shape that came.
    """

    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def exact(self) -> bool:
        """Every name on both sides, every shape equal."""
        return not self.count

    @property
    def count(self) -> int:
        """How many names do not fit."""
        return len(self.missing) + len(self.surplus) + len(self.misshapen)

    def summary(self) -> str:
        """The three numbers."""
        return f"{len(self.missing)} missing, {len(self.surplus)} surplus, {len(self.misshapen)} of another shape"

    def lines(self) -> list[str]:
        """One line for each name that does not fit."""
        wrong = [f"shape    {name}: expected {expected}, got {came}" for name, expected, came in self.misshapen]
        return [f"missing  {name}" for name in self.missing] + [f"surplus  {name}" for name in self.surplus] + wrong


class Misfit(InputError):
    """A checkpoint that does not fit a network; `fit` says how, the message lists all of it."""

    def __init__(self, network: str, fit: Fit) -> None:
        super().__init__(f"the checkpoint does not fit {network}: {fit.summary()}.\n  " + "\n  ".join(fit.lines()))
        self.fit = fit


def compare_shapes(expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor]) -> Fit:
    """Compare a checkpoint with what is expected of it.

    Example:
        >>> compare_shapes({"a": (2,), "b": (3,)}, {"b": torch.zeros(4), "c": torch.zeros(1)}).lines()
        ['missing  a', 'surplus  c', 'shape    b: expected (3,), got (4,)']
    """
    return Fit(
        tuple(name for name in expected if name not in state),
        tuple(name for name in state if name not in expected),
        tuple(
            (name, shape, tuple(state[name].shape))
            for name, shape in expected.items()
            if name in state and tuple(state[name].shape) != shape
        ),
    )


def compare_original(network: InpaintingNetwork, state: Mapping[str, Tensor], rename: Rename) -> Fit:
    """Compare a checkpoint in the original's names with one of our networks; changes nothing."""
    ours = {rename(name): tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return compare_shapes(ours, state)


def network_from(
    make: Callable[[], InpaintingNetwork], state: Mapping[str, Tensor], rename: Rename
) -> InpaintingNetwork:
    """A network in evaluation mode with an original's parameters; nothing is allocated before they fit.

    Raises:
        Misfit: as `load_original`.
    """
    with torch.device("meta"):
        network = make()
    if compare_original(network, state, rename).exact:
        network = network.to_empty(device="cpu")
    load_original(network, state, rename)
    return network.eval()


def load_original(network: InpaintingNetwork, state: Mapping[str, Tensor], rename: Rename) -> None:
    """Copy a checkpoint in the original's names into one of our networks.

    Raises:
        Misfit: a name is missing, surplus, or has another shape; the message lists all; nothing was copied.
    """
    fit = compare_original(network, state, rename)
    if not fit.exact:
        raise Misfit(type(network).__name__, fit)
    network.load_state_dict({name: state[rename(name)] for name in network.state_dict()})


def dump_original(network: InpaintingNetwork, rename: Rename) -> dict[str, Tensor]:
    """The inverse: all tensors of a network under the original's names, on the CPU; on meta they stay there."""
    return {
        rename(name): (tensor if tensor.is_meta else tensor.cpu()).detach().clone()
        for name, tensor in network.state_dict().items()
    }


# Which original is it -------------------------------------------------------------------------------------------------


def convertible() -> list[str]:
    """The registered networks that have an original, sorted."""
    return [name for name in names() if hasattr(sys.modules[maker(name).__module__], "from_original")]


def original_code(name: str) -> ModuleType:
    """The file of a network that has an original.

    Raises:
        InputError: an unknown name, or a network without an original.
    """
    module = sys.modules[maker(name).__module__]
    if not hasattr(module, "from_original"):
        raise InputError(
            f"network {name!r} has no original to convert from; those that have: {', '.join(convertible())}."
        )
    return module


def original_shapes(name: str, **options: Any) -> dict[str, Shapes]:
    """What the files of an original hold: part -> name -> shape; one part named "" where it is one file.

    Nothing is allocated.
    """
    return {part: dict(shapes) for part, shapes in _shapes(name, tuple(sorted(options.items()))).items()}


@cache  # a deep network takes a second to be made, also without its numbers
def _shapes(name: str, options: tuple[tuple[str, Any], ...]) -> dict[str, Shapes]:
    module = original_code(name)
    with torch.device("meta"):
        state = module.to_original(create(name, **dict(options)))
    parts = module.parts_of(state) if hasattr(module, "parts_of") else {"": state}
    return {part: {key: tuple(tensor.shape) for key, tensor in held.items()} for part, held in parts.items()}


@dataclass(frozen=True)
class Guess:
    """Which original a file's names point to.

    Args:
        part: which of its files; empty where it is one.
    """

    network: str
    part: str
    fitting: int
    count: int

    def __str__(self) -> str:
        part = f", part {self.part!r}" if self.part else ""
        return f"this looks like a checkpoint of {self.network}{part} ({self.fitting} of {self.count} names fit)"


def recognise(state: Mapping[str, Tensor]) -> Guess | None:
    """The original that a checkpoint's names fit best; None if they fit none well enough."""
    best: tuple[float, Guess] | None = None
    for name in convertible():
        prefixes = getattr(original_code(name), "PREFIXES", ())
        prefix = next((p for p in prefixes if any(key.startswith(p) for key in state)), "")
        keys = {key.removeprefix(prefix) for key in state if key.startswith(prefix)}
        variants: tuple[dict[str, Any], ...] = getattr(original_code(name), "VARIANTS", ({},))
        for part, shapes in (one for options in variants for one in original_shapes(name, **options).items()):
            both = keys & shapes.keys()
            share = len(both) / max(1, len(keys | shapes.keys()))
            if share >= _ENOUGH and (best is None or share > best[0]):
                best = (share, Guess(name, part, len(both), len(keys)))
    if best and best[1].part:  # parts may have the same names and other shapes
        with suppress(InputError):
            return replace(best[1], part=original_code(best[1].network).recognise_part(state))
    return best[1] if best else None
