"""One picture in, the same picture filled out: crops, tiles, seams.

Names are loaded when they are asked for, so that planning a fill does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cicm.inference.inpainter import Inpainter, choose_device
    from cicm.inference.painter import LargeHoleWarning
    from cicm.inference.plan import Plan
    from cicm.inference.report import Report
    from cicm.inference.settings import FillSettings

_HOMES = {
    "inpainter": ["Inpainter", "choose_device"],
    "painter": ["LargeHoleWarning"],
    "plan": ["Plan"],
    "report": ["Report"],
    "settings": ["FillSettings"],
}

__all__ = ["FillSettings", "Inpainter", "LargeHoleWarning", "Plan", "Report", "choose_device"]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"cicm.inference.{home}"), name)
    raise AttributeError(f"module 'cicm.inference' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
