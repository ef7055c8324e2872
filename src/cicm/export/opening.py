"""What a person calls a model by: a name, a file, or nothing; and the painter that runs it."""

from __future__ import annotations

import os
from pathlib import Path

from cicm.conventions import InputError
from cicm.exemplar.classical import FILLS as CLASSICAL
from cicm.files import check_readable
from cicm.inference.exemplars import Finder
from cicm.inference.models import RELEASED, SHIPPED, model_file
from cicm.inference.painter import PictureInpainter
from cicm.inference.settings import FillSettings

PATCHES = "exemplar"
NAMES = (SHIPPED, *RELEASED, *CLASSICAL, PATCHES)
"""All that a model can be called, besides a file."""


def check_model(model: str | None) -> str | os.PathLike | None:
    """The name of a method, or the file that the name of a model or a path stands for; loads nothing.

    Raises:
        InputError: neither a known name nor a file; a released model that is not on this machine.
    """
    if model is None or model == SHIPPED:
        return None
    if model in CLASSICAL or model == PATCHES:
        return model
    if model in RELEASED:
        return model_file(model)
    if os.sep not in model and not Path(model).suffix and not os.path.exists(model):
        raise InputError(f"unknown model {model!r}; a model is {', '.join(NAMES)}, or a file of weights.")
    return check_readable(model, "weights")


def default_settings(model: str | None) -> FillSettings:
    """How a model is used if nobody says otherwise.

    Our own network is joined with patches of the photo. What a person asks for by another name is used alone, as its
    authors do. Released networks were trained with larger holes than ours, and see them larger: half of their
    pictures' side at training.
    """
    if model in RELEASED:
        return FillSettings(fill="network", widest=256)
    return FillSettings(fill="network" if model in CLASSICAL else "exemplar" if model == PATCHES else "both")


def open_inpainter(
    model: str | None = None,
    *,
    device: str = "auto",
    album: str | os.PathLike | Finder | None = None,
    settings: FillSettings | None = None,
    quick: bool = False,
) -> PictureInpainter:
    """The painter for a model: in torch, in onnxruntime, or without a network.

    Args:
        model: one of `NAMES`, a .safetensors file of cicm or an .onnx file; None is the model that ships.
        device: for a network.
        settings: None for `default_settings`.
        quick: the model that ships may run in onnxruntime, which starts sooner than torch and gives the same to 1e-4.

    Raises:
        InputError: as `check_model`; whatever is wrong with the file or the device.
    """
    found = check_model(model)
    settings = settings or default_settings(model)
    if model == PATCHES:
        from cicm.inference.arrays import PatchInpainter

        return PatchInpainter(album=album, settings=settings)
    if model in CLASSICAL:
        from cicm.inference.arrays import ClassicalInpainter

        return ClassicalInpainter(str(model), album=album, settings=settings)
    if found is not None and os.fspath(found).lower().endswith(".onnx"):
        from cicm.export.onnx_runtime import OnnxInpainter

        return OnnxInpainter.from_file(found, device=device, album=album, settings=settings)
    if found is None and quick:
        from cicm.export.quick import available, open_quick

        if available(device):
            return open_quick(album=album, settings=settings)
    from cicm.inference.inpainter import Inpainter

    return Inpainter.from_pretrained(found, device=device, album=album, settings=settings)
