"""Pixels as a file or an array holds them, the RGB that a network sees, and the way back into the hole only.

Whatever the layout and the depth, two promises hold: a pixel outside the hole keeps its stored numbers bit for bit, and
alpha stays as it is everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from cicm.conventions import InputError

Box = tuple[int, int, int, int]  # (left, top, right, bottom) in pixels; right and bottom are exclusive, as in Pillow

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, what Pillow's convert("L") uses

_LAYOUTS = dict.fromkeys(("1", "L", "F", "I;16", "I;16L", "I;16B"), "L")
_LAYOUTS |= {mode: mode for mode in ("LA", "P", "PA", "RGB", "RGBA", "CMYK")}
CHANNELS = {"L": 1, "P": 1, "LA": 2, "PA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}


@dataclass(frozen=True)
class Pixels:
    """One picture in memory, with its stored numbers.

    Args:
        values: (H, W), or (H, W, C) in layouts of more than one channel; bool, uint8, uint16 or floating in [0, 1].
        layout: `L` grey, `LA`, `P` palette, `PA`, `RGB`, `RGBA` or `CMYK`.
        palette: (n, 4) uint8, the RGBA entries of a palette, n at most 256.
        key: the colour that means transparent in a PNG without an alpha channel, in the values' own numbers.
        ink_profile: ICC profile of CMYK values; without one, ink is converted by plain arithmetic.
    """

    values: np.ndarray
    layout: str
    palette: np.ndarray | None = None
    key: tuple[int, ...] | None = None
    ink_profile: bytes = b""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def ceiling(self) -> float:
        """The number that means full intensity: 255, 65535, or 1."""
        return float(np.iinfo(self.values.dtype).max) if self.values.dtype.kind == "u" else 1.0

    @property
    def mode(self) -> str:
        """Pillow's name for these pixels, with `;16` for the 16-bit colour that Pillow itself has no mode for."""
        if self.layout == "L":
            return {"b": "1", "f": "F"}.get(self.values.dtype.kind, "L" if self.values.dtype == np.uint8 else "I;16")
        return self.layout if self.values.dtype == np.uint8 else f"{self.layout};{8 * self.values.dtype.itemsize}"

    def rgb(self, box: Box | None = None) -> np.ndarray:
        """What a network sees: (h, w, 3) float32 RGB in [0, 1], alpha left out; of the whole picture or of a box."""
        return self._colour(_cut(self.values, box))

    def filled(self, rgb: np.ndarray, hole: np.ndarray, box: Box | None = None) -> Pixels:
        """The same pixels with a new colour in the hole.

        Grey takes the luma, one-bit pixels the nearer of black and white, a palette its nearest entry of the same
        opacity, CMYK goes through its profile. Pixels of a palette or a key colour that are wholly transparent stay.

        Args:
            rgb: (h, w, 3) floating in [0, 1], the size of the box; only values inside the hole are used.
            hole: (h, w) bool, True = fill.
            box: where that lies; the whole picture by default.

        Raises:
            InputError: sizes that do not agree, or a fill that is not finite.

        Example:
            >>> grey = Pixels(np.array([[10, 20, 30]], dtype=np.uint8), "L")
            >>> grey.filled(np.ones((1, 3, 3)), np.array([[False, True, False]])).values.tolist()
            [[10, 255, 30]]
        """
        inside = _cut(self.values, box)
        if rgb.shape != (*inside.shape[:2], 3) or hole.shape != inside.shape[:2]:
            raise InputError(
                f"rgb must be (h, w, 3) and hole (h, w) of the part to fill, {inside.shape[0]}x{inside.shape[1]}; "
                f"got {rgb.shape} and {hole.shape}."
            )
        hole = hole & ~self._see_through(inside)
        new = rgb[hole].astype(np.float32)
        if not np.isfinite(new).all():
            raise InputError("the fill must be finite numbers; the network gave NaN or infinity. Use other weights.")
        values = self.values.copy()
        _cut(values, box)[hole] = self._stored(np.clip(new, 0.0, 1.0), inside[hole])
        return replace(self, values=values)

    def _colour(self, values: np.ndarray) -> np.ndarray:
        if self.layout in ("P", "PA"):
            index = values[..., 0] if self.layout == "PA" else values
            return (self._entries()[:, :3].astype(np.float32) / 255.0)[index]
        if self.layout == "CMYK":
            if self.ink_profile:
                return _through_profile(_eight_bit(values), self.ink_profile, "CMYK", "RGB").astype(np.float32) / 255.0
            ink = values.astype(np.float32) / self.ceiling
            return (1.0 - ink[..., :3]) * (1.0 - ink[..., 3:])
        shades = values.astype(np.float32) / np.float32(self.ceiling)
        if self.layout in ("L", "LA"):
            return np.repeat(shades.reshape(*values.shape[:2], -1)[..., :1], 3, axis=2)
        return shades[..., :3]

    def _stored(self, new: np.ndarray, old: np.ndarray) -> np.ndarray:
        """Stored numbers for the colours `new` (n, 3), where `old` (n,) or (n, C) stood."""
        if self.layout in ("P", "PA"):
            old_index = old[:, 0] if self.layout == "PA" else old
            index = _nearest_entry(new, self._entries(), old_index, len(self._palette()))
            return np.stack([index, old[:, 1]], 1) if self.layout == "PA" else index
        if self.layout == "CMYK" and self.ink_profile:
            ink = _through_profile(_rounded(new, 255)[None], self.ink_profile, "RGB", "CMYK")[0]
            return ink.astype(old.dtype) * (257 if old.dtype == np.uint16 else 1)
        if self.layout == "CMYK":  # no black ink: the plain arithmetic of Pillow
            return _rounded(np.concatenate([1.0 - new, np.zeros_like(new[:, :1])], 1), self.ceiling, old.dtype)
        shades = (new @ _LUMA)[:, None] if self.layout in ("L", "LA") else new
        if old.dtype == bool:
            return shades[:, 0] >= 0.5
        stored = _rounded(shades, self.ceiling, old.dtype)
        if self.key is not None:  # a filled pixel must not turn transparent by chance
            same = (stored == np.array(self.key, dtype=old.dtype)).all(1)
            stored[same, -1] ^= 1
        if old.ndim == 1:
            return stored[:, 0]
        return np.concatenate([stored, old[:, stored.shape[1] :]], 1)

    def _see_through(self, values: np.ndarray) -> np.ndarray:
        """(h, w) bool: pixels that a palette or a key colour makes wholly transparent."""
        if self.layout == "P":
            return (self._entries()[:, 3] == 0)[values]
        if self.key is not None:
            return (values.reshape(*values.shape[:2], -1) == np.array(self.key, dtype=values.dtype)).all(2)
        return np.zeros(values.shape[:2], dtype=bool)

    def _palette(self) -> np.ndarray:
        assert self.palette is not None, "a palette layout always comes with its palette"
        return self.palette

    def _entries(self) -> np.ndarray:
        """(256, 4): indices beyond the palette's end are opaque black, as readers show them."""
        entries = np.zeros((256, 4), dtype=np.uint8)
        entries[:, 3] = 255
        entries[: len(self._palette())] = self._palette()
        return entries

    def is_opaque(self) -> bool:
        """Whether no pixel lets anything through."""
        if self.layout in ("LA", "RGBA", "PA"):
            opaque = bool((self.values[..., -1] == np.array(self.ceiling, self.values.dtype)).all())
            return opaque and (self.layout != "PA" or bool((self._entries()[self.values[..., 0], 3] == 255).all()))
        if self.layout == "P":
            return bool((self._entries()[self.values, 3] == 255).all())
        return not bool(self._see_through(self.values).any())

    def expanded(self, *, to_rgb: bool) -> Pixels:
        """The same colours with palette and key colour written out; with `to_rgb` also grey, one-bit and CMYK.

        Every colour stays exact, except CMYK, which is converted.
        """
        values = self.values
        if self.layout in ("P", "PA"):
            entries = self._entries()
            colours = entries[values[..., 0] if self.layout == "PA" else values]
            if self.layout == "PA":
                colours[..., 3] = (colours[..., 3].astype(np.uint16) * values[..., 1] + 127) // 255
            opaque = bool((colours[..., 3] == 255).all())
            return Pixels(colours[..., :3].copy() if opaque else colours, "RGB" if opaque else "RGBA")
        if self.layout == "CMYK" and to_rgb:
            return Pixels(_rounded(self.rgb(), 255), "RGB")
        if values.dtype == bool and to_rgb:
            values = values.astype(np.uint8) * 255
        layout = self.layout
        if self.key is not None:
            alpha = np.where(self._see_through(self.values), 0, self.ceiling).astype(values.dtype)
            values = np.concatenate([values.reshape(*values.shape[:2], -1), alpha[..., None]], 2)
            layout += "A"
        if to_rgb and layout in ("L", "LA"):
            grey = values.reshape(*values.shape[:2], -1)
            values, layout = (
                np.concatenate([np.repeat(grey[..., :1], 3, 2), grey[..., 1:]], 2),
                layout.replace("L", "RGB"),
            )
        return Pixels(values, layout, ink_profile=self.ink_profile)

    def eight_bit(self) -> Pixels:
        """The same picture with 8 bits a channel, rounded; a palette or 8-bit picture is given back as it is."""
        if self.values.dtype in (np.uint8, bool):
            return self
        key = None if self.key is None else tuple(round(k * 255 / self.ceiling) for k in self.key)
        return replace(self, values=_eight_bit(self.values), key=key)

    def opaque(self) -> Pixels:
        """The same colours without an alpha channel or key colour."""
        if self.layout in ("LA", "RGBA", "PA"):
            values = np.ascontiguousarray(self.values[..., 0] if self.layout != "RGBA" else self.values[..., :3])
            return replace(self, values=values, layout=self.layout[:-1])
        return replace(self, key=None)

    def to_image(self, mode: str | None = None) -> Image.Image:
        """As a PIL image of the same mode (or of the byte order that `mode` names, for I;16)."""
        height, width = self.size
        if self.values.dtype == np.uint16 and self.layout != "L":
            raise InputError(
                f"a PIL image can't hold 16-bit {self.layout}. Write the result to a file with `cicm inpaint` or "
                "Inpainter.fill_photo and save_photo, or call with a NumPy array."
            )
        if self.mode == "1":
            return Image.frombytes("1", (width, height), self.values.astype(np.uint8).tobytes(), "raw", "1;8")
        if self.mode == "I;16":
            mode = mode or "I;16"
            return Image.frombytes(
                mode, (width, height), self.values.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
            )
        values = self.values.astype(np.float32) if self.mode == "F" else self.values
        image = Image.frombytes(self.mode, (width, height), values.tobytes())
        if self.layout in ("P", "PA"):
            image.putpalette(self._palette()[:, :3].tobytes())
            if (self._palette()[:, 3] < 255).any():
                image.info["transparency"] = self._palette()[:, 3].tobytes()
        elif self.key is not None:
            image.info["transparency"] = self.key if len(self.key) == 3 else self.key[0]
        return image


