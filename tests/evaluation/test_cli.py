"""`cicm evaluate` from arguments to files; what is wrong ends as one line, exit code 2, and nothing written."""

from __future__ import annotations

import json
import shutil

import pytest
from experiments.lists import without_masks
from PIL import Image

from cicm.cli.main import main
from cicm.data.pair_lists import read_pairs, write_pairs
from cicm.evaluation.records import Evaluation


@pytest.fixture
def work(tiny, tmp_path, monkeypatch):
    """An empty folder to work in, with the list of pairs in it."""
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "list.csv", tiny.pairs)
    return tmp_path


def command(tiny, *arguments: str) -> list[str]:
    return [*("evaluate", "--images", str(tiny.images), "--masks", str(tiny.masks)), *arguments]


def test_from_arguments_to_files(tiny, work, capsys):
    arguments = ["mean", "fast=telea:3", "--pairs", "list.csv", "--metrics", "psnr,l1", "--limit", "3"]
    assert main(command(tiny, *arguments, "-o", "out.json", "--grid", "out.png", "--explain")) == 0
    printed = capsys.readouterr()
    assert "| 32x32 | 0-20 | mean |" in printed.out
    assert "structural" not in printed.out  # of a metric that was not asked for
    assert "centre at the size" in printed.out
    assert "wrote out.png" in printed.err
    evaluation = Evaluation.load("out.json")
    assert evaluation.methods == ["mean", "fast"]
    assert len(evaluation.records) == 2 * 3 * 2
    assert len(evaluation.images) == 2 * 3 * 3
    assert Image.open("out.png").size[0] == 4 * (32 + 4) + 4
    assert sorted(path.name for path in work.iterdir()) == ["list.csv", "out.images.csv", "out.json", "out.png"]


def test_the_same_command_gives_the_same_numbers(tiny, work):
    for name in ("a.json", "b.json"):
        main(command(tiny, "mean", "--size", "32", "--metrics", "psnr", "--bands", "20-40", "-o", name))
    first, second = (json.loads((work / name).read_text()) for name in ("a.json", "b.json"))
    for content in (first, second):
        content["images"].pop("file")
        for record in content["records"]:
            record.pop("seconds")
    assert first == second


def test_lists_are_made_without_another_lists_masks(tiny, work):
    small = work / "photos"
    small.mkdir()
    shutil.copy(tiny.images / "p0.png", small)
    masks = ["--masks", str(tiny.masks), "--size", "32"]
    assert main(["evaluate", "--images", str(small), *masks, "--save-pairs", "one.csv"]) == 0
    one = read_pairs("one.csv")
    two = without_masks(one, tiny.masks, one)
    assert len(one) == len(two) == 3
    assert not {pair.mask for pair in one} & {pair.mask for pair in two}
    assert [pair._replace(mask="") for pair in one] == [pair._replace(mask="") for pair in two]
    with pytest.raises(ValueError, match="too few masks"):
        without_masks(one, tiny.masks, tiny.pairs)


def test_what_a_newcomer_types_ends_in_one_line_that_says_what_to_do(tiny, work, capsys):
    """Small photos, a method that is called by another name, weights as an option, no method at all."""

    def told(*arguments: str) -> str:
        assert main(["evaluate", *arguments]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cicm: error: ")]
        return line

    photos = ["--images", str(tiny.images), "--masks", str(tiny.masks)]
    assert "Add a size that fits, as --size 256,32, or take it out of the folder." in told("mean", *photos)
    assert main(["evaluate", "mean", *photos, "--size", "256,32", "--metrics", "psnr", "-o", "small.json"]) == 0
    capsys.readouterr()
    assert "takes weights as a method: cicm evaluate FILE.safetensors" in told("--weights", "w.safetensors", *photos)
    assert "name a method to score: weights (default, or a file), telea" in told(*photos)
    assert "holds mean, and no method 'default'. Write small.json:mean." in told(
        "--compare", "small.json:default", "small.json"
    )
    assert "either methods are scored or files of records are printed" in told("mean", "small.json", *photos)


def test_the_weights_that_ship_are_called_default(tiny, work):
    arguments = ["default", "mean", "--size", "32", "--bands", "0-20", "--limit", "1", "--metrics", "psnr"]
    assert main(command(tiny, *arguments, "-o", "out.json")) == 0
    assert Evaluation.load("out.json").methods == ["default", "mean"]
    assert main(["evaluate", "--compare", "out.json:default", "out.json:mean"]) == 0


def test_compare_and_table(tiny, work, capsys):
    for method in ("mean", "telea"):
        main(command(tiny, method, "--pairs", "list.csv", "--metrics", "psnr", "-o", f"{method}.json"))
    capsys.readouterr()
    assert main(["evaluate", "--compare", "mean.json", "telea.json"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith("| size | band | metric | A: mean | B: telea | B - A |")
    assert len(rows) == 2 + 3
    assert main(["evaluate", "mean.json", "telea.json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tellea"], "did you mean 'telea'"),
        (["mean", "--metrics", "psnrr"], "metrics are psnr"),
        (["mean", "--bands", "10-20"], "bands are"),
        (["mean", "--limit", "0"], "at least 1"),
        (["mean", "--limit", "many"], "limit"),
        (["mean", "--nonsense"], "--nonsense"),
        (["mean", "--pairs", "none.csv"], "none.csv"),
        (["mean", "--raw"], "--raw is for models and folders"),
        (["mean", "telea", "mean"], "different names"),
        (["mean", "-o", "list.csv"], "end in .json"),
        (["mean", "-o", "there.json"], "there.json exists"),
        (["mean", "--grid", "there.json"], "end in .png"),
        (["mean", "--save-pairs", "list.csv"], "list.csv exists"),
        (["mean", "--fit", "stretch"], "fit"),
        (["mean", "--size", "4"], "at least 32"),
        (["mean", "--size", "999"], "too few to score at 999"),
        (["broken.safetensors"], "broken.safetensors"),
        (["empty"], "empty"),
        (["--compare", "there.json", "there.json"], "there.json"),
        (["mean", "--compare", "a.json", "b.json"], "leave the methods out"),
        (["none.json"], "does not exist"),
        (["-o", "out.json"], "name a method"),
        ([], "name a method"),
    ],
)
def test_errors_are_one_line_and_write_nothing(tiny, work, capsys, arguments, words):
    (work / "there.json").write_text("{}")
    (work / "broken.safetensors").write_bytes(b"not a model")
    (work / "empty").mkdir()
    if not {"--pairs", "--size", "--compare", "--save-pairs", "none.json"} & set(arguments):
        arguments = [*arguments, "--pairs", "list.csv"]
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    assert main(command(tiny, *arguments)) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cicm: error: ")]
    assert len(errors) == 1
    assert words in errors[0]
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before


def test_missing_folders_are_named(tiny, work, capsys):
    assert main(["evaluate", "mean"]) == 2
    assert "--images DIR" in capsys.readouterr().err
    assert main(["evaluate", "mean", "--images", "nowhere", "--size", "32"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert main(["evaluate", "mean", "--images", str(tiny.images), "--pairs", "list.csv"]) == 2
    assert "give the folder" in capsys.readouterr().err
