"""Label maps: numbers, palettes and colours become classes; what is none is named with file and value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.conventions import InputError
from cicm.datasets import CLASSES, classes_of
from cicm.photos.labels import VOID, Classes, read_labels

THREE = Classes(("sky", "road", "car"), {7: 0, 8: 1, 9: 2, 0: VOID}, {(1, 2, 3): 2, (255, 255, 255): VOID})


def save(path: Path, values: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(values)
    if mode == "P":
        image = Image.fromarray(values).convert("P")
        image.putdata(values.ravel().tolist())
        image.putpalette([255, 0, 0] * 256)  # all entries look alike: the index counts, not the colour
    image.save(path)
    return path


def test_numbers_a_palette_and_colours_give_the_same_classes(tmp_path: Path) -> None:
    numbers = np.array([[7, 8], [9, 0]], dtype=np.uint8)
    expected = [[0, 1], [2, VOID]]
    assert read_labels(save(tmp_path / "grey.png", numbers), THREE).tolist() == expected
    assert read_labels(save(tmp_path / "palette.png", numbers, "P"), THREE).tolist() == expected
    assert read_labels(save(tmp_path / "deep.png", numbers.astype(np.uint16)), THREE).tolist() == expected
    colours = np.array([[[1, 2, 3], [255, 255, 255]]], dtype=np.uint8)
    assert read_labels(save(tmp_path / "colours.png", colours), THREE).tolist() == [[2, VOID]]


def test_a_map_with_only_void_is_legal(tmp_path: Path) -> None:
    assert (read_labels(save(tmp_path / "void.png", np.zeros((2, 3), np.uint8)), THREE) == VOID).all()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.array([[7, 7], [7, 37]], dtype=np.uint8), "has the value 37 at x 1, y 1, 1 pixels"),
        (np.array([[7, 263]], dtype=np.uint16), "has the value 263 at x 1, y 0"),  # 263 = 7 in its low byte
        (np.array([[[4, 4, 4]]], dtype=np.uint8), "has the value [4, 4, 4]"),
    ],
)
def test_a_value_outside_the_classes_is_named_with_its_file(tmp_path: Path, values: np.ndarray, told: str) -> None:
    path = save(tmp_path / "street.png", values)
    with pytest.raises(InputError) as error:
        read_labels(path, THREE)
    assert told in str(error.value)
    assert "street.png" in str(error.value)


def test_colours_need_a_list_of_colours(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(InputError, match="one number for each pixel"):
        read_labels(path, classes_of("camvid"))


def test_another_size_than_the_photo(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.full((2, 3), 7, np.uint8))
    assert read_labels(path, THREE, (2, 3)).shape == (2, 3)
    with pytest.raises(InputError, match=r"got labels .*a\.png of 3x2 for a photo of 2x3"):
        read_labels(path, THREE, (3, 2))


def test_published_classes_are_as_published() -> None:
    assert {name: len(classes) for name, classes in CLASSES.items()} == {
        "cityscapes": 19, "outdoor-scenes": 8, "camvid": 11,
    }  # fmt: skip
    street = classes_of("cityscapes")
    assert [street.names[street.values[value]] for value in (7, 23, 33)] == ["road", "sky", "bicycle"]
    assert all(street.values[value] == VOID for value in (0, 1, 2, 3, 6, 9, 18, 29, 30, 255))
    assert 34 not in street.values
    for classes in CLASSES.values():
        assert sorted(set(classes.values.values()) - {VOID}) == list(range(len(classes)))
    with pytest.raises(InputError, match="come with the data sets cityscapes"):
        classes_of("celeba")


@pytest.mark.shared
def test_the_street_here_holds_its_classes(shared: Path) -> None:
    names = (shared / "data/street/classes.txt").read_text().split()[1::2]
    assert tuple(names[:11]) == classes_of("camvid").names
    found = read_labels(shared / "data/street/train/label/0001TP_006690.png", classes_of("camvid"), (360, 480))
    assert set(np.unique(found)) <= {*range(11), VOID}
