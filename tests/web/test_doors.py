"""Every door fills the same photo with the same pixels: command, folder, page, REST, Python and look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.assembly import ModelConfig, build, save_weights
from cicm.cli.main import main
from cicm.folders import FolderTask, MaskFolder, fill_folder
from cicm.inference import Inpainter
from cicm.look import look
from cicm.memory import MemoryConfig
from cicm.photos import Marks, open_photo
from cicm.web.server import create_app

from .conftest import Served, photo, serving

BOX = (300, 260, 372, 330)  # in the midst of 700x560, so that the margins matter


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo, its mask, and the weights of a small model with a memory."""
    folder = tmp_path_factory.mktemp("doors")
    torch.manual_seed(0)
    config = ModelConfig("unet", {"width": 4}, {"bottom": MemoryConfig(sets=2, contexts=3)})
    model = build(config)
    model.memories["bottom"].seed_(torch.randn(64, model.network.site("bottom").channels), torch.Generator())
    save_weights(folder / "small.safetensors", model, config)
    for name in ("photos", "masks"):
        (folder / name).mkdir()
    (folder / "photos" / "a.png").write_bytes(photo(700, 560))
    hole = np.zeros((560, 700), dtype=np.uint8)
    hole[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    Image.fromarray(hole).save(folder / "masks" / "a.png")
    return folder


def pixels(file: Path) -> np.ndarray:
    return np.array(Image.open(file))


def test_all_doors_give_one_picture(place: Path) -> None:
    httpx = pytest.importorskip("httpx", reason="httpx is in the extra `dev`")
    weights, image_file, mask_file = place / "small.safetensors", place / "photos" / "a.png", place / "masks" / "a.png"
    inpainter = Inpainter.from_pretrained(weights, device="cpu")
    image, hole = pixels(image_file), pixels(mask_file) > 127
    expected = inpainter(image, hole)
    assert inpainter.report is not None
    assert inpainter.report.box != (0, 0, 700, 560), "the photo is larger than what is seen whole"
    assert (expected != image).any(2).sum() > 0.9 * hole.sum()

    # Python: path, PIL, tensor; a box instead of a mask
    assert np.array_equal(np.array(inpainter(image_file, mask_file)), expected)
    assert np.array_equal(np.array(inpainter(Image.fromarray(image), Marks(boxes=(BOX,)))), expected)
    tensor = inpainter(torch.from_numpy(image).permute(2, 0, 1) / 255, torch.from_numpy(hole)[None].float())
    exact = inpainter(image.astype(np.float32) / 255, hole)
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), exact)
    # 8-bit values are rounded after each step of a fill, floating ones are not
    assert np.abs(tensor.permute(1, 2, 0).numpy() * 255 - expected).max() < 1

    # The command: one photo, by mask, box and polygon; a folder
    left, top, right, bottom = BOX
    common = ["--weights", str(weights), "--device", "cpu", "--quiet"]
    for number, where in enumerate(
        (
            ["--mask", str(mask_file)],
            ["--box", f"{left},{top},{right - left},{bottom - top}"],
            ["--polygon", f"{left},{top},{right},{top},{right},{bottom},{left},{bottom}"],
        )
    ):
        output = place / f"{number}.png"
        assert main(["inpaint", str(image_file), *where, "-o", str(output), *common]) == 0
        assert np.array_equal(pixels(output), expected), where
    out = place / "out"
    assert main(["inpaint", str(place / "photos"), "--masks", str(place / "masks"), "-o", str(out), *common]) == 0
    assert np.array_equal(pixels(out / "a.png"), expected)
    fill_folder(inpainter, FolderTask(place / "photos", place / "again", MaskFolder(place / "masks")))
    assert (place / "again" / "a.png").read_bytes() == (out / "a.png").read_bytes() == output.read_bytes()

    # REST, with a mask and with boxes; the page sends the mask as a one-bit PNG and the photo's own bytes
    guard = create_app(inpainter)
    with serving(guard) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        served = Served(url, guard, client)
        one_bit = place / "page.png"
        Image.fromarray(hole).save(one_bit)
        sent = [
            served.inpaint(image_file.read_bytes(), mask_file.read_bytes()),
            served.inpaint(image_file.read_bytes(), one_bit.read_bytes()),
            served.inpaint(image_file.read_bytes(), boxes=f"[[{left}, {top}, {right}, {bottom}]]"),
        ]
    for answer in sent:
        assert answer.status_code == 200, answer.text
        assert answer.content == output.read_bytes()


def test_look_shows_the_fill_of_every_door(place: Path) -> None:
    """Where one call of the network fills the hole; else it fills in one piece, which its page then shows."""
    opened, mask_file = open_photo(place / "photos" / "a.png"), place / "masks" / "a.png"
    for fill in ("both", "network"):
        inpainter = Inpainter.from_pretrained(place / "small.safetensors", device="cpu", fill=fill)
        found = look(inpainter, opened, mask_file)
        assert np.array_equal(found.repaired, inpainter(pixels(place / "photos" / "a.png"), mask_file))
        assert found.report.box == inpainter.report.box
    tiled = Inpainter(inpainter.model, device="cpu", tile=32, fill="network")
    found = look(tiled, opened, mask_file)
    in_one = Inpainter(inpainter.model, device="cpu", tile=32, strategy="resize", fill="network")
    assert np.array_equal(found.repaired, in_one(pixels(place / "photos" / "a.png"), mask_file))
    assert found.report.box == in_one.plan(pixels(mask_file) > 127).box


def test_a_photo_given_as_mask_is_told_by_every_door(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    httpx = pytest.importorskip("httpx", reason="httpx is in the extra `dev`")
    image_file = place / "photos" / "a.png"
    for name in ("photos", "wrong"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(photo(700, 560, seed=1))
    common = ["--weights", str(place / "small.safetensors"), "--device", "cpu"]
    words = "is not black and white"
    assert main(["inpaint", str(image_file), "--mask", str(image_file), "-o", str(tmp_path / "o.png"), *common]) == 0
    assert words in capsys.readouterr().err
    folders = [str(tmp_path / "photos"), "--masks", str(tmp_path / "wrong"), "-o", str(tmp_path / "out")]
    assert main(["inpaint", *folders, *common]) == 0
    assert words in capsys.readouterr().err
    guard = create_app(Inpainter.from_pretrained(place / "small.safetensors", device="cpu"))
    with serving(guard) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        answer = Served(url, guard, client).inpaint(image_file.read_bytes(), image_file.read_bytes())
    assert words in answer.headers["Cicm-Notes"]
