"""Picture files before they are decoded: which are found and read, their sizes, and what their first bytes say."""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from cicm.conventions import InputError
from cicm.files import open_readable, reason_of, walk
from cicm.photos.bounds import check_body, check_exif, check_start
from cicm.photos.formats import ENDINGS

FORMATS = tuple(dict.fromkeys(ENDINGS.values()))
"""What is opened (JPEG includes MPO); Pillow's other readers stay shut, since some start other programs."""

MAX_PIXELS = 178_956_970
"""Pixels of the largest picture that is opened: Pillow's own limit against decompression bombs, 2 GiB / 12 bytes."""

_RAW = frozenset(re.findall(r"\S+", ".raw .cr2 .cr3 .nef .dng .arw .orf .rw2 .raf .pef .srw"))
_OTHERS = re.findall(
    r"\S+", ".avif .heic .heif .hif .ppm .pgm .pbm .pnm .pfm .jp2 .j2k .jpx .jxl .tga .psd .exr .hdr .svg .ico .eps"
)
_STARTS = {  # first bytes -> a format that is not read
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"8BPS": "Photoshop",
    b"\0\0\1\0": "ICO",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"<svg": "SVG",
    b"DDS ": "DDS",
    **{b"P%d" % number: "PPM or PGM" for number in range(1, 7)},
}


class PictureTooLarge(InputError):
    """A picture of more pixels than are opened."""


# Folders --------------------------------------------------------------------------------------------------------------


def find_images(root: str | Path) -> list[Path]:
    """All image files below a folder, however deep, in the same order on every machine.

    Training, scores and albums must not miss photos in silence: what `cicm.files.walk` calls a problem is an error.

    Returns:
        Paths that begin with `root`, in the order of the posix paths below it. GIF is left out.

    Raises:
        InputError: no such folder, not a folder, a link that leads out of it or to a folder, or no image in it.
    """
    listing = walk(root, lambda name: _ending(name) in ENDINGS and _ending(name) != ".gif", "images")
    if listing.problems:
        path, wrong = listing.problems[0]
        more = f" There are {len(listing.problems) - 1} more such paths." if len(listing.problems) > 1 else ""
        raise InputError(f"{Path(root, path)} can't be taken: {wrong}{more}")
    if not listing.files:
        others = [path for path in listing.others if unsupported(path)]
        more = f"; {others[0]} is of a format that is not supported" if others else ""
        endings = ", ".join(sorted(set(ENDINGS) - {".gif"}))
        raise InputError(f"expected images ({endings}) in {root}; found none, also in its subfolders{more}.")
    return [Path(root, path) for path in listing.files]


def unsupported(name: str | os.PathLike) -> bool:
    """Whether a file's ending is that of a picture which is not read.

    Example:
        >>> unsupported("a.PPM"), unsupported("a.jpg"), unsupported("a.txt")
        (True, False, False)
    """
    return _ending(name) not in ENDINGS and (_ending(name) in _RAW or _ending(name) in _OTHERS)


def _ending(name: str | os.PathLike) -> str:
    return os.path.splitext(name)[1].lower()


# One file -------------------------------------------------------------------------------------------------------------


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of the upright picture, from the file's header; pixels are not decoded.

    A file that is cut off after its header still has a size; reading it fails.

    Raises:
        InputError: the file is missing, empty, or no image that is read.
    """
    try:
        with open_readable(path, "photo") as stream, open_header(stream, path) as image:
            return _upright(image)
    except InputError as problem:
        raise refused(Path(path), problem) from problem
    except Exception as problem:
        raise InputError(f"expected an image file; can't read {path}: {reason_of(problem)}") from problem


def declared_size(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) that the bytes of a file declare, not turned upright; nothing is decoded.

    Raises:
        PictureTooLarge: more than `max_pixels`.
        InputError: no image that is read.
    """
    file = Path(name)
    try:
        with io.BytesIO(data) as stream:
            size = check_start(stream)  # a WebP's decoder asks for its memory when it is made
            if size is None:
                with open_header(stream, file) as image:
                    size = image.size
            check_pixels(file, size, max_pixels)
    except Exception as error:
        raise refused(file, error) from error
    return size[1], size[0]


