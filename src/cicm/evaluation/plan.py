"""What will be scored, before anything is: photos, holes, sizes, and the protocol that stands beside the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cicm.conventions import BANDS, InputError
from cicm.data.datasets import Labels
from cicm.data.pair_lists import GENERATED, Pair, pairs_hash
from cicm.datasets import CLASSES, classes_of, find, layout_named
from cicm.evaluation.presets import DEFAULT, PRESETS, Preset
from cicm.evaluation.protocol import COMPOSITE, RAW, ROUNDING, ROUNDING_OF_METRIC, SIZES, Protocol
from cicm.evaluation.provenance import software
from cicm.files import evenly_spaced
from cicm.metrics import METRICS


@dataclass(frozen=True)
class Cell:
    """The pairs of one size group and band: one number per method and metric."""

    group: str
    band: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class LabelFiles:
    """The label maps of the photos of a layout's split.

    Args:
        layout: whose classes they are in.
        files: photo, as in the list of pairs -> its map.
    """

    layout: str
    files: Mapping[str, Path]

    def of(self, pairs: Sequence[Pair]) -> Labels:
        """The map of each pair's photo.

        Raises:
            InputError: a photo without one.
        """
        if absent := [pair.image for pair in pairs if pair.image not in self.files]:
            raise InputError(
                f"{absent[0]} has no label map in the layout {self.layout}, nor have {len(absent) - 1} others. Score "
                "photos that have one."
            )
        return Labels([self.files[pair.image] for pair in pairs], classes_of(self.layout))


def label_files(root: str | Path, layout: str, split: str) -> LabelFiles | None:
    """The label maps of a layout's split; None where it has none."""
    if layout not in CLASSES:
        return None
    found = find(layout_named(layout, "photos"), root, split)
    there = {photo: Path(root, label) for photo, label in zip(found.photos, found.labels or ()) if label is not None}
    return LabelFiles(layout, there) if there else None


@dataclass(frozen=True)
class Plan:
    """What will be scored, before anything is.

    Args:
        images: the folder that the photos' paths are relative to.
        masks: likewise; None where all holes are painted from seeds.
        fit: how a larger photo comes to the size of its pair, as in `PairedPhotos`: "crop" or "reduce".
        invert: black is missing in the mask files.
        labels: label maps, for models that look at them; None without.
    """

    images: Path
    masks: Path | None
    pairs: tuple[Pair, ...]
    fit: Literal["crop", "reduce"] = "crop"
    invert: bool = False
    labels: LabelFiles | None = None

    @property
    def cells(self) -> list[Cell]:
        """In the order of scoring: the largest size first, then by band."""
        sizes = sorted({(pair.height, pair.width) for pair in self.pairs}, reverse=True)
        cells = [
            Cell(
                f"{width}x{height}",
                band,
                tuple(p for p in self.pairs if (p.height, p.width, p.band) == (height, width, band)),
            )
            for height, width in sizes
            for band in BANDS
        ]
        return [cell for cell in cells if cell.pairs]


def make_plan(
    images: str | Path,
    masks: str | Path | None,
    pairs: Sequence[Pair],
    *,
    bands: Sequence[str] | None = None,
    limit: int | None = None,
    fit: Literal["crop", "reduce"] = "crop",
    invert: bool = False,
    labels: LabelFiles | None = None,
) -> Plan:
    """Choose what to score of a list, and look whether its files are there.

    Args:
        pairs: the list; it also says at which size each photo is scored.
        bands: which ones; None for all that the list has.
        limit: at most so many photos of each size, evenly spread over the list, with all their holes.
        invert: black is missing in the mask files.
        labels: label maps of its photos.

    Raises:
        InputError: an unknown band, files missing, or nothing left to score.
    """
    if unknown := [band for band in bands or () if band not in BANDS]:
        raise InputError(f"the bands are {', '.join(BANDS)}; got {', '.join(unknown)}.")
    if limit is not None and limit < 1:
        raise InputError(f"the limit must be at least 1 photo; got {limit}.")
    files = [name for name in dict.fromkeys(pair.mask for pair in pairs) if not name.startswith(GENERATED)]
    if files and masks is None:
        raise InputError(f"the list names mask files, as {files[0]}; give the folder that they lie in.")
    photos = list(dict.fromkeys(pair.image for pair in pairs))
    for words, folder, names in (("photos", images, photos), ("masks", masks, files)):
        if folder is not None and (absent := [name for name in names if not Path(folder, name).is_file()]):
            raise InputError(
                f"{folder} lacks {len(absent)} of the {len(names)} {words} of the list, first {absent[0]}. "
                "Is it the right folder?"
            )
    kept = [pair for pair in pairs if not bands or pair.band in bands]
    if limit is not None:
        sampled: set[str] = set()
        for size in {(pair.height, pair.width) for pair in kept}:
            of_size = list(dict.fromkeys(pair.image for pair in kept if (pair.height, pair.width) == size))
            sampled |= set(evenly_spaced(of_size, limit))
        kept = [pair for pair in kept if pair.image in sampled]
    if not kept:
        raise InputError(f"nothing to score: the list has {len(pairs)} pairs, none in {', '.join(bands or BANDS)}.")
    return Plan(Path(images), None if masks is None else Path(masks), tuple(kept), fit, invert, labels)


def make_protocol(
    plan: Plan, metrics: Sequence[str], *, raw: bool = False, pixels_sha256: str = "", preset: Preset = PRESETS[DEFAULT]
) -> Protocol:
    """The protocol of a plan; the hash of the pixels is known after a run."""
    painted = sum(pair.mask.startswith(GENERATED) for pair in plan.pairs)
    from_files = len(plan.pairs) - painted
    sources = [f"{painted} painted from seeds"] if painted else []
    colour = "black" if plan.invert else "white"
    sources += [f"{from_files} from files, {colour} = hole, reduced to the photo's size"] if from_files else []
    return Protocol(
        sizes=SIZES[plan.fit],
        groups=tuple(dict.fromkeys(cell.group for cell in plan.cells)),
        bands={
            band: f"{low:.0%} < missing share <= {high:.0%}, at the size scored"
            for band, (low, high) in BANDS.items()
            if any(pair.band == band for pair in plan.pairs)
        },
        scored=RAW if raw else COMPOSITE,
        rounding=ROUNDING if preset.name == DEFAULT else ROUNDING_OF_METRIC,
        metrics={name: _settings(name, preset) for name in metrics},
        masks=f"one hole per row of a fixed list; {', '.join(sources)}",
        pairs_sha256=pairs_hash(plan.pairs),
        pixels_sha256=pixels_sha256,
        num_pairs=len(plan.pairs),
        num_images=len({pair.image for pair in plan.pairs}),
        name=preset.name,
        source=preset.source,
        meanings={name: METRICS[name].explain for name in metrics},
        software=software(),
    )


def _settings(name: str, preset: Preset) -> str:
    """The settings of a metric as one line that stays the same as long as they do."""
    if name in preset.absent:
        return f"not here: {preset.absent[name]}"
    settings = {
        key.replace("_", " "): f"{value:g}"
        if isinstance(value, int | float)
        else str(value)  # 100 and 100.0 are one setting
        for key, value in preset.create(name).protocol.items()
        if key != "rounded_to_8_bit"  # stands in the protocol itself
    }
    return "; ".join(f"{key}: {settings[key]}" for key in sorted(settings))
