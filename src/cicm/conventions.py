"""Axis letters, value ranges, hole polarity, type aliases, and the checks at the door.

Axes: `B` images, `C` channels, `H W` image, `h w` feature map, `N = B*h*w` regions, `L` sets, `K` contexts per set.

| word | meaning |
|---|---|
| image | complete picture, RGB, float in [0, 1], (B, 3, H, W) |
| hole | (B, 1, H, W), 1 = missing; `known = 1 - hole` |
| corrupted | `image * known` |
| prediction | a network's raw output |
| composite | `hole * prediction + known * corrupted` |

This module imports nothing heavy at run time, so that every door can use its error type at once.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

BANDS: dict[str, tuple[float, float]] = {"0-20": (0.0, 0.2), "20-40": (0.2, 0.4), "40-60": (0.4, 0.6)}
"""Name of a band -> (low, high) share of the image that is missing; low exclusive, high inclusive."""


class InputError(ValueError):
    """Something a caller or a file got wrong; the message says what was expected, what came and what to do.

    The command line prints it as one line and exits with 2; from Python it is a `ValueError`.
    """


class Notice(UserWarning):
    """Something that a person should look at, in one line; the work goes on. The command line prints it as a line."""


_kept: ContextVar[list[str] | None] = ContextVar("_kept", default=None)


def give_notice(text: str, category: type[Notice]) -> None:
    """Warn, or add the text to the list of `notices_kept`, where the caller asked for it."""
    if (kept := _kept.get()) is not None:
        kept.append(text)
    else:
        warnings.warn(text, category, stacklevel=3)


@contextmanager
def notices_kept() -> Iterator[list[str]]:
    """A list of the notices given meanwhile in this thread, for a report; they are not warned of.

    Example:
        >>> with notices_kept() as told:
        ...     give_notice("odd", Notice)
        >>> told
        ['odd']
    """
    told: list[str] = []
    token = _kept.set(told)
    try:
        yield told
    finally:
        _kept.reset(token)


def loaded_late(package: str, homes: Mapping[str, Sequence[str]]) -> tuple[Callable, Callable]:
    """`__getattr__` and `__dir__` of a package whose names, given by module, are loaded when they are asked for."""
    places = {name: home for home, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it offers {', '.join(sorted(places))}")
        return getattr(import_module(f"{package}.{places[name]}"), name)

    return get, lambda: sorted(places)


def band_of(fraction: float) -> str | None:
    """Name of the band that a missing share falls into; None for 0 and for more than 60 percent.

    Example:
        >>> band_of(0.2), band_of(0.2001), band_of(0.7)
        ('0-20', '20-40', None)
    """
    for name, (low, high) in BANDS.items():
        if low < fraction <= high:
            return name
    return None


def range_of(name: str) -> tuple[float, float] | None:
    """The shares that a folder's name says; None where it says none.

    Example:
        >>> [range_of(name) for name in ("10-20", "0%-20%", "40_60", "60-40", "extra")]
        [(0.1, 0.2), (0.0, 0.2), (0.4, 0.6), None, None]
    """
    match = re.fullmatch(r"(\d{1,3})\s*%?\s*[-_]\s*(\d{1,3})\s*%?", name.strip())
    if match is None or int(match[1]) >= int(match[2]):
        return None
    return int(match[1]) / 100, int(match[2]) / 100


def band_of_range(name: str) -> str | None:
    """The band that the shares of a folder's name lie in.

    Example:
        >>> [band_of_range(name) for name in ("10-20", "0%-20%", "10-30", "extra")]
        ['0-20', '0-20', None, None]
    """
    shares = range_of(name)
    if shares is None:
        return None
    return next((band for band, (low, high) in BANDS.items() if low <= shares[0] and shares[1] <= high), None)


@dataclass(frozen=True)
class SizeRule:
    """The image sizes that a network takes.

    Args:
        multiple_of: height and width are multiples of this.
        minimum: neither is smaller than this.
        maximum: neither is larger than this; 0 for no bound.
        padding: how a smaller picture is enlarged: mirrored `around` it, or at its `end` (right and bottom) with the
            edge's own pixel repeated first, as LaMa does.
    """

    multiple_of: int = 1
    minimum: int = 1
    maximum: int = 0
    padding: Literal["around", "end"] = "around"

    def nearest(self, height: int, width: int) -> tuple[int, int]:
        """The smallest size that fits and holds (height, width), or the largest that fits.

        Example:
            >>> SizeRule(16, 32).nearest(100, 20), SizeRule(256, 256, 256).nearest(100, 300)
            ((112, 32), (256, 256))
        """
        m, most = self.multiple_of, self.maximum
        sides = (-(-max(side, self.minimum) // m) * m for side in (height, width))
        return tuple(min(side, most) if most else side for side in sides)  # type: ignore[return-value]

    def before(self, size: int, padded: int) -> int:
        """How many of the pixels that are added along an axis come before the picture.

        Example:
            >>> SizeRule(8).before(5, 8), SizeRule(8, padding="end").before(5, 8)
            (1, 0)
        """
        return 0 if self.padding == "end" else (padded - size) // 2

    def check(self, height: int, width: int) -> None:
        """Refuse a size that breaks the rule and name the one that would do."""
        if (fit := self.nearest(height, width)) != (height, width):
            raise InputError(
                f"height and width must be {self}; "
                f"got {height}x{width}. Pad to {fit[0]}x{fit[1]}, or call through cicm.Inpainter, which pads and crops."
            )

    def __str__(self) -> str:
        """In words.

        Example:
            >>> str(SizeRule(16, 32)), str(SizeRule(256, 256, 256))
            ('multiples of 16 and at least 32', 'exactly 256')
        """
        if self.minimum == self.maximum:
            return f"exactly {self.minimum}"
        most = f" and at most {self.maximum}" if self.maximum else ""
        return f"multiples of {self.multiple_of} and at least {self.minimum}{most}"


def describe(tensor: Tensor) -> str:
    """Shape and dtype in the words of an error message.

    Example:
        >>> import torch
        >>> describe(torch.zeros(2, 3))
        '(2, 3) float32'
    """
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def check_image(image: Tensor, name: str = "image") -> Tensor:
    """Refuse what is not (B, 3, H, W) floating point; gives the tensor back.

    Values are not looked at here: a network's prediction may leave [0, 1].
    """
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise InputError(
            f"{name} must be (B, 3, H, W), RGB, floating point in [0, 1]; got {describe(image)}. "
            "Add a batch axis with image[None], divide 8-bit values by 255."
        )
    return image


def check_hole(hole: Tensor, image: Tensor | None = None) -> Tensor:
    """Refuse what is not (B, 1, H, W) with values 0 or 1 and, if given, of the image's size; gives the tensor back."""
    if hole.ndim != 4 or hole.shape[1] != 1:
        raise InputError(
            f"hole must be (B, 1, H, W) with values 0 or 1 (1 = missing); got {describe(hole)}. "
            "Convert mask files with cicm.data.to_hole."
        )
    if image is not None and (hole.shape[0], *hole.shape[2:]) != (image.shape[0], *image.shape[2:]):
        raise InputError(
            f"hole and image must agree in batch and size; got hole {describe(hole)} for image {describe(image)}. "
            "Resize the mask file itself, so that you see what will be filled."
        )
    if bool(((hole != 0) & (hole != 1)).any()):
        raise InputError(
            f"hole must hold only 0 (known) and 1 (missing); got values in [{hole.min():.3g}, {hole.max():.3g}]. "
            "Threshold it: (hole > 0.5).float()."
        )
    return hole
