"""The objectives of SPL, SPG-Net and networks after a description: loops from their formulas; what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cicm.conventions import InputError
from cicm.objectives import Seen, SPGObjective, SPLObjective, StagesObjective, perceptual

EXACT = 1e-12  # float64, some hundred terms of size 1


@pytest.fixture
def seen() -> Seen:
    """Two pictures of 8x12 with their label maps of 3 classes and void; a prior at a quarter of the size."""
    given = [torch.rand(2, 3, 8, 12, dtype=torch.float64) for _ in range(2)]
    hole = torch.zeros(2, 1, 8, 12, dtype=torch.float64)
    hole[0, :, 2:6, 3:9], hole[1, :, :4, :4] = 1, 1
    label = torch.randint(4, (2, 8, 12)).to(torch.uint8)
    label[label == 3] = 255
    prior = torch.randn(2, 3, 2, 3, dtype=torch.float64)
    return Seen(given[0], given[0] * hole + given[1] * (1 - hole), given[1], hole, maps={"prior": prior}, label=label)


def test_spls_l1_counts_a_missing_pixel_three_times(seen: Seen) -> None:
    total = 0.0
    for i in range(2):
        for y in range(8):
            for x in range(12):
                error = (seen.prediction[i, :, y, x] - seen.image[i, :, y, x]).abs().sum().item()
                total += error * (3 if seen.hole[i, 0, y, x] else 1)
    terms = SPLObjective(prior=0.0).terms(seen)
    assert list(terms) == ["spl.l1"]
    assert terms["spl.l1"].item() == pytest.approx(total / seen.image.numel(), abs=EXACT)


def test_spls_prior_counts_a_missing_cell_four_times(seen: Seen) -> None:
    """The hole of a cell is that of its nearest pixel, the upper left one."""
    teacher = torch.randn(2, 3, 2, 3, dtype=torch.float64)
    asked = []

    def look(images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        asked.append((images, tuple(layers)))
        return [teacher]

    found = SPLObjective(l1=0.0).terms(replace(seen, features={"vgg19": look}))["spl.prior"]
    ((images, layers),) = asked
    assert images is seen.image
    assert layers == ("relu3_1",)
    total = 0.0
    for i in range(2):
        for y in range(2):
            for x in range(3):
                error = (seen.maps["prior"][i, :, y, x] - teacher[i, :, y, x]).abs().sum().item()
                total += error * (4 if seen.hole[i, 0, 4 * y, 4 * x] else 1)
    assert found.item() == pytest.approx(total / teacher.numel(), abs=EXACT)


def test_labels_can_stand_for_spls_teacher(seen: Seen) -> None:
    section = SPLObjective(l1=0.0, teacher="labels")
    assert section.needs_features() == []
    assert SPLObjective().needs_features() == ["spl.prior"]
    total = 0.0
    for i in range(2):
        for y in range(2):
            for x in range(3):
                cell = seen.label[i, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
                for n in range(3):
                    share, said = (cell == n).double().mean().item(), (cell != 255).double().mean().item()
                    error = abs(seen.maps["prior"][i, n, y, x].item() * said - share)
                    total += error * (4 if seen.hole[i, 0, 4 * y, 4 * x] else 1)
    assert section.terms(seen)["spl.prior"].item() == pytest.approx(total / 36, abs=EXACT)
    nothing = replace(seen, label=torch.full_like(seen.label, 255))
    assert section.terms(nothing)["spl.prior"].item() == 0, "a map with nothing but void is legal"


def test_spgs_picture_has_l1_and_features(seen: Seen) -> None:
    def look(images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        return [images * (1 + int(name[4])) for name in layers]

    terms = SPGObjective().terms(replace(seen, features={"vgg19": look}))
    assert terms["spg.l1"].item() == pytest.approx((seen.prediction - seen.image).abs().mean().item(), abs=EXACT)
    layers = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    expected = perceptual(look(seen.prediction, layers), look(seen.image, layers))
    assert terms["spg.perceptual"].item() == pytest.approx(expected.item(), abs=EXACT)
    assert SPGObjective().weights() == {"spg.l1": 1.0, "spg.perceptual": 10.0}


def test_stages_compare_each_prediction_with_the_image_averaged_to_its_size(seen: Seen) -> None:
    earlier = (torch.rand(2, 3, 2, 3, dtype=torch.float64), torch.rand(2, 3, 8, 12, dtype=torch.float64))
    averaged = seen.image.view(2, 3, 2, 4, 3, 4).mean((3, 5))
    expected = ((earlier[0] - averaged).abs().mean() + (earlier[1] - seen.image).abs().mean()) / 2
    terms = StagesObjective().terms(replace(seen, earlier=earlier))
    assert terms["stages.earlier"].item() == pytest.approx(expected.item(), abs=EXACT)
    assert terms["stages.last"].item() == pytest.approx((seen.prediction - seen.image).abs().mean().item(), abs=EXACT)


def test_every_term_has_the_gradient_of_its_formula(seen: Seen) -> None:
    prediction, prior = seen.prediction.requires_grad_(), seen.maps["prior"].requires_grad_()

    def look(images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        return [images.square() for _ in layers]

    def total(prediction: Tensor, prior: Tensor) -> Tensor:
        given = replace(
            seen, prediction=prediction, maps={"prior": prior}, features={"vgg19": look}, earlier=(prediction[..., :4],)
        )
        sections = (SPLObjective(teacher="labels"), SPGObjective(), StagesObjective())
        return torch.stack([term for section in sections for term in section.terms(given).values()]).sum()

    assert torch.autograd.gradcheck(total, (prediction, prior))


def test_the_terms_are_means_over_the_images_of_a_batch(seen: Seen) -> None:
    whole = replace(seen, earlier=(seen.prediction,))
    for section in (SPLObjective(teacher="labels"), SPGObjective(perceptual=0.0), StagesObjective()):
        parts = []
        for i in range(2):
            pieces = {n: getattr(seen, n)[i : i + 1] for n in ("prediction", "composite", "image", "hole", "label")}
            maps = {"prior": seen.maps["prior"][i : i + 1]}
            parts.append(section.terms(replace(whole, **pieces, maps=maps, earlier=(pieces["prediction"],))))
        for name, value in section.terms(whole).items():
            assert (parts[0][name] + parts[1][name]).item() / 2 == pytest.approx(value.item(), abs=EXACT), name


def test_what_a_term_lacks_is_told(seen: Seen) -> None:
    with pytest.raises(InputError, match="predicts no prior"):
        SPLObjective(l1=0.0, teacher="labels").terms(replace(seen, maps={}))
    with pytest.raises(InputError, match=r"set data\.labels = true"):
        SPLObjective(l1=0.0, teacher="labels").terms(replace(seen, label=None))
    wide = {"vgg19": lambda images, _layers: [images.new_zeros(2, 256, 2, 3)]}
    with pytest.raises(InputError, match=r"model\.options\.teacher must be 256"):
        SPLObjective(l1=0.0).terms(replace(seen, features=wide))
    with pytest.raises(InputError, match="network with earlier predictions"):
        StagesObjective().terms(seen)
