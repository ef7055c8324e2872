"""The paper's scale with nothing but the data sets' layouts: one command per table finds everything it would train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.cli.main import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Cityscapes and Outdoor Scenes of one photo a split, large enough to be scored at 256."""
    photo = np.random.default_rng(0).integers(0, 255, (256, 320, 3), np.uint8)
    label = np.full((256, 320), 7, np.uint8)
    for split in ("train", "val", "test"):
        for kind, what, pixels in (("leftImg8bit", "leftImg8bit", photo), ("gtFine", "gtFine_labelIds", label)):
            folder = tmp_path / "cityscapes" / kind / split / "ulm"
            folder.mkdir(parents=True)
            Image.fromarray(pixels).save(folder / f"ulm_000000_000000_{what}.png")
    for folder, pixels in (
        ("OutdoorSeg/images/a.png", photo),
        ("OutdoorSeg/annotations/a.png", label),
        ("OutdoorSceneTest300/a.png", photo),
        ("OutdoorSceneTest300_anno/a.png", label),
    ):
        (tmp_path / "outdoor" / folder).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "outdoor" / folder)
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*a complete copy has")
def test_table_5_at_the_papers_scale_is_one_command(data: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    roots = [f"cityscapes={data / 'cityscapes'}", f"outdoor-scenes={data / 'outdoor'}"]
    words = ["5", "--scale", "paper", "--masks", "", *(word for root in roots for word in ("--data", root))]
    code = main(["table", "run", *words, "--dry-run"])
    told = capsys.readouterr().out
    refused = [line for line in told.splitlines() if ": would fail: " in line]
    # what may stand in the way is the file of weights that published losses look at; the line says how to get it
    assert all("needs vgg19" in line for line in refused), refused
    assert code == (1 if refused else 0)
    assert "left out" not in told
    assert "steps of unet-cicm-cityscapes.cityscapes" in told
    assert "steps of unet-cicm-cityscapes.outdoor-scenes" in told
    assert not (tmp_path / "runs").exists()
