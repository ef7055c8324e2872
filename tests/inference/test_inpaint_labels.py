"""`cicm inpaint --labels`: a map changes the fill and no known pixel; every wrong map is one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.assembly import LabelsConfig, ModelConfig, build, save_weights
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.inference import Inpainter
from cicm.memory import MemoryConfig


def weights(path: Path, source: str) -> Path:
    torch.manual_seed(0)
    labels = LabelsConfig("camvid", source, prior=5.0)  # type: ignore[arg-type]
    config = ModelConfig("unet", {"width": 2}, {"bottom": MemoryConfig(sets=11, contexts=2)}, labels)
    model = build(config)
    model.memories["bottom"].seed_(torch.randn(50, 16), torch.Generator().manual_seed(0))
    if source != "none":
        torch.nn.init.normal_(model.guide.enter[2].weight)  # type: ignore[union-attr,index,arg-type]
    return save_weights(path, model, config)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """photo.png of 80x64, mask.png, labels/photo.png, labels/other.png, and weights."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 80, 3), np.uint8)).save(tmp_path / "photo.png")
    mask = np.zeros((64, 80), np.uint8)
    mask[20:40, 20:60] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (tmp_path / "labels").mkdir()
    for name in ("photo", "other"):
        label = rng.integers(0, 12, (4, 5), np.uint8).repeat(16, 0).repeat(16, 1)
        Image.fromarray(label).save(tmp_path / "labels" / f"{name}.png")
    weights(tmp_path / "known.safetensors", "known")
    return tmp_path


def fill(files: Path, output: str, *more: str, use: str = "known.safetensors") -> int:
    words = [str(files / "photo.png"), "--mask", str(files / "mask.png"), "-o", str(files / output), "--quiet"]
    chosen = ["--weights", str(files / use)] if use else []
    return main(["inpaint", *words, *chosen, "--fill", "network", "--device", "cpu", *more])


def test_a_map_changes_the_fill_and_nothing_else(files: Path) -> None:
    labels = str(files / "labels" / "photo.png")
    assert fill(files, "with.png", "--labels", labels) == 0
    assert fill(files, "without.png") == 0
    with_, without, photo = (np.asarray(Image.open(files / name)) for name in ("with.png", "without.png", "photo.png"))
    gone = np.asarray(Image.open(files / "mask.png")) > 0
    assert (with_ != without)[gone].any()
    assert (with_ == photo)[~gone].all()
    # inside the hole nothing is looked at, and a map of nothing but void is as no map
    label = np.array(Image.open(labels))
    Image.fromarray(np.where(gone, 3, label).astype(np.uint8)).save(files / "labels" / "inside.png")
    Image.fromarray(np.full_like(label, 11)).save(files / "void.png")
    (files / "labels" / "photo.png").unlink()  # so that no name says that it is another photo's
    assert fill(files, "inside.png", "--labels", str(files / "labels" / "inside.png")) == 0
    assert fill(files, "void-filled.png", "--labels", str(files / "void.png")) == 0
    assert (np.asarray(Image.open(files / "inside.png")) == with_).all()
    assert (np.asarray(Image.open(files / "void-filled.png")) == without).all()


def test_labels_are_cut_reduced_and_padded_as_the_picture(files: Path) -> None:
    """The network sees the labels where it sees the pixels: a picture whose colour is its label says so."""
    inpainter = Inpainter.from_pretrained(files / "known.safetensors", device="cpu", strategy="resize", max_side=40)
    label = np.asarray(Image.open(files / "labels" / "photo.png"))
    photo = np.repeat(label[..., None] * 20, 3, 2).astype(np.uint8)
    Image.fromarray(photo).save(files / "told.png")
    seen = {}

    def look(corrupted, hole, label):
        seen.update(corrupted=corrupted, label=label, hole=hole)
        return build(ModelConfig("unet", {"width": 2}))(corrupted, hole)

    inpainter.look_at_labels(files / "labels" / "photo.png", (64, 80))
    inpainter.model.forward = look  # type: ignore[method-assign]
    mask = np.zeros((64, 80), np.uint8)
    mask[12:24, 12:40] = 255
    inpainter(files / "told.png", mask)
    assert seen["label"].shape == seen["corrupted"][:, 0].shape == (1, 32, 48)
    values, known = torch.where(seen["label"] == 255, 11, seen["label"])[0], seen["hole"][0, 0] == 0
    assert torch.equal((seen["corrupted"][0, 0] * 255 / 20).round()[known], values.float()[known])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: Image.new("L", (64, 80)).save(f / "labels" / "photo.png"), "of 64x80 for a photo of 80x64"),
        (lambda f: Image.new("L", (80, 64), 12).save(f / "labels" / "photo.png"), "photo.png: has the value 12 at x 0"),
        (lambda f: Image.new("RGB", (80, 64)).save(f / "labels" / "photo.png"), "one number for each pixel"),
        (lambda f: (f / "labels" / "photo.png").unlink(), "photo.png"),
        (lambda f: (f / "labels" / "photo.png").write_bytes(b"no picture"), "photo.png"),
    ],
)
def test_a_wrong_map_is_one_line_and_nothing_is_written(files: Path, capsys, change, told: str) -> None:
    change(files)
    assert fill(files, "out.png", "--labels", str(files / "labels" / "photo.png")) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert told in line
    assert not (files / "out.png").exists()


def test_the_map_of_another_photo_is_told(files: Path, capsys) -> None:
    assert fill(files, "out.png", "--labels", str(files / "labels" / "other.png")) == 2
    assert "other.png is the label map of another photo" in capsys.readouterr().err


def test_weights_that_look_at_no_labels(files: Path, capsys) -> None:
    labels = str(files / "labels" / "photo.png")
    assert fill(files, "out.png", "--labels", labels, use="") == 2
    assert "labels need weights that were trained with them; this model looks at no labels" in capsys.readouterr().err
    weights(files / "none.safetensors", "none")
    assert fill(files, "out.png", "--labels", labels, use="none.safetensors") == 2
    assert "with the source 'none' looks at no map" in capsys.readouterr().err


def test_folders_and_tiles_are_refused(files: Path, capsys) -> None:
    labels = str(files / "labels" / "photo.png")
    assert fill(files, "out.png", "--labels", labels, "--strategy", "tile") == 2
    assert "sees the photo in one piece" in capsys.readouterr().err
    words = [str(files / "labels"), "--mask", str(files / "mask.png"), "-o", str(files / "all"), "--labels", labels]
    assert main(["inpaint", *words]) == 2
    assert "--labels is for one photo" in capsys.readouterr().err


def test_values_are_those_of_the_data_set_that_the_model_knows(files: Path) -> None:
    inpainter = Inpainter.from_pretrained(files / "known.safetensors", device="cpu")
    with pytest.raises(InputError, match="a photo of 81x64"):
        inpainter.look_at_labels(files / "labels" / "photo.png", (64, 81))
    inpainter.look_at_labels(files / "labels" / "photo.png", (64, 80))
    assert inpainter.settings.strategy == "resize"
