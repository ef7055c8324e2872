"""Copies from other photos of the same scene, brought into place: what was behind the hole, from another moment.

For each photo: features on the known parts, one homography or two, optical flow for what these miss (continued
into the hole), colours fitted on a ring around the hole, and a weight that says where the copy agrees with the
surroundings and with the other copies. A photo of another place is refused. OpenCV does the search; it comes with
`pip install 'cicm[album]'`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from cicm.conventions import InputError
from cicm.exemplar.shapes import membrane

FEWEST_INLIERS = 10
"""Feature pairs that must lie on one homography: other places reached 9, the same place had 11 or more."""

FEATURES, RATIO, REPROJECTION = 1500, 0.75, 4.0
PLANES = 2
"""Homographies that are tried for one photo."""

FEATURE_SIDE = 1024
"""Longest side at which features are searched."""

RING = 32
"""Pixels around the hole on which colours are fitted and agreement is measured."""

AGREES = 0.05
"""Difference of colours, after a blur of 1.5 pixels, below which a copy agrees with the photo."""

LEAST_AGREEMENT = 0.35
"""Share of the ring that must agree, else the photo is refused."""

SAME = 0.9
"""Share of the hole that must agree with what is to be replaced, for a photo to count as a copy of it."""

SCALES = (4.0, 8.0, 16.0, 32.0, 64.0)
"""Blurs in pixels by which flow and doubt are continued into the hole, nearest first."""

BENT = 0.6
"""Pixels that the flow changes by from one pixel to the next, at which a copy is doubted."""

ALONE, UNLIKELY = 0.6, 0.35
"""Weight of a copy that no other one confirms; difference in tone from a film over the hole at which it is doubted."""

GAINS = (0.7, 1.4)


class AlignmentUnavailable(InputError):
    """OpenCV is missing."""


@dataclass(frozen=True)
class Copies:
    """What other photos offer for a hole.

    Args:
        colours: (h, w, 3) float32 in [0, 1]; means something where the weight is above 0.
        weight: (h, w) float32 in [0, 1]: 1 where the copies are sure, 0 outside the hole and where nothing was found.
        used: indices of the photos that gave pixels, the one with the largest share first.
        same: indices of photos that were refused because they show what the hole itself shows: copies of the damaged
            photo, or moments in which what is to go stood where it stands.
    """

    colours: np.ndarray
    weight: np.ndarray
    used: tuple[int, ...] = ()
    same: tuple[int, ...] = ()

    def over(self, fill: np.ndarray) -> np.ndarray:
        """The copies where they are sure, `fill` (h, w, 3) float32 elsewhere; equal to `fill` where the weight is 0."""
        weight = self.weight[..., None]
        return np.where(weight > 0, fill + weight * (self.colours - fill), fill).astype(np.float32)


def available() -> bool:
    """Whether OpenCV is there."""
    try:
        check_available()
    except AlignmentUnavailable:
        return False
    return True


def check_available() -> None:
    """Refuse before any work where OpenCV is missing.

    Raises:
        AlignmentUnavailable: it is.
    """
    _opencv()


def aligned_copies(
    picture: np.ndarray,
    hole: np.ndarray,
    photos: Sequence[np.ndarray],
    *,
    unwanted: np.ndarray | None = None,
) -> Copies:
    """Look for the hole's content in other photos of the same scene.

    Args:
        picture: (h, w, 3) float32 in [0, 1]; the whole photo, so that there is enough to recognise. Colours in the hole
            have no influence.
        hole: (h, w) bool.
        photos: other photos, (h', w', 3) uint8 or float32 in [0, 1], of any size.
        unwanted: (h, w, 3) float32, what is to be replaced; a photo that shows the same in the hole is refused. None
            where that is not known.

    Returns:
        copies; with weight 0 everywhere where no photo shows the same scene.

    Raises:
        AlignmentUnavailable: OpenCV is missing.
    """
    cv = _opencv()
    height, width = hole.shape
    nothing = Copies(np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32))
    if not hole.any() or hole.all() or not photos:
        return nothing
    here = _window(hole)
    gone = np.ascontiguousarray(hole[here])
    part = membrane(picture[here], ~gone)  # no false edges at the hole's border, and nothing of what is in it
    whole = picture.copy()
    whole[here] = part
    features = _features(cv, whole, ~_spread(cv, hole, 3))
    found, same = [], []
    for index, photo in enumerate(photos):
        for homography in _homographies(cv, features, _features(cv, photo)):
            to_part = np.array([[1.0, 0, here[1].start], [0, 1, here[0].start], [0, 0, 1]])
            copy = _copy(cv, part, gone, _as_float(photo), homography @ to_part)
            if copy is not None and unwanted is not None and _shows(cv, unwanted[here], *copy):
                same.append(index)
            elif copy is not None:
                found.append((index, *copy))
    if not found:
        return replace(nothing, same=tuple(same))
    colours, weight, shares = _agreed(cv, part, gone, [one[1] for one in found], [one[2] for one in found])
    nothing.colours[here], nothing.weight[here] = colours, weight
    gave = {index: 0.0 for index, *_ in found}
    for (index, *_), share in zip(found, shares, strict=True):
        gave[index] += share
    order = sorted((index for index, share in gave.items() if share > 0), key=lambda index: -gave[index])
    return Copies(nothing.colours, nothing.weight, tuple(order), tuple(dict.fromkeys(same)))


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise AlignmentUnavailable(
            "aligning other photos needs OpenCV, which is not installed. Run `pip install 'cicm[album]'`."
        ) from error
    return cv2


def _features(
    cv: ModuleType, photo: np.ndarray, known: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Places (N, 2) in the photo's pixels and descriptors of its SIFT features."""
    eight = photo if photo.dtype == np.uint8 else np.rint(photo * 255).clip(0, 255).astype(np.uint8)
    grey = cv.cvtColor(np.ascontiguousarray(eight), cv.COLOR_RGB2GRAY)
    scale = min(1.0, FEATURE_SIDE / max(grey.shape))
    mask = None if known is None else known.astype(np.uint8) * 255
    if scale < 1:
        grey = cv.resize(grey, None, fx=scale, fy=scale, interpolation=cv.INTER_AREA)
        if mask is not None:
            mask = cv.resize(mask, (grey.shape[1], grey.shape[0]), interpolation=cv.INTER_NEAREST)
    points, descriptors = cv.SIFT_create(nfeatures=FEATURES).detectAndCompute(grey, mask)
    return np.array([point.pt for point in points], np.float64).reshape(-1, 2) / scale, descriptors


