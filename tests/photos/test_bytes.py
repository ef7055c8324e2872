"""Photos that never were files: the same as those that were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.conventions import InputError
from cicm.photos.headers import PictureTooLarge
from cicm.photos.photo import decode_photo, encode_photo, open_photo, save_photo


def picture(mode: str, depth: type) -> Image.Image:
    rng = np.random.default_rng(0)
    shape = (30, 40) if mode == "L" else (30, 40, len(mode))
    return Image.fromarray(rng.integers(0, np.iinfo(depth).max, shape, dtype=depth))


@pytest.mark.parametrize(
    ("name", "mode", "depth", "how"),
    [
        ("a.jpg", "RGB", np.uint8, {"quality": 70, "progressive": True}),
        ("a.png", "RGBA", np.uint8, {"dpi": (300, 300)}),
        ("a.png", "L", np.uint16, {}),
        ("a.webp", "RGB", np.uint8, {"lossless": True}),
        ("a.webp", "RGB", np.uint8, {"quality": 50}),
        ("a.tif", "RGB", np.uint8, {"compression": "tiff_lzw"}),
        ("a.bmp", "RGB", np.uint8, {}),
    ],
)
def test_bytes_are_read_and_written_as_files_are(tmp_path: Path, name: str, mode: str, depth: type, how: dict) -> None:
    path, other = tmp_path / name, tmp_path / f"b{name}"
    picture(mode, depth).save(path, **how)
    opened, decoded = open_photo(path), decode_photo(path.read_bytes())
    assert np.array_equal(opened.pixels.values, decoded.pixels.values)
    assert (opened.format, opened.metadata, opened.encoding) == (decoded.format, decoded.metadata, decoded.encoding)
    save_photo(opened, other)
    assert encode_photo(decoded) == (other.read_bytes(), ())


def test_deep_colour_is_read_twice_from_the_same_bytes(tmp_path: Path) -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (6, 5, 3), dtype=np.uint16)
    Image.fromarray((deep // 257).astype(np.uint8)).save(tmp_path / "a.png")
    photo = open_photo(tmp_path / "a.png")
    deep_photo = photo.with_pixels(type(photo.pixels)(deep, "RGB"))
    data, _ = encode_photo(deep_photo)
    assert np.array_equal(decode_photo(data).pixels.values, deep)
    assert encode_photo(deep_photo, "JPEG")[1] == ("JPEG holds 8 bits a channel; 16-bit pixels were rounded",)


def test_what_is_refused_has_a_name_and_no_path() -> None:
    for data, words in ((b"", "the mask is empty"), (b"nothing", "the mask is none")):
        with pytest.raises(InputError, match=words):
            decode_photo(data, "the mask")


def test_too_large_is_an_error_of_its_own(tmp_path: Path) -> None:
    picture("RGB", np.uint8).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert decode_photo(data, max_pixels=1200).size == (30, 40)
    with pytest.raises(PictureTooLarge, match="40x30"):
        decode_photo(data, max_pixels=1199)


def test_an_unknown_format() -> None:
    photo = decode_photo(encode_photo_of_grey())
    with pytest.raises(InputError, match="one of JPEG"):
        encode_photo(photo, "EPS")


def encode_photo_of_grey() -> bytes:
    import io

    stream = io.BytesIO()
    picture("L", np.uint8).save(stream, "PNG")
    return stream.getvalue()
