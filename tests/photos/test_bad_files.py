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

    def test_missing(self, reader, tmp_path: Path) -> None:
        self.refused(reader, tmp_path / "none.png", "does not exist")

    def test_folder(self, reader, tmp_path: Path) -> None:
        self.refused(reader, tmp_path, "is a folder")

    def test_empty(self, reader, tmp_path: Path) -> None:
        (tmp_path / "a.png").touch()
        self.refused(reader, tmp_path / "a.png", "is empty")

    def test_text(self, reader, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_text("not a picture at all\n" * 50)
        self.refused(reader, tmp_path / "a.jpg", "expected a picture")

    def test_postscript_is_never_started(self, reader, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
        )
        self.refused(reader, tmp_path / "a.png", "expected a picture")

    def test_pipe(self, reader, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.png")
        self.refused(reader, tmp_path / "pipe.png", "pipe")

    def test_long_and_odd_paths(self, reader, tmp_path: Path) -> None:
        with pytest.raises(InputError):
            reader(tmp_path / ("x" * 300 + ".png"))
        with pytest.raises(InputError):
            reader("a\0b.png")

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


class TestOutput:
    """What is not written to."""

    def photo(self, folder: Path):
        return open_photo(picture("png", folder))

    def refused(self, folder: Path, path: Path, words: str, **options) -> None:
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        with pytest.raises(InputError, match=words):
            save_photo(self.photo(folder), path, **options)
        after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        before[folder / "picture.png"] = after[folder / "picture.png"]
        assert before == after

    def test_unknown_ending(self, tmp_path: Path) -> None:
        self.refused(tmp_path, tmp_path / "a.jp2", r"\.jpg or \.jpeg or \.png")
        self.refused(tmp_path, tmp_path / "a", "ending")

    def test_existing(self, tmp_path: Path) -> None:
        (tmp_path / "b.png").write_bytes(b"precious")
        self.refused(tmp_path, tmp_path / "b.png", "exists.*--overwrite")
        save_photo(self.photo(tmp_path), tmp_path / "b.png", overwrite=True)
        assert open_photo(tmp_path / "b.png").size == (40, 60)

    def test_itself_also_by_another_name(self, tmp_path: Path) -> None:
        (tmp_path / "link.png").symlink_to(tmp_path / "picture.png")
        picture("png", tmp_path)
        os.link(tmp_path / "picture.png", tmp_path / "hard.png")
        photo = open_photo(tmp_path / "picture.png")
        for name in ("picture.png", "link.png", "hard.png", "../" + tmp_path.name + "/picture.png"):
            with pytest.raises(InputError, match="is the input"):
                save_photo(photo, tmp_path / name, overwrite=True)

    def test_folders(self, tmp_path: Path) -> None:
        (tmp_path / "sub.png").mkdir()
        self.refused(tmp_path, tmp_path / "sub.png", "is a folder")
        self.refused(tmp_path, tmp_path / "no" / "b.png", "does not exist")

    def test_dangling_link(self, tmp_path: Path) -> None:
        (tmp_path / "b.png").symlink_to(tmp_path / "nowhere.png")
        self.refused(tmp_path, tmp_path / "b.png", "exists")

    def test_a_failed_write_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        photo = self.photo(tmp_path)
        (tmp_path / "b.png").write_bytes(b"precious")

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="No space left"):
            save_photo(photo, tmp_path / "b.png", overwrite=True)
        assert (tmp_path / "b.png").read_bytes() == b"precious"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["b.png", "picture.png"]

    def test_permissions_are_those_of_a_new_file(self, tmp_path: Path) -> None:
        save_photo(self.photo(tmp_path), tmp_path / "b.png")
        (tmp_path / "plain").touch()
        assert (tmp_path / "b.png").stat().st_mode == (tmp_path / "plain").stat().st_mode
