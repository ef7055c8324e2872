"""What each format can hold, and how it is written: one function a format."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin, features

from cicm.conventions import InputError
from cicm.photos.metadata import Metadata, photoshop_segment, tiff_directory
from cicm.photos.pixels import CHANNELS, Pixels

ENDINGS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
}
"""Ending in small letters -> format, of all that is read and written on this machine."""
if features.check("avif"):
    ENDINGS[".avif"] = "AVIF"
if find_spec("pillow_heif"):  # the extra `heic`
    ENDINGS |= {".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF"}

LOSSY = ("JPEG", "AVIF", "HEIF")  # formats that are always compressed anew, which moves every pixel a little

_HOLDS = {  # what each format can store; "16" and "F" are depths
    "JPEG": {"L", "RGB", "CMYK"},
    "PNG": {"1", "L", "LA", "P", "RGB", "RGBA", "16", "key"},
    "WEBP": {"RGB", "RGBA"},
    "TIFF": {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "16", "F"},
    "BMP": {"1", "L", "P", "RGB"},
    "GIF": {"1", "L", "P"},
    "AVIF": {"RGB", "RGBA"},
    "HEIF": {"RGB", "RGBA"},
}
_LOSSLESS_TIFF = {"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"}
_FAX = {"group3", "group4", "tiff_ccitt"}  # for one-bit pictures only


def fitted(pixels: Pixels, format_: str) -> tuple[Pixels, list[str]]:
    """The pixels as a format can hold them, and notes on what had to change.

    Raises:
        InputError: transparency, or more colours than a GIF can hold.
    """
    holds, notes = _HOLDS[format_], []
    if pixels.values.dtype.kind == "f" and "F" not in holds:
        raise InputError(f"{format_} can't hold floating-point pixels. Write .tif.")
    if pixels.key is not None and "key" not in holds:
        pixels = pixels.expanded(to_rgb=False)
    if pixels.values.dtype == np.uint16 and "16" not in holds:
        pixels = pixels.eight_bit()
        notes.append(f"{format_} holds 8 bits a channel; 16-bit pixels were rounded")
    see_through = not pixels.is_opaque()
    keeps_palette = (
        pixels.layout == "P" and "P" in holds and (format_ == "PNG" or not see_through or _gif_can(pixels, format_))
    )
    if pixels.layout in ("P", "PA") and not keeps_palette:
        pixels = pixels.expanded(to_rgb=False)
        notes.append(f"{format_} can't hold this palette; its colours are written as {pixels.layout}")
    if pixels.layout in ("LA", "RGBA") and not {"LA", "RGBA"} & holds:
        if see_through:
            raise InputError(f"{format_} can't hold the photo's transparency. Write .png, .webp or .tif.")
        pixels = pixels.opaque()
    if pixels.layout == "CMYK" and "CMYK" not in holds:
        pixels = pixels.expanded(to_rgb=True)
        notes.append(f"{format_} can't hold CMYK; converted to RGB")
    depth = "1" if pixels.values.dtype == bool else pixels.layout
    if depth == "1" and "1" not in holds:
        pixels = replace(pixels, values=pixels.values.astype(np.uint8) * 255)
    if pixels.layout not in holds and {"RGB", "RGBA"} & holds:
        pixels = pixels.expanded(to_rgb=True)
    if pixels.layout not in holds:
        raise InputError(
            f"{format_} holds at most 256 colours, the photo is {pixels.layout}. Write .png, .webp or .tif."
        )
    return pixels, notes


def _gif_can(pixels: Pixels, format_: str) -> bool:
    """Whether GIF's single transparent entry is enough."""
    alpha = pixels.palette[:, 3] if pixels.palette is not None else np.array([255])
    return format_ == "GIF" and int((alpha < 255).sum()) <= 1 and bool(np.isin(alpha, (0, 255)).all())


def _common(metadata: Metadata, *names: str) -> dict[str, Any]:
    every = {"exif": metadata.exif, "icc_profile": metadata.icc, "dpi": metadata.dpi, "xmp": metadata.xmp}
    return {name: every[name] for name in names if every[name]}


