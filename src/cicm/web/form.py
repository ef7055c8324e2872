"""An upload taken apart while it arrives, in memory, and never more of it than the limits allow."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from cicm.inference.settings import FILLS
from cicm.photos.formats import ENDINGS
from cicm.photos.marking import MAX_GROW
from cicm.photos.pixels import Box
from cicm.web.limits import MAX_FIELD, Refused, too_many_bytes

_MAX_BOXES = 10_000
_MAX_HEADER = 2048
_MAX_NAME = 80
MAX_SEED = 2**31 - 1
FILES = ("image", "mask", "album")
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}


@dataclass
class Upload:
    """The parts of a form: files as bytes, the album's with their names, all else as text."""

    files: dict[str, bytes] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    album: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass(frozen=True)
class Order:
    """What is to be done to one photo.

    Args:
        image: the file.
        mask: the mask's file, if there is one.
        boxes: (left, top, right, bottom) to fill, if there is no mask.
        invert: fill what would be kept.
        grow: pixels by which the hole is made larger.
        format: of the answer, Pillow's name; None is the photo's own.
        fill: one of `FILLS`; None for the model's own way.
        seed: another one gives another answer.
        album: (name, file) of other photos that may lend pixels.
    """

    image: bytes
    mask: bytes | None = None
    boxes: tuple[Box, ...] = ()
    invert: bool = False
    grow: int = 0
    format: str | None = None
    fill: str | None = None
    seed: int = 0
    album: tuple[tuple[str, bytes], ...] = ()


