"""A folder of photos: the same results as one by one, every fault named, nothing lost, nothing overwritten."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.assembly import ModelConfig, build
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.folders import Engine, FolderRun, FolderTask, MaskAlpha, MaskColour, MaskFolder, OneMask, Outcome, fill_folder
from cicm.folders.engine import Budget
from cicm.folders.journal import Journal, _safe_below, read_ledger
from cicm.folders.reports import COLUMNS
from cicm.inference import Inpainter
from cicm.photos.photo import open_photo, save_photo

Maker = Callable[..., Inpainter]
SIZE = (40, 32)  # width, height


@pytest.fixture(scope="module")
def untrained() -> Inpainter:
    """A small network whose fill depends on what it sees."""
    torch.manual_seed(0)
    return Inpainter(build(ModelConfig("unet", {"width": 4})), device="cpu")


def hole_of(size: tuple[int, int] = SIZE, at: int = 5) -> np.ndarray:
    hole = np.zeros((size[1], size[0]), dtype=bool)
    hole[at : at + 8, at : at + 9] = True
    return hole


def add_photo(place: Path, name: str, seed: int = 0, size: tuple[int, int] = SIZE, mask: str | None = None) -> None:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    for path, image in [
        (place / "photos" / name, Image.fromarray(values)),
        (place / "masks" / (mask or os.path.splitext(name)[0] + ".png"), Image.fromarray(hole_of(size))),
    ]:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Photos of several kinds and sizes, with masks."""
    for seed, name in enumerate(["a.png", "b.jpg", "sub/c.png", "sub/deep/d.tif", "e.webp", "f.bmp"]):
        add_photo(tmp_path, name, seed)
    add_photo(tmp_path, "wide.png", 9, (90, 50))
    return tmp_path


def task_of(place: Path, **options) -> FolderTask:
    return FolderTask(place / "photos", place / "out", MaskFolder(place / "masks"), **options)


def files(folder: Path, *, hidden: bool = False) -> dict[str, bytes]:
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: data for name, data in found.items() if hidden or not name.startswith(".cicm/")}


def one_by_one(inpainter: Inpainter, place: Path) -> dict[str, bytes]:
    """What a plain loop writes."""
    for name in files(place / "photos"):
        target = place / "plain" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        repaired, _ = inpainter.fill_photo(
            open_photo(place / "photos" / name), (place / "masks" / name).with_suffix(".png")
        )
        save_photo(repaired, target)
    return files(place / "plain")


def outcomes_of(inpainter: Inpainter, task: FolderTask, engine: Engine | None = None, **options) -> dict[str, Outcome]:
    found = list(FolderRun(inpainter, task, engine, **options))
    assert len({outcome.photo for outcome in found}) == len(found)
    return {outcome.photo: outcome for outcome in found}


# Results --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 5])
def test_results_are_those_of_a_plain_loop_byte_for_byte(place: Path, untrained: Inpainter, workers: int) -> None:
    before = files(place / "photos")
    summary = fill_folder(untrained, task_of(place), Engine(workers, batch=1))
    assert (summary.done, summary.failed, summary.complete) == (7, 0, True)
    assert files(place / "out") == one_by_one(untrained, place)
    assert files(place / "photos") == before
    assert [path.name for path in (place / "out" / ".cicm").iterdir()] == ["journal.jsonl"]


def test_results_of_batches(tmp_path: Path, untrained: Inpainter) -> None:
    """A batch rounds otherwise than one picture: by 1e-7 of full scale here, so by one level of 255 at most, rarely."""
    for seed in range(6):
        add_photo(tmp_path, f"{seed}.png", seed)
    fill_folder(untrained, task_of(tmp_path), Engine(8, batch=4))
    plain = one_by_one(untrained, tmp_path)
    for name in plain:
        one, other = (np.array(Image.open(tmp_path / where / name)).astype(int) for where in ("plain", "out"))
        assert np.abs(one - other).max() <= 1
        assert (one != other).mean() < 1e-3


