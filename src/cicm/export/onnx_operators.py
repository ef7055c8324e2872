"""What torch's exporter can't write as ONNX, or writes wrongly, written by hand.

| in the network | as ONNX |
|---|---|
| `ops.fill`: conjugate gradients | a Loop, in float64; unrolled it is thousands of nodes, and exporting takes minutes |
| `ops.edges`: Canny's detector | a graph whose chains of edges grow in a Loop until nothing changes |
| sums by `avg_pool2d` with a divisor | a convolution with ones; the exporter drops the divisor and says nothing |

The functions at the end are onnxscript: read as ONNX operators, never run as Python. They have to be plain assignments,
and constants stand in them as numbers (11 is float64, 1 float32, 9 bool; 4611686018427387904 is past the end).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import onnx.inliner
import onnxscript
import torch
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops.nn import aten_avg_pool2d
from torch import Tensor

from cicm.ops import edges, fill

OPSET = 18
DOMAIN = "cicm"
_own = onnxscript.values.Opset(DOMAIN, 1)


@contextmanager
def operators() -> Iterator[dict[Callable, Callable]]:
    """While a network is traced, put our operators in the place of what they stand for.

    Gives the table of translations that the exporter takes besides. Not for several threads at a time.
    """
    bent, canny = fill._bent, edges._canny
    fill._bent, edges._canny = _bent_node, _canny_node  # type: ignore[assignment]
    try:
        yield {torch.ops.aten.avg_pool2d.default: _avg_pool2d}
    finally:
        fill._bent, edges._canny = bent, canny  # type: ignore[assignment]


def with_bodies(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace the nodes of our own domain by what they are made of; what remains is plain ONNX."""
    if not any(node.domain == DOMAIN for node in model.graph.node):
        return model
    model.functions.extend(function.to_function_proto() for function in (_laplacian, Bent, Canny))
    if not any(opset.domain == DOMAIN for opset in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    inlined = onnx.inliner.inline_local_functions(model)
    for opset in [opset for opset in inlined.opset_import if opset.domain == DOMAIN]:
        inlined.opset_import.remove(opset)
    return inlined


# Nodes of our own, where the network is traced


def _bent_node(first: Tensor, hole: Tensor, steps: int) -> Tensor:
    node = torch.onnx.ops.symbolic
    return node(
        f"{DOMAIN}::Bent", (first, hole), {"steps": int(steps)}, dtype=first.dtype, shape=first.shape, version=1
    )


def _canny_node(gray: Tensor, known: Tensor, sigma: float, low: float, high: float) -> Tensor:
    radius = int(edges.WIDTHS * sigma + 0.5)
    weights = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(-radius, radius + 1)]
    constants = ([weight / sum(weights) for weight in weights], [low, high])
    inputs = (gray, known, *(torch.tensor(values, dtype=torch.float64) for values in constants))
    sizes: dict[str, Any] = {"taps": len(weights), "radius": radius}
    node = torch.onnx.ops.symbolic
    return node(f"{DOMAIN}::Canny", inputs, sizes, dtype=gray.dtype, shape=gray.shape, version=1)


