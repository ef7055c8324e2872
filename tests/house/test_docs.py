"""The documentation runs: its Python blocks are executed as printed, its commands are parsed by the real parsers."""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cicm.cli.main import VERBS
from cicm.cli.parsing import parse
from cicm.conventions import InputError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "results").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page.read_text("utf-8")) if language in languages]


def with_blocks() -> list[Path]:
    """The pages with Python. A block fenced `py` is not run: it needs what is not installed everywhere."""
    return [page for page in PAGES if blocks(page, "python")]


@pytest.mark.parametrize("page", with_blocks(), ids=lambda p: str(p.relative_to(ROOT)))
def test_python_blocks_run_as_printed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with `examples`, `photos` and `masks`; the README's blocks one by one, those of a page in turn."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for folder in ("photos", "masks"):
        shutil.copytree(ROOT / "examples" / folder, tmp_path / folder)
    space: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page, "python"), start=1):
        name = f"{page.name}, block {number}"
        if page.name == "README.md":
            space = {"__name__": "__main__"}
        if block.lstrip().startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block, space, name, str(page), 0)
            runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
            assert runner.run(test, clear_globs=False).failed == 0
            space |= test.globs  # it ran on a copy
        else:
            exec(compile(block, name, "exec"), space)


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each line of a block that starts `cicm`, `python -m cicm` or `.venv/bin/cicm`, as it stands and as words."""
    for block in blocks(page, "", "sh", "bash", "console", "text"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.strip().removeprefix("$ "), comments=True) if "cicm " in line else []
            while words and (words[0] == "torchrun" or re.fullmatch(r"\w+=\S*", words[0])):
                words = words[1:] if "=" in words[0] else words[words.index("-m") :]
            if words[:2] in (["python", "-m"], ["-m", "cicm"]):
                words = words[words.index("-m") + 1 :]
            if words and words[0] in ("cicm", ".venv/bin/cicm", "cicm.cli.main"):
                for sign in (">", "|", "&&", ";", "&"):
                    words = words[: words.index(sign)] if sign in words else words
                yield line.strip(), words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_parse(page: Path) -> None:
    wrong = []
    for line, (verb, *words) in commands(page):
        if verb.startswith("-"):
            continue
        if verb not in VERBS:
            wrong.append(f"{line}: no verb {verb}")
            continue
        module = import_module(f"cicm.cli.{verb}")
        parser = (getattr(module, "build_parser", None) or module.parser)()
        try:
            parse(parser, words)
        except InputError as error:
            wrong.append(f"{line}: {error}")
    assert wrong == []


def test_the_pages_have_something_to_run() -> None:
    found = {line for page in PAGES for line, _ in commands(page)}
    assert len(found) > 50
    assert len(with_blocks()) > 5
    assert len(blocks(ROOT / "README.md", "python")) == 2


def test_the_page_of_the_metrics_names_every_one() -> None:
    from cicm.evaluation.presets import PRESETS
    from cicm.metrics import METRICS

    page = (ROOT / "docs" / "metrics.md").read_text()
    assert [name for name in [*METRICS, *PRESETS] if f"`{name}`" not in page] == []


def test_the_readme_fits_two_screens() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 110


def test_each_page_is_in_the_list_of_pages_and_in_the_site() -> None:
    listed, site = (ROOT / "docs" / "index.md").read_text("utf-8"), (ROOT / "zensical.toml").read_text("utf-8")
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name == "index.md" or f"({name})" in listed, f"docs/index.md does not name {name}"
        assert f'"docs/{name}"' in site, f"zensical.toml does not name {name}"


def test_what_the_map_of_the_code_names_is_there() -> None:
    for file, name in re.findall(r"`([\w/]+\.py)`(?:, `(\w+)`)?", (ROOT / "docs" / "house.md").read_text("utf-8")):
        path = ROOT / "src" / "cicm" / file
        assert path.is_file(), f"docs/house.md names {file}"
        assert not name or re.search(rf"\b(def|class) {name}\b|^{name} = ", path.read_text(), re.MULTILINE), (
            file,
            name,
        )


@pytest.mark.slow
def test_the_site_builds_without_a_broken_link() -> None:
    pytest.importorskip("zensical", reason="zensical is in the extra `docs`")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is in the extra `docs`")
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "site" / "build.py"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
    for page in ("index.html", "docs/api/memory/index.html", "results/index.html"):
        assert (ROOT / "build" / "site" / page).is_file(), page
    assert "ContextMemory.pending" in (ROOT / "build" / "site" / "docs" / "api" / "memory" / "index.html").read_text(
        "utf-8"
    )
