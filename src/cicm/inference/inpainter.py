"""A model, a picture and a mask; out comes the same kind of picture, with the hole filled and all else untouched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.conventions import InputError, SizeRule, describe
from cicm.datasets import classes_of
from cicm.inference.exemplars import Finder, lending
from cicm.inference.painter import PictureInpainter, hole_of
from cicm.inference.plan import Plan
from cicm.inference.settings import FillSettings
from cicm.photos.labels import read_labels
from cicm.photos.pixels import Box
from cicm.photos.resampling import mirrored


class Inpainter(PictureInpainter):
    """Fills holes in pictures of any size and kind.

    Args:
        model: a `cicm.assembly.MemoryInpainter`; it is moved to the device and put into evaluation mode.
        device: "cpu", "cuda", "cuda:1", "mps"; "auto" takes an accelerator where there is one.
        album: other photos, which may lend pixels: a folder, a file of `cicm remember`, or an album.
        settings: how pictures are cut and joined around the network.
        margin, max_side, strategy, tile, widest, feather, fill, seed: single settings, as `FillSettings` tells; these
            change `settings`.

    Raises:
        InputError: an unknown or absent device or strategy, a number out of its range.

    Example:
        >>> from cicm.assembly import ModelConfig, build
        >>> inpainter = Inpainter(build(ModelConfig("unet", {"width": 4})), device="cpu")
        >>> image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        >>> mask = np.zeros((20, 30), dtype=bool)
        >>> mask[5:9, 5:9] = True
        >>> repaired = inpainter(image, mask)
        >>> repaired.shape, bool((repaired == image)[~mask].all()), inpainter.report.network_size
        ((20, 30, 3), True, (32, 32))
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: str | torch.device = "auto",
        album: str | os.PathLike | Finder | None = None,
        settings: FillSettings | None = None,
        margin: int | None = None,
        max_side: int | None = None,
        strategy: str | None = None,
        tile: int | None = None,
        widest: int | None = None,
        feather: int | None = None,
        fill: str | None = None,
        seed: int | None = None,
    ) -> None:
        settings = settings or FillSettings()
        super().__init__(
            settings.changed(
                margin=margin,
                max_side=max_side,
                strategy=strategy,
                tile=tile,
                widest=widest,
                feather=feather,
                fill=fill,
                seed=seed,
            ),
            lending(album),
        )
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()
        self.labels: np.ndarray | None = None

    def look_at_labels(self, path: str | os.PathLike, size: tuple[int, int]) -> None:
        """Let the model see a label map with the next pictures, which have its size.

        The network then sees a picture whole, reduced if it is large: the strategies `whole`, `resize` and `crop` are
        kept, the others become `resize`.

        Args:
            path: a file that numbers the classes as the data set does that the model was trained on; see
                `cicm.photos.labels.read_labels`. Inside the hole it counts for a model of the source `oracle` alone.
            size: (height, width) of the pictures.

        Raises:
            InputError: a model that looks at no labels, a file that can't be read or has another size, a value outside
                the classes.
        """
        guide = getattr(self.model, "guide", None)
        source = guide.config.source if guide is not None else None
        if guide is None or source not in ("known", "oracle"):
            does = f"with the source {source!r} looks at no map" if source else "looks at no labels"
            raise InputError(
                f"labels need weights that were trained with them; this model {does}. Train a recipe with "
                "model.labels, as unet-cicm-camvid-small, and give its file with --weights; or leave the labels out."
            )
        self.labels = read_labels(path, classes_of(guide.config.layout), size)
        if self.settings.strategy in ("auto", "tile"):
            self.settings = self.settings.changed(strategy="resize")

    @classmethod
    def from_pretrained(
        cls,
        weights: str | os.PathLike | None = None,
        *,
        device: str | torch.device = "auto",
        album: str | os.PathLike | Finder | None = None,
        settings: FillSettings | None = None,
        margin: int | None = None,
        max_side: int | None = None,
        strategy: str | None = None,
        tile: int | None = None,
        widest: int | None = None,
        feather: int | None = None,
        fill: str | None = None,
        seed: int | None = None,
    ) -> Inpainter:
        """The model in a weights file; without one, the model that comes with the package.

        Args:
            weights: a `.safetensors` file of cicm.
            device: as above.
            album, settings, margin, max_side, strategy, tile, widest, feather, fill, seed: as above.

        Raises:
            InputError: a file that is missing, damaged, a pickle or of another model; a device that is not there.
        """
        from cicm.assembly import default_weights, load_weights

        settings = (settings or FillSettings()).changed(
            margin=margin,
            max_side=max_side,
            strategy=strategy,
            tile=tile,
            widest=widest,
            feather=feather,
            fill=fill,
            seed=seed,
        )
        place = choose_device(device)  # before the file is read, so that a wrong name is told at once
        model: nn.Module = load_weights(default_weights() if weights is None else weights).model
        return cls(model, device=place, album=album, settings=settings)

    def __repr__(self) -> str:
        """Network, memories, device and settings, in one line."""
        memories = getattr(self.model, "memories", {})
        told = [f"{site} ({memory.config.sets} x {memory.config.contexts})" for site, memory in memories.items()]
        network = type(getattr(self.model, "network", self.model)).__name__
        return f"Inpainter({network}, memory at {', '.join(told) or 'no site'}, on {self.device}, {self.settings})"

    @property
    def size(self) -> SizeRule:  # type: ignore[override]
        """The network's size rule."""
        return self.model.network.size  # type: ignore[union-attr,return-value]

    def _fill_other(self, image: Any, mask: Any, invert: bool, started: float) -> Tensor:
        if not isinstance(image, Tensor):
            raise InputError(
                f"image must be a path, a PIL image, a NumPy array or a torch tensor; got {type(image).__name__}. "
                "Convert it with numpy.asarray."
            )
        batch = (image[None] if image.ndim == 3 else image).detach()
        if batch.ndim != 4 or batch.shape[1] != 3 or not image.is_floating_point() or batch.numel() == 0:
            raise InputError(
                f"a tensor must be (3, H, W) or (B, 3, H, W), RGB, floating in [0, 1]; got {describe(image)}. "
                "Divide 8-bit values by 255, put the channels first with permute."
            )
        if not bool(torch.isfinite(batch).all()):
            raise InputError("image must be finite numbers in [0, 1]; got NaN or infinity. Mend these pixels first.")
        low, high = float(batch.min()), float(batch.max())
        if low < 0 or high > 1:
            raise InputError(f"image must lie in [0, 1]; got values in [{low:.4g}, {high:.4g}]. Divide by the largest.")
        size = (batch.shape[2], batch.shape[3])
        masks = _one_each(mask, len(batch), size)
        if masks is None:
            holes = [hole_of(mask, size, invert)] * len(batch)
        else:
            holes = [hole_of(one, size, invert) for one in masks]
        result = batch.clone()
        self._fill_all([_TensorCanvas(one) for one in result], holes, started)
        return result if image.ndim == 4 else result[0]

    @torch.inference_mode()
    def _call(self, colours: np.ndarray, gone: np.ndarray, plan: Plan) -> np.ndarray:
        image = torch.from_numpy(np.ascontiguousarray(colours.transpose(0, 3, 1, 2)))
        hole = torch.from_numpy(gone.astype(np.float32))[:, None]
        size = image.shape[-2:]
        corrupted = image * (1 - hole)
        if plan.work != tuple(size):
            # Averages over the known pixels alone, so that the hole's black does not bleed into its surroundings.
            # Not on the device: MPS has no pooling by fractions.
            share = F.adaptive_avg_pool2d(1 - hole, plan.work)
            known = (share >= 0.5).to(hole.dtype)
            corrupted = F.adaptive_avg_pool2d(corrupted, plan.work) / share.clamp_min(0.5) * known
            hole = 1 - known
        corrupted, hole = corrupted.to(self.device), hole.to(self.device)
        axes = tuple(zip(plan.work, plan.padded, strict=True))
        rows, columns = (torch.from_numpy(mirrored(*axis, self.size.padding)).to(self.device) for axis in axes)
        corrupted, hole = (t.index_select(2, rows).index_select(3, columns) for t in (corrupted, hole))
        label = () if self.labels is None else (self._label(plan, rows, columns).expand(len(hole), -1, -1),)
        _refuse_fork()
        try:
            filled = self.model(corrupted, hole, *label).composite
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
                raise
            raise InputError(
                f"not enough memory on {self.device} for {plan.padded[0]}x{plan.padded[1]} pixels. "
                "Use a smaller max_side, or device='cpu'."
            ) from error
        top, left = (self.size.before(*axis) for axis in axes)
        filled = filled[..., top : top + plan.work[0], left : left + plan.work[1]].float()
        if plan.work != tuple(size):
            filled = F.interpolate(filled, size=tuple(size), mode="bicubic", align_corners=False)
        return filled.clamp(0.0, 1.0).permute(0, 2, 3, 1).cpu().numpy()

    def _label(self, plan: Plan, rows: Tensor, columns: Tensor) -> Tensor:
        """(1, h, w): the labels as the network sees the plan's box: the nearest ones, padded as the picture."""
        assert self.labels is not None
        left, top, right, bottom = plan.box
        label = self.labels[top:bottom, left:right]
        places = [
            (np.arange(new) * 2 + 1) * old // (2 * new) for new, old in zip(plan.work, label.shape, strict=True)
        ]  # fmt: skip
        nearest = torch.from_numpy(np.ascontiguousarray(label[np.ix_(*places)])).to(self.device)
        return nearest.index_select(0, rows).index_select(1, columns)[None]