def pixels_of_image(image: Image.Image) -> Pixels:
    """The stored numbers of a PIL image, as they stand (no rotation by EXIF).

    Raises:
        InputError: a mode of which it is not known how it looks (I, LAB, HSV, YCbCr, premultiplied alpha, ...), or
            float values outside [0, 1].
    """
    if image.mode not in _LAYOUTS:
        raise InputError(
            f"expected a picture of mode {', '.join(_LAYOUTS)}; got mode {image.mode}. "
            'Convert it first, with image.convert("RGB") or by saving it as 8- or 16-bit RGB.'
        )
    values = np.array(image)
    if image.mode == "F":
        check_range(values, "float pixels")
    if image.mode.startswith("I;16"):
        values = values.astype(np.uint16)
    transparent = image.info.get("transparency")
    palette, key = None, None
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGBA") or [0, 0, 0, 255], dtype=np.uint8).reshape(-1, 4)[:256].copy()
        if isinstance(transparent, bytes):
            alpha = np.frombuffer(transparent, dtype=np.uint8)[: len(palette)]
            palette[: len(alpha), 3] = alpha
        elif isinstance(transparent, int) and 0 <= transparent < len(palette):
            palette[transparent, 3] = 0
    elif transparent is not None and image.mode in ("1", "L", "I;16", "RGB"):
        key = tuple(int(k) for k in transparent) if isinstance(transparent, (tuple, list)) else (int(transparent),)
        if image.mode == "1":
            key = (int(key[0] != 0),)
    profile = image.info.get("icc_profile") or b""
    return Pixels(values, _LAYOUTS[image.mode], palette, key, profile if image.mode == "CMYK" else b"")


