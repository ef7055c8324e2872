"""Sums and gatherings over ranks that the graph knows about; the identity where there is one process.

Data-parallel training averages the gradients of the ranks. A batch mean over equal parts then has the right gradient
by itself. What is computed from a sum over ranks (the memory's pending state, the expectation in a relativistic
discriminator) needs `sum_over_ranks`: every rank computes the same loss M(s) from s = s_1 + ... + s_W; the backward
sums the W equal gradients, and the averaging by W afterwards leaves dM/ds, as on one process.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, distributed


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 for one process."""
    return distributed.get_rank() if world_size() > 1 else 0


class _Sum(torch.autograd.Function):
    """All-reduce whose backward all-reduces the gradient: the exact derivative of a sum that each rank holds.

    torch.distributed.nn.functional.all_reduce does the same, but torch 2.13 deprecates it for a private module.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        total = grads[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of the ranks' tensors, the same on each, with a gradient that reaches each rank's part.

    Returns:
        Same shape and dtype; the tensor itself where there is one process.
    """
    return _Sum.apply(tensor) if world_size() > 1 else tensor  # type: ignore[no-any-return]


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """Like `sum_over_ranks`, divided by the number of ranks."""
    return sum_over_ranks(tensor) / world_size()


@torch.no_grad()
def gather_regions(regions: Float[Tensor, "n C"]) -> Float[Tensor, "N C"]:
    """The rows of all ranks, in the order of the ranks, on each of them; rows may differ in number. No gradient."""
    if world_size() == 1:
        return regions
    counts = [torch.zeros((), dtype=torch.int64, device=regions.device) for _ in range(world_size())]
    distributed.all_gather(counts, torch.tensor(len(regions), device=regions.device))
    longest = int(max(counts))
    padded = regions.new_zeros(longest, regions.shape[1])
    padded[: len(regions)] = regions
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


def gather_objects(thing: Any) -> list[Any]:
    """One plain object of each rank, in the order of the ranks."""
    if world_size() == 1:
        return [thing]
    things: list[Any] = [None] * world_size()
    distributed.all_gather_object(things, thing)
    return things


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank, so that all of them stop at the same step."""
    if world_size() == 1:
        return flag
    count = torch.tensor(float(flag), device=device)
    distributed.all_reduce(count)
    return bool(count > 0)


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        distributed.barrier()
