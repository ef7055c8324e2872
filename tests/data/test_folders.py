"""Finding images, and their size without decoding."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cicm.conventions import InputError
from cicm.photos.headers import find_images, image_size


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_nested_any_case_sorted_without_hidden_and_strange_files(tmp_path):
    wanted = ["B.JPG", "a/b/c.Jpeg", "a/x.png", "a-b/x.webp", "a.bmp", "z.TIF", "z.tiff", "ünï/ä.png"]
    for name in [*wanted, ".hidden.png", ".cache/x.png", "a/.b/x.png", "readme.txt", "x.png.part", "noending", "x.gif"]:
        touch(tmp_path / name)
    touch(tmp_path / "folder.png" / "inside.png")
    wanted.append("folder.png/inside.png")
    assert [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)] == sorted(wanted)
    assert find_images(str(tmp_path)) == find_images(tmp_path)


def test_missing_empty_and_not_a_folder(tmp_path):
    touch(tmp_path / "a.png")
    (tmp_path / "empty" / "er").mkdir(parents=True)
    with pytest.raises(InputError, match=r"nowhere does not exist"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"a.png is a file"):
        find_images(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"\.jpg.*found none"):
        find_images(tmp_path / "empty")


def test_size_is_that_of_the_upright_picture(tmp_path):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for ending in ("jpg", "png", "webp", "tiff"):
            path = tmp_path / f"photo.{ending}"
            Image.new("RGB", (30, 20)).save(path, exif=exif)
            assert image_size(path) == ((20, 30) if orientation < 5 else (30, 20)), orientation


def test_size_needs_the_header_only(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    for ending in ("jpg", "png"):
        path = tmp_path / f"photo.{ending}"
        Image.fromarray(pixels).save(path)
        path.write_bytes(path.read_bytes()[:1000])
        assert image_size(path) == (200, 300)


def test_size_of_what_is_no_image(tmp_path):
    for content in (None, b"", b"a text", b"\xff\xd8\xff\xe0 cut off", b"\x89PNG\r\n\x1a\n"):
        path = tmp_path / "odd.jpg"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=r"odd\.jpg(: .+| does not exist| is empty)") as raised:
            image_size(path)
        assert "\n" not in str(raised.value), content
