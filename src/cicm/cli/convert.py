"""`cicm convert`: published weights of an original network into a file of ours, and back."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import InputError

DESCRIPTION = """\
Convert published weights of a network into a weights file of cicm, or a file of cicm back into the original layout.
`cicm networks` lists the networks. The options of the network are read from the shapes in the file.

A .pth file can contain code. The code is not run: only tensors and plain data are read, anything else is refused. Of a
TorchScript file (.pt, as IOPaint downloads for LaMa) and of LaMa's .ckpt the tensors are read and the rest is ignored.
All names and shapes must match; otherwise the mismatches are listed and nothing is written. Weights keep their own
terms; the card in the new file says so and names the SHA-256 of the original.

To train with converted weights and a memory, name the file in a recipe: training.init = "rfr.safetensors".
"""

EXAMPLES = """\
examples:
  cicm convert rfr checkpoint.pth -o rfr.safetensors
  cicm convert lama big-lama.pt -o big-lama.safetensors
  cicm convert jpgnet InpaintingModel_gen.pth filter.pth 5_fusion.pth -o jpgnet.safetensors    (parts, in any order)
  cicm convert jpgnet a.pth b.pth --part filter=c.pth -o jpgnet.safetensors                    (or named)
  cicm convert rfr checkpoint.pth -o rfr.safetensors --option recurrences=4
  cicm convert rfr rfr.safetensors --to original -o rfr.pth                                    (and back)
"""


def parser() -> ArgumentParser:
    """The verb's options."""
    made = verb_parser(
        "convert", DESCRIPTION, EXAMPLES, usage="cicm convert NETWORK FILE [FILE ...] -o OUTPUT [options]"
    )
    made.add_argument("network", type=str, metavar="NETWORK", help="the network of the weights, as rfr or lama")
    made.add_argument(
        "files",
        type=str,
        nargs="*",
        metavar="FILE",
        help="a .pth, .pt, .ckpt or .safetensors file; for --to original one of cicm",
    )
    made.add_argument(
        "-o",
        "--output",
        type=str,
        metavar="OUTPUT",
        help="a .safetensors file; with --to original a .pth file, or a folder for the parts of jpgnet",
    )
    made.add_argument("--to", type=str, choices=["cicm", "original"], default="cicm", help="target layout")
    made.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="PART=FILE",
        help="name the part in a file: generator, edges, filter or fusion",
    )
    made.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the network that the shapes do not show",
    )
    made.add_argument("--overwrite", action="store_true", help="replace OUTPUT if it exists")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    options = parse(parser(), argv)
    back = options.to == "original"
    parts = _pairs("--part", options.part)
    if back and (parts or options.option):
        raise InputError("--part and --option can't be used with --to original. Leave them out.")
    if not options.files and not parts:
        raise InputError("convert takes a file: cicm convert NETWORK FILE -o OUTPUT. See cicm convert --help.")
    if options.output is None:
        example = f"{options.network}.pth" if back else f"{options.network}.safetensors"
        raise InputError(f"convert needs the file to write: add -o {example}, or another name.")
    if back and len(options.files) != 1:
        raise InputError(f"--to original takes one weights file; got {len(options.files)}.")

    from cicm.assembly.conversion import convert
    from cicm.assembly.restoring import restore
    from cicm.cli.changes import parse_value

    if back:
        done = restore(options.network, options.files[0], options.output, overwrite=options.overwrite)
    else:
        given = {key: parse_value(value) for key, value in _pairs("--option", options.option).items()}
        done = convert(
            options.network, options.files, options.output, parts=parts, options=given, overwrite=options.overwrite
        )
    for note in done.notes:
        print(f"cicm: note: {note}", file=sys.stderr)
    made = ", ".join(f"{key} {value}" for key, value in done.config.options.items())
    for path in done.paths:
        print(f"{path}: {done.config.network}{f', {made}' if made else ''}, {path.stat().st_size / 1e6:.1f} MB")
    if not back:
        print(f"{done.card['source']}; {done.card['licence']}")
    return 0


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not (equals and key and value):
            raise InputError(f"{option} takes NAME=VALUE; got {one!r}.")
        if key in pairs:
            raise InputError(f"{option} names {key!r} twice.")
        pairs[key] = value
    return pairs