def test_batches_form_of_what_has_one_shape_and_each_gets_its_own(tmp_path: Path, one_colour: Maker) -> None:
    for seed in range(9):
        add_photo(tmp_path, f"{seed}.png", seed, SIZE if seed % 3 else (90, 50))
    inpainter = one_colour()
    network = inpainter.model.network
    real, gate = network.forward, threading.Event()

    def slow(corrupted, hole, *, edit):
        if not gate.is_set():  # all others are waiting when the first call is done
            gate.set()
            time.sleep(0.5)
        made = real(corrupted, hole, edit=edit)
        # each picture's fill tells which picture it was
        return made._replace(image=corrupted.mean((1, 2, 3), keepdim=True).expand_as(corrupted).clone())

    network.forward = slow
    fill_folder(inpainter, task_of(tmp_path), Engine(9, batch=4))
    sizes = Counter(len(corrupted) for corrupted, _ in network.seen)
    assert max(sizes) in (2, 3, 4)
    assert sum(size * count for size, count in sizes.items()) == 9
    network.seen.clear()
    for name, data in one_by_one(inpainter, tmp_path).items():
        assert np.array_equal(
            np.array(Image.open(tmp_path / "out" / name)), np.array(Image.open(tmp_path / "plain" / name))
        )
        assert data
    assert all(len(corrupted) == 1 for corrupted, _ in network.seen)


def test_two_endings_and_two_cases_stay_two(tmp_path: Path, inpainter: Inpainter) -> None:
    for seed, name in enumerate(["a.png", "a.jpg", "A.png"]):
        add_photo(tmp_path, name, seed, mask="one.png")
    task = FolderTask(tmp_path / "photos", tmp_path / "out", OneMask(tmp_path / "masks/one.png"))
    fill_folder(inpainter, task)
    assert set(files(tmp_path / "out")) == {"A.png", "a~2.png", "a.jpg"}
    small, large = (np.array(Image.open(tmp_path / "out" / name)) for name in ("a~2.png", "A.png"))
    hole = hole_of()
    assert np.array_equal(small[~hole], np.array(Image.open(tmp_path / "photos/a.png"))[~hole])
    assert np.array_equal(large[~hole], np.array(Image.open(tmp_path / "photos/A.png"))[~hole])


def test_transparency_and_colour_in_a_folder(tmp_path: Path, inpainter: Inpainter) -> None:
    add_photo(tmp_path, "a.png")
    image = Image.open(tmp_path / "photos/a.png").convert("RGBA")
    image.putalpha(Image.fromarray(np.where(hole_of(), 0, 255).astype(np.uint8)))
    image.save(tmp_path / "photos/a.png")
    fill_folder(inpainter, FolderTask(tmp_path / "photos", tmp_path / "out", MaskAlpha()))
    made = Image.open(tmp_path / "out/a.png")
    assert made.mode == "RGBA"
    assert made.getchannel("A").getextrema() == (255, 255)
    assert set(map(tuple, np.array(made)[hole_of()])) == {(51, 153, 102, 255)}

    values = np.array(image.convert("RGB"))
    values[hole_of()] = (255, 0, 255)
    Image.fromarray(values).save(tmp_path / "photos/a.png")
    fill_folder(inpainter, FolderTask(tmp_path / "photos", tmp_path / "out2", MaskColour((255, 0, 255), 0)))
    assert set(map(tuple, np.array(Image.open(tmp_path / "out2/a.png"))[hole_of()])) == {(51, 153, 102)}


# Faults ---------------------------------------------------------------------------------------------------------------


