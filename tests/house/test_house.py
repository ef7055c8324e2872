"""The house itself: who may import whom, what starts fast, what is documented and linked, what must not be said."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cicm.cli.main import VERBS, main

ENV = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def python(code: str, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env=ENV, timeout=300, check=False
    )


# Who may import whom --------------------------------------------------------------------------------------------------


def test_a_room_uses_only_the_rooms_below_it(root: Path) -> None:
    pytest.importorskip("importlinter", reason="import-linter is in the extra `dev`")
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
        env=ENV,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_contract_names_every_room(root: Path) -> None:
    """A new folder has to be given its place."""
    import tomllib

    contract = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    placed = {name.strip() for line in contract["layers"] for name in line.split("|")}
    there = {
        f"cicm.{path.stem}"
        for path in (root / "src" / "cicm").iterdir()
        if (path.is_dir() and (path / "__init__.py").is_file()) or path.suffix == ".py"
    } - {"cicm.__init__"}
    assert there == placed


def test_only_photos_reads_image_files_and_nothing_is_a_drawer_for_everything(root: Path) -> None:
    for path in (root / "src" / "cicm").rglob("*.py"):
        assert path.stem not in ("utils", "util", "helpers", "misc", "common"), path
        if path.parent.name != "photos":
            opened = re.search(r"\bImage\.open\(", path.read_text())
            assert not opened, f"{path} opens an image file; that is for the room `photos`"


def test_nothing_imports_torchvision(root: Path) -> None:
    for path in [*(root / "src").rglob("*.py"), *(root / "tests").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            foreign = ["torchvision", "timm", "lpips", "kornia"]
            if path.is_relative_to(root / "src"):
                foreign += ["diffusers", "huggingface_hub"]  # the memory can sit in their networks
            assert not [m for m in modules if m.split(".")[0] in foreign], path


# What starts fast -----------------------------------------------------------------------------------------------------


HEAVY = ("torch", "numpy", "PIL", "safetensors", "rich", "torchmetrics", "lightning_fabric", "cv2", "skimage", "scipy")


def loaded(code: str, *words: str) -> list[str]:
    tail = f"\nprint('LOADED', *(m for m in {HEAVY!r} if m in sys.modules))"
    done = python("import sys\n" + code + tail, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded("import cicm, cicm.conventions; cicm.__version__; dir(cicm)") == []


def test_the_front_door_loads_nothing_heavy() -> None:
    for words in (["--help"], ["--version"], []):
        assert loaded("from cicm.cli.main import main\nassert main(sys.argv[1:]) == 0", *words) == [], words


def test_the_check_above_would_notice() -> None:
    assert loaded("import numpy") == ["numpy"]


def test_names_at_the_top_are_found_where_they_live() -> None:
    import cicm

    for name in cicm.__all__:
        if name != "__version__":
            assert getattr(cicm, name).__name__.rpartition(".")[2] == name
    with pytest.raises(AttributeError, match=r"it offers .*ContextMemory"):
        cicm.Nothing  # noqa: B018


# Doors ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_helps_at_once(verb: str) -> None:
    """Exit code 0, an example, and no torch: options are parsed before anything heavy is loaded."""
    code = (
        "import sys\nfrom cicm.cli.main import main\n"
        "try:\n    code = main([sys.argv[1], '--help'])\nexcept SystemExit as stop:\n    code = stop.code\n"
        "print('HEAVY', *{'torch', 'lightning_fabric', 'cv2'} & set(sys.modules))\nsys.exit(code)"
    )
    done = python(code, verb)
    assert done.returncode == 0, done.stderr
    assert f"cicm {verb}" in done.stdout
    assert re.search(r"(?m)^examples?:\n  +cicm ", done.stdout), "no example in the help"
    assert done.stdout.splitlines()[-1] == "HEAVY"
    assert done.stderr == ""


def test_an_option_that_is_none_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture) -> None:
    for verb in VERBS:
        assert main([verb, "--no-such-option"]) == 2, verb
        out, err = capsys.readouterr()
        assert out == "", verb
        assert err.startswith("cicm: error: "), verb
        assert err.count("\n") == 1, verb


def test_an_unknown_verb_is_exit_code_2_with_a_suggestion(capsys: pytest.CaptureFixture) -> None:
    for word, hint in (("inpant", "'inpaint'"), ("Train", "'train'"), ("zzz", "the verbs are")):
        assert main([word]) == 2, word
        _, err = capsys.readouterr()
        assert err.startswith(f"cicm: error: unknown verb '{word}'; "), word
        assert hint in err, word
        assert err.count("\n") == 1, word


def test_the_console_script_is_the_front_door(root: Path) -> None:
    import tomllib

    assert tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"] == {"cicm": "cicm.cli.main:main"}
    done = subprocess.run(
        [sys.executable, "-m", "cicm.cli.main", "zzz"], capture_output=True, text=True, env=ENV, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")


# What is documented ---------------------------------------------------------------------------------------------------


EQUATIONS = {
    "cicm.memory.rules.route": "Eq. 1",
    "cicm.memory.rules.inject": "Eq. 2 and 3",
    "cicm.memory.rules.settle": "Eq. 2, then Eq. 3",
    "cicm.memory.rules.read": "Eq. 4",
    "cicm.memory.rules.augment": "Eq. 4",
    "cicm.memory.losses.ratio_error": "Eq. 7",
    "cicm.memory.losses.pixel_ratio": "Eq. 7",
    "cicm.memory.losses.inter_set": "Eq. 8",
    "cicm.memory.losses.intra_set": "Eq. 8",
    "cicm.objectives.reconstruction.reconstruction": "Eq. 5",
    "cicm.objectives.adversarial.generator_loss": "Eq. 5",
    "cicm.objectives.adversarial.discriminator_loss": "Eq. 5",
    "cicm.objectives.total.weighted_total": "Eq. 9",
    "cicm.ops.similarity.similarity": "Eq. 1",
}
"""Each equation and its home; Eq. 6 is within `generator_loss`."""


def test_an_equation_is_named_where_it_lives() -> None:
    for name, equation in EQUATIONS.items():
        module, function = name.rsplit(".", 1)
        text = inspect.getdoc(getattr(importlib.import_module(module), function)) or ""
        assert equation in " ".join(text.split()), name


def test_each_equation_has_a_home() -> None:
    numbers = {int(n) for text in EQUATIONS.values() for n in re.findall(r"\d", text)}
    assert numbers == {1, 2, 3, 4, 5, 7, 8, 9}
    assert "Eq. 6" in inspect.getdoc(importlib.import_module("cicm.objectives.adversarial").generator_loss)


@pytest.mark.parametrize("room", ["ops", "memory", "networks", "objectives", "assembly"])
def test_everything_public_has_a_docstring(root: Path, room: str) -> None:
    inherited = {"forward"}  # documented in the contract
    missing = []
    for path in sorted((root / "src" / "cicm" / room).glob("*.py")):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        classes = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
        holders = [("", tree), *((n.name + ".", n) for n in classes)]
        for prefix, holder in holders:
            for node in holder.body:
                if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                    continue
                overrides = prefix and node.name in inherited | {"report", "read", "seed_", "extra_repr"}
                if not ast.get_docstring(node) and not overrides:
                    missing.append(f"{path.name}: {prefix}{node.name}")
    assert missing == []


# What is linked -------------------------------------------------------------------------------------------------------


LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|<(?:img|a)[^>]+(?:src|href)=\"([^\"]+)\"")


def links(text: str) -> list[str]:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    return [one or other for one, other in LINK.findall(text)]


def test_links_are_found_at_all() -> None:
    text = '[a](docs/x.md#part) ![b](y.png "t") <img src="z.jpg"> [c](https://e.org) ```[no](no.md)``` `[d](d.md)`'
    assert links(text) == ["docs/x.md#part", "y.png", "z.jpg", "https://e.org"]


def test_relative_links_point_to_files_that_exist(root: Path) -> None:
    broken = []
    for page in [*root.glob("*.md"), *(root / "docs").rglob("*.md")]:
        for link in links(page.read_text()):
            if re.match(r"[a-z]+:", link) or link.startswith("#"):
                continue
            target = page.parent / link.split("#")[0]
            if not target.resolve().is_relative_to(root) or not target.exists():
                broken.append(f"{page.relative_to(root)}: {link}")
    assert broken == []


# What must not be said ------------------------------------------------------------------------------------------------


# a path of one machine; put together here, so that this file does not hold what it looks for
TOPS = "work", "farm", "tmp", "root", r"home/\w+", r"Users/\w+"
PLACES = re.compile(rf"(?<![\w./:~-])/(?:{'|'.join(TOPS)})/")


def tracked(root: Path) -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("not a git checkout: what is tracked can't be told")
    return [path for name in done.stdout.split("\0") if name and (path := root / name).is_file()]


def test_the_pattern_finds_paths_of_one_machine_only() -> None:
    for text in ("see " + "/wor" + "k/main", "'/tm" + "p/x.png'", "=/hom" + "e/me/y"):
        assert PLACES.search(text), text
    for text in ("https://e.org/tm" + "p/x", "net" + "/work" + "s/", "a/ro" + "ot/b", "../tm" + "p/x"):
        assert not PLACES.search(text), text


def test_no_path_of_one_machine_in_any_file(root: Path) -> None:
    found = []
    for path in tracked(root):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # pictures and weights
        found += [f"{path.relative_to(root)}: {m[0]}" for m in PLACES.finditer(text)]
    assert found == []


def test_no_file_is_larger_than_a_repository_should_hold(root: Path) -> None:
    large = [f"{p.relative_to(root)}: {p.stat().st_size}" for p in tracked(root) if p.stat().st_size > 64 * 2**20]
    assert large == []
