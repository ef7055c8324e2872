"""PSNR, SSIM and L1 against scikit-image, torchmetrics, loops, and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cicm.conventions import InputError
from cicm.metrics import to_8bit
from cicm.metrics.l1 import l1
from cicm.metrics.pixels import COLORS, one_channel, quantised
from cicm.metrics.psnr import psnr
from cicm.metrics.ssim import ssim

# both sides are float64 and differ in the order of sums only; the division in SSIM amplifies that by at most 1 / 0.03^2
ROUNDING = 1e-9


def as_arrays(batch: Tensor) -> list[np.ndarray]:
    return [picture.permute(1, 2, 0).double().numpy() for picture in batch]


def test_psnr_agrees_with_scikit_image(pictures: tuple[Tensor, Tensor]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    composite, image = pictures
    expected = [
        metrics.peak_signal_noise_ratio(truth, ours, data_range=1)
        for ours, truth in zip(as_arrays(composite), as_arrays(image))
    ]
    assert psnr(composite, image).tolist() == pytest.approx(expected, abs=ROUNDING)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param({}, {}, id="default"),
        pytest.param({"size": 11}, {"win_size": 11}, id="uniform 11"),
        pytest.param({"size": 39}, {"win_size": 39}, id="uniform, nearly the whole image"),
        pytest.param({"sample_covariance": False}, {"use_sample_covariance": False}, id="population covariance"),
        pytest.param({"window": "gaussian"}, {"gaussian_weights": True}, id="gaussian"),
        pytest.param(
            {"window": "gaussian", "sample_covariance": False},
            {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
            id="as in the paper",
        ),
    ],
)
def test_ssim_agrees_with_scikit_image(pictures: tuple[Tensor, Tensor], ours: dict, theirs: dict) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    composite, image = pictures
    expected = [
        metrics.structural_similarity(a, b, data_range=1, channel_axis=2, **theirs)
        for a, b in zip(as_arrays(composite), as_arrays(image))
    ]
    assert ssim(composite, image, **ours).tolist() == pytest.approx(expected, abs=ROUNDING)


def test_psnr_and_gaussian_ssim_agree_with_torchmetrics(pictures: tuple[Tensor, Tensor]) -> None:
    judge = pytest.importorskip("torchmetrics.functional.image")
    composite, image = (picture.double() for picture in pictures)
    # 1e-5 dB: torchmetrics multiplies by 10 / ln 10 in float32
    expected = judge.peak_signal_noise_ratio(composite, image, data_range=1.0, dim=(1, 2, 3), reduction="none")
    assert psnr(composite, image).tolist() == pytest.approx(expected.tolist(), abs=1e-5)

    _, everywhere = judge.structural_similarity_index_measure(
        composite, image, sigma=1.5, data_range=1.0, reduction="none", return_full_image=True
    )
    inside = everywhere[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))  # it also counts windows over a mirrored border
    ours = ssim(composite, image, window="gaussian", sample_covariance=False)
    assert ours.tolist() == pytest.approx(inside.tolist(), abs=ROUNDING)


def test_ssim_equals_a_loop_over_windows() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(2, 1, 3, 9, 8, generator=generator, dtype=torch.float64)
    values = []
    for channel in range(3):
        for top in range(9 - 7 + 1):
            for left in range(8 - 7 + 1):
                a = x[0, channel, top : top + 7, left : left + 7].numpy().ravel()
                b = y[0, channel, top : top + 7, left : left + 7].numpy().ravel()
                cov = np.cov(a, b, ddof=1)
                luminance = (2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4)
                structure = (2 * cov[0, 1] + 9e-4) / (cov[0, 0] + cov[1, 1] + 9e-4)
                values.append(luminance * structure)
    assert ssim(x, y).item() == pytest.approx(np.mean(values), abs=ROUNDING)


def test_l1_of_sixteen_values_by_hand() -> None:
    image = torch.zeros(1, 3, 4, 4)
    composite = torch.zeros(1, 3, 4, 4)
    # differences of 0, 1, ..., 15 sixteenths in green: their sum is 120 / 16 = 7.5, over 48 values 0.15625
    composite[0, 1] = torch.arange(16).view(4, 4) / 16
    assert l1(composite, image).item() == 15.625  # sixteenths are exact in binary
    assert l1(image, composite).item() == 15.625


def test_psnr_by_hand() -> None:
    image = torch.zeros(2, 3, 4, 4)
    composite = image.clone()
    composite[0] = 0.5  # mean square 1/4
    composite[1, 0, 0, 0] = 1.0  # mean square 1/48
    # 1e-12: the logarithm's last digit
    assert psnr(composite, image).tolist() == pytest.approx([10 * np.log10(4), 10 * np.log10(48)], abs=1e-12)


def test_identical_images_have_the_ideal_value(pictures: tuple[Tensor, Tensor]) -> None:
    _, image = pictures
    assert psnr(image, image).tolist() == [100.0] * 4
    assert l1(image, image).tolist() == [0.0] * 4
    assert ssim(image, image).tolist() == pytest.approx([1.0] * 4, abs=ROUNDING)
    assert ssim(image, image, window="gaussian").tolist() == pytest.approx([1.0] * 4, abs=ROUNDING)


def test_any_psnr_is_capped_at_100_db() -> None:
    image = torch.zeros(1, 3, 256, 256, dtype=torch.float64)
    composite = image.clone()
    composite[0, 0, 0, 0] = 1 / 255  # 10 log10(3 * 256^2 * 255^2) = 101.07 dB
    assert psnr(composite, image).item() == 100.0
    composite[0, 0, 0, :2] = 1 / 255  # 98.06 dB
    assert psnr(composite, image).item() == pytest.approx(10 * np.log10(3 * 256**2 * 255**2 / 2), abs=ROUNDING)


def test_each_image_is_scored_for_itself(pictures: tuple[Tensor, Tensor]) -> None:
    for score in (psnr, ssim, l1):
        composite, image = pictures
        alone = [score(composite[i : i + 1], image[i : i + 1]).item() for i in range(4)]
        # 1e-12: other numbers of images may be summed in another order
        assert score(composite, image).tolist() == pytest.approx(alone, abs=1e-12), score
        assert score(composite, image).dtype == torch.float64, score


def test_to_8bit_is_what_a_file_would_hold() -> None:
    values = torch.linspace(-0.5, 1.5, 3 * 401, dtype=torch.float64).view(1, 3, 401, 1)
    stored = np.rint(np.clip(values.numpy(), 0, 1) * 255).astype(np.uint8)
    rounded = to_8bit(values)
    assert np.array_equal((rounded * 255).round().numpy().astype(np.uint8), stored)
    assert torch.equal(to_8bit(rounded), rounded)
    every = (torch.arange(256).view(1, 1, 16, 16) / 255).expand(1, 3, 16, 16)
    assert torch.equal(to_8bit(every), every)
    assert to_8bit(every.half()).dtype == torch.float32
    assert torch.equal(to_8bit(every.half()), every)


def test_down_is_what_a_cast_to_bytes_does() -> None:
    values = torch.linspace(-0.5, 1.5, 3 * 401).view(1, 3, 401, 1)
    stored = (np.clip(values.numpy(), 0, 1) * np.float32(255)).astype(np.uint8)
    for picture in (values, values.double()):
        assert np.array_equal((quantised(picture, "down") * 255).round().numpy().astype(np.uint8), stored)
    every = (torch.arange(256).view(1, 1, 16, 16) / 255).expand(1, 3, 16, 16)
    assert torch.equal(quantised(every, "down"), every), "a photo's own values stay"
    assert torch.equal(quantised(quantised(values, "down"), "down"), quantised(values, "down"))
    assert torch.equal(quantised(values, "none"), values.clamp(0, 1))
    with pytest.raises(InputError, match="unknown rounding 'up'"):
        quantised(values, "up")


def test_grey_is_that_of_scikit_image(pictures: tuple[Tensor, Tensor]) -> None:
    from skimage.color import rgb2gray

    picture = pictures[0].double()
    for array, ours in zip(as_arrays(picture), one_channel(picture, "grey")):
        assert np.allclose(ours[0].numpy(), rgb2gray(array), atol=1e-12)
    for array, ours in zip(as_arrays(picture), one_channel(picture, "grey-bgr")):
        assert np.allclose(ours[0].numpy(), rgb2gray(array[..., ::-1]), atol=1e-12)
    assert torch.allclose(one_channel(picture, "mean")[:, 0], picture.mean(dim=1))
    assert all(weights is None or sum(weights) == pytest.approx(1) for weights in COLORS.values())


def test_relative_l1_by_hand() -> None:
    image = torch.full((3, 3, 2, 2), 0.25)
    composite = image.clone()
    composite[0] = 0.75  # |d| 0.5 everywhere, sum 1.0 everywhere
    composite[1, 0] = 0.0  # a quarter in one of three channels: 0.25 / (0.25 + 2 x 0.5)
    assert l1(composite, image, relative=True).tolist() == pytest.approx([50.0, 20.0, 0.0], abs=1e-12)
    black = torch.zeros(1, 3, 2, 2)
    assert l1(black, black, relative=True).item() == 0.0
    # errors of opposite sign cancel in the mean over channels
    opposite = torch.tensor([0.25, 0.75, 0.5]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert l1(opposite, torch.full((1, 3, 2, 2), 0.5), color="mean").item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("score", [psnr, ssim, l1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(score, value: float) -> None:
    image = torch.zeros(3, 3, 16, 16)
    broken = image.clone()
    broken[1, 0, 3, 3] = value
    with pytest.raises(InputError, match=r"composite must be finite.*images \[1\]"):
        score(broken, image)
    with pytest.raises(InputError, match="image must be finite"):
        score(image, broken)
    with pytest.raises(InputError, match="finite"):
        to_8bit(broken)


def test_what_cannot_be_scored_is_refused() -> None:
    for score in (psnr, ssim, l1):
        image = torch.rand(2, 3, 16, 16)
        with pytest.raises(InputError, match=r"\[0, 1\].*to_8bit"):
            score(image * 2 - 1, image)
        with pytest.raises(InputError, match=r"x / 255"):
            score(image, image * 255)
        with pytest.raises(InputError, match="same shape"):
            score(image, image[:1])
        with pytest.raises(InputError, match="at least one image"):
            score(image[:0], image[:0])
        with pytest.raises(InputError, match=r"\(B, 3, H, W\)"):
            score(image[:, :1], image[:, :1])
        with pytest.raises(InputError, match="floating point"):
            score((image * 255).byte(), (image * 255).byte())
        # in half precision a composite may leave [0, 1] by a rounding
        score((image + 4e-4).clamp(max=1.0004), image)


def test_ssim_windows_that_make_no_sense_are_refused() -> None:
    image = torch.rand(1, 3, 10, 10)
    with pytest.raises(InputError, match="must fit into the image"):
        ssim(image, image, size=11)
    with pytest.raises(InputError, match="odd"):
        ssim(image, image, size=6)
    with pytest.raises(InputError, match="'round'"):
        ssim(image, image, window="round")
    with pytest.raises(InputError, match="border must be 'inside' or 'zeros'; got 'mirror'"):
        ssim(image, image, border="mirror")
