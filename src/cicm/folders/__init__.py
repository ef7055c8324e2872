"""Many pictures: what is to be done, a journal of what was done, and what does it. Resumable after a kill."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cicm.folders.assigning import MaskAlpha, MaskBeside, MaskBoxes, MaskColour, MaskFolder, MaskSource, OneMask
    from cicm.folders.engine import Engine
    from cicm.folders.outcome import Outcome, Summary
    from cicm.folders.plan import FolderTask
    from cicm.folders.run import FolderRun, fill_folder

_HOMES = {
    "engine": ["Engine"],
    "assigning": ["MaskAlpha", "MaskBeside", "MaskBoxes", "MaskColour", "MaskFolder", "MaskSource", "OneMask"],
    "outcome": ["Outcome", "Summary"],
    "plan": ["FolderTask"],
    "run": ["FolderRun", "fill_folder"],
}

__all__ = [
    "Engine",
    "FolderRun",
    "FolderTask",
    "MaskAlpha",
    "MaskBeside",
    "MaskBoxes",
    "MaskColour",
    "MaskFolder",
    "MaskSource",
    "OneMask",
    "Outcome",
    "Summary",
    "fill_folder",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"cicm.folders.{home}"), name)
    raise AttributeError(f"module 'cicm.folders' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
