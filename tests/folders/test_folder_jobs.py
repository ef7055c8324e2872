"""What is found in a folder, how results are named, and where holes come from; no network."""

from __future__ import annotations

import json
import os
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cicm.conventions import InputError
from cicm.files import Listing, walk
from cicm.folders import MaskAlpha, MaskBeside, MaskBoxes, MaskColour, MaskFolder, OneMask
from cicm.folders.assigning import Job, is_picture
from cicm.folders.boxes import read_boxes
from cicm.folders.naming import in_shard, named
from cicm.photos.marking import grown
from cicm.photos.photo import open_photo
from cicm.terminal import several, shown


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


# Finding --------------------------------------------------------------------------------------------------------------


def test_the_order_is_that_of_the_paths_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    names = ["b.png", "a/z.JPG", "a.png/in.webp", "a/y.tiff", "B.png", "ü.png", "two\nlines.png"]
    touch(tmp_path, *names, ".hidden.png", ".git/a.png", "notes.txt", "no-ending")
    found = walk(tmp_path, is_picture, "photos")
    assert found.files == tuple(sorted(names))
    assert found.problems == ()


def test_what_looks_like_a_picture_and_is_none_is_named(tmp_path: Path) -> None:
    root = touch(tmp_path / "photos", "a.png", "sub/b.png")
    outside = touch(tmp_path / "secret", "c.png")
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")
    (root / "inside.png").symlink_to(root / "a.png")
    (root / "nowhere.png").symlink_to(root / "gone.png")
    (root / "out.png").symlink_to(outside / "c.png")
    (root / "out").symlink_to(outside)
    (root / "loop").symlink_to(root)
    found = walk(root, is_picture, "photos")
    assert found.files == ("a.png", "inside.png", "sub/b.png")
    told = dict(found.problems)
    assert set(told) == {"folder.png/", "pipe.png", "nowhere.png", "out.png", "out", "loop"}
    assert "link to a folder" in told["loop"]
    assert "holds no photos" in told["folder.png/"]
    assert "pipe" in told["pipe.png"]
    assert "link to nothing" in told["nowhere.png"]
    assert "out of the folder" in told["out.png"]
    assert "out of the folder" in told["out"]


def test_a_folder_that_cannot_be_listed_is_named_and_the_rest_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "shut/b.png")
    real = os.scandir

    def shut(path):
        if str(path).rstrip("/").endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", shut)
    found = walk(tmp_path, is_picture, "photos")
    assert found.files == ("a.png",)
    assert found.problems == (("shut/", "this folder can't be listed: Permission denied."),)


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.png")).touch()
    except OSError:
        pytest.skip("this file system takes only Unicode")
    (name,) = walk(tmp_path, is_picture, "photos").files
    assert os.fsencode(name) == b"bad\xff.png"
    assert shown(name) == "bad\\udcff.png"
    assert in_shard(name, (1, 1))


def test_ten_thousand_files_are_found_quickly(tmp_path: Path) -> None:
    for number in range(10_000):
        folder = tmp_path / str(number % 7)
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.jpg").touch()
    began = time.perf_counter()
    found = walk(tmp_path, is_picture, "photos")
    names = named(((photo, photo) for photo in found.files), None, {})
    assert len(found.files) == len(names) == 10_000
    assert time.perf_counter() - began < 5  # 0.2 s where it was written; a busy machine is given some air


def test_no_folder(tmp_path: Path) -> None:
    touch(tmp_path, "file")
    for place in ("none", "file"):
        with pytest.raises(InputError, match="expected a folder of photos"):
            walk(tmp_path / place, is_picture, "photos")


# Naming ---------------------------------------------------------------------------------------------------------------


def folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


PARTS = st.sampled_from(["a", "A", "b", "é", "e\u0301", "a~2", "a.jpg", "ß", "ss"])
PATHS = st.builds(
    lambda folder, stem, ending: (f"{folder}/" if folder else "") + stem + ending,
    st.sampled_from(["", "a", "A", "a.png"]),
    PARTS,
    st.sampled_from([".png", ".PNG", ".jpg", ".jpeg", ".tif"]),
)


