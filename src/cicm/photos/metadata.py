"""What a file carries beside its pixels: EXIF, colour profile, resolution, captions; kept where it is still true.

The pixels are turned upright, so the orientation becomes 1. Embedded previews show the picture as it was before the
repair, and often the very thing that was to disappear, so they are left out.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from PIL import ExifTags, Image, TiffImagePlugin
from PIL.ExifTags import IFD, Base

_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))(\d)')
_XMP_PREVIEW = re.compile(rb"<(xmp|xap):Thumbnails>.*?</\1:Thumbnails>", re.DOTALL)
_TIFF_TAGS = (
    Base.DocumentName, Base.ImageDescription, Base.Make, Base.Model, Base.Software, Base.DateTime, Base.Artist,
    Base.HostComputer, Base.Rating, Base.Copyright,
)  # fmt: skip
_IPTC_RESOURCE = 0x0404  # Photoshop's number for a block of IPTC captions
_IPTC_TAG, _XMP_TAG = 33723, 700


@dataclass(frozen=True)
class Metadata:
    """What is kept.

    Args:
        exif: a TIFF structure without the `Exif\\0\\0` prefix; empty if there is none.
        icc: the colour profile.
        dpi: (x, y) dots per inch.
        xmp: the XMP packet.
        iptc: the IPTC captions.
        comment: a JPEG's comment.
        text: PNG text as (key, value).
        colour: PNG's colour chunks gAMA, cHRM and sRGB as (name, bytes).
    """

    exif: bytes = b""
    icc: bytes = b""
    dpi: tuple[float, float] | None = None
    xmp: bytes = b""
    iptc: bytes = b""
    comment: bytes = b""
    text: tuple[tuple[str, str], ...] = field(default=())
    colour: tuple[tuple[bytes, bytes], ...] = field(default=())


def metadata_of(image: Image.Image) -> tuple[Metadata, int, list[str]]:
    """Read what an opened and loaded file carries.

    Returns:
        the metadata; the EXIF orientation (1 to 8) that the pixels still have to be turned by; notes on what was left
        out.
    """
    info, notes = image.info, []
    exif, orientation = b"", 0
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        exif = _exif_of_tiff(image)
        orientation = image.getexif().get(Base.Orientation, 1)  # newer Pillow has turned it, and took the tag out
    elif blob := exif_blob(image):
        try:
            exif, orientation = tidy_exif(blob)
        except (struct.error, KeyError, IndexError, ValueError):
            notes.append("the EXIF block is damaged and was left out")

    xmp = info.get("xmp") or b""
    xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp).rstrip(b"\0")
    if not orientation:  # the XMP packet speaks where the EXIF block is silent, as in Pillow's exif_transpose
        found = _ORIENTATION.search(xmp)
        orientation = int(found[2]) if found and found[2] in b"12345678" else 1

    dpi = info.get("dpi")
    if not (isinstance(dpi, tuple) and len(dpi) == 2 and all(0 < float(d) < 1e6 for d in dpi)):
        dpi = None
    else:
        dpi = (float(dpi[0]), float(dpi[1])) if orientation < 5 else (float(dpi[1]), float(dpi[0]))

    photoshop = info.get("photoshop")
    iptc = photoshop.get(_IPTC_RESOURCE, b"") if isinstance(photoshop, dict) else b""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        iptc = image.tag_v2.get(_IPTC_TAG, b"")
    comment = info.get("comment", b"") if image.format in ("JPEG", "MPO") else b""
    return (
        Metadata(
            exif=exif,
            icc=info.get("icc_profile") or b"",
            dpi=dpi,
            xmp=_XMP_PREVIEW.sub(b"", _ORIENTATION.sub(rb"\g<1>1", xmp)),
            iptc=iptc if isinstance(iptc, bytes) else b"",
            comment=comment.encode() if isinstance(comment, str) else bytes(comment),
            text=_png_text(image),
            colour=_png_colour(info) if image.format == "PNG" else (),
        ),
        orientation,
        notes,
    )


def exif_blob(image: Image.Image) -> bytes:
    """The EXIF block as it stands in the file, not looked into; empty if there is none."""
    blob = image.info.get("exif")
    if isinstance(blob, bytes) and blob.removeprefix(b"Exif\0\0"):
        return blob
    if isinstance(text := image.info.get("Raw profile type exif"), str):  # how ImageMagick once put EXIF into PNG
        try:
            return bytes.fromhex("".join(text.split("\n")[3:]))  # after a blank line, the kind and the length
        except ValueError:
            return b""
    return b""


def tidy_exif(blob: bytes) -> tuple[bytes, int]:
    """Set the orientation to 1 and take the embedded preview out, in place, so that every other byte stays.

    Rewriting the whole block would move makers' notes, whose offsets only their maker knows.

    Args:
        blob: a TIFF structure, with or without the `Exif\\0\\0` prefix.

    Returns:
        the new block without the prefix, and the orientation it had (1 if it is nonsense, 0 if there is none).

    Raises:
        struct.error, KeyError, ValueError: a damaged block.
    """
    data = bytearray(blob.removeprefix(b"Exif\0\0"))
    order = {b"II": "<", b"MM": ">"}[bytes(data[:2])]

    def number(kind: str, at: int) -> int:
        return struct.unpack_from(order + kind, data, at)[0]

    def entries(directory: int) -> dict[int, int]:
        """Tag -> where its entry lies."""
        return {number("H", at): at for at in range(directory + 2, directory + 2 + 12 * number("H", directory), 12)}

    def value(at: int) -> int:
        """A single SHORT or LONG."""
        return number({3: "H", 4: "I"}[number("H", at + 2)], at + 8)

    first = number("I", 4)
    main, orientation = entries(first), 0
    if Base.Orientation in main:
        at = main[Base.Orientation]
        orientation = value(at) if value(at) in range(1, 9) else 1
        struct.pack_into(order + {3: "H", 4: "I"}[number("H", at + 2)], data, at + 8, 1)
    if orientation >= 5 and IFD.Exif in main:  # width and height change places
        detail = entries(value(main[IFD.Exif]))
        if Base.ExifImageWidth in detail and Base.ExifImageHeight in detail:
            width, height = detail[Base.ExifImageWidth], detail[Base.ExifImageHeight]
            data[width + 2 : width + 12], data[height + 2 : height + 12] = (
                data[height + 2 : height + 12],
                data[width + 2 : width + 12],
            )
    link = first + 2 + 12 * number("H", first)
    if link + 4 <= len(data) and (second := number("I", link)):
        preview = entries(second)
        for place, length in ((0x0201, 0x0202), (Base.StripOffsets, Base.StripByteCounts)):
            if place in preview and length in preview and number("I", preview[place] + 4) == 1:
                start, stop = value(preview[place]), value(preview[place]) + value(preview[length])
                stop = min(stop, len(data))
                data[start:stop] = bytes(max(0, stop - start))
        struct.pack_into(order + "I", data, link, 0)
    return bytes(data), orientation


def photoshop_segment(iptc: bytes) -> bytes:
    """A JPEG APP13 segment with nothing but the IPTC captions; empty without captions or if they do not fit."""
    body = b"Photoshop 3.0\x00" + b"8BIM" + struct.pack(">H", _IPTC_RESOURCE) + b"\0\0" + struct.pack(">I", len(iptc))
    body += iptc + b"\0" * (len(iptc) % 2)
    return b"\xff\xed" + struct.pack(">H", len(body) + 2) + body if iptc and len(body) + 2 < 65536 else b""


def tiff_directory(metadata: Metadata, order: str) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The tags of a TIFF file of that byte order ("<" or ">") that hold EXIF, XMP and captions."""
    tags = TiffImagePlugin.ImageFileDirectory_v2({"<": b"II*\0\0\0\0\0", ">": b"MM\0*\0\0\0\0"}[order])
    if metadata.exif:
        exif = Image.Exif()
        exif.load(metadata.exif)
        for tag in _TIFF_TAGS:
            if tag in exif:
                tags[tag] = exif[tag]
        for group in (IFD.Exif, IFD.GPSInfo):
            if found := exif.get_ifd(group):
                tags[group] = {tag: content for tag, content in found.items() if tag != ExifTags.IFD.Interop}
    for number, content, kind in ((_XMP_TAG, metadata.xmp, 1), (_IPTC_TAG, metadata.iptc, 7)):  # BYTE, UNDEFINED
        if content:
            tags[number] = content
            tags.tagtype[number] = kind
    return tags


