"""A trained model as one file that runs without this package: ONNX, or a program of torch.

The file's graph takes `image` (B, 3, H, W), RGB in [0, 1], and `hole` (B, 1, H, W), 1 = missing; what the image has in
the hole is not looked at. It gives `composite` (B, 3, H, W): the image around the hole bit for bit, the fill in it, not
clamped. B, H and W are free within the network's size rule, which stands in the file with the model's card.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cicm import __version__
from cicm.assembly import LoadedModel
from cicm.conventions import InputError, SizeRule
from cicm.export.onnx_runtime import FORMAT
from cicm.files import atomic, check_output
from cicm.locks import alone, lock_of

if TYPE_CHECKING:
    import onnx

KINDS = {"onnx": ".onnx", "torch": ".pt2"}
"""What a model can become, and the file's ending."""

TOLERANCE = 1e-4
"""Largest difference from the model, of values up to 1: float32, sums in another order."""

Run = Callable[[Tensor, Tensor], Tensor]


class ExportError(RuntimeError):
    """The model can't be exported, or what came out isn't the model; nothing was written."""


@dataclass(frozen=True)
class Exported:
    """A file that was written and compared with the model.

    Args:
        kind: "onnx" or "torch".
        difference: largest absolute difference from the model.
        sizes: (B, H, W) at which it was compared; none is the one it was traced at.
    """

    path: Path
    kind: str
    difference: float
    sizes: tuple[tuple[int, int, int], ...]
    seconds: float


