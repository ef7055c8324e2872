"""What a method is, and those without learning: the mean, OpenCV's four, scikit-image's biharmonic."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from cicm.conventions import InputError
from cicm.data.pair_lists import Pair
from cicm.exemplar import classical
from cicm.ops import composite


class Method(abc.ABC):
    """Fills holes.

    Attributes:
        device: where `fill` wants its tensors.
        raw: `fill` gives the method's own picture everywhere instead of the composite.
        takes_labels: `fill` has a keyword `label`, (B, H, W) classes and void, or None.
    """

    name: str
    detail: str
    device: torch.device = torch.device("cpu")
    seed: int | None = None
    raw: bool = False
    takes_labels: bool = False

    def prepare(self, pairs: Sequence[Pair]) -> None:  # noqa: B027 (most methods have nothing to look for)
        """Look for what would stop a long run, before it starts."""

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


class Given(Classical):
    """A way to fill one picture that the caller knows and this room does not, as a whole pipeline around a network.

    Args:
        name, detail: as of any method.
        function: (H, W, 3) uint8 RGB, 0 in the hole, and (H, W) bool to the filled picture, as `fill_one`.

    Example:
        >>> grey = Given("grey", "the same grey", lambda image, hole: np.full_like(image, 128))
        >>> grey.fill(torch.zeros(1, 3, 2, 2), torch.ones(1, 1, 2, 2))[0, 0, 0]
        tensor([0.5020, 0.5020])
    """

    def __init__(self, name: str, detail: str, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        self.name, self.detail, self.function = name, detail, function

    def fill_one(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        return self.function(image, hole)


class OpenCV(Classical):
    """`cv2.inpaint` on the 8-bit RGB picture.

    Where a hole touches the border of the photo, OpenCV lets the values inside it, which should be unknown, have a
    small say. Here they are 0. With the true values there, PSNR would be at most 0.004 dB higher on our photos.

    Args:
        radius: of the neighbourhood that a pixel is filled from, in pixels.
    """

    words: ClassVar[str]

    def __init__(self, radius: float = classical.RADIUS) -> None:
        if not 0 < radius <= 100:
            raise InputError(f"the radius of {self.name} must be above 0 and at most 100 pixels; got {radius}.")
        self.radius = radius
        self.detail = f"{self.words}, cv2.inpaint, radius {radius:g} px, 8-bit RGB"

    def prepare(self, pairs: Sequence[Pair]) -> None:
        classical.opencv()


class Telea(OpenCV):
    """Fast marching (Telea, Journal of Graphics Tools 2004)."""

    name, words = "telea", "fast marching (Telea 2004)"

    def fill_one(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        return classical.telea(image, hole, self.radius)


class NavierStokes(OpenCV):
    """Fluid dynamics (Bertalmio, Bertozzi and Sapiro, CVPR 2001)."""

    name, words = "navier-stokes", "Navier-Stokes (Bertalmio et al. 2001)"

    def fill_one(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        return classical.navier_stokes(image, hole, self.radius)


class _XPhoto(Classical):
    """`cv2.xphoto.inpaint`, which opencv-contrib alone has."""

    flag: ClassVar[str]
    into: ClassVar[str]
    back: ClassVar[str]

    def prepare(self, pairs: Sequence[Pair]) -> None:
        _xphoto()

    def fill_one(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        cv2 = _xphoto()
        cv2.setRNGSeed(0)
        source = cv2.cvtColor(image, getattr(cv2, self.into))
        filled = np.zeros_like(source)
        cv2.xphoto.inpaint(source, np.where(hole, 0, 255).astype(np.uint8), filled, getattr(cv2.xphoto, self.flag))
        return cv2.cvtColor(filled, getattr(cv2, self.back))


class ShiftMap(_XPhoto):
    """Shifted copies of the known pixels (He and Sun, ECCV 2012), on CIELab as OpenCV asks for."""

    name, flag, into, back = "shiftmap", "INPAINT_SHIFTMAP", "COLOR_RGB2LAB", "COLOR_LAB2RGB"
    detail = "shift map (He and Sun 2012), cv2.xphoto.inpaint, 8-bit CIELab"


class Frequencies(_XPhoto):
    """Frequency selective reconstruction (Genser et al., 2018), its fast setting."""

    name, flag, into, back = "fsr", "INPAINT_FSR_FAST", "COLOR_RGB2BGR", "COLOR_BGR2RGB"
    detail = "frequency selective reconstruction (Genser et al. 2018), cv2.xphoto.inpaint, fast, 8-bit"


class Biharmonic(Classical):
    """The smoothest surface through the known pixels (Damelin and Hoang, 2018), from scikit-image."""

    name = "biharmonic"
    detail = "skimage.restoration.inpaint_biharmonic, float64 RGB, regions solved apart"

    def prepare(self, pairs: Sequence[Pair]) -> None:
        classical.scikit_image()

    def fill_one(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        return classical.biharmonic(image, hole)


CLASSICAL: dict[str, type[Classical]] = {
    kind.name: kind for kind in (Telea, NavierStokes, Biharmonic, ShiftMap, Frequencies, Mean)
}


def to_array(image: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] to (H, W, 3) uint8, rounded."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, 3), uint8 or float in [0, 1], to (3, H, W) float32 in [0, 1]."""
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # a copy: PIL hands out read-only arrays
    return tensor.float().div(255) if tensor.dtype == torch.uint8 else tensor.float()


def _xphoto() -> Any:
    cv2 = classical.opencv()
    if not hasattr(cv2, "xphoto"):
        raise InputError(
            "the shift map and FSR need OpenCV's contributed modules. Put opencv-contrib-python-headless in the place "
            "of opencv-python-headless."
        )
    return cv2
