"""`cicm export`: a model as one file that runs without this package."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from cicm.cli.parsing import parse, verb_parser

DESCRIPTION = """\
Write a model as one file that runs without this package: ONNX, or a program of torch (torch.export) for Python and
C++. The file accepts any batch, height and width that the network's size rule allows. It contains the size rule, the
model's card and its licence. Before the file is written, its output is compared with the model's.

The graph takes `image` (B, 3, H, W), RGB in [0, 1], and `hole` (B, 1, H, W), 1 = missing, and returns `composite`.
cicm inpaint --model FILE.onnx fills photos without torch. ONNX needs the extra `export`: pip install 'cicm[export]'
"""

EXAMPLES = """\
examples:
  cicm export --to onnx -o cicm.onnx                        (the included weights)
  cicm export mine.safetensors --to torch -o mine.pt2
  cicm inpaint photo.jpg --mask mask.png -o repaired.jpg --model cicm.onnx
"""


def build_parser() -> ArgumentParser:
    parser = verb_parser(
        "export", DESCRIPTION, EXAMPLES, usage="cicm export [WEIGHTS] --to onnx|torch -o FILE [options]"
    )
    add = parser.add_argument
    add("weights", type=str, nargs="?", metavar="WEIGHTS", help="a .safetensors file of cicm (default: included)")
    add("--to", type=str, choices=["onnx", "torch"], required=True, help="the kind of file")
    add("-o", "--output", type=str, required=True, metavar="FILE", help="file to write: .onnx, or .pt2 for torch")
    add("--overwrite", action="store_true", help="replace FILE if it exists")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    options = parse(build_parser(), argv)
    from cicm.assembly import load_weights
    from cicm.export.export import ExportError, check_export, export

    check_export(options.output, options.to, overwrite=options.overwrite)
    loaded = load_weights(options.weights)
    try:
        made = export(loaded, options.output, options.to, overwrite=options.overwrite)
    except ExportError as error:
        print(f"cicm: error: {error}", file=sys.stderr)
        return 1
    sizes = ", ".join(f"{batch}x{height}x{width}" for batch, height, width in made.sizes)
    print(
        f"{made.path}: {made.path.stat().st_size / 2**20:.1f} MiB, equals the model to {made.difference:.0e} "
        f"at {sizes}, {made.seconds:.0f} s"
    )
    return 0