def _write_jpeg(stream: BinaryIO, pixels: Pixels, metadata: Metadata, how: dict[str, Any]) -> None:
    quality: dict[str, Any] = {"quality": 95, "subsampling": 0}
    if how.get("layers") == CHANNELS[pixels.layout]:
        names = ("qtables", "subsampling", "progressive", "keep_rgb")
        quality = {name: how[name] for name in names if name in how}
    tags = _common(metadata, "icc_profile", "dpi", "xmp")
    if metadata.exif and len(metadata.exif) < 65527:
        tags["exif"] = b"Exif\0\0" + metadata.exif
    if len(metadata.xmp) > 65000:
        tags.pop("xmp", None)
    if metadata.comment:
        tags["comment"] = metadata.comment
    pixels.to_image().save(stream, "JPEG", extra=photoshop_segment(metadata.iptc), **quality, **tags)


def _write_png(stream: BinaryIO, pixels: Pixels, metadata: Metadata, how: dict[str, Any]) -> None:
    chunks = PngImagePlugin.PngInfo()
    for name, data in metadata.colour:
        chunks.add(name, data)
    for key, text in metadata.text:
        try:
            chunks.add_text(key, text.encode("latin-1").decode("latin-1"))
        except UnicodeEncodeError:
            chunks.add_itxt(key, text)
    if metadata.xmp:
        chunks.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    tags = _common(metadata, "exif", "icc_profile", "dpi")
    if pixels.values.dtype == np.uint16 and pixels.layout != "L":
        _write_deep_png(stream, pixels, chunks, tags)
        return
    pixels.to_image().save(stream, "PNG", pnginfo=chunks, **_transparency(pixels), **tags)


def _write_deep_png(stream: BinaryIO, pixels: Pixels, chunks: PngImagePlugin.PngInfo, tags: dict[str, Any]) -> None:
    """16-bit colour, for which Pillow has no writer: it writes one 8-bit pixel, we put the header and the pixels in."""
    frame = io.BytesIO()
    Image.new("RGB", (1, 1)).save(frame, "PNG", pnginfo=chunks, **tags)
    whole = frame.getvalue()
    height, width = pixels.size
    colour = {"LA": 4, "RGB": 2, "RGBA": 6}[pixels.layout]
    rows = np.ascontiguousarray(pixels.values.astype(">u2")).view(np.uint8).reshape(height, -1)
    step = pixels.values.shape[2] * 2
    filtered = np.empty((height, rows.shape[1] + 1), dtype=np.uint8)
    filtered[:, 0] = 1  # "Sub": each byte minus the same byte of the pixel to the left
    filtered[:, 1 : step + 1] = rows[:, :step]
    filtered[:, step + 1 :] = rows[:, step:] - rows[:, :-step]

    def chunk(name: bytes, data: bytes) -> None:
        stream.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))

    stream.write(whole[:8])
    at = 8
    while at < len(whole):
        length, name = struct.unpack(">I4s", whole[at : at + 8])
        if name == b"IHDR":
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
        elif name == b"IDAT":
            if pixels.key is not None:
                chunk(b"tRNS", struct.pack(f">{len(pixels.key)}H", *pixels.key))
            packer, rest = zlib.compressobj(6), filtered.reshape(-1)
            for start in range(0, rest.size, 2**24):
                if part := packer.compress(rest[start : start + 2**24].tobytes()):
                    chunk(b"IDAT", part)
            chunk(b"IDAT", packer.flush())
        else:
            stream.write(whole[at : at + 12 + length])
        at += 12 + length


