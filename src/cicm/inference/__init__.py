"""Pictures in, filled pictures out: one, a folder, a large one.

Names are loaded when they are asked for, so that a look at a folder does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cicm.inference.engine import Engine
    from cicm.inference.folder import FolderRun, FolderTask, Outcome, Summary, fill_folder
    from cicm.inference.inpainter import Inpainter, LargeHoleWarning, Plan, Report, choose_device
    from cicm.inference.marking import MaskAlpha, MaskBeside, MaskBoxes, MaskColour, MaskFolder, MaskSource, OneMask
    from cicm.inference.onnx_runtime import OnnxInpainter

_HOMES = {
    "engine": ["Engine"],
    "folder": ["FolderRun", "FolderTask", "Outcome", "Summary", "fill_folder"],
    "inpainter": ["Inpainter", "LargeHoleWarning", "Plan", "Report", "choose_device"],
    "marking": ["MaskAlpha", "MaskBeside", "MaskBoxes", "MaskColour", "MaskFolder", "MaskSource", "OneMask"],
    "onnx_runtime": ["OnnxInpainter"],
}

__all__ = [
    "Engine",
    "FolderRun",
    "FolderTask",
    "Inpainter",
    "LargeHoleWarning",
    "MaskAlpha",
    "MaskBeside",
    "MaskBoxes",
    "MaskColour",
    "MaskFolder",
    "MaskSource",
    "OneMask",
    "OnnxInpainter",
    "Outcome",
    "Plan",
    "Report",
    "Summary",
    "choose_device",
    "fill_folder",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"cicm.inference.{home}"), name)
    raise AttributeError(f"module 'cicm.inference' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
