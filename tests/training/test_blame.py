"""A gradient that is not finite is named under mixed precision too, where the engine guards every backward."""

from __future__ import annotations

import copy

import pytest
import torch

from cicm.assembly import build
from cicm.memory import terms as terms_module
from cicm.objectives import ObjectiveConfig, Weights
from cicm.training.step import Players, TrainingStopped, take_step

from .conftest import TINY


def test_mixed_precision_names_the_term(batch, monkeypatch) -> None:
    from lightning_fabric import Fabric

    plain = terms_module.ratio_error

    def with_a_root_of_zero(first, second, **options):
        return plain(first, second, **options) + (first - first.detach()).abs().sqrt().mean()

    monkeypatch.setattr(terms_module, "ratio_error", with_a_root_of_zero)
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    torch.manual_seed(0)
    bare = build(TINY)
    generator = torch.Generator().manual_seed(5)
    for memory in bare.memories.values():
        memory.seed_(torch.rand(40, memory.channels), generator)
    model, optimizer = fabric.setup(bare, torch.optim.AdamW(bare.parameters(), 1e-3))
    before = copy.deepcopy(bare.state_dict())
    single = {name: tensor.float() for name, tensor in batch.items()}
    with pytest.raises(TrainingStopped, match="gradient of the term 'ratio'"):
        take_step(fabric, Players(model, optimizer, bare), single, ObjectiveConfig(weights=Weights(adversarial=0.0)))
    torch.testing.assert_close(bare.state_dict(), before, rtol=0, atol=0)
