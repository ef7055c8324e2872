"""TorchScript files by rule, as the tools that people come from download them."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


class Wrapper(nn.Module):
    """Takes a picture and a mask, as the traced files do; its parts hold parameters and nothing else."""

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return image * (1 - mask) + 0.5 * mask


def traced(state: dict[str, Tensor], path: Path, *, script: bool = False, freeze: bool = False) -> Path:
    """A TorchScript file in which each tensor lies where its name says."""
    top = Wrapper()
    for name, tensor in state.items():
        *places, last = name.split(".")
        module: nn.Module = top
        for place in places:
            if place not in module._modules:
                module.add_module(place, nn.Module())
            module = module._modules[place]  # type: ignore[assignment]
        if tensor.is_floating_point() and not last.startswith("running"):
            module.register_parameter(last, nn.Parameter(tensor))
        else:
            module.register_buffer(last, tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; its files are there all the same
        example = (torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
        made = torch.jit.script(top.eval()) if script else torch.jit.trace(top.eval(), example)
        torch.jit.save(torch.jit.freeze(made) if freeze else made, path)
    return path
