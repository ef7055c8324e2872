"""Label maps: files that say of every pixel of a photo what it shows. No torch.

A map is read into class numbers 0 to N - 1, and `VOID` where it says nothing; void never becomes a class.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cicm.conventions import InputError
from cicm.files import check_readable
from cicm.photos.headers import image_size
from cicm.photos.photo import open_photo

VOID = 255
"""Class number of a pixel of which nothing is said."""

_UNKNOWN = 254


@dataclass(frozen=True)
class Classes:
    """The classes of a data set, and how its files write them.

    Args:
        names: of class 0, 1, ...
        values: number in a file -> class, or `VOID`; a number that is not here is an error.
        colours: (red, green, blue) -> class or `VOID`, for files that are coloured instead of numbered.

    Example:
        >>> Classes(("sky", "road"), {7: 1, 23: 0, 255: VOID}).of(np.array([[7, 23, 255]]))
        array([[  1,   0, 255]], dtype=uint8)
    """

    names: tuple[str, ...]
    values: Mapping[int, int]
    colours: Mapping[tuple[int, int, int], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def of(self, numbers: np.ndarray, what: str = "the label map") -> np.ndarray:
        """(H, W) uint8 classes, or `VOID`, of the (H, W) numbers of a file, or of its (H, W, 3) colours.

        Raises:
            InputError: a number or colour that is none of these; the first is named with its place.
        """
        if numbers.ndim == 3:
            if not self.colours:
                raise InputError(f"{what} must hold one number for each pixel (grey or palette); it is coloured.")
            code = numbers.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
            result = np.full(code.shape, _UNKNOWN, dtype=np.uint8)
            for (red, green, blue), kind in self.colours.items():
                result[code == red * 65536 + green * 256 + blue] = kind
        else:
            table = np.full(256, _UNKNOWN, dtype=np.uint8)
            table[list(self.values)] = list(self.values.values())
            # of 16-bit files, what does not fit into a byte is no class of anything here
            result = np.where(numbers <= 255, table[numbers.astype(np.uint8)], _UNKNOWN).astype(np.uint8)
        if (strange := result == _UNKNOWN).any():
            y, x = map(int, np.argwhere(strange)[0])
            known = "colours" if numbers.ndim == 3 else _ranges(sorted(self.values))
            raise InputError(
                f"{what} has the value {numbers[y, x].tolist()} at x {x}, y {y}, {int(strange.sum()):,} pixels in all "
                f"are outside the classes; expected {known} ({', '.join(self.names)}; the rest is void). "
                "Use the map that belongs to these classes."
            )
        return result


def read_labels(path: str | os.PathLike, classes: Classes, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a label map.

    Args:
        size: (height, width) of its photo; None where any will do.

    Returns:
        (H, W) uint8: classes, and `VOID`. A map with nothing but void is legal.

    Raises:
        InputError: no picture that can be read, another size, a value outside the classes.
    """
    pixels = open_photo(path).pixels
    if size is not None and pixels.size != size:
        raise _another_size(path, pixels.size, size)
    if pixels.layout in ("L", "P"):
        values = pixels.values.astype(np.uint8) if pixels.values.dtype == bool else pixels.values
        if values.dtype.kind == "f":
            raise InputError(f"the labels {path} must hold whole numbers; got floating point.")
        return classes.of(values, f"labels {path}:")
    return classes.of(pixels.eight_bit().expanded(to_rgb=True).opaque().values, f"labels {path}:")


def check_labels(path: str | os.PathLike, photo: str | os.PathLike, size: tuple[int, int]) -> None:
    """Refuse what is plainly not the label map of a photo, without decoding it.

    Args:
        size: (height, width) of the photo.

    Raises:
        InputError: another size; or the name of another photo, where the one of this photo's name lies beside it.
    """
    file, stem = check_readable(path, "labels"), Path(photo).stem
    if (found := image_size(file)) != size:
        raise _another_size(file, found, size)
    own = file.with_name(f"{stem}{file.suffix}")
    if file.stem != stem and own != Path(photo) and own.is_file() and file.parent != Path(photo).parent:
        raise InputError(f"{file} is the label map of another photo: {own} lies beside it. Use that one for {photo}.")


def _another_size(path: str | os.PathLike, found: tuple[int, int], size: tuple[int, int]) -> InputError:
    return InputError(
        f"labels and photo must agree in size; got labels {path} of {found[1]}x{found[0]} for a photo of "
        f"{size[1]}x{size[0]} (width x height). Is it the map of another photo?"
    )


def _ranges(numbers: list[int]) -> str:
    """Numbers in words, stretches as ranges.

    Example:
        >>> _ranges([0, 1, 2, 255])
        '0 to 2, 255'
    """
    stretches: list[list[int]] = []
    for number in numbers:
        if stretches and number == stretches[-1][1] + 1:
            stretches[-1][1] = number
        else:
            stretches.append([number, number])
    return ", ".join(f"{first} to {last}" if first < last else str(first) for first, last in stretches)
