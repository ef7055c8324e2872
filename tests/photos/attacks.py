"""Small files that cost minutes or gigabytes, made here byte for byte."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def picture(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """Smooth noise."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Image.Image, format_: str, **how: object) -> bytes:
    """The bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, format_, **how)  # type: ignore[arg-type]
    return stream.getvalue()


def jpeg_of_scans(count: int, width: int = 64, height: int = 48) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    whole = saved(picture(width, height), "JPEG", progressive=True)
    last = whole.rfind(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * count + whole[-2:]


def jpeg_with(more: bytes) -> bytes:
    """A small JPEG with more bytes behind its first two."""
    whole = saved(picture(), "JPEG")
    return whole[:2] + more + whole[2:]


def tiff_of_pages(count: int) -> bytes:
    """Directories one after the other, each with a size and one strip of one pixel."""
    data = bytearray(b"II*\0\x08\0\0\0")
    tags = [
        (256, 3, 1, 1),
        (257, 3, 1, 1),
        (258, 3, 1, 8),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (278, 3, 1, 1),
        (279, 4, 1, 1),
    ]
    for number in range(count):
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        data += struct.pack("<I", len(data) + 4 if number + 1 < count else 0)
    return bytes(data)


def tags(entries: list[tuple[int, int, int]], block: int, order: str = "<") -> bytes:
    """A TIFF structure: (tag, kind, count) that all begin at one block of so many bytes behind the directory."""
    start = 8 + 2 + 12 * len(entries) + 4
    data = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(entries))
    for tag, kind, count in entries:
        data += struct.pack(order + "HHII", tag, kind, count, start)
    return data + bytes(4) + b"\1" * block


def tiff_with(entries: list[tuple[int, int, int]], block: int) -> bytes:
    """A readable grey TIFF of one pixel with more tags, all at one place."""
    own = [(256, 1), (257, 1), (258, 8), (262, 1), (273, 8), (278, 1), (279, 1)]
    rows = [(tag, struct.pack("<HHII", tag, 4, 1, value)) for tag, value in own]
    start = 8 + 2 + 12 * (len(own) + len(entries)) + 4
    rows += [(tag, struct.pack("<HHII", tag, kind, count, start)) for tag, kind, count in entries]
    table = b"".join(row for _, row in sorted(rows))
    return b"II*\0" + struct.pack("<IH", 8, len(rows)) + table + bytes(4) + b"\1" * block


def chunk(name: bytes, data: bytes) -> bytes:
    """One of a PNG, with its sum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(more: bytes, behind: bool = False) -> bytes:
    """A small PNG with more chunks before or behind its pixels."""
    whole = saved(picture(), "PNG")
    at = len(whole) - 12 if behind else whole.index(b"IDAT") - 4
    return whole[:at] + more + whole[at:]


def webp_of_size(width: int, height: int) -> bytes:
    """34 bytes that say they are a large picture."""
    bits = (width - 1) | (height - 1) << 14
    body = b"WEBPVP8L" + struct.pack("<I", 13) + b"\x2f" + struct.pack("<I", bits) + bytes(8) + b"\0"
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_of_frames(count: int) -> bytes:
    """Frames of one pixel."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame * count + b"\x3b"
