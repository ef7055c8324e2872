"""A table of two rows that trains in seconds: pictures of 32x32, a UNet of width 2, three steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.tables import Series, Table, load_table

TOY = """
title = "Toy"
caption = "Two rows."
[scale.toy]
about = "three steps"
seeds = [0, 1]
metrics = ["psnr", "l1"]
[scale.toy.set]
"training.steps" = 3
"training.warmup_steps" = 0
"training.validate_every_steps" = 0
"training.val_images" = 1
"training.save_every_steps" = 1
"training.memory_seed_batches" = 4
"data.crop" = 32
"data.batch_size" = 2
"data.kinds" = ["boxes"]
"data.bands" = ["0-20"]
"model.options.width" = 2
[scale.toy.data.pictures]
about = "noise"
root = "photos"
size = 32
[scale.toy.recipes]
plain = { recipe = "unet-cicm-toy", set = { "model.memories" = {} } }
[[part]]
title = "Toys"
data = "pictures"
[[part.row]]
label = "plain"
recipe = "plain"
paper = { psnr = ["20.10", "10.20", "5.30"] }
[[part.row]]
label = "w/ memory"
recipe = "unet-cicm-toy"
baseline = "plain"
note = "a doubt"
paper = { psnr = ["20.30", "10.10", "6.00"] }
[[part.row]]
label = "SRM"
missing = "SRM is not among our networks"
paper = { psnr = ["30.00", "20.00", "10.00"] }
"""


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures and the table file, and the current one."""
    rng = np.random.default_rng(0)
    for part, count in {"train": 3, "val": 1, "test": 2}.items():
        (tmp_path / "photos" / part).mkdir(parents=True)
        for number in range(count):
            picture = rng.integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(picture).save(tmp_path / "photos" / part / f"{number}.png")
    (tmp_path / "toy.toml").write_text(TOY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def toy(house: Path) -> Table:
    return load_table("toy.toml")


@pytest.fixture
def series(toy: Table) -> Series:
    return Series(toy, "toy")
