"""Pure tensor functions: holes, regions, similarity, filters per pixel, labels, and a smooth first fill."""

from cicm.ops.edges import canny
from cicm.ops.fill import biharmonic, pull_push
from cicm.ops.filtering import filter_pixels, filter_pixels_plain
from cicm.ops.holes import complete_cells, composite, missing_share
from cicm.ops.labels import cell_shares, continued, label_planes
from cicm.ops.regions import as_map, as_regions
from cicm.ops.similarity import SIMILARITIES, similarity
