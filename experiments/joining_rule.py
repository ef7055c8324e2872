"""The rule that joined both fills before the joiner was learned, kept to compare with: `python -m experiments.joining`.

Where both fills agree it takes the patches, elsewhere more of the network. Tone (what is left after a small blur) comes
from the patches only as far as they agree with the network, detail mostly from the patches, thin places and rims from
the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from cicm.exemplar.shapes import components, depth


@dataclass(frozen=True)
class _Shares:
    """What the patches get.

    Args:
        rim: pixels inside the hole between which they fade in.
        tone: their share in the tone, where the two fills contradict each other and where they agree.
        detail: likewise in the detail.
    """

    rim: tuple[float, float]
    tone: tuple[float, float]
    detail: tuple[float, float]


SCATTERED = _Shares(rim=(1.0, 5.0), tone=(0.0, 0.6), detail=(0.4, 0.75))
"""For strokes and ragged holes: what remains of the photo leads the network well, and is a poor source."""

COMPACT = _Shares(rim=(0.0, 4.0), tone=(0.75, 1.0), detail=(0.9, 1.0))
"""For solid and wide places, as of an object: the network's fill is fog in their middle, and shows as a ghost."""

ROUND, DEEP = (0.25, 0.45), (6.0, 12.0)
"""A hole is compact from the second of these on: area of the largest disc inside over its own; radius of that disc."""

WIDE = (14.0, 22.0)
"""A place counts as compact too from the second of these on: radius of the largest disc in the hole that covers it."""

SPARSE = (0.45, 0.3)
"""And only if that much of the picture is missing at most: fully at the second, not at all at the first."""

AGREEMENT = 30 / 255
"""Difference of the blurred fills at which agreement has fallen to 37 percent."""

SPLIT, LOOK = 1.5, 3.0
"""Blurs in pixels: between tone and detail; before the fills are compared."""


def join(network: np.ndarray, patches: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Join two fills of one hole.

    Args:
        network: (h, w, 3) float32 in [0, 1], filled by the network.
        patches: (h, w, 3) float32 in [0, 1], filled by `cicm.exemplar.patches.fill_by_patches`.
        hole: (h, w) bool.

    Returns:
        (h, w, 3) float32 in [0, 1], equal to `network` outside the hole bit for bit. Equal fills stay as they are.

    Raises:
        ValueError: shapes differ.
    """
    if not network.shape == patches.shape == (*hole.shape, 3):
        raise ValueError(f"two fills (h, w, 3) and a hole (h, w); got {network.shape}, {patches.shape}, {hole.shape}.")
    if not hole.any():
        return network.copy()
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    around = 8
    here = (
        slice(max(0, rows[0] - around), rows[-1] + 1 + around),
        slice(max(0, columns[0] - around), columns[-1] + 1 + around),
    )
    gone = hole[here]
    apart = np.where(gone[..., None], patches[here] - network[here], 0).astype(np.float32)

    count = np.maximum(_blurred(gone[..., None].astype(np.float32), LOOK), 1e-6)
    contradiction = np.abs(_blurred(apart, LOOK) / count).mean(2, keepdims=True)
    agreement = np.exp(-((contradiction / AGREEMENT) ** 2))

    deep = depth(gone)
    compact = _compactness(gone, deep)[..., None] * _fading(float(hole.mean()), SPARSE)
    apart *= _mixed(_fading(deep, SCATTERED.rim)[..., None], _fading(deep, COMPACT.rim)[..., None], compact)
    tone = _blurred(apart, SPLIT)
    share = [
        _mixed(_mixed(*scattered, agreement), _mixed(*solid, agreement), compact)
        for scattered, solid in ((SCATTERED.tone, COMPACT.tone), (SCATTERED.detail, COMPACT.detail))
    ]
    change = share[0] * tone + share[1] * (apart - tone)
    joined = network.copy()
    joined[here][gone] = np.clip(network[here] + change, 0, 1)[gone]
    return joined


def _compactness(hole: np.ndarray, deep: np.ndarray) -> np.ndarray:
    """(h, w) float32: 1 in holes that are solid and in wide places, 0 in thin and ragged ones."""
    compact = np.zeros(hole.shape, np.float32)
    for rows, columns in components(hole):
        radius = float(deep[rows, columns].max())
        disc = np.pi * radius**2 / len(rows)
        compact[rows, columns] = _fading(disc, ROUND) * _fading(radius, DEEP)
    for radius in np.linspace(*WIDE, 5):
        core = deep >= radius
        if not core.any():
            break
        covered = hole & (distance_transform_edt(~core) < radius)
        compact[covered] = np.maximum(compact[covered], _fading(radius, WIDE))
    return compact


def _fading(values: float | np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """0 up to the first end, 1 from the second on, smoothly."""
    share = np.clip((values - ends[0]) / (ends[1] - ends[0]), 0, 1)
    return share * share * (3 - 2 * share)


def _mixed(first: float | np.ndarray, second: float | np.ndarray, share: np.ndarray) -> np.ndarray:
    return first + (second - first) * share


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """(h, w, C) blurred by a Gaussian of that many pixels; beyond the edge is 0."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-((np.arange(-reach, reach + 1) / sigma) ** 2) / 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (0, 1):
        size = values.shape[axis]
        padded = np.pad(values, [(reach, reach) if a == axis else (0, 0) for a in range(3)])
        parts = (padded[k : k + size] if axis == 0 else padded[:, k : k + size] for k in range(len(kernel)))
        values = sum(weight * part for weight, part in zip(kernel, parts, strict=True))  # type: ignore[assignment]
    return values
