"""One inpainter in several threads, and in a process that was forked from one that had used it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from cicm.assembly import ModelConfig, build
from cicm.inference import Inpainter
from cicm.photos.photo import Photo
from cicm.photos.pixels import Pixels


def tiny() -> Inpainter:
    return Inpainter(build(ModelConfig("unet", {"width": 4})), device="cpu", fill="network")


def test_each_thread_gets_the_report_of_its_own_photo() -> None:
    """Both have written what the last call did before either gives its answer."""
    both = threading.Barrier(2)

    class Slow(Inpainter):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "reports" and value:
                both.wait(60)

    inpainter = Slow(build(ModelConfig("unet", {"width": 4})), device="cpu", fill="network")

    def fill(height: int) -> int:
        values = np.random.default_rng(0).integers(0, 256, (height, 40, 3), dtype=np.uint8)
        hole = np.zeros((height, 40), dtype=bool)
        hole[5:9, 5:9] = True
        photo, report = inpainter.fill_photo(Photo(Path("a.png"), "PNG", Pixels(values, "RGB")), hole)
        assert photo.size == (height, 40)
        return report.height

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fill, (36, 48))) == [36, 48]


def test_masks_of_a_batch_as_an_array_are_those_as_a_tensor() -> None:
    inpainter = tiny()
    batch = torch.rand(2, 3, 32, 40)
    masks = torch.zeros(2, 1, 32, 40)
    masks[0, 0, 3:9, 4:9] = 1
    masks[1, 0, 20:25, 30:36] = 1
    filled = inpainter(batch, masks)
    assert torch.equal(inpainter(batch, masks.numpy()), filled)
    assert torch.equal(inpainter(batch, masks.permute(0, 2, 3, 1).numpy()), filled)  # channels last, as photos
    assert torch.equal(inpainter(batch[:1], masks[:1].numpy()), inpainter(batch[:1], masks[:1]))
    assert torch.equal(inpainter(batch[1], masks[1].numpy()), inpainter(batch[1], masks[1]))
    narrow, thin = torch.rand(1, 3, 32, 3), torch.zeros(1, 1, 32, 3)
    thin[0, 0, 3:9] = 1
    assert torch.equal(inpainter(narrow, thin.numpy()), inpainter(narrow, thin))


_FORKED = """
import os, sys
import numpy as np, torch
from cicm.assembly import ModelConfig, build
from cicm.conventions import InputError
from cicm.inference import Inpainter
inpainter = Inpainter(build(ModelConfig("unet", {"width": 4})), device="cpu", fill="network")
image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), bool)
image[::2], mask[20:40, 20:40] = 200, True
torch.set_num_threads(2)
inpainter(image, mask)
if (child := os.fork()) == 0:
    try:
        inpainter(image, mask)
    except InputError as error:
        assert "spawn" in str(error)
        torch.set_num_threads(1)
        inpainter(image, mask)
        os._exit(17)
    os._exit(1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="processes are not forked here")
def test_a_fork_after_a_threaded_forward_is_told_and_does_not_hang() -> None:
    run = subprocess.run([sys.executable, "-c", _FORKED], capture_output=True, text=True, timeout=120)
    assert run.returncode == 17, run.stderr
