"""`cicm train`: what it refuses, in one line and without writing; and what it would do."""

from __future__ import annotations

import json

import pytest

from cicm.cli.main import main

from .test_resume import command


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(argv) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("cicm: error: ")
    assert "Traceback" not in captured.err
    return lines[0]


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["train"], "recipe"),
        (["train", "unet-cicm-toy", "--bogus"], "--bogus"),
        (["train", "unet-cicm-toi"], "did you mean 'unet-cicm-toy'"),
        (["train", "nowhere.toml"], "no recipe file at nowhere.toml"),
        (["train", "unet-cicm-toy", "--set", "training.stps=3"], "did you mean 'training.steps'"),
        (["train", "unet-cicm-toy", "--set", "training.steps=many"], "training.steps must be an integer; got 'many'"),
        (["train", "unet-cicm-toy", "--set", "training.steps=true"], "training.steps must be an integer; got True"),
        (["train", "unet-cicm-toy", "--set", "training.steps=0"], "training.steps must be at least 1"),
        (["train", "unet-cicm-toy", "--set", "training"], "--set takes key.to.it=value"),
        (["train", "unet-cicm-toy", "--set", "model.network=unett"], "unknown network 'unett'"),
        (["train", "unet-cicm-toy", "--set", "model.options.depth=3"], "no option 'depth'"),
        (["train", "unet-cicm-toy", "--set", "data.crop=50"], "multiples of 16"),
        (["train", "unet-cicm-toy", "--set", 'data.bands=["0-30"]'], "0-30"),
        (["train", "unet-cicm-toy", "--set", 'data.match=["*.jpg"]'], "fits data.match"),
        (["train", "unet-cicm-toy", "--data", "missing"], "missing/train does not exist"),
        (["train", "unet-cicm-toy", "--threads", "-1"], "--threads must be 0 or more"),
        (["train", "unet-cicm-toy", "--accelerator", "gpu"], "torch sees none"),
        (["train", "unet-cicm-toy", "--set", "training.init=none.safetensors"], "none.safetensors"),
        (["train", "unet-cicm-toy", "--set", "model.memories.middle.sets=3"], "no site 'middle'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_written(argv, told, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "gpu" in argv:
        monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    if "--data" not in argv:
        argv = [*argv, "--data", str(photos)]
    assert told in refused(argv, capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_photo_stops_with_its_path_or_is_skipped_and_counted(photos, tmp_path, capfd):
    import shutil

    mine = tmp_path / "photos"
    shutil.copytree(photos, mine)
    (mine / "train" / "2.png").write_bytes(b"no picture")
    assert main(command(mine, tmp_path / "stopped")) == 2
    assert str(mine / "train" / "2.png") in capfd.readouterr().err.splitlines()[-1]
    assert main(command(mine, tmp_path / "skipped", **{"data.on_error": "skip", "training.steps": 3})) == 0
    assert "1 unusable photo skipped: " in capfd.readouterr().err


def test_a_dry_run_prints_the_plan_and_writes_nothing(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "unet-cicm-toy", "--data", str(photos), "--dry-run", "--set", "training.steps=77"]) == 0
    told = capsys.readouterr().out
    for expected in (
        "steps = 77",
        "[model.memories.bottom]",
        "0.40 M parameters",
        "6 in ",
        "3 sets x 4 contexts",
        "MiB",
    ):
        assert expected in told, expected
    assert list(tmp_path.iterdir()) == []


def test_folders_that_are_not_this_run_are_refused(photos, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(command(photos, folder, **{"training.steps": 1})) == 0
    capsys.readouterr()
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    told = refused(command(photos, folder, **{"training.steps": 2}), capsys)
    assert "training.steps = 1; this one has 2" in told
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    assert "holds no run" in refused(command(photos, tmp_path / "other"), capsys)
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused(command(photos, tmp_path / "file"), capsys)


def test_training_begins_from_given_weights(photos, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(command(photos, first, **{"training.steps": 2})) == 0
    weights = str(first / "weights.safetensors")
    changes = {"training.init": weights, "training.steps": 1, "training.lr": 0.0, "training.ema_decay": 0.0}
    assert main(command(photos, second, **changes)) == 0
    from safetensors.torch import load_file

    before, after = load_file(weights), load_file(second / "weights.safetensors")
    assert all((before[name] == after[name]).all() for name in before if name.startswith("network."))
    capsys.readouterr()
    told = refused(command(photos, tmp_path / "third", **changes | {"model.options.width": 4}), capsys)
    assert "the recipe asks for" in told


def test_a_stop_on_nan_is_exit_code_1_and_keeps_the_last_checkpoint(photos, tmp_path, capfd):
    folder = tmp_path / "run"
    assert main(command(photos, folder, **{"training.lr": 1e30, "training.precision": "32-true"})) == 1
    told = capfd.readouterr().err.splitlines()[-1]
    assert told.startswith("cicm: training stopped: ")
    assert "at step " in told
    assert "term" in told
    assert json.loads((folder / "environment.json").read_text())
