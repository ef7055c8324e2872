"""The terms that RFR, MISF and JPGNet were published with: loops from their formulas, and what must hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cicm.conventions import InputError
from cicm.metrics.ssim import ssim
from cicm.objectives import (
    ADVERSARIES,
    JPGNetObjective,
    MISFObjective,
    ObjectiveConfig,
    RFRObjective,
    Seen,
    Weights,
    bce_discriminator_loss,
    bce_generator_loss,
    masked_l1,
    perceptual,
    share_l1,
    structural_similarity,
    style,
    total_variation,
    weighted_total,
)
from cicm.objectives.reconstruction import LEAST_SHARE
from cicm.objectives.structure import similarity

EXACT = 1e-12  # float64, some hundred terms of size 1


@pytest.fixture
def seen() -> Seen:
    """Two pictures of 6x5 with holes of 3 and 12 pixels; predictions also outside [0, 1]."""
    prediction, image = torch.randn(2, 3, 6, 5, dtype=torch.float64), torch.rand(2, 3, 6, 5, dtype=torch.float64)
    hole = torch.zeros(2, 1, 6, 5, dtype=torch.float64)
    hole[0, 0, 1:4, 2] = 1
    hole[1, 0, :4, :3] = 1
    return Seen(prediction, prediction * hole + image * (1 - hole), image, hole)


def cells(picture: Tensor):
    b, c, h, w = picture.shape
    return [(i, j, y, x) for i in range(b) for j in range(c) for y in range(h) for x in range(w)]


# Pixel terms ----------------------------------------------------------------------------------------------------------


def test_rfrs_valid_and_hole_divide_by_all_elements(seen: Seen) -> None:
    totals = {0: 0.0, 1: 0.0}
    for i, j, y, x in cells(seen.image):
        totals[int(seen.hole[i, 0, y, x])] += abs(float(seen.prediction[i, j, y, x] - seen.image[i, j, y, x])) / 180
    assert masked_l1(seen.prediction, seen.image, seen.hole).item() == pytest.approx(totals[1], abs=EXACT)
    assert masked_l1(seen.prediction, seen.image, 1 - seen.hole).item() == pytest.approx(totals[0], abs=EXACT)


def test_misfs_l1_divides_each_image_by_its_missing_share(seen: Seen) -> None:
    per_image = [0.0, 0.0]
    for i, j, y, x in cells(seen.image):
        per_image[i] += abs(float(seen.prediction[i, j, y, x] - seen.image[i, j, y, x])) / 90
    expected = (per_image[0] / (3 / 30) + per_image[1] / (12 / 30)) / 2
    assert share_l1(seen.prediction, seen.image, seen.hole).item() == pytest.approx(expected, abs=EXACT)
    # and as the original writes it: both means over the batch
    whole = (per_image[0] + per_image[1]) / 2 / (15 / 60)
    got = share_l1(seen.prediction, seen.image, seen.hole, seen.hole.mean())
    assert got.item() == pytest.approx(whole, abs=EXACT)
    assert whole != pytest.approx(expected, rel=0.05)


def test_without_a_hole_misfs_l1_stays_finite() -> None:
    image = torch.zeros(1, 3, 4, 4)
    assert share_l1(image + 1, image, torch.zeros(1, 1, 4, 4)).item() == pytest.approx(1 / LEAST_SHARE)


def test_total_variation_is_the_mean_of_the_steps(seen: Seen) -> None:
    picture = seen.composite * seen.hole
    across, down = [], []
    for i, j, y, x in cells(picture):
        if x + 1 < 5:
            across.append(abs(float(picture[i, j, y, x + 1] - picture[i, j, y, x])))
        if y + 1 < 6:
            down.append(abs(float(picture[i, j, y + 1, x] - picture[i, j, y, x])))
    expected = sum(across) / len(across) + sum(down) / len(down)
    assert total_variation(picture).item() == pytest.approx(expected, abs=EXACT)


# SSIM -----------------------------------------------------------------------------------------------------------------


def ssim_by_hand(first: Tensor, second: Tensor) -> float:
    """Wang's formula on one channel, window by window, zeros beyond the border."""
    weights = [[math.exp(-((u - 5) ** 2 + (v - 5) ** 2) / 4.5) for v in range(11)] for u in range(11)]
    whole = sum(map(sum, weights))
    h, w = first.shape
    total = 0.0
    for y in range(h):
        for x in range(w):
            m1 = m2 = s11 = s22 = s12 = 0.0
            for u in range(11):
                for v in range(11):
                    yy, xx = y + u - 5, x + v - 5
                    if 0 <= yy < h and 0 <= xx < w:
                        a, b, k = float(first[yy, xx]), float(second[yy, xx]), weights[u][v] / whole
                        m1, m2 = m1 + k * a, m2 + k * b
                        s11, s22, s12 = s11 + k * a * a, s22 + k * b * b, s12 + k * a * b
            s11, s22, s12 = s11 - m1 * m1, s22 - m2 * m2, s12 - m1 * m2
            total += (2 * m1 * m2 + 1e-4) * (2 * s12 + 9e-4) / ((m1**2 + m2**2 + 1e-4) * (s11 + s22 + 9e-4))
    return total / (h * w)


