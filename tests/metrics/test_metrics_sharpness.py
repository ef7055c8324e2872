"""Sharpness in the hole: by hand, its laws, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from cicm.conventions import InputError
from cicm.metrics import METRICS, create
from cicm.metrics.sharpness import RING_PIXELS, sharpness

TENTH = 0.1 / 255


def test_by_hand() -> None:
    """A row of seven pixels. The first two are missing; their Laplacians are |0.2 - 0.6| and |2 * 0.6 - 0.2 - 0|."""
    row = torch.tensor([0.2, 0.6, 0.0, 0.0, 0.0, 0.0, 0.5])
    hole = torch.tensor([1.0, 1, 0, 0, 0, 0, 0]).view(1, 1, 1, 7)
    image = row.expand(1, 3, 1, 7)
    inside, around = (0.4 + 1.0) / 2, (0.6 + 0 + 0 + 0.5 + 0.5) / 5
    expected = (inside + TENTH) / (around + TENTH)
    assert sharpness(image, hole).item() == pytest.approx(expected, rel=1e-6)  # 0.2 and 0.6 are rounded to float32


def test_equal_to_a_loop_over_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 45, 50, generator=generator, dtype=torch.float64)
    hole = torch.zeros(2, 1, 45, 50)
    hole[0, :, 5:9, 40:50] = 1
    hole[1, :, 20:22, 3:5] = 1
    for picture, mask, value in zip(image, hole[:, 0] > 0, sharpness(image, hole), strict=True):
        sums = {True: [], False: []}
        places = mask.nonzero().tolist()
        for y in range(45):
            for x in range(50):
                near = min(max(abs(y - a), abs(x - b)) for a, b in places)
                if near > RING_PIXELS:
                    continue
                around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
                total = sum(picture[:, min(max(a, 0), 44), min(max(b, 0), 49)] for a, b in around)
                sums[bool(mask[y, x])].append((4 * picture[:, y, x] - total).abs().mean().item())
        inside, ring = (sum(values) / len(values) + TENTH for values in (sums[True], sums[False]))
        assert value.item() == pytest.approx(inside / ring, rel=1e-12)


def test_what_lies_beyond_the_ring_does_not_count_and_blur_is_below_one() -> None:
    image = torch.rand(1, 3, 80, 80, generator=torch.Generator().manual_seed(1))
    hole = torch.zeros(1, 1, 80, 80)
    hole[..., 30:50, 30:50] = 1
    assert sharpness(image, hole).item() == pytest.approx(1, abs=0.1), "noise is as sharp everywhere"
    far = image.clone()
    far[..., : 30 - RING_PIXELS - 1, :] = 0
    assert torch.equal(sharpness(far, hole), sharpness(image, hole))
    assert sharpness(image * (1 - hole) + 0.5 * hole, hole).item() < 0.2


def test_by_name_it_needs_the_hole_and_is_best_near_one() -> None:
    pictures = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    hole = torch.zeros(2, 1, 16, 16)
    hole[..., 4:9, 4:9] = 1
    metric = create("sharpness")
    values = metric.update(*pictures, hole)
    assert values is not None
    assert metric.compute() == values.mean().item()
    with pytest.raises(InputError, match=r"needs to know the hole. Call update\(composite, image, hole\)"):
        metric.update(*pictures)
    for wrong in (torch.zeros(2, 1, 16, 16), torch.ones(2, 1, 16, 16)):
        with pytest.raises(InputError, match="a hole and known pixels"):
            metric.update(*pictures, wrong)
    with pytest.raises(InputError, match="agree in batch and size"):
        metric.update(*pictures, hole[..., :8])
    assert metric.num_images == 2
    gain = METRICS["sharpness"].gain
    assert gain(0.5, 1.2) > 0 > gain(0.9, 1.5)
