"""A photo given in the place of a mask is noticed."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cicm.conventions import Notice
from cicm.photos.masks import MaskWarning, missing_pixels


@pytest.fixture
def mask() -> Image.Image:
    image = Image.new("L", (80, 60))
    image.paste(255, (20, 10, 60, 40))
    return image


def test_a_photo_is_no_mask_by_every_door(tmp_path: Path) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    photo.save(tmp_path / "photo.png")
    assert issubclass(MaskWarning, Notice)
    for given in (photo, np.array(photo), np.array(photo) / 255.0, tmp_path / "photo.png"):
        with pytest.warns(
            MaskWarning, match=r"is not black and white: 9\d% of its pixels are grey or coloured"
        ) as found:
            missing_pixels(given)
        assert len(found) == 1
    assert str(tmp_path / "photo.png") in str(found[0].message)


def test_a_mask_is_one_also_with_soft_edges_and_as_jpeg(mask: Image.Image, tmp_path: Path) -> None:
    mask.save(tmp_path / "mask.jpg", quality=50)
    see_through = Image.merge("LA", (mask.point(lambda v: 128), mask))  # grey counts where it is opaque
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for given in (mask, mask.filter(ImageFilter.GaussianBlur(1)), tmp_path / "mask.jpg", np.array(mask) > 0):
            assert 0.2 < missing_pixels(given).mean() < 0.3
    with pytest.warns(MaskWarning, match="25%"):
        missing_pixels(see_through)
