"""Label maps on their way into a batch: cut and mirrored as their photos, nearest, with void and holes left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.conventions import InputError
from cicm.data.datasets import Labels, PairedPhotos, TrainingPhotos
from cicm.data.loading import TrainingStream
from cicm.data.pairs import make_pairs
from cicm.photos.labels import VOID, Classes

CLASSES = Classes(tuple("abcde"), {value: value for value in range(5)} | {9: VOID})
COLOURS = np.array([[0, 0, 0], [60, 0, 0], [120, 0, 0], [180, 0, 0], [240, 0, 0]], dtype=np.uint8)


@pytest.fixture
def painted(tmp_path: Path) -> tuple[Path, Labels]:
    """Four photos of 40x48 whose red says their class, in blocks of 5 pixels, and their maps; the middle is void."""
    rng = np.random.default_rng(4)
    (tmp_path / "photos").mkdir()
    files = []
    for number in range(4):
        label = rng.integers(0, 5, (8, 10), dtype=np.uint8).repeat(5, 0).repeat(5, 1)[:40, :48]
        Image.fromarray(COLOURS[label]).save(tmp_path / "photos" / f"{number}.png")
        label[16:24, 20:28] = 9
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(label).save(files[-1])
    return tmp_path / "photos", Labels(files, CLASSES)


def test_a_label_lies_on_its_photo_after_cutting_and_mirroring(painted: tuple[Path, Labels]) -> None:
    folder, labels = painted
    photos = TrainingPhotos(folder, 24, labels=labels, native=1.0)
    seen = set()
    for key in [(epoch, index) for epoch in range(4) for index in range(4)]:
        drawn = photos.draw(key)
        assert drawn.label is not None
        assert drawn.label.shape == (24, 24)
        said = drawn.label != VOID
        assert (COLOURS[drawn.label[said]] == drawn.image[said]).all()
        seen |= set(np.unique(drawn.label))
        plain = TrainingPhotos(folder, 24, native=1.0).draw(key)
        assert plain.label is None
        assert (plain.image == drawn.image).all()
        assert torch.equal(plain.hole, drawn.hole), "labels move nothing"
    assert seen == {0, 1, 2, 3, 4, VOID}


def test_reducing_invents_no_class(painted: tuple[Path, Labels]) -> None:
    folder, labels = painted
    drawn = [TrainingPhotos(folder, 13, labels=labels, scale=(0.0, 0.001), native=0.0).draw(i) for i in range(4)]
    for one in drawn:
        assert one.label is not None
        assert set(np.unique(one.label)) <= {0, 1, 2, 3, 4, VOID}
    assert any((one.label == VOID).any() for one in drawn if one.label is not None)


def test_a_batch_carries_labels_whether_cached_or_read_by_workers(painted: tuple[Path, Labels]) -> None:
    folder, labels = painted
    batches = [
        TrainingStream(TrainingPhotos(folder, 16, labels=labels, cache_mb=cache), 3, workers=workers).from_step(1)
        for cache, workers in ((0.0, 0), (1.0, 0), (0.0, 1))
    ]
    for plain, cached, apart in [tuple(map(next, batches)) for _ in range(3)]:
        assert plain["label"].shape == (3, 16, 16)
        assert plain["label"].dtype == torch.uint8
        assert torch.equal(plain["label"], cached["label"])
        assert torch.equal(plain["label"], apart["label"])
    assert "label" not in next(iter(TrainingStream(TrainingPhotos(folder, 16), 3)))


def test_labels_are_not_hidden_by_the_hole(painted: tuple[Path, Labels]) -> None:
    """What a network may see of them is decided in one place, by the source, and not by the data."""
    folder, labels = painted
    drawn = TrainingPhotos(folder, (40, 48), lambda h, w, rng: torch.ones(1, h, w), labels=labels, flip=False).draw(0)
    assert drawn.label is not None
    assert (drawn.label != VOID).sum() == 40 * 48 - 64
    said = drawn.label != VOID
    assert (COLOURS[drawn.label[said]] == drawn.image[said]).all()


def test_pairs_have_the_same_middle_as_their_photo(painted: tuple[Path, Labels]) -> None:
    folder, labels = painted
    pairs = make_pairs(folder, sizes=(32,), bands=["20-40"])
    for fit in ("crop", "reduce"):
        for index, sample in enumerate([PairedPhotos(pairs, folder, labels=labels, fit=fit)[i] for i in range(4)]):  # type: ignore[arg-type]
            label = sample["label"]
            assert label is not None
            assert label.shape == (32, 32), (fit, index)
            if fit == "crop":
                said = label != VOID
                colour = torch.from_numpy(COLOURS)[label[said].long()].float() / 255
                assert torch.equal(sample["image"].movedim(0, -1)[said], colour)
    assert PairedPhotos(pairs, folder)[0]["label"] is None


def test_what_does_not_fit_is_named(painted: tuple[Path, Labels]) -> None:
    folder, labels = painted
    with pytest.raises(InputError, match="each photo needs its label map; got 3 for 4"):
        TrainingPhotos(folder, 16, labels=Labels(labels.files[:3], CLASSES))
    Image.new("L", (47, 40), 1).save(labels.files[2])
    with pytest.raises(InputError, match=r"2\.png of 47x40 for a photo of 48x40"):
        TrainingPhotos(folder, 16, labels=labels)[2]
    Image.new("L", (48, 40), 7).save(labels.files[2])
    with pytest.raises(InputError, match=r"2\.png: has the value 7"):
        TrainingPhotos(folder, 16, labels=labels)[2]
