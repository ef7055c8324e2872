"""Table 2: context of one image (k-means, RUC); and that merged sets and anchor only need no code of their own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from cicm.assembly import MemoryInpainter
from cicm.conventions import InputError
from cicm.memory import ContextMemory, MemoryConfig, MemoryState, SingleImageContext, create
from cicm.memory.single_image import assign, cluster_counts, kmeans, refine
from cicm.networks import create as network


def kmeans_loop(units: Tensor, valid: Tensor, count: int) -> tuple[list[int], list[Tensor]]:
    """One image, region by region."""
    inside = [i for i in range(len(units)) if valid[i]]
    if not inside:
        return [0] * len(units), []
    mean = sum(units[i] for i in inside)
    centres = [units[max(inside, key=lambda i: float(units[i] @ mean))]]
    while len(centres) < count:
        likeness = {i: max(float(units[i] @ c) for c in centres) for i in inside}
        centres.append(units[min(inside, key=likeness.get)])

    def nearest(row: Tensor) -> int:
        return max(range(count), key=lambda k: float(row @ centres[k]))

    for _ in range(10):
        labels = {i: nearest(units[i]) for i in inside}
        for k in range(count):
            members = [units[i] for i in inside if labels[i] == k]
            if members:
                centres[k] = F.normalize(sum(members), dim=0)
    return [nearest(row) for row in units], centres


def pictures(batch: int = 3, size: int = 30, channels: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    valid = torch.rand(batch, size) < torch.tensor([0.9, 0.4, 0.15])[:batch, None]
    return F.normalize(torch.randn(batch, size, channels, dtype=torch.float64), dim=-1), valid


def test_kmeans_equals_the_loop_for_every_image_of_a_batch() -> None:
    units, valid = pictures()
    counts = cluster_counts(valid, 6)
    labels, centres = kmeans(units, valid, counts, 6)
    for image in range(len(units)):
        count = int(counts[image])
        expected, centre = kmeans_loop(units[image], valid[image], count)
        assert labels[image].tolist() == expected
        assert_close(centres[image, :count], torch.stack(centre))
        assert not centres[image, count:].any()


def test_more_clusters_than_half_of_the_complete_regions_are_never_made() -> None:
    valid = torch.zeros(4, 40, dtype=torch.bool)
    valid[0] = True
    valid[1, :9] = True
    valid[2, :1] = True
    assert cluster_counts(valid, 13).tolist() == [13, 4, 1, 0]


def test_well_separated_groups_are_found_by_both() -> None:
    torch.manual_seed(0)
    truth = torch.arange(60) % 4
    units = F.normalize(F.one_hot(truth, 16)[None].float() + 0.05 * torch.randn(1, 60, 16), dim=-1)
    valid = torch.ones(1, 60, dtype=torch.bool)
    counts = torch.tensor([4])
    labels, centres = kmeans(units, valid, counts, 4)
    refined, _ = refine(units, valid, counts, centres)
    for found in (labels, refined):
        pairs = {(int(t), int(f)) for t, f in zip(truth, found[0], strict=True)}
        assert len(pairs) == 4
        assert len({f for _, f in pairs}) == 4


def test_ruc_moves_confident_mistakes_of_the_centres_and_repeats_itself() -> None:
    """Centres that were shifted give wrong labels; neighbours and heads correct them."""
    torch.manual_seed(0)
    truth = torch.arange(80) % 2
    axis = torch.zeros(2, 8)
    axis[0, 0] = axis[1, 1] = 1
    units = F.normalize(axis[truth] + 0.15 * torch.randn(80, 8), dim=-1)[None]
    valid, counts = torch.ones(1, 80, dtype=torch.bool), torch.tensor([2])
    shifted = F.normalize(torch.stack([axis[0], 0.75 * axis[0] + axis[1]]), dim=-1)[None]
    before = (assign(units, shifted, counts)[0] == truth).float().mean()
    labels, centres = refine(units, valid, counts, shifted)
    after = (labels[0] == truth).float().mean()
    assert after > before or after == 1
    again = refine(units, valid, counts, shifted)
    assert torch.equal(labels, again[0])
    assert torch.equal(centres, again[1])


def context_loop(regions: Tensor, complete: Tensor, sets: int, temperature: float) -> Tensor:
    """Eq. 4 over the members of the chosen cluster, one region at a time."""
    if not complete.any():
        return regions
    center = regions[complete].mean(0)
    units = F.normalize(regions - center, dim=-1)
    count = min(sets, max(1, int(complete.sum()) // 2))
    labels, _ = kmeans_loop(units, complete, count)
    rows = []
    for i in range(len(regions)):
        members = [j for j in range(len(regions)) if complete[j] and labels[j] == labels[i]]
        scores = torch.stack([units[i] @ units[j] for j in members]) / temperature
        rows.append((scores.softmax(0)[:, None] * regions[members]).sum(0))
    return torch.stack(rows)


def test_a_read_equals_the_loop_and_an_image_without_complete_regions_stays() -> None:
    torch.manual_seed(2)
    config = MemoryConfig(sets=4, kind="kmeans")
    memory = create(3, config).double()
    assert isinstance(memory, SingleImageContext)
    features = torch.rand(3, 3, 4, 5, dtype=torch.float64)
    complete = (torch.rand(3, 20) < 0.5) & torch.tensor([True, True, False])[:, None]
    ratio = torch.rand(60, dtype=torch.float64)
    read = memory.read(features, ratio, complete.flatten())
    rows = features.flatten(2).transpose(1, 2)
    context = torch.cat([context_loop(r, c, 4, 0.1) for r, c in zip(rows, complete, strict=True)])
    assert_close(read.context, context)
    assert_close(read.features[2], features[2])
    blended = (1 - ratio[:, None]) * rows.flatten(0, 1) + ratio[:, None] * context
    assert_close(read.features, blended.view(3, 20, 3).transpose(1, 2).reshape(features.shape))


@pytest.mark.parametrize("kind", ["kmeans", "ruc"])
def test_images_of_a_batch_do_not_see_each_other_and_gradients_flow(kind: str) -> None:
    torch.manual_seed(3)
    memory = create(6, MemoryConfig(sets=3, kind=kind))
    features = torch.rand(2, 6, 4, 4, requires_grad=True)
    complete = torch.rand(32) < 0.6
    both = memory.read(features, None, complete)
    alone = memory.read(features[1:], None, complete[16:])
    if kind == "kmeans":  # the noise that RUC adds is drawn for the whole batch
        assert_close(both.features[1:], alone.features)
    both.features[1].sum().backward()
    assert features.grad is not None
    assert not features.grad[0].any()
    assert features.grad[1].any()


@pytest.mark.parametrize("kind", ["kmeans", "ruc"])
def test_in_a_model_it_trains_saves_nothing_and_knows_the_complete_regions(kind: str) -> None:
    torch.manual_seed(4)
    unet = network("unet", width=4)
    model = MemoryInpainter(unet, {"bottom": create(32, MemoryConfig(sets=3, kind=kind))})
    hole = torch.zeros(2, 1, 64, 64)
    hole[:, :, 10:40, 10:40] = 1
    result = model(torch.rand(2, 3, 64, 64) * (1 - hole), hole)
    result.prediction.image.sum().backward()
    stored = [name for name in model.state_dict() if name.startswith("memories")]
    assert stored == ["memories.bottom.filled", "memories.bottom.ratio_head.weight", "memories.bottom.ratio_head.bias"]
    with torch.no_grad():
        other = MemoryInpainter(unet, {})(torch.rand(2, 3, 64, 64) * (1 - hole), hole)
    assert other.prediction.image.shape == result.prediction.image.shape


def test_it_says_what_it_needs() -> None:
    memory = create(2, MemoryConfig(sets=2, kind="kmeans"))
    with pytest.raises(InputError, match="complete="):
        memory.read(torch.rand(1, 2, 2, 2))
    dot = create(2, MemoryConfig(sets=2, kind="kmeans", similarity="dot"))
    with pytest.raises(InputError, match="'cosine' or 'centred'"):
        dot.read(torch.rand(1, 2, 2, 2), None, torch.ones(4, dtype=torch.bool))


# The rows of Table 2 that a configuration makes -----------------------------------------------------------------------


def test_merged_sets_are_one_set_of_all_contexts() -> None:
    """Without anchors the softmax runs over every context; with one set it does, whatever its anchor is."""
    torch.manual_seed(5)
    contexts = torch.randn(6, 7, 4)
    memory = ContextMemory(4, MemoryConfig(sets=1, contexts=42, similarity="cosine"))
    memory.seed_(torch.randn(200, 4), torch.Generator().manual_seed(0))
    memory.commit(MemoryState(torch.randn(1, 4), contexts.view(1, 42, 4)))
    features = torch.randn(1, 4, 3, 3)
    rows = features.flatten(2)[0].T
    scores = F.normalize(rows, dim=-1) @ F.normalize(contexts.view(42, 4), dim=-1).T
    assert_close(memory.read(features).context, (scores / 0.1).softmax(-1) @ contexts.view(42, 4))


def test_anchor_only_is_one_context_that_its_anchor_follows_at_once() -> None:
    torch.manual_seed(6)
    memory = ContextMemory(4, MemoryConfig(sets=5, contexts=1, momentum=0.0))
    memory.seed_(torch.randn(100, 4), torch.Generator().manual_seed(0))
    for _ in range(3):
        read = memory.read(torch.randn(2, 4, 3, 3))
        memory.commit(memory.pending([read], [torch.rand(18) < 0.7]))
        assert_close(memory.anchors, memory.contexts[:, 0])
    read = memory.read(torch.randn(1, 4, 3, 3))
    assert_close(read.context, memory.anchors[read.sets])
