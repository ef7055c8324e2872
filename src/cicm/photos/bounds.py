"""What a file may ask of a decoder, told from its bytes before a decoder sees them.

A small file can hold a decoder for minutes or ask for gigabytes: a JPEG of 600 scans, a TIFF of 16,000 pages, tags that
all point to the same megabyte. Whatever is counted here is far above what cameras and programs write. Files that break
off are left to the decoders, which know more about them.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

from cicm.conventions import InputError
from cicm.photos.metadata import exif_blob

MAX_SCANS = 64
"""Scans of a JPEG; programs write 10 to 20. Each costs a walk over the whole picture."""

MAX_SCANNED = 2**31
"""Scans of a JPEG times its pixels: 12 scans of the largest picture that is opened; some 15 seconds."""

MAX_PAGES = 1000
"""Pages of a TIFF, or pictures of a GIF, that are counted to say how many there are."""

MAX_ENTRIES = 2**16
"""Tags in all directories of a TIFF or an EXIF block."""

MAX_NUMBERS = 2**18
"""Numbers in all these tags, text, bytes and the places of the pixels left out."""

MAX_STRIPS = 2**18
"""Numbers that say where the pixels lie."""

_MAX_SEGMENTS = 4096  # of a JPEG before its pixels; 255 hold the largest colour profile
_MAX_FILL = 2**16  # bytes between them
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_BYTES = (1, 2, 6, 7)  # kinds of values that stay bytes or text
_STRIPS = (273, 279, 324, 325)
_DIRECTORIES = (34665, 34853, 40965)  # EXIF, GPS, interoperability
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def check_start(stream: BinaryIO) -> tuple[int, int] | None:
    """Refuse a file whose header would cost minutes or gigabytes; the pixels are not looked at.

    Returns:
        (width, height) of a WebP, whose decoder asks for all memory when it is made; None for other formats.

    Raises:
        InputError: more tags, pages, segments, chunks or blocks than any program writes.
    """
    stream.seek(0)
    head = stream.read(32)
    found = None
    if head[:2] == b"\xff\xd8":
        _check_segments(stream)
    elif head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        check_tags(stream)
    elif head[:8] == b"\x89PNG\r\n\x1a\n":
        _check_chunks(stream, sums=False)
    elif head[:6] in (b"GIF87a", b"GIF89a"):
        _check_blocks(stream)
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        found = _webp_size(head)
    stream.seek(0)
    return found


def check_exif(image: Image.Image) -> None:
    """Refuse an opened picture whose EXIF block would cost minutes or gigabytes to read."""
    if blob := exif_blob(image):
        check_tags(io.BytesIO(blob.removeprefix(b"Exif\0\0")))


def check_body(stream: BinaryIO, image: Image.Image) -> None:
    """Refuse pixels that can't be trusted, or that a decoder would walk over again and again.

    Args:
        stream: the file; its position is kept.
        image: opened from it.

    Raises:
        InputError: a chunk of a PNG whose sum is wrong, a JPEG of too many scans.
    """
    at = stream.tell()
    if image.format == "PNG":
        _check_chunks(stream, sums=True)
    elif image.format in ("JPEG", "MPO"):
        scans, pixels = _scans(stream), image.size[0] * image.size[1]
        if scans > MAX_SCANS or (scans > 1 and scans * pixels > MAX_SCANNED):
            raise InputError(
                f"the JPEG has {scans} scans, which would take minutes to decode; programs write 10 to 20, and at "
                f"most {min(MAX_SCANS, MAX_SCANNED // max(1, pixels))} are read at this size. Save it again."
            )
    stream.seek(at)


# JPEG -----------------------------------------------------------------------------------------------------------------


def _segments(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(marker, content) up to the first scan's head, which is the last."""
    stream.seek(2)
    fill = 0
    for _ in range(_MAX_SEGMENTS):
        while (start := stream.read(1)) and start != b"\xff" and fill < _MAX_FILL:
            fill += 1
        while (marker := stream.read(1)) in (b"\xff", b"\0") and fill < _MAX_FILL:
            fill += 1
        if fill >= _MAX_FILL:
            raise InputError(f"the JPEG has more than {_MAX_FILL} bytes of filling in its header. Save it again.")
        if not marker or marker == b"\xd9":
            return
        if 0xD0 <= marker[0] <= 0xD8 or marker == b"\1":
            continue  # these have no content
        if len(length := stream.read(2)) < 2:
            return
        yield marker[0], stream.read(max(0, int.from_bytes(length, "big") - 2))
        if marker == b"\xda":
            return
    raise InputError(f"the JPEG has more than {_MAX_SEGMENTS} segments before its pixels. Save it again.")


def _check_segments(stream: BinaryIO) -> None:
    blocks = {b"Exif\0\0": b"", b"MPF\0": b""}  # a decoder joins blocks of several segments
    for marker, content in _segments(stream):
        for start in blocks:
            if marker in (0xE1, 0xE2) and content.startswith(start):
                blocks[start] += content[len(start) :]
    for block in blocks.values():
        check_tags(io.BytesIO(block))


