"""The fixed list: made from a seed, written whole, read strictly, and with a hash that any change changes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from cicm.conventions import BANDS, InputError, band_of
from cicm.data.holes import hole_fraction, resize_hole, to_hole
from cicm.data.pair_lists import Pair, pairs_hash, read_pairs, write_pairs
from cicm.data.pairs import hole_of, make_pairs

PAIRS = [
    Pair("a.jpg", "0-20/m.png", "0-20", 128, 128),
    Pair('deep/b, "c".png', "20-40/ö.png", "20-40", 256, 192),
    Pair("a.jpg", "generated:7:0123abcd", "40-60", 128, 128),
]


@pytest.fixture
def folders(tmp_path):
    """Five images of two sizes and four masks per band."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    (images / "deep").mkdir(parents=True)
    for name, size in [("a.png", (64, 64)), ("b.png", (90, 70)), ("deep/c.png", (32, 40)), ("deep/d.jpg", (32, 32))]:
        Image.new("RGB", size).save(images / name)
    rng = np.random.default_rng(0)
    for band, (low, high) in BANDS.items():
        (masks / band).mkdir(parents=True)
        for number in range(4):
            hole = rng.permutation(4096) < (low + (0.2 + 0.2 * number) * (high - low)) * 4096
            Image.fromarray(hole.reshape(64, 64)).save(masks / band / f"{number}.png")
    return images, masks


def test_every_image_gets_a_hole_of_each_band_at_the_largest_size_that_fits(folders):
    images, masks = folders
    pairs = make_pairs(images, masks, seed=1, sizes=(64, 32))
    assert [(pair.image, pair.band) for pair in pairs] == [
        (name, band) for name in ["a.png", "b.png", "deep/c.png", "deep/d.jpg"] for band in BANDS
    ]
    assert {pair.image: (pair.height, pair.width) for pair in pairs} == {
        "a.png": (64, 64),
        "b.png": (64, 64),
        "deep/c.png": (32, 32),
        "deep/d.jpg": (32, 32),
    }
    for pair in pairs:
        hole = hole_of(pair, masks)
        assert hole.shape == (1, pair.height, pair.width)
        assert band_of(hole_fraction(hole)) == pair.band
        assert hole.equal(resize_hole(to_hole(masks / pair.mask), (pair.height, pair.width)))


def test_same_seed_same_list_other_seed_other_list(folders):
    assert make_pairs(*folders, seed=3, sizes=[32]) == make_pairs(*folders, seed=3, sizes=[32])
    assert make_pairs(*folders, seed=3, sizes=[32]) != make_pairs(*folders, seed=4, sizes=[32])


def test_no_mask_comes_twice_before_all_have_come(folders):
    images, masks = folders
    for number in range(8):
        Image.new("RGB", (32, 32)).save(images / f"more{number}.png")
    counts = Counter(pair.mask for pair in make_pairs(images, masks, sizes=[32]))
    assert len(counts) == 12
    assert set(counts.values()) == {3}, "12 images, 4 masks per band"


def test_a_mask_that_leaves_its_band_when_reduced_is_passed_over(folders):
    images, masks = folders
    for path in (masks / "20-40").iterdir():
        path.unlink()
    stripes = np.zeros((64, 64), dtype=bool)
    stripes[::4] = True  # 25 percent; reduced to 32, the rows under the centres have none
    Image.fromarray(stripes).save(masks / "20-40" / "stripes.png")
    with pytest.raises(InputError, match=r"no mask .* in the band 20-40 at 32x32"):
        make_pairs(images, masks, sizes=[32])
    Image.fromarray(np.arange(4096).reshape(64, 64) < 1200).save(masks / "20-40" / "block.png")
    pairs = make_pairs(images, masks, sizes=[32])
    assert {pair.mask for pair in pairs if pair.band == "20-40"} == {"20-40/block.png"}


def test_native_sizes(folders):
    pairs = make_pairs(*folders, sizes=None)
    assert {pair.image: (pair.height, pair.width) for pair in pairs} == {
        "a.png": (64, 64),
        "b.png": (70, 90),
        "deep/c.png": (40, 32),
        "deep/d.jpg": (32, 32),
    }


