"""Where real pixels come into a crop: flat places first, then patches of the photo and of other photos. No torch."""

from __future__ import annotations

import numpy as np

from cicm.exemplar.joining import join
from cicm.exemplar.patches import available, fill_by_patches, unavailable_reason
from cicm.exemplar.smooth import smooth_fill
from cicm.inference.canvas import Filling
from cicm.inference.plan import Part
from cicm.inference.settings import FillSettings
from cicm.inference.tiles import cut

SMALLEST = 8
"""Holes thinner than that many pixels at their widest are the network's alone; patches have nothing to add there."""


def fill_flat(filling: Filling, part: Part, own: np.ndarray) -> np.ndarray:
    """Fill the places of a crop that lie in one colour or in an even ramp.

    Args:
        filling: the picture.
        part: the crop.
        own: (h, w) bool, the places to fill.

    Returns:
        (h, w) bool, what is left to fill.
    """
    colours, done = smooth_fill(filling.canvas.read(part.box), cut(filling.missing, part.box))
    done &= own
    if not done.any():
        return own
    filling.canvas.write(part.box, colours, done)
    cut(filling.missing, part.box)[done] = False
    return own & ~done


def add_patches(filling: Filling, part: Part, own: np.ndarray, settings: FillSettings) -> None:
    """Fill a crop with patches, or join patches with what the network has filled it with.

    Args:
        filling: the picture; its canvas holds the network's fill where `own` is, unless `settings.fill` is `exemplar`.
        part: the crop.
        own: (h, w) bool, the places to fill.
        settings: says how, and the seed.

    Raises:
        PatchesUnavailable: patches were asked for by `fill = "exemplar"`, and can't be searched on this machine.
    """
    if settings.fill == "both" and not available():
        filling.note(unavailable_reason() + " The network filled all of it.")
        return
    gone = cut(filling.missing, part.box)
    colours = filling.canvas.read(part.box)
    if gone.all():  # only possible where a crop is all hole; the network has done what can be done
        filling.note("a hole fills all of what is seen of it; no real pixels could be found for it")
        return
    eight = np.rint(colours * 255.0).astype(np.uint8)
    patches = fill_by_patches(eight, gone, seed=settings.seed).astype(np.float32) / 255.0
    if settings.fill == "both":
        patches = join(colours, patches, gone)
    filling.canvas.write(part.box, patches, own)
