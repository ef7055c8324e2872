"""A memory with places, against a loop over all offsets, and what its head does with it."""

import pytest
import torch
from torch.nn import functional as F

from cicm.conventions import InputError
from cicm.memory.places import AROUND, PlaceHead, place


def _loop(features, share, maps, mean):
    """Best score and offset of one photo, by trying every offset: cells beyond the photo count 0."""
    _, height, width = features.shape
    _, tall, wide = maps.shape
    found = {}
    for row in range(1 - height, tall):
        for column in range(1 - width, wide):
            total = 0.0
            for y in range(height):
                for x in range(width):
                    r, c = y + row, x + column
                    if share[0, y, x] == 0 and 0 <= r < tall and 0 <= c < wide:
                        total += float(F.cosine_similarity(features[:, y, x] - mean, maps[:, r, c] - mean, dim=0))
            found[row, column] = total
    best = max(found, key=found.get)
    return found[best] / max(1, int((share == 0).sum())), best


@pytest.fixture
def case():
    draw = torch.Generator().manual_seed(3)
    maps = torch.randn(4, 6, 7, 9, generator=draw, dtype=torch.float64)
    share = torch.zeros(3, 1, 4, 5, dtype=torch.float64)
    share[:, :, 1:3, 2:4] = 0.5
    views = [maps[2, :, 2:6, 3:8], maps[0, :, 0:4, 4:9], torch.randn(6, 4, 5, generator=draw, dtype=torch.float64)]
    features = torch.stack(views) + 0.1 * torch.randn(3, 6, 4, 5, generator=draw, dtype=torch.float64)
    return features, share, maps, torch.full((6,), 0.1, dtype=torch.float64)


def test_offsets_and_fits_are_those_of_the_loop(case):
    features, share, maps, mean = case
    placed = place(features, share, maps, mean, best=4)
    for i in range(3):
        loops = [_loop(features[i], share[i], one, mean) for one in maps]
        order = sorted(range(4), key=lambda m: -loops[m][0])
        assert placed.photos[i].tolist() == order
        assert [tuple(o) for o in placed.offsets[i].tolist()] == [loops[m][1] for m in order]
        assert placed.fits[i].tolist() == pytest.approx([loops[m][0] for m in order], abs=1e-9)
        for rank, m in enumerate(order):
            for y, x in ((0, 0), (3, 4), (1, 3)):
                r, c = (
                    min(max(a, 0), n - 1) for a, n in zip((y + loops[m][1][0], x + loops[m][1][1]), (7, 9), strict=True)
                )
                assert torch.equal(placed.reads[i, rank, :, y, x], maps[m, :, r, c])
    assert placed.photos[:2, 0].tolist() == [2, 0]
    assert placed.offsets[0, 0].tolist() == [2, 3]


def test_fit_nearby_looks_at_known_cells_around(case):
    features, share, maps, mean = case
    placed = place(features, share, maps, mean, best=1)
    assert AROUND >= 9  # the square holds the whole map here, so that the mean is that of all known cells
    assert torch.allclose(placed.nearby[:, 0], placed.fits[:, 0, None, None].expand(-1, 4, 5), atol=1e-9)


def test_nothing_known_fits_nowhere(case):
    features, share, maps, mean = case
    placed = place(features, torch.ones_like(share), maps, mean)
    assert placed.fits.abs().max() == 0
    assert torch.isfinite(placed.nearby).all()


def test_photos_of_other_channels_are_refused(case):
    features, share, maps, mean = case
    with pytest.raises(InputError, match=r"maps must be \(M, 6, H, W\)"):
        place(features, share, maps[:, :5], mean)
    with pytest.raises(InputError, match="at least 1"):
        place(features, share, maps[:0], mean)


def test_the_head_begins_with_the_damaged_feature_and_trusts_what_fits(case):
    features, share, maps, mean = (t.float() for t in case)
    head = PlaceHead(6)
    head.mean.copy_(mean)
    estimate, trust = head(features, share, place(features, share, maps, mean))
    assert torch.equal(estimate, features)
    assert trust[0].min() > 0.9  # a view of a photo that is there
    assert trust[2].max() < 0.6  # and one of none


def test_the_null_context_takes_what_is_below_its_level(case):
    features, share, maps, mean = (t.float() for t in case)
    placed = place(features, share, maps, mean)
    low, high = (PlaceHead(6, level)(features, share, placed)[1].mean() for level in (-2.0, 2.0))
    assert low > 0.99
    assert high < 0.01


def test_gradients_reach_level_sharpness_and_estimate(case):
    features, share, maps, mean = case
    head = PlaceHead(6).double()
    torch.nn.init.normal_(head.estimate[-1].weight, generator=torch.Generator().manual_seed(0))
    placed = place(features, share, maps, mean)
    assert torch.autograd.gradcheck(lambda f: head(f, share, placed)[0], features.requires_grad_())
    head(features, share, placed)[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (head.level, head.sharpness))