class _Program(nn.Module):
    """A model as a function of two tensors to one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, hole: Tensor) -> Tensor:
        return self.model(image * (1 - hole), hole).composite


def export(loaded: LoadedModel, path: str | os.PathLike, kind: str, *, overwrite: bool = False) -> Exported:
    """Write a model as a file of that kind, compare the file with the model, and only then put it in its place.

    Args:
        loaded: from `cicm.assembly.load_weights`, on the CPU.
        path: ends in .onnx or .pt2.
        kind: "onnx" or "torch".

    Raises:
        InputError: an unknown kind, another ending, a folder, an existing file without `overwrite`; packages that are
            not installed.
        ExportError: an operator that can't be translated; the file gives something else than the model.
    """
    started = time.perf_counter()
    target = check_export(path, kind, overwrite=overwrite)
    write, run = (_write_onnx, _run_onnx) if kind == "onnx" else (_write_torch, _run_torch)
    if kind == "onnx":
        _need_packages()
        if why := getattr(loaded.model.network, "no_onnx", ""):
            raise ExportError(f"{loaded.config.network} can't become onnx, because {why}.")
    program = _Program(loaded.model).eval()
    sizes = _sizes(exported_rule(loaded.model.network.size))
    with alone(lock_of(target), f"another process writes {target}"), atomic(target, overwrite=overwrite) as temporary:
        with _quietly(), torch.no_grad():
            try:
                write(program, example(*sizes[0]), _metadata(loaded), os.fspath(temporary))
            except Exception as error:
                told = next(iter(str(error).splitlines()), "")
                raise ExportError(
                    f"{loaded.config.network} can't become {kind}: {type(error).__name__}: {told}"
                ) from error
            difference = _compare(program, run(os.fspath(temporary)), sizes[1:])
        if not difference <= TOLERANCE:  # also NaN
            raise ExportError(
                f"the {kind} file differs from the model by {difference:.1e} of 1, more than {TOLERANCE:.0e}; "
                "nothing was written."
            )
    return Exported(target, kind, difference, sizes[1:], time.perf_counter() - started)


def check_export(path: str | os.PathLike, kind: str, *, overwrite: bool = False) -> Path:
    """Where a file of that kind may be written."""
    if kind not in KINDS:
        raise InputError(f"a model is exported to {' or '.join(KINDS)}; got {kind!r}.")
    return check_output(path, endings=(KINDS[kind],), overwrite=overwrite, what=f"{kind} file")


def _metadata(loaded: LoadedModel) -> dict[str, str]:
    """What the file says about itself; `card` and `config` are those of the weights file."""
    rule = exported_rule(loaded.model.network.size)
    return {
        "cicm.format": FORMAT,
        "cicm.version": __version__,
        "cicm.size": json.dumps(asdict(rule)),
        "cicm.network": loaded.config.network,
        "cicm.config": json.dumps(loaded.config.to_dict()),
        "cicm.card": json.dumps(loaded.card),
        "licence": str(loaded.card.get("licence", "not stated")),
    }


def example(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """A random picture as smooth as photos are, and a hole in it; always the same."""
    random = torch.Generator().manual_seed(batch + height + width)
    coarse = torch.rand(batch, 3, 6, 6, generator=random)
    image = F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    hole = torch.zeros(batch, 1, height, width)
    for index in range(batch):
        top, left = (height + index) // 5, (width + index) // 4
        hole[index, :, top : top + height // 3 + index, left : left + width // 3] = 1
    return image, hole


def exported_rule(rule: SizeRule) -> SizeRule:
    """The sizes that a file takes: two steps of the rule at least, because torch fixes what can be 1.

    Example:
        >>> exported_rule(SizeRule(64, 64)).minimum, exported_rule(SizeRule(16, 32)).minimum
        (128, 32)
    """
    return rule if rule.maximum else replace(rule, minimum=max(rule.minimum, 2 * rule.multiple_of))


def _sizes(rule: Any) -> tuple[tuple[int, int, int], ...]:
    """At which to trace, and at which to compare. Nothing is 1 or equal where it need not be: that would get fixed."""
    sides = ((3, 64, 80), (1, 144, 80), (2, 96, 112), (1, max(32, rule.minimum), 128))
    return tuple((batch, *rule.nearest(height, width)) for batch, height, width in sides)


def _compare(program: nn.Module, run: Run, sizes: tuple[tuple[int, int, int], ...]) -> float:
    worst = 0.0
    for size in sizes:
        image, hole = example(*size)
        expected, found = program(image, hole), run(image, hole)
        difference = float((expected - found).abs().max()) if found.shape == expected.shape else math.inf
        worst = difference if math.isnan(difference) or difference > worst else worst
    return worst


def _traced(program: nn.Module, inputs: tuple[Tensor, Tensor], rule: Any) -> torch.export.ExportedProgram:
    from torch.export import Dim

    rule = exported_rule(rule)
    least = -(-rule.minimum // rule.multiple_of)
    axes: dict[int, Any] = {0: Dim("batch", min=1)}
    for axis, name in ((2, "rows"), (3, "columns")) if not rule.maximum else ():
        side = Dim(name, min=least)
        axes[axis] = rule.multiple_of * side if rule.multiple_of > 1 else side
    return torch.export.export(program, inputs, dynamic_shapes=(axes, dict(axes)))


# Torch


def _write_torch(program: _Program, inputs: tuple[Tensor, Tensor], about: dict[str, str], path: str) -> None:
    traced = _traced(program, inputs, program.model.network.size)
    with open(path, "wb") as file:  # a path's errors torch tells without their cause
        torch.export.save(traced, file, extra_files=dict(about))


def _run_torch(path: str) -> Run:
    return torch.export.load(path).module()


# ONNX


def _write_onnx(program: _Program, inputs: tuple[Tensor, Tensor], about: dict[str, str], path: str) -> None:
    import onnx

    from cicm.export.onnx_operators import OPSET, operators, with_bodies

    with operators() as table:
        made = torch.onnx.export(
            _traced(program, inputs, program.model.network.size),
            input_names=["image", "hole"],
            output_names=["composite"],
            opset_version=OPSET,
            custom_translation_table=table,
            optimize=False,  # it takes any constant up to 1e-8 for 0, and so divides by 0 where we add 1e-8
            verbose=False,
            dynamo=True,
        )
    assert made is not None
    model = with_bodies(made.model_proto)
    for value, channels in ((model.graph.input[0], 3), (model.graph.input[1], 1), (model.graph.output[0], 3)):
        axes = ("batch", channels, "height", "width")
        kind = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, axes)
        value.type.CopyFrom(kind)
    _strip(model.graph)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, about)
    model.producer_name, model.producer_version = "cicm", __version__
    model.doc_string = " ".join((__doc__ or "").split("\n\n", 1)[1].split())
    onnx.checker.check_model(model)
    Path(path).write_bytes(model.SerializeToString())


def _strip(graph: onnx.GraphProto) -> None:
    """Take out what the exporter notes down of the code: paths of this machine, and shapes by other names."""
    del graph.value_info[:]
    graph.doc_string = ""
    del graph.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    for value in (*graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]


def _run_onnx(path: str) -> Run:
    from cicm.export.onnx_runtime import open_session

    session = open_session(path, "cpu")
    return lambda image, hole: torch.from_numpy(session.run(None, {"image": image.numpy(), "hole": hole.numpy()})[0])


def _need_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"exporting to ONNX needs the package {error.name}, which is not installed. pip install 'cicm[export]'"
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter warns about packages that it doesn't need here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
