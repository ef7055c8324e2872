"""Real pixels in folder runs: patches, a seed, and other photos of the same place."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.folders import Engine, FolderRun, FolderTask, MaskFolder, fill_folder
from cicm.inference import Inpainter
from cicm.photos.photo import open_photo, save_photo
from cicm.photos.pixels import pixels_of_array
from traced import traced

LEFT, TOP, SIDE = 140, 90, 60


def scene(seed: int) -> np.ndarray:
    """Blobs of many sizes, in which features are found."""
    rng = np.random.default_rng(seed)
    parts = [rng.integers(0, 256, (240 // side + 1, 320 // side + 1, 3), dtype=np.uint8) for side in (6, 15, 40)]
    grown = [np.asarray(Image.fromarray(part).resize((320, 240), Image.Resampling.BICUBIC), int) for part in parts]
    return (sum(grown) // 3).astype(np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two moments of one place, the second one damaged as well, elsewhere; and another place. All have masks."""
    root = tmp_path_factory.mktemp("moments")
    for folder in ("photos/sub", "masks/sub"):
        (root / folder).mkdir(parents=True)
    truth = scene(0)
    moments = {"a": (truth, 0), "sub/b": (np.roll(truth, 3, 1), -80), "c": (scene(5), 0)}
    for name, (picture, shift) in moments.items():
        hole = np.zeros((240, 320), bool)
        hole[TOP + shift : TOP + SIDE + shift, LEFT : LEFT + SIDE] = True
        damaged = np.where(hole[..., None], np.uint8([200, 30, 30]), picture)
        Image.fromarray(damaged).save(root / "photos" / f"{name}.png")
        Image.fromarray(hole).save(root / "masks" / f"{name}.png")
    return root


def results(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_any_number_of_workers_writes_the_same_files(place: Path, weights: Path, tmp_path: Path) -> None:
    found = []
    for workers in (1, 4):
        task = FolderTask(place / "photos", tmp_path / f"out{workers}", MaskFolder(place / "masks"))
        summary = fill_folder(Inpainter.from_pretrained(weights, device="cpu"), task, Engine(workers, batch=1))
        assert summary.done == 3
        found.append(results(task.out))
    assert found[0] == found[1]


def test_another_fill_or_seed_or_album_is_another_setting(place: Path, weights: Path, tmp_path: Path) -> None:
    from cicm.exemplar.handful import Handful

    task = FolderTask(place / "photos", tmp_path / "out", MaskFolder(place / "masks"))
    inpainter = Inpainter.from_pretrained(weights, device="cpu", fill="network")
    fill_folder(inpainter, task)
    for options, words in (({"seed": 1}, "seed was 0, now 1"), ({"fill": "both"}, "fill was network, now both")):
        changed = Inpainter(inpainter.model, device="cpu", **{"fill": "network", **options})
        with pytest.raises(InputError, match=words):
            FolderRun(changed, task)
    inpainter.album = Handful([("a", scene(0), "1")])
    with pytest.raises(InputError, match="album was None, now 1 photos "):
        FolderRun(inpainter, task)


def test_the_folder_is_its_own_album(
    place: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2", reason="OpenCV is in the extra `album`")
    words = ["inpaint", str(place / "photos"), "--masks", str(place / "masks"), "--weights", str(weights)]
    words += ["--fill", "network", "--album", "self", "-o"]
    for number, report in enumerate(("run.jsonl", "run.csv")):
        more = ["--report", str(tmp_path / report), "--workers", str(1 + 3 * number)]
        assert main([*words, str(tmp_path / f"out{number}"), *more]) == 0
    assert results(tmp_path / "out0") == results(tmp_path / "out1")
    rows = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert {row["photo"]: row["lenders"] for row in rows} == {
        "a.png": ["sub/b.png"],
        "sub/b.png": ["a.png"],
        "c.png": [],
    }
    assert {row["fill"] for row in rows} == {"network"}
    table = list(csv.DictReader((tmp_path / "run.csv").open()))
    assert {row["photo"]: row["lenders"] for row in table} == {"a.png": "sub/b.png", "sub/b.png": "a.png", "c.png": ""}
    repaired = np.array(Image.open(tmp_path / "out0" / "a.png")).astype(int)
    here = slice(TOP, TOP + SIDE), slice(LEFT, LEFT + SIDE)
    assert np.abs(repaired[here] - scene(0)[here]).mean() < 20
    capsys.readouterr()
    assert main([*words, str(tmp_path / "out0")]) == 0
    assert "0 filled, 3 done before" in capsys.readouterr().out
    assert main([*words, str(tmp_path / "v"), "--variants", "2"]) == 2
    assert "--variants is for one photo" in capsys.readouterr().err


@pytest.mark.slow
def test_an_album_goes_to_rays_actors(place: Path, weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.data", reason="ray[data] is in the extra `ray`")
    pytest.importorskip("cv2", reason="OpenCV is in the extra `album`")
    words = ["inpaint", str(place / "photos"), "--masks", str(place / "masks"), "--weights", str(weights)]
    words += ["--fill", "network", "--album", "self", "-o"]
    assert main([*words, str(tmp_path / "own")]) == 0
    assert main([*words, str(tmp_path / "ray"), "--engine", "ray", "--report", str(tmp_path / "run.jsonl")]) == 0
    assert results(tmp_path / "own") == results(tmp_path / "ray")
    rows = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert {tuple(row["lenders"]) for row in rows} == {("sub/b.png",), ("a.png",), ()}


@pytest.mark.shared
def test_a_folder_repaired_with_a_traced_lama_is_what_its_own_pipeline_gave(oracles, tmp_path: Path) -> None:
    """16-bit photos, so that rounding costs 8e-6 on the way in and on the way out: 3e-5 of the largest value."""
    state = {f"model.generator.{name}": tensor for name, tensor in oracles.state("lama_fourier").items()}
    traced(state, tmp_path / "lama.pt")
    weights = tmp_path / "lama.safetensors"
    assert main(["convert", "lama", str(tmp_path / "lama.pt"), "-o", str(weights)]) == 0
    stored = oracles.outputs("lama_fourier_pipeline.a")
    image, hole = (part[0].permute(1, 2, 0).numpy() for part in oracles.picture(stored))
    for folder in ("photos", "masks"):
        (tmp_path / folder / "below").mkdir(parents=True)
    deep = (image * 65535).round().astype(np.uint16)
    for name in ("a.png", "below/b.png"):
        Image.fromarray((image * 255).astype(np.uint8)).save(tmp_path / "plain.png")
        photo = open_photo(tmp_path / "plain.png").with_pixels(pixels_of_array(deep))
        save_photo(photo, tmp_path / "photos" / name)
        Image.fromarray((hole[..., 0] * 255).astype(np.uint8)).save(tmp_path / "masks" / name)
    words = ["--masks", str(tmp_path / "masks"), "-o", str(tmp_path / "out"), "--weights", str(weights)]
    assert main(["inpaint", str(tmp_path / "photos"), *words, "--fill", "network", "--device", "cpu"]) == 0
    expected = stored["composite"][0].transpose(1, 2, 0)
    for name in ("a.png", "below/b.png"):
        repaired = open_photo(tmp_path / "out" / name).pixels.values
        assert repaired.dtype == np.uint16
        assert np.array_equal(repaired[hole[..., 0] == 0], deep[hole[..., 0] == 0]), "not a bit outside the hole"
        assert np.abs(repaired / 65535 - expected).max() < 3e-5 * expected.max()
