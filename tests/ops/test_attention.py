"""Attention between patches: loops from its description, gradients, and what a part may not depend on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cicm.ops import attention
from cicm.ops.attention import attend, fuse, nearest_aligned, untouched


def test_nearest_with_aligned_corners_is_its_formula() -> None:
    for n, m in ((64, 32), (10, 5), (14, 7), (256, 32), (6, 1), (1, 1), (3, 6)):
        row = torch.arange(float(n)).view(1, 1, 1, n)
        expected = [math.floor(i * (n - 1) / (m - 1) + 0.5) if m > 1 else 0 for i in range(m)]
        assert nearest_aligned(row, (1, m)).flatten().tolist() == expected
        assert nearest_aligned(row.transpose(2, 3), (m, 1)).flatten().tolist() == expected


def test_a_patch_is_untouched_when_no_cell_of_it_is_missing_at_all() -> None:
    hole = torch.zeros(1, 1, 4, 5)
    hole[0, 0, 1, 3] = 1e-6
    expected = torch.tensor([[1, 1, 0, 0, 0]] * 3 + [[1] * 5]) > 0
    assert torch.equal(untouched(hole, 3)[0, 0], expected)
    assert untouched(hole, 1).sum() == 19


def patch(features: Tensor, y: int, x: int, reach: range) -> list[float]:
    """Values of all channels around a cell, row by row; 0 beyond the border."""
    height, width = features.shape[1:]
    return [
        float(features[c, y + i, x + j]) if 0 <= y + i < height and 0 <= x + j < width else 0.0
        for c in range(len(features))
        for i in reach
        for j in reach
    ]


def fused_by_loop(scores: list[list[float]], height: int, width: int) -> list[list[float]]:
    """Both orders of cells written out: rows after each other, then columns after each other."""
    count = height * width
    by_rows = list(range(count))
    by_columns = [y * width + x for x in range(width) for y in range(height)]
    for order in (by_rows, by_columns):
        place = {cell: i for i, cell in enumerate(order)}
        fresh = [[0.0] * count for _ in range(count)]
        for q in range(count):
            for k in range(count):
                for step in (-1, 0, 1):
                    i, j = place[q] + step, place[k] + step
                    if 0 <= i < count and 0 <= j < count:
                        fresh[q][k] += scores[order[i]][order[j]]
        scores = fresh
    return scores


def by_loop(queries: Tensor, keys: Tensor, values: Tensor, usable: Tensor, kernel: int, fused: bool, least: float):
    """One picture, cell by cell."""
    height, width = queries.shape[1:]
    cells = [(y, x) for y in range(height) for x in range(width)]
    near = range(-(kernel // 2), kernel // 2 + 1)
    scores = []
    for at in cells:
        asked = patch(queries, *at, near)
        row = []
        for key in cells:
            held = patch(keys, *key, near)
            length = max(math.sqrt(sum(v * v for v in held)), 1e-4)
            row.append(sum(a * b / length for a, b in zip(asked, held, strict=True)))
        scores.append(row)
    scores = fused_by_loop(scores, height, width) if fused else scores
    out = torch.zeros_like(values)
    allowed = [float(usable[0, y, x]) for y, x in cells]
    for (y, x), row in zip(cells, scores, strict=True):
        logits = [10 * score * one for score, one in zip(row, allowed, strict=True)]
        total = sum(math.exp(v - max(logits)) for v in logits)
        weights = [math.exp(v - max(logits)) / total * one for v, one in zip(logits, allowed, strict=True)]
        weights = [max(weight, least) for weight in weights]
        for (ky, kx), weight in zip(cells, weights, strict=True):
            for c in range(len(values)):
                for i in range(-1, 3):
                    for j in range(-1, 3):
                        sy, sx, ty, tx = 2 * ky + i, 2 * kx + j, 2 * y + i, 2 * x + j
                        if all(0 <= v < 2 * height for v in (sy, ty)) and all(0 <= v < 2 * width for v in (sx, tx)):
                            out[c, ty, tx] += weight * values[c, sy, sx] / 4
    return out


def maps(batch: int = 2, height: int = 3, width: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    queries, keys = (torch.randn(batch, 2, height, width, dtype=torch.float64) / 3 for _ in range(2))
    usable = torch.rand(batch, 1, height, width) < 0.6
    return queries, keys, torch.randn(batch, 1, 2 * height, 2 * width, dtype=torch.float64), usable


@pytest.mark.parametrize(("kernel", "fused", "least"), [(3, False, 0.0), (3, True, 0.0), (1, False, 1e-3)])
def test_attention_is_the_loop_over_queries_and_keys(kernel: int, fused: bool, least: float) -> None:
    given = maps()
    found = attend(*given, kernel=kernel, fused=fused, least=least)
    for i in range(2):
        expected = by_loop(*(one[i] for one in given), kernel, fused, least)
        assert_close(found[i], expected, rtol=0, atol=1e-12)  # float64


def test_the_gradient_is_that_of_small_steps() -> None:
    queries, keys, values, usable = maps(1, 2, 3)
    leaves = [one.requires_grad_() for one in (queries, keys, values)]
    for fused in (False, True):
        assert torch.autograd.gradcheck(lambda q, k, v, fused=fused: attend(q, k, v, usable, fused=fused), leaves)


def test_a_key_of_zeros_has_a_gradient() -> None:
    """The slope of a square root at 0 is infinite."""
    queries, _, values, usable = maps()
    keys = torch.zeros_like(queries).requires_grad_()
    attend(queries, keys, values, usable).square().sum().backward()
    assert torch.isfinite(keys.grad).all()


def test_large_maps_are_done_part_by_part_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    given = maps(2, 6, 5)
    with torch.no_grad():
        whole = attend(*given)
        monkeypatch.setattr(attention, "_MAX_SCORES", 2 * 30 * 7)  # 7 of 30 queries at a time
        assert_close(attend(*given), whole, rtol=0, atol=1e-14)
        monkeypatch.setattr(attention, "_MAX_SCORES", 1)
        assert_close(attend(*given), whole, rtol=0, atol=1e-14)


def test_without_a_usable_key_nothing_is_copied() -> None:
    queries, keys, values, _ = maps()
    none = torch.zeros(2, 1, 3, 4) > 0
    assert not attend(queries, keys, values, none).any()
    little = attend(queries, keys, values, none, least=1e-8)
    assert 0 < little.abs().max() < 1e-6


def test_fused_scores_run_on_from_a_row_to_the_next() -> None:
    """So does the original; a look at the end of one row supports the beginning of the next."""
    scores = torch.zeros(1, 8, 8)
    scores[0, 3, 3] = 1  # the end of the first of two rows
    found = fuse(scores, (2, 4))
    assert found[0, 4, 4] > 0
    assert_close(found[0], torch.tensor(fused_by_loop(scores[0].tolist(), 2, 4)))


def test_half_precision_is_not_used_for_scores() -> None:
    queries, keys, values, usable = (one.float() if one.is_floating_point() else one for one in maps())
    exact = attend(queries, keys, values, usable)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(attend(queries, keys, values, usable), exact)
    assert attend(queries, keys, values.bfloat16(), usable).dtype == torch.bfloat16