def _avg_pool2d(
    self: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """As torch's, also with a divisor; a convolution sums whole numbers exactly, as torch does."""
    if divisor_override is None:
        return aten_avg_pool2d(self, kernel_size, stride, padding, ceil_mode, count_include_pad)
    assert not ceil_mode
    kernel = _two(kernel_size)
    channels = int(self.shape[1])
    ones = op.Expand(op.Constant(value_float=1.0), op.Constant(value_ints=[channels, 1, *kernel]))
    total = op.Conv(
        self, ones, group=channels, kernel_shape=kernel, strides=_two(stride or kernel), pads=_two(padding) * 2
    )
    return total if divisor_override == 1 else op.Div(total, op.Constant(value_float=float(divisor_override)))


def _two(sizes: Sequence[int]) -> list[int]:
    return list(sizes) * (2 if len(sizes) == 1 else 1)


# Their bodies


@onnxscript.script(_own, default_opset=op)
def _laplacian(image):
    axes = op.Constant(value_ints=[2, 3])
    wide = op.Pad(image, op.Constant(value_ints=[0, 0, 1, 1, 0, 0, 1, 1]), mode="edge")
    above = op.Slice(wide, op.Constant(value_ints=[0, 1]), op.Constant(value_ints=[-2, -1]), axes)
    below = op.Slice(wide, op.Constant(value_ints=[2, 1]), op.Constant(value_ints=[4611686018427387904, -1]), axes)
    left = op.Slice(wide, op.Constant(value_ints=[1, 0]), op.Constant(value_ints=[-1, -2]), axes)
    right = op.Slice(wide, op.Constant(value_ints=[1, 2]), op.Constant(value_ints=[-1, 4611686018427387904]), axes)
    return above + below + left + right - 4.0 * image


@onnxscript.script(_own, default_opset=op)
def Bent(first, hole, steps: int):  # type: ignore[no-untyped-def]
    axes = op.Constant(value_ints=[2, 3])
    tiny = op.Cast(op.Constant(value_float=1e-20), to=11)
    inside = op.Cast(op.Greater(hole, op.Constant(value_float=0.5)), to=11)
    filled = op.Cast(first, to=11)
    residual = op.Neg(_laplacian(_laplacian(filled))) * inside
    direction = op.Identity(residual)
    size = op.ReduceSum(residual * residual, axes, keepdims=1)
    for _ in range(steps):
        bent = _laplacian(_laplacian(direction)) * inside
        step = size / op.Max(op.ReduceSum(direction * bent, axes, keepdims=1), tiny)
        filled = filled + step * direction
        residual = residual - step * bent
        before = op.Identity(size)
        size = op.ReduceSum(residual * residual, axes, keepdims=1)
        direction = residual + size / op.Max(before, tiny) * direction
    return op.Cast(filled, to=1)


@onnxscript.script(_own, default_opset=op)
def Canny(gray, known, weights, limits, taps: int, radius: int):  # type: ignore[no-untyped-def]
    one = op.Constant(value_ints=[1])
    nought = op.Constant(value_ints=[0])
    zero = op.Cast(op.Constant(value_float=0.0), to=11)
    inside = op.Cast(op.Greater(known, op.Constant(value_float=0.5)), to=11)

    # Averages of the known pixels alone, first down the columns, then along the rows
    both = op.Concat(op.Cast(gray, to=11) * inside, inside, axis=1)
    size = op.Shape(both)
    height = op.Slice(size, op.Constant(value_ints=[2]), op.Constant(value_ints=[3]))
    width = op.Slice(size, op.Constant(value_ints=[3]), op.Constant(value_ints=[4]))
    reach = op.Reshape(op.Constant(value_int=radius), one)
    tall = op.Pad(both, op.Concat(nought, nought, reach, nought, nought, nought, reach, nought, axis=0), zero)
    total = both * zero
    for i in range(taps):
        begin = op.Reshape(i, one)
        part = op.Slice(tall, begin, begin + height, op.Constant(value_ints=[2]))
        total = total + op.Gather(weights, begin) * part
    wide = op.Pad(total, op.Concat(nought, nought, nought, reach, nought, nought, nought, reach, axis=0), zero)
    both = total * zero
    for j in range(taps):
        start = op.Reshape(j, one)
        piece = op.Slice(wide, start, start + width, op.Constant(value_ints=[3]))
        both = both + op.Gather(weights, start) * piece
    channel = op.Constant(value_ints=[1])
    colour = op.Slice(both, op.Constant(value_ints=[0]), op.Constant(value_ints=[1]), channel)
    share = op.Slice(both, op.Constant(value_ints=[1]), op.Constant(value_ints=[2]), channel)
    smooth = colour / (share + op.Cast(op.Constant(value_float=2.220446049250313e-16), to=11))

    # Sobel, and the length of the gradient
    rim = op.Pad(smooth, op.Constant(value_ints=[0, 0, 1, 1, 0, 0, 1, 1]), mode="edge")
    row = op.Constant(value_ints=[2])
    column = op.Constant(value_ints=[3])
    end = op.Constant(value_ints=[4611686018427387904])
    two = op.Constant(value_ints=[2])
    back = op.Constant(value_ints=[-1])
    back2 = op.Constant(value_ints=[-2])
    double = op.Cast(op.Constant(value_float=2.0), to=11)
    lower = op.Slice(rim, two, end, row) - op.Slice(rim, nought, back2, row)
    down = op.Slice(lower, nought, back2, column) + double * op.Slice(lower, one, back, column)
    down = down + op.Slice(lower, two, end, column)
    beside = op.Slice(rim, two, end, column) - op.Slice(rim, nought, back2, column)
    right = op.Slice(beside, nought, back2, row) + double * op.Slice(beside, one, back, row)
    right = right + op.Slice(beside, two, end, row)
    length = op.Sqrt(down * down + right * right)

    # Ridges: as long as both sides across the edge, the length there interpolated between two of eight neighbours
    ring = op.Pad(length, op.Constant(value_ints=[0, 0, 1, 1, 0, 0, 1, 1]), zero)
    upper = op.Slice(ring, nought, back2, row)
    middle = op.Slice(ring, one, back, row)
    under = op.Slice(ring, two, end, row)
    up_left = op.Slice(upper, nought, back2, column)
    up = op.Slice(upper, one, back, column)
    up_right = op.Slice(upper, two, end, column)
    at_left = op.Slice(middle, nought, back2, column)
    at_right = op.Slice(middle, two, end, column)
    down_left = op.Slice(under, nought, back2, column)
    straight_down = op.Slice(under, one, back, column)
    down_right = op.Slice(under, two, end, column)
    steep = op.Abs(down)
    flat = op.Abs(right)
    slant = op.Min(steep, flat) / op.Max(steep, flat)
    falls = op.Less(down, zero)
    turns = op.Less(right, zero)
    steeper = op.Greater(steep, flat)
    rest = op.Cast(op.Constant(value_float=1.0), to=11) - slant
    corner = op.Where(falls, op.Where(turns, up_left, up_right), op.Where(turns, down_left, down_right))
    middling = op.Where(steeper, op.Where(falls, up, straight_down), op.Where(turns, at_left, at_right))
    ahead = corner * slant + middling * rest
    opposite = op.Where(falls, op.Where(turns, down_right, down_left), op.Where(turns, up_right, up_left))
    reverse = op.Where(steeper, op.Where(falls, straight_down, up), op.Where(turns, at_right, at_left))
    behind = opposite * slant + reverse * rest
    ridge = op.And(op.LessOrEqual(ahead, length), op.LessOrEqual(behind, length))

    # Candidates touch neither hole nor border; of their chains those that reach `high` somewhere
    gaps = op.Constant(value_float=1.0) - op.Cast(inside, to=1)
    framed = op.Pad(gaps, op.Constant(value_ints=[0, 0, 1, 1, 0, 0, 1, 1]), op.Constant(value_float=1.0))
    near_gap = op.MaxPool(framed, kernel_shape=[3, 3], strides=[1, 1])
    surrounded = op.Less(near_gap, op.Constant(value_float=0.5))
    least = op.Gather(limits, nought)
    strong = op.Gather(limits, one)
    usable = op.And(op.And(surrounded, op.GreaterOrEqual(length, least)), ridge)
    candidate = op.Cast(usable, to=1)
    kept = candidate * op.Cast(op.GreaterOrEqual(length, strong), to=1)
    changed = op.Cast(op.Constant(value_int=1), to=9)
    while changed:
        grown = op.MaxPool(kept, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]) * candidate
        more = op.ReduceSum(grown - kept, keepdims=0)
        kept = op.Identity(grown)
        changed = op.Greater(more, op.Constant(value_float=0.0))
    return kept
