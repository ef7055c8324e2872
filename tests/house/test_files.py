"""The ground floor for files: whole or not at all, one check of an output, one walk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from cicm import files
from cicm.conventions import InputError
from cicm.files import (
    atomic,
    check_output,
    check_readable,
    digest_of,
    disk_failure,
    evenly_spaced,
    place,
    read_bounded,
    walk,
    write_atomic,
)


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Writing --------------------------------------------------------------------------------------------------------------


def test_a_file_appears_whole_with_the_permissions_of_a_new_one(tmp_path: Path) -> None:
    for mask in (0o022, 0o077):
        before = os.umask(mask)
        try:
            write_atomic(tmp_path / "a.json", "é")
            touch(tmp_path / f"plain{mask}")
        finally:
            os.umask(before)
        assert (tmp_path / "a.json").read_bytes() == "é".encode()
        assert (tmp_path / "a.json").stat().st_mode == (tmp_path / f"plain{mask}").stat().st_mode
        (tmp_path / "a.json").unlink()


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    touch(tmp_path / "a.txt", b"precious")

    def fail() -> None:
        with atomic(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            assert temporary.suffix == ".txt"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.txt", b"precious")]


def test_a_killed_writer_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    code = (
        "import sys, time; from cicm.files import atomic\n"
        "with atomic(sys.argv[1]) as path:\n"
        "    path.write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "a.txt"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        os.kill(writer.pid, signal.SIGKILL)
    assert not (tmp_path / "a.txt").exists()
    assert walk(tmp_path, lambda name: True).files == (), "what is left is hidden from every walk"


def test_a_file_that_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:

    def write() -> None:
        with atomic(tmp_path / "a", overwrite=False) as temporary:
            temporary.write_text("ours")
            (tmp_path / "a").write_text("theirs")

    with pytest.raises(InputError, match=r"exists.*--overwrite"):
        write()
    assert (tmp_path / "a").read_text() == "theirs"
    assert os.listdir(tmp_path) == ["a"]


def test_a_short_write_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Short:
        def __init__(self, *words: str) -> None:
            self.file = open(*words)  # noqa: SIM115

        def __enter__(self) -> Short:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, content: bytes) -> int:
            return self.file.write(content[:-1])

        def fileno(self) -> int:
            return self.file.fileno()

    monkeypatch.setattr(files, "open", Short, raising=False)
    with pytest.raises(OSError, match="only 3 of 4 bytes"):
        write_atomic(tmp_path / "a", b"four")
    assert os.listdir(tmp_path) == []


def test_without_hard_links_a_name_is_still_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_atomic(tmp_path / "a", "one", overwrite=False)
    with pytest.raises(InputError, match="exists"):
        place(touch(tmp_path / "b"), tmp_path / "a", overwrite=False)
    assert (tmp_path / "a").read_text() == "one"


def test_the_disks_own_failure_is_found_behind_others() -> None:
    full = OSError(28, "No space left on device")
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__context__ = second, first  # Pillow's readers leave such circles
    assert disk_failure(first) is None
    second.__cause__ = full
    assert disk_failure(first) is full
    assert disk_failure(FileNotFoundError(2, "No such file")) is None


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("\N{GRINNING FACE}" * 62 + ".png"), b"x")
    assert [len(os.fsencode(name)) for name in os.listdir(tmp_path)] == [252]


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    code = (
        "import sys, time; from cicm.files import atomic\n"
        "with atomic(sys.argv[1]) as path:\n"
        "    path.write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    words = [sys.executable, "-c", code]
    with subprocess.Popen([*words, tmp_path / "a.txt"], stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"ready\n"
        killed.kill()
    [left] = tmp_path.glob(".a.*")
    touch(tmp_path / left.name.replace(".a.", ".folder.") / "half.pth")
    touch(tmp_path / ".theirs.part.txt")
    old = touch(tmp_path / ".b.0123456789abcdef.part.txt")
    os.utime(old, (0, 0))
    with subprocess.Popen([*words, tmp_path / "c.txt"], stdout=subprocess.PIPE) as living:
        assert living.stdout is not None
        assert living.stdout.readline() == b"ready\n"
        [there] = tmp_path.glob(".c.*")
        write_atomic(tmp_path / "d.txt", "new")
        assert {path.name for path in tmp_path.iterdir()} == {"d.txt", ".theirs.part.txt", there.name}
        living.kill()


def test_an_output_is_refused_before_any_work(tmp_path: Path) -> None:
    own = touch(tmp_path / "in.png")
    os.link(own, tmp_path / "hard.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    for name, words, options in (
        ("", "is a folder", {}),
        ("a.txt", "must end in .png or .jpg", {"endings": (".png", ".jpg")}),
        ("in.png", "is the input", {"inputs": [own], "overwrite": True}),
        ("hard.png", "is the input", {"inputs": [own], "overwrite": True}),
        ("in.png", "exists.*--overwrite", {}),
        ("dangling.png", "exists", {}),
        ("dangling.png", "not a regular file", {"overwrite": True}),
        ("no/such/a.png", "does not exist", {}),
        ("a\0b.png", "can't be used", {}),
        ("x" * 300, "can't be used", {}),
    ):
        with pytest.raises(InputError, match=words):
            check_output(tmp_path / name, **options)
    assert check_output(tmp_path / "in.png", overwrite=True) == own
    assert check_output(tmp_path / "no" / "such" / "a.png", make_folder=True).parent.is_dir()


# Reading --------------------------------------------------------------------------------------------------------------


def test_what_can_not_be_read_is_one_clear_line(tmp_path: Path) -> None:
    touch(tmp_path / "empty", b"")
    os.mkfifo(tmp_path / "pipe")
    for name, words in (
        ("", "is a folder"),
        ("none", "does not exist"),
        ("empty", "empty"),
        ("pipe", "pipe"),
        ("a\0", "can't"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            check_readable(tmp_path / name, "photo")
        assert "\n" not in str(caught.value)
    held = touch(tmp_path / "full", b"12345")
    assert read_bounded(held, 5) == b"12345"
    with pytest.raises(InputError, match="larger than 4 bytes"):
        read_bounded(held, 4)
    assert digest_of(held) == digest_of(b"12345")


# Folders --------------------------------------------------------------------------------------------------------------


def test_one_policy_for_links(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for path in (
        root / "b" / "1.png",
        root / "a.png",
        root / "notes.txt",
        root / ".hidden" / "x.png",
        outside / "c.png",
    ):
        touch(path)
    links = {
        "inside.png": root / "b" / "1.png",
        "gone.png": root / "nothing.png",
        "out.png": outside / "c.png",
        "gone.txt": root / "nothing.txt",
        "folder": root / "b",
        "up": root,
        "away": outside,
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "pipe.png")
    (root / "folder.png").mkdir()
    (tmp_path / "link").symlink_to(root)
    for start in (root, tmp_path / "link"):
        found = walk(start, lambda name: name.endswith(".png"))
        assert found.files == ("a.png", "b/1.png", "inside.png")
        assert found.others == ("notes.txt",)
        assert {path: why.split(".")[0] for path, why in found.problems} == {
            "away": "it is a link out of the folder, which is not followed",
            "folder": "it is a link to a folder, which is not followed",
            "folder.png/": "it is a folder, and holds no files",
            "gone.png": "it is a link to nothing",
            "out.png": "it is a link out of the folder, which is not followed",
            "pipe.png": "it is a device or a pipe, not a file",
            "up": "it is a link to a folder, which is not followed",
        }
    (root / "b" / "above.png").symlink_to(root / "a.png")
    assert walk(root / "b", lambda name: True).problems
    assert walk(root / "b", lambda name: True, inside=root).files == ("1.png", "above.png")
    for name, words in (("none", "does not exist"), ("root/a.png", "is a file")):
        with pytest.raises(InputError, match=words):
            walk(tmp_path / name, bool)


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b/1", "b/0", "a/2", "a-b/x", "c"):
        touch(tmp_path / name)
    scan = os.scandir

    class Backwards:
        def __init__(self, folder: str) -> None:
            with scan(folder) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry]:
            return self.entries

        def __exit__(self, *_: object) -> None:
            pass

    expected = walk(tmp_path, bool).files
    monkeypatch.setattr(os, "scandir", Backwards)
    assert walk(tmp_path, bool).files == expected == tuple(sorted(expected))


def test_evenly_spaced_is_a_part_in_order() -> None:
    items = list(range(100))
    for most in (1, 2, 7, 33, 99, 100, 1000):
        chosen = evenly_spaced(items, most)
        assert len(chosen) == min(most, 100)
        assert chosen == sorted(set(chosen))
        gaps = {b - a for a, b in pairwise(chosen)}
        assert not gaps or max(gaps) - min(gaps) <= 1
    assert evenly_spaced([], 3) == []
