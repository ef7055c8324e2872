"""`cicm inpaint`: what it writes, and one clear line for everything that is wrong."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.cli.main import main

SIZE = (48, 40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photo, masks of all kinds, and files that are none."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    hole = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8)
    hole[10:20, 12:30] = 255
    Image.fromarray(values).save(tmp_path / "photo.png")
    Image.fromarray(values).save(tmp_path / "photo.jpg", quality=90, dpi=(300, 300))
    Image.fromarray(hole).save(tmp_path / "mask.png")
    Image.fromarray(255 - hole).save(tmp_path / "inverted.png")
    Image.new("L", SIZE).save(tmp_path / "black.png")
    Image.new("L", SIZE, 255).save(tmp_path / "white.png")
    Image.new("L", (40, 48), 255).save(tmp_path / "turned.png")
    Image.new("RGBA", SIZE, (9, 9, 9, 90)).save(tmp_path / "glass.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello " * 100)
    (tmp_path / "short.png").write_bytes((tmp_path / "photo.png").read_bytes()[:900])
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "exists.png").write_bytes(b"precious")
    Image.fromarray(values).save(tmp_path / "damaged.tif", compression="tiff_adobe_deflate")
    packed = bytearray((tmp_path / "damaged.tif").read_bytes())
    packed[8:200] = bytes(192)  # libtiff complains about this by itself, on file descriptor 2
    (tmp_path / "damaged.tif").write_bytes(packed)
    frames = [Image.new("L", SIZE, shade) for shade in (0, 90)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.full((SIZE[1], SIZE[0]), np.nan, np.float32)).save(tmp_path / "nan.tif")
    return tmp_path


def hole_of(folder: Path) -> np.ndarray:
    return np.array(Image.open(folder / "mask.png")) > 127


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_repairs_a_photo(folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(folder / name) for name in ("photo.png", "mask.png", "out.png")]
    assert main(["inpaint", paths[0], "--mask", paths[1], "-o", paths[2], "--weights", str(weights)]) == 0
    before, after = np.array(Image.open(paths[0])), np.array(Image.open(paths[2]))
    hole = hole_of(folder)
    assert np.array_equal(before[~hole], after[~hole])
    assert not np.array_equal(before[hole], after[hole])
    printed = capsys.readouterr()
    assert printed.err == ""
    assert len(printed.out.splitlines()) == 1
    assert "48x40, 9.38 % filled" in printed.out  # 180 of 1920 pixels

    inverted = folder / "second.png"
    options = ["--invert", "--weights", str(weights), "--quiet"]
    assert main(["inpaint", paths[0], "--mask", str(folder / "inverted.png"), "-o", str(inverted), *options]) == 0
    assert np.array_equal(np.array(Image.open(inverted)), after)
    assert capsys.readouterr() == ("", "")


def test_overwrites_when_told(folder: Path, weights: Path) -> None:
    options = ["--weights", str(weights), "--overwrite", "-o", str(folder / "exists.png")]
    assert main(["inpaint", str(folder / "photo.png"), "--mask", str(folder / "mask.png"), *options]) == 0
    assert Image.open(folder / "exists.png").size == SIZE


def test_jpeg_stays_the_same_kind_of_jpeg(folder: Path, weights: Path) -> None:
    options = ["--weights", str(weights), "-o", str(folder / "out.jpg")]
    assert main(["inpaint", str(folder / "photo.jpg"), "--mask", str(folder / "mask.png"), *options]) == 0
    before, after = Image.open(folder / "photo.jpg"), Image.open(folder / "out.jpg")
    assert after.quantization == before.quantization
    assert after.info["dpi"] == (300, 300)


def test_mask_and_photo_are_both_turned_upright(folder: Path, weights: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "photo.png").save(folder / "camera.png", exif=exif)
    upright = Image.open(folder / "mask.png").rotate(-90, expand=True)
    upright.save(folder / "drawn.png")
    options = ["--weights", str(weights), "-o", str(folder / "out.png")]
    assert main(["inpaint", str(folder / "camera.png"), "--mask", str(folder / "drawn.png"), *options]) == 0
    after = np.array(Image.open(folder / "out.png"))
    expected, hole = np.rot90(np.array(Image.open(folder / "photo.png")), -1), np.array(upright) > 127
    assert np.array_equal(after[~hole], expected[~hole])
    assert not np.array_equal(after[hole], expected[hole])


def test_much_to_fill_is_one_line_of_warning(folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--weights", str(weights), "--quiet", "-o", str(folder / "out.png")]
    assert main(["inpaint", str(folder / "photo.png"), "--mask", str(folder / "inverted.png"), *options]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("cicm: warning: 91% of the picture would be filled")


def test_notes_are_told(folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.open(folder / "photo.png").convert("CMYK").save(folder / "ink.tif")
    options = ["--weights", str(weights), "-o", str(folder / "out.png")]
    assert main(["inpaint", str(folder / "ink.tif"), "--mask", str(folder / "mask.png"), *options]) == 0
    assert "cicm: note: PNG can't hold CMYK; converted to RGB" in capsys.readouterr().err


BAD = {
    "missing photo": (["none.png", "mask.png", "out.png"], "photo none.png does not exist"),
    "empty photo": (["empty.png", "mask.png", "out.png"], "is empty"),
    "truncated photo": (["short.png", "mask.png", "out.png"], "truncated"),
    "no picture": (["text.png", "mask.png", "out.png"], "expected a picture"),
    "folder for photo": (["folder.png", "mask.png", "out.png"], "is a folder"),
    "animation": (["film.gif", "mask.png", "out.png"], "holds 2"),
    "nan photo": (["nan.tif", "mask.png", "out.tif"], "NaN"),
    "damaged tiff": (["damaged.tif", "mask.png", "out.tif"], "could not be decoded"),
    "missing mask": (["photo.png", "none.png", "out.png"], "mask none.png does not exist"),
    "empty mask": (["photo.png", "empty.png", "out.png"], "is empty"),
    "truncated mask": (["photo.png", "short.png", "out.png"], "truncated"),
    "folder for mask": (["photo.png", "folder.png", "out.png"], "is a folder"),
    "mask of another size": (["photo.png", "turned.png", "out.png"], "40x48 for a picture of 48x40"),
    "black mask": (["photo.png", "black.png", "out.png"], "nothing to fill"),
    "white mask": (["photo.png", "white.png", "out.png"], "nothing known"),
    "white mask inverted": (["photo.png", "white.png", "out.png", "--invert"], "nothing to fill"),
    "folder for output": (["photo.png", "mask.png", "folder.png"], "is a folder"),
    "output exists": (["photo.png", "mask.png", "exists.png"], "exists.*--overwrite"),
    "output is the photo": (["photo.png", "mask.png", "photo.png", "--overwrite"], "is the input"),
    "output is the mask": (["photo.png", "mask.png", "mask.png", "--overwrite"], "is the input"),
    "output in no folder": (["photo.png", "mask.png", "no/out.png"], "does not exist"),
    "output of unknown kind": (["photo.png", "mask.png", "out.jp2"], "must end in"),
    "output can't hold alpha": (["glass.png", "mask.png", "out.jpg"], "transparency"),
    "output can't hold colours": (["photo.png", "mask.png", "out.gif"], "256 colours"),
    "missing weights": (
        ["photo.png", "mask.png", "out.png", "--weights", "none.safetensors"],
        "weights none.safetensors does not exist",
    ),
    "weights are no weights": (["photo.png", "mask.png", "out.png", "--weights", "text.png"], "safetensors"),
    "weights are a pickle": (["photo.png", "mask.png", "out.png", "--weights", "model.pth"], "pickle"),
    "weights are damaged": (["photo.png", "mask.png", "out.png", "--weights", "half.safetensors"], "again"),
    "weights of another": (["photo.png", "mask.png", "out.png", "--weights", "other.safetensors"], "not a cicm model"),
    "unknown device": (["photo.png", "mask.png", "out.png", "--device", "abacus"], "no device 'abacus'"),
    "absent device": (["photo.png", "mask.png", "out.png", "--device", "cuda:99"], "no device 'cuda:99'"),
    "unknown option": (["photo.png", "mask.png", "out.png", "--sharpen"], "sharpen"),
    "no number": (["photo.png", "mask.png", "out.png", "--margin", "wide"], "margin"),
    "margin of nothing": (["photo.png", "mask.png", "out.png", "--margin", "0"], "margin"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(
    folder: Path,
    weights: Path,
    case: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from safetensors.torch import save_file

    torch.save({"a": torch.zeros(2)}, folder / "model.pth")
    (folder / "half.safetensors").write_bytes(weights.read_bytes()[:-500])
    save_file({"a": torch.zeros(2)}, folder / "other.safetensors")
    monkeypatch.chdir(folder)
    (photo, mask, output, *more), words = BAD[case]
    if "--weights" not in more:
        more += ["--weights", str(weights)]
    before = files(folder)
    assert main(["inpaint", photo, "--mask", mask, "-o", output, *more]) == 2
    assert files(folder) == before
    printed = capfd.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("cicm: error: ")
    assert re.search(words, lines[0]), lines[0]


def test_bomb(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bomb, whole = folder / "bomb.png", (folder / "photo.png").read_bytes()
    for size in ((60000, 60000), (14000, 14000)):  # above twice Pillow's limit, and between that and once
        header = b"IHDR" + struct.pack(">II", *size) + whole[24:29]
        bomb.write_bytes(whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:])
        assert main(["inpaint", str(bomb), "--mask", str(folder / "mask.png"), "-o", str(folder / "out.png")]) == 2
        printed = capfd.readouterr()
        assert len(printed.err.splitlines()) == 1
        assert "megapixels" in printed.err
    assert not (folder / "out.png").exists()


@pytest.mark.parametrize("arguments", [[], ["photo.png"], ["photo.png", "--mask", "mask.png"], ["a", "b", "--mask"]])
def test_incomplete_command_lines(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["inpaint", *arguments]) == 2
    printed = capfd.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("cicm: error: ")


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["inpaint", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "cicm inpaint photo.jpg --mask mask.png -o repaired.jpg" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("arguments", [["photo.png", "--mask", "turned.png", "-o", "out.png"], ["--help"]])
def test_errors_about_files_come_without_torch(folder: Path, arguments: list[str]) -> None:
    code = (
        "import sys; from cicm.cli.main import main\n"
        "try: code = main(['inpaint', *sys.argv[1:]])\n"
        "except SystemExit as stop: code = stop.code\n"
        "sys.exit(100 + code if 'torch' in sys.modules else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    assert done.returncode == (0 if arguments == ["--help"] else 2), done.stderr.decode()


def test_fill_and_variants(folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["inpaint", str(folder / "photo.png"), "--mask", str(folder / "mask.png"), "--weights", str(weights)]
    assert main([*common, "-o", str(folder / "a.png"), "--variants", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["a.png", "a-2.png", "a-3.png"]
    for name, line in zip(names, lines, strict=True):
        assert line.startswith(f"{folder / name}: 48x40, 9.38 % filled, fill both, ")
    answers = [np.array(Image.open(folder / name)) for name in names]
    hole = hole_of(folder)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(answers[one], answers[other])
        assert np.array_equal(answers[one][~hole], answers[other][~hole])
    for fill in ("both", "network", "exemplar"):
        assert main([*common, "-o", str(folder / f"{fill}.png"), "--fill", fill]) == 0
        assert f"fill {fill}" in capsys.readouterr().out
    made = {fill: np.array(Image.open(folder / f"{fill}.png")) for fill in ("both", "network", "exemplar")}
    assert np.array_equal(made["both"], answers[0])
    assert not np.array_equal(made["network"], made["both"])
    assert not np.array_equal(made["exemplar"], made["both"])


def test_no_variant_is_overwritten(folder: Path, weights: Path, capfd: pytest.CaptureFixture[str]) -> None:
    common = ["inpaint", str(folder / "photo.png"), "--mask", str(folder / "mask.png"), "--weights", str(weights)]
    (folder / "a-3.png").write_bytes(b"precious")
    before = files(folder)
    for words, told in (
        (["--variants", "3"], "a-3.png exists"),
        (["--variants", "0"], "--variants must be at least 1"),
        (["--variants", "2", "--fill", "network"], "the network alone has one answer"),
        (["--fill", "magic"], "fill must be one of both, network, exemplar; got 'magic'"),
        (["--album", "self"], "--album self is for a folder"),
        (["--album", str(folder / "none")], "does not exist"),
    ):
        assert main([*common, "-o", str(folder / "a.png"), *words]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert told in line
    assert files(folder) == before


def test_an_album_of_other_photos(folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cv2", reason="OpenCV is in the extra `album`")
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 256, (240 // side + 1, 320 // side + 1, 3), dtype=np.uint8) for side in (6, 15, 40)]
    truth = np.mean([Image.fromarray(part).resize((320, 240), Image.Resampling.BICUBIC) for part in parts], axis=0)
    truth = truth.astype(np.uint8)
    damaged = truth.copy()
    damaged[90:150, 140:200] = (200, 30, 30)
    for name in ("place", "empty"):
        (folder / name).mkdir()
    Image.fromarray(np.roll(truth, 4, 1)).save(folder / "place" / "before.png")
    (folder / "place" / "broken.jpg").write_bytes(b"no picture")
    Image.fromarray(damaged).save(folder / "now.png")
    words = ["inpaint", str(folder / "now.png"), "--box", "140,90,60,60", "--weights", str(weights)]
    assert main([*words, "-o", str(folder / "a.png"), "--album", str(folder / "place")]) == 0
    told = capsys.readouterr()
    assert ", with pixels of before.png, " in told.out
    assert "cicm: note: broken.jpg is not in the album" in told.err
    after = np.array(Image.open(folder / "a.png"))
    assert np.abs(after[90:150, 140:200].astype(int) - truth[90:150, 140:200]).mean() < 20
    (folder / "other").mkdir()
    Image.fromarray(damaged).save(folder / "other" / "copy.png")
    assert main([*words, "-o", str(folder / "c.png"), "--album", str(folder / "other")]) == 0
    told = capsys.readouterr()
    assert "now.png is in the album itself; nothing is copied from it" in told.err
    assert "no photo of the album shows this place" in told.err
    assert main([*words, "-o", str(folder / "b.png"), "--album", str(folder / "empty")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_loading_weights_does_not_wait_for_torchs_compiler() -> None:
    code = "import sys; from cicm.inference import Inpainter; Inpainter.from_pretrained(device='cpu')"
    done = subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch._dynamo' in sys.modules)"], check=False)
    assert done.returncode == 0, "a second of every start: something on the meta device asked for it"
