"""What a file carries: kept where it is still true, upright, without the old preview."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from cicm.photos.metadata import tidy_exif
from cicm.photos.photo import open_photo, read_image, save_photo

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def gradient(size: tuple[int, int] = (40, 24)) -> Image.Image:
    """A picture whose orientation shows."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return Image.fromarray(np.stack([x * 6, y * 10, x + y], 2).astype(np.uint8))


def camera_exif(orientation: int, order: str = "<", preview: bytes = b"") -> bytes:
    """An EXIF block built by hand: make, orientation, sizes in the detail directory, a maker's note, a preview."""
    make, note = b"Acme\0", b"MAKER-NOTE-WITH-OFFSETS"

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        small = struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
        return struct.pack(order + "HHI", tag, kind, count) + small

    first, detail = 8, 8 + 2 + 3 * 12 + 4
    extra = detail + 2 + 3 * 12 + 4
    second = extra + len(make) + len(note) + (len(note) % 2)
    data = extra + len(make)
    start = second + 2 + 2 * 12 + 4
    blob = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", first)
    blob += struct.pack(order + "H", 3) + entry(0x010F, 2, len(make), extra)
    blob += entry(0x0112, 3, 1, orientation) + entry(0x8769, 4, 1, detail)
    blob += struct.pack(order + "I", second if preview else 0)
    blob += struct.pack(order + "H", 3) + entry(0x927C, 7, len(note), data)
    blob += entry(0xA002, 4, 1, 4000) + entry(0xA003, 3, 1, 3000) + struct.pack(order + "I", 0)
    blob += make + note + b"\0" * (len(note) % 2)
    if preview:
        blob += struct.pack(order + "H", 2) + entry(0x0201, 4, 1, start) + entry(0x0202, 4, 1, len(preview))
        blob += struct.pack(order + "I", 0) + preview
    return blob


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tidy_changes_only_what_is_no_longer_true(orientation: int, order: str) -> None:
    preview = b"\xff\xd8 the old picture \xff\xd9"
    before = camera_exif(orientation, order, preview)
    after, found = tidy_exif(b"Exif\0\0" + before)
    assert found == orientation
    assert len(after) == len(before)
    assert preview not in after
    exif = Image.Exif()
    exif.load(after)
    assert exif[0x0112] == 1
    assert exif[0x010F] == "Acme"
    assert exif.get_ifd(1) == {}
    detail = exif.get_ifd(0x8769)
    assert (detail[0xA002], detail[0xA003]) == ((3000, 4000) if orientation >= 5 else (4000, 3000))
    place = before.index(b"MAKER-NOTE")
    assert after.index(b"MAKER-NOTE") == place  # maker's notes hold offsets, so they must not move


