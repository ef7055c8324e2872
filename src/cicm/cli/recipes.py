"""`cicm recipes`: list the recipes; `cicm recipes show NAME` prints one with everything that it inherits."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from cicm.cli.changes import parse_changes
from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import InputError

EXAMPLE = """\
examples:
  cicm recipes                                     names, and what they are
  cicm recipes show unet-cicm-toy                  with all values, inherited ones and defaults too
  cicm recipes show unet-cicm-toy > mine.toml      a recipe of your own: change it, then cicm train mine.toml
"""


def parser() -> ArgumentParser:
    """The verb's options."""
    made = verb_parser("recipes", "List the recipes, or print one with all its values.", EXAMPLE)
    made.add_argument("action", type=str, nargs="?", choices=["list", "show"], default="list", help="list or show")
    made.add_argument("recipe", type=str, nargs="?", help="for show: name of a recipe, or path of a .toml file")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a value before printing")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    options = parse(parser(), argv)
    if options.action == "show" and not options.recipe:
        raise InputError("show takes the name of a recipe: cicm recipes show NAME. `cicm recipes` lists them.")
    if options.action == "list" and options.recipe:
        raise InputError(f"list takes no name; got {options.recipe!r}. Use: cicm recipes show {options.recipe}.")

    from cicm.recipes import about, load_recipe, recipe_names

    if options.action == "show":
        print(load_recipe(options.recipe, parse_changes(options.set)).to_toml(), end="")
        return 0
    width = max(map(len, recipe_names()))
    for name in recipe_names():
        print(f"{name:<{width}}  {about(name)}")
    return 0
