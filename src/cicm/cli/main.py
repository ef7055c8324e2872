"""`cicm VERB ...`: finds the verb's file, runs it, turns errors of input into one line and exit code 2."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from cicm import __version__
from cicm.conventions import InputError
from cicm.files import disk_failure, reason_of

VERBS = {
    "inpaint": "fill the holes of a photo, or of all photos in a folder",
    "serve": "a web page to repair photos in a browser, and a REST interface",
    "train": "train a recipe, or continue a run that was interrupted",
    "evaluate": "score a model, a classical method or a folder of results",
    "table": "make the paper's tables, with our numbers beside the printed ones",
    "figure": "draw the paper's figures from the results of cicm table",
    "data": "list the known data sets, or check a copy of one",
    "look": "show which parts of the memory a repair used, as a page",
    "memory": "describe the memory of a model in numbers and as a picture",
    "remember": "look at your photos, so that repairs can copy from them",
    "recipes": "list the recipes, or print one with all its values",
    "networks": "list the networks with parameters, multiply-adds, sites and sizes",
    "convert": "import published weights of a network, or write them back",
    "export": "write a model as ONNX or as a program of torch",
    "models": "list the models and published weights, or download one",
}


def usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {text}" for name, text in VERBS.items())
    return (
        "usage: cicm VERB [options]\n\n"
        "Fill holes in photographs with the help of a memory learned across many images.\n\n"
        f"verbs:\n{verbs}\n\n"
        "  cicm VERB --help          the options of a verb\n"
        "  cicm --version            the version\n"
        "  cicm --completion bash    a script for the Tab key; also zsh and tcsh\n\n"
        "example:\n  cicm inpaint photo.jpg --mask mask.png -o repaired.jpg    (white in the mask = fill)\n"
    )


def run(argv: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Raises InputError for what the caller got wrong."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"cicm {__version__}")
        return 0
    verb, *rest = argv
    if verb == "--completion":
        from cicm.cli.completion import script

        print(script(rest[0] if rest else "", VERBS))
        return 0
    if verb == "run":
        raise InputError(
            "cicm has no verb 'run' (IOPaint has). Use cicm inpaint PHOTO --mask MASK -o OUTPUT for photos and "
            "folders, or cicm serve for the page."
        )
    if verb == "weights":
        raise InputError("cicm weights is now part of cicm models: cicm models lists, cicm models get NAME downloads.")
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"the verbs are {', '.join(VERBS)}."
        raise InputError(f"unknown verb {verb!r}; {hint} See cicm --help.")
    try:
        return import_module(f"cicm.cli.{verb}").main(rest)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "torch":
            raise
        raise InputError(
            f"cicm {verb} needs PyTorch, which is not installed. Run: pip install torch, or see pytorch.org for a GPU."
        ) from error


def main(argv: Sequence[str] | None = None) -> int:
    """The console script `cicm`. Exit codes: 0 done, 1 a run failed, 2 bad input, 130 interrupted."""
    try:
        code = run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()  # a full disk behind it is told here
        return code
    except InputError as error:
        print(f"cicm: error: {error}", file=sys.stderr)
        return 1 if disk_failure(error) else 2
    except KeyboardInterrupt:
        print("cicm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe went away, as `cicm ... | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"cicm: error: {where}{reason_of(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
