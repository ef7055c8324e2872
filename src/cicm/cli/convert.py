"""`cicm convert`: published weights of an original network into a file of ours, and back."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import InputError

DESCRIPTION = """\
Turn the weights that a network's authors published into a weights file of ours, or one of ours back into what their
code loads. `cicm networks` lists the networks; which options it has is read from the shapes in the file.

A .pth file is a pickle: only tensors and plain data are taken from it, anything else is refused. Every name and every
shape has to fit; if one does not, all that do not are listed and nothing is written. Weights keep the terms they were
released on; the file's card says so, with the original's SHA-256.

To train on from converted weights with a memory added, name the file in a recipe: training.init = "rfr.safetensors".
"""

EXAMPLES = """\
examples:
  cicm convert rfr checkpoint.pth -o rfr.safetensors
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
    made.add_argument("network", type=str, metavar="NETWORK", help="whose weights they are: rfr, misf, jpgnet")
    made.add_argument(
        "files", type=str, nargs="*", metavar="FILE", help="a .pth or .safetensors file; with --to original one of ours"
    )
    made.add_argument(
        "-o",
        "--output",
        type=str,
        metavar="OUTPUT",
        help="a .safetensors file; with --to original a .pth file, or a folder for the parts of jpgnet",
    )
    made.add_argument("--to", type=str, choices=["cicm", "original"], default="cicm", help="which way (default cicm)")
    made.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="PART=FILE",
        help="say which part a file is: generator, edges, filter, fusion",
    )
    made.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the network that no shape tells",
    )
    made.add_argument("--overwrite", action="store_true", help="replace OUTPUT if it is there")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code.

    Raises:
        InputError: bad options, a file that is not what it should be, an output that is there; nothing is written then.
    """
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
