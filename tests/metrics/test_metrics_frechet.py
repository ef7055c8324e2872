"""Frechet and kernel distances against scipy's matrix root, torchmetrics, closed forms and loops."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cicm.conventions import InputError
from cicm.metrics.frechet import FrechetStatistics, frechet_distance
from cicm.metrics.kernel import kernel_distance


def features(count: int, dimensions: int, seed: int, offset: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=generator, dtype=torch.float64)
    return torch.randn(count, dimensions, generator=generator, dtype=torch.float64) @ mixing + offset


def statistics(rows: Tensor) -> FrechetStatistics:
    made = FrechetStatistics(rows.shape[1])
    made.update(rows)
    return made


def between(x: Tensor, y: Tensor) -> float:
    a, b = statistics(x), statistics(y)
    return frechet_distance(a.mean, a.covariance(), b.mean, b.covariance())


def test_agrees_with_the_matrix_root_of_scipy() -> None:
    for dimensions in (1, 2, 7, 24):
        linalg = pytest.importorskip("scipy.linalg")
        x, y = features(80, dimensions, 1), features(60, dimensions, 2, offset=0.5)
        cov_x, cov_y = (np.atleast_2d(np.cov(rows.numpy(), rowvar=False)) for rows in (x, y))
        root = linalg.sqrtm(cov_x @ cov_y)
        expected = ((x.mean(0) - y.mean(0)) ** 2).sum().item() + np.trace(cov_x + cov_y - 2 * root.real)
        # 1e-8: the matrix root of a product of condition 1e6 keeps about ten digits
        assert between(x, y) == pytest.approx(expected, rel=1e-8), dimensions


def test_agrees_with_torchmetrics_on_a_feature_network_of_our_own(pictures: tuple[Tensor, Tensor]) -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")

    class Means(nn.Module):
        num_features = 6

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3))], dim=1)

    generator = torch.Generator().manual_seed(5)
    real = torch.rand(40, 3, 8, 8, generator=generator).pow(2)
    fake = torch.rand(40, 3, 8, 8, generator=generator)
    judge = fid.FrechetInceptionDistance(feature=Means(), input_img_size=(3, 8, 8))
    judge.set_dtype(torch.float64)
    for start in range(0, 40, 16):
        judge.update(real[start : start + 16], real=True)
        judge.update(fake[start : start + 16], real=False)
    # 1e-4: it sums squares of float32 features, ours are centred first
    assert between(Means()(fake), Means()(real)) == pytest.approx(judge.compute().item(), rel=1e-4)


def test_closed_form_of_diagonal_covariances() -> None:
    a, b = torch.tensor([4.0, 9.0, 0.0]).double(), torch.tensor([1.0, 16.0, 25.0]).double()
    mean = torch.zeros(3).double()
    # sum of (sqrt a - sqrt b)^2 = 1 + 1 + 25, and a shift of (1, 2, 2) adds 9
    assert frechet_distance(mean, a.diag(), mean, b.diag()) == pytest.approx(27, abs=1e-12)
    assert frechet_distance(mean, a.diag(), torch.tensor([1.0, 2.0, 2.0]).double(), b.diag()) == pytest.approx(36)


def test_a_set_and_itself_have_no_distance_and_a_shift_its_square() -> None:
    rows = features(100, 16, 3)
    scale = statistics(rows).covariance().trace().item()
    # 1e-13 of the trace: rounding of a sum of that size
    assert between(rows, rows) <= 1e-12 * scale
    assert between(rows + 3.0, rows) == pytest.approx(16 * 9, rel=1e-9)
    assert between(rows, features(50, 16, 4)) == pytest.approx(between(features(50, 16, 4), rows), rel=1e-9)


def test_singular_covariances_stay_real() -> None:
    x, y = features(5, 30, 1), features(5, 30, 2)  # rank 4 of 30
    distance = between(x, y)
    # on the joint span of the ten rows (dimension 8 + the shift) the same distance is regular enough for a check
    basis = torch.linalg.svd(torch.cat([x, y]), full_matrices=False).Vh
    # 1e-6: the root of an eigenvalue that should be 0 is about 1e-8 of the largest
    assert distance == pytest.approx(between(x @ basis.T, y @ basis.T), rel=1e-6)
    assert distance > 0


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [3, 17, 20]])
def test_batches_add_up(sizes: list[int]) -> None:
    rows = features(40, 6, 8, offset=1e4)  # large against their spread: sums of squares would lose eight digits
    made = FrechetStatistics(6)
    for part in (rows[:0], *rows.split(sizes)):
        made.update(part)
    expected = torch.from_numpy(np.cov(rows.numpy(), rowvar=False))
    assert made.num_images == 40
    # 1e-9: features of 1e4 carry an error of 1e-12, squared sums of a spread of 10 amplify it a little
    torch.testing.assert_close(made.mean, rows.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(made.covariance(), expected, rtol=1e-9, atol=1e-9)


def test_bad_features_are_refused_and_leave_no_trace() -> None:
    made = statistics(features(10, 3, 1))
    before = made.scatter.clone()
    with pytest.raises(InputError, match="finite"):
        made.update(torch.full((2, 3), float("nan")))
    with pytest.raises(InputError, match=r"\(B, 3\)"):
        made.update(torch.zeros(2, 4))
    assert made.num_images == 10
    assert torch.equal(made.scatter, before)
    with pytest.raises(InputError, match="at least 2 images"):
        statistics(features(1, 3, 1)).covariance()


def test_kernel_distance_equals_a_loop() -> None:
    x, y = features(6, 4, 1), features(5, 4, 2, offset=0.3)

    def kernel(a: Tensor, b: Tensor) -> float:
        return ((a @ b).item() / 4 + 1) ** 3

    within_x = np.mean([kernel(x[i], x[j]) for i in range(6) for j in range(6) if i != j])
    within_y = np.mean([kernel(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    across = np.mean([kernel(a, b) for a in x for b in y])
    # 1e-10: cubes of numbers around 10, summed in another order
    assert kernel_distance(x, y) == pytest.approx(within_x + within_y - 2 * across, rel=1e-10)
    others = np.mean([kernel(x[i], y[j]) for i in range(5) for j in range(5) if i != j])
    within_x = np.mean([kernel(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    expected = within_x + within_y - 2 * others
    assert kernel_distance(x[:5], y, paired=True) == pytest.approx(expected, rel=1e-10)
    with pytest.raises(InputError, match="at least 2"):
        kernel_distance(x[:1], y)
    with pytest.raises(InputError, match="same size"):
        kernel_distance(x, y, paired=True)


def test_kernel_distance_does_not_depend_on_the_number_of_images_where_frechet_does() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> Tensor:
        return torch.randn(count, 8, generator=generator, dtype=torch.float64)

    kernels = torch.tensor([kernel_distance(draw(12), draw(12)) for _ in range(300)])
    # the two sets come from one distribution: the mean over draws is 0 within three of its standard errors
    assert abs(kernels.mean().item()) < 3 * kernels.std().item() / 300**0.5
    # and the same for two sets that are noise apart, image by image: pairs must not pull it down
    pairs = [draw(12) for _ in range(300)]
    paired = torch.tensor([kernel_distance(x, 0.6 * x + 0.8 * draw(12), paired=True) for x in pairs])
    assert abs(paired.mean().item()) < 3 * paired.std().item() / 300**0.5
    naive = torch.tensor([kernel_distance(x, 0.6 * x + 0.8 * draw(12)) for x in pairs])
    assert naive.mean().item() < -5 * naive.std().item() / 300**0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few = np.mean([between(draw(12), draw(12)) for _ in range(50)])
        many = np.mean([between(draw(400), draw(400)) for _ in range(10)])
    assert few > 10 * many > 0
