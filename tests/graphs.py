"""Compile and export memories, attachments and networks; run by house/test_graphs.py in processes without shape checks.

Usage: graphs.py CHECK. Prints "equal" and exits with 0 when results, gradients and what was committed equal the eager
ones and every forward was one graph.
"""

from __future__ import annotations

import copy
import shutil
import sys

import torch
from torch import Tensor, nn
from torch.export import Dim, export
from torch.testing import assert_close

from cicm.assembly import MemoryInpainter, ModelConfig, build
from cicm.attach import Attached, attach
from cicm.memory import MemoryConfig
from cicm.networks import InpaintingNetwork, create

# float32, fused and reordered sums over at most 1600 products of size 1
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
# float32; fused and reordered sums through some twenty layers with instance norms
DEEP = {"rtol": 1e-3, "atol": 1e-4}
COMPILER = bool(shutil.which("g++") or shutil.which("c++"))


def inputs(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    hole = torch.zeros(batch, 1, height, width)
    hole[..., 5 : height // 2, 7 : width // 2] = 1
    return torch.rand(batch, 3, height, width) * (1 - hole), hole


# A memory inside a network --------------------------------------------------------------------------------------------


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


def memory_compiles() -> None:
    backend = "inductor" if COMPILER else "aot_eager"
    eager = model("hole")
    compiled = torch.compile(copy.deepcopy(eager), fullgraph=True, dynamic=True, backend=backend)
    # Without gradients any size. With them torch 2.13's inductor stumbles over the symbolic strides of what it saves
    # for the backward pass ("cannot determine truth value of Relational"), so training compiles for a size at a time.
    with torch.no_grad():
        for size in ((2, 32, 48), (1, 64, 32)):
            arguments = inputs(*size)
            assert_close(compiled(*arguments), eager(*arguments), **CLOSE)
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
        assert_close(a, b, **CLOSE)


def memory_exports() -> None:
    for start, changes in (("hole", {}), ("smooth", {"ratio": "true", "read_top": 0.5})):
        eager = model(start, **changes)
        sides = {2: 16 * Dim("h16", min=2, max=64), 3: 16 * Dim("w16", min=2, max=64)}
        dynamic = {0: Dim("batch", min=1, max=16), **sides}
        program = export(eager, inputs(2, 48, 64), dynamic_shapes=({**dynamic}, {**dynamic})).module()
        for size in ((2, 48, 64), (1, 32, 32), (5, 64, 112)):
            arguments = inputs(*size)
            assert_close(program(*arguments), eager(*arguments), **CLOSE)


# A memory attached to a network of others -----------------------------------------------------------------------------


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


def attached(what: str) -> None:
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
        assert_close(image_of(compiled(*arguments)), image_of(eager(*arguments)), **CLOSE)
        for one, other in zip(eager.parameters(), compiled.parameters(), strict=True):
            assert_close(other.grad, one.grad, **CLOSE)
        for one, other in zip(eager.buffers(), compiled.buffers(), strict=True):
            assert_close(other, one, **CLOSE)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    breaks = dict(torch._dynamo.utils.counters["graph_break"])
    print(f"{graphs} graphs, {breaks}")
    # with a hole first and later in a step, and without one; and the memory's own losses and commits are eager
    assert not breaks
    assert graphs <= 4, graphs
    eager.eval(), compiled.eval()
    with torch.no_grad():
        assert_close(image_of(compiled(*arguments, hole=hole)), image_of(eager(*arguments, hole=hole)), **CLOSE)
    assert compiled._tape.forwards() == []


# Networks alone -------------------------------------------------------------------------------------------------------


class Image(nn.Module):
    """A network as a function of tensors to a tensor."""

    def __init__(self, network: InpaintingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, corrupted: Tensor, hole: Tensor) -> Tensor:
        return self.network(corrupted, hole).image


def network(name: str, in_training: float) -> None:
    """In evaluation and in training mode, to run and to learn; `in_training` is the tolerance there."""
    made = Image(create(name, width=8 if name == "rfr" else 4))
    arguments = inputs(2, *made.network.size.nearest(32, 48))
    for mode in (False, True):
        eager, compiled = copy.deepcopy(made).train(mode), copy.deepcopy(made).train(mode)
        expected = eager(*arguments)
        found = torch.compile(compiled, fullgraph=True, backend="aot_eager")(*arguments)
        assert (found - expected).abs().max() < (in_training if mode else 1e-5) * expected.abs().max(), mode
        if mode:
            expected.sum().backward()
            found.sum().backward()
            learning = [p.grad is not None for p in compiled.parameters()]
            assert learning == [p.grad is not None for p in eager.parameters()]  # not the heads of earlier predictions
            assert sum(learning) > len(learning) / 2
    made.eval()
    exported = export(made, arguments).module()
    assert (exported(*arguments) - made(*arguments)).abs().max() < 1e-5


def misf_compiles() -> None:
    """A whole graph: the values from the compiler that runs, the gradients from the graph that it is given."""
    model, arguments = Image(create("misf", width=4)), inputs(2, 16, 24)
    results = []
    for called in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        model.zero_grad()
        image = called(*arguments)
        image.square().mean().backward()
        results.append([image.detach(), *(p.grad for p in model.parameters() if p.requires_grad)])
    for a, b in zip(*results, strict=True):
        assert_close(a, b, **DEEP)
    if COMPILER:
        with torch.no_grad():
            assert_close(torch.compile(model, fullgraph=True)(*arguments), results[0][0], **DEEP)


def misf_exports() -> None:
    """With dynamic sizes, as a network that is given to others."""
    model = Image(create("misf", width=4)).eval()
    sides = {2: 4 * Dim("h4", min=3, max=64), 3: 4 * Dim("w4", min=3, max=64)}
    dynamic = {0: Dim("batch", min=1, max=16), **sides}
    program = export(model, inputs(2, 16, 24), dynamic_shapes=({**dynamic}, {**dynamic})).module()
    for size in ((2, 16, 24), (1, 12, 12), (3, 32, 20)):
        arguments = inputs(*size)
        assert_close(program(*arguments), model(*arguments), **DEEP)


CHECKS = {
    "memory compiles": memory_compiles,
    "memory exports": memory_exports,
    "attached whole": lambda: attached("whole"),
    "attached network": lambda: attached("network"),
    "attached diffusers": lambda: attached("diffusers"),
    "gated": lambda: network("gated", 1e-5),
    "jpgnet": lambda: network("jpgnet", 1e-5),
    "lama": lambda: network("lama", 1e-3),
    "pen": lambda: network("pen", 1e-5),
    "rfr": lambda: network("rfr", 1e-3),  # statistics of the batch make more of the order of sums
    "misf compiles": misf_compiles,
    "misf exports": misf_exports,
}

if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    CHECKS[sys.argv[1]]()
    print("equal")
