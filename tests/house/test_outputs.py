"""Every writer of the package keeps the same promises about its output, every reader about its input."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cicm.assembly import MemoryInpainter, ModelConfig, build, load_weights, save_weights
from cicm.assembly.checkpoint import read_checkpoint
from cicm.assembly.conversion import convert
from cicm.assembly.restoring import restore
from cicm.conventions import InputError
from cicm.data.pair_lists import Pair, read_pairs, write_pairs
from cicm.evaluation.grid import GridRow, save_grid
from cicm.evaluation.plan import make_plan
from cicm.evaluation.records import Evaluation
from cicm.evaluation.scoring import evaluate
from cicm.exemplar.album import load_album
from cicm.files import disk_failure
from cicm.photos.photo import open_photo, read_image, save_photo

PAIRS = [Pair("a.png", "generated:1", "0-20", 32, 32)]


def evaluation(folder: Path) -> Evaluation:
    """Scores of one small picture."""
    from cicm.data.pairs import make_pairs
    from cicm.evaluation.classical import Mean

    pairs = make_pairs(folder, None, 0, sizes=(32,))
    return evaluate([Mean()], make_plan(folder, None, pairs), ["l1"])[0]


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable]:
    """Calls (path, overwrite=) by the name of a file with the right ending."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photos" / "a.png")
    photo, scores = open_photo(folder / "photos" / "a.png"), evaluation(folder / "photos")
    config = ModelConfig("misf", {"width": 2})
    model: MemoryInpainter = build(config)
    ours = save_weights(folder / "ours.safetensors", model, config)
    theirs = restore("misf", ours, folder / "theirs.pth").paths[0]
    return {
        "weights.safetensors": lambda path, **how: save_weights(path, model, config, **how),
        "converted.safetensors": lambda path, **how: convert("misf", [theirs], path, **how),
        "restored.pth": lambda path, **how: restore("misf", ours, path, **how),
        "pairs.csv": lambda path, **how: write_pairs(path, PAIRS, **how),
        "scores.json": lambda path, **how: Evaluation(scores.records).save(path, **how),
        "photo.png": lambda path, **how: save_photo(photo, path, **how),
        "grid.png": lambda path, **how: save_grid(path, [GridRow("a", pixels, pixels)], **how),
    }


def test_what_is_there_is_replaced_only_when_asked_and_whole(
    writers: dict[str, Callable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name, write in writers.items():
        path = tmp_path / name
        path.write_bytes(b"precious")
        with pytest.raises(InputError, match=r"exists\..*--overwrite"):
            write(path)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises((OSError, InputError), match="No space left"):
            write(path, overwrite=True)
        monkeypatch.undo()
        assert path.read_bytes() == b"precious", name
        write(path, overwrite=True)
        assert path.read_bytes() != b"precious", name
        assert path.stat().st_mode & 0o777 == 0o666 & ~_umask(), "others could not read what is shared"
        path.unlink()
        path.symlink_to(tmp_path / "nowhere")
        with pytest.raises(InputError, match="exists"):
            write(path)
        path.unlink()
    assert os.listdir(tmp_path) == []


def test_a_disk_that_is_full_is_told_as_such_and_leaves_nothing(
    writers: dict[str, Callable], tmp_path: Path, file_limit: Callable
) -> None:
    """Whatever writes: our own code, Pillow, torch in C++ or safetensors in Rust."""
    for name, write in writers.items():
        path = tmp_path / name
        with file_limit(60), pytest.raises((OSError, InputError)) as caught:  # short enough for a list of one pair
            write(path)
        failure = disk_failure(caught.value)
        assert failure is not None, name
        assert failure.errno == errno.EFBIG
        assert str(path) in str(caught.value)
    assert os.listdir(tmp_path) == []


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_a_place_where_nothing_can_be_written_is_refused(writers: dict[str, Callable], tmp_path: Path) -> None:
    for name, write in writers.items():
        (tmp_path / name).mkdir()
        with pytest.raises(InputError, match="is a folder"):
            write(tmp_path / name, overwrite=True)
        (tmp_path / name).rmdir()
        for other in () if name.endswith(".csv") else (f"{name}.gz", "name", "a.jp2", "a.txt"):
            with pytest.raises(InputError, match=r"must end in \.|ending"):
                write(tmp_path / other)
        new = tmp_path / "new" / f"for {name}" / name
        if name.endswith((".safetensors", ".pth")):  # models go into folders that do not exist yet
            write(str(new))
            assert new.is_file()
        else:
            with pytest.raises(InputError, match="does not exist"):
                write(new)
    assert os.listdir(tmp_path) == ["new"]


def test_a_path_that_is_no_file_is_one_clear_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    paths = [tmp_path, *(tmp_path / name for name in ("none", "pipe", "empty", "x" * 300)), "b\0c"]
    for read in (load_weights, load_album, read_checkpoint, read_pairs, Evaluation.load, open_photo, read_image):
        for path in paths:
            with pytest.raises(InputError) as caught:
                read(path)
            assert "\n" not in str(caught.value)
            assert str(path) in str(caught.value) or "\0" in str(path), f"{read.__name__} does not name {path}"


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    """By none of the readers of models, in none of the layouts that torch or pickle write."""

    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "ran"),)

    told = {
        load_weights: r"is a pickle.*run code.*cicm convert",
        load_album: r"is no album, or is damaged",
        read_checkpoint: r"was not opened|no checkpoint of torch",
    }
    path = tmp_path / "a.safetensors"
    for read, words in told.items():
        for kind in (*range(2, pickle.HIGHEST_PROTOCOL + 1), True, False):
            if isinstance(kind, bool):
                torch.save({"generator": Trap()}, path, _use_new_zipfile_serialization=kind)
            else:
                path.write_bytes(pickle.dumps({"generator": Trap()}, kind))
            with pytest.raises(InputError, match=words) as caught:
                read(path)
            assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["a.safetensors"]


READERS: dict[str, Callable] = {"w.safetensors": load_weights, "new.pth": read_checkpoint, "old.pth": read_checkpoint}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A good file for each reader of models."""
    folder, config = tmp_path_factory.mktemp("good"), ModelConfig("misf", {"width": 2})
    ours = save_weights(folder / "w.safetensors", build(config), config)
    theirs = restore("misf", ours, folder / "new.pth").paths[0]
    content = torch.load(theirs, weights_only=True)
    torch.save(content, folder / "old.pth", _use_new_zipfile_serialization=False)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), name=st.sampled_from(list(READERS)))
def test_a_file_cut_short_anywhere_is_refused(
    written: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, share: float, name: str
) -> None:
    cut = tmp_path_factory.getbasetemp() / f"cut-{name}"
    cut.write_bytes(written[name][: int(share * len(written[name]))])
    with pytest.raises(InputError, match="again" if name.startswith("w") else "."):
        READERS[name](cut)


@settings(max_examples=80, deadline=None)
@given(
    data=st.binary(max_size=300),
    start=st.sampled_from([b"", b"PK", b"PK\x03\x04", b"\x80\x02", b"\x80\x04"]),
    name=st.sampled_from(list(READERS)),
)
def test_garbage_is_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"garbage-{name}"
    path.write_bytes(start + data)
    with pytest.raises(InputError):
        READERS[name](path)
