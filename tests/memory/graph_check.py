"""Compile and export a small model; run by test_memory_graph.py in a process without shape checks.

Usage: graph_check.py compile|export. Exits with 0 when the results equal the eager ones.
"""

from __future__ import annotations

import copy
import shutil
import sys

import torch
from torch import Tensor, nn

from cicm.assembly import MemoryInpainter, ModelConfig, build
from cicm.memory import MemoryConfig

# float32, fused and reordered sums over at most 1600 products of size 1
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


class Composite(nn.Module):
    """The model as a function of tensors to a tensor."""

    def __init__(self, model: MemoryInpainter) -> None:
        super().__init__()
        self.model = model

    def forward(self, corrupted: Tensor, hole: Tensor) -> Tensor:
        return self.model(corrupted, hole).composite


def model(start: str, **changes) -> Composite:
    torch.manual_seed(0)
    config = MemoryConfig(sets=3, contexts=4, **changes)
    made = build(ModelConfig("unet", {"width": 4, "start": start}, {"bottom": config, "down2": config}))
    for memory in made.memories.values():
        memory.seed_(torch.rand(60, memory.channels), torch.Generator().manual_seed(1))
    return Composite(made).eval()


def inputs(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    hole = torch.zeros(batch, 1, height, width)
    hole[..., 5 : height // 2, 7 : width // 2] = 1
    return torch.rand(batch, 3, height, width) * (1 - hole), hole


def check_compile() -> None:
    backend = "inductor" if shutil.which("g++") or shutil.which("c++") else "aot_eager"
    eager = model("hole")
    compiled = torch.compile(copy.deepcopy(eager), fullgraph=True, dynamic=True, backend=backend)
    # Without gradients any size. With them torch 2.13's inductor stumbles over the symbolic strides of what it saves
    # for the backward pass ("cannot determine truth value of Relational"), so training compiles for a size at a time.
    with torch.no_grad():
        for size in ((2, 32, 48), (1, 64, 32)):
            arguments = inputs(*size)
            torch.testing.assert_close(compiled(*arguments), eager(*arguments), **CLOSE)
    # Gradients, also through the pending state.
    memory, features = eager.model.memories["bottom"], torch.rand(2, 32, 4, 4)
    complete = torch.arange(32) % 2 == 0

    def total(x: Tensor) -> Tensor:
        read = memory.read(x)
        inter, intra = memory.losses(memory.pending([read], [complete]))
        return read.features.square().sum() + inter - intra

    results = []
    for function in (total, torch.compile(total, fullgraph=True, backend="aot_eager")):
        leaf = features.clone().requires_grad_()
        value = function(leaf)
        value.backward()
        results.append((value.detach(), leaf.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def check_export() -> None:
    from torch.export import Dim, export

    for start, changes in (("hole", {}), ("smooth", {"ratio": "true", "read_top": 0.5})):
        eager = model(start, **changes)
        sides = {2: 16 * Dim("h16", min=2, max=64), 3: 16 * Dim("w16", min=2, max=64)}
        dynamic = {0: Dim("batch", min=1, max=16), **sides}
        program = export(eager, inputs(2, 48, 64), dynamic_shapes=({**dynamic}, {**dynamic})).module()
        for size in ((2, 48, 64), (1, 32, 32), (5, 64, 112)):
            arguments = inputs(*size)
            torch.testing.assert_close(program(*arguments), eager(*arguments), **CLOSE)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"compile": check_compile, "export": check_export}[sys.argv[1]]()
    print("equal")