def _homographies(cv: ModuleType, ours: tuple[np.ndarray, Any], theirs: tuple[np.ndarray, Any]) -> list[np.ndarray]:
    """The (3, 3) maps from our pixels to theirs, one for each plane on which enough features lie."""
    if ours[1] is None or theirs[1] is None or min(len(ours[0]), len(theirs[0])) < FEWEST_INLIERS:
        return []
    pairs = [
        (best.queryIdx, best.trainIdx)
        for best, second in cv.BFMatcher(cv.NORM_L2).knnMatch(ours[1], theirs[1], k=2)
        if best.distance < RATIO * second.distance
    ]
    found: list[np.ndarray] = []
    while len(pairs) >= FEWEST_INLIERS and len(found) < PLANES:
        first, second = np.array(pairs).T
        homography, inliers = cv.findHomography(ours[0][first], theirs[0][second], cv.USAC_MAGSAC, REPROJECTION)
        if homography is None:
            break
        on = inliers.ravel() > 0
        places = theirs[0][second][on]  # several features of ours on one of theirs are one
        if len(np.unique(places.round(), axis=0)) < FEWEST_INLIERS or not np.isfinite(homography).all():
            break
        size = np.linalg.det(homography[:2, :2] / homography[2, 2])
        if 0.04 < size < 25:
            found.append(homography)
        pairs = [pair for pair, taken in zip(pairs, on, strict=True) if not taken]
    return found


