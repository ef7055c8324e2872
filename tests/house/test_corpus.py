"""A seeded corpus of damaged files of each format: each is read or refused in one line; nothing hangs."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.conventions import InputError

NUMBER = 300
"""Files of each format."""

LONGEST = 60.0
"""Seconds for one file, also on a busy machine: the bounds keep it below one."""

_ODD = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\0",
    b"\xff\xd9",
    b"\xff\xda",
)


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes: bits, bytes, pieces that are gone, come twice or come from elsewhere, an early end."""
    data = bytearray(whole)
    for _ in range(rng.integers(1, 5)):
        # half of all changes near the start, where headers are
        end = min(len(data), 200) if rng.random() < 0.5 else len(data)
        at, length = int(rng.integers(0, max(1, end))), int(rng.integers(1, 33))
        match rng.integers(0, 7):
            case 0 if data:
                data[at % len(data)] ^= 1 << int(rng.integers(0, 8))
            case 1:
                data[at : at + length] = rng.bytes(length)
            case 2:
                odd = _ODD[int(rng.integers(len(_ODD)))]
                data[at : at + len(odd)] = odd
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length] * int(rng.integers(1, 20))
            case 5:
                other = int(rng.integers(0, max(1, len(data))))
                data[at : at + length] = data[other : other + length]
            case _:
                del data[int(rng.integers(1, max(2, len(data)))) :]
    return bytes(data)


def attack(whole: bytes, read: Callable[[bytes], object], refused: tuple[type[Exception], ...] = (InputError,)) -> int:
    """Read all damaged files; gives back how many were refused."""
    read(whole)
    count = 0
    for seed in range(NUMBER):
        data = damaged(whole, np.random.default_rng([seed, len(whole)]))
        started = time.perf_counter()
        try:
            read(data)
        except refused as error:
            count += "\n" not in str(error) or pytest.fail(f"seed {seed}: {error}")
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        assert time.perf_counter() - started < LONGEST, f"seed {seed}"
    return count


def picture(format_: str, **how: object) -> bytes:
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((48, 36), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[270], exif[274] = "a picture", 6
    exif.get_ifd(0x8769)[0x829A] = (1, 50)
    stream = io.BytesIO()
    held = format_ not in ("GIF", "BMP") and "compression" not in how  # libtiff can not write an EXIF directory
    more = {"exif": exif.tobytes()} if held else {}
    (image.convert("P") if format_ == "GIF" else image).save(stream, format_, **more, **how)  # type: ignore[arg-type]
    return stream.getvalue()


PHOTOS = {
    "jpeg": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "lossless webp": ("WEBP", {"lossless": True}),
    "tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "plain tiff": ("TIFF", {}),
    "bmp": ("BMP", {}),
    "gif": ("GIF", {}),
    "avif": ("AVIF", {}),
    "heic": ("HEIF", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PHOTOS)
def test_photos_and_masks(name: str, tmp_path: Path) -> None:
    from cicm.photos.formats import ENDINGS
    from cicm.photos.headers import check_header, declared_size, image_size
    from cicm.photos.masks import missing_pixels
    from cicm.photos.photo import decode_photo, encode_photo, read_image

    format_, how = PHOTOS[name]
    if format_ not in ENDINGS.values():
        pytest.skip(f"{format_} is not read on this machine")
    if format_ == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    file = tmp_path / "a.bin"

    def read(data: bytes) -> None:
        file.write_bytes(data or b"\0")
        for door in (image_size, check_header, read_image, missing_pixels):
            with suppress(InputError):
                door(file)
        declared_size(data, "a")
        photo = decode_photo(data, "a")
        assert photo.pixels.rgb().shape == (*photo.size, 3)
        encode_photo(photo, "PNG")

    assert attack(picture(format_, **how), read) > NUMBER // 10


@pytest.mark.slow
def test_weights(tmp_path: Path) -> None:
    from cicm.assembly import ModelConfig, build, load_weights, save_weights
    from cicm.memory import MemoryConfig

    config = ModelConfig("unet", {"width": 2}, {"bottom": MemoryConfig(sets=2, contexts=2)})
    file = save_weights(tmp_path / "a.safetensors", build(config), config)
    whole = file.read_bytes()

    def read(data: bytes) -> None:
        file.write_bytes(data or b"\0")
        assert load_weights(file).config

    assert attack(whole, read) > NUMBER // 10


@pytest.mark.slow
def test_recipes(tmp_path: Path) -> None:
    from cicm.recipes.recipe import load_recipe

    file = tmp_path / "a.toml"
    packaged = Path(str(files("cicm.recipes").joinpath("files")))
    whole = max(packaged.glob("*.toml"), key=lambda one: one.stat().st_size).read_bytes()

    def read(data: bytes) -> None:
        file.write_bytes(data or b"\0")
        load_recipe(str(file))

    assert attack(whole, read) > NUMBER // 10


@pytest.mark.slow
def test_albums(tmp_path: Path) -> None:
    from cicm.exemplar.album import load_album, make_album, save_album

    (tmp_path / "photos").mkdir()
    for seed in range(3):
        values = np.random.default_rng(seed).integers(0, 256, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "photos" / f"{seed}.png")
    file = save_album(make_album([tmp_path / "photos"]), tmp_path / "a.safetensors")

    def read(data: bytes) -> None:
        file.write_bytes(data or b"\0")
        load_album(file)

    assert attack(file.read_bytes(), read) > NUMBER // 10


@pytest.mark.slow
def test_multiparts() -> None:
    pytest.importorskip("python_multipart", reason="python-multipart is in the extra `serve`")
    from cicm.web.form import FILES, order_of, read_upload
    from cicm.web.limits import Refused

    parts = [("image", picture("PNG")), ("boxes", b"[[1, 2, 3, 4]]"), ("album", picture("GIF")), ("grow", b"3")]
    whole = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"; filename="%s.x"\r\nContent-Type: image/png\r\n\r\n%s\r\n'
        % (name.encode(), name.encode(), data)
        for name, data in parts
    )
    names = (*FILES, "boxes", "grow")

    def read(data: bytes) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for at in range(0, len(data), 97):
                yield data[at : at + 97]

        upload = asyncio.run(read_upload("multipart/form-data; boundary=b", pieces(), names, 2**20, 2))
        assert len(order_of(upload).image) <= len(data)

    assert attack(whole + b"--b--\r\n", read, (Refused,)) > NUMBER // 10
