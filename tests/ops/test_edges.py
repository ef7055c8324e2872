"""Canny: scikit-image as an independent judge, a flood fill for the chains, and what it promises to compilers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cicm.conventions import InputError
from cicm.ops import canny
from cicm.ops.edges import _reached

PHOTOS = ["barn", "bridge", "creek", "eagle", "flag", "spring"]


def boxes(seed: int, count: int, height: int, width: int) -> Tensor:
    """(1, 1, H, W), 1 = known, all but some boxes."""
    draw = np.random.default_rng(seed)
    known = torch.ones(1, 1, height, width)
    for _ in range(count):
        y, x = draw.integers(0, height * 3 // 4), draw.integers(0, width * 3 // 4)
        known[..., y : y + draw.integers(2, height // 3), x : x + draw.integers(2, width // 3)] = 0
    return known


def photo(root: Path, name: str, size: tuple[int, int]) -> Tensor:
    with Image.open(root / "examples" / "photos" / f"{name}.jpg") as file:
        gray = np.asarray(file.convert("L").resize(size))
    return torch.tensor(gray / 255)[None, None]


@pytest.mark.parametrize("name", PHOTOS)
def test_edges_of_photos_are_those_of_scikit_image_pixel_by_pixel(root: Path, name: str) -> None:
    """Zero of 6 x 3 x 256 x 192 pixels differ: both compute in float64, and no two ridges are equal to 15 digits."""
    feature = pytest.importorskip("skimage.feature")
    gray = photo(root, name, (256, 192))
    for holes in (0, 3, 8):
        known = boxes(holes, holes, 192, 256)
        expected = feature.canny(gray[0, 0].numpy(), sigma=2, mask=known[0, 0].numpy() > 0.5)
        assert expected.sum() > 100
        assert np.array_equal(canny(gray, known.double())[0, 0].numpy() > 0, expected)


def test_other_settings_agree_too(root: Path) -> None:
    for sigma, low, high in ((1.0, 0.05, 0.3), (0.6, 0.2, 0.2), (3.0, 0.02, 0.1)):
        feature = pytest.importorskip("skimage.feature")
        gray, known = photo(root, "creek", (100, 64)), boxes(1, 2, 64, 100).double()
        expected = feature.canny(gray[0, 0].numpy(), sigma, low, high, mask=known[0, 0].numpy() > 0.5)
        assert expected.any(), sigma
        assert np.array_equal(canny(gray, known, sigma, low, high)[0, 0].numpy() > 0, expected), sigma


def flooded(weak: Tensor, strong: Tensor) -> Tensor:
    """From every strong pixel to all it reaches, one step at a time."""
    found, front = torch.zeros_like(weak), [tuple(p) for p in (weak & strong).nonzero().tolist()]
    while front:
        b, y, x = front.pop()
        inside = 0 <= y < weak.shape[1] and 0 <= x < weak.shape[2]
        if inside and weak[b, y, x] and not found[b, y, x]:
            found[b, y, x] = True
            front += [(b, y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return found


def linked(weak: Tensor, strong: Tensor) -> Tensor:
    at = weak.flatten().nonzero().squeeze(1)
    out = torch.zeros(weak.numel(), dtype=torch.bool)
    out[at[_reached(weak.shape, at, strong.flatten()[at])]] = True
    return out.view(weak.shape)


def test_chains_are_what_a_flood_fill_reaches() -> None:
    """Also around 0.4, where chains of random pixels begin to span the picture; three pictures, none leaks."""
    for share in (0.0, 0.05, 0.3, 0.4, 1.0):
        weak, strong = torch.rand(3, 17, 23) < share, torch.rand(3, 17, 23) < 0.02
        strong[1] = False
        assert torch.equal(linked(weak, strong), flooded(weak, strong)), share
        assert not linked(weak, strong)[1].any(), share


def test_a_long_chain_is_followed_to_its_end() -> None:
    """A snake through the whole picture, one strong pixel at its head."""
    weak = torch.zeros(1, 41, 40, dtype=torch.bool)
    weak[:, ::2] = True
    weak[:, 1::4, -1] = weak[:, 3::4, 0] = True
    strong = torch.zeros_like(weak)
    strong[0, 0, 0] = True
    assert torch.equal(linked(weak, strong), weak)
    weak[0, 21] = False  # cut in the middle
    assert torch.equal(linked(weak, strong), flooded(weak, strong))
    assert 0 < int(linked(weak, strong).sum()) < int(weak.sum())


def test_the_content_of_the_hole_and_the_other_pictures_do_not_matter() -> None:
    gray, known = torch.rand(3, 1, 40, 56), torch.cat([boxes(s, 2, 40, 56) for s in range(3)])
    both = canny(gray, known, sigma=1.0)
    assert both.any()
    assert torch.equal(canny(gray + 5 * (1 - known), known, sigma=1.0), both)
    for one in range(3):
        assert torch.equal(canny(gray[one : one + 1], known[one : one + 1], sigma=1.0), both[one : one + 1])


def test_no_edge_touches_the_hole_or_the_border() -> None:
    known = boxes(0, 3, 48, 48)
    edges = canny(torch.rand(1, 1, 48, 48), known, sigma=0.8)
    near = torch.nn.functional.max_pool2d(torch.nn.functional.pad(1 - known, (1, 1, 1, 1), value=1), 3, 1)
    assert edges.any()
    assert not (edges * near).any()


def test_nothing_known_and_nothing_to_see_have_no_edges() -> None:
    flat = torch.full((2, 1, 16, 16), 0.5)
    assert not canny(flat, torch.ones_like(flat)).any()
    assert not canny(torch.rand(2, 1, 16, 16), torch.zeros(2, 1, 16, 16)).any()
    assert canny(flat[:0], flat[:0]).shape == (0, 1, 16, 16)


def test_the_dtype_stays_and_no_gradient_flows() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        gray = torch.rand(1, 1, 24, 24, dtype=dtype, requires_grad=True)
        edges = canny(gray, torch.ones(1, 1, 24, 24, dtype=dtype), sigma=0.8)
        assert edges.dtype == dtype, dtype
        assert not edges.requires_grad, dtype
        assert set(edges.unique().tolist()) == {0.0, 1.0}, dtype


def test_bad_settings_are_refused() -> None:
    picture = torch.rand(1, 1, 16, 16)
    for sigma in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="sigma must be positive"):
            canny(picture, picture, sigma)
    for low, high in ((0.3, 0.2), (0.0, 0.1)):
        with pytest.raises(InputError, match="low not above high"):
            canny(picture, picture, 2.0, low, high)


class Edges(torch.nn.Module):
    def forward(self, gray: Tensor, known: Tensor) -> Tensor:
        return torch.ops.cicm.canny(gray, known, 1.0, 0.1, 0.2) * 2


def test_one_operator_for_compilers_exporters_and_shapes_without_data() -> None:
    gray, known = torch.rand(2, 1, 24, 32), torch.cat([boxes(s, 2, 24, 32) for s in range(2)])
    torch.library.opcheck(torch.ops.cicm.canny.default, (gray, known, 1.0, 0.1, 0.2))
    expected = canny(gray, known, 1.0) * 2
    height = torch.export.Dim("height", min=16, max=64)
    exported = torch.export.export(Edges(), (gray, known), dynamic_shapes=({2: height}, {2: height}))
    assert torch.equal(exported.module()(gray, known), expected)
    assert torch.equal(torch.compile(Edges(), fullgraph=True, backend="aot_eager")(gray, known), expected)
    assert canny(gray.to("meta"), known.to("meta")).shape == gray.shape
