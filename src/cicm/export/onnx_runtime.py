"""An exported model in onnxruntime; fills pictures without torch."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from cicm.conventions import InputError, SizeRule
from cicm.files import check_readable, digest_of
from cicm.inference.arrays import ArrayInpainter, Device
from cicm.inference.exemplars import Finder, lending
from cicm.inference.settings import FillChanges, FillSettings

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MAX_BYTES = 2**31
"""What a protobuf, and so an ONNX file, can hold."""


FORMAT = "cicm-export-1"
"""Of the metadata that `cicm.export.export` writes."""

SIDES = 4096
"""Largest number that a size rule is believed to have."""


class OnnxModel:
    """An exported model, opened and checked.

    Args:
        path: a file that `cicm export --to onnx` wrote.
        device: "auto", "cpu", "cuda" or "cuda:N".
        threads, tensors: as `open_session`.

    Raises:
        InputError: as `open_session`, or an ONNX file of something else.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        device: str = "auto",
        threads: int | None = None,
        tensors: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.session = open_session(path, device, threads, tensors)
        about = self.session.get_modelmeta().custom_metadata_map
        takes = {one.name: (one.type, len(one.shape)) for one in self.session.get_inputs()}
        gives = [one.name for one in self.session.get_outputs()]
        wanted = dict.fromkeys(("image", "hole"), ("tensor(float)", 4))
        if about.get("cicm.format") != FORMAT or takes != wanted or gives != ["composite"]:
            raise InputError(
                f"{os.fspath(path)} is ONNX but not a model of cicm (expected {FORMAT!r} in its metadata, inputs image "
                f"and hole; got {about.get('cicm.format')!r}, {', '.join(takes)}). Make one with cicm export --to onnx."
            )
        try:
            self.size = _rule(json.loads(about["cicm.size"]))
            card = json.loads(about.get("cicm.card", "{}"))
            if not isinstance(card, dict):
                raise ValueError("its card is not an object")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise InputError(f"{os.fspath(path)} has damaged metadata: {error}. Export it again.") from error
        self.card: dict[str, Any] = card
        provider = self.session.get_providers()[0]
        index = self.session.get_provider_options().get(provider, {}).get("device_id", 0)
        self.device = Device("cuda" if provider.startswith("CUDA") else "cpu", int(index))
        self.name = f"{about.get('cicm.network', '?')} {digest_of(path)[:16]} of onnxruntime"

    def __call__(self, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
        """(B, 3, H, W) and (B, 1, H, W) float32, of a size that the rule allows -> (B, 3, H, W)."""
        try:
            return self.session.run(None, {"image": image, "hole": hole})[0]
        except Exception as error:  # onnxruntime's own exceptions have no common base but this
            told, (height, width) = " ".join(str(error).split())[:200], image.shape[2:]
            raise InputError(
                f"onnxruntime failed at {height}x{width} pixels: {told} Use a smaller max_side."
            ) from error


class OnnxInpainter(ArrayInpainter):
    """Fills holes in pictures of any size and kind, as `Inpainter` does, with onnxruntime and without torch.

    Args:
        album: other photos, which may lend pixels: a folder, a file of `cicm remember`, or an album.
        settings: how pictures are cut and joined around the network.
        changes: single settings, as `FillSettings` tells; they change `settings`.
    """

    def __init__(
        self,
        model: OnnxModel,
        settings: FillSettings | None = None,
        *,
        album: str | os.PathLike | Finder | None = None,
        **changes: Unpack[FillChanges],
    ) -> None:
        super().__init__((settings or FillSettings()).changed(**changes), lending(album))
        self.model, self.size, self.device = model, model.size, model.device

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike,
        *,
        device: str = "auto",
        threads: int | None = None,
        album: str | os.PathLike | Finder | None = None,
        settings: FillSettings | None = None,
        **changes: Unpack[FillChanges],
    ) -> OnnxInpainter:
        """The model in an .onnx file; arguments as `OnnxModel` and the class have them."""
        return cls(OnnxModel(path, device=device, threads=threads), settings, album=album, **changes)


def open_session(
    path: str | os.PathLike,
    device: str = "auto",
    threads: int | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
) -> InferenceSession:
    """A file as onnxruntime has it; files beside it are not read.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".
        tensors: those that the file says to lie elsewhere, by name.
        threads: of the network; None takes OMP_NUM_THREADS, as torch does, or onnxruntime's own choice.

    Raises:
        InputError: onnxruntime is not installed; a file that is missing, too large or not ONNX; a device that it was
            not built for.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            "running an .onnx file needs onnxruntime, which is not installed. pip install 'cicm[export]'"
        ) from error
    file = check_readable(path, "model")
    if (size := file.stat().st_size) > MAX_BYTES:
        raise InputError(f"{file} has {size / 2**30:.1f} GiB; ONNX files have up to {MAX_BYTES // 2**30} GiB.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised; the rest is about speed
    options.intra_op_num_threads = threads or _threads()
    providers = _providers(device, onnxruntime)
    try:
        with tempfile.TemporaryDirectory() as nothing:
            # A file may name others as its weights. They are looked for where there is none.
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", nothing)
            if tensors:
                values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in tensors.values()]
                options.add_external_initializers(list(tensors), values)
            return onnxruntime.InferenceSession(file.read_bytes(), options, providers=providers)
    except Exception as error:  # onnxruntime's own exceptions have no common base but this
        told = " ".join(str(error).split())[:200]
        raise InputError(f"{file} can't be run as ONNX: {told} Export it again with cicm export --to onnx.") from error


def _rule(values: Any) -> SizeRule:
    numbers = [values["multiple_of"], values["minimum"], values.get("maximum", 0)]
    low = (1, 1, numbers[1] if numbers[2] else 0)
    if not all(type(n) is int and least <= n <= SIDES for n, least in zip(numbers, low, strict=True)):
        raise ValueError(f"no size rule can be {values}"[:200])
    padding = values.get("padding", "around")  # older files do not say
    if padding not in ("around", "end"):
        raise ValueError(f"no size rule can be {values}"[:200])
    multiple, minimum, maximum = numbers
    return SizeRule(multiple, minimum, maximum, padding)


def _threads() -> int:
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() else 0


def _providers(device: str, onnxruntime: Any) -> list[Any]:
    there = onnxruntime.get_available_providers()
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise InputError(f"no device {device!r} in onnxruntime; expected auto, cpu, cuda or cuda:N.")
    if kind == "cpu" or (kind == "auto" and "CUDAExecutionProvider" not in there):
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in there:
        raise InputError(f"this onnxruntime has no {device}; it has {', '.join(there)}. Install onnxruntime-gpu.")
    return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]
