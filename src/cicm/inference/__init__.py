"""Pictures in, filled pictures out: one, a folder, a large one."""

from cicm.inference.inpainter import Inpainter, LargeHoleWarning, Plan, Report, choose_device

__all__ = ["Inpainter", "LargeHoleWarning", "Plan", "Report", "choose_device"]
