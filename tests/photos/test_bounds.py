"""Small files that would cost minutes or gigabytes are refused by every door; damage in a PNG is never unnoticed."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.conventions import InputError
from cicm.photos import bounds
from cicm.photos.headers import check_header, image_size
from cicm.photos.photo import decode_photo, encode_photo, open_photo, read_image

from .attacks import (
    chunk,
    gif_of_frames,
    jpeg_of_scans,
    jpeg_with,
    picture,
    png_with,
    saved,
    tags,
    tiff_of_pages,
    tiff_with,
    webp_of_size,
)

RATIONALS = [(18246, 5, 1_000_000)]  # a Rating of a million fractions
SHARED = [(50_000 + number, 1, 1_000_000) for number in range(5000)]  # tags that share one megabyte
TEXT = b"Raw profile type exif\0\nexif\n50000\n"
HEADERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "pages": (lambda: tiff_of_pages(16_000), "more than 1000 pages"),
    "rating": (lambda: tiff_with(RATIONALS, 8_000_000), "1000000 numbers"),
    "shared": (lambda: tiff_with(SHARED, 1_000_000), "without overlap"),
    "strips": (lambda: tiff_with([(324, 4, 2**18 + 1)], 2**21), "places of pixels"),
    "png exif": (lambda: png_with(chunk(b"eXIf", tags(SHARED, 1_000_000))), "without overlap"),
    "png chunks": (lambda: png_with(chunk(b"abCd", b"") * 10_000), "chunks of a few bytes"),
    "png text": (lambda: png_with(chunk(b"tEXt", TEXT + tags(SHARED[:4000], 1000).hex().encode())), "without overlap"),
    "jpeg segments": (lambda: jpeg_with(b"\xff\xe5\0\2" * 5000), "4096 segments"),
    "jpeg filling": (lambda: jpeg_with(b"\xff" * 70_000), "filling"),
    "webp": (lambda: webp_of_size(16_383, 16_383), "268 megapixels"),
    "gif": (lambda: gif_of_frames(2000), "more than 1000 pictures"),
    "gif blocks": (lambda: gif_of_frames(1)[:-1] + b"\x21\xfe" + b"\1a" * 2**16 + b"\0\x3b", "blocks"),
}  # fmt: skip
BODIES: dict[str, tuple[Callable[[], bytes], str]] = {
    "scans": (lambda: jpeg_of_scans(600), "610 scans"),
    "png exif behind": (lambda: png_with(chunk(b"eXIf", tags(SHARED, 1_000_000)), behind=True), "without overlap"),
    "png chunks behind": (lambda: png_with(chunk(b"abCd", b"") * 10_000, behind=True), "chunks of a few bytes"),
}  # fmt: skip


@pytest.mark.parametrize("name", [*HEADERS, *BODIES])
def test_what_would_cost_minutes_is_refused(name: str, tmp_path: Path) -> None:
    make, words = (HEADERS | BODIES)[name]
    data = make()
    file = tmp_path / "a.jpg"
    file.write_bytes(data)
    with pytest.raises(InputError, match=words):
        decode_photo(data)
    for door in (open_photo, read_image, *((image_size, check_header) if name in HEADERS else ())):
        with pytest.raises(InputError, match=words) as caught:
            door(file)
        assert str(file) in str(caught.value)


def test_scans_are_counted_in_the_first_picture_alone() -> None:
    assert decode_photo(jpeg_of_scans(40)).size == (48, 64)
    plain, progressive = saved(picture(), "JPEG"), saved(picture(), "JPEG", progressive=True)
    behind = progressive + progressive * 20 + b"\xff\xda" * 1000  # as a phone's film behind its photo
    assert decode_photo(behind).size == (48, 64)
    assert decode_photo(plain + b"\xff\xda" * 1000).size == (48, 64)
    # a table between two scans that holds what looks like an end does not hide the scans behind it
    last = progressive.rfind(b"\xff\xda")
    comment = b"\xff\xfe\0\6\xff\xd9\xff\xd9"
    hidden = progressive[:last] + comment + progressive[last:-2] * 100 + b"\xff\xd9"
    with pytest.raises(InputError, match="scans"):
        decode_photo(hidden)


def test_scans_count_more_in_a_large_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = saved(picture(), "JPEG", progressive=True)
    monkeypatch.setattr(bounds, "MAX_SCANNED", 10 * 64 * 48)
    assert decode_photo(ordinary).size == (48, 64)  # ten scans
    monkeypatch.setattr(bounds, "MAX_SCANNED", 10 * 64 * 48 - 1)
    with pytest.raises(InputError, match="at most 9"):
        decode_photo(ordinary)


def test_webp_of_every_kind_tells_its_size() -> None:
    for how in ({"lossless": True}, {"quality": 80}, {"quality": 80, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}):
        data = saved(picture(320, 200), "WEBP", **how)
        assert bounds.check_start(io.BytesIO(data)) == (320, 200)
        assert decode_photo(data).size == (200, 320)


def test_large_but_honest_files_are_read(tmp_path: Path) -> None:
    """More tags, pages, chunks and profile than most files have."""
    exif = Image.Exif()
    exif[270] = "x" * 60_000
    exif.get_ifd(0x8769)[0x927C] = b"\1" * 1000
    assert decode_photo(saved(picture(), "JPEG", exif=exif.tobytes()[:65_000])).size == (48, 64)
    thin = Image.fromarray(np.arange(60_000, dtype=np.uint16).astype(np.uint8).reshape(20_000, 3))
    data = saved(thin, "TIFF", tiffinfo={278: 1})  # each row a strip
    assert decode_photo(data).size == (20_000, 3)
    assert decode_photo(png_with(chunk(b"tEXt", b"key\0value") * 2000)).metadata.text
    with pytest.raises(InputError, match="holds 300 "):
        decode_photo(tiff_of_pages(300))
    assert decode_photo(saved(picture(), "TIFF", big_tiff=True)).size == (48, 64)


def test_big_tiff_is_bounded_too() -> None:
    rows = [struct.pack("<HHQQ", 50_000 + number, 1, 10**6, 100) for number in range(500)]
    data = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, len(rows)) + b"".join(rows) + bytes(8) + bytes(10**6)
    with pytest.raises(InputError, match="without overlap"):
        decode_photo(data)


def test_a_directory_that_leads_to_itself_ends() -> None:
    data = bytearray(tiff_of_pages(1))
    data[-4:] = struct.pack("<I", 8)
    bounds.check_tags(io.BytesIO(data))
    assert decode_photo(bytes(data)).size == (1, 1)


def test_no_damage_in_a_png_is_unnoticed() -> None:
    """Every bit of the last bytes: another pixel is never taken for the photo's."""
    whole = saved(picture(), "PNG")
    right = decode_photo(whole).pixels.values
    unnoticed = 0
    for place in range(len(whole) - 700, len(whole) - 12):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        try:
            unnoticed += not np.array_equal(decode_photo(bytes(data)).pixels.values, right)
        except InputError:
            continue
    assert unnoticed == 0
    assert len(whole) > 1500


def test_a_wrong_sum_names_its_chunk() -> None:
    whole = bytearray(saved(picture(), "PNG"))
    at = whole.index(b"IEND")
    whole[at - 5] ^= 1  # the last byte of the sum of the pixels
    with pytest.raises(InputError, match=r"'IDAT' at byte \d+ is wrong"):
        decode_photo(bytes(whole))
    again, _ = encode_photo(decode_photo(saved(picture(), "PNG")))
    assert decode_photo(again).size == (48, 64)