def test_an_image_too_small_for_every_size_is_named(folders):
    with pytest.raises(InputError, match=r"deep/c.png has 32x40 pixels.*64.*never enlarged"):
        make_pairs(*folders, sizes=[64])


def test_painted_holes_need_no_mask_files(folders):
    pairs = make_pairs(folders[0], None, seed=5, sizes=(64, 32))
    assert all(pair.mask.startswith("generated:") for pair in pairs)
    assert len({pair.mask for pair in pairs}) == len(pairs)
    for pair in pairs:
        hole = hole_of(pair)
        assert hole.shape == (1, pair.height, pair.width)
        assert band_of(hole_fraction(hole)) == pair.band
        assert hole.equal(hole_of(pair))
    assert pairs == make_pairs(folders[0], None, seed=5, sizes=(64, 32))


def test_a_hole_that_is_painted_differently_is_noticed(folders):
    pair = make_pairs(folders[0], None, sizes=[32])[0]
    changed = pair._replace(mask=pair.mask[:-1] + ("0" if pair.mask[-1] != "0" else "1"))
    with pytest.raises(InputError, match="painted differently here"):
        hole_of(changed)
    assert hole_of(pair._replace(mask=pair.mask.rpartition(":")[0])).equal(hole_of(pair)), "a bare seed will do"


def test_a_hole_outside_its_band_is_refused_and_polarity_doubted(folders):
    images, masks = folders
    pair = make_pairs(images, masks, sizes=[32])[0]
    assert pair.band == "0-20"
    with pytest.raises(InputError, match=r"band 20-40 at 32x32, but fills .*Use the masks that the list was made with"):
        hole_of(pair._replace(band="20-40"), masks)
    with pytest.raises(InputError, match="look inverted"):
        hole_of(pair, masks, invert=True)
    with pytest.raises(InputError, match="give the folder"):
        hole_of(pair)


def test_wrong_settings(folders):
    for options, words in (({"seed": -1}, "0 or above; got -1"), ({"invert": True}, "look inverted.*invert=False")):
        with pytest.raises(InputError, match=words):
            make_pairs(*folders, sizes=[32], **options)


# The file


def test_written_and_read_it_is_the_same_list(tmp_path):
    digest = write_pairs(tmp_path / "list.csv", PAIRS)
    assert read_pairs(tmp_path / "list.csv") == PAIRS
    assert digest == pairs_hash(PAIRS)
    lines = (tmp_path / "list.csv").read_text(encoding="utf-8").split("\n")
    assert lines[:3] == [
        f"# cicm pairs sha256 {digest}",
        "image,mask,band,height,width",
        "a.jpg,0-20/m.png,0-20,128,128",
    ]
    assert hashlib.sha256("\n".join(lines[1:]).encode()).hexdigest() == digest, "anyone can check it"


def test_the_hash_changes_with_every_field():
    for change in ({"image": "A.jpg"}, {"mask": "n.png"}, {"band": "20-40"}, {"height": 129}, {"width": 1}):
        assert pairs_hash([PAIRS[0]._replace(**change), *PAIRS[1:]]) != pairs_hash(PAIRS), change


def test_the_hash_changes_with_order_and_length():
    assert len({pairs_hash(PAIRS), pairs_hash(PAIRS[::-1]), pairs_hash(PAIRS[:2])}) == 3


def test_a_list_made_by_hand_needs_no_hash(tmp_path):
    (tmp_path / "list.csv").write_text("image,mask,band,height,width\r\na.jpg,m.png,0-20,64,64\r\n")
    assert read_pairs(tmp_path / "list.csv") == [Pair("a.jpg", "m.png", "0-20", 64, 64)]
    (tmp_path / "list.csv").write_text("photo,mask,band,height,width\na.jpg,m.png,0-20,64,64\n")  # as lists of boxes
    assert read_pairs(tmp_path / "list.csv") == [Pair("a.jpg", "m.png", "0-20", 64, 64)]


