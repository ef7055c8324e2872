"""How a picture is filled: the one set of defaults of every door. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self, TypedDict, Unpack

from cicm.conventions import InputError

STRATEGIES = ("auto", "whole", "crop", "tile", "resize")

FILLS = ("both", "network", "exemplar")


class FillChanges(TypedDict, total=False):
    """Single settings by name, for those who take them beside a `FillSettings`; None changes nothing."""

    margin: int | None
    max_side: int | None
    strategy: str | None
    tile: int | None
    widest: int | None
    feather: int | None
    fill: str | None
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class FillSettings:
    """How a picture is cut, reduced and joined again around the network.

    Args:
        margin: known pixels that the network sees around a hole at least, in a picture that it doesn't see whole.
        max_side: longest side of what the network sees.
        strategy: `whole`: the picture as it is. `resize`: one part around all holes, reduced if longer than `max_side`.
            `crop`: one part around each group of holes, reduced likewise. `tile`: as `crop`, but wide holes are reduced
            until they are no wider than `widest`, thin ones are seen at full size, and what is longer than `tile` is
            done in tiles. `auto`: `tile` for a picture of more than 512x512 pixels; a smaller one is seen whole.
        tile: side of a tile.
        widest: pixels across a hole, as the network sees it, up to which it fills well.
        feather: pixels inside the hole over which the step at its border is taken out of the fill; 0 leaves it.
        fill: `network`: the network alone, smooth and safe. `exemplar`: patches of real pixels alone, sharp. `both`:
            joined.
        seed: of the search for patches; another seed gives another answer.

    Raises:
        InputError: an unknown strategy or way to fill, or a number below its least.

    Example:
        >>> FillSettings().margin, FillSettings(margin=9).changed(feather=4, margin=None)
        (64, FillSettings(margin=9, max_side=1024, strategy='auto', tile=512, widest=96, feather=4, ...))
    """

    margin: int = 64
    max_side: int = 1024
    strategy: str = "auto"
    tile: int = 512
    widest: int = 96
    feather: int = 0
    fill: str = "both"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise InputError(f"strategy must be one of {', '.join(STRATEGIES)}; got {self.strategy!r}.")
        if self.fill not in FILLS:
            raise InputError(f"fill must be one of {', '.join(FILLS)}; got {self.fill!r}.")
        for name, least in (("margin", 1), ("max_side", 32), ("tile", 32), ("widest", 8), ("feather", 0), ("seed", 0)):
            if (value := getattr(self, name)) < least:
                raise InputError(f"{name} must be at least {least}; got {value}.")

    def changed(self, **changes: Unpack[FillChanges]) -> Self:
        """The same with other values; None leaves one as it is."""
        given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **given)
