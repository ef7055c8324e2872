"""Photos to samples: odd files, broken files, crops, and randomness that depends on (seed, epoch, index) alone."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.conventions import BANDS, InputError, band_of
from cicm.data import datasets
from cicm.data.datasets import PairedPhotos, TrainingPhotos
from cicm.data.generators import HoleGenerator
from cicm.data.holes import hole_fraction
from cicm.data.pairs import make_pairs
from cicm.photos.headers import image_size
from cicm.photos.photo import read_image


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def window_of(sample: torch.Tensor, photo: np.ndarray) -> tuple[int, int, bool] | None:
    """Where in the photo the sample was cut out as it is: (top, left, mirrored); None if nowhere."""
    pixels = (sample * 255).round().to(torch.uint8).movedim(0, -1).numpy()
    height, width = pixels.shape[:2]
    for mirrored in (False, True):
        wanted = pixels[:, ::-1] if mirrored else pixels
        for top, left in zip(*np.nonzero((photo == wanted[0, 0]).all(-1))):
            if np.array_equal(photo[top : top + height, left : left + width], wanted):
                return int(top), int(left), mirrored
    return None


# Odd files


@pytest.fixture
def odd_files(tmp_path):
    """One picture of half red, half grey, in every layout that photo folders hold."""
    colours = np.zeros((24, 32, 3), dtype=np.uint8)
    colours[:, :16] = [200, 40, 40]
    colours[:, 16:] = 128
    picture = Image.fromarray(colours)
    folder = tmp_path / "odd"
    (folder / "deep" / "er").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = picture.transpose(Image.Transpose.ROTATE_90)  # upright again when turned clockwise
    picture.save(folder / "plain.PNG")
    picture.save(folder / "deep" / "photo.JPG", quality=95, subsampling=0)
    picture.save(folder / "deep" / "er" / "photo.WebP", lossless=True)
    picture.save(folder / "photo.bmp")
    picture.save(folder / "photo.TIFF")
    picture.convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "palette.png")
    picture.convert("RGBA").save(folder / "alpha.png")
    picture.convert("CMYK").save(folder / "ink.tif")
    turned.save(folder / "turned.jpeg", exif=exif, quality=95, subsampling=0)
    turned.save(folder / "turned.png", exif=exif)
    grey = picture.convert("L")
    grey.save(folder / "grey.png")
    grey.save(folder / "grey.jpg", quality=95)
    grey.convert("LA").save(folder / "grey-alpha.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(folder / "deep16.png")
    return folder, colours, np.repeat(np.asarray(grey)[..., None], 3, 2)


def test_odd_files_all_become_rgb(odd_files):
    folder, colours, grey = odd_files
    photos = TrainingPhotos(folder, crop=(24, 32), scale=(1, 1), flip=False)
    assert len(photos) == 14
    for index, path in enumerate(photos.paths):
        expected = grey if "grey" in path.name or "deep16" in path.name else colours
        got = photos[index]["image"].numpy() * 255
        # Lossless files exactly; JPEG at quality 95 within a few steps, CMYK within its rounding.
        tolerance = {".jpg": 6, ".jpeg": 6, ".tif": 1}.get(path.suffix.lower(), 0)
        assert np.abs(got - np.moveaxis(expected, -1, 0)).max() <= tolerance + 1e-4, path
        assert image_size(path) == (24, 32), path


# Broken files


@pytest.fixture
def broken_files(tmp_path):
    """Three good photos, and among them: cut off, empty, a text."""
    for name, seed in [("a.png", 0), ("c.jpg", 1), ("f.png", 2)]:
        Image.fromarray(noise(40, 40, seed)).save(tmp_path / name)
    Image.fromarray(noise(40, 40)).save(tmp_path / "b.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:900])
    (tmp_path / "d.png").write_bytes(b"")
    (tmp_path / "e.jpg").write_text("this is not a photo")
    return tmp_path


def test_a_broken_file_stops_with_its_path(broken_files):
    for index, name in ((1, "b.jpg"), (3, "d.png"), (4, "e.jpg")):
        photos = TrainingPhotos(broken_files, crop=32)
        with pytest.raises(InputError, match=name) as raised:
            photos[index]
        assert "\n" not in str(raised.value), index
        assert 'on_error="skip"' in str(raised.value), index
        assert str(raised.value).count(name) == 1, index


def test_a_broken_file_is_skipped_when_asked_and_the_next_stands_in(broken_files):
    photos = TrainingPhotos(broken_files, crop=32, on_error="skip", scale=(1, 1))
    assert photos[0]["skipped"] == []
    two = photos[3]["skipped"]
    assert [entry.path for entry in two] == [str(broken_files / "d.png"), str(broken_files / "e.jpg")]
    assert all(entry.reason and "\n" not in entry.reason for entry in two)
    assert window_of(photos[3]["image"], noise(40, 40, 2)) is not None, "f.png stands in for d.png and e.jpg"
    assert torch.equal(photos[1]["image"], photos[1]["image"])


def test_the_row_goes_on_at_the_beginning(broken_files):
    (broken_files / "f.png").write_bytes(b"")
    photos = TrainingPhotos(broken_files, crop=32, on_error="skip", scale=(1, 1))
    assert len(photos[3]["skipped"]) == 3
    assert window_of(photos[3]["image"], noise(40, 40, 0)) is not None


def test_nothing_but_broken_files(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 2 photos can be used; the first: .*b.png"):
        TrainingPhotos(tmp_path, crop=32, on_error="skip")[1]


def test_a_file_that_vanishes(tmp_path):
    Image.fromarray(noise(40, 40)).save(tmp_path / "a.png")
    photos = TrainingPhotos(tmp_path, crop=32)
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"a.png"):
        photos[0]


def test_small_photos_stop_are_skipped_or_enlarged(tmp_path):
    Image.fromarray(noise(20, 50)).save(tmp_path / "a.png")
    Image.fromarray(noise(32, 32, 1)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r'a.png: 20x50 pixels are fewer than the crop\'s 32x32.*small="skip"'):
        TrainingPhotos(tmp_path, crop=32)[0]
    with pytest.raises(InputError, match="too small"):
        TrainingPhotos(tmp_path, crop=32, on_error="skip")[0]
    skipping = TrainingPhotos(tmp_path, crop=32, small="skip")[0]
    assert [(entry.path, entry.reason[:12]) for entry in skipping["skipped"]] == [
        (str(tmp_path / "a.png"), "20x50 pixels")
    ]
    assert window_of(skipping["image"], noise(32, 32, 1)) is not None
    enlarged = TrainingPhotos(tmp_path, crop=32, small="enlarge", flip=False)[0]
    assert enlarged["image"].shape == (3, 32, 32)
    assert enlarged["skipped"] == []


# Crops


def test_a_native_crop_is_a_window_of_the_photo_bit_for_bit(tmp_path):
    photo = noise(48, 60)
    Image.fromarray(photo).save(tmp_path / "a.png")
    photos = TrainingPhotos(tmp_path, crop=(24, 32), native=1.0)
    places = [window_of(photos[epoch, 0]["image"], photo) for epoch in range(200)]
    assert None not in places
    tops, lefts, mirrored = zip(*places)
    assert set(tops) == set(range(25)), "every row is a first row of some crop, also the last possible"
    assert min(lefts) == 0
    assert max(lefts) == 28
    assert 70 < sum(mirrored) < 130, "half of them; 200 throws of a coin have a standard deviation of 7"


def test_without_flip_nothing_is_mirrored(tmp_path):
    photo = noise(30, 30)
    Image.fromarray(photo).save(tmp_path / "a.png")
    photos = TrainingPhotos(tmp_path, crop=24, native=1.0, flip=False)
    assert not any(window_of(photos[epoch, 0]["image"], photo)[2] for epoch in range(30))


def test_a_reduced_crop_may_show_the_whole_photo_and_never_more_than_asked(tmp_path):
    """The photo is a ramp from left to right, so the span of a crop tells how far it was reduced."""
    ramp = np.repeat(np.linspace(0, 255, 256).round().astype(np.uint8)[None, :, None], 256, 0).repeat(3, 2)
    Image.fromarray(ramp).save(tmp_path / "a.png")

    def factors(**options):
        photos = TrainingPhotos(tmp_path, crop=64, flip=False, **options)
        spans = [photos[epoch, 0]["image"][0, 32] for epoch in range(150)]
        return np.array([63 / (255 * float(row[-1] - row[0])) for row in spans])

    # A reduced pixel is a mean over several; the ends of the ramp come out up to two steps short.
    whole = factors(native=0.0)
    assert whole.min() == pytest.approx(0.25, rel=0.05)
    assert whole.max() == pytest.approx(1.0, rel=0.05)
    # Evenly on a log scale: the median is the geometric mean of 1/4 and 1, give or take 4 standard errors of 150 draws.
    assert np.median(whole) == pytest.approx(0.5, rel=0.2)
    half = factors(scale=(0.5, 0.7), native=0.5)
    assert half.min() >= 0.48
    assert half.max() <= 0.73, "native crops need a scale that reaches 1"
    mixed = factors(native=0.5, scale=(0.25, 1.0))
    assert 45 < (mixed > 0.98).sum() < 110, "half of them as they are"


def test_a_photo_of_the_crops_size_is_given_as_it_is(tmp_path):
    photo = noise(32, 32)
    Image.fromarray(photo).save(tmp_path / "a.png")
    photos = TrainingPhotos(tmp_path, crop=32, native=0.0)
    for epoch in range(10):
        assert window_of(photos[epoch, 0]["image"], photo)[:2] == (0, 0)


# Randomness and cache


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        Image.fromarray(noise(40 + number, 50, number)).save(tmp_path / f"{number}.png")
    return tmp_path


def same(one, other) -> bool:
    return torch.equal(one["image"], other["image"]) and torch.equal(one["hole"], other["hole"])


def test_a_sample_depends_on_seed_epoch_and_index_only(folder):
    photos = TrainingPhotos(folder, crop=32, seed=1)
    first = {key: photos[key] for key in [(0, 0), (0, 1), (1, 0)]}
    again = TrainingPhotos(folder, crop=32, seed=1)
    for key in [(1, 0), (0, 1), (0, 0)]:
        assert same(first[key], again[key])
    assert same(photos[3], photos[0, 3])
    assert not same(first[0, 0], first[1, 0])
    assert not same(first[0, 0], TrainingPhotos(folder, crop=32, seed=2)[0, 0])
    assert not torch.equal(first[0, 0]["hole"], first[0, 1]["hole"])


def test_the_global_random_state_is_neither_read_nor_changed(folder):
    photos = TrainingPhotos(folder, crop=32)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (the global state is what is tested)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = photos[0]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    torch.manual_seed(1)
    assert same(photos[0], first)


def test_a_hole_does_not_depend_on_the_photos_size(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for number in range(6):
        Image.fromarray(noise(90, 64, number)).save(other / f"{number}.png")
    assert torch.equal(TrainingPhotos(folder, crop=32)[2]["hole"], TrainingPhotos(other, crop=32)[2]["hole"])


def test_holes_come_from_the_generator_that_was_given(folder):
    photos = TrainingPhotos(folder, crop=32, holes=HoleGenerator(["40-60"]))
    assert {band_of(hole_fraction(photos[index]["hole"])) for index in range(6)} == {"40-60"}
    constant = TrainingPhotos(folder, crop=32, holes=lambda height, width, rng: torch.ones(1, height, width))
    assert constant[0]["hole"].sum() == 32 * 32


def test_the_cache_changes_nothing_but_the_reading(folder, monkeypatch):
    reads = []

    def counted(path, **options):
        reads.append(path)
        return read_image(path, **options)

    monkeypatch.setattr(datasets, "read_image", counted)
    plain, cached = TrainingPhotos(folder, crop=32), TrainingPhotos(folder, crop=32, cache_mb=1.0)
    for epoch in range(3):
        for index in range(6):
            assert same(plain[epoch, index], cached[epoch, index])
    assert len(reads) == 18 + 6


def test_the_cache_keeps_to_its_bytes(folder, monkeypatch):
    reads = []
    monkeypatch.setattr(datasets, "read_image", lambda path: reads.append(path) or read_image(path))
    photos = TrainingPhotos(folder, crop=32, cache_mb=0.0125)  # two photos of 40x50x3 and 41x50x3 bytes
    for _ in range(2):
        for index in range(6):
            photos[index]
    assert len(reads) == 6 + 4
    assert len(pickle.dumps(photos)) < 3000, "a copy for another process starts with an empty cache"
    assert same(pickle.loads(pickle.dumps(photos))[0], photos[0])


def test_wrong_settings(folder):
    for options, words in (
        ({"crop": 0}, "1 pixel or more"),
        ({"seed": -1}, "0 or above; got -1"),
        ({"scale": (0.5, 0.2)}, "least <= largest"),
        ({"scale": (0.0, 2.0)}, "<= 1"),
        ({"scale": (0.0, 0.0)}, "scale"),
        ({"native": 2.0}, r"\[0, 1\]; got 2.0"),
        ({"small": "drop"}, "error, skip or enlarge; got 'drop'"),
        ({"on_error": "ignore"}, "stop or skip; got 'ignore'"),
        ({"cache_mb": -1}, "got -1"),
        ({"cache_mb": float("nan")}, "got nan"),
    ):
        with pytest.raises(InputError, match=words):
            TrainingPhotos(folder, **options)


def test_wrong_places(folder, tmp_path_factory):
    with pytest.raises(InputError, match="found none"):
        TrainingPhotos(tmp_path_factory.mktemp("empty"))
    with pytest.raises(InputError, match="empty list"):
        TrainingPhotos([])
    with pytest.raises(IndexError):
        TrainingPhotos(folder, crop=32)[6]


# A fixed list


def test_pairs_give_the_middle_of_the_photo_and_the_hole_of_the_list(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    photos = {"a.png": noise(64, 80), "b.png": noise(40, 33, 1)}
    for name, pixels in photos.items():
        Image.fromarray(pixels).save(images / name)
    pairs = make_pairs(images, None, sizes=(64, 32))
    paired = PairedPhotos(pairs, images)
    assert len(paired) == 6
    for index, pair in enumerate(pairs):
        sample = paired[index]
        top, left = (0, 8) if pair.image == "a.png" else (4, 0)
        assert window_of(sample["image"], photos[pair.image]) == (top, left, False)
        assert band_of(hole_fraction(sample["hole"])) == pair.band
        assert sample["pair"] == pair


def test_a_size_of_ones_own(tmp_path):
    Image.fromarray(noise(60, 60)).save(tmp_path / "a.png")
    pairs = [
        pair._replace(mask=pair.mask.rpartition(":")[0], height=20, width=30)
        for pair in make_pairs(tmp_path, sizes=[32])
    ]
    paired = PairedPhotos(pairs, tmp_path)
    assert paired[0]["image"].shape == (3, 20, 30)
    assert paired[0]["hole"].shape == (1, 20, 30)
    assert [band_of(hole_fraction(paired[index]["hole"])) for index in range(3)] == list(BANDS)


def test_reducing_shows_the_whole_shorter_side(tmp_path):
    ramp = np.repeat(np.linspace(0, 255, 96).round().astype(np.uint8)[:, None, None], 128, 1).repeat(3, 2)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    pairs = make_pairs(tmp_path, None, sizes=[32])
    reduced = PairedPhotos(pairs, tmp_path, fit="reduce")[0]["image"]
    assert reduced.shape == (3, 32, 32)
    # A ramp of 96 rows in 32: each new row is the mean of three old ones, whatever the filter, except at the ends.
    expected = torch.from_numpy(ramp[1::3, 0, 0] / 255).float()
    assert reduced[0, 2:-2, 16].tolist() == pytest.approx(expected[2:-2].tolist(), abs=1.01 / 255)


def test_photos_are_never_enlarged_to_score_them(tmp_path):
    Image.fromarray(noise(40, 33)).save(tmp_path / "a.png")
    pairs = [pair._replace(height=40, width=40) for pair in make_pairs(tmp_path, sizes=[32])]
    paired = PairedPhotos(pairs, tmp_path)
    with pytest.raises(InputError, match=r"a.png has 40x33 pixels, fewer than the 40x40"):
        paired[0]


def test_wrong_lists(tmp_path):
    with pytest.raises(InputError, match="empty list"):
        PairedPhotos([], tmp_path)
    Image.fromarray(noise(40, 40)).save(tmp_path / "a.png")
    pairs = make_pairs(tmp_path, None, sizes=[32])
    with pytest.raises(InputError, match="crop or reduce; got 'fill'"):
        PairedPhotos(pairs, tmp_path, fit="fill")
    with pytest.raises(InputError, match=r"z.png"):
        PairedPhotos([pairs[0]._replace(image="z.png")], tmp_path)[0]


# Real photos


@pytest.mark.shared
def test_real_photos_of_every_source(shared):
    paths = sorted((shared / "data" / "scenes" / "val").iterdir())
    photos = TrainingPhotos([path for path in paths if path.suffix == ".jpg"][::10], crop=128)
    for index in range(len(photos)):
        sample = photos[index]
        assert sample["image"].shape == (3, 128, 128)
        assert 0 <= sample["image"].min() < sample["image"].max() <= 1
        assert sample["image"].std() > 0.01
        assert band_of(hole_fraction(sample["hole"])) is not None


@pytest.mark.parametrize("same_size", [True, False])
def test_a_photo_that_is_exchanged_during_a_run_is_noticed(tmp_path: Path, same_size: bool) -> None:
    for name, colour in (("a", "red"), ("b", "green")):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{name}.bmp")
    photos = TrainingPhotos(tmp_path, crop=32)
    assert photos[0]["image"].shape == (3, 32, 32)
    Image.new("RGB", (40 if same_size else 48, 40), "blue").save(tmp_path / "other.bmp")
    (tmp_path / "other.bmp").replace(tmp_path / "a.bmp")
    with pytest.raises(InputError, match=r"a\.bmp.* was changed while it was in use"):
        photos[0]
    assert photos[1]["image"].shape == (3, 32, 32)
    skipping = TrainingPhotos([tmp_path / "a.bmp", tmp_path / "b.bmp"], crop=32, on_error="skip")
    os.utime(tmp_path / "a.bmp", ns=(1, 1))
    assert "changed" in skipping[0]["skipped"][0].reason
