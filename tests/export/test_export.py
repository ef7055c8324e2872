"""`cicm export`: every network, at sizes it was not traced at; and nothing is written that is not the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor

from cicm.assembly import ModelConfig, build, load_weights, save_weights
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.export import export as export_room
from cicm.export.export import ExportError, check_export, example, export
from cicm.export.onnx_runtime import OnnxInpainter, open_session
from cicm.inference import Inpainter
from cicm.memory import MemoryConfig

MODELS = {
    "unet": ModelConfig("unet", {"width": 4, "start": "biharmonic"}, {"bottom": MemoryConfig(sets=3, contexts=4)}),
    "unet-true": ModelConfig(
        "unet", {"width": 4}, {"down2": MemoryConfig(sets=2, contexts=3, ratio="true", read_top=0.5)}
    ),
    "rfr": ModelConfig("rfr", {"width": 8}, {"bottom": MemoryConfig(sets=2, contexts=3)}),
    "misf": ModelConfig("misf", {"width": 4}, {"bottom": MemoryConfig(sets=2, contexts=3)}),
    "gated": ModelConfig("gated", {"width": 4}, {"bottom": MemoryConfig(sets=2, contexts=3)}),
    "pen": ModelConfig("pen", {"width": 4}, {"attended4": MemoryConfig(sets=2, contexts=3)}),
    "jpgnet": ModelConfig("jpgnet", {"width": 4}, {"bottom": MemoryConfig(sets=2, contexts=3)}),
}
CARD = {"licence": "for tests only", "data": "none"}


def saved(folder: Path, name: str) -> Path:
    torch.manual_seed(0)
    model = build(MODELS[name])
    for memory in model.memories.values():
        memory.seed_(torch.rand(60, memory.channels), torch.Generator().manual_seed(1))
    return save_weights(folder / f"{name}.safetensors", model, MODELS[name], CARD)


def exported(*words: str, cwd: Path) -> str:
    """Run `cicm export` in a process of its own, where no shape is checked while a network is traced."""
    command = [sys.executable, "-m", "cicm.cli.main", "export", *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def pair(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Not one of those that the export itself is checked with: noise, and holes of random places."""
    random = torch.Generator().manual_seed(7)
    image, hole = example(batch, height, width)
    image = (image + 0.1 * torch.rand(image.shape, generator=random)).clamp(0, 1)
    return image, torch.maximum(hole.flip(3), (torch.rand(hole.shape, generator=random) > 0.97).float())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_onnx_equals_the_model(tmp_path: Path, name: str) -> None:
    weights = saved(tmp_path, name)
    printed = exported(weights.name, "--to", "onnx", "-o", "a.onnx", cwd=tmp_path)
    assert "equals the model" in printed
    loaded = load_weights(weights)
    session, rule = open_session(tmp_path / "a.onnx", "cpu"), export_room.exported_rule(loaded.model.network.size)
    # In a hole of about 100 pixels torch's biharmonic start, in float32, is not exact to four digits; the file's is.
    smallest = (1, 32, 32) if name != "unet" else (1, 64, 64)
    for size in (smallest, (2, 100, 60), (5, 33, 150)):
        image, hole = pair(size[0], *rule.nearest(*size[1:]))
        with torch.inference_mode():
            expected = loaded.model(image * (1 - hole), hole).composite.numpy()
        found = session.run(None, {"image": image.numpy(), "hole": hole.numpy()})[0]
        assert np.abs(found - expected).max() < 1e-4  # float32, sums in another order
        outside = np.broadcast_to(hole.numpy() == 0, found.shape)
        assert np.array_equal(found[outside], image.numpy()[outside])

    model = onnx.load(tmp_path / "a.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["licence"] == CARD["licence"]
    assert json.loads(about["cicm.card"]) == CARD
    assert json.loads(about["cicm.size"]) == asdict(export_room.exported_rule(rule))
    assert ModelConfig.from_dict(json.loads(about["cicm.config"])) == MODELS[name]
    assert [opset.domain for opset in model.opset_import] == [""]
    assert str(Path.cwd()).encode() not in (tmp_path / "a.onnx").read_bytes(), "no paths of the machine that wrote it"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.onnx", weights.name])


@pytest.mark.slow
def test_a_program_of_torch_equals_the_model(tmp_path: Path) -> None:
    weights = saved(tmp_path, "unet-true")
    exported(weights.name, "--to", "torch", "-o", "a.pt2", cwd=tmp_path)
    about = dict.fromkeys(("licence", "cicm.size", "cicm.card"), "")
    program = torch.export.load(tmp_path / "a.pt2", extra_files=about).module()
    assert about["licence"] == CARD["licence"]
    model = load_weights(weights).model
    for size in ((1, 32, 32), (2, 112, 64)):
        image, hole = pair(*size)
        with torch.inference_mode():
            assert (program(image, hole) - model(image * (1 - hole), hole).composite).abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.shared
def test_photos_come_out_as_with_torch(tmp_path: Path, shared: Path) -> None:
    """The weights that ship, on real photos with real masks: after rounding at most 1 of 255 apart."""
    exported("--to", "onnx", "-o", "cicm.onnx", cwd=tmp_path)
    photos = sorted((shared / "data/scenes/test").glob("*.jpg"))[:4]
    masks = [sorted((shared / "data/masks" / band).glob("*"))[0] for band in ("0-20", "20-40", "40-60")]
    for options in ({}, {"strategy": "tile", "tile": 128, "widest": 40}, {"strategy": "resize", "max_side": 160}):
        ours = OnnxInpainter.from_file(tmp_path / "cicm.onnx", device="cpu", **options)
        theirs = Inpainter.from_pretrained(device="cpu", **options)
        for index, path in enumerate(photos):
            image = Image.open(path).convert("RGB")
            mask = Image.open(masks[index % 3]).convert("L").resize(image.size, Image.Resampling.NEAREST)
            difference = np.abs(np.array(ours(image, mask)).astype(int) - np.array(theirs(image, mask)))
            assert difference.max() <= 1
            assert (difference > 0).mean() < 1e-3


# What is refused


def test_where_nothing_is_written(tmp_path: Path) -> None:
    for kind, name, words in (
        ("onnx", "a.pt2", r"must end in \.onnx"),
        ("torch", "a.onnx", r"must end in \.pt2"),
        ("tflite", "a.tflite", "onnx or torch"),
        ("onnx", "there.onnx", "exists"),
        ("onnx", "none/a.onnx", "Make it first"),
        ("onnx", ".", "is a folder"),
    ):
        (tmp_path / "there.onnx").write_bytes(b"precious")
        with pytest.raises(InputError, match=words):
            check_export(tmp_path / name, kind)
        assert (tmp_path / "there.onnx").read_bytes() == b"precious", kind


@pytest.mark.parametrize("wrong", [0.9, float("nan"), None], ids=["another fill", "NaN", "an error"])
def test_what_is_not_the_model_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, wrong: float | None
) -> None:
    weights = saved(tmp_path, "unet-true")
    loaded = load_weights(weights)

    def write(program, inputs, about, path) -> None:
        if wrong is None:
            raise RuntimeError("no such operator\nand much more")
        Path(path).write_bytes(b"something")

    def run(path):
        return lambda image, hole: image * (1 - hole) + hole * wrong

    target = tmp_path / "a.pt2"
    target.write_bytes(b"the one before")
    monkeypatch.setattr(export_room, "_write_torch", write)
    monkeypatch.setattr(export_room, "_run_torch", run)
    with pytest.raises(ExportError, match="no such operator$" if wrong is None else "differs from the model"):
        export(loaded, target, "torch", overwrite=True)
    assert target.read_bytes() == b"the one before"
    assert {path.name for path in tmp_path.iterdir()} == {"a.pt2", weights.name}
    words = ["export", str(weights), "--to", "torch", "-o", str(target), "--overwrite"]
    assert main(words) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_without_the_packages_it_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"onnxscript.*cicm\[export\]"):
        export(load_weights(saved(tmp_path, "unet-true")), tmp_path / "a.onnx", "onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"onnxruntime.*cicm\[export\]"):
        open_session(tmp_path / "a.onnx")


def test_examples_are_smooth_and_have_holes() -> None:
    image, hole = example(2, 64, 80)
    assert image.shape == (2, 3, 64, 80)
    assert 0 <= image.min() < image.max() <= 1
    assert 0.05 < hole.mean() < 0.4
    assert not torch.equal(hole[0], hole[1])
    assert torch.equal(image, example(2, 64, 80)[0])


def test_a_network_that_no_exporter_can_write_says_why(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = ModelConfig("lama", {"width": 1, "blocks": 1})
    weights = save_weights(tmp_path / "l.safetensors", build(config), config)
    assert main(["export", str(weights), "--to", "onnx", "-o", str(tmp_path / "l.onnx")]) != 0
    assert "lama can't become onnx, because torch's exporter can't write the Fourier" in capsys.readouterr().err
    assert not (tmp_path / "l.onnx").exists()
