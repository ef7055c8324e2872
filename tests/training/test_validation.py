"""Validation: the same photos and holes each time, scores by hand, and no trace left in the model."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.conventions import BANDS, InputError
from cicm.training.batches import training_photos, validation_set
from cicm.training.config import DataConfig
from cicm.training.validation import GAP, grid, save_grid, validate


@pytest.fixture
def data(photos: Path) -> DataConfig:
    return DataConfig(train=str(photos / "train"), val=str(photos / "val"), crop=64, kinds=("boxes",))


def test_it_is_the_same_set_each_time_with_holes_in_their_bands(data: DataConfig):
    first, second = validation_set(data, 3), validation_set(replace(data, flip=False, batch_size=2), 3)
    assert torch.equal(first.images, second.images)
    assert first.images.shape == (3, 3, 64, 64)
    for band, (low, high) in BANDS.items():
        assert torch.equal(first.holes[band], second.holes[band])
        shares = first.holes[band].float().mean((1, 2, 3))
        assert bool(((low < shares) & (shares <= high)).all())


def test_too_large_a_crop_is_refused(data: DataConfig):
    with pytest.raises(InputError, match="no photo"):
        validation_set(replace(data, crop=96), 3)


def test_scores_are_those_of_the_composites_worked_out_by_hand(data: DataConfig, fabric64, make_players):
    model, photos = make_players().bare.float().eval(), validation_set(data, 3)
    before = copy.deepcopy(model.state_dict())
    scores = validate(fabric64, model, photos)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    for band in BANDS:
        ratios, differences = [], []
        for image, hole in zip(photos.images, photos.holes[band], strict=True):
            image, hole = image[None].float() / 255, hole[None].float()
            with torch.no_grad():
                result = model(image * (1 - hole), hole).composite.clamp(0, 1).mul(255).round().numpy() / 255
            difference = result.astype(np.float64) - image.numpy()
            ratios.append(-10 * np.log10((difference**2).mean()))
            differences.append(100 * np.abs(difference).mean())
        assert scores[band]["psnr"] == pytest.approx(np.mean(ratios), abs=1e-3)  # a batch may round a pixel otherwise
        assert scores[band]["l1"] == pytest.approx(np.mean(differences), abs=1e-3)


def test_the_grid_shows_image_corrupted_prediction_composite(data, fabric64, make_players, tmp_path):
    model, photos = make_players().bare.float().eval(), validation_set(data, 3)
    save_grid(grid(fabric64, model, photos, 2), tmp_path / "grid.png")
    picture = np.asarray(Image.open(tmp_path / "grid.png"))
    side = 64 + GAP
    assert picture.shape == (6 * side, 4 * side, 3)
    image = photos.images[0].permute(1, 2, 0).numpy()
    hole = photos.holes["0-20"][0, 0].numpy()
    assert np.array_equal(picture[:64, :64], image)
    assert np.array_equal(picture[:64, side : side + 64], image * ~hole[..., None])
    assert np.array_equal(picture[:64, 3 * side : 3 * side + 64][~hole], image[~hole])


def test_match_and_limit_choose_photos(data: DataConfig):
    names = [p.name for p in training_photos(replace(data, match=("[1-4].png",), limit=2))]
    assert names == ["1.png", "3.png"]