def _exif_of_tiff(image: TiffImagePlugin.TiffImageFile) -> bytes:
    """The descriptive tags of a TIFF as an EXIF block; the structural ones describe the old file only."""
    exif, found = Image.Exif(), image.getexif()
    for tag in _TIFF_TAGS:
        if tag in found:
            exif[tag] = found[tag]
    for group in (IFD.Exif, IFD.GPSInfo):
        if content := found.get_ifd(group):
            exif[group] = dict(content)
    return exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else b""


def _png_text(image: Image.Image) -> tuple[tuple[str, str], ...]:
    if image.format != "PNG":
        return ()
    kept = getattr(image, "text", {})
    special = ("XML:com.adobe.xmp", "Raw profile type exif", "Raw profile type xmp")
    return tuple((str(key), str(value)) for key, value in kept.items() if key not in special)


def _png_colour(info: dict) -> tuple[tuple[bytes, bytes], ...]:
    chunks = []
    if (gamma := info.get("gamma")) is not None:
        chunks.append((b"gAMA", struct.pack(">I", round(gamma * 100000))))
    if (chroma := info.get("chromaticity")) is not None and len(chroma) == 8:
        chunks.append((b"cHRM", struct.pack(">8I", *(round(c * 100000) for c in chroma))))
    if (intent := info.get("srgb")) is not None:
        chunks.append((b"sRGB", bytes([intent])))
    return tuple(chunks)
