"""What a person calls a model by: a name, a file, or nothing; and the painter that runs it."""

from __future__ import annotations

import json
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

ALONE = ("lama", "migan")
"""Networks whose fills have texture of their own."""

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

    Networks that leave a hole smooth are joined with patches of the photo. What a person asks for by another name is
    used alone, as its authors do; so is a file that holds one of the networks released for looks. These were trained
    with larger holes than ours, and see them larger: half of their pictures' side at training.
    """
    if model in RELEASED or _network_in(model) in ALONE:
        return FillSettings(fill="network", widest=256)
    return FillSettings(fill="network" if model in CLASSICAL else "exemplar" if model == PATCHES else "both")


def _network_in(model: str | None) -> str | None:
    """The network of a weights file, from its header; None for anything else, which loading it will say."""
    if model is None or Path(model).suffix != ".safetensors" or not Path(model).is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(model, "numpy") as opened:
            config = json.loads((opened.metadata() or {}).get("config", "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError):
        return None
    found = config.get("network") if isinstance(config, dict) else None
    return found if isinstance(found, str) else None


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
