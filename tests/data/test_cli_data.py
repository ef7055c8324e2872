"""`cicm data`, and a data set's layout as the photos of `cicm train` and `cicm evaluate`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.cli.main import main
from cicm.conventions import BANDS, InputError
from cicm.data.datasets import PairedPhotos
from cicm.data.pair_lists import read_pairs
from cicm.data.pairs import hole_of, make_pairs
from cicm.datasets import LAYOUTS, photos_of
from cicm.evaluation.records import Evaluation
from cicm.recipes import load_recipe
from cicm.training.batches import photos_in, training_photos, validation_set

SIDE = 64


@pytest.fixture
def faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CelebA in small: 5 training photos, 2 to validate, 3 to test; the working folder is an empty one."""
    root = tmp_path / "celeba"
    (root / "img_align_celeba").mkdir(parents=True)
    rng = np.random.default_rng(5)
    for number in range(1, 11):
        pixels = rng.integers(0, 255, (4, 4, 3)).astype(np.uint8)
        photo = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        photo.save(root / f"img_align_celeba/{number:06}.jpg")
    parts = [0] * 5 + [1] * 2 + [2] * 3
    lines = [f"{number:06}.jpg {part}" for number, part in enumerate(parts, 1)]
    (root / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    layout = replace(LAYOUTS["celeba"], counts={"train": 5, "val": 2, "test": 3}, size=(SIDE, SIDE))
    monkeypatch.setitem(LAYOUTS, "celeba", layout)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return root


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Three masks a band, in folders; the second of 0-20 has another share when it is reduced to 32."""
    for band, (low, high) in BANDS.items():
        (tmp_path / "masks" / band).mkdir(parents=True)
        for number in range(3):
            hole = np.zeros((SIDE, SIDE), bool)
            hole[: round((low + (0.3 + 0.2 * number) * (high - low)) * SIDE)] = True
            if (band, number) == ("0-20", 1):
                hole[:] = False
                hole[1::2, : SIDE // 3] = True
            Image.fromarray(hole).save(tmp_path / "masks" / band / f"{number}.png")
    return tmp_path / "masks"


def inverted(masks: Path, to: Path) -> Path:
    for path in masks.rglob("*.png"):
        (to / path.relative_to(masks)).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - np.asarray(Image.open(path).convert("L"))).save(to / path.relative_to(masks))
    return to


def names(split: str) -> list[str]:
    return [f"img_align_celeba/{number:06}.jpg" for number in {"train": range(1, 6), "test": range(8, 11)}[split]]


# cicm data ------------------------------------------------------------------------------------------------------------


def test_list_tells_every_layout_with_counts_and_terms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    out = capsys.readouterr().out
    for name, layout in LAYOUTS.items():
        assert f"\n{name}\n" in f"\n{out}"
        assert layout.terms in out
    assert "train 1,803,460, val 36,500, test 328,500" in out
    assert main(["data", "list", "celeba"]) == 0
    out = capsys.readouterr().out
    assert "list_eval_partition.txt" in out
    assert "places2" not in out
    assert main(["data", "list", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == list(LAYOUTS)


def test_a_complete_copy_is_exit_code_0(faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--quick"], ["--read"]):
        assert main(["data", "check", "celeba", str(faces), *options]) == 0
        out = capsys.readouterr().out
        assert "5 of 5 photos" in out
        assert out.endswith("\ncomplete\n")
        assert ("64x64" in out) == (options != ["--quick"])


def test_an_incomplete_copy_is_exit_code_1_with_names(faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (faces / names("test")[1]).write_bytes(b"no picture")
    (faces / names("train")[1]).unlink()
    assert main(["data", "check", "celeba", str(faces), "--read"]) == 1
    out, err = capsys.readouterr()
    assert "4 of 5 photos" in out
    assert f"\n    {names('train')[1]}\n" in out
    assert f"\n    {names('test')[1]} (" in out
    assert "Copy or download them again." in out
    assert out.endswith("\nnot complete, or not as published\n")
    assert err == ""
    assert main(["data", "check", "celeba", str(faces), "--split", "val"]) == 0


def test_json_says_the_same(faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (faces / names("train")[1]).unlink()
    assert main(["data", "check", "celeba", str(faces), "--json", "--quick"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["layout"], told["depth"], told["complete"]) == ("celeba", "names", False)
    assert [(split["name"], split["found"], split["expected"]) for split in told["splits"]] == [
        ("train", 4, 5),
        ("val", 2, 2),
        ("test", 3, 3),
    ]
    assert told["problems"][0]["paths"] == [names("train")[1]]
    assert {"what", "do", "split", "count"} <= told["problems"][0].keys()


def test_many_names_are_cut_and_control_characters_escaped(faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(14):
        Image.new("RGB", (8, 8)).save(faces / f"img_align_celeba/\x1b[1m{number}.png")
    assert main(["data", "check", "celeba", str(faces), "--quick"]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "and 4 more, see --json" in out


def test_bad_input_is_exit_code_2_in_one_line(faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv, told in (
        (["check"], "check takes a name and a folder"),
        (["check", "celeba"], "check takes a name and a folder"),
        (["check", "celebra", "x"], "did you mean 'celeba'"),
        (["check", "celeba", "nowhere"], "nowhere does not exist"),
        (["check", "celeba", "ROOT", "--split", "trian"], "the splits of celeba are train, val, test"),
        (["check", "celeba", "ROOT", "--quick", "--read"], "choose one"),
        (["list", "celeba", "ROOT"], "list looks at no folder"),
        (["list", "zzz"], "unknown layout 'zzz'"),
        (["look"], "look"),
    ):
        assert main(["data", *[str(faces) if word == "ROOT" else word for word in argv]]) == 2, argv
        out, err = capsys.readouterr()
        assert out == "", argv
        assert told in err, argv
        assert err.count("\n") == 1, argv


# cicm train -----------------------------------------------------------------------------------------------------------


def test_a_recipe_reads_the_splits_of_a_layout(faces: Path) -> None:
    changes = {"data.train": str(faces), "data.val": str(faces), "data.layout": "celeba", "data.crop": 32}
    data = load_recipe("unet-cicm-toy", changes).data
    assert training_photos(data) == [faces / name for name in names("train")]
    assert len(photos_in(data, "val")) == 2
    assert validation_set(data, 8).images.shape == (2, 3, 32, 32)
    data = load_recipe("unet-cicm-toy", changes | {"data.val_split": "test", "data.match": ["*/00000*"]}).data
    assert photos_in(data, "val") == [faces / name for name in names("test")]
    assert validation_set(data, 8).images.shape[0] == 2, "000008 and 000009 fit the pattern"


def test_train_takes_a_layout_with_its_folder(faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "unet-cicm-toy", "--data", str(faces), "--set", "data.crop=32", "--dry-run"]
    assert main([*argv, "--layout", "celeba"]) == 0
    out = capsys.readouterr().out
    assert f"5 in {faces}\n" in out
    assert f"2 of those in {faces}\n" in out
    assert 'layout = "celeba"' in out
    assert main([*argv, "--set", "data.layout=celeba"]) == 0, "a recipe that names its layout needs no option"
    assert f"5 in {faces}\n" in capsys.readouterr().out
    assert main(argv) == 2, "without a layout: FOLDER/train"
    assert f"{faces / 'train'} does not exist" in capsys.readouterr().err


def test_train_refuses_a_layout_that_does_not_fit(faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv, told in (
        (["--layout", "celebaa"], "did you mean 'celeba'"),
        (["--layout", "nvidia-masks"], "nvidia-masks is a layout of masks"),
        (["--layout", "celeba", "--set", "data.val_split=vall"], "data.val_split must be one of train, val, test"),
        (["--layout", "places2"], "is no complete places2: train: the folder data_256_standard is missing"),
    ):
        assert main(["train", "unet-cicm-toy", "--data", str(faces), "--dry-run", *argv]) == 2, argv
        assert told in capsys.readouterr().err, argv


def test_a_run_trains_on_a_layout(faces: Path) -> None:
    argv = ["train", "unet-cicm-toy", "--data", str(faces), "--layout", "celeba", "--output", "run"]
    small = ["data.crop=32", "data.batch_size=2", "data.workers=0", "training.steps=2", "training.val_images=2"]
    small += ["model.options.width=2", "training.memory_seed_step=0", "training.memory_seed_batches=1"]
    assert main([*argv, *[word for change in small for word in ("--set", change)]]) == 0
    assert Path("run/weights.safetensors").is_file()


# cicm evaluate --------------------------------------------------------------------------------------------------------


def test_evaluate_scores_the_split_of_a_layout(faces: Path, masks: Path) -> None:
    argv = ["evaluate", "mean", "--images", str(faces), "--masks", str(masks), "--size", "64", "--layout"]
    assert main([*argv, "celeba", "--metrics", "psnr", "-o", "test.json", "--save-pairs", "list.csv"]) == 0
    assert list(dict.fromkeys(pair.image for pair in read_pairs("list.csv"))) == names("test"), "the default split"
    assert {scores.image for scores in Evaluation.load("test.json").images} == set(names("test"))
    assert main([*argv, "celeba:train", "--save-pairs", "train.csv"]) == 0
    assert list(dict.fromkeys(pair.image for pair in read_pairs("train.csv"))) == names("train")


def test_masks_by_index_are_those_of_the_published_protocols(faces: Path, masks: Path) -> None:
    photos = photos_of(faces, "celeba", "train")
    pairs = make_pairs(faces, masks, sizes=[64], photos=photos, order="index")
    expected = [(name, f"{band}/{place % 3}.png") for place, name in enumerate(names("train")) for band in BANDS]
    assert [(pair.image, pair.mask) for pair in pairs] == expected


def test_a_mask_that_leaves_its_band_gives_way_to_the_next(faces: Path, masks: Path) -> None:
    """Rows 1, 3, ... of 64, a third of each: 16 percent; reduced to 32 these rows are all that is taken: 33 percent."""
    pairs = make_pairs(faces, masks, sizes=[32], bands=["0-20"], order="index")
    assert [pair.mask for pair in pairs][:5] == ["0-20/0.png", "0-20/2.png", "0-20/2.png", "0-20/0.png", "0-20/2.png"]
    assert len(PairedPhotos(pairs, faces, masks)) == 10
    for pair in pairs:
        hole_of(pair, masks)  # each is of its band
    (masks / "0-20" / "0.png").unlink()
    (masks / "0-20" / "2.png").unlink()
    with pytest.raises(InputError, match=r"no mask in .* has a share in the band 0-20 at 32x32"):
        make_pairs(faces, masks, sizes=[32], bands=["0-20"], order="index")
    with pytest.raises(InputError, match="with a folder of masks"):
        make_pairs(faces, None, sizes=[32], order="index")


def test_black_holes_score_as_white_ones_do(
    faces: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    black = inverted(masks, tmp_path / "black")
    argv = ["evaluate", "mean", "--images", str(faces), "--size", "64", "--metrics", "psnr"]
    assert main([*argv, "--masks", str(masks), "-o", "white.json"]) == 0
    for polarity in ("black", "measured"):
        options = ["--masks", str(black), "--mask-polarity", polarity, "-o", f"{polarity}.json"]
        assert main([*argv, *options]) == 0
    assert "masks: black is the hole, by their areas" in capsys.readouterr().err
    white, told, measured = (Evaluation.load(f"{name}.json") for name in ("white", "black", "measured"))
    assert [record.value for record in told.records] == [record.value for record in white.records]
    assert told.records == tuple(
        replace(mine, seconds=theirs.seconds) for mine, theirs in zip(measured.records, told.records)
    )
    assert told.protocol.pixels_sha256 == white.protocol.pixels_sha256
    assert "black = hole" in told.protocol.masks
    assert main([*argv, "--masks", str(black)]) == 2, "still refused where nothing was said"
    assert "look inverted" in capsys.readouterr().err


def test_evaluate_refuses_what_does_not_go_together(faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, told in (
        (["--layout", "celeba:tset"], "the splits of celeba"),
        (["--layout", "celeba", "--pairs", "list.csv"], "leave --pairs out"),
        (["--mask-polarity", "black"], "give their folder with --masks"),
    ):
        assert main(["evaluate", "mean", "--images", str(faces), "--size", "64", *options]) == 2, options
        assert told in capsys.readouterr().err, options
