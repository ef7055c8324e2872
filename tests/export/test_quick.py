"""The model that ships without torch: the same numbers, chosen where nothing speaks against it, and said so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.export import quick
from cicm.export.opening import open_inpainter
from cicm.inference import Inpainter

pytest.importorskip("onnxruntime", reason="the extra `export`")


@pytest.fixture
def plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "_accelerator", lambda: False)


@pytest.mark.parametrize("size", [(64, 80), (150, 97)])
def test_it_gives_what_torch_gives(size: tuple[int, int]) -> None:
    """1e-4 of 1: float32, sums in another order; measured 9e-6. A graph that is out of date fails here."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize(size[::-1], Image.Resampling.BICUBIC)
    photo = np.asarray(coarse, np.float32) / 255
    hole = np.zeros(size, bool)
    hole[20:45, 30:60] = True
    settings = Inpainter.from_pretrained(device="cpu", fill="network").settings
    theirs = Inpainter.from_pretrained(device="cpu", settings=settings)(photo, hole)
    ours = quick.open_quick(settings=settings)(photo, hole)
    assert np.abs(ours - theirs).max() < 1e-4
    assert np.abs(ours - photo)[hole].max() > 1e-2
    assert np.array_equal(ours[~hole], photo[~hole])


def test_the_graph_holds_no_numbers_of_its_own() -> None:
    assert (quick.FOLDER / f"{quick.SHIPPED}.onnx").stat().st_size < 200_000


def test_it_is_chosen_where_nothing_speaks_against_it(plain_machine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "onnxruntime" in str(open_inpainter(quick=True).device)
    for choice in ({}, {"quick": True, "device": "cpu"}):
        assert str(open_inpainter(**choice).device) in ("cpu", "cuda", "mps")
    monkeypatch.setattr(quick, "_accelerator", lambda: True)
    assert not quick.available("auto")
    monkeypatch.undo()
    monkeypatch.setattr(quick, "_accelerator", lambda: False)
    monkeypatch.setattr(quick, "find_spec", lambda name: None)
    assert not quick.available("auto")


@pytest.mark.skipif(quick._accelerator(), reason="this machine looks like one with a GPU, where torch is used")
def test_the_command_does_not_load_torch_and_says_what_it_did(root: Path, tmp_path: Path) -> None:
    words = ["inpaint", str(root / "examples/photos/barn.jpg"), "--mask", str(root / "examples/masks/barn.png")]
    program = (
        "import sys; from cicm.cli.main import main; code = main(sys.argv[1:]);"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    command = [sys.executable, "-c", program, *words, "-o", str(tmp_path / "o.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "on cpu (onnxruntime, within 1e-4 of torch)" in done.stdout