class _TensorCanvas:
    """A tensor (3, H, W) in [0, 1], filled in place."""

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def read(self, box: Box) -> np.ndarray:
        left, top, right, bottom = box
        return self.values[:, top:bottom, left:right].float().permute(1, 2, 0).cpu().numpy()

    def write(self, box: Box, colours: np.ndarray, places: np.ndarray) -> None:
        if not np.isfinite(colours[places]).all():
            raise InputError("the network gave NaN or infinity. Use other weights.")
        left, top, right, bottom = box
        here = self.values[:, top:bottom, left:right]
        new = torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1))).to(here)
        here.copy_(torch.where(torch.from_numpy(places).to(here.device), new, here))


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device of that name; "auto" is CUDA, else Apple's MPS, else the CPU.

    Raises:
        InputError: an unknown name, or a device that this machine or this build of torch does not have.
    """
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(found)
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"no device {str(name)!r} here; expected auto, cpu, cuda, cuda:N or mps, and torch built for it. "
            "Use --device cpu (device='cpu')."
        ) from error
    return device


_ran_in: set[int] = set()  # the process in which a network ran with several threads, and those forked from it


def _refuse_fork() -> None:
    """Say what torch would not: after a fork its threads are gone, and it waits for them for ever."""
    if torch.get_num_threads() > 1:
        if _ran_in and os.getpid() not in _ran_in:
            raise InputError(
                "this process was forked from one in which a network had run with several threads; torch would wait "
                'for ever. Start processes with multiprocessing.get_context("spawn"), or call '
                "torch.set_num_threads(1) in this one first."
            )
        _ran_in.add(os.getpid())


def _one_each(mask: Any, count: int, size: tuple[int, int]) -> Sequence[Any] | None:
    """The masks of a batch, one for each picture of (height, width); None if there is one for all."""
    several = isinstance(mask, (list, tuple)) or (isinstance(mask, (np.ndarray, Tensor)) and mask.ndim == 4)
    if not several:
        return None
    if len(mask) != count:
        raise InputError(f"expected one mask, or one for each of the {count} pictures; got {len(mask)}.")
    return list(mask[:, 0]) if isinstance(mask, np.ndarray) and mask.shape[1:] == (1, *size) else mask
