"""Pure tensor functions: holes, regions, similarity, and a smooth first fill."""

from cicm.ops.fill import biharmonic, pull_push
from cicm.ops.holes import complete_cells, composite, missing_share
from cicm.ops.regions import as_map, as_regions
from cicm.ops.similarity import SIMILARITIES, similarity

__all__ = [
    "SIMILARITIES",
    "as_map",
    "as_regions",
    "biharmonic",
    "complete_cells",
    "composite",
    "missing_share",
    "pull_push",
    "similarity",
]
