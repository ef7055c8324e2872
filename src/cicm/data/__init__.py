"""Photos and holes to batches: data sets, loading, fixed lists of pairs, generators of holes.

Names are loaded when they are asked for, so that a look at a list does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cicm.data.datasets import PairedPhotos, TrainingPhotos
    from cicm.data.generators import HoleGenerator
    from cicm.data.holes import find_masks, hole_fraction, resize_hole, to_hole
    from cicm.data.loading import TrainingStream
    from cicm.data.pair_lists import Pair, pairs_hash, read_pairs, write_pairs
    from cicm.data.pairs import hole_of, make_pairs

_HOMES = {
    "datasets": ["PairedPhotos", "TrainingPhotos"],
    "generators": ["HoleGenerator"],
    "holes": ["find_masks", "hole_fraction", "resize_hole", "to_hole"],
    "loading": ["TrainingStream"],
    "pair_lists": ["Pair", "pairs_hash", "read_pairs", "write_pairs"],
    "pairs": ["hole_of", "make_pairs"],
}

__all__ = [
    "HoleGenerator",
    "Pair",
    "PairedPhotos",
    "TrainingPhotos",
    "TrainingStream",
    "find_masks",
    "hole_fraction",
    "hole_of",
    "make_pairs",
    "pairs_hash",
    "read_pairs",
    "resize_hole",
    "to_hole",
    "write_pairs",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"cicm.data.{home}"), name)
    raise AttributeError(f"module 'cicm.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
