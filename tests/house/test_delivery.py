"""What a user gets beside the source: the wheel, the container, the notebook, `python -m cicm`, completion."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from cicm.cli import serve
from cicm.cli.completion import SHELLS, script
from cicm.cli.main import VERBS, main


def run(*command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, env=os.environ | env, timeout=600)


# The command ----------------------------------------------------------------------------------------------------------


def test_the_package_runs_as_a_module() -> None:
    done = run(sys.executable, "-m", "cicm", "--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "cicm")


def test_completion_knows_all_verbs_and_their_options() -> None:
    pytest.importorskip("shtab")
    for shell in SHELLS:
        text = script(shell, VERBS)
        assert all(verb in text for verb in VERBS), shell
        assert "overwrite" in text, shell


def test_completion_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["--completion", "bash"]) == 0
    (tmp_path / "cicm.bash").write_text(capsys.readouterr().out)
    (tmp_path / "mask.png").touch()
    for line, wanted in {
        "cicm in": {"inpaint"},
        "cicm inpaint --over": {"--overwrite"},
        "cicm inpaint photo.jpg --mask m": {"mask.png"},
        "cicm convert --to ori": {"original"},
    }.items():
        words = line.split()
        ask = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _shtab_cicm"
        command = f'cd "$0"; source cicm.bash; {ask}; echo "${{COMPREPLY[@]}}"'
        done = run("bash", "-c", command, tmp_path)
        assert set(done.stdout.split()) == wanted, (line, done.stderr)


def test_completion_for_an_unknown_shell_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", "fish"]) == 2
    assert "choose one of bash, zsh, tcsh" in capsys.readouterr().err


# The notebook ---------------------------------------------------------------------------------------------------------


def test_the_notebook_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "examples")
    notebook = json.loads(Path("repair.ipynb").read_text("utf-8"))
    space: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(notebook["cells"]):
        assert not cell.get("outputs"), "clear the notebook's outputs before you commit it"
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"repair.ipynb, cell {number}", "exec"), space)
    assert float(str(space["psnr"])) > 33


# The container: read, not built, since the tests have no container engine ---------------------------------------------


def test_the_container_copies_what_exists_and_starts_what_parses(root: Path) -> None:
    lines = (root / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    allowed = (root / ".dockerignore").read_text().split()
    for line in lines:
        if line.startswith("COPY"):
            for name in line.split()[1:-1]:
                assert (root / name).exists(), name
                assert f"!{name.removeprefix('./')}" in allowed, f".dockerignore hides {name}"
    extras = re.search(r'"\.\[([\w,]+)\]"', "\n".join(lines))
    assert extras
    for extra in extras[1].split(","):
        assert f"\n{extra} = [" in (root / "pyproject.toml").read_text()
    torch = re.search(r'"torch==([\d.]+)\+cpu"', "\n".join(lines))
    assert torch
    assert f"torch=={torch[1]}\n" in (root / "constraints.txt").read_text()
    program, verb, *options = json.loads(lines[-1].removeprefix("CMD "))
    assert (program, verb) == ("cicm", "serve")
    parsed = serve.build_parser().parse_args(options)
    assert f"EXPOSE {parsed.port}" in lines
    assert shlex.join(options).startswith("--host 0.0.0.0")


# The wheel ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_wheel_fills_a_photo_and_says_on_which_terms(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    built = run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, root
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("cicm-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (info,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(info).decode())
        notice = archive.read(info.replace("METADATA", "licenses/NOTICE")).decode()
    assert "non-commercial" in notice
    assert "non-commercial" in metadata["Summary"]
    assert metadata["License-Expression"].endswith("LicenseRef-Non-Commercial-Weights")
    ours = ("LICENSE.unet-cicm-scenes", "LICENSE.joiner")
    for file in ("LICENSE", "NOTICE", "LICENSE.lpips", "LICENSE.keras-squeezenet", *ours):
        assert any(name.endswith(f"/{file}") and "dist-info/licenses" in name for name in names), file
    assert not [name for name in names if name.startswith(("tests", "docs", "experiments"))]

    site = tmp_path / "site"
    put = run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel)
    assert put.returncode == 0, put.stderr
    where = run(sys.executable, "-c", "import cicm; print(cicm.__file__)", PYTHONPATH=str(site)).stdout
    assert where.startswith(str(site))
    photo, mask = root / "examples" / "photos" / "barn.jpg", root / "examples" / "masks" / "barn.png"
    out = tmp_path / "repaired.jpg"
    done = run(
        sys.executable,
        "-m",
        "cicm",
        "inpaint",
        photo,
        "--mask",
        mask,
        "-o",
        out,
        "--device",
        "cpu",
        PYTHONPATH=str(site),
    )
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 10_000