def _copy(
    cv: ModuleType, part: np.ndarray, gone: np.ndarray, photo: np.ndarray, homography: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """One photo in place of the part: colours (h, w, 3) and confidence (h, w); None where it does not fit the ring."""
    height, width = gone.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    warped, valid = _sampled(cv, photo, homography, x, y, cv.INTER_LINEAR)
    if not (valid & gone).any():
        return None
    known = valid & ~gone
    ring = _spread(cv, gone, RING) & known
    if ring.sum() < 64:
        return None
    warped = _colour_fitted(part, warped, ring, None)

    # Flow from the photo to the warped one; in the hole it is carried in from where the colours agree.
    target = np.where(known[..., None], part, warped)
    greys = [cv.cvtColor(np.rint(c.clip(0, 1) * 255).astype(np.uint8), cv.COLOR_RGB2GRAY) for c in (target, warped)]
    if min(height, width) >= 16:
        flow = cv.DISOpticalFlow_create(cv.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(greys[0], greys[1], None)
    else:
        flow = np.zeros((height, width, 2), np.float32)
    moved = cv.remap(warped, x + flow[..., 0], y + flow[..., 1], cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE)
    trusted = known & ~_spread(cv, gone, 2) & (_difference(cv, part, moved, known) < AGREES)
    if not trusted.any():
        return None
    flow = _continued(cv, flow, trusted, np.where(trusted, 0.0, 1.0).astype(np.float32))

    copy, valid = _sampled(cv, photo, homography, x + flow[..., 0], y + flow[..., 1], cv.INTER_CUBIC)
    ring = _spread(cv, gone, RING) & valid & ~gone
    if ring.sum() < 64:
        return None
    copy = _colour_fitted(part, copy, ring, trusted)
    difference = _difference(cv, part, copy, valid & ~gone)
    if float((difference[ring] < AGREES).mean()) < LEAST_AGREEMENT:
        return None

    # What still differs along the rim is taken out of the copy, as a soap film.
    sure = ring & (difference < AGREES)
    step = cv.GaussianBlur(np.where(sure[..., None], part - copy, 0).astype(np.float32), (0, 0), 2)
    count = cv.GaussianBlur(sure.astype(np.float32), (0, 0), 2)
    step = step / np.maximum(count, 1e-6)[..., None]
    copy = (copy + membrane(step, (count > 0.3) & ~gone)).clip(0, 1)
    doubt = _continued(cv, difference[..., None], ring, (~ring).astype(np.float32))[..., 0] / (1.5 * AGREES)
    bent = np.stack(np.gradient(cv.GaussianBlur(flow, (0, 0), 3), axis=(0, 1)))  # torn where things at two depths meet
    doubt = doubt**2 + (bent**2).sum((0, 3)) / BENT**2
    return copy.astype(np.float32), np.where(valid & gone, np.exp(-doubt), 0).astype(np.float32)


def _shows(cv: ModuleType, unwanted: np.ndarray, colours: np.ndarray, confidence: np.ndarray) -> bool:
    """Whether a copy shows in the hole what is there already, nearly everywhere where it is sure."""
    places = confidence > 0.3
    if places.sum() < 16:
        return False
    return float((_difference(cv, unwanted, colours, places)[places] < AGREES).mean()) > SAME


def _agreed(
    cv: ModuleType,
    film: np.ndarray,
    gone: np.ndarray,
    copies: Sequence[np.ndarray],
    confidences: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Copies that agree with each other weigh more: colours, weight (h, w), and the share of each copy.

    A copy that is alone must be of about the tone that the rim's colours suggest (`film`).
    """
    stack, sure = np.stack(copies), np.stack(confidences)
    far = [np.abs(cv.GaussianBlur(one - film, (0, 0), 8)).mean(2) for one in stack]
    agreement = ALONE * np.exp(-((np.stack(far) / UNLIKELY) ** 4))
    if len(stack) > 1:
        for k in range(len(stack)):
            others = [j for j in range(len(stack)) if j != k]
            apart = np.stack([_difference(cv, stack[k], stack[j], (sure[k] > 0) & (sure[j] > 0)) for j in others])
            support = np.exp(-((apart / (2 * AGREES)) ** 2)) * sure[others]
            alone = sure[others].sum(0) < 0.05
            agreement[k] = np.where(alone, agreement[k], support.sum(0) / np.maximum(sure[others].sum(0), 1e-6))
    weights = sure * agreement
    best = (weights**4 + 1e-12) * (sure > 0)  # nearly the best one alone: a mean of copies is blurred
    total = best.sum(0)
    mix = np.where(total > 0, best / np.maximum(total, 1e-30), 0)
    colours = (mix[..., None] * stack).sum(0).astype(np.float32)
    weight = cv.GaussianBlur(weights.max(0), (0, 0), 1.5)
    weight = np.where(gone & (total > 0), np.clip(1.5 * weight, 0, 1), 0).astype(np.float32)
    weight[weight < 0.02] = 0
    shares = [(mix[k] * weight).sum() for k in range(len(stack))]
    return colours, weight, [float(share) if share > 0.5 else 0.0 for share in shares]


def _sampled(
    cv: ModuleType, photo: np.ndarray, homography: np.ndarray, x: np.ndarray, y: np.ndarray, how: int
) -> tuple[np.ndarray, np.ndarray]:
    """The photo's colours at the homography of places, and where they lie in it."""
    depth = homography[2, 0] * x + homography[2, 1] * y + homography[2, 2]
    front = depth * homography[2, 2] > 1e-6
    depth = np.where(front, depth, 1)
    across = ((homography[0, 0] * x + homography[0, 1] * y + homography[0, 2]) / depth).astype(np.float32)
    down = ((homography[1, 0] * x + homography[1, 1] * y + homography[1, 2]) / depth).astype(np.float32)
    valid = front & (across >= 0) & (down >= 0) & (across <= photo.shape[1] - 1) & (down <= photo.shape[0] - 1)
    return cv.remap(photo, across, down, how, borderMode=cv.BORDER_REPLICATE).clip(0, 1), valid


def _colour_fitted(part: np.ndarray, copy: np.ndarray, ring: np.ndarray, trusted: np.ndarray | None) -> np.ndarray:
    """The copy with a gain and a bias for each channel, fitted on the ring, where it agrees if that is enough."""
    if trusted is not None and (ring & trusted).sum() >= 64:
        ring = ring & trusted
    ours, theirs = part[ring].astype(np.float64), copy[ring].astype(np.float64)
    mine, other = ours.mean(0), theirs.mean(0)
    spread = ((theirs - other) ** 2).mean(0)
    gain = (((ours - mine) * (theirs - other)).mean(0) + 1e-4) / (spread + 1e-4)
    return ((copy - other) * np.clip(gain, *GAINS) + mine).astype(np.float32)


def _difference(cv: ModuleType, first: np.ndarray, second: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(h, w): mean absolute difference of colours after a blur of 1.5 pixels over the places; 1 away from them."""
    apart = np.where(places[..., None], first - second, 0).astype(np.float32)
    count = cv.GaussianBlur(places.astype(np.float32), (0, 0), 1.5)
    apart = np.abs(cv.GaussianBlur(apart, (0, 0), 1.5)).mean(2) / np.maximum(count, 1e-6)
    return np.where(count > 0.05, apart, 1).astype(np.float32)


def _continued(cv: ModuleType, values: np.ndarray, trusted: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Values (h, w, C) carried to where `changed` is 1 from where they are trusted, the nearest first."""
    result, left = values.astype(np.float32).copy(), changed > 0
    base = np.where(trusted[..., None], values, 0).astype(np.float32)
    count = trusted.astype(np.float32)
    fallback = base[trusted].mean(0)
    for scale in SCALES:
        near = _blurred(cv, count, scale)
        take = left & (near > 0.05)
        mean = _blurred(cv, base, scale).reshape(values.shape) / np.maximum(near, 1e-6)[..., None]
        result[take] = mean[take]
        left &= ~take
    result[left] = fallback
    return result


def _blurred(cv: ModuleType, values: np.ndarray, scale: float) -> np.ndarray:
    side = 2 * round(1.5 * scale) + 1
    for _ in range(2):
        values = cv.blur(values, (side, side), borderType=cv.BORDER_CONSTANT)
    return values


def _spread(cv: ModuleType, places: np.ndarray, by: int) -> np.ndarray:
    """What lies within a square of `by` pixels around the places."""
    return cv.dilate(places.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)) > 0


def _window(hole: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns around the hole on which flow and colours are fitted."""
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    margin = max(96, int(rows[-1] - rows[0]) // 2, int(columns[-1] - columns[0]) // 2)
    return (
        slice(max(0, int(rows[0]) - margin), min(hole.shape[0], int(rows[-1]) + 1 + margin)),
        slice(max(0, int(columns[0]) - margin), min(hole.shape[1], int(columns[-1]) + 1 + margin)),
    )


def _as_float(photo: np.ndarray) -> np.ndarray:
    return photo.astype(np.float32) / 255 if photo.dtype == np.uint8 else np.ascontiguousarray(photo, np.float32)
