"""Photos and holes to batches: data sets, loading, fixed lists of pairs, generators of holes.

Names are loaded when they are asked for, so that a look at a list does not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cicm.conventions import loaded_late

if TYPE_CHECKING:
    from cicm.data.datasets import PairedPhotos, TrainingPhotos
    from cicm.data.generators import HoleGenerator
    from cicm.data.holes import find_masks, hole_fraction, resize_hole, to_hole
    from cicm.data.loading import TrainingStream
    from cicm.data.pair_lists import Pair, pairs_hash, read_pairs, write_pairs
    from cicm.data.pairs import hole_of, make_pairs

__getattr__, __dir__ = loaded_late(
    __name__,
    {
        "datasets": ["PairedPhotos", "TrainingPhotos"],
        "generators": ["HoleGenerator"],
        "holes": ["find_masks", "hole_fraction", "resize_hole", "to_hole"],
        "loading": ["TrainingStream"],
        "pair_lists": ["Pair", "pairs_hash", "read_pairs", "write_pairs"],
        "pairs": ["hole_of", "make_pairs"],
    },
)