async def read_upload(
    content_type: str, chunks: AsyncIterator[bytes], names: tuple[str, ...], limit: int, most_album: int = 0
) -> Upload:
    """Take a multipart body apart while it arrives.

    Args:
        content_type: the header.
        chunks: the body.
        names: parts that are known; every other one is refused.
        limit: bytes of the whole body; one more ends the reading.
        most_album: parts `album` that may come; one more ends the reading.

    Raises:
        Refused: not multipart, damaged, too long, an unknown or repeated part, too many photos.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise Refused(
            415, "The body must be multipart/form-data with the parts that /docs names; see the example there."
        )
    parts = _Parts(names, most_album)
    try:
        parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
        total = 0
        async for chunk in chunks:
            total += len(chunk)
            if total > limit:
                raise too_many_bytes(limit)
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise Refused(422, "The multipart body is damaged. Send it again.") from error
    if not parts.ended:
        raise Refused(422, "The multipart body ends early. Send it again.")
    return parts.upload


class _Parts:
    """What the parser calls."""

    def __init__(self, names: tuple[str, ...], most_album: int) -> None:
        self.names = names
        self.most_album = most_album
        self.upload = Upload()
        self.ended = False
        self._albums = 0
        self._header = self._value = b""
        self._disposition = b""
        self._name = self._file = ""
        self._data = bytearray()

    def callbacks(self) -> dict[str, Any]:
        names = ("part_begin", "part_data", "part_end", "header_field", "header_value", "header_end")
        return {f"on_{name}": getattr(self, f"_{name}") for name in (*names, "headers_finished", "end")}

    def _part_begin(self) -> None:
        self._header = self._value = self._disposition = b""
        self._data = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._bounded()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._bounded()

    def _bounded(self) -> None:
        if len(self._header) + len(self._value) > _MAX_HEADER:
            raise Refused(422, f"A part's header is longer than {_MAX_HEADER} bytes. Give its file a shorter name.")

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name not in self.names:
            raise Refused(422, f"Unknown part {self._name[:40]!r}; expected {', '.join(self.names)}. Leave it out.")
        self._file = options.get(b"filename", b"").decode("utf-8", "replace")
        self._albums += self._name == "album"
        if self._albums > self.most_album:
            raise Refused(
                413, f"An album may have at most {self.most_album} photos here; more came. Send those that fit best."
            )
        if self._name in self.upload.files or self._name in self.upload.fields:
            raise Refused(422, f"The part {self._name!r} came twice. Send it once.")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]
        if self._name not in FILES and len(self._data) > MAX_FIELD:
            raise Refused(413, f"The field {self._name!r} is longer than {MAX_FIELD} bytes. Send a mask file instead.")

    def _part_end(self) -> None:
        if self._name == "album":
            if self._data or self._file:  # an empty field of a form is no photo
                number = len(self.upload.album) + 1
                self.upload.album.append((_plain_name(self._file) or f"photo {number}", bytes(self._data)))
            self._data = bytearray()
            return
        if self._name in FILES:
            self.upload.files[self._name] = bytes(self._data)
            self._data = bytearray()
            return
        try:
            self.upload.fields[self._name] = self._data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refused(422, f"The field {self._name!r} must be UTF-8 text. Encode it so.") from error

    def _end(self) -> None:
        self.ended = True


def _plain_name(name: str) -> str:
    """A file's name as reports call it: without folders and what can't be printed, and not long.

    Example:
        >>> _plain_name("C:\\\\photos\\\\a\\r\\nb.jpg"), _plain_name("../é.jpg")
        ('a b.jpg', 'é.jpg')
    """
    last = re.split(r"[/\\]", name)[-1]
    return " ".join("".join(c if c.isprintable() else " " for c in last).split())[:_MAX_NAME]


def order_of(upload: Upload) -> Order:
    """What a form asks for.

    Raises:
        Refused: a missing photo, a mask and boxes or neither, or a value that none of them can have.
    """
    image = _image(upload)
    mask = upload.files.get("mask") or None
    boxes = upload.fields.get("boxes", "").strip()
    if (mask is None) == (not boxes):
        came = "both came" if boxes else "neither came"
        raise Refused(422, f"Where to fill is said by the part 'mask' or by the field 'boxes'; {came}. Send one.")
    return Order(
        image=image,
        mask=mask,
        boxes=_boxes_of(boxes) if boxes else (),
        invert=_flag(upload, "invert"),
        grow=_number(upload, "grow", 0, 0, MAX_GROW),
        format=_format(upload),
        fill=_fill(upload),
        seed=_number(upload, "seed", 0, 0, MAX_SEED),
        album=tuple(upload.album),
    )


def preview_of(upload: Upload) -> tuple[bytes, int]:
    """The picture to show, and its longest side.

    Raises:
        Refused: a missing photo, or a side that is none.
    """
    return _image(upload), _number(upload, "side", 2048, 16, 4096)


def _boxes_of(text: str) -> tuple[Box, ...]:
    """Boxes from JSON: a list of [left, top, right, bottom], or of objects with these names.

    Raises:
        Refused: anything else.

    Example:
        >>> _boxes_of('[[0, 0, 4, 2], {"left": 1, "top": 1, "right": 3, "bottom": 3}]')
        ((0, 0, 4, 2), (1, 1, 3, 3))
    """
    names = ("left", "top", "right", "bottom")
    shape = "a JSON list of [left, top, right, bottom] in whole pixels"
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(422, f"'boxes' must be {shape}; this is not JSON. Example: [[10, 20, 110, 80]].") from error
    if not isinstance(rows, list) or not 0 < len(rows) <= _MAX_BOXES:
        raise Refused(422, f"'boxes' must be {shape}, with 1 to {_MAX_BOXES} of them. Example: [[10, 20, 110, 80]].")
    boxes = []
    for number, row in enumerate(rows, start=1):
        values = [row.get(name) for name in names] if isinstance(row, dict) else row
        if (
            not isinstance(values, list)
            or len(values) != 4
            or not all(type(value) is int and 0 <= value < 2**31 for value in values)
            or values[0] >= values[2]
            or values[1] >= values[3]
        ):
            raise Refused(
                422,
                f"Box {number} is none: expected {', '.join(names)} in whole pixels from 0, right beyond left and "
                "bottom beyond top. Correct it.",
            )
        boxes.append((values[0], values[1], values[2], values[3]))
    return tuple(boxes)


def _image(upload: Upload) -> bytes:
    image = upload.files.get("image")
    if not image:
        raise Refused(422, "The part 'image' is missing or empty. Send the photo's file in it.")
    return image


def _flag(upload: Upload, name: str) -> bool:
    value = upload.fields.get(name, "").strip().lower()
    if value not in _FLAGS:
        raise Refused(422, f"{name!r} is true or false; got {value[:40]!r}. Correct it, or leave it out.")
    return _FLAGS[value]


def _number(upload: Upload, name: str, default: int, low: int, high: int) -> int:
    value = upload.fields.get(name, "").strip()
    if not value:
        return default
    if not (value.isascii() and value.isdecimal() and len(value) < 11 and low <= int(value) <= high):
        raise Refused(422, f"{name!r} is a whole number from {low} to {high}; got {value[:40]!r}. Correct it.")
    return int(value)


def _fill(upload: Upload) -> str | None:
    value = upload.fields.get("fill", "").strip().lower()
    if not value:
        return None
    if value not in FILLS:
        raise Refused(422, f"'fill' is one of {', '.join(FILLS)}; got {value[:40]!r}. Correct it, or leave it out.")
    return value


def _format(upload: Upload) -> str | None:
    value = upload.fields.get("format", "").strip().lower()
    if not value:
        return None
    if f".{value}" not in ENDINGS:
        known = ", ".join(ending[1:] for ending in ENDINGS)
        raise Refused(422, f"'format' is one of {known}; got {value[:40]!r}. Correct it, or leave it out.")
    return ENDINGS[f".{value}"]
