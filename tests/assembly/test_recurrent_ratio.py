"""A recurrent network fills its own hole: each visit's ratio is held against what is missing then (Eq. 7)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.testing import assert_close

from cicm.assembly import MemoryInpainter
from cicm.memory import MemoryConfig, create
from cicm.networks import create as network
from cicm.objectives import ObjectiveConfig
from cicm.ops import missing_share
from cicm.training.step import own_terms


def model(kind: str, **options) -> MemoryInpainter:
    torch.manual_seed(0)
    built = network("rfr", width=8, recurrences=3)
    memory = create(64, MemoryConfig(sets=2, contexts=3, **options))
    memory.seed_(torch.rand(30, 64), torch.Generator().manual_seed(0))
    return MemoryInpainter(built, {kind: memory}).eval()


def picture() -> tuple[Tensor, Tensor]:
    hole = torch.zeros(1, 1, 96, 96)
    hole[:, :, 8:88, 8:88] = 1
    return torch.rand(1, 3, 96, 96), hole


def test_the_ratio_term_is_the_mean_over_visits_of_the_error_against_what_is_missing() -> None:
    for visits in ("current", "original"):
        net = model("bottom")
        image, hole = picture()
        with torch.no_grad():
            output = net(image * (1 - hole), hole)
        found = own_terms(output, {"image": image, "hole": hole}, ObjectiveConfig(ratio_visits=visits))["ratio"]
        errors = []
        for visit, read in enumerate(output.reads["bottom"]):
            left = net.network.remaining(hole, visit) if visits == "current" else hole
            errors.append((read.ratio - missing_share(left, (6, 6)).flatten()).square().mean())
        assert len(errors) == 3, visits
        assert_close(found, torch.stack(errors).mean())


def test_the_true_ratio_shrinks_from_visit_to_visit() -> None:
    net = model("bottom", ratio="true")
    image, hole = picture()
    with torch.no_grad():
        reads = net(image * (1 - hole), hole).reads["bottom"]
    means = [read.ratio.mean().item() for read in reads]
    assert means[0] > means[1] > means[2]
    assert means[0] < hole.mean().item()


def test_a_network_without_recurrence_misses_the_whole_hole() -> None:
    unet = network("unet", width=4)
    image, hole = picture()
    memory = create(32, MemoryConfig(sets=2, contexts=2))
    output = MemoryInpainter(unet, {"bottom": memory})(image * (1 - hole), hole)
    assert output.missing["bottom"][0] is hole