def _write_tiff(stream: BinaryIO, pixels: Pixels, metadata: Metadata, how: dict[str, Any]) -> None:
    """Pillow writes the pixels; the tags follow by hand, for its packed files can't hold an EXIF directory.

    Nor has it a writer for 16-bit colour: W pixels of 16 bits are written as 2 W of 8 bits, and the header is changed.
    """
    allowed = _LOSSLESS_TIFF | (_FAX if pixels.mode == "1" else set())
    compression = how.get("compression") if how.get("compression") in allowed else "tiff_adobe_deflate"
    height, width = pixels.size
    deep = pixels.values.dtype == np.uint16 and pixels.layout != "L"
    if deep:
        native = pixels.values.tobytes()  # a TIFF has the byte order of the machine that writes it, here
        image = Image.frombytes(pixels.layout, (2 * width, height), native)
    else:
        image = pixels.to_image()
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", compression=compression, **_common(metadata, "icc_profile", "dpi"))
    data = bytearray(buffer.getvalue())
    order = {b"II": "<", b"MM": ">"}[bytes(data[:2])]

    tags = tiff_directory(metadata, order)
    entries = _entries_of(data, order, struct.unpack_from(order + "I", data, 4)[0])
    if deep:
        entries[256] = struct.pack(order + "HHII", 256, 4, 1, width)  # LONG
        kind, count = struct.unpack_from(order + "HI", entries[258], 2)
        assert kind == 3  # bits per sample are SHORTs, beside the entry if there are more than two
        assert count == pixels.values.shape[2]
        place = len(data)
        data += struct.pack(f"{order}{count}H", *[16] * count)
        entries[258] = struct.pack(order + "HHII", 258, 3, count, place)
    if len(tags):
        data += b"\0" * (len(data) % 2)
        place = len(data)
        data += tags.tobytes(place)
        entries |= _entries_of(data, order, place)
    data += b"\0" * (len(data) % 2)
    struct.pack_into(order + "I", data, 4, len(data))
    data += struct.pack(order + "H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + b"\0" * 4
    stream.write(data)


def _entries_of(data: bytearray, order: str, directory: int) -> dict[int, bytes]:
    """Tag -> its 12 bytes, of the directory that begins there."""
    count = struct.unpack_from(order + "H", data, directory)[0]
    entries = (bytes(data[at : at + 12]) for at in range(directory + 2, directory + 2 + 12 * count, 12))
    return {struct.unpack_from(order + "H", entry)[0]: entry for entry in entries}


def _write_webp(stream: BinaryIO, pixels: Pixels, metadata: Metadata, how: dict[str, Any]) -> None:
    lossless = how.get("lossless", not how["lossy_source"])
    quality = {"lossless": True, "exact": True} if lossless else {"quality": 90, "exact": True}
    tags = _common(metadata, "icc_profile", "exif", "xmp")
    pixels.to_image().save(stream, "WEBP", method=4, **quality, **tags)


def _write_bmp(stream: BinaryIO, pixels: Pixels, metadata: Metadata, how: dict[str, Any]) -> None:
    pixels.to_image().save(stream, "BMP", **_common(metadata, "dpi"))


def _write_gif(stream: BinaryIO, pixels: Pixels, metadata: Metadata, how: dict[str, Any]) -> None:
    transparent: dict[str, Any] = {}
    if pixels.palette is not None and (pixels.palette[:, 3] == 0).any():
        transparent["transparency"] = int(np.argmin(pixels.palette[:, 3]))
    image = pixels.to_image()
    image.info.pop("transparency", None)
    image.save(stream, "GIF", optimize=False, **transparent)


def _write_avif(stream: BinaryIO, pixels: Pixels, metadata: Metadata, how: dict[str, Any]) -> None:
    tags = _common(metadata, "icc_profile", "exif", "xmp")
    pixels.to_image().save(stream, "AVIF", quality=90, subsampling="4:4:4", **tags)


def _write_heif(stream: BinaryIO, pixels: Pixels, metadata: Metadata, how: dict[str, Any]) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    tags = _common(metadata, "icc_profile", "exif", "xmp")
    pixels.to_image().save(stream, "HEIF", quality=90, chroma=444, **tags)


def _transparency(pixels: Pixels) -> dict[str, Any]:
    if pixels.layout == "P" and pixels.palette is not None and (pixels.palette[:, 3] < 255).any():
        return {"transparency": pixels.palette[:, 3].tobytes()}
    if pixels.key is not None:
        return {"transparency": pixels.key if len(pixels.key) == 3 else pixels.key[0]}
    return {}


WRITERS: dict[str, Callable[[BinaryIO, Pixels, Metadata, dict[str, Any]], None]] = {
    "JPEG": _write_jpeg,
    "PNG": _write_png,
    "WEBP": _write_webp,
    "TIFF": _write_tiff,
    "BMP": _write_bmp,
    "GIF": _write_gif,
    "AVIF": _write_avif,
    "HEIF": _write_heif,
}
"""Format -> the function that writes it: (stream, pixels that it can hold, metadata, how the source was compressed)."""
