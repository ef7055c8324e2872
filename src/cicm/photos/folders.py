"""Finding image files, and their sizes without decoding them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from cicm.conventions import InputError
from cicm.files import reason_of

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""Endings that are read, in any case."""

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
"""What is opened (JPEG includes MPO); Pillow's other readers stay shut, since some start other programs."""


def find_images(root: str | Path) -> list[Path]:
    """All image files below a folder, however deep, in the same order on every machine.

    Links to folders are followed (once: a link back up is not), hidden files and folders are left out, and the order
    is that of the posix paths below `root`.

    Returns:
        Paths that begin with `root`.

    Raises:
        InputError: no such folder, not a folder, a folder that can't be listed, or no image in it.
    """
    root = Path(root)
    if not root.exists():
        raise InputError(f"expected a folder of images; {root} does not exist. Check the path.")
    if not root.is_dir():
        raise InputError(f"expected a folder of images; {root} is a file. Give the folder that holds it.")
    found: list[Path] = []
    seen = set()
    for folder, below, files in os.walk(root, onerror=_cannot_list, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        # Sorted, so that of two links to one folder the same one is followed everywhere.
        below[:] = sorted(name for name in below if not name.startswith("."))
        found += [
            Path(folder, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in ENDINGS
        ]
    if not found:
        raise InputError(
            f"expected images ({', '.join(sorted(ENDINGS))}) in {root}; found none, also in its subfolders."
        )
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of the upright picture, from the file's header; pixels are not decoded.

    A file cut off after its header still has a size; reading it fails.

    Raises:
        InputError: the file is missing, empty, or no image that Pillow knows.
    """
    try:
        with warnings.catch_warnings():
            # A picture of many pixels is refused where it is decoded, with its limit; here nothing is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if isinstance(image, TiffImageFile):
                    # Pillow has turned this size already, in some versions.
                    width, height = image.tag_v2[256], image.tag_v2[257]
                # Pillow would decode a whole PNG to look for an orientation behind the pixels; that one is not seen.
                header = image.format != "PNG" or "exif" in image.info
                sideways = header and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception as problem:
        raise InputError(f"expected an image file; can't read {path}: {reason_of(problem)}") from problem
    return (width, height) if sideways else (height, width)


def _cannot_list(problem: OSError) -> None:
    raise InputError(f"expected a folder that can be listed; got {problem.filename}: {reason_of(problem)}") from problem
