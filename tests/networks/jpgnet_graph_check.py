"""Run by test_jpgnet.py in a process of its own, without shape checks: whole graphs of JPGNet with predicted edges."""

from __future__ import annotations

import copy

import torch

from cicm.networks import create


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = create("jpgnet", width=4)
    hole = torch.zeros(2, 1, 32, 48)
    hole[..., 8:20, 10:30] = 1
    corrupted = torch.rand(2, 3, 32, 48) * (1 - hole)
    for mode in (False, True):
        eager, compiled = copy.deepcopy(network).train(mode), copy.deepcopy(network).train(mode)
        expected = eager(corrupted, hole).image
        found = torch.compile(compiled, fullgraph=True, backend="aot_eager")(corrupted, hole).image
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max(), mode
        if mode:
            found.sum().backward()
            assert all(p.grad is not None for p in compiled.parameters() if p.requires_grad)
    network.eval()
    exported = torch.export.export(network, (corrupted, hole)).module()
    assert (exported(corrupted, hole).image - network(corrupted, hole).image).abs().max() < 1e-5
    print("equal")


if __name__ == "__main__":
    main()
