"""What the memory costs: its share of a forward, the fast rules against the plain ones, growth with N, L and K."""

from __future__ import annotations

import torch

from benchmarks.timing import in_turn, ratio
from cicm.assembly import ModelConfig, build
from cicm.memory import MemoryConfig, inject, inject_fast, read, read_fast, route
from cicm.memory.state import MemoryState

Row = dict[str, object]


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def share_of_forward(width: int, batch: int = 8, side: int = 256, rounds: int = 5) -> Row:
    """A UNet's forward with a memory at its bottom map against the same network alone."""
    torch.manual_seed(0)
    where = device()
    model = build(ModelConfig("unet", {"width": width}, {"bottom": MemoryConfig()})).eval().to(where)
    hole = (torch.rand(batch, 1, side, side, device=where) > 0.7).float()
    corrupted = torch.rand(batch, 3, side, side, device=where) * (1 - hole)
    memory = model.memories["bottom"]
    memory.seed_(torch.randn(4096, memory.channels, device=where), torch.Generator().manual_seed(0))
    features = torch.rand(batch, memory.channels, side // 16, side // 16, device=where)
    with torch.inference_mode():
        times = in_turn(
            {
                "network alone": lambda: model.network(corrupted, hole),
                "with memory": lambda: model(corrupted, hole),
                "one read": lambda: memory.read(features),
            },
            rounds,
        )
    return {
        "what": f"memory's share of a UNet-{width} forward, {batch}x{side}x{side}",
        "read / network": ratio(times, "one read", "network alone"),
        "with / without": ratio(times, "with memory", "network alone"),
        **{name: str(t) for name, t in times.items()},
    }


def rules(regions: int, sets: int, contexts: int, channels: int = 512, rounds: int = 7) -> Row:
    """Fast and plain read and inject on random features; forward alone, as in inference."""
    torch.manual_seed(0)
    where = device()
    state = MemoryState(
        torch.randn(sets, channels, device=where),
        torch.randn(sets, contexts, channels, device=where),
        torch.ones(sets, contexts, device=where),
    )
    rows = torch.randn(regions, channels, device=where)
    complete = torch.rand(regions, device=where) > 0.5
    with torch.inference_mode():
        own = route(rows, state.anchors)
        weights = read(rows[:64], own[:64], state.contexts)[1]
        weights = torch.rand(regions, contexts, device=where).softmax(-1)
        times = in_turn(
            {
                "read plain": lambda: read(rows, own, state.contexts),
                "read fast": lambda: read_fast(rows, own, state.contexts),
                "inject plain": lambda: inject(state, rows, own, weights, complete),
                "inject fast": lambda: inject_fast(state, rows, own, weights, complete),
            },
            rounds,
        )
    return {
        "what": f"N={regions} L={sets} K={contexts} C={channels}",
        "read plain / fast": ratio(times, "read plain", "read fast"),
        "inject plain / fast": ratio(times, "inject plain", "inject fast"),
        **{name: str(t) for name, t in times.items()},
    }


def main() -> list[Row]:
    rows = [share_of_forward(64, rounds=3), share_of_forward(24)]
    base = {"regions": 2048, "sets": 13, "contexts": 40}
    for change in (
        {},
        {"regions": 256},
        {"regions": 8192},
        {"sets": 1},
        {"sets": 50},
        {"sets": 400},
        {"contexts": 10},
        {"contexts": 200},
    ):
        rows.append(rules(**{**base, **change}, rounds=5))
    return rows
