"""What a discriminator of pictures and label maps sees: true labels, predicted ones, and void in neither."""

from __future__ import annotations

import pytest
import torch

from cicm.assembly import Inpainting, MemoryInpainter
from cicm.conventions import InputError
from cicm.networks import Prediction, create
from cicm.training.step import _real, part_of


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    label = torch.randint(3, (2, 8, 8)).to(torch.uint8)
    label[:, :2] = 255
    return {"image": torch.rand(2, 3, 8, 8), "hole": torch.zeros(2, 1, 8, 8), "label": label}


def output_with(maps: dict[str, torch.Tensor]) -> Inpainting:
    picture = torch.rand(2, 3, 8, 8)
    return Inpainting(Prediction(picture, maps=maps), picture, {}, {}, maps)


def test_truth_and_result_have_the_same_planes_and_void_is_in_neither(batch: dict) -> None:
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    output = output_with({"labels": logits})
    model = MemoryInpainter(create("unet", width=2))
    fake, real = part_of(output, batch, model, "labelled").result, _real(batch, 3)
    assert fake.shape == real.shape == (2, 6, 8, 8)
    assert torch.equal(real[:, :3], batch["image"])
    assert torch.equal(fake[:, :3], output.prediction.image)
    assert torch.equal(real[:, 3:].argmax(1)[:, 2:], batch["label"][:, 2:].long())
    for planes in (real, fake):
        assert not planes[:, 3:, :2].any()
        assert torch.allclose(planes[:, 3:, 2:].sum(1), torch.ones(()))
    fake.square().sum().backward()
    assert logits.grad[:, :, 2:].any()
    assert not logits.grad[:, :, :2].any()


def test_what_is_missing_is_told(batch: dict) -> None:
    model = MemoryInpainter(create("unet", width=2))
    with pytest.raises(InputError, match="predicts labels of the picture's size"):
        part_of(output_with({"labels": torch.zeros(2, 3, 4, 4)}), batch, model, "labelled")
    del batch["label"]
    with pytest.raises(InputError, match=r"set data\.labels = true"):
        part_of(output_with({"labels": torch.zeros(2, 3, 8, 8)}), batch, model, "labelled")
