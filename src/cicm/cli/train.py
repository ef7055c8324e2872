"""`cicm train RECIPE`: train, or go on with a run that was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from cicm.cli.changes import parse_changes
from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import InputError

EXAMPLE = """\
examples:
  cicm train unet-cicm-scenes --data photos     photos/train and photos/val; the run goes to runs/unet-cicm-scenes
  cicm train unet-cicm-scenes --data celeba --layout celeba
  cicm train unet-cicm-scenes --dry-run         print the plan, write nothing
  cicm train unet-cicm-scenes --set training.steps=2000 --set data.crop=128 --output runs/short
  torchrun --nproc-per-node 2 -m cicm train unet-cicm-scenes

The same command continues an interrupted run. For a second run give another --output.
`cicm recipes` lists the recipes.
"""


def parser() -> ArgumentParser:
    """The verb's options."""
    made = verb_parser("train", "Train a recipe, or continue a run that was interrupted.", EXAMPLE)
    made.add_argument("recipe", type=str, help="name of a recipe, or path of a .toml file")
    made.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a value, as in training.lr=1e-4"
    )
    made.add_argument("--data", type=str, metavar="FOLDER", help="folder with train and val, or see --layout")
    made.add_argument("--layout", type=str, metavar="NAME", help="layout of FOLDER: see cicm data list")
    made.add_argument("--output", type=str, metavar="FOLDER", help="folder of the run (default: runs/RECIPE)")
    made.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    made.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (default: torch decides)")
    made.add_argument("--accelerator", type=str, choices=["auto", "cpu", "gpu"], default="auto", help="where to train")
    made.add_argument(
        "--devices", type=int, default=0, metavar="N", help="processes on this machine (default: all GPUs, else one)"
    )
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    options = parse(parser(), argv)
    for name in ("threads", "devices"):
        if getattr(options, name) < 0:
            raise InputError(f"--{name} must be 0 or more; got {getattr(options, name)}.")

    from cicm.recipes import load_recipe

    given = {} if options.layout is None else {"data.layout": options.layout}
    changes = given | parse_changes(options.set)
    if options.data:
        # A layout knows its splits within one folder.
        whole = bool(load_recipe(options.recipe, changes).data.layout)
        folder = Path(options.data)
        changes = {f"data.{part}": str(folder if whole else folder / part) for part in ("train", "val")} | changes
    recipe = load_recipe(options.recipe, changes)
    output = Path(options.output or Path("runs", recipe.name))

    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    if options.dry_run:
        from cicm.training.plan import describe_plan

        print(recipe.to_toml())
        print(describe_plan(recipe, output))
        return 0

    import sys

    from cicm.files import disk_failure, reason_of
    from cicm.training.loop import train
    from cicm.training.step import TrainingStopped

    try:
        return train(
            recipe,
            name=recipe.name,
            recipe=recipe.to_toml(),
            output=output,
            accelerator=options.accelerator,
            devices=options.devices,
        )
    except TrainingStopped as problem:
        print(f"cicm: training stopped: {problem}", file=sys.stderr)
        return 1
    except OSError as problem:
        if not (failure := disk_failure(problem)):
            raise
        print(
            f"cicm: training stopped: {failure.filename or output}: {reason_of(failure)} Checkpoints are as they were "
            "saved last; the same command goes on from there.",
            file=sys.stderr,
        )
        return 1
