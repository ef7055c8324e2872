"""Lists of pairs that share no hole, so that what was tuned on one is not scored on its own holes in the other.

python -m experiments.lists LIST.csv --masks MASKS --avoid OTHER.csv --output NEW.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cicm.conventions import InputError, band_of
from cicm.data.holes import find_masks, hole_fraction, resize_hole, to_hole
from cicm.data.pair_lists import Pair, read_pairs, write_pairs


def without_masks(
    pairs: Sequence[Pair], masks: str | Path, used: Sequence[Pair], *, seed: int = 0, invert: bool = False
) -> list[Pair]:
    """The same list with other masks in place of those that another list uses.

    Args:
        pairs: the list to change.
        masks: folder of mask files.
        used: the list whose masks are left out.
        seed: order in which other masks are drawn; none comes twice, nor is one of those that stay.
        invert: black is missing in the mask files.

    Returns:
        As many pairs, in the same order, each with its photo, band and size.

    Raises:
        InputError: too few masks left in a band.
    """
    taken = {pair.mask for pair in used}
    rng = np.random.default_rng(seed)
    found = find_masks(masks, invert=invert)
    stay = {pair.mask for pair in pairs} - taken
    spare = {}
    for band, paths in found.items():
        names = [path.relative_to(masks).as_posix() for path in paths]
        names = [name for name in names if name not in taken and name not in stay]
        spare[band] = [names[place] for place in rng.permutation(len(names))]
    changed = []
    for pair in pairs:
        if pair.mask in taken:
            pair = pair._replace(mask=_next(spare.get(pair.band, []), Path(masks), pair, invert))
        changed.append(pair)
    return changed


def _next(names: list[str], masks: Path, pair: Pair, invert: bool) -> str:
    """Take the first of `names` that still lies in the pair's band at the pair's size."""
    for place, name in enumerate(names):
        if (
            band_of(hole_fraction(resize_hole(to_hole(masks / name, invert=invert), (pair.height, pair.width))))
            == pair.band
        ):
            return names.pop(place)
    raise InputError(
        f"too few masks in {masks} are left for the band {pair.band} at {pair.width}x{pair.height}. Use fewer photos, "
        "or more masks."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list")
    for name in ("masks", "avoid", "output"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    pairs = without_masks(read_pairs(options.list), options.masks, read_pairs(options.avoid))
    write_pairs(options.output, pairs)


if __name__ == "__main__":
    main()
