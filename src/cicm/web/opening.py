"""What is done to an upload before the network sees it: decoded, marked, its album looked through. No torch."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np

from cicm.conventions import notices_kept
from cicm.files import digest_of
from cicm.photos.headers import PictureTooLarge, declared_size
from cicm.photos.marking import Marks, mark
from cicm.photos.photo import Photo, decode_photo
from cicm.web.form import Order
from cicm.web.limits import Limits

AlbumPhotos = list[tuple[str, np.ndarray, str]]
"""(name, (h, w, 3) uint8 upright pixels, SHA-256 of the file) of each."""


@dataclass(frozen=True)
class Preview:
    """A picture that every browser shows.

    Args:
        data: PNG.
        height: of the photo itself.
        width: of the photo itself.
        format: of the photo itself.
    """

    data: bytes
    height: int
    width: int
    format: str


def declared_pixels(order: Order, limits: Limits) -> int:
    """Pixels of all photos of an order, as their headers tell.

    Raises:
        PictureTooLarge: one of more than the limits allow.
        InputError: a file that is no picture.
    """
    total = 0
    for name, data in (("the photo", order.image), ("the mask", order.mask or b"")):
        if data:
            total += _pixels(data, name, limits.max_pixels)
    if order.album:
        album = sum(_pixels(data, f"the album photo {name}", limits.max_pixels) for name, data in order.album)
        total += min(album, limits.max_album_pixels)  # decoding stops there
    return total


def _pixels(data: bytes, name: str, most: int) -> int:
    height, width = declared_size(data, name, most)
    return height * width


def opened(order: Order, limits: Limits) -> tuple[Photo, np.ndarray, AlbumPhotos]:
    """The photo as it is to be filled, its hole, and the photos of its album.

    Raises:
        InputError: a file that can't be used, a mask of another size, nothing to fill.
    """
    photo = decode_photo(order.image, "the photo", max_pixels=limits.max_pixels)
    masks = () if order.mask is None else (decode_photo(order.mask, "the mask", max_pixels=limits.max_pixels),)
    marks = Marks(masks=masks, boxes=order.boxes, invert=order.invert, grow=order.grow)
    with notices_kept() as told:
        pixels, hole = mark(photo.pixels, marks)
    album, notes = _album_of(order, limits)
    return replace(photo, pixels=pixels, notes=(*photo.notes, *told, *notes)), hole, album


def _album_of(order: Order, limits: Limits) -> tuple[AlbumPhotos, list[str]]:
    """The other photos, decoded, but for the damaged photo itself; and what is to be said of them."""
    photos: AlbumPhotos = []
    notes, own, left = [], digest_of(order.image), limits.max_album_pixels
    for name, data in order.album:
        digest = digest_of(data)
        if digest == own:
            notes.append(f"not copied from {name}: it is the photo itself")
            continue
        try:
            most = min(left, limits.max_pixels)
            photo = decode_photo(data, f"the album photo {name}", max_pixels=most)
        except PictureTooLarge as error:
            if left >= limits.max_pixels:
                raise
            raise PictureTooLarge(
                f"the photos of the album have more than {limits.max_album_pixels / 1e6:g} million pixels "
                "together, the most that this server takes. Send fewer, or smaller ones."
            ) from error
        left -= photo.size[0] * photo.size[1]
        photos.append((name, photo.pixels.eight_bit().expanded(to_rgb=True).opaque().values, digest))
    return photos, notes


def shown(image: bytes, side: int, max_pixels: int) -> Preview:
    """The photo as a small PNG, upright.

    Raises:
        InputError: a file that can't be used.
    """
    photo = decode_photo(image, "the photo", max_pixels=max_pixels)
    picture = photo.pixels.eight_bit().expanded(to_rgb=True).to_image()
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    profile = photo.metadata.icc if photo.pixels.layout in ("RGB", "RGBA", "P", "PA") else b""
    picture.save(buffer, "PNG", compress_level=1, **({"icc_profile": profile} if profile else {}))
    return Preview(buffer.getvalue(), *photo.size, photo.format)