@given(st.sets(PATHS, max_size=25), st.sampled_from([None, ".png", ".jpg"]))
def test_no_two_results_are_called_alike(paths: set[str], ending: str | None) -> None:
    wanted = [(path, path) for path in sorted(paths)]
    names = named(wanted, ending, {})
    assert list(names) == sorted(paths)
    assert len({folded(name) for name in names.values()}) == len(paths)
    folders = {folded(path.rpartition("/")[0]) for path in paths}
    assert not folders & {folded(name) for name in names.values()}  # a file and a folder can't have one name either
    for path, name in names.items():
        assert name.rpartition("/")[0] == path.rpartition("/")[0]
        if ending is None:
            assert os.path.splitext(name)[1] == os.path.splitext(path)[1]
    # What a journal holds stays, whatever is added later.
    later = named([("0.png", "0.png"), *wanted], ending, names)
    assert {key: later[key] for key in names} == names
    assert len({folded(name) for name in later.values()}) == len(later)


def test_names_are_the_photos_own_where_nothing_collides() -> None:
    paths = ["a.jpeg", "a.jpg", "a.png", "sub/a.png", "A/a.png"]
    assert named([(p, p) for p in paths], None, {}) == {p: p for p in paths}
    assert named([("a.JPEG", "a.JPEG"), ("b.png", "b.png")], ".jpg", {}) == {"a.JPEG": "a.JPEG", "b.png": "b.jpg"}


@given(st.integers(1, 20), st.text(min_size=1, max_size=9))
def test_each_key_is_in_one_shard(count: int, key: str) -> None:
    assert sum(in_shard(key, (number, count)) for number in range(1, count + 1)) == 1


def test_shards_are_alike_in_size() -> None:
    keys = [f"{n}.jpg" for n in range(4000)]
    sizes = [sum(in_shard(key, (number, 4)) for key in keys) for number in range(1, 5)]
    assert min(sizes) > 850  # binomial: 1000 +- 27


def test_words() -> None:
    assert shown("a\x1b[31m\r\nü") == "a\\x1b[31m\\r\\nü"
    assert several(["a", "b"]) == "a, b"


# Mask files -----------------------------------------------------------------------------------------------------------


def test_masks_of_a_folder(tmp_path: Path) -> None:
    masks = touch(
        tmp_path / "masks", "a.png", "a.jpg", "b.bmp", "two.png", "two.tif", "sub/c.png", "left.png", "d.jpg.png"
    )
    photos = Listing(("a.jpg", "a.png", "b.jpg", "c.jpg", "d.jpg", "d.tif", "none.png", "sub/c.webp", "two.jpg"))
    assigned = MaskFolder(masks).assign(tmp_path / "photos", photos)
    assert {job.photo: job.masks for job in assigned.jobs} == {
        "a.jpg": ("a.jpg",),
        "a.png": ("a.png",),
        "b.jpg": ("b.bmp",),
        "d.jpg": ("d.jpg.png",),
        "sub/c.webp": ("sub/c.png",),
    }
    missing = dict(assigned.missing)
    assert set(missing) == {"c.jpg", "d.tif", "none.png", "two.jpg"}
    assert "several masks: two.png, two.tif" in missing["two.jpg"]
    assert assigned.unused == ("left.png",)


def test_a_mask_that_is_a_link_out_is_not_used(tmp_path: Path) -> None:
    masks = touch(tmp_path / "masks", "b.png")
    (masks / "a.png").symlink_to(touch(tmp_path, "elsewhere.png") / "elsewhere.png")
    assigned = MaskFolder(masks).assign(tmp_path / "photos", Listing(("a.png", "b.png")))
    assert [job.photo for job in assigned.jobs] == ["b.png"]
    assert "link out of the folder" in dict(assigned.missing)["a.png"]


