"""Join what the network filled with what patches filled: the network's tone, the patches' texture, no seam."""

from __future__ import annotations

import numpy as np

from cicm.exemplar.membrane import depth

RIM = (1.0, 5.0)
"""Pixels inside the hole between which the patches fade in; nearer to the known pixels the network is right."""

SHARE = 0.5
"""Of the patches inside. The network's fill is closer on average, the patches' is sharp; half of each is liked best."""


def join(network: np.ndarray, patches: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Join two fills of one hole.

    Thin places and rims are the network's. Deeper inside the patches take their share.

    Args:
        network: (h, w, 3) float32 in [0, 1], filled by the network.
        patches: (h, w, 3) float32 in [0, 1], filled by `cicm.exemplar.patches.fill_by_patches`.
        hole: (h, w) bool.

    Returns:
        (h, w, 3) float32 in [0, 1], equal to `network` outside the hole bit for bit.

    Raises:
        ValueError: shapes differ.
    """
    if not network.shape == patches.shape == (*hole.shape, 3):
        raise ValueError(f"two fills (h, w, 3) and a hole (h, w); got {network.shape}, {patches.shape}, {hole.shape}.")
    first, last = RIM
    share = SHARE * np.clip((depth(hole) - first) / (last - first), 0, 1).astype(np.float32)
    joined = network + share[..., None] * (patches - network)
    return np.where(hole[..., None], joined, network)