def test_each_bad_file_is_named_and_the_rest_done(place: Path, inpainter: Inpainter) -> None:
    good = set(files(place / "photos"))
    photos, masks = place / "photos", place / "masks"
    expected = {}

    def bad(name: str, words: str) -> Path:
        expected[name] = words
        add_photo(place, name)
        return photos / name

    whole = bad("short.png", "truncated").read_bytes()
    (photos / "short.png").write_bytes(whole[:600])
    bad("zero.png", "0 bytes").write_bytes(b"")
    bad("text.jpg", "not an image|expected a picture").write_text("hello " * 99)
    bad("turned.png", "mask of 32x40")
    Image.fromarray(hole_of().T.copy()).save(masks / "turned.png")
    bad("black.png", "no white")
    Image.new("L", SIZE).save(masks / "black.png")
    bad("white.png", "whole picture")
    Image.new("L", SIZE, 255).save(masks / "white.png")
    bad("half.png", "could not be decoded")
    (masks / "half.png").write_bytes((masks / "half.png").read_bytes()[:60])
    bad("glass.png", "transparency")
    Image.new("RGBA", SIZE, (9, 9, 9, 90)).save(photos / "glass.png")
    os.replace(photos / "glass.png", photos / "glass.jpg")  # a PNG that calls itself a JPEG
    expected["glass.jpg"] = expected.pop("glass.png")
    bad("lonely.png", "no mask")
    (masks / "lonely.png").unlink()
    bad("two\nlines \x1b[31m.png", "no white")
    Image.new("L", SIZE).save(masks / "two\nlines \x1b[31m.png")
    add_photo(place, "ünï cödé\t.png", 5)
    (photos / "folder.png").mkdir()
    expected["folder.png/"] = "holds no photos"
    (photos / "link.png").symlink_to(__file__)
    expected["link.png"] = "link out"

    outcomes = outcomes_of(inpainter, task_of(place), Engine(4))
    failed = {photo: outcome for photo, outcome in outcomes.items() if outcome.status == "failed"}
    assert set(failed) == set(expected)
    for photo, words in expected.items():
        import re

        assert re.search(words, failed[photo].error), (photo, failed[photo].error)
    assert set(files(place / "out")) == {*good, "ünï cödé\t.png"}
    for photo in [*photos.rglob("*.png")]:
        if photo.name in expected or not photo.is_file():
            (photo).unlink(missing_ok=True) if photo.is_file() else None
    for name in ("glass.jpg", "text.jpg", "link.png"):
        (photos / name).unlink(missing_ok=True)
    assert files(place / "out") == one_by_one(inpainter, place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(place: Path, inpainter: Inpainter) -> None:
    (place / "photos/a.png").chmod(0)
    assert "no permission" in outcomes_of(inpainter, task_of(place))["a.png"].error


def test_a_failing_picture_of_a_batch_takes_no_other_with_it(tmp_path: Path, one_colour: Maker) -> None:
    for seed in range(6):
        add_photo(tmp_path, f"{seed}.png", seed)
    bright = np.random.default_rng(0).integers(240, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    Image.fromarray(bright).save(tmp_path / "photos/3.png")
    inpainter = one_colour()
    network = inpainter.model.network
    real = network.forward

    def picky(corrupted, hole, *, edit):
        if bool((corrupted.mean((1, 2, 3)) > 0.8).any()):
            raise RuntimeError("can't allocate memory: not this one")
        return real(corrupted, hole, edit=edit)

    network.forward = picky
    outcomes = outcomes_of(inpainter, task_of(tmp_path), Engine(6, batch=6))
    assert [name for name, outcome in outcomes.items() if outcome.status == "failed"] == ["3.png"]
    assert "not enough memory on cpu" in outcomes["3.png"].error
    (tmp_path / "photos/3.png").unlink()
    assert files(tmp_path / "out") == one_by_one(inpainter, tmp_path)


def test_a_fault_of_ours_is_told_and_stays_with_its_photo(place: Path, one_colour: Maker) -> None:
    inpainter = one_colour()
    real = inpainter.model.network.forward

    def broken(corrupted, hole, *, edit):
        if corrupted.shape[-1] > 64:
            raise ZeroDivisionError("by zero")
        return real(corrupted, hole, edit=edit)

    inpainter.model.network.forward = broken
    outcomes = outcomes_of(inpainter, task_of(place))
    assert outcomes["wide.png"].error == "unexpected ZeroDivisionError: by zero."
    assert Counter(outcome.status for outcome in outcomes.values()) == {"done": 6, "failed": 1}


def test_a_full_disk_ends_the_run(place: Path, inpainter: Inpainter, monkeypatch: pytest.MonkeyPatch) -> None:
    import cicm.folders.run as module

    def full(*_):
        raise InputError("could not write: No space left on device.") from OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr(module, "save_photo", full)
    run = FolderRun(inpainter, task_of(place), Engine(1))
    assert [outcome.ends_run for outcome in run] == [True]
    assert run.summary.not_begun == 6
    assert "No space left" in run.summary.stopped
    assert not run.summary.complete


# What is there already ------------------------------------------------------------------------------------------------


def test_existing_results_are_left_alone(place: Path, inpainter: Inpainter) -> None:
    (place / "out").mkdir()
    (place / "out/a.png").write_bytes(b"precious")
    outcomes = outcomes_of(inpainter, task_of(place))
    assert "exists" in outcomes["a.png"].error
    assert (place / "out/a.png").read_bytes() == b"precious"
    assert outcomes_of(inpainter, task_of(place, overwrite=True))["a.png"].status == "done"
    assert Image.open(place / "out/a.png").size == SIZE


def test_a_result_that_appears_meanwhile_is_left_alone(place: Path, one_colour: Maker) -> None:
    inpainter = one_colour()
    real = inpainter.model.network.forward

    def meanwhile(corrupted, hole, *, edit):
        (place / "out/a.png").write_bytes(b"precious")
        return real(corrupted, hole, edit=edit)

    inpainter.model.network.forward = meanwhile
    assert "exists. Choose another name" in outcomes_of(inpainter, task_of(place), Engine(1))["a.png"].error
    assert (place / "out/a.png").read_bytes() == b"precious"


def test_a_second_run_does_nothing_twice(place: Path, inpainter: Inpainter) -> None:
    first = outcomes_of(inpainter, task_of(place))
    times = {path: path.stat().st_mtime_ns for path in (place / "out").rglob("*.*")}
    second = FolderRun(inpainter, task_of(place))
    assert {outcome.status for outcome in second} == {"already"}
    assert second.summary.complete
    assert {path: path.stat().st_mtime_ns for path in times} == times
    add_photo(place, "new.png", 3)
    (place / "out/a.png").unlink()
    third = outcomes_of(inpainter, task_of(place))
    assert {photo for photo, outcome in third.items() if outcome.status == "done"} == {"new.png", "a.png"}
    assert first["a.png"].output == third["a.png"].output


def test_a_photo_that_changed_is_told(place: Path, inpainter: Inpainter) -> None:
    fill_folder(inpainter, task_of(place))
    add_photo(place, "a.png", 77)
    os.utime(place / "masks/b.png", ns=(1, 1))
    outcomes = outcomes_of(inpainter, task_of(place))
    assert {photo for photo, outcome in outcomes.items() if "has changed" in outcome.error} == {"a.png", "b.jpg"}
    outcomes = outcomes_of(inpainter, task_of(place, overwrite=True))
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    assert files(place / "out") == one_by_one(inpainter, place)


def test_an_edited_result_is_not_ours_any_more(place: Path, inpainter: Inpainter) -> None:
    fill_folder(inpainter, task_of(place))
    with (place / "out/a.png").open("ab") as stream:
        stream.write(b"signed")
    assert "exists" in outcomes_of(inpainter, task_of(place))["a.png"].error


def test_other_settings_and_other_weights_are_refused(place: Path, one_colour: Maker, untrained: Inpainter) -> None:
    fill_folder(one_colour(), task_of(place))
    with pytest.raises(InputError, match=r"7 results made with other settings \(margin was \d+, now 77\)"):
        FolderRun(one_colour(margin=77), task_of(place))
    with pytest.raises(InputError, match="model was OneColour"):
        FolderRun(untrained, task_of(place))
    with pytest.raises(InputError, match="grow was 0, now 1"):
        FolderRun(one_colour(), FolderTask(place / "photos", place / "out", MaskFolder(place / "masks", grow=1)))
    assert fill_folder(untrained, task_of(place, overwrite=True)).done == 7
    assert files(place / "out") == one_by_one(untrained, place)


def test_the_name_of_a_model_is_that_of_its_numbers(place: Path) -> None:
    config = ModelConfig("unet", {"width": 4})
    torch.manual_seed(0)
    one = Inpainter(build(config), device="cpu")
    torch.manual_seed(0)
    same = Inpainter(build(config), device="cpu")
    torch.manual_seed(0)
    other = Inpainter(build(config), device="cpu")
    with torch.no_grad():
        next(other.model.parameters()).view(-1)[0] += 1e-3
    names = [task_of(place).settings(inpainter)["model"] for inpainter in (one, same, other)]
    assert names[0] == names[1] != names[2]


def test_another_ending_is_another_name(place: Path, inpainter: Inpainter) -> None:
    add_photo(place, "a.jpg")
    fill_folder(inpainter, task_of(place))
    outcomes = outcomes_of(inpainter, task_of(place, ending=".png", overwrite=True))
    assert outcomes["a.jpg"].output == "a.jpg.png"
    assert outcomes["b.jpg"].output == "b.png"
    assert Image.open(place / "out/b.png").format == "PNG"


def test_a_damaged_journal_costs_work_and_nothing_else(place: Path, inpainter: Inpainter) -> None:
    fill_folder(inpainter, task_of(place), Engine(1))
    journal = place / "out/.cicm/journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    evil = {
        "kind": "ready",
        "key": "evil",
        "run": "x",
        "output": "../../photos/a.png",
        "inputs": [],
        "settings": "",
        "size": 1,
    }
    rubbish = [b"\0\0\0\n", b"[]\n", b'{"kind": "done"}\n', json.dumps({**evil, "digest": ""}).encode() + b"\n"]
    rubbish += [b"[" * 50_000 + b"\n", b"x" * (2**20 + 10) + b"\n"]
    at = next(i for i, line in enumerate(lines) if b'"ready"' in line and b'"sub/c.png"' in line)
    journal.write_bytes(b"".join(rubbish + lines[:at] + lines[at + 1 :])[:-3])  # and torn at the end
    ledger = read_ledger(place / "out")
    assert "evil" not in ledger.entries
    assert ledger.damaged >= len(rubbish)
    outcomes = outcomes_of(inpainter, task_of(place))
    assert outcomes.pop("sub/c.png").status == "failed"  # nobody can tell whose that file is
    assert {outcome.status for outcome in outcomes.values()} == {"already"}
    outcomes = outcomes_of(inpainter, task_of(place, overwrite=True))
    assert Counter(outcome.status for outcome in outcomes.values()) == {"done": 7}
    assert not read_ledger(place / "out").entries.keys() - outcomes.keys()


def test_paths_of_a_journal() -> None:
    bad = ["", "/a", "a//b", "../a", "a/..", "a/./b", ".cicm/x", "a\0b"]
    assert [path for path in bad if _safe_below(path)] == []


def test_two_runs_at_once_are_refused(place: Path, inpainter: Inpainter) -> None:
    run = iter(FolderRun(inpainter, task_of(place), Engine(1)))
    next(run)
    with pytest.raises(InputError, match="another run is writing"):
        list(FolderRun(inpainter, task_of(place)))
    other = FolderTask(place / "photos", place / "out", MaskFolder(place / "masks"), shard=(1, 1), limit=1)
    with pytest.raises(InputError, match="another run"):
        list(FolderRun(inpainter, other))
    run.close()
    assert fill_folder(inpainter, task_of(place)).complete
    assert set(files(place / "out")) == set(files(place / "photos"))


def test_places_for_results(place: Path) -> None:
    (place / "link").symlink_to(place / "photos")
    (place / "file").touch()
    for out, words in {
        "photos": "mixed up with photos",
        "photos/out": "mixed up with photos",
        "masks": "mixed up with masks",
        ".": "mixed up with",
        "link": "mixed up with photos",
        "file": "is a file",
        "no/out": "does not exist",
    }.items():
        with pytest.raises(InputError, match=words):
            FolderTask(place / "photos", place / out, MaskFolder(place / "masks"))


def test_a_link_in_the_results_leads_nowhere(place: Path, inpainter: Inpainter) -> None:
    before = files(place / "photos")
    (place / "out").mkdir()
    (place / "out/sub").symlink_to(place / "photos/sub")
    outcomes = outcomes_of(inpainter, task_of(place, overwrite=True))
    assert "link out of the folder of results" in outcomes["sub/c.png"].error
    assert files(place / "photos") == before


def test_shards_together_are_the_whole(place: Path, inpainter: Inpainter) -> None:
    for name in ("g.png", "h.png", "i.png"):
        add_photo(place, name)
    done: Counter[str] = Counter()
    for number in (1, 2, 3):
        outcomes = outcomes_of(inpainter, task_of(place, shard=(number, 3)))
        done.update(photo for photo, outcome in outcomes.items() if outcome.status == "done")
    assert done == Counter(list(files(place / "photos")))
    assert {outcome.status for outcome in outcomes_of(inpainter, task_of(place)).values()} == {"already"}


def test_limit(place: Path, inpainter: Inpainter) -> None:
    for expected in (3, 3, 1, 0):
        summary = fill_folder(inpainter, task_of(place, limit=3))
        assert (summary.done, summary.complete) == (expected, True)
    assert files(place / "out") == one_by_one(inpainter, place)


def test_the_limit_counts_results_and_not_failures(place: Path, inpainter: Inpainter) -> None:
    for name in ("a.png", "b.jpg"):
        (place / "photos" / name).write_bytes(b"")
    for workers in (1, 4):
        task = FolderTask(place / "photos", place / f"out{workers}", MaskFolder(place / "masks"), limit=3)
        run = FolderRun(inpainter, task, Engine(workers))
        told = Counter(outcome.status for outcome in run)
        assert told == {"done": 3, "failed": 2}
        assert (run.summary.not_begun, run.summary.complete) == (0, False)
        assert len(files(place / f"out{workers}")) == 3


def test_pictures_that_are_not_supported_are_named(
    place: Path, call: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    """They were left out in silence, with exit code 0."""
    for name in ("p.ppm", "sub/q.JP2", "r.tga", "notes.txt", "a.xmp"):
        (place / "photos" / name).write_bytes(b"something")
    assert call("--masks", "masks", "-o", "out", "--dry-run") == 1
    told = capfd.readouterr().out
    assert "not supported: 1 .jp2, 1 .ppm, 1 .tga, such as p.ppm" in told.splitlines()
    assert call("--masks", "masks", "-o", "out", "--report", "run.jsonl") == 1
    printed = capfd.readouterr()
    assert printed.out.startswith("out: 7 filled, 3 of formats that are not supported in ")
    assert "cicm: not done: sub/q.JP2: the format .jp2 is not supported." in printed.err.splitlines()
    rows = [json.loads(line) for line in (place / "run.jsonl").read_text().splitlines()]
    assert {row["photo"] for row in rows if row["status"] == "unsupported"} == {"p.ppm", "sub/q.JP2", "r.tga"}
    assert Counter(row["status"] for row in rows) == {"done": 7, "unsupported": 3}

    for photo in files(place / "photos"):
        if photo != "p.ppm":
            (place / "photos" / photo).unlink()
    assert call("--masks", "masks", "-o", "out") == 2
    assert "formats that are not supported: p.ppm" in capfd.readouterr().err


def test_a_dry_run_finds_what_the_run_refuses(
    place: Path, call: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.jpg", "e.webp", "f.bmp", "sub/deep/d.tif"):
        photo = place / "photos" / name
        photo.write_bytes(photo.read_bytes()[:-200])
    frames = [Image.new("L", SIZE, grey) for grey in (0, 200)]
    frames[0].save(place / "photos/moves.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(hole_of()).save(place / "masks/moves.png")
    assert call("--masks", "masks", "-o", "out", "--dry-run") == 1
    foreseen = {line.split(":")[0].strip() for line in capfd.readouterr().out.split("would fail: ")[1].splitlines()[1:]}
    assert call("--masks", "masks", "-o", "out", "--report", "run.jsonl") == 1
    rows = [json.loads(line) for line in (place / "run.jsonl").read_text().splitlines()]
    failed = {row["photo"] for row in rows if row["status"] == "failed"}
    assert failed == {"a.png", "b.jpg", "e.webp", "f.bmp", "sub/deep/d.tif", "moves.gif"}
    assert failed <= foreseen


# The engine -----------------------------------------------------------------------------------------------------------


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cicm-")]


def test_whatever_ends_a_run_no_thread_is_left(place: Path, one_colour: Maker) -> None:
    inpainter = one_colour()
    engine, jobs = Engine(4, batch=2), list(range(50))
    image, hole = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8), np.eye(40, dtype=bool)

    def work(job: int, own: Inpainter) -> int:
        own(image, hole)
        if job == 20:
            raise MemoryError("gone")
        return job

    with pytest.raises(MemoryError):
        list(engine.run(jobs, work, inpainter))
    assert threads() == []
    run = engine.run(jobs, work, inpainter)
    next(run)
    run.close()
    assert threads() == []

    real = inpainter.model.network.forward

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    inpainter.model.network.forward = interrupted
    with pytest.raises(KeyboardInterrupt):
        list(engine.run(jobs, work, inpainter))
    assert threads() == []
    inpainter.model.network.forward = real
    assert sorted(engine.run(range(20), work, inpainter)) == list(range(20))
    assert threads() == []


def test_workers_leave_the_callers_threads_alone(one_colour: Maker) -> None:
    torch.set_num_threads(2)
    assert list(Engine(2).run([1], lambda job, own: torch.get_num_threads(), one_colour())) == [1]
    assert torch.get_num_threads() == 2


def test_no_engine() -> None:
    for name in ("workers", "batch", "ram"):
        with pytest.raises(InputError, match=f"{name} must be at least 1"):
            Engine(**{name: 0})


def test_ram_is_shared_in_turn() -> None:
    budget, lock = Budget(100), threading.Lock()
    held, most, order = [0], [0], []

    def take(size: int) -> None:
        with budget.hold(size):
            with lock:
                order.append(size)
                held[0] += min(size, 100)
                most[0] = max(most[0], held[0])
            time.sleep(0.01)
            with lock:
                held[0] -= min(size, 100)

    sizes = [30, 60, 500, 20, 40, 99, 1, 30, 30, 30, 30]
    workers = [threading.Thread(target=take, args=(size,)) for size in sizes]
    for worker in workers:
        worker.start()
        time.sleep(0.002)
    for worker in workers:
        worker.join(10)
    assert sorted(order) == sorted(sizes)
    assert most[0] <= 100
    assert order.index(500) == 2  # small ones that came later did not pass it


# The door -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def call(place: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(place)
    return lambda *words: main(["inpaint", "photos", "--weights", str(weights), *words])


def test_from_the_command_line(place: Path, call: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    assert call("--masks", "masks", "-o", "out", "--report", "run.csv") == 0
    printed = capfd.readouterr()
    assert printed.out.startswith("out: 7 filled in ")
    assert printed.err == ""
    (place / "photos/zero.png").touch()
    (place / "masks/left.png").write_bytes((place / "masks/a.png").read_bytes())
    assert call("--masks", "masks", "-o", "out", "--report", "run.jsonl") == 1
    printed = capfd.readouterr()
    assert printed.out.startswith("out: 0 filled, 7 done before, 1 failed")
    assert printed.err.splitlines()[0] == "cicm: note: one mask or row belongs to no photo: left.png"
    assert printed.err.splitlines()[1].startswith("cicm: failed: zero.png: it has no mask")
    assert call("--masks", "masks", "-o", "out", "--missing", "skip", "--quiet") == 0

    with (place / "run.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS
    assert {row["photo"]: (row["output"], row["status"]) for row in rows} == {
        name: (name, "done") for name in files(place / "photos") if name != "zero.png"
    }
    assert all(0 < float(row["missing"]) < 1 and float(row["seconds"]) > 0 for row in rows)
    rows = [json.loads(line) for line in (place / "run.jsonl").read_text().splitlines()]
    assert Counter(row["status"] for row in rows) == {"already": 7, "failed": 1}


def test_dry_run(place: Path, call: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    before = files(place)
    assert call("--masks", "masks", "-o", "out", "--dry-run") == 0
    told = capfd.readouterr().out
    for line in [
        "photos: 7 in photos",
        "masks: 7 found, 0 missing",
        "to fill: 7",
        "sizes: 40x32 to 90x50, median 40x32",
        "would be written: 1 .bmp, 1 .jpg, 3 .png, 1 .tif, 1 .webp, such as out/a.png",
        "nothing was written (--dry-run)",
    ]:
        assert line in told.splitlines()
    assert "from 3 timed" in told
    Image.new("L", (4, 4), 255).save(place / "masks/a.png")
    (place / "masks/b.png").unlink()
    before = files(place)
    assert call("--masks", "masks", "-o", "out", "--dry-run") == 1
    told = capfd.readouterr().out
    assert "would fail: 2" in told
    assert "  a.png: its mask is 4x4, the photo 40x32 (width x height)." in told
    assert "  b.jpg: it has no mask" in told
    assert files(place) == before
    assert not (place / "out").exists()


BAD_CALLS = {
    "no source": ([], "one of --mask, "),
    "two sources": (["--masks", "masks", "--mask-alpha"], "got --masks and --mask-alpha"),
    "no masks": (["--masks", "none"], "none does not exist"),
    "no one mask": (["--mask", "none.png"], "the mask none.png does not exist"),
    "no list": (["--boxes", "none.csv"], "the list of boxes none.csv does not exist"),
    "colour": (["--mask-color", "pink"], "hexadecimal"),
    "tolerance": (["--mask-color", "ff00ff", "--mask-tolerance", "256"], "0 to 255"),
    "shard": (["--masks", "masks", "--shard", "4/3"], "shard"),
    "shard of nothing": (["--masks", "masks", "--shard", "0/0"], "shard"),
    "shard in words": (["--masks", "masks", "--shard", "third"], "3/64"),
    "limit": (["--masks", "masks", "--limit", "0"], "at least 1"),
    "format": (["--masks", "masks", "--format", "tga"], "tga"),
    "missing": (["--masks", "masks", "--missing", "cry"], "fail or skip"),
    "engine": (["--masks", "masks", "--engine", "steam"], "own or ray"),
    "address": (["--masks", "masks", "--address", "auto"], "goes with --engine ray"),
    "a box": (["--box", "1,2,3,4"], "--boxes FILE"),
    "ram": (["--masks", "masks", "--ram", "0"], "at least 1"),
    "workers": (["--masks", "masks", "--workers", "0"], "at least 1"),
    "grow": (["--masks", "masks", "--grow", "-1"], "0 to 512"),
    "report's ending": (["--masks", "masks", "--report", "run.txt"], "jsonl or .csv"),
    "report among photos": (["--masks", "masks", "--report", "photos/run.csv"], "among the photos"),
    "report over another": (["--masks", "masks", "--report", "mine.csv"], "no report"),
    "weights": (["--masks", "masks", "--weights", "none.safetensors"], "weights none.safetensors does not exist"),
    "out": (["--masks", "masks", "-o", "photos/out"], "mixed up"),
}


def test_bad_calls(place: Path, call: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    (place / "mine.csv").write_text("my,own,table\n")
    before = files(place)
    for case, (words, told) in BAD_CALLS.items():
        assert call("-o", "out", *words) == 2, case
        assert files(place) == before, case
        printed = capfd.readouterr()
        assert printed.out == "", case
        assert len(printed.err.splitlines()) == 1, printed.err
        assert printed.err.startswith("cicm: error: "), case
        assert told in printed.err, (case, printed.err)


def test_an_empty_folder_and_options_of_folders_for_a_photo(
    place: Path, weights: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "empty").mkdir()
    assert main(["inpaint", str(place / "empty"), "--mask-alpha", "-o", str(place / "out")]) == 2
    assert "a folder without a photo" in capfd.readouterr().err
    one = [str(place / "photos/a.png"), "--mask", str(place / "masks/a.png"), "-o", str(place / "new.png")]
    assert main(["inpaint", *one, "--shard", "1/2"]) == 2
    assert "--shard is for a folder" in capfd.readouterr().err


def test_one_photo_takes_the_other_sources_too(place: Path, weights: Path) -> None:
    image = Image.open(place / "photos/a.png").convert("RGBA")
    image.putalpha(Image.fromarray(np.where(hole_of(), 0, 255).astype(np.uint8)))
    image.save(place / "glass.png")
    words = ["-o", str(place / "new.png"), "--weights", str(weights), "--quiet"]
    assert main(["inpaint", str(place / "glass.png"), "--mask-alpha", *words]) == 0
    made = np.array(Image.open(place / "new.png"))
    assert (made[..., 3] == 255).all()
    assert np.array_equal(made[~hole_of()], np.array(image)[~hole_of()])
    words[1] = str(place / "grown.png")
    assert (
        main(["inpaint", str(place / "photos/a.png"), "--mask", str(place / "masks/a.png"), "--grow", "3", *words]) == 0
    )
    changed = (np.array(Image.open(place / "grown.png")) != np.array(Image.open(place / "photos/a.png"))).any(2)
    assert changed[2:16].any()
    assert changed[3, 9]
    assert not changed[1].any()


def test_what_a_terminal_sees() -> None:
    import io

    from cicm.cli.inpaint_folder import _told
    from cicm.terminal import Progress

    outcomes = [
        Outcome(f"{n}\n[red].png", "", "failed" if n % 5 else "done", "why" * (n % 5 > 0), seconds=0.1)
        for n in range(30)
    ]
    stream = io.StringIO()
    with Progress(30, "photos", stream=stream) as progress:
        progress._spoke -= 60
        assert list(_told(outcomes, progress)) == outcomes
    told = stream.getvalue()
    assert "cicm: failed: 1\\n[red].png: why" in told
    assert "cicm: 4 more failed; --report FILE" in told
    assert "1 of 30 photos" in told


def test_journals_survive_being_opened_again(tmp_path: Path) -> None:
    with Journal(tmp_path, {"a": 1}) as journal:
        journal.ready("k", "k.png", [["k.png", 1, 2]], 3, "d")
        journal.done("k")
    with (tmp_path / ".cicm/journal.jsonl").open("ab") as stream:
        stream.write(b'{"kind": "ready", "key": "torn')
    with Journal(tmp_path, {"a": 1}) as journal:
        journal.ready("l", "l.png", [], 3, "d")
    ledger = read_ledger(tmp_path)
    assert {key: entry.finished for key, entry in ledger.entries.items()} == {"k": True, "l": False}
    assert ledger.damaged == 1
    assert list(ledger.settings.values()) == [{"a": 1}]


def test_journals_of_the_first_versions_are_still_read(place: Path, inpainter: Inpainter) -> None:
    """They hold a shorter digest of the result; it is asked if the run died before it said `done`."""
    fill_folder(inpainter, task_of(place), Engine(1))
    journal = place / "out/.cicm/journal.jsonl"
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    for record in records:
        if record["kind"] == "ready":
            data = (place / "out" / record["output"]).read_bytes()
            record["digest"] = hashlib.blake2b(data, digest_size=16).hexdigest()
    journal.write_text("".join(json.dumps(record) + "\n" for record in records if record["kind"] != "done"))
    assert {outcome.status for outcome in outcomes_of(inpainter, task_of(place)).values()} == {"already"}
    data = (place / "out/a.png").read_bytes()
    (place / "out/a.png").write_bytes(data[:-1] + b"x")
    assert "no journal proves" in outcomes_of(inpainter, task_of(place))["a.png"].error
