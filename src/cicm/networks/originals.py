"""Parameters under the names of a network's original code: into our networks, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from cicm.conventions import InputError
from cicm.networks.contract import InpaintingNetwork

Rename = Callable[[str], str]
"""Our state-dict name -> the original's; one to one over a network's state dict."""


@dataclass(frozen=True)
class Fit:
    """How a checkpoint compares with a network, in the original's names.

    Args:
        missing: what the network has and the checkpoint lacks.
        surplus: the other way round.
        misshapen: name, expected shape, shape that came.
    """

    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def exact(self) -> bool:
        """Every name on both sides, every shape equal."""
        return not (self.missing or self.surplus or self.misshapen)

    def lines(self) -> list[str]:
        """One line for each name that does not fit."""
        wrong = [f"shape    {name}: expected {expected}, got {came}" for name, expected, came in self.misshapen]
        return [f"missing  {name}" for name in self.missing] + [f"surplus  {name}" for name in self.surplus] + wrong


def compare_original(network: InpaintingNetwork, state: Mapping[str, Tensor], rename: Rename) -> Fit:
    """Compare a checkpoint in the original's names with one of our networks; changes nothing."""
    ours = {rename(name): tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return Fit(
        tuple(name for name in ours if name not in state),
        tuple(name for name in state if name not in ours),
        tuple(
            (name, shape, tuple(state[name].shape))
            for name, shape in ours.items()
            if name in state and tuple(state[name].shape) != shape
        ),
    )


def load_original(network: InpaintingNetwork, state: Mapping[str, Tensor], rename: Rename) -> None:
    """Copy a checkpoint in the original's names into one of our networks.

    Raises:
        InputError: a name is missing, surplus, or has another shape; the message lists all; nothing was copied.
    """
    fit = compare_original(network, state, rename)
    if not fit.exact:
        raise InputError(
            f"the checkpoint does not fit {type(network).__name__}: {len(fit.missing)} missing, {len(fit.surplus)} "
            f"surplus, {len(fit.misshapen)} of another shape.\n  " + "\n  ".join(fit.lines())
        )
    network.load_state_dict({name: state[rename(name)] for name in network.state_dict()})


def dump_original(network: InpaintingNetwork, rename: Rename) -> dict[str, Tensor]:
    """The inverse: all tensors of a network under the original's names, on the CPU."""
    return {rename(name): tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