def check_header(path: str | Path) -> tuple[int, int]:
    """(height, width) of a photo that can be opened as far as that is known without decoding it.

    Only a file that ends before its format says so is decoded, to be sure that it is cut off.

    Raises:
        InputError: as `cicm.photos.open_photo`, but for damage inside the pixels and rare pixel types.
    """
    file = Path(path)
    try:
        with open_readable(file, "photo") as stream, open_header(stream, file) as image:
            check_pixels(file, image.size)
            check_single(file, image)
            size = _upright(image)
        if _looks_cut(file, str(image.format)):
            with file.open("rb") as stream, open_header(stream, file) as image:
                load(stream, image)
    except Exception as error:  # on damaged files Pillow's decoders raise whatever they come across
        raise refused(file, error) from error
    return size


def open_header(stream: BinaryIO, name: str | os.PathLike) -> Image.Image:
    """A picture by Pillow, its pixels not decoded yet; only of the formats that are read.

    Args:
        name: for messages; raw camera files are known by their ending alone.

    Raises:
        InputError: a format that is not read, or a header that would cost minutes or gigabytes.
        OSError: and others that Pillow's readers raise on damaged files.
    """
    head = stream.read(64)
    declared = check_start(stream)
    if declared is not None:
        check_pixels(Path(name), declared)
    formats = tuple(name for name in FORMATS if name != "HEIF")  # its reader is imported when it is needed
    if _ending(name) in _RAW:  # Pillow would take the small preview for the photo
        raise _not_supported(name, "camera raw")
    if head[4:8] == b"ftyp" and b"avif" not in head and any(brand in head[8:] for brand in (b"hei", b"hev", b"mif1")):
        if "HEIF" not in FORMATS:
            raise _not_supported(name, "HEIC", 'Install "cicm[heic]" to read it, or save it as JPEG or PNG.')
        import pillow_heif

        pillow_heif.register_heif_opener()
        formats = ("HEIF",)
    with warnings.catch_warnings():
        # A picture of many pixels is refused by our own limit.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(stream, formats=formats)
            check_exif(image)
            return image
        except UnidentifiedImageError:
            kind = next((kind for start, kind in _STARTS.items() if head.startswith(start)), "")
            if head[4:8] == b"ftyp" and b"avi" in head and "AVIF" not in FORMATS:
                kind = "AVIF"
            if kind or unsupported(name):
                raise _not_supported(name, kind) from None
            raise


def load(stream: BinaryIO, image: Image.Image) -> None:
    """Decode the pixels of a picture that `open_header` opened from that stream.

    Raises:
        InputError: what `cicm.photos.bounds.check_body` refuses.
        OSError: and others that Pillow's decoders raise on damaged files.
    """
    check_body(stream, image)
    image.load()
    check_exif(image)  # a PNG may have it behind its pixels


def check_pixels(file: Path, size: tuple[int, int], most: int = MAX_PIXELS) -> None:
    """Refuse a picture of too many pixels."""
    if size[0] * size[1] > most:
        raise PictureTooLarge(
            f"{file} is {size[0]}x{size[1]}, {size[0] * size[1] / 1e6:.0f} megapixels; "
            f"at most {most / 1e6:.0f} are opened. Reduce it first, or cut out the part to repair."
        )


