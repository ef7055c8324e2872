"""Photo files: opened once with all that makes them that file, and written back as it.

| opened as | held as | written as |
|---|---|---|
| JPEG (also a phone's MPO), grey, RGB or CMYK | its 8-bit pixels | JPEG with its own tables and subsampling |
| PNG of 1 to 16 bits, with alpha, palette or key colour | its stored numbers | PNG of the same mode and depth |
| TIFF of 1, 8 or 16 bits or float in [0, 1], CMYK | its stored numbers | TIFF, its own lossless compression |
| WebP, BMP, a GIF of one picture | its stored numbers | the same; lossless WebP stays lossless |
| AVIF; HEIC with the extra `heic` | 8-bit RGB or RGBA | the same format at quality 90 |

Pixels are turned upright by the EXIF orientation. JPEG, lossy WebP, AVIF and HEIC are compressed anew when written,
which moves every pixel a little; all other formats keep the pixels outside the hole bit for bit.
"""

from __future__ import annotations

import io
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, JpegImagePlugin

from cicm.conventions import InputError
from cicm.files import check_output, open_readable, reason_of, write_atomic
from cicm.photos.formats import ENDINGS, LOSSY, WRITERS, fitted
from cicm.photos.headers import FORMATS, MAX_PIXELS, check_bytes, check_pixels, check_single, load, open_header, refused
from cicm.photos.metadata import Metadata, metadata_of
from cicm.photos.pixels import Pixels, pixels_of_image

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LOW_BYTES = {">": "16L", "<": "16B"}  # an unpacker for the other byte order takes the byte that ours leaves out


@dataclass(frozen=True)
class Photo:
    """A picture and what its file carries.

    Args:
        path: where it came from; a name without a folder if it came as bytes.
        format: Pillow's name: JPEG, PNG, WEBP, TIFF, BMP, GIF, AVIF or HEIF.
        encoding: how the file was compressed, for writing the same format again.
        notes: what a reader may want to know, such as something that could not be kept.
    """

    path: Path
    format: str
    pixels: Pixels
    metadata: Metadata = field(default_factory=Metadata)
    encoding: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), upright."""
        return self.pixels.size

    def with_pixels(self, pixels: Pixels) -> Photo:
        """The same file with other pixels."""
        return replace(self, pixels=pixels)

    def to_image(self) -> Image.Image:
        """As a PIL image, upright, with EXIF, profile and resolution in its `info`."""
        image = self.pixels.to_image()
        kept = {"exif": self.metadata.exif, "icc_profile": self.metadata.icc, "dpi": self.metadata.dpi}
        image.info.update({name: value for name, value in kept.items() if value})
        return image


def open_photo(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a photo whole.

    Args:
        path: JPEG, PNG, WebP, TIFF, BMP, AVIF, a GIF of one picture, or HEIC with the extra `heic`.
        max_pixels: a larger picture is refused before it is decoded.

    Raises:
        InputError: missing, a folder, empty, no picture, truncated or damaged, too large, animated, of several pages,
            or in a mode that can't be given back exactly.
    """
    return _opened(Path(path), lambda: open_readable(path, "photo"), max_pixels)


