"""Join what the network filled with what patches filled: a small network says for each pixel how much of either.

The network's fill is closer to the truth on average and has no texture; the patches' fill has texture, and now and then
content that is wrong. The joiner sees both, the hole and the depth within it. For each pixel and each of three bands of
frequencies it says how much of the real pixels to take, and it adds a smooth correction. So texture is chosen, never
painted. `experiments/joiner.py` trains it; here it runs in NumPy, so that every runtime has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.ndimage import correlate1d, distance_transform_edt
from scipy.special import expit

from cicm.conventions import InputError

WEIGHTS = Path(__file__).resolve().parent.parent / "weights" / "joiner.safetensors"
"""What comes with the package, float16."""

SIGMAS = (1.0, 4.0)
"""Widths in pixels of the two Gaussians that part the fine, the middle and the low band."""

SMOOTH = 1.5
"""Width in pixels of the Gaussian over the shares: shares that change from pixel to pixel would paint a texture."""

DEPTH = 32.0
"""Pixels from the rim from which on depth counts as one."""

MULTIPLE = 8
"""Heights and widths are padded to multiples of this."""

SIDE = 512
"""The box of the hole is joined in tiles of this side, which see `MARGIN` pixels more on each side."""

MARGIN = 64

SLOPE = 0.1
"""Of the leaky rectifiers."""

CORRECTION = 0.25
"""Largest correction of a colour, of 1."""

BLOCKS = ("down1", "down2", "down3", "bottom", "up2", "up1")
STRIDES = {"down2": 2, "down3": 2}


def join(network: np.ndarray, patches: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Join two fills of one hole by the joiner that comes with the package; see `Joiner.__call__`."""
    return shipped()(network, patches, hole)


@lru_cache(maxsize=1)
def shipped() -> Joiner:
    """The joiner that comes with the package, read once.

    Raises:
        InputError: its weights are missing from this installation.
    """
    from safetensors.numpy import load_file

    if not WEIGHTS.is_file():
        raise InputError(f"the package's own weights are missing: expected {WEIGHTS}. Reinstall it.")
    return Joiner(load_file(WEIGHTS))


