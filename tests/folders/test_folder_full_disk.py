"""A disk that is full: no result is torn, the run ends with one line, and goes on when there is room."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.folders import Engine, FolderRun, FolderTask, OneMask, Outcome
from cicm.folders.journal import Journal, read_ledger
from cicm.inference import Inpainter

Limit = Callable[[int], AbstractContextManager]
SIDE = 120
KINDS = ("jpg", "bmp", "png", "webp", "tif")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two noisy photos of each kind, of 18 to 43 kB, and a mask for all."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for kind in KINDS:
        for number in range(2):
            noise = Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
            noise.save(tmp_path / f"photos/{kind}{number}.{kind}", quality=98)
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (40, 40, 60, 60))
    mask.save(tmp_path / "mask.png")
    return tmp_path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """small_disk(kilobytes): a disk of that size, empty at first; call it again to enlarge it."""
    where = tmp_path / "disk"
    where.mkdir()

    def mount(kilobytes: int) -> Path:
        how = f"{'remount,' if os.path.ismount(where) else ''}size={kilobytes}k"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", where], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("a small disk can't be mounted here")
        return where

    yield mount
    if os.path.ismount(where):
        subprocess.run(["umount", where], check=True)


def run(inpainter: Inpainter, place: Path, out: Path, **options) -> dict[str, Outcome]:
    task = FolderTask(place / "photos", out, OneMask(place / "mask.png"), **options)
    return {outcome.photo: outcome for outcome in FolderRun(inpainter, task, Engine(1))}


def check_all_whole(out: Path) -> list[str]:
    """Every result opens to its last pixel, and its journal proves its bytes; returns their names."""
    names, ledger = sorted(path.name for path in out.iterdir() if path.is_file()), read_ledger(out)
    for name in names:
        Image.open(out / name).load()
        assert ledger.proves(name, out, read=True), name
    return names


def test_a_write_that_falls_short_leaves_no_result(place: Path, inpainter: Inpainter, file_limit: Limit) -> None:
    """A limit on the size of files cuts each write short, as a full disk does; the photos are above it."""
    out = place / "out"
    with file_limit(8_000):
        outcomes = run(inpainter, place, out)
    assert {outcome.status for outcome in outcomes.values()} == {"failed"}
    assert all("File too large" in outcome.error for outcome in outcomes.values())
    assert check_all_whole(out) == []
    assert Counter(outcome.status for outcome in run(inpainter, place, out).values()) == {"done": 2 * len(KINDS)}
    assert len(check_all_whole(out)) == 2 * len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_tears_nothing(
    place: Path, inpainter: Inpainter, small_disk: Callable[[int], Path], kind: str
) -> None:
    for path in (place / "photos").iterdir():
        if path.suffix != f".{kind}":
            path.unlink()
    out = small_disk(4) / "out"
    out.mkdir()
    told: list[str] = []
    for kilobytes in range(8, 64, 4):  # ends in the journal, in a folder, or in the middle of a photo
        small_disk(kilobytes)
        try:
            outcomes = run(inpainter, place, out)
        except InputError as error:
            told.append(str(error))
            continue
        check_all_whole(out)
        told += [outcome.error for outcome in outcomes.values() if outcome.status not in ("done", "already")]
    assert told
    assert all("No space left" in line for line in told), told
    small_disk(1024)
    count = Counter(outcome.status for outcome in run(inpainter, place, out).values())
    assert count["done"] + count["already"] == 2
    assert len(check_all_whole(out)) == 2


def test_the_command_says_it_in_one_line(
    place: Path, weights: Path, file_limit: Limit, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["inpaint", str(place / "photos"), "--mask", str(place / "mask.png"), "-o", str(place / "out")]
    with file_limit(100):  # the journal itself has no room
        assert main([*words, "--weights", str(weights), "--workers", "1"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "no journal can be written" in told
    assert "File too large" in told
    words[1], words[-1] = str(place / "photos/jpg0.jpg"), str(place / "one.jpg")
    with file_limit(100):
        assert main([*words, "--weights", str(weights)]) == 1
    assert "could not write" in capsys.readouterr().err
    assert not (place / "one.jpg").exists()


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path, file_limit: Limit) -> None:
    with Journal(tmp_path, {}) as journal:
        with file_limit(journal.file.stat().st_size + 20), pytest.raises(OSError, match="File too large"):
            journal.ready("a", "a.png", [], 1, "d")
        journal.ready("b", "b.png", [], 1, "d")
    assert list(read_ledger(tmp_path).entries) == ["b"]


# What is there already ------------------------------------------------------------------------------------------------


def test_overwrite_does_a_photo_again_whatever_the_journal_says(place: Path, inpainter: Inpainter) -> None:
    run(inpainter, place, place / "out")
    torn = place / "out/jpg0.jpg"
    whole = torn.read_bytes()
    torn.write_bytes(b"\0" * len(whole))  # of the size that the journal knows
    assert {outcome.status for outcome in run(inpainter, place, place / "out").values()} == {"already"}
    assert {outcome.status for outcome in run(inpainter, place, place / "out", overwrite=True).values()} == {"done"}
    assert torn.read_bytes() == whole


def test_verify_notices_bytes_that_changed(place: Path, inpainter: Inpainter) -> None:
    run(inpainter, place, place / "out")
    torn = place / "out/jpg0.jpg"
    whole = torn.read_bytes()
    torn.write_bytes(whole[:-1] + b"\0")
    outcomes = run(inpainter, place, place / "out", verify=True)
    assert "was changed or damaged" in outcomes.pop("jpg0.jpg").error
    assert {outcome.status for outcome in outcomes.values()} == {"already"}
    torn.unlink()
    outcomes = run(inpainter, place, place / "out", verify=True)
    assert outcomes["jpg0.jpg"].status == "done"
    assert torn.read_bytes() == whole


def test_a_run_that_replaces_is_taken_up_and_then_over(place: Path, inpainter: Inpainter) -> None:
    run(inpainter, place, place / "out")
    half = run(inpainter, place, place / "out", overwrite=True, limit=4)
    assert Counter(outcome.status for outcome in half.values()) == {"done": 4}
    rest = run(inpainter, place, place / "out", overwrite=True)
    assert Counter(outcome.status for outcome in rest.values()) == {"already": 4, "done": 6}
    again = run(inpainter, place, place / "out", overwrite=True)
    assert Counter(outcome.status for outcome in again.values()) == {"done": 10}


def test_what_dead_runs_left_is_removed_and_what_living_ones_have_is_not(tmp_path: Path) -> None:
    with Journal(tmp_path, {}, name="1-of-2") as living:
        (living.parts / "half.png").write_bytes(b"half")
        dead = tmp_path / ".cicm/parts-0123abcd-99"
        dead.mkdir()
        (dead / "half.png").write_bytes(b"half")
        with Journal(tmp_path, {}):
            assert not dead.exists()
            assert (living.parts / "half.png").exists()
    assert sorted(os.listdir(tmp_path / ".cicm")) == ["journal-1-of-2.jsonl", "journal.jsonl"]
