"""The pages for those who come from elsewhere, and that on export: what they tell is run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from test_export_runtime import exported, picture

from cicm.cli.main import main
from cicm.export.onnx_runtime import OnnxInpainter
from cicm.inference.settings import FillSettings

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(root: Path, page: str, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall((root / "docs" / page).read_text("utf-8")) if kind == language]


def run_all(root: Path, page: str) -> None:
    lines = [line for block in blocks(root, page, "sh") for line in block.splitlines() if line.startswith("cicm ")]
    assert lines
    for line in lines:
        assert main([*shlex.split(line, comments=True)[1:], "--quiet"]) == 0, line


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    image, hole = picture(40, 56)
    for folder in ("photos/sub", "masks/sub", "pairs/sub"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("photo.jpg", "image.png", "photos/a.jpg", "photos/b.png", "photos/sub/c.webp"):
        Image.fromarray(image).save(tmp_path / name)
    for name in ("mask", "logo", "masks/a", "masks/b", "masks/sub/c"):
        Image.fromarray(hole).save(tmp_path / f"{name}.png")
    for name in ("one", "sub/two"):
        Image.fromarray(image).save(tmp_path / "pairs" / f"{name}.png")
        for number, part in enumerate((hole & (np.arange(56) < 20), hole & (np.arange(56) >= 20))):
            Image.fromarray(part).save(tmp_path / "pairs" / f"{name}_mask00{number}.png")
    return tmp_path


def changed(before: Path, after: Path) -> np.ndarray:
    return (np.array(Image.open(before)) != np.array(Image.open(after))).any(-1)


def test_coming_from_iopaint(root: Path, place: Path) -> None:
    run_all(root, "coming-from-iopaint.md")
    for folder in ("repaired", "without-logo"):
        found = sorted(path.relative_to(place / folder).as_posix() for path in (place / folder).rglob("?.*"))
        assert found == ["a.jpg", "b.png", "sub/c.webp"]
    _, hole = picture(40, 56)
    assert changed(place / "photos/b.png", place / "repaired/b.png")[hole].mean() > 0.5
    assert not changed(place / "photos/b.png", place / "repaired/b.png")[~hole].any()
    assert (place / "repaired.jpg").exists()


def test_coming_from_lama(root: Path, place: Path) -> None:
    run_all(root, "coming-from-lama.md")
    _, hole = picture(40, 56)
    for name in ("one", "sub/two"):
        photo = place / "pairs" / f"{name}.png"
        differs = changed(photo, place / "output" / f"{name}.png")
        assert not differs[~hole].any()
        assert differs[hole].mean() > 0.5
        assert changed(photo, place / "grown" / f"{name}.png").sum() > differs.sum()


def test_coming_from_simple_lama(root: Path, place: Path) -> None:
    run_all(root, "coming-from-simple-lama.md")
    assert Image.open(place / "inpainted.png").size == (56, 40)


@pytest.mark.parametrize("size", [(40, 56), (20, 70), (64, 32)])
def test_export_in_python(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(exported(), "cicm.onnx")
    image, mask = picture(*size)
    class_, alone = blocks(root, "export.md", "py")
    results = []
    for block in (class_, alone):
        space: dict[str, Any] = {"image": image, "mask": mask}
        exec(compile(block, "export.md", "exec"), space)
        results.append(space["repaired"])
    assert np.array_equal(results[0], OnnxInpainter.from_file("cicm.onnx")(image, mask))
    assert results[1].shape == image.shape
    assert np.array_equal(results[1][~mask], image[~mask])
    network = OnnxInpainter.from_file("cicm.onnx", settings=FillSettings(fill="network"))(image, mask)
    inner = mask.copy()
    inner[:2] = inner[-4:] = inner[:, :2] = inner[:, -4:] = False  # at the border the two pad differently
    assert np.abs(network.astype(int) - results[1])[inner].max() <= 1