def pixels_of_array(values: np.ndarray) -> Pixels:
    """The pixels of a NumPy array: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA; uint8, uint16 or floating in [0, 1].

    Raises:
        InputError: another shape or dtype, an empty array, NaN, infinity, or float values outside [0, 1].

    Example:
        >>> pixels_of_array(np.zeros((4, 6, 3), dtype=np.uint16)).mode
        'RGB;16'
    """
    layouts = {1: "L", 3: "RGB", 4: "RGBA"}
    channels = 1 if values.ndim == 2 else values.shape[2] if values.ndim == 3 else 0
    if channels not in layouts or 0 in values.shape or (values.ndim == 3 and channels == 1):
        hint = (
            " Put the channels last: image.transpose(1, 2, 0)."
            if values.ndim == 3 and values.shape[0] in (1, 3, 4)
            else ""
        )
        raise InputError(
            f"image must be (H, W), (H, W, 3) or (H, W, 4), not empty; got an array of {values.shape}.{hint}"
        )
    if values.dtype not in (np.uint8, np.uint16) and values.dtype.kind != "f":
        raise InputError(
            f"image must be uint8, uint16 or floating in [0, 1]; got {values.dtype}. Convert it with .astype."
        )
    if values.dtype.kind == "f":
        check_range(values, "image")
    return Pixels(np.array(values), layouts[channels])


