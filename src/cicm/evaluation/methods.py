"""What can be scored: a model, a classical method, a folder of results made elsewhere. One interface for all."""

from __future__ import annotations

import abc
import difflib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from cicm.conventions import InputError
from cicm.data.pair_lists import Pair
from cicm.ops import composite
from cicm.photos.headers import find_images
from cicm.photos.photo import read_image

RADIUS = 5
"""Neighbourhood of the OpenCV methods, in pixels: of 1, 3, 5 and 8 the one without a weak spot, by PSNR on
validation photos in both sizes and all bands (the best of the four is at most 0.15 dB better anywhere)."""


class Method(abc.ABC):
    """Fills holes.

    Attributes:
        name: short, the row of a table.
        detail: settings in words, kept in the record.
        device: where `fill` wants its tensors.
        seed: of the training, where there was one.
        raw: `fill` gives the method's own picture everywhere instead of the composite.
    """

    name: str
    detail: str
    device: torch.device = torch.device("cpu")
    seed: int | None = None
    raw: bool = False

    def prepare(self, pairs: Sequence[Pair]) -> None:  # noqa: B027 (most methods have nothing to look for)
        """Look for what would stop a long run, before it starts.

        Raises:
            InputError: as `FolderResults` for missing files.
        """

    @abc.abstractmethod
    def fill(self, corrupted: Tensor, hole: Tensor, pairs: Sequence[Pair]) -> Tensor:
        """Fill the holes.

        Args:
            corrupted: (B, 3, H, W) in [0, 1], 8-bit steps, 0 in the hole.
            hole: (B, 1, H, W), 1 = missing.
            pairs: B rows of the list, for methods that know results by name; the others do not look at them.

        Returns:
            (B, 3, H, W), composite: equal to `corrupted` outside the hole bit for bit, unless `raw`.
        """


