"""Photo files: pixels, formats, metadata, masks, other sizes. No torch in this room."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cicm.photos.headers import find_images, image_size
    from cicm.photos.marking import Marks
    from cicm.photos.photo import Photo, open_photo, read_image, save_photo

_HOMES = {
    "headers": ["find_images", "image_size"],
    "marking": ["Marks"],
    "photo": ["Photo", "open_photo", "read_image", "save_photo"],
}

__all__ = ["Marks", "Photo", "find_images", "image_size", "open_photo", "read_image", "save_photo"]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"cicm.photos.{home}"), name)
    raise AttributeError(f"module 'cicm.photos' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