class Joiner:
    """The network that joins.

    Args:
        weights: parameter name -> array, as `experiments/joiner.py` writes them: for each block of `BLOCKS` two
            convolutions (`down1.0.weight`, `down1.0.bias`, `down1.2.weight`, ...), and `head`.

    Raises:
        InputError: a parameter is missing, has another shape, or is not finite.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        names = {f"{block}.{layer}" for block in BLOCKS for layer in (0, 2)} | {"head"}
        expected = {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}
        if set(weights) != expected:
            odd = sorted(expected ^ set(weights))[0]
            raise InputError(f"the joiner's weights must be {len(expected)} arrays; {odd!r} is missing or surplus.")
        self._layers = {}
        for name in names:
            kernel = np.asarray(weights[f"{name}.weight"], np.float32)
            bias = np.asarray(weights[f"{name}.bias"], np.float32)
            if kernel.ndim != 4 or kernel.shape[2:] != (3, 3) or bias.shape != kernel.shape[:1]:
                raise InputError(f"the joiner's {name} must be a 3x3 convolution; got {kernel.shape}, {bias.shape}.")
            if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
                raise InputError(f"the joiner's {name} holds values that are not finite. Get the file again.")
            self._layers[name] = (np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)), bias)

    def __call__(self, network: np.ndarray, patches: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """Join two fills of one hole.

        Args:
            network: (h, w, 3) float32 in [0, 1], the network's fill; the photo where nothing is missing.
            patches: (h, w, 3) float32 in [0, 1], a fill of real pixels, likewise.
            hole: (h, w) bool.

        Returns:
            (h, w, 3) float32 in [0, 1], equal to `network` outside the hole bit for bit.

        Raises:
            ValueError: shapes differ.
        """
        if not network.shape == patches.shape == (*hole.shape, 3):
            raise ValueError(
                f"two fills (h, w, 3) and a hole (h, w); got {network.shape}, {patches.shape}, {hole.shape}"
            )
        joined = network.astype(np.float32, copy=True)
        if not hole.any():
            return joined
        depth = distance_transform_edt(hole).astype(np.float32)
        height, width = hole.shape
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        for top, bottom in _stretches(int(rows[0]), int(rows[-1]) + 1):
            for left, right in _stretches(int(columns[0]), int(columns[-1]) + 1):
                if not hole[top:bottom, left:right].any():
                    continue
                y, x = max(0, top - MARGIN), max(0, left - MARGIN)
                seen = slice(y, min(height, bottom + MARGIN)), slice(x, min(width, right + MARGIN))
                tile = self._joined(network[seen], patches[seen], hole[seen], depth[seen])
                here = slice(top, min(height, bottom)), slice(left, min(width, right))
                joined[here] = tile[here[0].start - y : here[0].stop - y, here[1].start - x : here[1].stop - x]
        return joined

    def _joined(self, network: np.ndarray, patches: np.ndarray, hole: np.ndarray, depth: np.ndarray) -> np.ndarray:
        height, width = hole.shape
        gone = hole.astype(np.float32)[..., None]
        away = np.minimum(depth / DEPTH, 1.0)[..., None]
        seen = np.concatenate([gone, away, network - 0.5, patches - 0.5], axis=2)
        seen = np.pad(seen, ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0)), mode="edge")
        one = self._block("down1", _unshuffled(seen))
        two = self._block("down2", one)
        low = self._block("bottom", self._block("down3", two))
        two = self._block("up2", np.concatenate([_twice(low), two], axis=2))
        one = self._block("up1", np.concatenate([_twice(two), one], axis=2))
        given = _shuffled(self._convolved("head", one, 1))[:height, :width]
        shares = blur(expit(given[..., :3]), SMOOTH)
        correction = CORRECTION * np.tanh(given[..., 3:])
        difference = patches - network
        middle, low = blur(difference, SIGMAS[0]), blur(difference, SIGMAS[1])
        joined = network + gone * (
            blur(correction, SIGMAS[1])
            + shares[..., :1] * (difference - middle)
            + shares[..., 1:2] * (middle - low)
            + shares[..., 2:3] * low
        )
        return np.where(hole[..., None], np.clip(joined, 0.0, 1.0), network).astype(np.float32)

    def _block(self, name: str, values: np.ndarray) -> np.ndarray:
        values = _leaky(self._convolved(f"{name}.0", values, STRIDES.get(name, 1)))
        return _leaky(self._convolved(f"{name}.2", values, 1))

    def _convolved(self, name: str, values: np.ndarray, stride: int) -> np.ndarray:
        """A 3x3 convolution with a border of zeros: nine products of matrices."""
        kernel, bias = self._layers[name]
        height, width, channels = values.shape
        if channels != kernel.shape[2]:
            raise InputError(f"the joiner's {name} takes {kernel.shape[2]} channels; got {channels}. Get it again.")
        padded = np.pad(values, ((1, 1), (1, 1), (0, 0)))
        tall, wide = -(-height // stride), -(-width // stride)
        total = np.broadcast_to(bias, (tall * wide, len(bias))).astype(np.float32)
        for row in range(3):
            for column in range(3):
                part = padded[row : row + height : stride, column : column + width : stride]
                total += np.ascontiguousarray(part).reshape(-1, channels) @ kernel[row, column]
        return total.reshape(tall, wide, -1)


def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """(h, w, C) after a Gaussian of that width in pixels, cut at three of them, with the border repeated."""
    offsets = np.arange(-int(3 * sigma + 0.5), int(3 * sigma + 0.5) + 1, dtype=np.float32)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    return correlate1d(correlate1d(picture, kernel, 0, mode="nearest"), kernel, 1, mode="nearest")


def _stretches(first: int, last: int) -> list[tuple[int, int]]:
    """Stretches of about `SIDE` that hold [first, last), on whole multiples: each tile has the whole picture's grid."""
    first -= first % MULTIPLE
    count = -(-(last - first) // SIDE)
    step = -(-(last - first) // (count * MULTIPLE)) * MULTIPLE
    return [(start, start + step) for start in range(first, last, step)]


def _leaky(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, SLOPE * values)


def _unshuffled(values: np.ndarray) -> np.ndarray:
    """(h, w, C) -> (h/2, w/2, 4 C), in torch's order of channels."""
    height, width, channels = values.shape
    parts = values.reshape(height // 2, 2, width // 2, 2, channels)
    return parts.transpose(0, 2, 4, 1, 3).reshape(height // 2, width // 2, 4 * channels)


def _shuffled(values: np.ndarray) -> np.ndarray:
    """The inverse of `_unshuffled`."""
    height, width, channels = values.shape
    parts = values.reshape(height, width, channels // 4, 2, 2)
    return parts.transpose(0, 3, 1, 4, 2).reshape(2 * height, 2 * width, channels // 4)


def _twice(values: np.ndarray) -> np.ndarray:
    """Twice the size, linear between the centres of pixels."""
    for axis in (0, 1):
        before = np.concatenate([values.take([0], axis), values.take(range(values.shape[axis] - 1), axis)], axis)
        after = np.concatenate([values.take(range(1, values.shape[axis]), axis), values.take([-1], axis)], axis)
        pairs = np.stack([0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after], axis + 1)
        values = pairs.reshape(*values.shape[:axis], 2 * values.shape[axis], *values.shape[axis + 1 :])
    return values