def decode_photo(data: bytes, name: str = "the photo", *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a photo from the bytes of a file; nothing touches the disk.

    Args:
        max_pixels: a larger picture is refused before it is decoded.

    Raises:
        PictureTooLarge: more than `max_pixels`.
        InputError: as `open_photo`.
    """
    check_bytes(data, name)
    return _opened(Path(name), lambda: io.BytesIO(data), max_pixels)


def _opened(file: Path, source: Callable[[], BinaryIO], max_pixels: int) -> Photo:
    try:
        with source() as stream, open_header(stream, file) as image:
            check_pixels(file, image.size, max_pixels)
            check_single(file, image)
            deep = _deep_rawmode(file, image)
            load(stream, image)
            metadata, orientation, notes = metadata_of(image)
            upright = image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
            upright.info = image.info  # older Pillow loses the key colour on the way
            pixels = pixels_of_image(upright)
            encoding = _encoding(source, image)
            if image.format in ("AVIF", "HEIF") and _is_deep(source):
                notes.append(f"{image.format} pixels of more than 8 bits were rounded to 8")
            if image.format == "MPO":
                notes.append("only the first picture of this multi-picture JPEG is kept")
            format_ = "JPEG" if image.format == "MPO" else str(image.format)
        if deep:
            pixels = _sixteen_bit(source, pixels, deep, orientation)
    except Exception as error:  # on damaged files Pillow's decoders raise whatever they come across
        raise refused(file, error) from error
    if pixels.ink_profile and not _usable(pixels):
        pixels = replace(pixels, ink_profile=b"")
        notes.append("the CMYK profile could not be used; the fill was converted by plain arithmetic")
    return Photo(file, format_, pixels, metadata, encoding, tuple(notes))


def read_image(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS, least: int = 0) -> np.ndarray:
    """The upright colours of a photo: (H, W, 3) uint8 RGB, alpha left out, deeper pixels rounded to 8 bits.

    Args:
        path: the file.
        max_pixels: photos of more pixels are refused.
        least: above 0, a JPEG may come at a half, a fourth or an eighth of its size, which is much faster, but with no
            side shorter than this.

    Raises:
        InputError: as `open_photo`.
    """
    file = Path(path)
    try:
        with open_readable(file, "photo") as stream, open_header(stream, file) as image:
            check_pixels(file, image.size, max_pixels)
            if image.format == "JPEG" and image.mode in ("RGB", "L"):  # most photos: without the book-keeping
                if least:
                    image.draft(image.mode, (least, least))
                load(stream, image)
                _, orientation, _ = metadata_of(image)
                upright = image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
                return np.array(upright.convert("RGB"))
    except Exception as error:
        raise refused(file, error) from error
    return open_photo(file, max_pixels=max_pixels).pixels.eight_bit().expanded(to_rgb=True).opaque().values


def check_mask_size(mask: tuple[int, ...], photo: tuple[int, int]) -> None:
    """Refuse a mask of another (height, width): stretching it would fill other places than were painted."""
    if mask != photo:
        turned = " It would fit turned by 90 degrees." if mask == photo[::-1] else ""
        raise InputError(
            f"mask and picture must agree in size; got a mask of {mask[1]}x{mask[0]} for a picture of "
            f"{photo[1]}x{photo[0]} (width x height).{turned} Draw the mask on the picture itself."
        )


def save_photo(photo: Photo, path: str | os.PathLike, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a photo, whole or not at all; the output's ending names the format.

    The same format is written with the source's own settings. Another format keeps what it can hold: 16 bits become 8,
    a palette becomes RGB, CMYK becomes RGB, and a note says so.

    Returns:
        notes on what the format could not hold; empty if the file is as the source was.

    Raises:
        InputError: what `cicm.files.check_output` refuses, transparency or more colours than the format can hold, a
            disk that is full.
    """
    file = check_output(path, endings=ENDINGS, inputs=(photo.path,), overwrite=overwrite)
    data, notes = encode_photo(photo, ENDINGS[file.suffix.lower()])
    try:
        write_atomic(file, data, overwrite=overwrite)
    except OSError as error:
        raise InputError(f"could not write {file}: {reason_of(error)} Try another folder.") from error
    return notes


def encode_photo(photo: Photo, format_: str | None = None) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of the file that `save_photo` would write, and its notes; nothing touches the disk.

    Args:
        format_: one of `FORMATS`; the photo's own by default.

    Raises:
        InputError: transparency or more colours than the format can hold, or an unknown format.
    """
    if format_ is not None and format_ not in FORMATS:
        raise InputError(f"a format is one of {', '.join(FORMATS)}; got {format_!r}.")
    format_ = format_ or photo.format
    pixels, notes = fitted(photo.pixels, format_)
    metadata = photo.metadata
    if (pixels.layout == "CMYK") != (photo.pixels.layout == "CMYK"):
        metadata = replace(metadata, icc=b"")  # the profile speaks of ink, the pixels no longer do
    encoding = photo.encoding if photo.format == format_ else {}
    lossy_source = photo.format in LOSSY or photo.encoding.get("lossless") is False
    stream = io.BytesIO()
    try:
        WRITERS[format_](stream, pixels, metadata, {"lossy_source": lossy_source, **encoding})
    except InputError:
        raise
    except (OSError, ValueError, struct.error) as error:
        raise InputError(f"could not encode {photo.path}: {reason_of(error)} Try another format.") from error
    return stream.getvalue(), tuple(notes)


def _deep_rawmode(file: Path, image: Image.Image) -> str | None:
    """The unpacker's name of 16-bit colour, which Pillow would cut to 8 bits without a word; None for all else."""
    tiles = getattr(image, "tile", [])
    args = tiles[0].args if tiles else None
    rawmode = args if isinstance(args, str) else args[0] if isinstance(args, tuple) and args else ""
    if isinstance(rawmode, str) and rawmode in {
        *(f"{mode};16{order}" for mode in ("RGB", "RGBA", "CMYK") for order in "BLN"),
        "LA;16B",
    }:
        return rawmode
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        bits = tags.get(258, (1,))
        deepest = max(bits if isinstance(bits, tuple) else (bits,))
        if deepest not in (1, 2, 4, 8, 16, 32) or (deepest > 8 and (tags.get(262) == 0 or image.mode[0] not in "IF")):
            raise InputError(
                f"{file} is a {deepest}-bit TIFF of a kind that can't be given back exactly. Save it as 16-bit RGB."
            )
    return None


def _sixteen_bit(source: Callable[[], BinaryIO], eight: Pixels, rawmode: str, orientation: int) -> Pixels:
    """Decode a second time for the low bytes, and put them beside the high ones."""
    with source() as stream, Image.open(stream, formats=FORMATS) as image:
        if rawmode == "LA;16B":  # the four bytes of a pixel as they stand
            low = "RGBA"
        else:
            mode, order = rawmode.split(";")
            big = order.endswith("B") or (order.endswith("N") and sys.byteorder == "big")
            low = f"{mode};{_LOW_BYTES['>' if big else '<']}"
        for number, tile in enumerate(tiles := image.tile):  # type: ignore[attr-defined]
            rest = tile.args[1:] if isinstance(tile.args, tuple) else None
            tiles[number] = tile._replace(args=low if rest is None else (low, *rest))
        image.load()
        other = image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
        values = np.array(other).astype(np.uint16)
    if rawmode == "LA;16B":
        return Pixels(values[..., 0::2] * 256 + values[..., 1::2], "LA")
    key = image.info.get("transparency") if eight.layout == "RGB" else None
    return replace(
        eight, values=eight.values.astype(np.uint16) * 256 + values, key=tuple(key) if isinstance(key, tuple) else None
    )


def _encoding(source: Callable[[], BinaryIO], image: Image.Image) -> dict[str, Any]:
    """How the file was compressed, as keywords for writing it again."""
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        first, *others = [entry[1:3] for entry in image.layer]
        plain = all(factors == (1, 1) for factors in others)
        kept: dict[str, Any] = {
            "layers": image.layers,
            "qtables": {index: list(table) for index, table in image.quantization.items()},
            # 4:4:4, 4:2:2, 4:2:0 in Pillow's numbers; what it can't write is written in full resolution
            "subsampling": {(1, 1): 0, (2, 1): 1, (2, 2): 2}.get(first, 0) if plain else 0,
            "progressive": bool(image.info.get("progressive")),
        }
        if image.layers == 3:
            kept["keep_rgb"] = image.info.get("adobe_transform") == 0
        return kept
    if image.format == "WEBP":
        return {"lossless": _webp_is_lossless(source)}
    if image.format == "TIFF":
        return {"compression": image.info.get("compression")}
    return {}


def _is_deep(source: Callable[[], BinaryIO]) -> bool:
    """Whether an AVIF or HEIC stores more than 8 bits a channel, by its decoder's settings in the header."""
    with source() as stream:
        head = stream.read(65536)
    if (at := head.find(b"av1C")) >= 0 and len(head) > at + 6:
        return bool(head[at + 6] & 0x40)
    return (at := head.find(b"hvcC")) >= 0 and len(head) > at + 21 and bool(head[at + 21] & 7)


def _webp_is_lossless(source: Callable[[], BinaryIO]) -> bool:
    """Whether the picture's chunk is VP8L; the chunks before it are few and small."""
    with source() as stream:
        stream.seek(12)
        while len(head := stream.read(8)) == 8:
            if head[:4] in (b"VP8L", b"VP8 "):
                return head[:4] == b"VP8L"
            length = struct.unpack("<I", head[4:])[0]
            stream.seek(length + length % 2, os.SEEK_CUR)
    return False


def _usable(pixels: Pixels) -> bool:
    """Whether the CMYK profile converts both ways; tried on one pixel."""
    from PIL import ImageCms

    try:
        one = replace(pixels, values=pixels.values[:1, :1])
        one.filled(one.rgb(), np.ones((1, 1), dtype=bool))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return False
    return True