def _scans(stream: BinaryIO) -> int:
    """Scans of the first picture; 1 where the first has all colours whole, for no decoder reads on then."""
    parts = 0
    for marker, content in _segments(stream):
        if marker in (0xC0, 0xC1, 0xC9) and len(content) > 5:
            parts = content[5]
        if marker == 0xDA and content and content[0] == parts:
            return 1
    data, at, count = stream.read(), 0, 1
    while found := _MARKER.search(data, at):
        marker, at = data[found.start() + 1], found.end()
        if marker == 0xD9:
            break
        count += marker == 0xDA
        if marker not in (0x01, 0xD8):
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return count


# TIFF and EXIF --------------------------------------------------------------------------------------------------------


def check_tags(stream: BinaryIO) -> None:
    """Refuse a TIFF structure whose directories hold more than any program writes.

    Raises:
        InputError: too many pages, tags, numbers, or values that share their bytes.
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    head = stream.read(16).ljust(16, b"\0")
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        return
    big = head[2:4] in (b"+\0", b"\0+")
    link, entry, few, inside = ("Q", "HHQ8s", "Q", 8) if big else ("I", "HHI4s", "H", 4)
    step = struct.calcsize(order + entry)

    def number(kind: str, data: bytes) -> int:
        width = struct.calcsize(order + kind)
        return struct.unpack(order + kind, data[:width].ljust(width, b"\0"))[0]

    pages = entries = numbers = strips = read = 0
    waiting, seen = [(number(link, head[8:] if big else head[4:]), True)], set()
    while waiting:
        at, is_page = waiting.pop()
        if at in seen or not 0 < at < size:
            continue
        seen.add(at)
        pages += is_page
        stream.seek(at)
        count = number(few, stream.read(8 if big else 2))
        entries += count
        if pages > MAX_PAGES or entries > MAX_ENTRIES:
            raise InputError(
                f"the file holds more than {MAX_PAGES} pages, or more than {MAX_ENTRIES} tags; it is damaged, or no "
                "photo. Save the picture to repair as a file of its own."
            )
        table = stream.read(count * step)
        for tag, kind, amount, place in struct.iter_unpack(order + entry, table[: len(table) // step * step]):
            width = _WIDTHS.get(kind, 0)
            if tag in _DIRECTORIES:
                waiting.append((number(link if width != 2 else "H", place), False))
            if amount * width <= inside:
                continue
            there = max(0, min(amount * width, size - number(link, place)))
            read += there
            if tag in _STRIPS:
                strips += there // width
            elif kind not in _BYTES:
                numbers += there // width
        if numbers > MAX_NUMBERS or strips > MAX_STRIPS or read > 4 * size + 2**20:
            raise InputError(
                f"the file's tags hold {numbers} numbers and {strips} places of pixels in {read} bytes; at most "
                f"{MAX_NUMBERS} and {MAX_STRIPS} are read, without overlap. It is damaged; export it again."
            )
        if is_page:
            waiting.append((number(link, stream.read(8 if big else 4)), True))


# PNG, GIF, WebP -------------------------------------------------------------------------------------------------------


def _check_chunks(stream: BinaryIO, *, sums: bool) -> None:
    """Refuse a PNG of countless chunks, and with `sums` one with a chunk whose sum is wrong, up to its end."""
    size = stream.seek(0, io.SEEK_END)
    at, count = 8, 0
    while at + 12 <= size:
        stream.seek(at)
        head = stream.read(8)
        length, name = struct.unpack(">I4s", head)
        count += 1
        if count > 4096 + size // 256:
            raise InputError(f"the PNG has {count} chunks of a few bytes each. Save it again.")
        if at + 12 + length > size:
            return  # cut off, which the decoder tells
        if sums:
            total, left = zlib.crc32(head[4:]), length
            while left:
                part = stream.read(min(left, 2**20))
                total, left = zlib.crc32(part, total), left - len(part)
            if total != int.from_bytes(stream.read(4), "big"):
                raise InputError(
                    f"the sum of the PNG's chunk {name.decode('latin-1')!r} at byte {at} is wrong. The file is "
                    "damaged; copy or export it again."
                )
        if name == b"IEND":
            return
        at += 12 + length


def _check_blocks(stream: BinaryIO) -> None:
    """Refuse a GIF of countless blocks."""
    most = 2**15 + stream.seek(0, io.SEEK_END) // 128  # programs write blocks of 255 bytes
    stream.seek(10)
    flags = stream.read(3).ljust(1, b"\0")[0]
    stream.seek(13 + (3 << (flags & 7) + 1 if flags & 128 else 0))
    count = frames = 0
    while kind := stream.read(1):
        if kind == b"\x2c":
            frames += 1
            local = stream.read(9).ljust(9, b"\0")[8]
            stream.seek((3 << (local & 7) + 1 if local & 128 else 0) + 1, io.SEEK_CUR)
        elif kind == b"\x21":
            stream.read(1)
        elif kind == b"\x3b":
            return
        while kind in b"\x2c\x21" and (length := stream.read(1)) and length != b"\0":
            stream.seek(length[0], io.SEEK_CUR)
            count += 1
            if count > most:
                break
        count += 1
        if count > most or frames > MAX_PAGES:
            raise InputError(
                f"the GIF holds more than {MAX_PAGES} pictures, or more than {most} blocks. "
                "Save the picture to repair as a file of its own."
            )


def _webp_size(head: bytes) -> tuple[int, int] | None:
    """(width, height) that the first chunk declares."""
    kind = head[12:16]
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return tuple(number & 0x3FFF for number in struct.unpack_from("<HH", head.ljust(32, b"\0"), 26))  # type: ignore[return-value]
    return None
