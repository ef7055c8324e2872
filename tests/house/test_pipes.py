"""A named pipe under the name of a file is refused at every door; a reader of one would wait for ever."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.files import check_readable, open_readable
from cicm.photos.headers import check_header, image_size
from cicm.photos.photo import open_photo, read_image

WORDS = "a device or a pipe"


@pytest.fixture(autouse=True)
def _not_for_ever() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError("it waits for the pipe")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos, and beside them pipes of many names; the current folder."""
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    for folder in ("photos", "train", "val"):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "a.png")
    mask = Image.new("L", (80, 80))
    mask.paste(255, (10, 10, 30, 30))
    mask.save(tmp_path / "mask.png")
    for name in (
        "p.jpg",
        "p.png",
        "p.csv",
        "p.toml",
        "p.json",
        "p.safetensors",
        "p.pth",
        "train/x.jpg",
        "photos/y.jpg",
    ):
        os.mkfifo(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "inpaint p.jpg --mask mask.png -o o.png",
        "inpaint photos/a.png --mask p.png -o o.png",
        "inpaint photos/a.png --mask mask.png -o o.png --weights p.safetensors",
        "inpaint photos/a.png --mask mask.png -o o.png --album p.safetensors",
        "inpaint photos/a.png --mask mask.png -o o.png --album photos",
        "inpaint photos --boxes p.csv -o out",
        "inpaint photos --boxes p.json -o out",
        "remember photos -o album.safetensors",
        "remember p.jpg -o album.safetensors",
        "train unet-cicm-toy --data . --output run --set data.crop=64",
        "train p.toml --data . --output run",
        "memory p.safetensors",
        "convert misf p.safetensors -o new.safetensors",
        "convert misf p.pth -o new.safetensors",
        "export p.safetensors --to onnx -o new.onnx",
        "evaluate mean --images photos --pairs p.csv",
        "evaluate mean --images photos --masks photos",
        "evaluate p.json",
    ],
)
def test_no_verb_waits_for_a_pipe(place: Path, line: str, capsys: pytest.CaptureFixture) -> None:
    before = sorted(path.name for path in place.rglob("*"))
    assert main(line.split()) == 2
    told = capsys.readouterr().err
    assert WORDS in told or "no recipe file" in told or "unknown" in told, told
    assert told.count("\n") == 1
    assert sorted(path.name for path in place.rglob("*")) == before


def test_a_folder_run_names_it_and_does_the_rest(place: Path, weights: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(f"inpaint photos --mask mask.png -o out --weights {weights} --quiet".split()) == 1
    assert "y.jpg: it is a device or a pipe" in capsys.readouterr().err
    assert (place / "out/a.png").is_file()


@pytest.mark.parametrize(
    "read", [open_photo, read_image, image_size, check_header, lambda path: check_readable(path, "x")]
)
def test_no_reader_waits_for_a_pipe(place: Path, read: Callable) -> None:
    with pytest.raises(InputError, match=WORDS):
        read(place / "p.jpg")


def test_a_pipe_that_takes_a_files_place_just_now(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    with pytest.raises(InputError, match=WORDS):
        open_readable(place / "p.jpg", "photo")
