"""Compile networks with an attached memory; run by test_attach.py in a process without shape checks.

Usage: attach_graph_check.py whole|network|diffusers. Exits with 0 when results, gradients and what was committed equal
the eager ones and every forward was one graph.
"""

from __future__ import annotations

import copy
import sys

import torch
from torch import Tensor, nn

from cicm.attach import Attached, attach
from cicm.memory import MemoryConfig

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32 sums in another order


def small() -> tuple[Attached, tuple]:
    middle = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.SiLU())
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), middle, nn.Conv2d(8, 3, 1))
    return attach(network, {"1": MemoryConfig(sets=2, contexts=3)}), (torch.rand(2, 3, 16, 16),)


def diffusers() -> tuple[Attached, tuple]:
    from diffusers import UNet2DModel

    network = UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=4,
        attention_head_dim=8,
    )
    # the second gives a tuple, in which the first tensor is read and the others go on
    sites = {"mid_block": MemoryConfig(sets=2, contexts=3), "down_blocks.1": MemoryConfig(sets=2, contexts=3)}
    return attach(network, sites), (torch.rand(2, 3, 16, 16), torch.tensor(3))


def image_of(output) -> Tensor:
    return output if isinstance(output, Tensor) else output.sample


def check(what: str) -> None:
    torch.manual_seed(0)
    eager, arguments = diffusers() if what == "diffusers" else small()
    hole = torch.zeros(2, 1, 16, 16)
    hole[:, :, 3:9, 4:11] = 1
    eager.seed_([0], lambda _: eager(*arguments, hole=hole))
    compiled = copy.deepcopy(eager)
    if what == "network":
        compiled.network.compile(fullgraph=True, backend="aot_eager")
    else:
        compiled.compile(fullgraph=True, backend="aot_eager")
    for accumulate in (1, 4):
        for model in (eager, compiled):
            for _ in range(accumulate):
                out = image_of(model(*arguments, hole=hole))
                ((out.square().mean() + model.losses()) / accumulate).backward()
            model.commit()
        torch.testing.assert_close(image_of(compiled(*arguments)), image_of(eager(*arguments)), **CLOSE)
        for one, other in zip(eager.parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(other.grad, one.grad, **CLOSE)
        for one, other in zip(eager.buffers(), compiled.buffers(), strict=True):
            torch.testing.assert_close(other, one, **CLOSE)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    breaks = dict(torch._dynamo.utils.counters["graph_break"])
    print(f"{graphs} graphs, {breaks}")
    # with a hole first and later in a step, and without one; and the memory's own losses and commits are eager
    assert not breaks
    assert graphs <= 4, graphs
    eager.eval(), compiled.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            image_of(compiled(*arguments, hole=hole)), image_of(eager(*arguments, hole=hole)), **CLOSE
        )
    assert compiled._tape.forwards() == []


if __name__ == "__main__":
    torch.set_num_threads(1)
    check(sys.argv[1])
    print("equal")
