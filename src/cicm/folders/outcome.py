"""What became of the photos: one outcome for each, and their sum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What became of one photo.

    Args:
        output: path of the result below the folder of results; empty if there is none.
        status: "done": this run filled it. "already": an earlier run filled it, and the journal proves it. "failed".
            "unsupported": a picture of a format that is not read. "skipped": it has no mask, and `missing` is "skip".
        notes: what a reader may want to know, such as something that could not be kept.
        seconds: from opening the photo to the result in its place.
        details: width, height, missing share, and whatever else the inpainter reports.
        ends_run: no later photo can succeed, as with a full disk.
    """

    photo: str
    output: str
    status: str
    error: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)
    ends_run: bool = False


@dataclass
class Summary:
    """How a run went.

    Args:
        skipped: photos without a mask, left out as asked.
        not_begun: photos that were left when the run ended early. What a limit leaves does not count.
        seconds: how long the run took, without looking at the folders.
    """

    done: int = 0
    already: int = 0
    failed: int = 0
    unsupported: int = 0
    skipped: int = 0
    not_begun: int = 0
    seconds: float = 0.0
    stopped: str = ""

    def count(self, outcome: Outcome) -> None:
        """Add one outcome."""
        setattr(self, outcome.status, getattr(self, outcome.status) + 1)

    @property
    def photos_per_second(self) -> float:
        """Filled photos per second."""
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def complete(self) -> bool:
        """Whether every photo has its result, but for those skipped or left as asked."""
        return not (self.failed or self.unsupported or self.not_begun)