def test_ssim_is_the_formula() -> None:
    first, second = torch.rand(1, 2, 7, 9, dtype=torch.float64), torch.rand(1, 2, 7, 9, dtype=torch.float64)
    expected = sum(ssim_by_hand(first[0, c], second[0, c]) for c in range(2)) / 2
    assert structural_similarity(first, second).item() == pytest.approx(expected, abs=1e-9)  # variances cancel


def test_ssim_inside_the_border_is_the_metric() -> None:
    first, second = torch.rand(2, 3, 20, 24, dtype=torch.float64), torch.rand(2, 3, 20, 24, dtype=torch.float64)
    inside = similarity(first, second)[..., 5:-5, 5:-5].mean((1, 2, 3))
    torch.testing.assert_close(
        inside, ssim(first, second, window="gaussian", sample_covariance=False), atol=1e-9, rtol=0
    )


def test_ssim_has_a_gradient_where_a_prediction_leaves_the_range() -> None:
    image = torch.rand(1, 3, 16, 16)
    prediction = (image * 3 - 1).requires_grad_()
    structural_similarity(prediction, image).backward()
    assert torch.isfinite(prediction.grad).all()
    assert prediction.grad.abs().sum() > 0


# Features -------------------------------------------------------------------------------------------------------------


def test_perceptual_and_style_are_their_loops() -> None:
    maps = [torch.randn(2, 3, 4, 2, dtype=torch.float64), torch.randn(2, 5, 2, 1, dtype=torch.float64)]
    targets = [torch.randn_like(m) for m in maps]
    differ = matrices = divided = 0.0
    for a, b in zip(maps, targets, strict=True):
        n, c, h, w = a.shape
        differ += sum(abs(float(a[at] - b[at])) for at in cells(a)) / a.numel()
        for i in range(n):
            for p in range(c):
                for q in range(c):
                    ours = sum(float(a[i, p, y, x] * a[i, q, y, x]) for y in range(h) for x in range(w))
                    theirs = sum(float(b[i, p, y, x] * b[i, q, y, x]) for y in range(h) for x in range(w))
                    divided += abs(ours - theirs) / (c * h * w) / (n * c * c)  # RFR
                    matrices += abs(ours / (c * h * w) - theirs / (c * h * w)) / (n * c * c)  # MISF
    assert perceptual(maps, targets).item() == pytest.approx(differ, abs=EXACT)
    assert style(maps, targets).item() == pytest.approx(divided, abs=EXACT)
    assert style(maps, targets).item() == pytest.approx(matrices, abs=EXACT)


def test_style_forgets_where_things_are_and_perceptual_does_not() -> None:
    maps = [torch.randn(1, 3, 4, 4, dtype=torch.float64)]
    shuffled = [maps[0].flatten(2)[..., torch.randperm(16)].view(1, 3, 4, 4)]
    assert style(shuffled, maps).item() == pytest.approx(0, abs=EXACT)
    assert perceptual(shuffled, maps).item() > 0.1


# The adversarial pair -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1,), (5,), (2, 1, 3, 4)])
def test_bce_is_the_cross_entropy(shape: tuple[int, ...]) -> None:
    real, fake = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    of = lambda z: 1 / (1 + math.exp(-z))  # noqa: E731
    r, f = real.flatten().tolist(), fake.flatten().tolist()
    generator = sum(-math.log(of(z)) for z in f) / len(f)
    discriminator = (sum(-math.log(of(z)) for z in r) / len(r) + sum(-math.log(1 - of(z)) for z in f) / len(f)) / 2
    assert bce_generator_loss(real, fake).item() == pytest.approx(generator, abs=EXACT)
    assert bce_discriminator_loss(real, fake).item() == pytest.approx(discriminator, abs=EXACT)


def test_the_two_sides_of_each_pair_pull_in_opposite_directions_and_stay_finite() -> None:
    for name in list(ADVERSARIES):
        generator, discriminator = ADVERSARIES[name]
        fake = torch.tensor([-1e4, -1.0, 1e4], requires_grad=True)
        up = torch.autograd.grad(generator(torch.zeros(3), fake), fake)[0]
        down = torch.autograd.grad(discriminator(torch.zeros(3), fake), fake)[0]
        assert torch.isfinite(up).all(), name
        assert torch.isfinite(down).all(), name
        assert up.sum() < 0 < down.sum(), name


# The sections ---------------------------------------------------------------------------------------------------------