def test_a_changed_list_is_noticed(tmp_path):
    path = tmp_path / "list.csv"
    write_pairs(path, PAIRS)
    path.write_text(path.read_text(encoding="utf-8").replace("a.jpg", "z.jpg", 1), encoding="utf-8")
    with pytest.raises(InputError, match="do not fit the hash"):
        read_pairs(path)


HEAD = "image,mask,band,height,width\n"


def test_a_faulty_list_is_refused_with_its_line(tmp_path):
    for text, words in (
        ("", "is empty"),
        ("image,mask\n", "expected the columns image,mask,band,height,width"),
        (HEAD, "expected one pair or more"),
        (HEAD + "a.jpg,m.png,0-20,64\n", "line 2: expected 5 fields, got 4"),
        (HEAD + "a.jpg,m.png,0-20,64,64\n\n", "line 3: expected 5 fields, got 0"),
        (HEAD + "../a.jpg,m.png,0-20,64,64\n", "inside the folder, got '../a.jpg'"),
        (HEAD + "/etc/a.jpg,m.png,0-20,64,64\n", "inside the folder"),
        (HEAD + "a\\b.jpg,m.png,0-20,64,64\n", "inside the folder"),
        (HEAD + "C:/b.jpg,m.png,0-20,64,64\n", "inside the folder"),
        (HEAD + "./b.jpg,m.png,0-20,64,64\n", "inside the folder"),
        (HEAD + ",m.png,0-20,64,64\n", "inside the folder"),
        (HEAD + "a.jpg,x/../../m.png,0-20,64,64\n", "mask must be a relative"),
        (HEAD + "a.jpg,generated:-1,0-20,64,64\n", "generated:SEED"),
        (HEAD + "a.jpg,generated:,0-20,64,64\n", "generated:SEED"),
        (HEAD + "a.jpg,generated:1:12,0-20,64,64\n", "generated:SEED"),
        (HEAD + "a.jpg,m.png,0-30,64,64\n", "band must be one of 0-20, 20-40, 40-60, got '0-30'"),
        (HEAD + "a.jpg,m.png,0-20,0,64\n", "height and width"),
        (HEAD + "a.jpg,m.png,0-20,64,64.0\n", "height and width"),
        (HEAD + "a.jpg,m.png,0-20,64,99999999\n", "height and width"),
        (HEAD + "a.jpg,m.png,0-20,64,64\na.jpg,m.png,0-20,64,64\n", "line 3: this pair stands here twice"),
        (HEAD + 'a.jpg,"m.png,0-20,64,64\n', "not a CSV file"),
        ("# cicm pairs sha256 00\n" + HEAD + "a.jpg,m.png,0-20,64,0\n", "line 3: height"),
    ):
        (tmp_path / "list.csv").write_text(text)
        with pytest.raises(InputError, match=words) as raised:
            read_pairs(tmp_path / "list.csv")
        assert "list.csv" in str(raised.value), text
        assert "\n" not in str(raised.value), text


def test_a_file_that_is_no_list(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name, words in [("bytes", "not a text file"), ("nowhere", "does not exist"), ("", "is a folder")]:
        with pytest.raises(InputError, match=words):
            read_pairs(tmp_path / name)


def test_a_faulty_list_is_not_written(tmp_path):
    with pytest.raises(InputError, match="inside the folder"):
        write_pairs(tmp_path / "list.csv", [Pair("../a.jpg", "m.png", "0-20", 64, 64)])
    with pytest.raises(InputError, match="one pair or more"):
        write_pairs(tmp_path / "list.csv", [])
    assert os.listdir(tmp_path) == []


@pytest.mark.shared
def test_a_list_over_real_photos_and_masks(shared, tmp_path):
    images, masks = tmp_path / "images", shared / "data" / "masks"
    images.mkdir()
    for path in sorted((shared / "data" / "scenes" / "test").iterdir())[::40]:
        shutil.copy(path, images)
    pairs = make_pairs(images, masks)
    assert {(pair.height, pair.width) for pair in pairs} == {(256, 256), (128, 128)}
    for pair in pairs:
        assert band_of(hole_fraction(hole_of(pair, masks))) == pair.band
        assert pair.mask.startswith(f"{pair.band}/")
