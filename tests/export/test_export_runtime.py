"""An exported model fills pictures as torch does, in a process that has no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cicm.assembly import MemoryInpainter
from cicm.cli.main import main
from cicm.conventions import InputError, SizeRule
from cicm.export.onnx_runtime import FORMAT, OnnxInpainter, OnnxModel
from cicm.inference import Inpainter
from cicm.networks import InpaintingNetwork, Prediction
from cicm.networks.contract import unchanged

KERNEL = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=np.float32) / 16
TINT = 0.25

WITHOUT_TORCH = """
import sys
if "--blocked" in sys.argv:
    sys.modules["torch"] = None  # as if it were not installed
    sys.argv.remove("--blocked")
from cicm.cli.main import main
code = main(sys.argv[1:])
loaded = [name for name, module in sys.modules.items() if module and name.split(".")[0] in ("torch", "onnx")]
assert not loaded, loaded
sys.exit(code)
"""


class Smear(InpaintingNetwork):
    """Fills with what lies one pixel away, and a tint: depends on every pixel it is shown, and on where."""

    size = SizeRule(16, 32)

    def forward(self, corrupted: Tensor, hole: Tensor, *, edit=unchanged) -> Prediction:
        self.size.check(*corrupted.shape[-2:])
        weight = torch.from_numpy(KERNEL).expand(3, 1, 3, 3)
        return Prediction(F.conv2d(corrupted, weight, padding=1, groups=3) + TINT)


def exported(**changes: str) -> onnx.ModelProto:
    """The same network, written down as ONNX by hand."""
    axes = ("batch", 3, "height", "width")
    weight = numpy_helper.from_array(np.broadcast_to(KERNEL, (3, 1, 3, 3)).copy(), "weight")
    numbers = [numpy_helper.from_array(np.array(v, dtype=np.float32), n) for n, v in (("one", 1), ("tint", TINT))]
    nodes = [
        helper.make_node("Sub", ["one", "hole"], ["known"]),
        helper.make_node("Mul", ["image", "known"], ["corrupted"]),
        helper.make_node("Conv", ["corrupted", "weight"], ["smeared"], group=3, pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["smeared", "tint"], ["fill"]),
        helper.make_node("Mul", ["fill", "hole"], ["inside"]),
        helper.make_node("Add", ["inside", "corrupted"], ["composite"]),
    ]
    graph = helper.make_graph(
        nodes,
        "smear",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, axes),
            helper.make_tensor_value_info("hole", TensorProto.FLOAT, ("batch", 1, "height", "width")),
        ],
        [helper.make_tensor_value_info("composite", TensorProto.FLOAT, axes)],
        [weight, *numbers],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    about = {
        "cicm.format": FORMAT,
        "cicm.size": json.dumps({"multiple_of": 16, "minimum": 32}),
        "cicm.network": "smear",
        "cicm.card": json.dumps({"licence": "none"}),
    }
    helper.set_model_props(model, about | changes)
    return model


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "smear.onnx"
    onnx.save(exported(), path)
    return path


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Waves, and three holes: a large one, a thin one, one at the border."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (5 + k)) * np.cos(y / (9 - k)) for k in range(3)]
    hole = np.zeros((height, width), dtype=bool)
    hole[height // 3 : height // 3 + height // 4, width // 4 : width // 2] = True
    hole[height // 8, : width // 2] = True
    hole[-3:, -4:] = True
    return ((np.stack(waves, -1) + 1) * 127.5).astype(np.uint8), hole


@pytest.mark.parametrize("size", [(20, 31), (64, 96), (211, 333), (600, 700)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strategy": "resize", "max_side": 100, "margin": 9},
        {"strategy": "crop", "max_side": 70, "margin": 5},
        {"strategy": "tile", "tile": 64, "widest": 20, "margin": 16},
        {"feather": 4},
    ],
    ids=str,
)
def test_fills_as_torch_does(file: Path, size: tuple[int, int], options: dict) -> None:
    image, hole = picture(*size)
    ours = OnnxInpainter.from_file(file, device="cpu", **options)
    theirs = Inpainter(MemoryInpainter(Smear()), device="cpu", **options)
    first, second = ours(image, hole), theirs(image, hole)
    assert np.array_equal(first[~hole], image[~hole])
    difference = np.abs(first.astype(int) - second)
    assert difference.max() <= 1, "where float32 decides a rounding"
    assert (difference > 0).mean() < 1e-3
    told = [{k: v for k, v in vars(one.report).items() if k not in ("seconds", "device")} for one in (ours, theirs)]
    assert told[0] == told[1]
    assert str(ours.report.device) == "cpu"


def test_kinds_and_what_the_file_says(file: Path, tmp_path: Path) -> None:
    image, hole = picture(40, 50)
    inpainter = OnnxInpainter.from_file(file)
    expected = inpainter(image, hole)
    assert np.array_equal(np.array(inpainter(Image.fromarray(image), hole)), expected)
    Image.fromarray(image).save(tmp_path / "a.png")
    assert np.array_equal(np.array(inpainter(tmp_path / "a.png", Image.fromarray(hole))), expected)
    assert np.array_equal(inpainter(image, ~hole, invert=True), expected)
    assert np.array_equal(inpainter(image, torch.from_numpy(hole)[None]), expected)
    with pytest.raises(InputError, match="NumPy"):
        inpainter(torch.rand(3, 40, 50), hole)
    assert (inpainter.size, inpainter.model.card) == (SizeRule(16, 32), {"licence": "none"})
    assert inpainter.model.name.startswith("smear ")


def test_metadata_that_is_not_ours(tmp_path: Path) -> None:
    for changes, words in (
        ({"cicm.format": "other"}, "not a model of cicm"),
        ({"cicm.size": "[]"}, "damaged metadata"),
        ({"cicm.size": '{"multiple_of": 0, "minimum": 32}'}, "damaged metadata"),
        ({"cicm.size": '{"multiple_of": 1e99, "minimum": 32}'}, "damaged metadata"),
        ({"cicm.size": '{"multiple_of": 8, "minimum": 8, "padding": "middle"}'}, "damaged metadata"),
        ({"cicm.size": "[" * 100_000}, "damaged metadata"),
        ({"cicm.card": "3"}, "damaged metadata"),
    ):
        onnx.save(exported(**changes), tmp_path / "a.onnx")
        with pytest.raises(InputError, match=words):
            OnnxModel(tmp_path / "a.onnx")


def test_files_that_are_no_models(tmp_path: Path, file: Path) -> None:
    for name, content in (("empty", b""), ("text", b"hello" * 50), ("short", file.read_bytes()[:300])):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}\.onnx"):
            OnnxModel(path)
    with pytest.raises(InputError, match="does not exist"):
        OnnxModel(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="folder"):
        OnnxModel(tmp_path)
    with pytest.raises(InputError, match="expected auto, cpu"):
        OnnxModel(file, device="mps")
    with pytest.raises(InputError, match="cuda"):
        OnnxModel(file, device="cuda:0")
    model = exported()
    model.graph.input[0].name = model.graph.node[1].input[0] = "picture"
    onnx.save(model, tmp_path / "names.onnx")
    with pytest.raises(InputError, match="not a model of cicm"):
        OnnxModel(tmp_path / "names.onnx")


@pytest.mark.parametrize("where", ["here", "absolute", "above"])
def test_a_file_can_not_name_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """ONNX lets weights lie in a file beside it, of any name: nothing of this disk gets into the network."""
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.ones(27, dtype=np.float32).tobytes())
    model = exported()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    above = os.path.relpath(secret, os.path.join(tempfile.gettempdir(), "folder"))
    names = {"here": secret.name, "absolute": str(secret), "above": above}
    entry.key, entry.value = "location", names[where]
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"a\.onnx"):
        OnnxModel(tmp_path / "a.onnx")


# The command


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    image, hole = picture(48, 64)
    for folder in ("photos/sub", "masks/sub"):
        (tmp_path / folder).mkdir(parents=True)
    for index, name in enumerate(("a", "b", "sub/c")):
        Image.fromarray(np.roll(image, index, axis=1)).save(tmp_path / "photos" / f"{name}.png")
        Image.fromarray(hole).save(tmp_path / "masks" / f"{name}.png")
    return tmp_path


@pytest.mark.parametrize("blocked", [[], ["--blocked"]], ids=["installed", "not installed"])
def test_the_command_runs_without_torch(photos: Path, file: Path, blocked: list[str]) -> None:
    def run(*words: str) -> str:
        command = [sys.executable, "-c", WITHOUT_TORCH, *blocked, "inpaint", *words, "--weights", str(file)]
        done = subprocess.run(command, cwd=photos, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "64x48" in run("photos/a.png", "--mask", "masks/a.png", "-o", "a.png", "--grow", "1")
    assert "3 filled" in run("photos", "--masks", "masks", "-o", "out")
    assert "3 done before" in run("photos", "--masks", "masks", "-o", "out", "--workers", "2")
    theirs = Inpainter(MemoryInpainter(Smear()), device="cpu")
    for name in ("a", "b", "sub/c"):
        image, hole = (np.array(Image.open(photos / folder / f"{name}.png")) for folder in ("photos", "masks"))
        found = np.array(Image.open(photos / "out" / f"{name}.png")).astype(int)
        assert np.abs(found - theirs(image, hole)).max() <= 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--weights", "smear.onnx", "--album", "photos/a.png"], "photos/a.png is no album"),
        (["--weights"], "expected one argument"),
        (["--image=photos"], "cicm has no --image. Write: cicm inpaint PHOTO --mask MASK -o OUTPUT"),
    ],
)
def test_one_clear_line_for_what_does_not_fit(
    photos: Path, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, words: list, told: str
) -> None:
    monkeypatch.chdir(photos)
    assert main(["inpaint", "photos/a.png", "--mask", "masks/a.png", "-o", "out.png", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (photos / "out.png").exists()


def test_a_folder_given_as_mask_of_a_folder_is_a_folder_of_masks(
    photos: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    rest = ["--device", "cpu", "--weights", "smear.onnx", "--quiet"]
    assert main(["inpaint", "photos", "--mask", "masks", "--output", "out", *rest]) == 0
    assert main(["inpaint", "photos/a.png", "--mask", "masks/a.png", "--output", "one.png", *rest]) == 0
    assert (photos / "one.png").read_bytes() == (photos / "out" / "a.png").read_bytes()
    assert main(["inpaint", "photos", "--mask", "masks/a.png", "--output", "same", *rest]) == 0
    assert len(list((photos / "same").rglob("*.png"))) == 3
