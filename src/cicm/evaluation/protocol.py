"""How a number was measured: stored with every record, printed by `cicm evaluate --explain`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from cicm.evaluation.intervals import LEVEL, RESAMPLES, SEED

COMPOSITE = "composite: the method's pixels in the hole, the photo's own pixels around it"
RAW = "raw: the method's picture as it is, also outside the hole"
ROUNDING = "clamped to [0, 1], rounded to 8 bit, RGB"
ROUNDING_OF_METRIC = "clamped to [0, 1], then as each metric says; where it says nothing, rounded to 8 bit"
SIZES = {
    "crop": "each photo's centre at the size that the list says, cut out; no photo is resized",
    "reduce": "each photo's centre at the size that the list says, after reducing it to just cover that",
}
_INTERVAL = (
    f"{LEVEL:.0%} percentile bootstrap of the mean over images, {RESAMPLES} resamples, seed {SEED}; "
    "none for scores of a whole set"
)


@dataclass(frozen=True)
class Protocol:
    """Everything that changes a score and is not the method.

    Args:
        groups: names of the size groups that were scored, as `256x256`.
        bands: name of a band -> its shares of missing pixels, in words.
        metrics: name -> settings: window, range, network, version.
        pairs_sha256: hash of the list of (image, hole, band) that was scored.
        name: whose definitions these are, see `cicm.evaluation.presets`.
        source: where those were read; told, but no reason to call two protocols different.
        meanings: name of a metric -> what it is, in words; told, but no reason to call two protocols different.
        software: versions; likewise.
    """

    sizes: str
    groups: tuple[str, ...]
    bands: dict[str, str]
    scored: str
    rounding: str
    metrics: dict[str, str]
    masks: str
    pairs_sha256: str
    pixels_sha256: str
    num_pairs: int
    num_images: int
    interval: str = _INTERVAL
    name: str = "cicm"
    source: str = field(default="", compare=False)
    meanings: dict[str, str] = field(default_factory=dict, compare=False)
    software: dict[str, str] = field(default_factory=dict, compare=False)

    def differences(self, other: Protocol) -> list[str]:
        """The fields in which two protocols differ, as `name: mine, not theirs`; empty when scores may be compared.

        Metrics count only where both name them, so that a run with more of them still fits.
        """
        found = []
        for item in dataclasses.fields(self):
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            if item.name == "metrics":
                shared = sorted(mine.keys() & theirs.keys())
                mine, theirs = {name: mine[name] for name in shared}, {name: theirs[name] for name in shared}
            if item.compare and mine != theirs:
                found.append(f"{item.name}: {mine!r}, not {theirs!r}")
        return found

    def explain(self) -> str:
        """The protocol in words, one fact a line."""
        lines = []
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            label = item.name.replace("_", " ")
            if isinstance(value, dict):
                lines.append(f"{label}:")
                lines += [f"  {name}: {text}" for name, text in value.items()]
            else:
                lines.append(f"{label}: {', '.join(value) if isinstance(value, tuple) else value}")
        return "\n".join(lines)


def remedy(first: Protocol, second: Protocol) -> str:
    """What to do about two protocols that differ.

    Example:
        >>> import dataclasses
        >>> ours = Protocol("", (), {}, "", "", {}, "", "", "", 0, 0)
        >>> remedy(ours, dataclasses.replace(ours, name="misf"))
        'Score both again with --protocol cicm, or both with --protocol misf.'
    """
    if first.name != second.name:
        return f"Score both again with --protocol {first.name}, or both with --protocol {second.name}."
    return "Score both again with the same options and the same list (--pairs)."
