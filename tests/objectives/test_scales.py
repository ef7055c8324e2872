"""The terms that gated convolution and PEN-Net were published with: loops and gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cicm.conventions import InputError
from cicm.objectives import (
    ADVERSARIES,
    GatedObjective,
    PENObjective,
    Seen,
    Weights,
    hinge_discriminator_loss,
    hinge_generator_loss,
    pyramid_l1,
    weighted_total,
)
from cicm.objectives.reconstruction import LEAST_SHARE

EXACT = 1e-12  # float64, some hundred terms of size 1
SIDES = (1, 2, 3, 4, 6)


@pytest.fixture
def seen() -> Seen:
    """Two pictures of 6x5 with holes of 3 and 12 pixels, and five smaller predictions."""
    prediction, image = torch.randn(2, 3, 6, 5, dtype=torch.float64), torch.rand(2, 3, 6, 5, dtype=torch.float64)
    hole = torch.zeros(2, 1, 6, 5, dtype=torch.float64)
    hole[0, 0, 1:4, 2] = 1
    hole[1, 0, :4, :3] = 1
    earlier = tuple(torch.rand(2, 3, side, side, dtype=torch.float64) for side in SIDES)
    return Seen(prediction, prediction * hole + image * (1 - hole), image, hole, earlier=earlier)


def in_network_range(picture: Tensor) -> Tensor:
    return 2 * picture - 1


def test_gateds_terms_are_l1_of_both_stages_in_the_networks_range(seen: Seen) -> None:
    rough = torch.rand_like(seen.image)
    terms = GatedObjective().terms(replace(seen, earlier=(rough,)))
    for name, picture in (("gated.rough", rough), ("gated.fine", seen.prediction)):
        expected = F.l1_loss(in_network_range(picture), in_network_range(seen.image))
        assert terms[name].item() == pytest.approx(expected.item(), abs=EXACT)


def test_pens_terms_are_the_loops_over_pixels_in_the_networks_range(seen: Seen) -> None:
    terms = PENObjective().terms(seen)
    ours, theirs = in_network_range(seen.prediction), in_network_range(seen.image)
    sums, counts = {0: 0.0, 1: 0.0}, {0: 0, 1: 0}
    for i in range(2):
        for y in range(6):
            for x in range(5):
                kind = int(seen.hole[i, 0, y, x])
                counts[kind] += 1
                sums[kind] += sum(abs(float(ours[i, c, y, x] - theirs[i, c, y, x])) for c in range(3))
    # the mean over all pixels, divided by the share of those that count, is the mean over these
    assert terms["pen.hole"].item() == pytest.approx(sums[1] / counts[1] / 3, abs=EXACT)
    assert terms["pen.valid"].item() == pytest.approx(sums[0] / counts[0] / 3, abs=EXACT)
    total = 0.0
    for picture in seen.earlier:
        target = F.interpolate(theirs, size=picture.shape[2:], mode="bilinear", align_corners=True)
        total += F.l1_loss(in_network_range(picture), target).item()
    assert terms["pen.pyramid"].item() == pytest.approx(total, abs=EXACT)


def test_a_reduced_image_keeps_its_corners() -> None:
    image = torch.arange(25.0).view(1, 1, 5, 5).expand(1, 3, 5, 5)
    corners = image[..., ::4, ::4]
    assert pyramid_l1((corners, image), image).item() == 0
    assert pyramid_l1((corners + 1, image + 2), image).item() == 3


def test_without_a_hole_or_without_anything_known_the_terms_stay_finite(seen: Seen) -> None:
    for hole in (0 * seen.hole, 0 * seen.hole + 1):
        terms = PENObjective().terms(replace(seen, hole=hole))
        error = 2 * (seen.prediction - seen.image).abs().mean().item()
        found = {name: terms[name].item() for name in ("pen.hole", "pen.valid")}
        assert sorted(found.values()) == pytest.approx([0, error], abs=EXACT)
    one = replace(seen, hole=0 * seen.hole, share=torch.tensor(0.0))
    assert PENObjective().terms(one)["pen.hole"].item() == 0
    assert LEAST_SHARE > 0


def test_the_terms_are_means_over_the_images_of_a_batch(seen: Seen) -> None:
    """What lets a batch be cut, as long as the share of the whole batch is given."""
    given = replace(seen, share=seen.hole.mean())
    whole, parts = PENObjective().terms(given), []
    for i in range(2):
        pieces = {n: getattr(given, n)[i : i + 1] for n in ("prediction", "composite", "image", "hole")}
        parts.append(PENObjective().terms(replace(given, **pieces, earlier=tuple(e[i : i + 1] for e in given.earlier))))
    for name, value in whole.items():
        assert (parts[0][name] + parts[1][name]).item() / 2 == pytest.approx(value.item(), abs=EXACT), name


def test_the_gradient_is_that_of_small_steps(seen: Seen) -> None:
    leaves = [one.clone().requires_grad_() for one in (seen.prediction, *seen.earlier)]

    def pen(prediction: Tensor, *earlier: Tensor) -> Tensor:
        section = PENObjective()
        terms = section.terms(replace(seen, prediction=prediction, earlier=earlier))
        return weighted_total(terms, Weights(), section.weights())

    assert torch.autograd.gradcheck(pen, leaves)

    def gated(fine: Tensor, rough: Tensor) -> Tensor:
        section = GatedObjective()
        terms = section.terms(replace(seen, prediction=fine, earlier=(rough,)))
        return weighted_total(terms, Weights(), section.weights())

    assert torch.autograd.gradcheck(gated, [leaves[0], torch.randn_like(seen.image).requires_grad_()])
    logits = [torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(hinge_discriminator_loss, logits)


def test_hinge_is_its_formula() -> None:
    real, fake = torch.randn(2, 1, 3, 4, dtype=torch.float64), torch.randn(2, 1, 3, 4, dtype=torch.float64)
    r, f = real.flatten().tolist(), fake.flatten().tolist()
    assert hinge_generator_loss(real, fake).item() == pytest.approx(-sum(f) / len(f), abs=EXACT)
    halves = [sum(max(0, 1 - z) for z in r) / len(r), sum(max(0, 1 + z) for z in f) / len(f)]
    assert hinge_discriminator_loss(real, fake).item() == pytest.approx(sum(halves) / 2, abs=EXACT)
    assert ADVERSARIES["hinge"] == (hinge_generator_loss, hinge_discriminator_loss)


def test_the_published_weights_are_the_defaults() -> None:
    assert GatedObjective().weights() == {"gated.rough": 1, "gated.fine": 1}
    assert PENObjective().weights() == {"pen.hole": 6, "pen.valid": 1, "pen.pyramid": 0.5}


def test_a_network_without_these_predictions_is_told(seen: Seen) -> None:
    with pytest.raises(InputError, match=r"pen.pyramid needs a network with 5 earlier predictions; this one has 0"):
        PENObjective().terms(replace(seen, earlier=()))
    with pytest.raises(InputError, match=r"gated.rough needs .* has 5.*objective.gated.rough to 0"):
        GatedObjective().terms(seen)
    assert list(GatedObjective(rough=0.0).terms(seen)) == ["gated.fine"]
    assert list(PENObjective(pyramid=0.0, valid=0.0).terms(seen)) == ["pen.hole"]
