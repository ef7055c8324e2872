"""A file comes back as the file: same mode, depth and numbers outside the hole, for every format and mode."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from cicm.conventions import InputError
from cicm.photos.photo import Photo, open_photo, read_image, save_photo

HEIGHT, WIDTH = 24, 37


def noise(mode: str) -> Image.Image:
    """A picture of that mode with every kind of value in it."""
    rng = np.random.default_rng(len(mode) + ord(mode[0]))

    def bytes_(channels: int) -> np.ndarray:
        shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
        return rng.integers(0, 256, shape, dtype=np.uint8)

    if mode == "1":
        return Image.fromarray(bytes_(1)).convert("1")
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16))
    if mode == "F":
        return Image.fromarray(rng.random((HEIGHT, WIDTH), dtype=np.float32))
    if mode == "P":
        image = Image.fromarray(bytes_(1) % 200)
        image.putpalette(rng.integers(0, 256, 600, dtype=np.uint8).tobytes())
        return image
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    return Image.frombytes(mode, (WIDTH, HEIGHT), bytes_(channels).tobytes())


def hole() -> np.ndarray:
    box = np.zeros((HEIGHT, WIDTH), dtype=bool)
    box[5:14, 20:37] = True
    return box


def filled(photo: Photo, colour: tuple[float, float, float] = (0.2, 0.6, 0.4)) -> Photo:
    fill = np.broadcast_to(np.array(colour, dtype=np.float32), (*photo.size, 3))
    return photo.with_pixels(photo.pixels.filled(fill, hole()))


LOSSLESS = [
    *(("png", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("tif", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F")),
    *(("bmp", mode) for mode in ("1", "L", "P", "RGB")),
    *(("webp", mode) for mode in ("RGB", "RGBA")),
    *(("gif", mode) for mode in ("L", "P")),
]


@pytest.mark.parametrize(("ending", "mode"), LOSSLESS)
def test_known_pixels_and_mode_survive(tmp_path: Path, ending: str, mode: str) -> None:
    source, target = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    noise(mode).save(source, **({"lossless": True, "exact": True} if ending == "webp" else {}))
    notes = save_photo(filled(open_photo(source)), target)
    with Image.open(source) as before, Image.open(target) as after:
        assert after.mode == before.mode
        assert after.size == before.size
        assert after.format == before.format
        old, new = np.array(before), np.array(after)
        if mode == "P":  # a GIF may number its entries anew; the colours are the promise
            old, new = np.array(before.convert("RGBA")), np.array(after.convert("RGBA"))
        assert np.array_equal(old[~hole()], new[~hole()])
        assert not np.array_equal(old[hole()], new[hole()])
        if "A" in mode:
            assert np.array_equal(old[..., -1], new[..., -1])
    assert notes == ()


def test_fill_is_stored_as_each_mode_says(tmp_path: Path) -> None:
    # by hand for (0.2, 0.6, 0.4): luma 0.299 * 0.2 + 0.587 * 0.6 + 0.114 * 0.4 = 0.4576
    expected = {"RGB": [51, 153, 102], "L": 117, "I;16": 29989, "1": False, "CMYK": [204, 102, 153, 0]}
    for mode, stored in expected.items():
        noise(mode).save(tmp_path / "a.tif")
        values = filled(open_photo(tmp_path / "a.tif")).pixels.values[hole()]
        assert (values == np.array(stored)).all(), mode


def test_palette_takes_the_nearest_entry(tmp_path: Path) -> None:
    noise("P").save(tmp_path / "a.png")
    photo = open_photo(tmp_path / "a.png")
    palette = photo.pixels.palette
    assert palette is not None
    distances = ((palette[:, :3] / 255.0 - [0.2, 0.6, 0.4]) ** 2).sum(1)
    assert (filled(photo).pixels.values[hole()] == distances.argmin()).all()


def test_palette_transparency_stays(tmp_path: Path) -> None:
    image = noise("P")
    alpha = np.random.default_rng(3).choice(np.array([0, 100, 255], np.uint8), 200)
    image.save(tmp_path / "a.png", transparency=alpha.tobytes())
    save_photo(filled(open_photo(tmp_path / "a.png")), tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "b.png") as after:
        assert after.mode == "P"
        old, new = np.array(before.convert("RGBA")), np.array(after.convert("RGBA"))
    assert np.array_equal(old[..., 3], new[..., 3])
    assert np.array_equal(old[~hole()], new[~hole()])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_key_colour_stays_transparent_and_no_fill_turns_transparent(tmp_path: Path, mode: str) -> None:
    key = (51, 153, 102) if mode == "RGB" else 117  # exactly the colour of the fill
    image = noise(mode)
    image.paste(key, (0, 0, 25, 8))
    image.save(tmp_path / "a.png", transparency=key)
    save_photo(filled(open_photo(tmp_path / "a.png")), tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "b.png") as after:
        assert after.info["transparency"] == key
        assert after.mode == mode
        old, new = np.array(before.convert("RGBA")), np.array(after.convert("RGBA"))
    assert (old[..., 3] == 0).any()
    assert np.array_equal(old[..., 3], new[..., 3])


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_colour_against_opencv(tmp_path: Path, ending: str, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, channels), dtype=np.uint16)
    bgr = values[..., [2, 1, 0, 3][:channels] if channels == 4 else [2, 1, 0]]
    assert cv2.imwrite(str(tmp_path / f"a.{ending}"), bgr)
    photo = open_photo(tmp_path / f"a.{ending}")
    assert photo.pixels.mode == ("RGBA;16" if channels == 4 else "RGB;16")
    assert np.array_equal(photo.pixels.values, values)
    save_photo(filled(photo), tmp_path / f"b.{ending}")
    back = cv2.imread(str(tmp_path / f"b.{ending}"), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3][:channels]]
    assert back.dtype == np.uint16
    assert np.array_equal(back[~hole()], values[~hole()])
    assert (back[hole()][:, :3] == [13107, 39321, 26214]).all()  # 0.2, 0.6, 0.4 of 65535
    if channels == 4:
        assert np.array_equal(back[..., 3], values[..., 3])
    again = open_photo(tmp_path / f"b.{ending}")
    assert np.array_equal(again.pixels.values, filled(photo).pixels.values)


def test_sixteen_bit_grey_with_alpha(tmp_path: Path) -> None:
    from cicm.photos.pixels import Pixels

    values = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 2), dtype=np.uint16)
    save_photo(Photo(Path("x"), "PNG", Pixels(values, "LA")), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:  # Pillow keeps the high bytes, as RGBA
        assert np.array_equal(np.array(image)[..., [0, 3]], values // 256)
    photo = open_photo(tmp_path / "a.png")
    assert photo.pixels.mode == "LA;16"
    assert np.array_equal(photo.pixels.values, values)


def test_sixteen_bit_key_colour(tmp_path: Path) -> None:
    from cicm.photos.pixels import Pixels

    values = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    save_photo(Photo(Path("x"), "PNG", Pixels(values, "RGB", key=(300, 2, 65535))), tmp_path / "a.png")
    assert open_photo(tmp_path / "a.png").pixels.key == (300, 2, 65535)


def test_sixteen_bit_big_endian_tiff(tmp_path: Path) -> None:
    import tifffile

    values = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    for name, options in {
        "plain": {"byteorder": ">"},
        "packed": {"byteorder": ">", "compression": "zlib", "predictor": True},
        "little": {"byteorder": "<", "compression": "zlib"},
    }.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="rgb", **options)
        photo = open_photo(tmp_path / f"{name}.tif")
        assert np.array_equal(photo.pixels.values, values), name
        save_photo(photo, tmp_path / f"{name}-out.tif")
        assert np.array_equal(tifffile.imread(tmp_path / f"{name}-out.tif"), values), name
    grey = values[..., 0]
    tifffile.imwrite(tmp_path / "grey.tif", grey, byteorder=">")
    assert np.array_equal(open_photo(tmp_path / "grey.tif").pixels.values, grey)


def test_interlaced_and_rotated_sixteen_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), values[..., ::-1])
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = open_photo(tmp_path / "a.png")
    from cicm.photos.metadata import Metadata

    save_photo(Photo(Path("x"), "PNG", photo.pixels, Metadata(exif=exif.tobytes()[6:])), tmp_path / "b.png")
    turned = open_photo(tmp_path / "b.png")
    assert np.array_equal(turned.pixels.values, np.rot90(values, -1))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_keeps_tables_and_subsampling(tmp_path: Path, mode: str, subsampling: int) -> None:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        (160, 120), Image.Resampling.BICUBIC
    )
    small.convert(mode).save(tmp_path / "a.jpg", quality=83, subsampling=subsampling, progressive=True)
    save_photo(open_photo(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    with Image.open(tmp_path / "a.jpg") as before, Image.open(tmp_path / "b.jpg") as after:
        assert after.mode == before.mode == mode
        assert after.quantization == before.quantization
        assert [entry[1:3] for entry in after.layer] == [entry[1:3] for entry in before.layer]
        assert after.info.get("progressive") == 1
        old, new = np.array(before).astype(int), np.array(after).astype(int)
    # The same tables on nearly the same pixels: rounding moves single values a little, a wrong table by tens.
    assert np.abs(old - new).mean() < 1.0
    assert (tmp_path / "b.jpg").stat().st_size < 1.2 * (tmp_path / "a.jpg").stat().st_size


def test_jpeg_stored_as_rgb_stays_so(tmp_path: Path) -> None:
    noise("RGB").save(tmp_path / "a.jpg", quality=95, keep_rgb=True)
    save_photo(open_photo(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as after:
        assert after.info["adobe_transform"] == 0


def test_lossy_webp_stays_lossy(tmp_path: Path) -> None:
    noise("RGB").save(tmp_path / "a.webp", quality=80)
    save_photo(open_photo(tmp_path / "a.webp"), tmp_path / "b.webp")
    assert b"VP8L" not in (tmp_path / "b.webp").read_bytes()
    noise("RGB").save(tmp_path / "c.png")
    save_photo(open_photo(tmp_path / "c.png"), tmp_path / "d.webp")
    with Image.open(tmp_path / "d.webp") as after:
        assert np.array_equal(np.array(after), np.array(noise("RGB")))


def test_tiff_keeps_its_compression(tmp_path: Path) -> None:
    for compression in ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"):
        noise("RGB").save(tmp_path / "a.tif", compression=compression)
        save_photo(open_photo(tmp_path / "a.tif"), tmp_path / "b.tif", overwrite=True)
        with Image.open(tmp_path / "b.tif") as after:
            assert after.info["compression"] == compression, compression


def test_jpeg_in_tiff_is_not_compressed_with_loss_again(tmp_path: Path) -> None:
    noise("RGB").save(tmp_path / "a.tif", compression="jpeg")
    save_photo(open_photo(tmp_path / "a.tif"), tmp_path / "b.tif", overwrite=True)
    assert np.array_equal(read_image(tmp_path / "a.tif"), read_image(tmp_path / "b.tif"))


CONVERSIONS = [
    ("1", "jpg", "L"),
    ("P", "jpg", "RGB"),
    ("L", "webp", "RGB"),
    ("LA", "webp", "RGBA"),
    ("P", "webp", "RGB"),
    ("CMYK", "png", "RGB"),
    ("I;16", "jpg", "L"),
    ("I;16", "bmp", "L"),
    ("CMYK", "jpg", "CMYK"),
    ("RGBA", "tif", "RGBA"),
    ("L", "gif", "L"),
]


@pytest.mark.parametrize(("mode", "ending", "expected"), CONVERSIONS)
def test_other_formats_keep_what_they_can_hold(tmp_path: Path, mode: str, ending: str, expected: str) -> None:
    source = tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png")
    noise(mode).save(source)
    save_photo(open_photo(source), tmp_path / f"b.{ending}")
    with Image.open(tmp_path / f"b.{ending}") as after:
        assert after.mode == expected
        if ending != "jpg":  # exact, but for the conversions that Pillow does as we do
            old = open_photo(source).pixels.eight_bit().to_image().convert(expected)
            assert np.abs(np.array(old).astype(int) - np.array(after).astype(int)).max() <= (1 if mode == "CMYK" else 0)


def test_loss_is_refused(tmp_path: Path) -> None:
    for mode, ending in (("RGBA", "jpg"), ("LA", "bmp"), ("RGB", "gif"), ("F", "png"), ("RGBA", "gif")):
        noise(mode).save(tmp_path / "a.tif")
        with pytest.raises(InputError, match="hold"):
            save_photo(open_photo(tmp_path / "a.tif"), tmp_path / f"b.{ending}")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif"], mode


def test_opaque_alpha_may_go(tmp_path: Path) -> None:
    image = noise("RGB").convert("RGBA")
    image.save(tmp_path / "a.png")
    save_photo(open_photo(tmp_path / "a.png"), tmp_path / "b.bmp")
    assert np.array_equal(read_image(tmp_path / "b.bmp"), np.array(noise("RGB")))


@pytest.mark.parametrize(("ending", "mode"), LOSSLESS)
def test_read_image_is_what_pillow_shows(tmp_path: Path, ending: str, mode: str) -> None:
    noise(mode).save(tmp_path / f"a.{ending}", **({"lossless": True} if ending == "webp" else {}))
    values = read_image(tmp_path / f"a.{ending}")
    assert values.shape == (HEIGHT, WIDTH, 3)
    assert values.dtype == np.uint8
    with Image.open(tmp_path / f"a.{ending}") as image:
        if mode == "I;16":  # Pillow cuts these off at 255
            expected = np.repeat(np.rint(np.array(image) / 257.0)[..., None], 3, 2)
        elif mode == "F":
            expected = np.repeat(np.rint(np.array(image) * 255.0)[..., None], 3, 2)
        else:
            expected = np.array(image.convert("RGB"))
    # 1: rounding of CMYK arithmetic; of .5 in floats
    assert np.abs(values.astype(int) - expected.astype(int)).max() <= (1 if mode in ("CMYK", "F") else 0)


def test_sub_byte_grey(tmp_path: Path) -> None:
    image = Image.fromarray((np.arange(64, dtype=np.uint8) % 16).reshape(8, 8) * 17)
    image.save(tmp_path / "a.png", bits=4)
    assert np.array_equal(open_photo(tmp_path / "a.png").pixels.values, np.array(image))
