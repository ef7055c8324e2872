"""Fills without learning, of one picture: OpenCV's two of `cv2.inpaint` and scikit-image's biharmonic. No torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cicm.conventions import InputError

RADIUS = 5.0
"""Neighbourhood of the OpenCV methods, in pixels: of 1, 3, 5 and 8 the one without a weak spot, by PSNR on
validation photos in both sizes and all bands (the best of the four is at most 0.15 dB better anywhere)."""

Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(H, W, 3) uint8 RGB and (H, W) bool -> (H, W, 3), uint8 or float in [0, 1]."""


def telea(image: np.ndarray, hole: np.ndarray, radius: float = RADIUS) -> np.ndarray:
    """Fast marching (Telea, Journal of Graphics Tools 2004)."""
    cv2 = opencv()
    return cv2.inpaint(image, hole.astype(np.uint8), radius, cv2.INPAINT_TELEA)


def navier_stokes(image: np.ndarray, hole: np.ndarray, radius: float = RADIUS) -> np.ndarray:
    """Fluid dynamics (Bertalmio, Bertozzi and Sapiro, CVPR 2001)."""
    cv2 = opencv()
    return cv2.inpaint(image, hole.astype(np.uint8), radius, cv2.INPAINT_NS)


def biharmonic(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The smoothest surface through the known pixels (Damelin and Hoang, 2018).

    Regions of the hole are solved apart: the equations of two regions share an unknown only where these are nearer
    than the reach of the operator, which scikit-image counts as one region. So the result is that of one large
    system up to rounding, and holes of many pieces are faster.
    """
    return scikit_image()(image / 255.0, hole, channel_axis=-1, split_into_regions=True)


FILLS: dict[str, tuple[Fill, Callable[[], Any]]] = {
    "telea": (telea, lambda: opencv()),
    "navier-stokes": (navier_stokes, lambda: opencv()),
    "biharmonic": (biharmonic, lambda: scikit_image()),
}
"""Name -> the fill, and what finds out whether its package is installed."""


def opencv() -> Any:
    """OpenCV.

    Raises:
        InputError: it is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise InputError(
            'OpenCV is missing, which Telea, Navier-Stokes, the shift map and FSR need: pip install "cicm[baselines]".'
        ) from None
    return cv2


def scikit_image() -> Any:
    """scikit-image's `inpaint_biharmonic`.

    Raises:
        InputError: it is not installed.
    """
    try:
        from skimage.restoration import inpaint_biharmonic
    except ImportError:
        raise InputError('the biharmonic fill needs scikit-image: pip install "cicm[baselines]".') from None
    return inpaint_biharmonic
