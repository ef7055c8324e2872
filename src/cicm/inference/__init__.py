"""One picture in, the same picture filled out: crops, tiles, seams.

Names are loaded when they are asked for, so that planning a fill does not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cicm.conventions import loaded_late

if TYPE_CHECKING:
    from cicm.inference.inpainter import Inpainter, choose_device
    from cicm.inference.painter import LargeHoleWarning
    from cicm.inference.plan import Plan
    from cicm.inference.report import Report
    from cicm.inference.settings import FillSettings

__getattr__, __dir__ = loaded_late(
    __name__,
    {
        "inpainter": ["Inpainter", "choose_device"],
        "painter": ["LargeHoleWarning"],
        "plan": ["Plan"],
        "report": ["Report"],
        "settings": ["FillSettings"],
    },
)
