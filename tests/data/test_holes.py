"""Mask files to holes: polarity, sizes, bands, and the doubts that are said aloud."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.conventions import BANDS, InputError, band_of
from cicm.data import holes
from cicm.data.generators import HoleGenerator
from cicm.data.holes import find_masks, hole_fraction, resize_hole, to_hole

GREY = np.array([[0, 1, 127, 128, 129, 255]], dtype=np.uint8)
MISSING = [[[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]]


def save_mask(path: Path, share: float, side: int = 20, *, white: bool = True) -> None:
    """A mask whose first pixels, row by row, are white; or black on white."""
    values = np.arange(side * side) < round(share * side * side)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(values == white, 255, 0).astype(np.uint8).reshape(side, side)).save(path)


# Polarity and kinds


def test_white_is_missing_from_128_on():
    assert to_hole(GREY).tolist() == MISSING
    assert to_hole(GREY).dtype == torch.float32


def test_inverting_swaps_every_pixel():
    assert torch.equal(to_hole(GREY, invert=True), 1 - to_hole(GREY))


def test_every_kind_of_mask_gives_the_same_hole():
    for mask in (
        Image.fromarray(GREY),
        Image.fromarray(GREY).convert("RGB"),
        Image.fromarray(GREY).convert("RGBA"),
        Image.fromarray(GREY).convert("LA"),
        Image.fromarray(GREY).convert("P"),
        Image.fromarray(GREY.astype(np.uint16) * 257),
        GREY[..., None],
        np.repeat(GREY[..., None], 3, 2),
        GREY.astype(np.int64),
        GREY.astype(np.uint16) * 257,
        GREY / 255.0,
        (GREY / 255.0).astype(np.float32),
        GREY >= 128,
        torch.from_numpy(GREY),
        torch.from_numpy(GREY)[None],
        torch.from_numpy(GREY)[None].repeat(3, 1, 1),
        torch.from_numpy(GREY) / 255,
        torch.from_numpy(GREY >= 128),
        torch.tensor(MISSING),
    ):
        assert to_hole(mask).tolist() == MISSING, mask


def test_files_give_the_same_hole(tmp_path):
    for ending in (".png", ".PNG", ".bmp", ".tif", ".webp"):
        path = tmp_path / f"mask{ending}"
        image = Image.fromarray(GREY)
        image.save(path, **({"lossless": True} if ending == ".webp" else {}))
        assert to_hole(path).tolist() == MISSING, ending
        assert to_hole(str(path)).tolist() == MISSING, ending


def test_one_bit_files(tmp_path):
    Image.fromarray(GREY >= 128).save(tmp_path / "mask.png")
    assert to_hole(tmp_path / "mask.png").tolist() == MISSING


def test_a_jpeg_mask_survives_its_ringing(tmp_path):
    block = np.zeros((32, 32), dtype=np.uint8)
    block[8:24, 8:24] = 255
    Image.fromarray(block).save(tmp_path / "mask.jpg", quality=50)
    assert np.array_equal(to_hole(tmp_path / "mask.jpg")[0].numpy(), block / 255)


def test_see_through_pixels_are_known_whatever_their_colour_and_polarity():
    rgba = np.zeros((1, 4, 4), dtype=np.uint8)
    rgba[0, :, :3] = np.array([255, 255, 0, 0])[:, None]
    rgba[0, :, 3] = [255, 0, 255, 0]
    assert to_hole(rgba).tolist() == [[[1, 0, 0, 0]]]
    assert to_hole(rgba, invert=True).tolist() == [[[0, 0, 1, 0]]]
    assert to_hole(Image.fromarray(rgba)).tolist() == [[[1, 0, 0, 0]]]
    assert to_hole(torch.from_numpy(rgba).movedim(-1, 0)).tolist() == [[[1, 0, 0, 0]]]


def test_colour_counts_by_its_luma_as_pillow_has_it():
    colours = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(colours).convert("L")) >= 128
    assert np.array_equal(to_hole(colours)[0].numpy() == 1, expected)


def test_a_mask_is_turned_upright_like_its_photo(tmp_path):
    image = Image.fromarray(np.array([[255, 0, 0], [0, 0, 0]], dtype=np.uint8).repeat(8, 0).repeat(8, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "mask.jpg", exif=exif, quality=95)
    hole = to_hole(tmp_path / "mask.jpg")
    assert hole.shape == (1, 24, 16)
    assert hole[0, 4, 12] == 1, "the top left corner is now at the top right"
    assert hole.sum() == 64


def test_what_is_no_mask_is_refused():
    for mask, words in (
        (np.array([[0, 1]], dtype=np.uint8), "only 0 and 1.*Multiply it by 255, or make the array bool"),
        (torch.tensor([[0, 1]]), "only 0 and 1"),
        (np.array([[0.0, np.nan]]), "NaN"),
        (np.array([[0.0, 255.0]]), r"in \[0, 1\]; got values in \[0, 255\]. Divide by"),
        (np.array([[-0.1, 1.0]]), r"\[0, 1\]"),
        (np.array([[0, 256]]), "0 to 255"),
        (np.array([[-1, 5]]), "0 to 255"),
        (np.zeros((2, 2), dtype=complex), "complex"),
        (np.zeros((0, 4), dtype=np.uint8), "not empty"),
        (np.zeros((2, 3, 4, 4), dtype=np.uint8), r"one mask, .*\(H, W, 4\).*got \(2, 3, 4, 4\)"),
        (torch.zeros(2, 1, 4, 4), r"\(4, H, W\).*got \(2, 1, 4, 4\)"),
        (np.zeros((4, 4, 2), dtype=np.uint8), "one mask"),
        (None, "got NoneType"),
    ):
        with pytest.raises(InputError, match=words):
            to_hole(mask)


def test_a_file_of_zeros_and_ones_is_refused_with_its_name(tmp_path):
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "ones.png")
    with pytest.raises(InputError, match=r"ones.png holds only 0 and 1"):
        to_hole(tmp_path / "ones.png")


def test_all_black_and_all_white_masks_are_holes_too():
    assert to_hole(np.zeros((2, 2), dtype=np.uint8)).sum() == 0
    assert to_hole(np.full((2, 2), 255, dtype=np.uint8)).sum() == 4


def test_a_broken_file_is_named(tmp_path):
    for name, content in (("no.png", None), ("empty.png", b""), ("text.png", b"not an image")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            to_hole(tmp_path / name)


# Sizes


def test_halving_takes_the_pixel_under_the_centre():
    hole = torch.arange(16.0).reshape(1, 4, 4)
    assert resize_hole(hole, (2, 2)).tolist() == [[[5, 7], [13, 15]]]


@pytest.mark.parametrize("old", [(1, 1), (5, 7), (8, 6), (37, 11)])
@pytest.mark.parametrize("new", [(1, 1), (4, 4), (16, 12), (9, 50)])
def test_resizing_equals_pillows_nearest(old, new):
    values = np.random.default_rng(0).integers(0, 256, old, dtype=np.uint8)
    expected = np.asarray(Image.fromarray(values).resize((new[1], new[0]), Image.Resampling.NEAREST))
    assert np.array_equal(resize_hole(torch.from_numpy(values)[None], new)[0].numpy(), expected)


def test_the_same_size_is_the_same_tensor():
    hole = torch.ones(1, 4, 5)
    assert resize_hole(hole, (4, 5)) is hole


def test_reducing_keeps_the_missing_share():
    draw = HoleGenerator()
    changes = []
    for seed in range(100):
        hole = draw(256, 256, np.random.default_rng(seed))
        changes.append(hole_fraction(resize_hole(hole, (128, 128))) - hole_fraction(hole))
    # Measured on NVIDIA's masks: mean -0.00003, standard deviation 0.001.
    assert abs(np.mean(changes)) < 0.0005
    assert np.abs(changes).max() < 0.006


def test_a_share_on_the_edge_of_a_band_is_exact():
    hole = torch.zeros(1, 10, 10)
    hole.view(-1)[:20] = 1
    assert hole_fraction(hole) == 0.2
    assert band_of(hole_fraction(hole)) == "0-20"


# Folders


@pytest.mark.parametrize("names", [list(BANDS), ["0%-20%", "20%-40%", "40%-60%"], ["0_20", "20_40", "40_60"]])
def test_folders_named_after_bands(tmp_path, names):
    for name, share in zip(names, [0.1, 0.3, 0.5]):
        save_mask(tmp_path / name / "b.png", share)
        save_mask(tmp_path / name / "deep" / "a.PNG", share)
    found = find_masks(tmp_path)
    assert list(found) == list(BANDS)
    for name, band in zip(names, BANDS):
        assert found[band] == [tmp_path / name / "b.png", tmp_path / name / "deep" / "a.PNG"]


def test_ten_percent_folders_join_their_band(tmp_path):
    for low in range(0, 60, 10):
        save_mask(tmp_path / f"{low}-{low + 10}" / "m.png", (low + 5) / 100)
    found = find_masks(tmp_path)
    assert [path.parent.name for path in found["20-40"]] == ["20-30", "30-40"]


def test_a_folder_between_bands_of_names_is_refused(tmp_path):
    save_mask(tmp_path / "0-20" / "m.png", 0.1)
    save_mask(tmp_path / "10-30" / "m.png", 0.25)
    with pytest.raises(InputError, match="got also 10-30"):
        find_masks(tmp_path)


def test_any_other_folder_is_sorted_by_what_the_masks_say(tmp_path):
    for name, share in [("a", 0.5), ("b", 0.15), ("c", 0.2), ("d", 0.21), ("e", 0.0), ("f", 0.7)]:
        save_mask(tmp_path / f"{name}.png", share)
    with pytest.warns(UserWarning, match="2 of 6 masks .* 1 fill nothing, 1 more than 60 percent"):
        found = find_masks(tmp_path)
    assert {band: [path.stem for path in paths] for band, paths in found.items()} == {
        "0-20": ["b", "c"],
        "20-40": ["d"],
        "40-60": ["a"],
    }


def test_nvidias_files_are_sorted_by_number(tmp_path, monkeypatch):
    assert holes.NVIDIA_COUNT == 12_000, "2,000 for each of six ten-percent steps"
    monkeypatch.setattr(holes, "NVIDIA_COUNT", 60)  # the same layout, in a fraction of the time
    for number in range(60):
        save_mask(tmp_path / f"{number:05d}.png", (number // 10 + 0.5) / 10, side=10)
    found = find_masks(tmp_path)
    assert [[int(path.stem) for path in paths] for paths in found.values()] == [
        list(range(20)),
        list(range(20, 40)),
        list(range(40, 60)),
    ]
    # By number, not by content: a file that says otherwise stays where its number puts it.
    save_mask(tmp_path / "00000.png", 0.5, side=10)
    assert find_masks(tmp_path)["0-20"][0].name == "00000.png"
    # With a file missing the numbers mean nothing, and what the masks say counts.
    (tmp_path / "00059.png").unlink()
    assert find_masks(tmp_path)["40-60"][0].name == "00000.png"


@pytest.mark.parametrize("folders", [True, False])
def test_inverted_masks_are_noticed_and_the_cure_works(tmp_path, folders):
    for band, share in zip(BANDS, [0.1, 0.3, 0.35 if folders else 0.25]):
        for number in range(4):
            save_mask(tmp_path / (band if folders else "") / f"{band}{number}.png", share + 0.01 * number, white=False)
    if folders:
        (tmp_path / "40-60").rename(tmp_path / "20-30")
    with pytest.raises(InputError, match=r"look inverted.*invert=True"):
        find_masks(tmp_path)
    assert sum(map(len, find_masks(tmp_path, invert=True).values())) == 12


def test_masks_in_the_wrong_folder_are_noticed(tmp_path):
    save_mask(tmp_path / "0-20" / "m.png", 0.3)
    with pytest.raises(InputError, match=r"band 0-20 .* fill 30% to 30%; expected 0% to 20%"):
        find_masks(tmp_path)


def test_no_mask_in_any_band(tmp_path):
    save_mask(tmp_path / "m.png", 0.0)
    with pytest.warns(UserWarning, match="1 fill nothing"), pytest.raises(InputError, match="no mask"):
        find_masks(tmp_path)


@pytest.mark.shared
def test_real_masks_are_in_their_bands_also_at_half_the_size(shared):
    found = find_masks(shared / "data" / "masks")
    assert {band: len(paths) for band, paths in found.items()} == dict.fromkeys(BANDS, 1000)
    rows = (row.split(",") for row in (shared / "data" / "masks" / "manifest.csv").read_text().split()[1:])
    stated = {f"{band}/{name}": float(share) for band, name, share in rows}
    for band, paths in found.items():
        for path in paths[::50]:
            hole = to_hole(path)
            assert hole_fraction(hole) == pytest.approx(stated[f"{band}/{path.name}"], abs=5.1e-6), "5 digits there"
            assert hole_fraction(resize_hole(hole, (128, 128))) == pytest.approx(hole_fraction(hole), abs=0.006)
