"""What is written by hand for ONNX equals what it stands for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.export.onnx_operators import DOMAIN, OPSET, operators, with_bodies
from cicm.ops import canny, edges, fill
from cicm.photos.resampling import averages, cubic, linear, mirrored

Run = Callable[[Tensor, Tensor], list[np.ndarray]]


class All(nn.Module):
    def forward(self, image: Tensor, hole: Tensor) -> tuple[Tensor, ...]:
        bent = fill._bent(image, hole, 32)
        found = edges._canny(image[:, :1], 1 - hole, 2.0, 0.1, 0.2)
        faint = edges._canny(image[:, :1], 1 - hole, 1.0, 0.05, 0.5)
        total = F.avg_pool2d(hole, 7, 2, 3, divisor_override=1)
        share = F.avg_pool2d(image, 3, 1, 1, divisor_override=4)
        mean = F.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
        return bent, found, faint, total, share, mean


@pytest.fixture(scope="module")
def run() -> Run:
    side = {0: torch.export.Dim("batch", min=1), 2: torch.export.Dim("h", min=8), 3: torch.export.Dim("w", min=8)}
    inputs = (torch.rand(2, 3, 40, 48), torch.zeros(2, 1, 40, 48))
    with operators() as table:
        program = torch.export.export(All(), inputs, dynamic_shapes=(side, side))
        made = torch.onnx.export(
            program,
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=OPSET,
            custom_translation_table=table,
            input_names=["image", "hole"],
        )
    model = with_bodies(made.model_proto)
    onnx.checker.check_model(model)
    assert {opset.domain for opset in model.opset_import} == {""}, "plain ONNX, none of ours"
    assert not any(node.domain == DOMAIN for node in model.graph.node)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda image, hole: session.run(None, {"image": image.numpy(), "hole": hole.numpy()})


def scene(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Shapes of many sizes with soft and hard rims, and holes that cut through them."""
    y, x = torch.meshgrid(torch.arange(height) / 9.0, torch.arange(width) / 7.0, indexing="ij")
    waves = torch.stack([torch.sin(x * (k + 1) / 2 + k) * torch.cos(y / (k + 1)) for k in range(3 * batch)])
    image = (waves.view(batch, 3, height, width).sign() * waves.abs().sqrt().view(batch, 3, height, width) + 1) / 2
    image = (image + 0.1 * torch.rand(image.shape)).clamp(0, 1)
    hole = torch.zeros(batch, 1, height, width)
    hole[:, :, height // 4 : height // 2, width // 3 : 2 * width // 3] = 1
    hole[:1, :, :, :2] = 1
    return image, hole


@pytest.mark.parametrize("size", [(2, 40, 48), (1, 65, 33), (3, 31, 100)])
def test_operators_equal_torch(run: Run, size: tuple[int, int, int]) -> None:
    image, hole = scene(*size)
    bent, found, faint, total, share, mean = run(image, hole)
    expected = fill._bent(image, hole, 32)
    # float32 after 32 steps of conjugate gradients: sums in another order, and each step builds on the one before
    assert np.abs(bent - expected.numpy()).max() < 1e-4
    for edge, settings in ((found, (2.0, 0.1, 0.2)), (faint, (1.0, 0.05, 0.5))):
        ours = canny(image[:, :1], 1 - hole, *settings).numpy()
        assert 0 < ours.sum() < ours.size / 2
        assert np.array_equal(edge, ours)
    assert np.array_equal(total, F.avg_pool2d(hole, 7, 2, 3, divisor_override=1).numpy())
    assert np.abs(share - F.avg_pool2d(image, 3, 1, 1, divisor_override=4).numpy()).max() < 1e-6
    assert np.abs(mean - F.avg_pool2d(image, 3, 1, 1, count_include_pad=False).numpy()).max() < 1e-6


@pytest.mark.parametrize("side", [1, 3, 6, 10, 16])
def test_small_holes_are_filled_exactly(run: Run, side: int) -> None:
    """Near their end conjugate gradients in float32 miss by up to 0.03 of 1, which is why the Loop is in float64."""
    for seed in range(10):
        image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        hole = torch.zeros(1, 1, 32, 32)
        hole[..., 5 : 5 + side, 7 : 7 + side] = 1
        first = fill.pull_push(image * (1 - hole), hole)
        exact = fill._bent(first.double(), hole.double(), 32).numpy()
        assert np.abs(run(first, hole)[0] - exact).max() < 1e-6


def test_a_chain_of_edges_is_followed_to_its_end(run: Run) -> None:
    """One long ridge, strong at one end alone: the loop has to go on for its whole length."""
    height, width = 24, 400
    gray = torch.zeros(1, 1, height, width)
    gray[:, :, 12:] = torch.linspace(1.0, 0.12, width)
    image, hole = gray.repeat(1, 3, 1, 1), torch.zeros(1, 1, height, width)
    expected = canny(gray, 1 - hole, 1.0, 0.05, 0.5)
    assert bool(expected[..., 300:380].any()), "far from where it is strong"
    assert np.array_equal(run(image, hole)[2], expected.numpy())


def test_nothing_stays_replaced() -> None:
    before = (fill._bent, edges._canny)

    def fail() -> None:
        with operators():
            assert fill._bent is not before[0]
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert (fill._bent, edges._canny) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((7, 9), (20, 31)),
        ((1, 5), (3, 5)),
        ((40, 33), (40, 100)),
        ((50, 60), (17, 23)),
        ((9, 9), (1, 1)),
        ((1, 1), (4, 3)),
    ],
)
def test_resampling_equals_torch(old: tuple[int, int], new: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).random((*old, 3), dtype=np.float32)
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None]
    for mode, ours in (("bicubic", cubic), ("bilinear", linear)):
        theirs = F.interpolate(tensor, size=new, mode=mode, align_corners=False)[0].permute(1, 2, 0).numpy()
        made = ours(picture, new)
        assert made.dtype == np.float32
        assert np.abs(made - theirs).max() < 1e-5  # torch finds its places in float32, we in float64
        assert np.array_equal(ours(picture, new, 1, new[0]), made[1:])
    if new[0] <= old[0] and new[1] <= old[1]:
        pooled = F.adaptive_avg_pool2d(tensor, new)[0].permute(1, 2, 0).numpy()
        assert np.abs(averages(picture, new) - pooled).max() < 1e-6


def test_mirrored_is_numpy_reflect_or_symmetric() -> None:
    for size in range(2, 9):
        for padded in range(size, 40):
            before = (padded - size) // 2
            expected = np.pad(np.arange(size), (before, padded - size - before), mode="reflect")
            assert np.array_equal(mirrored(size, padded), expected)
            at_end = np.pad(np.arange(size), (0, padded - size), mode="symmetric")
            assert np.array_equal(mirrored(size, padded, "end"), at_end)
    assert mirrored(1, 4).tolist() == mirrored(1, 4, "end").tolist() == [0, 0, 0, 0]
