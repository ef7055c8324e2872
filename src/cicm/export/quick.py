"""The model that ships, in onnxruntime without torch: its graph lies beside its weights, and holds no numbers.

Importing torch takes longer than filling a photo. The graph names the tensors of the weights file, which are given to
onnxruntime when it opens the graph, so that there is one set of numbers. `python -m cicm.export.quick` makes the graph
anew; that is needed when the weights that ship get another architecture.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from cicm.conventions import InputError
from cicm.export.onnx_runtime import OnnxInpainter, OnnxModel
from cicm.inference.arrays import Device
from cicm.inference.exemplars import Finder
from cicm.inference.models import SHIPPED
from cicm.inference.settings import FillSettings

FOLDER = Path(__file__).resolve().parent.parent / "weights"
PREFIX = "model."
"""What the exporter puts before a tensor's name in the weights file."""

RUNTIME = "onnxruntime, within 1e-4 of torch"
"""For the report."""


def available(device: str) -> bool:
    """Whether the quick way is there and nothing speaks against it: a device that was asked for, or an accelerator."""
    return (
        device == "auto"
        and find_spec("onnxruntime") is not None
        and (FOLDER / f"{SHIPPED}.onnx").is_file()
        and not _accelerator()
    )


def _accelerator() -> bool:
    """Whether torch would likely find a GPU, told without asking it."""
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return apple or shutil.which("nvidia-smi") is not None or any(map(os.path.exists, ("/dev/nvidiactl", "/dev/kfd")))


def open_quick(
    *, album: str | os.PathLike | Finder | None = None, settings: FillSettings | None = None
) -> OnnxInpainter:
    """The model that ships, in onnxruntime on the CPU.

    Raises:
        InputError: onnxruntime is not installed; a graph that does not fit the weights.
    """
    from safetensors.numpy import load_file

    weights = load_file(FOLDER / f"{SHIPPED}.safetensors")
    model = OnnxModel(
        FOLDER / f"{SHIPPED}.onnx", device="cpu", tensors={f"{PREFIX}{name}": value for name, value in weights.items()}
    )
    inpainter = OnnxInpainter(model, settings, album=album)
    inpainter.device = Device(runtime=RUNTIME)
    return inpainter


def without_numbers(path: str | os.PathLike, names: set[str]) -> bytes:
    """An exported model whose named tensors are said to lie elsewhere.

    Raises:
        InputError: a name that it has no tensor of.
    """
    import onnx

    model = onnx.load(path)
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    if lacking := sorted(names - held.keys()):
        raise InputError(f"the exported model has no tensor {lacking[0]!r}; the exporter names them otherwise now.")
    for name in names:
        held[name].ClearField("raw_data")
        held[name].data_location = onnx.TensorProto.EXTERNAL
        held[name].external_data.add(key="location", value=f"{SHIPPED}.safetensors")
    return model.SerializeToString()


def main() -> None:
    """Make the graph of the weights that ship."""
    from safetensors.numpy import load_file

    from cicm.assembly import load_weights
    from cicm.export.export import export
    from cicm.files import write_atomic

    names = {f"{PREFIX}{name}" for name in load_file(FOLDER / f"{SHIPPED}.safetensors")}
    with tempfile.TemporaryDirectory() as folder:
        made = export(load_weights(), Path(folder) / "whole.onnx", "onnx")
        write_atomic(FOLDER / f"{SHIPPED}.onnx", without_numbers(made.path, names))


if __name__ == "__main__":
    main()
