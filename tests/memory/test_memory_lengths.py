"""Regions of unit length: Eq. 8 can neither stretch nor shrink them, and its printed weights do not make sets alike."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cicm.memory import ContextMemory, MemoryConfig

C = 6


def seeded(**changes: object) -> ContextMemory:
    memory = ContextMemory(C, MemoryConfig(sets=3, contexts=4, length="unit", **changes))  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(0)
    memory.seed_(torch.randn(200, C, generator=random), random)
    return memory


def test_a_region_that_is_twice_as_long_reads_the_same_context_twice_as_long() -> None:
    memory = seeded(ratio="full")
    features = torch.randn(2, C, 3, 3, generator=torch.Generator().manual_seed(1))
    one, two = memory.read(features), memory.read(2 * features)
    assert torch.equal(one.sets, two.sets)
    torch.testing.assert_close(two.features, 2 * one.features)
    torch.testing.assert_close(two.regions, one.regions)


def test_a_ratio_of_zero_still_changes_nothing() -> None:
    features = torch.randn(2, C, 3, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(seeded().read(features, torch.zeros(18)).features, features)


def test_contexts_are_never_longer_than_the_root_of_the_channels() -> None:
    memory = seeded()
    features = 1000 * torch.randn(2, C, 3, 3, generator=torch.Generator().manual_seed(1))
    memory.commit(memory.pending([memory.read(features)], [torch.ones(18, dtype=torch.bool)]).detached())
    assert float(memory.contexts.norm(dim=-1).max()) <= C**0.5 * (1 + 1e-5)  # means of vectors of that length
    assert float(memory.contexts.norm(dim=-1).mean()) > 0.5 * C**0.5


@pytest.mark.parametrize("kind", ["cosine", "centred"])
def test_eq_8_has_no_gradient_along_a_region(kind: str) -> None:
    memory = seeded(similarity=kind, write_top=1.0).double()
    features = torch.randn(2, C, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    features.requires_grad_()
    inter, intra = memory.losses(memory.pending([memory.read(features)], [torch.ones(18, dtype=torch.bool)]))
    (gradient,) = torch.autograd.grad(20 * inter - 0.5 * intra, features)
    assert float(gradient.abs().max()) > 1e-6
    along = (gradient * features).sum(1)
    assert float(along.abs().max()) < 1e-9  # float64


def _trained(length: str, steps: int = 120) -> list[float]:
    """`inter` of each step of an autoencoder whose features go through a memory, at the printed weights of Eq. 9."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = nn.Sequential(
            *(nn.Conv2d(3, 16, 4, 4), nn.LeakyReLU(0.1), nn.Conv2d(16, 16, 3, padding=1), nn.LeakyReLU(0.1)),
            *(nn.Conv2d(16, 16, 2, 2), nn.LeakyReLU(0.1)),
        )
        decoder = nn.ConvTranspose2d(16, 3, 8, 8)
        memory = ContextMemory(16, MemoryConfig(sets=5, contexts=8, length=length))  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(0)

    def pictures() -> torch.Tensor:
        coarse = torch.rand(8, 3, 4, 4, generator=random)
        return nn.functional.interpolate(coarse, size=32, mode="bilinear", align_corners=False)

    with torch.no_grad():
        memory.seed_(torch.cat([encoder(pictures()) for _ in range(4)]), random)
    trained = [*encoder.parameters(), *decoder.parameters(), *memory.parameters()]
    optimizer, found = torch.optim.Adam(trained, lr=2e-3, betas=(0.9, 0.99)), []
    for _ in range(steps):
        image = pictures()
        read = memory.read(encoder(image))
        state = memory.pending([read], [torch.rand(len(read.sets), generator=random) < 0.7])
        inter, intra = memory.losses(state)
        loss = (decoder(read.features) - image).square().mean().log() + 20 * inter - 0.5 * intra
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        memory.commit(state.detached())
        found.append(inter.item())
    return found


def test_the_printed_weights_of_eq_9_make_sets_alike_unless_lengths_are_fixed() -> None:
    """Free features grow tenfold within 100 steps; contexts that were not written since then all point one way."""
    free, unit = _trained("free"), _trained("unit")
    assert max(free) > 0.9, max(free)
    assert max(unit) < 0.5, max(unit)
    assert sum(unit[-20:]) / 20 < 0.1, unit[-20:]