class Classical(Method):
    """A method without learning that takes one 8-bit picture at a time."""

    def fill(self, corrupted: Tensor, hole: Tensor, pairs: Sequence[Pair] = ()) -> Tensor:
        filled = [self.fill_one(to_array(image), mask[0].numpy() > 0.5) for image, mask in zip(corrupted, hole)]
        return composite(torch.stack([to_tensor(image) for image in filled]), corrupted, hole)

    @abc.abstractmethod
    def fill_one(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """Fill one picture: (H, W, 3) uint8 RGB and (H, W) bool to (H, W, 3), uint8 or float in [0, 1]."""


class Mean(Classical):
    """Each hole gets the mean colour of its photo's known pixels: the least that a method must beat."""

    name = "mean"
    detail = "mean colour of the known pixels"

    def fill_one(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        if hole.all():
            raise InputError("the mean fill needs a known pixel; got a hole over the whole photo.")
        filled = image / 255.0
        filled[hole] = filled[~hole].mean(axis=0)
        return filled


class OpenCV(Classical):
    """`cv2.inpaint` on the 8-bit RGB picture.

    Where a hole touches the border of the photo, OpenCV lets the values inside it, which should be unknown, have a
    small say. Here they are 0. With the true values there, PSNR would be at most 0.004 dB higher on our photos.

    Args:
        radius: of the neighbourhood that a pixel is filled from, in pixels.
    """

    flag: ClassVar[str]
    words: ClassVar[str]

    def __init__(self, radius: float = RADIUS) -> None:
        if not 0 < radius <= 100:
            raise InputError(f"the radius of {self.name} must be above 0 and at most 100 pixels; got {radius}.")
        self.radius = radius
        self.detail = f"{self.words}, cv2.inpaint, radius {radius:g} px, 8-bit RGB"

    def prepare(self, pairs: Sequence[Pair]) -> None:
        _cv2()

    def fill_one(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        cv2 = _cv2()
        return cv2.inpaint(image, hole.astype(np.uint8), self.radius, getattr(cv2, self.flag))


class Telea(OpenCV):
    """Fast marching (Telea, Journal of Graphics Tools 2004)."""

    name, flag, words = "telea", "INPAINT_TELEA", "fast marching (Telea 2004)"


class NavierStokes(OpenCV):
    """Fluid dynamics (Bertalmio, Bertozzi and Sapiro, CVPR 2001)."""

    name, flag, words = "navier-stokes", "INPAINT_NS", "Navier-Stokes (Bertalmio et al. 2001)"


class Biharmonic(Classical):
    """The smoothest surface through the known pixels (Damelin and Hoang, 2018), from scikit-image.

    Regions of the hole are solved apart: the equations of two regions share an unknown only where these are nearer
    than the reach of the operator, which scikit-image counts as one region. So the result is that of one large
    system up to rounding, and holes of many pieces are faster.
    """

    name = "biharmonic"
    detail = "skimage.restoration.inpaint_biharmonic, float64 RGB, regions solved apart"

    def prepare(self, pairs: Sequence[Pair]) -> None:
        _inpaint_biharmonic()

    def fill_one(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        solve = _inpaint_biharmonic()
        return solve(image / 255.0, hole, channel_axis=-1, split_into_regions=True)


class Model(Method):
    """A trained model from its weights file.

    Args:
        path: a .safetensors file that `save_weights` wrote.
        device: where it runs.
        raw: score the prediction itself, not the composite.

    Raises:
        InputError: whatever is wrong with the file.
    """

    def __init__(self, path: str | Path, *, device: str | torch.device = "cpu", raw: bool = False) -> None:
        from cicm.assembly import load_weights

        path = Path(path)
        loaded = load_weights(path, device=str(device))
        self.model = loaded.model.eval()
        self.name = path.stem
        self.device = torch.device(device)
        self.raw = raw
        seed = loaded.card.get("seed")
        self.seed = seed if isinstance(seed, int) and not isinstance(seed, bool) else None
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.detail = f"model, weights {path.name}, sha256 {digest[:16]}, {self.device.type}"

    def fill(self, corrupted: Tensor, hole: Tensor, pairs: Sequence[Pair] = ()) -> Tensor:
        self.model.network.size.check(*corrupted.shape[-2:])
        with torch.inference_mode():
            result = self.model(corrupted, hole)
        return result.prediction.image.float() if self.raw else result.composite.float()


class FolderResults(Method):
    """Pictures that another program made from the same photos and holes.

    For photo `town/a.jpg` and band `20-40` the result is one of `20-40/town/a.*` or `town/a_20-40.*`; where the list
    has one band alone, also `town/a.*`. Any ending that is read as a picture will do.

    Args:
        folder: where they lie.
        raw: score them as they are; without it the photo's own pixels stand around the hole, which forgives a lossy
            format.

    Raises:
        InputError: not a folder.
    """

    def __init__(self, folder: str | Path, *, raw: bool = False) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(f"results must be a folder of pictures; {self.folder} is none.")
        self.name = self.folder.resolve().name
        self.detail = f"results in a folder named {self.name}, {'scored raw' if raw else 'composited'}"
        self.raw = raw
        self.files: dict[Pair, Path] = {}

    def prepare(self, pairs: Sequence[Pair]) -> None:
        """Find the file of each pair.

        Raises:
            InputError: files are missing, or two could be meant; all pairs are looked at, ten are named.
        """
        made: dict[str, list[Path]] = {}
        for path in find_images(self.folder):
            made.setdefault(path.relative_to(self.folder).with_suffix("").as_posix(), []).append(path)
        one_band = len({pair.band for pair in pairs}) == 1
        absent = []
        for pair in pairs:
            stem = Path(pair.image).with_suffix("").as_posix()
            names = [f"{pair.band}/{stem}", f"{stem}_{pair.band}", *([stem] if one_band else [])]
            found = [path for name in names for path in made.get(name, [])]
            if len(found) > 1:
                both = " and ".join(path.relative_to(self.folder).as_posix() for path in found[:2])
                raise InputError(f"{self.folder} has two results for {pair.image}, band {pair.band}: {both}. Keep one.")
            if found:
                self.files[pair] = found[0]
            else:
                absent.append(names[0])
        if absent:
            shown = ", ".join(f"{name}.png" for name in absent[:10])
            raise InputError(
                f"{self.folder} lacks {len(absent)} of {len(pairs)} results: {shown}"
                f"{f' and {len(absent) - 10} more' if len(absent) > 10 else ''}. "
                "Name them BAND/PHOTO.png or PHOTO_BAND.png, or score fewer with --pairs, --bands or --limit."
            )

    def fill(self, corrupted: Tensor, hole: Tensor, pairs: Sequence[Pair]) -> Tensor:
        if not set(pairs) <= self.files.keys():
            self.prepare(pairs)
        pictures = []
        for pair, image in zip(pairs, corrupted):
            path = self.files[pair]
            picture = read_image(path)
            height, width = image.shape[-2:]
            if picture.shape[:2] != (height, width):
                raise InputError(
                    f"{path} must have the size that is scored, {width}x{height} pixels; got "
                    f"{picture.shape[1]}x{picture.shape[0]}. Fill the same centre crop of the photo."
                )
            pictures.append(to_tensor(picture))
        filled = torch.stack(pictures)
        return filled if self.raw else composite(filled, corrupted, hole)


CLASSICAL: dict[str, type[Classical]] = {kind.name: kind for kind in (Telea, NavierStokes, Biharmonic, Mean)}


def method_from(specification: str, *, device: str | torch.device = "cpu", raw: bool = False) -> Method:
    """A method from its name on the command line.

    Args:
        specification: `telea`, `navier-stokes` (both also with a radius, `telea:3`), `biharmonic`, `mean`, `default`
            (the weights that ship with the package), a weights file, or a folder; each also as LABEL=METHOD.
        device: for a model.
        raw: for a model or a folder.

    Raises:
        InputError: none of these; the message names what is known.

    Example:
        >>> method_from("telea:3").detail
        'fast marching (Telea 2004), cv2.inpaint, radius 3 px, 8-bit RGB'
    """
    label, text = "", specification
    if "=" in text and not Path(text).exists():
        label, text = text.split("=", 1)
    method = _method(text, device, raw)
    if label:
        method.name = label
    return method


def _method(text: str, device: str | torch.device, raw: bool) -> Method:
    name, _, setting = text.partition(":")
    if name in CLASSICAL and not (setting == "" and ":" in text):
        kind = CLASSICAL[name]
        if not setting:
            return kind()
        if not issubclass(kind, OpenCV):
            raise InputError(f"{name} takes no setting; got {text!r}.")
        try:
            return kind(float(setting))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the radius of {name} must be a number of pixels, as {name}:3; got {text!r}.") from None
    path = Path(text)
    if text == "default" and not path.exists():
        from cicm.assembly import default_weights

        return Model(default_weights(), device=device, raw=raw)
    if path.is_dir():
        return FolderResults(path, raw=raw)
    if path.is_file():
        return Model(path, device=device, raw=raw)
    known = [*CLASSICAL, "default"]
    close = difflib.get_close_matches(text, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(
        f"a method is {', '.join(known)}, a weights file or a folder of results; got {text!r}, which is none of "
        f"these. {hint}".rstrip()
    )


def to_array(image: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] to (H, W, 3) uint8, rounded."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, 3), uint8 or float in [0, 1], to (3, H, W) float32 in [0, 1]."""
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # a copy: PIL hands out read-only arrays
    return tensor.float().div(255) if tensor.dtype == torch.uint8 else tensor.float()


def _cv2() -> Any:
    try:
        import cv2
    except ImportError:
        raise InputError('Telea and Navier-Stokes need OpenCV: pip install "cicm[baselines]".') from None
    return cv2


def _inpaint_biharmonic() -> Any:
    try:
        from skimage.restoration import inpaint_biharmonic
    except ImportError:
        raise InputError('the biharmonic fill needs scikit-image: pip install "cicm[baselines]".') from None
    return inpaint_biharmonic