def check_single(file: Path, image: Image.Image) -> None:
    """Refuse an animation and a document of several pages; of a phone's multi-picture JPEG the first is taken."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise InputError(
            f"expected one picture; {file} holds {frames} (an animation, or a document of several pages). "
            "Save the one to repair as a file of its own."
        )


def refused(file: Path, error: Exception) -> InputError:
    """Why a picture could not be opened, as an error that names the file."""
    if isinstance(error, InputError):
        return error if str(file) in str(error) else InputError(f"{file}: {error}")
    if isinstance(error, UnidentifiedImageError):
        return InputError(
            f"expected a picture ({', '.join(FORMATS)}); {file} is none, or is damaged at its start. Export it again."
        )
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return PictureTooLarge(
            f"{file} says that it holds more than {MAX_PIXELS / 1e6:.0f} megapixels, the most that are opened. "
            "Reduce it first, or cut out the part to repair."
        )
    return InputError(
        f"{file} could not be decoded ({reason_of(error)[:-1]}); it is truncated or damaged. Copy or export it again."
    )


def _not_supported(name: str | os.PathLike, kind: str, do: str = "Save it as JPEG, PNG or TIFF.") -> InputError:
    kind = f"the format {kind}" if kind else f"the format {_ending(name)}"
    return InputError(f"{os.fspath(name)}: {kind} is not supported; supported are {', '.join(FORMATS)}. {do}")


def _upright(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    if isinstance(image, TiffImageFile):
        # Pillow has turned this size already, in some versions.
        width, height = image.tag_v2[256], image.tag_v2[257]
    # Pillow would decode a whole PNG to look for an orientation behind the pixels; that one is not seen.
    header = image.format != "PNG" or "exif" in image.info
    sideways = header and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (width, height) if sideways else (height, width)


# Cut off? -------------------------------------------------------------------------------------------------------------


def _looks_cut(file: Path, format_: str) -> bool:
    """Whether a file ends before its format says so; a whole file with odd bytes behind its picture may look so too."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        if format_ in ("JPEG", "MPO", "GIF"):
            stream.seek(max(0, size - 65536))
            tail = stream.read()
            return not tail.rstrip(b"\0").endswith(b";") if format_ == "GIF" else b"\xff\xd9" not in tail
        head = stream.read(16)
        if format_ == "WEBP":
            return struct.unpack("<I", head[4:8])[0] + 8 > size
        if format_ == "BMP":
            return _bmp_end(stream) > size
        if format_ == "PNG":
            return _end_of_blocks(stream, 8, ">I4s", 12) > size
        if format_ in ("AVIF", "HEIF"):
            return _end_of_blocks(stream, 0, ">I4s", 0) > size
    with Image.open(file, formats=["TIFF"]) as image:
        tags = image.tag_v2  # type: ignore[attr-defined]
        for places, lengths in ((273, 279), (324, 325)):
            for place, length in zip(tags.get(places, ()), tags.get(lengths, ()), strict=False):
                if place + length > size:
                    return True
    return False


def _end_of_blocks(stream: BinaryIO, at: int, layout: str, more: int) -> int:
    """Where the last of a row of blocks ends, each with its length at its head (and `more` bytes that don't count)."""
    while True:
        stream.seek(at)
        if len(head := stream.read(8)) < 8:
            return 2**63 if more else at  # a PNG without its end
        length, name = struct.unpack(layout, head)
        if more == 0 and length in (0, 1):  # up to the end, or a length of 64 bits
            length = struct.unpack(">Q", stream.read(8).ljust(8, b"\xff"))[0] if length else 8
        at += max(length, 0 if more else 8) + more
        if name == b"IEND":
            return at


def _bmp_end(stream: BinaryIO) -> int:
    """Where the rows of an uncompressed BMP end; beyond every file where that is not known."""
    stream.seek(0)
    head = stream.read(54)
    start, kind = struct.unpack_from("<I", head, 10)[0], struct.unpack_from("<I", head, 14)[0]
    if kind < 40 or struct.unpack_from("<I", head, 30)[0] not in (0, 3):
        return 2**63
    width, height, _, bits = struct.unpack_from("<iiHH", head, 18)
    return start + abs(height) * ((width * bits + 31) // 32 * 4)
