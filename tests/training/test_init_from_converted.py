"""A memory is added to converted weights with one line of a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cicm.assembly import load_weights
from cicm.assembly.conversion import convert
from cicm.cli.main import main
from cicm.networks import create
from cicm.networks.originals import original_code

from .test_resume import command

MISF = {
    "model.network": "misf",
    "model.options.width": 2,
    "training.steps": 1,
    "training.lr": 0.0,
    "training.ema_decay": 0.0,
    "training.precision": "32-true",
    "training.validate_every_steps": 0,
}


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    torch.manual_seed(8)
    original = tmp_path / "original.pth"
    torch.save({"iteration": 3, "generator": original_code("misf").to_original(create("misf", width=2))}, original)
    return convert("misf", [original], tmp_path / "misf.safetensors").paths[0]


def test_the_network_comes_along_and_the_memory_starts_fresh(
    photos: Path, tmp_path: Path, converted: Path, capfd: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    assert main(command(photos, run, **MISF | {"training.init": str(converted)})) == 0
    told = capfd.readouterr().err
    assert f"the network begins from {converted}" in told
    assert f"the memory at bottom starts fresh: {converted} has none there" in told

    before, after = load_file(converted), load_file(run / "weights.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert load_weights(run / "weights.safetensors").model.memories["bottom"].filled  # seeded, and trained for a step

    # a file with that memory brings it along, and nothing starts fresh
    again = {"training.init": str(run / "weights.safetensors")}
    assert main(command(photos, tmp_path / "again", **MISF | again)) == 0
    assert "starts fresh" not in capfd.readouterr().err
    other = again | {"model.memories.bottom.contexts": 3}
    assert main(command(photos, tmp_path / "other", **MISF | other)) == 0
    assert "the memory at bottom starts fresh" in (told := capfd.readouterr().err)
    assert "has it in another configuration" in told
