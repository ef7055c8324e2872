"""What a file's first bytes say: pictures that are not read, and photos that can't be opened, without decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.conventions import InputError
from cicm.photos import formats, headers
from cicm.photos.headers import check_header, find_images, image_size, unsupported
from cicm.photos.photo import encode_photo, open_photo, save_photo

ALL = ["jpg", "png", "webp", "tif", "bmp", "gif", "avif", "heic"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file of each format."""
    folder = tmp_path_factory.mktemp("pictures")
    values = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(values).save(folder / "a.png")
    Image.fromarray(values).convert("P").save(folder / "a.gif")
    for ending in ALL:
        if ending not in ("png", "gif"):
            save_photo(open_photo(folder / "a.png"), folder / f"a.{ending}")
    return {ending: folder / f"a.{ending}" for ending in ALL}


def test_modern_formats_come_back_as_they_came(pictures: dict[str, Path], tmp_path: Path) -> None:
    for ending, name in (("avif", "AVIF"), ("heic", "HEIF")):
        photo = open_photo(pictures[ending])
        assert (photo.format, photo.size, photo.pixels.layout) == (name, (40, 60), "RGB")
        assert save_photo(photo, tmp_path / f"b.{ending}") == ()
        again = open_photo(tmp_path / f"b.{ending}")
        assert again.format == name
        # lossy, but noise keeps its look: twice at quality 90
        assert np.abs(again.pixels.rgb() - photo.pixels.rgb()).mean() < 0.05
        data, _ = encode_photo(photo, "WEBP")
        assert b"VP8L" not in data[:64]  # a lossy source is not blown up to a lossless file


@pytest.mark.parametrize("ending", ["avif", "heic"])
def test_modern_formats_are_turned_upright(ending: str, tmp_path: Path) -> None:
    photo = Image.new("RGB", (60, 40), (200, 0, 0))
    photo.paste((0, 0, 200), (0, 0, 30, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    if ending == "heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
    photo.save(tmp_path / f"a.{ending}", exif=exif.tobytes())
    opened = open_photo(tmp_path / f"a.{ending}")
    assert opened.size == image_size(tmp_path / f"a.{ending}") == (60, 40)
    top, bottom = opened.pixels.rgb()[5, 20], opened.pixels.rgb()[55, 20]
    assert top[2] > 0.6 > top[0]
    assert bottom[0] > 0.6 > bottom[2]
    save_photo(opened, tmp_path / f"b.{ending}")
    assert open_photo(tmp_path / f"b.{ending}").size == (60, 40)


def test_heic_without_its_extra_says_what_to_install(pictures: dict[str, Path], monkeypatch) -> None:
    monkeypatch.setattr(headers, "FORMATS", tuple(name for name in headers.FORMATS if name != "HEIF"))
    monkeypatch.setattr(headers, "ENDINGS", {e: f for e, f in formats.ENDINGS.items() if f != "HEIF"})
    assert unsupported("a.HEIC")
    with pytest.raises(InputError, match=r"not supported.*cicm\[heic\]"):
        open_photo(pictures["heic"])


def test_other_formats_are_not_supported_and_not_damaged(tmp_path: Path) -> None:
    made = {
        "a.ppm": b"P6\n1 1\n255\n\0\0\0",
        "a.pgm": b"P5\n1 1\n255\n\0",
        "a.jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 80,
        "a.tga": b"\0" * 80,
        "wrong.jpg": b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 80,
        "a.svg": b"<?xml version='1.0'?><svg/>",
    }
    for name, data in made.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert unsupported(name) != name.startswith("wrong")
        for reader in (open_photo, image_size, check_header):
            with pytest.raises(InputError, match="not supported; supported are JPEG, PNG") as caught:
                reader(path)
            assert str(path) in str(caught.value)
            assert "damaged" not in str(caught.value)
    Image.new("RGB", (8, 8)).save(tmp_path / "raw.tif")
    (tmp_path / "raw.tif").rename(tmp_path / "raw.dng")  # Pillow would take the preview in it for the photo
    with pytest.raises(InputError, match="raw is not supported"):
        open_photo(tmp_path / "raw.dng")
    (tmp_path / "wrong.jpg").unlink()
    with pytest.raises(InputError, match=r"found none.*; a\.\w+ is of a format that is not supported"):
        find_images(tmp_path)


def test_a_sound_header_is_enough(pictures: dict[str, Path], monkeypatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    for path in pictures.values():
        assert check_header(path) == (40, 60)


def test_what_the_run_refuses_is_found_before(pictures: dict[str, Path], tmp_path: Path) -> None:
    found = 0
    for ending, whole in pictures.items():
        data = whole.read_bytes()
        for length in sorted({5, 12, *(int(share * len(data)) for share in (0.02, 0.3, 0.6, 0.9)), len(data) - 2}):
            path = tmp_path / f"{length}.{ending}"
            path.write_bytes(data[:length])
            try:
                open_photo(path)
            except InputError:
                found += 1
                with pytest.raises(InputError, match=r"truncated|damaged"):
                    check_header(path)
            else:
                assert check_header(path) == (40, 60)
        path = tmp_path / f"more.{ending}"
        path.write_bytes(data + b"\0" * 70000)
        open_photo(path)
        assert check_header(path) == (40, 60)
    assert found > 6 * len(pictures) - 8


def test_animations_and_pages_are_found_without_decoding(tmp_path: Path, monkeypatch) -> None:
    frames = [Image.new("RGB", (8, 8), (80 * i, 0, 0)) for i in range(3)]
    for ending in ("gif", "webp", "tif", "png", "avif"):
        frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
        with pytest.raises(InputError, match="holds 3"):
            check_header(tmp_path / f"a.{ending}")


def test_empty_and_too_large(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="is empty"):
        check_header(tmp_path / "a.png")
    Image.new("1", (20000, 10000)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match="megapixels"):
        check_header(tmp_path / "b.png")
