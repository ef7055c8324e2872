"""Holes on pixels and cells, regions, similarity, the smooth first fill."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from cicm.ops import as_map, as_regions, complete_cells, composite, missing_share, pull_push, similarity

LAW = settings(max_examples=25, deadline=None)


def some_hole(height: int, width: int, seed: int = 0, share: float = 0.5, batch: int = 2) -> torch.Tensor:
    return (torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(seed)) < share).float()


# Composite ------------------------------------------------------------------------------------------------------------


def test_composite_is_the_input_outside_the_hole_and_the_prediction_inside_bit_for_bit() -> None:
    prediction, corrupted = torch.rand(2, 3, 9, 7), torch.rand(2, 3, 9, 7)
    prediction[0, 0, :3] = torch.tensor([math.inf, -math.inf, math.nan] * 2 + [1e38])
    hole = some_hole(9, 7)
    inside = (hole > 0).expand(-1, 3, -1, -1)
    done = composite(prediction, corrupted, hole)
    assert torch.equal(done[~inside], corrupted[~inside])
    assert torch.equal(done[inside].nan_to_num(7.0), prediction[inside].nan_to_num(7.0))


def test_composite_has_the_dtype_of_the_input() -> None:
    for dtype in (torch.bfloat16, torch.float64):
        corrupted, hole = torch.rand(1, 3, 4, 4), some_hole(4, 4, batch=1)
        done = composite(torch.rand(1, 3, 4, 4).to(dtype), corrupted, hole)
        assert done.dtype == torch.float32, dtype
        outside = (hole == 0).expand(-1, 3, -1, -1)
        assert torch.equal(done[outside], corrupted[outside]), dtype


def test_composite_sends_gradient_to_the_hole_alone() -> None:
    prediction, hole = torch.rand(1, 3, 4, 4, requires_grad=True), some_hole(4, 4, batch=1)
    composite(prediction, torch.rand(1, 3, 4, 4), hole).sum().backward()
    assert torch.equal(prediction.grad, hole.expand(1, 3, 4, 4))


# Cells ----------------------------------------------------------------------------------------------------------------


def loop_share(hole: torch.Tensor, size: tuple[int, int]) -> list[float]:
    """Mean of the pixels from floor(i H / h) to ceil((i + 1) H / h): all that a cell touches."""
    out = []
    _, _, height, width = hole.shape
    for picture in hole[:, 0].tolist():
        for i in range(size[0]):
            rows = range(i * height // size[0], -(-(i + 1) * height // size[0]))
            for j in range(size[1]):
                columns = range(j * width // size[1], -(-(j + 1) * width // size[1]))
                values = [picture[y][x] for y in rows for x in columns]
                out.append(sum(values) / len(values))
    return out


def test_missing_share_is_the_area_average() -> None:
    for pixels, cells in (
        ((8, 12), (2, 3)),
        ((8, 12), (8, 12)),
        ((8, 12), (1, 1)),
        ((7, 10), (3, 4)),
        ((9, 8), (3, 3)),
    ):
        hole = some_hole(*pixels)
        share = missing_share(hole, cells)
        assert share.shape == (2, 1, *cells), pixels
        assert_close(share.reshape(-1).tolist(), loop_share(hole, cells), rtol=0, atol=1e-6)  # float32 against double


@LAW
@given(y=st.integers(0, 31), x=st.integers(0, 31))
def test_one_missing_pixel_makes_exactly_its_cell_incomplete(y: int, x: int) -> None:
    hole = torch.zeros(1, 1, 32, 32)
    hole[0, 0, y, x] = 1
    complete = complete_cells(missing_share(hole, (4, 4)))
    assert complete.shape == (16,)
    assert (~complete).nonzero().item() == (y // 8) * 4 + x // 8


def test_complete_cells_by_tolerance() -> None:
    share = torch.tensor([0.0, 0.1, 0.5, 1.0]).view(1, 1, 2, 2)
    assert complete_cells(share).tolist() == [True, False, False, False]
    assert complete_cells(share, 0.5).tolist() == [True, True, True, False]


# Regions --------------------------------------------------------------------------------------------------------------


def test_regions_go_image_by_image_row_by_row() -> None:
    features = torch.arange(2 * 3 * 2 * 4.0).view(2, 3, 2, 4)
    regions = as_regions(features)
    for n, (b, y, x) in enumerate((b, y, x) for b in range(2) for y in range(2) for x in range(4)):
        assert torch.equal(regions[n], features[b, :, y, x])
    assert torch.equal(as_map(regions, features), features)


def test_cells_and_regions_are_in_the_same_order() -> None:
    hole = some_hole(8, 12, share=0.05)
    share = missing_share(hole, (4, 6))
    assert torch.equal(complete_cells(share), as_regions(share)[:, 0] == 0)


# Similarity -----------------------------------------------------------------------------------------------------------


def test_similarities_worked_by_hand() -> None:
    first, second = torch.tensor([[3.0, 4.0]]), torch.tensor([[6.0, 8.0], [4.0, 3.0]])
    assert similarity(first, second, "dot").tolist() == [[50.0, 24.0]]
    assert_close(similarity(first, second), torch.tensor([[1.0, 0.96]]))
    center = torch.tensor([3.0, 3.0])  # differences (0, 1); (3, 5) and (1, 0)
    assert_close(similarity(first, second, "centred", center), torch.tensor([[5 / 34**0.5, 0.0]]))


def test_zero_features_are_like_nothing_and_keep_finite_gradients() -> None:
    zero = torch.zeros(2, 3, requires_grad=True)
    value = similarity(zero, torch.rand(4, 3))
    assert torch.equal(value, torch.zeros(2, 4))
    value.sum().backward()
    assert torch.isfinite(zero.grad).all()


def test_rectified_features_are_told_apart_by_centring() -> None:
    """The reason for `centred`: positive features all have cosines near 1."""
    features = 5 + torch.rand(50, 8)
    plain = similarity(features, features)
    centred = similarity(features, features, "centred", features.mean(0))
    assert plain.min() > 0.97
    assert centred.min() < -0.3


# The smooth fill ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16), (32, 48), (33, 57), (64, 130)])
def test_the_fill_keeps_known_pixels_and_stays_within_their_range(size: tuple[int, int]) -> None:
    image, hole = 0.2 + 0.6 * torch.rand(2, 3, *size), some_hole(*size, share=0.2)
    hole[..., 2:-3, 3:-2] = 1
    filled = pull_push(image * (1 - hole), hole)
    known = (hole == 0).expand(-1, 3, -1, -1)
    assert torch.equal(filled[known], image[known])
    for picture, whole, mask in zip(filled, image, known, strict=True):
        for channel, original, seen in zip(picture, whole, mask, strict=True):
            assert channel.min() >= original[seen].min() - 1e-6  # averages of averages, in float32
            assert channel.max() <= original[seen].max() + 1e-6


def test_a_fill_reads_nothing_from_the_hole() -> None:
    image, hole = torch.rand(1, 3, 32, 32), some_hole(32, 32, batch=1)
    assert torch.equal(pull_push(image * (1 - hole), hole), pull_push(image, hole) * hole + image * (1 - hole))


def test_a_fill_is_close_to_a_gradient_that_it_interpolates() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    hole = torch.zeros(1, 1, 64, 64)
    hole[..., 20:44, 20:44] = 1
    error = (pull_push(ramp * (1 - hole), hole) - ramp).abs()[..., 20:44, 20:44]
    assert error.mean() < 0.08  # the mean of the known would be off by 0.1


def test_a_fill_from_a_single_pixel_has_its_colour_however_large_the_picture() -> None:
    colour = torch.tensor([0.9, 0.5, 0.1]).view(1, 3, 1, 1)
    hole = torch.ones(1, 1, 1600, 1600)
    hole[0, 0, 700, 800] = 0
    filled = pull_push(colour * (1 - hole), hole)
    assert_close(filled[0, :, ::97, ::97], colour[0].expand(3, 17, 17), rtol=1e-4, atol=0)  # float32 means


def test_nothing_known_gives_black_and_nothing_missing_the_image() -> None:
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(pull_push(image, torch.zeros(1, 1, 32, 32)), image)
    assert torch.equal(pull_push(image * 0, torch.ones(1, 1, 32, 32)), torch.zeros(1, 3, 32, 32))


def test_images_of_a_batch_do_not_influence_each_other() -> None:
    image, hole = torch.rand(3, 3, 32, 32), some_hole(32, 32, batch=3)
    together = pull_push(image * (1 - hole), hole)
    for i in range(3):
        assert_close(together[i : i + 1], pull_push((image * (1 - hole))[i : i + 1], hole[i : i + 1]))


def test_a_map_made_of_regions_has_the_layout_it_came_from() -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        features = torch.rand(2, 3, 4, 5).contiguous(memory_format=layout)
        back = as_map(as_regions(features), features)
        assert back.stride() == features.stride(), layout
        assert torch.equal(back, features), layout
