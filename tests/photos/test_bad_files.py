"""Whatever is wrong with a file: one InputError that names it, never another exception, nothing written."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cicm.conventions import InputError
from cicm.photos.photo import open_photo, read_image, save_photo


def picture(ending: str, folder: Path, size: tuple[int, int] = (60, 40)) -> Path:
    """A file of some kilobytes."""
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path = folder / f"picture.{ending}"
    image = Image.fromarray(values)
    (image.convert("P") if ending == "gif" else image).save(path)
    return path


def png_of_size(path: Path, width: int, height: int) -> Path:
    """A few bytes that say they are a large picture."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100000)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("reader", [open_photo, read_image])
class TestRefused:
    """By both doors."""

    def refused(self, reader, path: Path, words: str) -> None:
        with pytest.raises(InputError, match=words) as caught:
            reader(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_text(self, reader, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_text("not a picture at all\n" * 50)
        self.refused(reader, tmp_path / "a.jpg", "expected a picture")

    def test_postscript_is_never_started(self, reader, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
        )
        self.refused(reader, tmp_path / "a.png", "expected a picture")

    @pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "bmp", "gif"])
    @pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
    def test_truncated(self, reader, tmp_path: Path, ending: str, share: float) -> None:
        path = picture(ending, tmp_path)
        data = path.read_bytes()
        path.write_bytes(data[: max(4, int(share * len(data)))])
        self.refused(reader, path, "truncated|damaged")

    def test_bomb(self, reader, tmp_path: Path) -> None:
        self.refused(reader, png_of_size(tmp_path / "a.png", 60000, 60000), "megapixels")  # beyond twice Pillow's limit
        self.refused(reader, png_of_size(tmp_path / "b.png", 2**31 - 1, 1), "megapixels")

    def test_animation(self, reader, tmp_path: Path) -> None:
        frames = [Image.new("P", (8, 8), i) for i in range(3)]
        frames[0].putpalette(bytes(range(256)) * 3)
        for ending in ("gif", "webp", "tif", "png"):
            converted = [f.convert("RGB" if ending != "gif" else "P") for f in frames]
            for i, f in enumerate(converted):
                f.putpixel((i, i), 7 if ending == "gif" else (255, 0, 0))
            converted[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=converted[1:])
            if reader is read_image:
                continue
            self.refused(reader, tmp_path / f"a.{ending}", "holds 3")

    def test_modes_of_unknown_look(self, reader, tmp_path: Path) -> None:
        Image.new("LAB", (8, 8)).save(tmp_path / "lab.tif")
        Image.new("I", (8, 8), 70000).save(tmp_path / "int.tif")
        Image.new("F", (8, 8), 3.5).save(tmp_path / "float.tif")
        for name, words in {"lab": "mode LAB", "int": "32-bit|mode I", "float": r"\[0, 1\]"}.items():
            self.refused(reader, tmp_path / f"{name}.tif", words)

    def test_not_a_number(self, reader, tmp_path: Path) -> None:
        Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "a.tif")
        self.refused(reader, tmp_path / "a.tif", "NaN")


def test_pixel_limit_comes_before_decoding(tmp_path: Path) -> None:
    path = picture("png", tmp_path)
    path.write_bytes(path.read_bytes()[:100])  # decoding it would fail in another way
    with pytest.raises(InputError, match="at most 0 are opened"):
        open_photo(path, max_pixels=2399)
    with pytest.raises(InputError, match="truncated"):
        open_photo(path, max_pixels=2400)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ending=st.sampled_from(["jpg", "png", "webp", "tif", "bmp", "gif"]),
    place=st.integers(0, 400),
    noise=st.binary(min_size=1, max_size=6),
)
def test_any_damage_is_an_input_error_or_harmless(tmp_path: Path, ending: str, place: int, noise: bytes) -> None:
    path = tmp_path / f"picture.{ending}"
    if not path.exists():
        picture(ending, tmp_path, (12, 9))
    data = bytearray(path.read_bytes())
    broken = tmp_path / f"broken.{ending}"
    place %= len(data)
    data[place : place + len(noise)] = noise
    broken.write_bytes(data)
    try:
        photo = open_photo(broken)
    except InputError:
        return
    assert photo.pixels.rgb().shape == (*photo.size, 3)


def test_the_photo_itself_is_no_output_under_any_name(tmp_path: Path) -> None:
    photo = open_photo(picture("png", tmp_path))
    (tmp_path / "link.png").symlink_to(photo.path)
    os.link(photo.path, tmp_path / "hard.png")
    for name in ("picture.png", "link.png", "hard.png", "../" + tmp_path.name + "/picture.png"):
        with pytest.raises(InputError, match="is the input"):
            save_photo(photo, tmp_path / name, overwrite=True)
