"""`cicm memory`: tables, JSON and a picture of a model's memories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from cicm.assembly import ModelConfig, build, save_weights, weights
from cicm.cli.main import main
from cicm.memory import MemoryConfig


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(
        "unet",
        {"width": 4},
        {
            "down3": MemoryConfig(sets=2, contexts=2),
            "bottom": MemoryConfig(sets=3, contexts=4),
            "down1": MemoryConfig(sets=2, contexts=2, kind="convolution"),
        },
    )
    model = build(config)
    model.memories["bottom"].seed_(torch.rand(50, 32), torch.Generator().manual_seed(0))
    return save_weights(tmp_path_factory.mktemp("weights") / "model.safetensors", model, config)


def run(capsys: pytest.CaptureFixture, *words: object) -> tuple[int, str, str]:
    code = main(["memory", *map(str, words)])
    return code, *capsys.readouterr()


def test_a_table_per_site(file: Path, capsys: pytest.CaptureFixture) -> None:
    code, out, err = run(capsys, file)
    assert (code, err) == (0, "")
    assert "bottom: memory, 3 sets of 4 contexts of 32 channels" in out
    assert "In use: 3 of 3 sets, 12 of 12 contexts" in out
    assert "Empty: it has not been seeded yet" in out  # down3
    assert "down1" not in out  # the control stores nothing
    assert max(map(len, out.splitlines())) > 60


def test_json_is_what_was_counted(file: Path, capsys: pytest.CaptureFixture) -> None:
    code, out, _ = run(capsys, file, "--json")
    assert code == 0
    facts = json.loads(out)
    assert list(facts) == ["down3", "bottom"]
    assert facts["bottom"]["seeded"]
    assert not facts["down3"]["seeded"]
    assert sum(one["usage"] for one in facts["bottom"]["per_set"]) == pytest.approx(1)


def test_a_picture_is_written_once_and_replaced_only_when_asked(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    picture = tmp_path / "memory.png"
    code, _, err = run(capsys, file, "-o", picture)
    assert (code, err) == (0, f"wrote {picture}\n")
    with Image.open(picture) as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (1280, 2000))
    picture.write_bytes(b"mine")
    code, out, err = run(capsys, file, "-o", picture)
    assert (code, out) == (2, "")
    assert "exists. Choose another name" in err
    assert picture.read_bytes() == b"mine"
    assert run(capsys, file, "-o", picture, "--overwrite")[0] == 0
    assert picture.read_bytes() != b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["memory.png"]


def test_what_is_wrong_is_one_line_and_exit_code_2(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for words, expected in (
        (["nowhere.safetensors"], "the weights file nowhere.safetensors does not exist"),
        (["{file}", "-o", "picture.jpg"], "must end in .png"),
        (["{file}", "-o", "{folder}/no/such/m.png"], "of the picture does not exist. Make it first"),
        (["--picture"], "See cicm memory --help"),
        (["a", "b"], "See cicm memory --help"),
    ):
        code, out, err = run(capsys, *(w.format(file=file, folder=tmp_path) for w in words))
        assert (code, out) == (2, ""), words
        assert expected in err, words
        assert err.count("\n") == 1, words
        assert list(tmp_path.iterdir()) == [], words


def test_a_model_without_memory_has_nothing_to_look_into(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = ModelConfig("unet", {"width": 4})
    file = save_weights(tmp_path / "plain.safetensors", build(config), config)
    code, _, err = run(capsys, file)
    assert code == 2
    assert "no memory" in err


def test_without_a_file_it_looks_into_the_weights_that_ship(
    file: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "DEFAULT", file)
    assert "bottom: memory" in run(capsys)[1]
