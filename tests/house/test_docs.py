"""The documentation runs: its Python blocks are executed, its commands name verbs and options that exist."""

from __future__ import annotations

import doctest
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.cli.main import VERBS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "results").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page.read_text("utf-8")) if language in languages]


def given() -> dict[str, Any]:
    """What a page may take for granted: a picture with its mask, features with their complete regions; and folders of
    photos and masks. Blocks fenced `py` are not run: they need what is not installed everywhere."""
    rng = np.random.default_rng(0)
    mask = np.zeros((48, 64), bool)
    mask[10:20, 20:40] = True
    return {
        "image": rng.integers(0, 255, (48, 64, 3), dtype=np.uint8),
        "mask": mask,
        "features": torch.rand(2, 256, 4, 4),
        "complete": torch.arange(32) % 3 > 0,
    }


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(given()["image" if folder == "photos" else "mask"]).save(tmp_path / folder / "street.png")
    space = given()
    for number, block in enumerate(blocks(page, "python"), start=1):
        name = f"{page.name}, block {number}"
        if block.lstrip().startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block, space, name, str(page), 0)
            runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
            assert runner.run(test, clear_globs=False).failed == 0
            space |= test.globs  # it ran on a copy
        else:
            exec(compile(block, name, "exec"), space)


def commands(page: Path) -> Iterator[list[str]]:
    for block in blocks(page, "", "sh", "bash", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.strip().removeprefix("$ "), comments=True, posix=True) if "cicm " in line else []
            if words[:1] == ["cicm"]:
                yield words[1:]


def options(verb: str) -> set[str]:
    module = import_module(f"cicm.cli.{verb}")
    made = getattr(module, "build_parser", None) or module.parser
    return {name for action in made()._actions for name in action.option_strings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_name_verbs_and_options_that_exist(page: Path) -> None:
    for verb, *words in commands(page):
        if verb.startswith("-"):
            continue
        assert verb in VERBS, f"{page.name}: cicm {verb}"
        known = options(verb)
        for word in words:
            if re.match(r"--?[a-zA-Z]", word):
                assert word.partition("=")[0] in known, f"{page.name}: cicm {verb} {word}"


def test_the_pages_have_something_to_run() -> None:
    assert sum(len(list(commands(page))) for page in PAGES) > 10
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 2
