"""Photo files: pixels, formats, metadata, masks, other sizes. No torch in this room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cicm.conventions import loaded_late

if TYPE_CHECKING:
    from cicm.photos.headers import find_images, image_size
    from cicm.photos.marking import Marks
    from cicm.photos.photo import Photo, open_photo, read_image, save_photo

__getattr__, __dir__ = loaded_late(
    __name__,
    {
        "headers": ["find_images", "image_size"],
        "marking": ["Marks"],
        "photo": ["Photo", "open_photo", "read_image", "save_photo"],
    },
)