def look(images: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """Maps that differ by layer: the name's length and letters set the factor."""
    return [images * (1 + sum(map(ord, name)) % 7) for name in layers]


def test_rfrs_section_looks_at_the_prediction_and_at_the_composite(seen: Seen) -> None:
    seen = replace(seen, features={"vgg16": look})
    terms = RFRObjective().terms(seen)
    assert list(terms) == ["rfr.valid", "rfr.hole", "rfr.variation", "rfr.perceptual", "rfr.style"]
    layers = ["pool1", "pool2", "pool3"]
    maps = {name: look(picture, layers) for name, picture in vars(seen).items() if name in ("prediction", "composite")}
    targets = look(seen.image, layers)
    both = sum(perceptual(m, targets) for m in maps.values())
    assert terms["rfr.perceptual"].item() == pytest.approx(both.item(), abs=EXACT)
    both = sum(style(m, targets) for m in maps.values())
    assert terms["rfr.style"].item() == pytest.approx(both.item(), abs=EXACT)
    assert terms["rfr.variation"].item() == total_variation(seen.composite * seen.hole).item()


def test_misfs_section_compares_style_in_the_hole_alone(seen: Seen) -> None:
    seen = replace(seen, features={"vgg19": look})
    terms = MISFObjective().terms(seen)
    assert list(terms) == ["misf.l1", "misf.perceptual", "misf.style"]
    elsewhere = replace(seen, prediction=seen.prediction + (1 - seen.hole))
    assert MISFObjective().terms(elsewhere)["misf.style"].item() == terms["misf.style"].item()
    assert MISFObjective().terms(elsewhere)["misf.perceptual"].item() != terms["misf.perceptual"].item()
    layers = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    expected = perceptual(look(seen.prediction, layers), look(seen.image, layers))
    assert terms["misf.perceptual"].item() == pytest.approx(expected.item(), abs=EXACT)
    layers = ["relu2_2", "relu3_4", "relu4_4", "relu5_2"]
    expected = style(look(seen.prediction * seen.hole, layers), look(seen.image * seen.hole, layers))
    assert terms["misf.style"].item() == pytest.approx(expected.item(), abs=EXACT)


def test_jpgnets_section_is_l1_minus_ssim(seen: Seen) -> None:
    terms = JPGNetObjective().terms(seen)
    total = weighted_total(terms, Weights(), JPGNetObjective().weights())
    l1 = (seen.prediction - seen.image).abs().mean()
    expected = l1 - 0.2 * structural_similarity(seen.prediction, seen.image)
    assert total.item() == pytest.approx(expected.item(), abs=EXACT)


def test_the_published_weights_are_the_defaults() -> None:
    assert RFRObjective().weights() == {
        "rfr.valid": 1, "rfr.hole": 6, "rfr.perceptual": 0.05, "rfr.style": 120, "rfr.variation": 0.1,
    }  # fmt: skip
    assert MISFObjective().weights() == {"misf.l1": 1, "misf.perceptual": 0.1, "misf.style": 250}
    assert JPGNetObjective().weights() == {"jpgnet.l1": 1, "jpgnet.ssim": 0.2}


def test_a_term_of_weight_0_is_not_computed_and_is_told(seen: Seen) -> None:
    section = RFRObjective(perceptual=0.0, style=0.0, valid=0.0)
    assert list(section.terms(seen)) == ["rfr.hole", "rfr.variation"]  # no features were given
    assert section.left_out() == ["rfr.valid", "rfr.perceptual", "rfr.style"]
    assert section.needs_features() == []
    assert RFRObjective(style=0.0).needs_features() == ["rfr.perceptual"]


def test_the_terms_are_means_over_the_images_of_a_batch(seen: Seen) -> None:
    """What lets a batch be cut; MISF's L1 with the batch's share too, as long as the share is given."""
    given = replace(seen, features={"vgg16": look, "vgg19": look}, share=seen.hole.mean())
    for section in (RFRObjective(), MISFObjective(), MISFObjective(share="batch"), JPGNetObjective()):
        whole = section.terms(given)
        parts = []
        for i in range(2):
            pieces = {n: getattr(given, n)[i : i + 1] for n in ("prediction", "composite", "image", "hole")}
            parts.append(section.terms(replace(given, **pieces)))
        for name, value in whole.items():
            assert (parts[0][name] + parts[1][name]).item() / 2 == pytest.approx(value.item(), abs=EXACT), name


def test_by_default_the_objective_is_the_papers_alone() -> None:
    objective = ObjectiveConfig()
    assert (objective.sections, objective.published) == ((), {})
    assert (objective.adversary, objective.judged) == ("ragan", "composite")
    with pytest.raises(InputError, match="has no weight"):
        weighted_total({"rfr.hole": torch.tensor(1.0)}, Weights(), objective.published)