@given(st.binary(max_size=200), st.integers(0, 150), st.integers(0, 255))
def test_damaged_exif_raises_only_what_is_caught(garbage: bytes, place: int, value: int) -> None:
    broken = bytearray(camera_exif(6, preview=b"x" * 20))
    broken[place % len(broken)] = value
    for blob in (garbage, b"II*\0" + garbage, bytes(broken), bytes(broken[:place])):
        try:
            tidy_exif(blob)
        except (struct.error, KeyError, IndexError, ValueError):
            continue


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_as_pillow_turns_it(tmp_path: Path, ending: str, orientation: int) -> None:
    options: dict = {"webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}}.get(ending, {})
    exif: Image.Exif | bytes = b"Exif\0\0" + camera_exif(orientation)
    if ending == "tif":
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = orientation, "Acme"
    gradient().save(tmp_path / f"a.{ending}", exif=exif, dpi=(300, 150), **options)
    with Image.open(tmp_path / f"a.{ending}") as image:
        expected = np.array(ImageOps.exif_transpose(image))
    photo = open_photo(tmp_path / f"a.{ending}")
    assert np.array_equal(photo.pixels.values, expected)
    assert photo.size == ((40, 24) if orientation >= 5 else (24, 40))
    save_photo(photo, tmp_path / f"b.{ending}")
    with Image.open(tmp_path / f"b.{ending}") as again:
        again.load()
        assert again.getexif().get(0x0112, 1) == 1
        assert again.getexif()[0x010F].rstrip("\0") == "Acme"
        if ending != "jpg":
            assert np.array_equal(np.array(again), expected)
        if ending in ("jpg", "png"):  # where the resolution is the file's own
            dpi = (150, 300) if orientation >= 5 else (300, 150)
            assert tuple(round(float(d)) for d in again.info["dpi"]) == dpi


@pytest.mark.parametrize(
    ("source", "target"), [(a, b) for a in ("jpg", "png", "tif", "webp") for b in ("jpg", "png", "tif", "webp")]
)
def test_profile_exif_xmp_and_resolution_cross_formats(tmp_path: Path, source: str, target: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="1" dc:title="Hill"/></x:xmpmeta>'
    options: dict = {"icc_profile": ICC, "dpi": (240, 240)}
    exif = Image.Exif()
    exif[0x010F], exif[0x8298] = "Acme", "Someone"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    exif[0x8769] = {0x9003: "2020:01:02 03:04:05"}
    options["exif"] = exif
    if source == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options["pnginfo"] = info
    elif source == "tif":
        options["tiffinfo"] = {700: xmp, 0x010F: "Acme", 0x8298: "Someone", 0x8769: {0x9003: "2020:01:02 03:04:05"}}
        del options["exif"]
    else:
        options["xmp"] = xmp
    gradient().save(tmp_path / f"a.{source}", **options)
    save_photo(open_photo(tmp_path / f"a.{source}"), tmp_path / f"b.{target}")
    with Image.open(tmp_path / f"b.{target}") as image:
        image.load()
        assert image.info["icc_profile"] == ICC
        assert image.getexif()[0x010F].rstrip("\0") == "Acme"
        assert image.getexif()[0x8298].rstrip("\0") == "Someone"
        assert image.getexif().get_ifd(0x8769)[0x9003].rstrip("\0") == "2020:01:02 03:04:05"
        packet = image.info["xmp"]
        packet = packet.encode() if isinstance(packet, str) else packet
        assert packet.rstrip(b"\0") == xmp
        if "webp" not in (source, target):
            assert tuple(round(float(d)) for d in image.info["dpi"]) == (240, 240)


def test_orientation_in_xmp_alone(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    gradient().save(tmp_path / "a.jpg", xmp=xmp, quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        expected = np.array(ImageOps.exif_transpose(image))
    photo = open_photo(tmp_path / "a.jpg")
    assert np.array_equal(photo.pixels.values, expected)
    assert np.array_equal(read_image(tmp_path / "a.jpg"), expected)
    assert photo.metadata.xmp == xmp.replace(b"6", b"1")


def test_png_text_and_colour_chunks(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "A hill")
    info.add_itxt("Author", "Łucja")
    info.add(b"gAMA", struct.pack(">I", 45455))
    info.add(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))
    info.add(b"sRGB", b"\0")
    gradient().save(tmp_path / "a.png", pnginfo=info)
    save_photo(open_photo(tmp_path / "a.png"), tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "b.png") as after:
        before.load()
        after.load()
        for name in ("gamma", "chromaticity", "srgb", "Title", "Author"):
            assert after.info[name] == before.info[name]


def test_jpeg_comment_and_captions(tmp_path: Path) -> None:
    iptc = b"\x1c\x02\x78\x00\x06A hill"
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    old_preview = b"8BIM\x04\x0c\0\0" + struct.pack(">I", 12) + b"old  preview"
    body = b"Photoshop 3.0\0" + resource + old_preview
    segment = b"\xff\xed" + struct.pack(">H", len(body) + 2) + body
    gradient().save(tmp_path / "a.jpg", comment=b"by hand", extra=segment)
    save_photo(open_photo(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.info["comment"] == b"by hand"
        assert image.info["photoshop"] == {0x0404: iptc}
    save_photo(open_photo(tmp_path / "a.jpg"), tmp_path / "b.tif")
    assert open_photo(tmp_path / "b.tif").metadata.iptc == iptc


def test_preview_in_xmp_goes(tmp_path: Path) -> None:
    xmp = b"<x:xmpmeta><xmp:Thumbnails><rdf:Alt>old</rdf:Alt></xmp:Thumbnails><dc:title/></x:xmpmeta>"
    gradient().save(tmp_path / "a.jpg", xmp=xmp)
    assert open_photo(tmp_path / "a.jpg").metadata.xmp == b"<x:xmpmeta><dc:title/></x:xmpmeta>"


def test_damaged_exif_is_left_out_with_a_note(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    photo = open_photo(tmp_path / "a.jpg")
    assert photo.metadata.exif == b""
    assert photo.notes == ("the EXIF block is damaged and was left out",)


def test_multi_picture_jpeg_gives_its_first(tmp_path: Path) -> None:
    gradient().save(tmp_path / "a.mpo", format="MPO", save_all=True, append_images=[Image.new("RGB", (40, 24))])
    photo = open_photo(tmp_path / "a.mpo")
    assert photo.format == "JPEG"
    assert "first picture" in photo.notes[0]
    save_photo(photo, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.format == "JPEG"
        assert np.abs(np.array(image).astype(int) - np.array(gradient()).astype(int)).mean() < 5  # JPEG of a gradient


def ink_profile() -> bytes:
    """A small CMYK profile (ICC.1:2001, lut8): two grid points a channel, coarse but whole."""

    def lut(inputs: int, outputs: int, table: np.ndarray) -> bytes:
        head = b"mft1" + bytes(4) + bytes([inputs, outputs, 2, 0])
        unit = b"".join(struct.pack(">i", 65536 * (i % 4 == 0)) for i in range(9))
        ramp = bytes(range(256))
        return head + unit + ramp * inputs + table.astype(np.uint8).tobytes() + ramp * outputs

    inks = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4)
    light = 235.0 * (1 - inks[:, :3].mean(1)) * (1 - inks[:, 3])
    lab = np.stack([light, 128 + 60 * (inks[:, 1] - inks[:, 0]), 128 + 60 * (inks[:, 2] - inks[:, 0])], 1)
    corners = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    back = np.stack([1 - corners[:, 1], corners[:, 1], corners[:, 2], 1 - corners[:, 0]], 1) * 255
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"inks\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061),  # D50
        b"A2B0": lut(4, 3, lab),
        b"B2A0": lut(3, 4, back),
    }
    directory, body, place = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        directory += name + struct.pack(">II", place + len(body), len(data))
        body += data
    rest = struct.pack(">I", len(tags)) + directory + body
    head = struct.pack(">I", 128 + len(rest)) + bytes(4) + b"\x02\x40\0\0" + b"prtrCMYKLab " + bytes(12) + b"acsp"
    head += bytes(28) + struct.pack(">iii", 63190, 65536, 54061) + bytes(48)
    return head + rest


def test_cmyk_goes_through_its_profile(tmp_path: Path) -> None:
    """Each way as Pillow's colour engine converts; the fill lands in ink, the rest stays."""
    profile = ink_profile()
    engine = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    srgb = ImageCms.createProfile("sRGB")
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    inks = np.random.default_rng(0).integers(0, 256, (10, 12, 4), dtype=np.uint8)
    image = Image.frombytes("CMYK", (12, 10), inks.tobytes())
    image.save(tmp_path / "a.tif", icc_profile=profile)
    photo = open_photo(tmp_path / "a.tif")
    assert photo.notes == ()
    seen = np.array(ImageCms.profileToProfile(image, engine, srgb, renderingIntent=intent, outputMode="RGB"))
    assert np.array_equal(np.rint(photo.pixels.rgb() * 255), seen)
    naive = photo.pixels.__class__(inks, "CMYK").rgb()
    assert np.abs(naive * 255 - seen).mean() > 10  # the profile matters

    hole = np.zeros((10, 12), dtype=bool)
    hole[2:5, 3:9] = True
    fill = np.broadcast_to(np.array([0.2, 0.6, 0.4], np.float32), (10, 12, 3))
    save_photo(photo.with_pixels(photo.pixels.filled(fill, hole)), tmp_path / "b.tif")
    patch = Image.new("RGB", (1, 1), (51, 153, 102))
    ink = np.array(ImageCms.profileToProfile(patch, srgb, engine, renderingIntent=intent, outputMode="CMYK"))[0, 0]
    with Image.open(tmp_path / "b.tif") as after:
        assert after.info["icc_profile"] == profile
        assert np.array_equal(np.array(after)[~hole], inks[~hole])
        assert (np.array(after)[hole] == ink).all()


def test_cmyk_with_a_useless_profile(tmp_path: Path) -> None:
    image = Image.new("CMYK", (8, 8), (10, 200, 30, 40))
    image.save(tmp_path / "a.tif", icc_profile=ICC)
    photo = open_photo(tmp_path / "a.tif")
    assert "profile could not be used" in photo.notes[0]  # an RGB profile on CMYK pixels is no use
    save_photo(photo, tmp_path / "b.tif")
    with Image.open(tmp_path / "b.tif") as after:
        assert after.info["icc_profile"] == ICC
    save_photo(photo, tmp_path / "b.png")
    with Image.open(io.BytesIO((tmp_path / "b.png").read_bytes())) as after:
        assert after.mode == "RGB"
        assert "icc_profile" not in after.info