def check_range(values: np.ndarray, name: str) -> None:
    """Refuse what is not finite or leaves [0, 1]."""
    if not np.isfinite(values).all():
        raise InputError(f"{name} must be finite numbers in [0, 1]; got NaN or infinity. Mend these pixels first.")
    if values.min() < 0 or values.max() > 1:
        raise InputError(
            f"{name} must lie in [0, 1]; got values in [{values.min():.4g}, {values.max():.4g}]. "
            "Divide by the largest value that the format allows, such as 255."
        )


def _cut(values: np.ndarray, box: Box | None) -> np.ndarray:
    if box is None:
        return values
    left, top, right, bottom = box
    return values[top:bottom, left:right]


def _rounded(shades: np.ndarray, ceiling: float, dtype: type | np.dtype = np.uint8) -> np.ndarray:
    scaled = shades * np.float32(ceiling)
    return scaled.astype(dtype) if np.dtype(dtype).kind == "f" else np.floor(scaled + np.float32(0.5)).astype(dtype)


def _eight_bit(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:  # 65535 = 255 * 257
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return _rounded(values, 255)


def _nearest_entry(new: np.ndarray, entries: np.ndarray, old: np.ndarray, count: int) -> np.ndarray:
    """Index of the palette entry with the nearest colour among those that are as opaque as what stood there."""
    weight = 1e3  # far above any distance of colours, so that the opacity never changes
    points = np.concatenate([entries[:count, :3] / 255.0, entries[:count, 3:] / 255.0 * weight], 1)
    index = np.empty(len(new), dtype=np.uint8)
    for start in range(0, len(new), 65536):  # bounds the table of distances to 128 MiB
        part = slice(start, start + 65536)
        wanted = np.concatenate([new[part].astype(np.float64), entries[old[part], 3:] / 255.0 * weight], 1)
        index[part] = np.argmin((points**2).sum(1) - 2.0 * wanted @ points.T, axis=1)
    return index


def _through_profile(values: np.ndarray, profile: bytes, source: str, target: str) -> np.ndarray:
    """Convert (h, w, C) uint8 between the inks of a profile and sRGB."""
    import io

    from PIL import ImageCms

    ink, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    first, second = (ink, srgb) if source == "CMYK" else (srgb, ink)
    image = Image.frombytes(source, (values.shape[1], values.shape[0]), np.ascontiguousarray(values).tobytes())
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    return np.array(ImageCms.profileToProfile(image, first, second, renderingIntent=intent, outputMode=target))
