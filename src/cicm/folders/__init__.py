"""Many pictures: what is to be done, a journal of what was done, and what does it. Resumable after a kill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cicm.conventions import loaded_late

if TYPE_CHECKING:
    from cicm.folders.assigning import MaskAlpha, MaskBeside, MaskBoxes, MaskColour, MaskFolder, MaskSource, OneMask
    from cicm.folders.engine import Engine
    from cicm.folders.outcome import Outcome, Summary
    from cicm.folders.plan import FolderTask
    from cicm.folders.run import FolderRun, fill_folder

__getattr__, __dir__ = loaded_late(
    __name__,
    {
        "engine": ["Engine"],
        "assigning": ["MaskAlpha", "MaskBeside", "MaskBoxes", "MaskColour", "MaskFolder", "MaskSource", "OneMask"],
        "outcome": ["Outcome", "Summary"],
        "plan": ["FolderTask"],
        "run": ["FolderRun", "fill_folder"],
    },
)
