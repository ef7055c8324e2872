"""The words before any verb: one clear line for habits of other programs and for what is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cicm.cli.main import main
from cicm.inference import FillSettings


def test_run_is_a_habit_of_another_program(capsys: pytest.CaptureFixture) -> None:
    assert main(["run", "--image", "a.png"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "no verb 'run' (IOPaint has). Use cicm inpaint PHOTO --mask MASK -o OUTPUT" in told


def test_verbs_that_need_torch_say_so(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    gone = "import sys; sys.modules.update(torch=None, onnxruntime=None)"
    code = f"{gone}; from cicm.cli.main import main; sys.exit(main(sys.argv[1:]))"
    for words in (["inpaint", "a.png", "--box", "1,1,5,5", "-o", "b.png"], ["networks"], ["serve", "--port", "0"]):
        done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert f"cicm {words[0]} needs PyTorch, which is not installed. Run: pip install torch" in done.stderr


def test_help_shows_the_defaults_that_python_has(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["inpaint", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    default = FillSettings()
    for option, value in (
        ("--margin", default.margin),
        ("--max-side", default.max_side),
        ("--feather", default.feather),
    ):
        assert f"(default: {value})" in told.partition(f"{option} ")[2].partition(" --")[0]
    assert "(default: auto)" in told.partition("--strategy")[2]
