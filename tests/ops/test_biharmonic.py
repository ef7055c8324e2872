"""The biharmonic first fill against dense solutions and an independent library."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cicm.ops import biharmonic, pull_push
from cicm.ops import fill as fills


def scratched(side: int = 32, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth pictures with thin scratches; image (2, 3, side, side), hole (2, 1, side, side)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    waves = [np.sin(rng.uniform(2, 6) * x + rng.uniform(2, 6) * y + rng.uniform(0, 6)) for _ in range(6)]
    image = torch.tensor(np.stack(waves).reshape(2, 3, side, side) * 0.4 + 0.5)
    hole = torch.zeros(2, 1, side, side, dtype=image.dtype)
    hole[0, :, 10:14, 3:29] = 1
    hole[1, :, 5:27, 16:19] = 1
    hole[1, :, :4, :4] = 1
    return image, hole


def dense_solution(plane: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Least squares on all Laplacians (neighbours beyond the border left out), the known pixels fixed."""
    height, width = plane.shape
    index = np.arange(height * width).reshape(height, width)
    laplacian = np.zeros((height * width, height * width))
    for i in range(height):
        for j in range(width):
            for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
                if 0 <= a < height and 0 <= b < width:
                    laplacian[index[i, j], index[a, b]] += 1
                    laplacian[index[i, j], index[i, j]] -= 1
    inside = hole.ravel() > 0.5
    known = np.where(inside, 0, plane.ravel())
    found, *_ = np.linalg.lstsq(laplacian[:, inside], -laplacian @ known, rcond=None)
    known[inside] = found
    return known.reshape(height, width)


def test_many_steps_reach_the_dense_least_squares_solution():
    image, hole = scratched()
    found = biharmonic(image * (1 - hole), hole, steps=2000)
    for b in range(2):
        for c in range(3):
            wanted = dense_solution((image * (1 - hole))[b, c].numpy(), hole[b, 0].numpy())
            # conjugate gradients in float64, far past convergence; the rest is conditioning
            np.testing.assert_allclose(found[b, c].numpy(), wanted, atol=1e-6)


def test_thin_holes_need_only_the_usual_steps_and_agree_with_scikit_image():
    restoration = pytest.importorskip("skimage.restoration")
    image, hole = scratched()
    hole[1, :, :4, :4] = 0  # at the border the two differ on purpose: scikit-image has another stencil there
    corrupted = image * (1 - hole)
    found = biharmonic(corrupted, hole)
    for b in range(2):
        picture = corrupted[b].permute(1, 2, 0).numpy()
        wanted = restoration.inpaint_biharmonic(picture, hole[b, 0].numpy() > 0.5, channel_axis=-1)
        error = np.abs(found[b].permute(1, 2, 0).numpy() - wanted)
        # 32 steps, not all: a tenth of an 8-bit step on average
        assert error[hole[b, 0].numpy() > 0.5].mean() < 0.1 / 255


def test_known_pixels_keep_their_bits_and_an_empty_hole_changes_nothing():
    image, hole = scratched()
    corrupted = (image * (1 - hole)).float()
    found = biharmonic(corrupted, hole.float())
    assert torch.equal(torch.where(hole > 0.5, 0.0, found), torch.where(hole > 0.5, 0.0, corrupted))
    assert torch.equal(biharmonic(corrupted, torch.zeros_like(hole).float()), corrupted)
    assert torch.isfinite(biharmonic(corrupted * 0, torch.ones_like(hole).float())).all()


def test_it_is_nearer_than_the_smooth_fill():
    image, hole = scratched()
    corrupted = image * (1 - hole)
    errors = [(fill(corrupted, hole) - image).square().mean() for fill in (pull_push, biharmonic)]
    assert errors[1] < 0.1 * errors[0]


def test_planes_do_not_depend_on_how_many_are_computed_at_once(monkeypatch):
    image, hole = scratched()
    together = biharmonic(image * (1 - hole), hole)
    monkeypatch.setattr(fills, "PLANES_FLOATS", 1)
    assert torch.equal(biharmonic(image * (1 - hole), hole), together)
    single = biharmonic((image * (1 - hole))[1:], hole[1:])
    assert torch.equal(single, together[1:])