def test_masks_among_the_photos_are_no_photos(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.png", "masks/a.png")
    assert [job.photo for job in MaskFolder(root / "masks").assign(root, walk(root, is_picture, "photos")).jobs] == [
        "a.png"
    ]


def test_one_mask_for_all(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.png", "sub/b.png")
    mask = root / "logo.png"
    Image.new("L", (3, 3)).save(mask)
    jobs = OneMask(mask).assign(root, walk(root, is_picture, "photos")).jobs
    assert [(job.photo, job.masks) for job in jobs] == [("a.png", ("logo.png",)), ("sub/b.png", ("logo.png",))]
    assert OneMask(mask).where(root, "logo.png") == mask
    with pytest.raises(InputError, match=r"the mask .*none.png does not exist"):
        OneMask(root / "none.png").assign(root, walk(root, is_picture, "photos"))


def test_masks_beside_the_photos(tmp_path: Path) -> None:
    files = ("a.jpg", "a.png", "a_mask.png", "b.jpg", "b_mask000.png", "b_mask001.jpg", "c.png", "d_mask.png")
    found = Listing((*files, "s/a_mask.png", "s/a.webp"))
    assigned = MaskBeside("_mask").assign(tmp_path, found)
    assert {job.key: job.masks for job in assigned.jobs} == {
        "a.jpg": ("a_mask.png",),
        "a.png": ("a_mask.png",),
        "b.jpg": ("b_mask000.png", "b_mask001.jpg"),
        "s/a.webp": ("s/a_mask.png",),
    }
    assert [photo for photo, _ in assigned.missing] == ["c.png"]
    assert assigned.unused == ("d_mask.png",)


def test_no_suffix() -> None:
    for suffix in ("", "a/b", ".png"):
        with pytest.raises(InputError, match="suffix"):
            MaskBeside(suffix)


# Holes ----------------------------------------------------------------------------------------------------------------


def save_mask(path: Path, hole: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(hole.astype(np.uint8) * 255).save(path)
    return path


def some_hole(height: int = 20, width: int = 30, at: int = 4) -> np.ndarray:
    hole = np.zeros((height, width), dtype=bool)
    hole[at : at + 3, at : at + 5] = True
    return hole


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 200, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_several_masks_are_united(photo: Path) -> None:
    root = photo.parent
    save_mask(root / "a_mask0.png", some_hole(at=2))
    save_mask(root / "a_mask1.png", some_hole(at=11))
    job = Job("a.png", "a.png", ("a_mask0.png", "a_mask1.png"))
    _, hole = MaskBeside("_mask").apply(open_photo(photo), job, root)
    assert np.array_equal(hole, some_hole(at=2) | some_hole(at=11))
    _, hole = MaskBeside("_mask", invert=True).apply(open_photo(photo), Job("a.png", "a.png", ("a_mask0.png",)), root)
    assert np.array_equal(hole, ~some_hole(at=2))


def test_a_mask_that_does_not_fit(photo: Path) -> None:
    root = photo.parent
    save_mask(root / "m" / "a.png", np.ones((30, 20)))
    for hole, words in [
        (np.ones((30, 20)), "mask of 20x30 for a picture of 30x20"),
        (np.zeros((20, 30)), "has no white"),
        (np.ones((20, 30)), "whole picture"),
    ]:
        save_mask(root / "m" / "a.png", hole)
        with pytest.raises(InputError, match=words):
            MaskFolder(root / "m").apply(open_photo(photo), Job("a.png", "a.png", ("a.png",)), root)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "key", "PA"])
def test_transparency_is_filled_and_becomes_opaque(tmp_path: Path, mode: str) -> None:
    hole, path = some_hole(), tmp_path / "a.png"
    alpha = Image.fromarray(np.where(hole, 40, 200).astype(np.uint8))
    image = Image.fromarray(np.full((20, 30, 3), 90, dtype=np.uint8))
    if mode in ("RGBA", "LA"):
        image = image.convert(mode[:-1])
        image.putalpha(alpha)
        image.save(path)
    elif mode == "PA":
        values = np.zeros((20, 30), dtype=np.uint8)
        values[hole] = 1
        image = Image.fromarray(values, "P")
        image.putpalette([90, 90, 90, 10, 20, 30])
        image.save(path, transparency=b"\xc8\x28")
    else:
        values = np.full((20, 30), 90, dtype=np.uint8)
        values[hole] = 7
        image = Image.fromarray(values)
        if mode == "P":
            image = image.convert("P")
        image.save(path, transparency=7)
    seen, found = MaskAlpha().apply(open_photo(path), Job("a.png", "a.png"), tmp_path)
    assert np.array_equal(found, hole)
    top = seen.pixels.values[..., -1]
    assert (top[hole] == 255).all()
    assert (top[~hole] == (255 if mode in ("P", "key") else 200)).all()


def test_an_opaque_photo_has_nothing_to_fill(photo: Path) -> None:
    with pytest.raises(InputError, match="no pixel is transparent"):
        MaskAlpha().apply(open_photo(photo), Job("a.png", "a.png"), photo.parent)


def test_a_colour_is_filled(photo: Path) -> None:
    values = np.array(Image.open(photo))
    hole = some_hole()
    values[hole] = (250, 5, 255)
    values[0, 0], values[0, 1] = (247, 8, 247), (246, 0, 255)  # at the tolerance, and one beyond it
    Image.fromarray(values).save(photo)
    job = Job("a.png", "a.png")
    _, found = MaskColour((255, 0, 255)).apply(open_photo(photo), job, photo.parent)
    expected = hole.copy()
    expected[0, 0] = True
    assert np.array_equal(found, expected)
    with pytest.raises(InputError, match="within 4 of the colour ff00ff"):
        MaskColour((255, 0, 255), 4).apply(open_photo(photo), job, photo.parent)


ROWS = [("a.png", (1, 2, 5, 7)), ("sub/b.png", (0, 0, 3, 4)), ("a.png", (10, 2, 12, 9)), ("gone.png", (0, 0, 1, 1))]
NAMES = ("left", "top", "right", "bottom")


@pytest.mark.parametrize("kind", ["csv", "json", "excel"])
def test_boxes(photo: Path, kind: str) -> None:
    root = photo.parent
    file = root / ("boxes.json" if kind == "json" else "boxes.csv")
    if kind == "json":
        rows = [{"photo": name, **{n: float(v) for n, v in zip(NAMES, box, strict=True)}} for name, box in ROWS]
        file.write_text(json.dumps(rows))
    else:
        lines = [f"extra,right,{'image' if kind == 'excel' else 'photo'},left,top,bottom"]  # as in lists of pairs
        lines += [f"x,{r},{name},{left},{t},{b}" for name, (left, t, r, b) in ROWS]
        file.write_bytes(("\ufeff" if kind == "excel" else "").encode() + "\r\n".join(lines).encode())
    assert list(read_boxes(file)) == ROWS
    assigned = MaskBoxes(file).assign(root, Listing(("a.png", "c.png", "sub/b.png")))
    assert [job.boxes for job in assigned.jobs] == [(ROWS[0][1], ROWS[2][1]), (ROWS[1][1],)]
    assert [name for name, _ in assigned.missing] == ["c.png"]
    assert assigned.unused == ("gone.png",)
    _, hole = MaskBoxes(file).apply(open_photo(photo), assigned.jobs[0], root)
    expected = np.zeros((20, 30), dtype=bool)
    expected[2:7, 1:5] = expected[2:9, 10:12] = True
    assert np.array_equal(hole, expected)
    with pytest.raises(InputError, match="does not lie in the picture of 30x20"):
        MaskBoxes(file).apply(open_photo(photo), Job("a.png", "a.png", boxes=((0, 0, 31, 4),)), root)


BAD_LISTS = {
    "no column": ("a.csv", "photo,left,top,right\na.png,1,2,3", "no column bottom"),
    "text": ("a.csv", "photo,left,top,right,bottom\na.png,1,2,x,4", "row 1 .*whole numbers"),
    "short": ("a.csv", "photo,left,top,right,bottom\na.png,1,2,3,4\na.png,1", "row 2"),
    "halves": ("a.csv", "photo,left,top,right,bottom\na.png,1.5,2,3,4", "row 1"),
    "turned": ("a.csv", "photo,left,top,right,bottom\na.png,5,2,3,4", "is no box"),
    "negative": ("a.csv", "photo,left,top,right,bottom\na.png,-1,2,3,4", "is no box"),
    "huge": ("a.csv", "photo,left,top,right,bottom\na.png,1,2,99999999999,4", "whole numbers"),
    "empty": ("a.csv", " ", "no column photo"),
    "object": ("a.json", '{"photo": 1}', "JSON list"),
    "broken": ("a.json", "[{", "can't be read"),
    "nan": ("a.json", '[{"photo": "a", "left": NaN, "top": 1, "right": 2, "bottom": 3}]', "whole numbers"),
    "deep": ("a.json", "[" * 100_000, "can't be read"),
    "no name": ("a.json", '[{"left": 1, "top": 1, "right": 2, "bottom": 3}]', "photo's name"),
}


def test_bad_lists(tmp_path: Path) -> None:
    for name, text, words in BAD_LISTS.values():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=words):
            list(read_boxes(tmp_path / name))


# Growing --------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 14), st.integers(0, 9), st.floats(0, 0.3))
def test_growing_is_all_pixels_within_that_distance(seed: int, height: int, width: int, by: int, share: float) -> None:
    hole = np.random.default_rng(seed).random((height, width)) < share
    expected = np.zeros_like(hole)
    rows, columns = np.mgrid[:height, :width]
    for row, column in np.argwhere(hole):
        expected |= (rows - row) ** 2 + (columns - column) ** 2 <= by * by
    before = hole.copy()
    assert np.array_equal(grown(hole, by), expected)
    assert np.array_equal(hole, before)


def test_growing_comes_after_inverting(photo: Path) -> None:
    root = photo.parent
    save_mask(root / "m.png", ~some_hole())
    _, hole = OneMask(root / "m.png", invert=True, grow=2).apply(
        open_photo(photo), Job("a.png", "a.png", ("m.png",)), root
    )
    assert np.array_equal(hole, grown(some_hole(), 2))


def test_no_growth() -> None:
    for grow in (-1, 513):
        with pytest.raises(InputError, match="0 to 512"):
            MaskAlpha(grow=grow)
