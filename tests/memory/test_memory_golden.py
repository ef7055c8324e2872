"""Numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from cicm.memory import MemoryState, augment, inject, inter_set, intra_set, pixel_ratio, read, route


def test_worked_by_hand() -> None:
    """L = 2, K = 2, C = 2. F = (2, 0). Dot products with the anchors (1, 0) and (0, 3): 2 and 0, so set 0.

    Its contexts (ln 2 / 2, 0) and (0, 5) give the products ln 2 and 0: weights 2/3 and 1/3.
    """
    third = 1 / 3
    region = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    state = MemoryState(
        torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64),
        torch.tensor([[[math.log(2) / 2, 0.0], [0.0, 5.0]], [[7.0, 7.0], [7.0, 7.0]]], dtype=torch.float64),
        torch.tensor([[1.0, 1.0], [2.0, 2.0]], dtype=torch.float64),
    )
    own = route(region, state.anchors, kind="dot")
    assert own.tolist() == [0]
    context, weights = read(region, own, state.contexts, kind="dot", temperature=1.0)
    assert_close(weights, torch.tensor([[2 * third, third]], dtype=torch.float64))
    assert_close(context, torch.tensor([[math.log(2) * third, 5 * third]], dtype=torch.float64))
    # gamma = 1/4: as printed a quarter of the region and three of the context; by default the other way round
    quarter = torch.tensor([0.25], dtype=torch.float64)
    as_printed = [[0.5 + math.log(2) / 4, 1.25]]
    ours = [[1.5 + math.log(2) / 12, 5 / 12]]
    assert_close(augment(region, context, quarter, blend="paper").tolist(), as_printed)
    assert_close(augment(region, context, quarter).tolist(), ours)
    # Eq. 2: (ln 2 / 2 + 4/3, 0) and (2/3, 5). Eq. 3: half (1, 0), half their mean.
    complete = torch.tensor([True])
    after = inject(state, region, own, weights, complete, update="paper")
    assert_close(after.contexts[0].tolist(), [[math.log(2) / 2 + 4 / 3, 0.0], [2 / 3, 5.0]])
    assert_close(after.anchors[0].tolist(), [0.5 + (math.log(2) / 2 + 2) / 4, 1.25])
    assert after.contexts[1].tolist() == [[7.0, 7.0], [7.0, 7.0]]
    assert after.anchors[1].tolist() == [3.5, 5.0]  # Eq. 3 moves every anchor
    # the mean, keeping all: masses 1 + 2/3 and 1 + 1/3; (ln 2 / 2 + 4/3) / (5/3) and (2/3, 5) / (4/3)
    after = inject(state, region, own, weights, complete, retention=1.0)
    assert_close(after.mass.tolist(), [[5 / 3, 4 / 3], [2.0, 2.0]])
    assert_close(after.contexts[0].tolist(), [[0.3 * math.log(2) + 0.8, 0.0], [0.5, 3.75]])
    # Eq. 8: (1, 0) and (0, 3) are orthogonal; with l = o the printed sum is 1 + 9
    assert inter_set(state.anchors).item() == 0
    assert inter_set(state.anchors, printed=True).item() == 10
    # A_1 . C_1 = ln 2 / 2 and 0; A_2 . C_2 = 21 twice
    assert intra_set(state, printed=True).item() == pytest.approx(42 + math.log(2) / 2)
    # the cosines are 1, 0, and 1 / sqrt 2 twice
    assert intra_set(state).item() == pytest.approx((1 + math.sqrt(2)) / 4)


def test_pixel_ratio_accumulates_differences_and_normalises() -> None:
    g = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 4, 6, generator=g, dtype=torch.float64)
    corrupted = image * (torch.rand(2, 1, 4, 6, generator=g) < 0.5)
    expected = []
    for b in range(2):
        cells = [
            sum(
                abs(float(image[b, c, 2 * i + y, 2 * j + x] - corrupted[b, c, 2 * i + y, 2 * j + x]))
                for c in range(3)
                for y in range(2)
                for x in range(2)
            )
            for i in range(2)
            for j in range(3)
        ]
        expected += [cell / max(cells) for cell in cells]
    assert_close(pixel_ratio(corrupted, image, (2, 3)).tolist(), expected, rtol=0, atol=1e-12)
