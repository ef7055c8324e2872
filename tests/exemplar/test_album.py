"""An album: what is found follows from the photos' content alone, and nothing in a file or a folder is trusted."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from cicm.assembly import ModelConfig, build
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.exemplar.album import Album, Entry, in_sets, load_album, make_album, open_album, save_album
from cicm.inference import Inpainter, Report
from cicm.photos.photo import open_photo, read_image

HOLE = np.zeros((120, 160), dtype=bool)
HOLE[40:80, 50:100] = True


def place(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """Boxes of many sizes and colours: each seed is another place."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), rng.integers(40, 215, 3), np.uint8)
    for _ in range(60):
        y, x, size = int(rng.integers(height)), int(rng.integers(width)), int(rng.integers(4, 30))
        picture[y : y + size, x : x + int(rng.integers(4, 30))] = rng.integers(0, 255, 3)
    return picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photos")
    (made / "below").mkdir()
    for seed in range(6):
        Image.fromarray(place(seed)).save(made / ("below" if seed % 2 else ".") / f"{seed}.png")
    return made


@pytest.fixture(scope="module")
def album(folder: Path) -> Album:
    return make_album(folder)


def names(album: Album, seed: int, **options) -> list[str]:
    return [Path(hit.entry.path).stem for hit in album.find(place(seed), HOLE, **options)]


# What is found --------------------------------------------------------------------------------------------------------


def test_each_place_is_found_around_its_hole(album: Album) -> None:
    assert all(names(album, seed)[0] == str(seed) for seed in range(6))
    hits = album.find(place(3), HOLE)
    assert len(hits) == 4
    assert [hit.likeness for hit in hits] == sorted((hit.likeness for hit in hits), reverse=True)
    assert hits[0].likeness <= 1 + 1e-3
    assert np.array_equal(hits[0].read(), place(3))
    assert hits == album.find(place(3), HOLE)
    assert len(album.find(place(3), HOLE, count=9)) == 6


def test_what_lies_in_the_hole_has_no_influence(album: Album) -> None:
    other = place(2)
    other[HOLE] = 255
    assert album.find(place(2), HOLE) == album.find(other, HOLE)


def test_known_regions_weigh_as_much_as_is_known_of_them(album: Album) -> None:
    """A picture that is half one place and half another is that whose half is known."""
    both = np.concatenate([place(0)[:, :80], place(1)[:, 80:]], 1)
    left, right = np.zeros_like(HOLE), np.zeros_like(HOLE)
    left[:, :90] = right[:, 70:] = True
    assert Path(album.find(both, right)[0].entry.path).stem == "0"
    assert Path(album.find(both, left)[0].entry.path).stem == "1"


def test_a_hole_over_everything_finds_nothing(album: Album) -> None:
    assert album.find(place(0), np.ones_like(HOLE)) == []


def test_a_photo_can_be_left_out(album: Album) -> None:
    own = album.find(place(4), HOLE)[0].entry
    left = album.find(place(4), HOLE, without=[own.sha256])
    assert len(left) == 4
    assert own not in [hit.entry for hit in left]


def test_order_and_names_of_files_do_not_matter(album: Album, folder: Path, tmp_path: Path) -> None:
    files = sorted(folder.rglob("*.png"), key=lambda file: file.name)
    again = make_album(files[::-1])
    assert again == replace(album, regions=again.regions, anchors=again.anchors, sets=again.sets)
    for seed in range(6):
        shutil.copy(files[seed], tmp_path / f"{9 - seed}.png")
    renamed = make_album(tmp_path)
    for other in (again, renamed):
        for name in ("regions", "anchors", "sets"):
            assert np.array_equal(getattr(other, name), getattr(album, name))
    assert names(renamed, 2)[0] == "7"


def test_one_photo_is_an_album(tmp_path: Path) -> None:
    Image.fromarray(place(1)).save(tmp_path / "only.png")
    for where in (tmp_path, tmp_path / "only.png"):
        assert [hit.entry.path for hit in make_album(where).find(place(1), HOLE)] == ["only.png"]


def test_several_folders_and_files_make_one_album(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(place(8)).save(tmp_path / "8.png")
    both = make_album([folder, tmp_path / "8.png", folder / "below" / ".." / "0.png"])
    assert len(both.photos) == 7
    assert all((both.folder / entry.path).is_file() for entry in both.photos)
    assert load_album(save_album(both, tmp_path / "a.safetensors")).photos == both.photos


def test_photos_of_other_sizes_modes_and_orientation_are_seen_as_they_look(tmp_path: Path) -> None:
    picture = Image.fromarray(place(5))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    picture.rotate(90, expand=True).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    picture.resize((640, 480)).save(tmp_path / "large.png")
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    picture.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    picture.convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    picture.convert("L").save(tmp_path / "grey.png")
    Image.fromarray(place(6, 3, 4)).save(tmp_path / "tiny.png")
    made = make_album(tmp_path)
    assert made.skipped == made.doubles == ()
    likeness = {hit.entry.path: hit.likeness for hit in made.find(place(5), HOLE, count=99)}
    assert len(likeness) == 8
    colour = [likeness[name] for name in ("turned.jpg", "large.png", "cmyk.jpg", "palette.png", "alpha.png")]
    assert min(colour) > max(likeness["grey.png"], likeness["deep.png"]) > likeness["tiny.png"]
    grey = made.find(np.repeat(np.asarray(picture.convert("L"))[..., None], 3, 2), HOLE, count=2)
    assert {hit.entry.path for hit in grey} == {"grey.png", "deep.png"}


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path: Path) -> None:
    Image.fromarray(place(5)).resize((3200, 2400), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg", quality=90)
    assert read_image(tmp_path / "large.jpg", least=512).shape == (600, 800, 3)
    assert read_image(tmp_path / "large.jpg").shape == (2400, 3200, 3)
    whole = read_image(tmp_path / "large.jpg")
    assert make_album(tmp_path).find(whole, np.zeros(whole.shape[:2], dtype=bool))[0].likeness > 0.98


# Files that are no use ------------------------------------------------------------------------------------------------


def test_broken_files_are_listed_and_doubles_are_counted_once(folder: Path, tmp_path: Path) -> None:
    for seed in (0, 2):
        shutil.copy(folder / f"{seed}.png", tmp_path / f"{seed}.png")
    shutil.copy(folder / "0.png", tmp_path / "same.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((folder / "4.png").read_bytes()[:300])
    made = make_album(tmp_path)
    assert sorted(entry.path for entry in made.photos) == ["0.png", "2.png"]
    assert made.doubles == ("same.png",)
    assert [path for path, _ in made.skipped] == ["cut.png", "empty.png", "text.jpg"]
    assert all(reason.endswith(".") for _, reason in made.skipped)


def test_a_folder_without_a_usable_photo_is_refused(tmp_path: Path) -> None:
    for photos, message in ((tmp_path, "found none"), ([], "at least one photo"), (tmp_path / "gone", "can be used")):
        with pytest.raises(InputError, match=message):
            make_album(photos)
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"none of the 1 photos can be used; the first: .*a\.png"):
        make_album(tmp_path)


def test_a_photo_that_moved_or_changed_is_not_lent(tmp_path: Path) -> None:
    for seed in range(3):
        Image.fromarray(place(seed)).save(tmp_path / f"{seed}.png")
    made = make_album(tmp_path)
    (tmp_path / "0.png").unlink()
    Image.fromarray(place(9)).save(tmp_path / "1.png")
    for seed, message in ((0, "does not exist"), (1, "was changed after the album was made")):
        with pytest.raises(InputError, match=message):
            made.find(place(seed), HOLE)[0].read()


# The file -------------------------------------------------------------------------------------------------------------


def test_what_is_written_comes_back(album: Album, folder: Path, tmp_path: Path) -> None:
    path = save_album(album, tmp_path / "a.safetensors")
    found = load_album(path)
    assert (found.folder, found.photos) == (album.folder, album.photos)
    assert found.find(place(3), HOLE) == album.find(place(3), HOLE)
    again = save_album(make_album(folder), tmp_path / "b.safetensors")
    assert again.read_bytes() == path.read_bytes()
    assert open_album(path).photos == open_album(folder).photos == album.photos
    with pytest.raises(InputError, match="exists"):
        save_album(album, path)


def test_album_and_photos_may_move_together(tmp_path: Path) -> None:
    (tmp_path / "old" / "photos").mkdir(parents=True)
    Image.fromarray(place(1)).save(tmp_path / "old" / "photos" / "a.png")
    save_album(make_album(tmp_path / "old" / "photos"), tmp_path / "old" / "a.safetensors")
    (tmp_path / "old").rename(tmp_path / "new")
    hit = load_album(tmp_path / "new" / "a.safetensors").find(place(1), HOLE)[0]
    assert np.array_equal(hit.read(), place(1))


def test_the_file_holds_no_pixels(album: Album, tmp_path: Path) -> None:
    arrays = load_file(save_album(album, tmp_path / "a.safetensors"))
    assert {name: array.shape for name, array in arrays.items()} == {
        "regions": (6, 9, 512),
        "anchors": (1, 512),
        "sets": (6, 9),
    }


def changed(path: Path, target: Path, drop: str = "", about: dict | None = None, **arrays: np.ndarray) -> Path:
    """A copy of an album with other parts."""
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as stream:
        header = dict(stream.metadata())
    parts = {name: part for name, part in (load_file(path) | arrays).items() if name != drop}
    if about is not None:
        header["album"] = json.dumps(json.loads(header["album"]) | about)
    save_file(parts, target, header)
    return target


def test_a_damaged_album_is_one_clear_line(album: Album, tmp_path: Path) -> None:
    path = save_album(album, tmp_path / "a.safetensors")
    whole, bad = path.read_bytes(), tmp_path / "bad.safetensors"
    for data in (whole[:-1000], whole[:40], b"{}", b"", whole[::-1], b"\xff" * 64):
        bad.write_bytes(data)
        with pytest.raises(InputError, match=r"bad\.safetensors"):
            load_album(bad)
    regions, sets = album.regions, album.sets
    wrong = [
        {"regions": regions[:5]},
        {"regions": regions.astype(np.float32)},
        {"regions": regions[:, :, :500].copy()},
        {"regions": np.full_like(regions, np.nan)},
        {"sets": sets + 1},
        {"sets": sets - 1},
        {"anchors": album.anchors[:0]},
        {"anchors": album.anchors[0]},
        {"drop": "sets"},
        {"about": {"photos": []}},
        {"about": {"photos": [{"path": "a.png"}] * 6}},
        {"about": {"photos": 3}},
        {"about": {"folder": 3}},
        {"about": {"more": 1}},
        {"about": {"format": "cicm-album-3"}},
    ]
    for parts in wrong:
        with pytest.raises(InputError, match=r"bad\.safetensors.*(Make it|damaged)"):
            load_album(changed(path, bad, **parts))


def test_names_that_lead_out_of_the_folder_are_refused(album: Album, tmp_path: Path) -> None:
    path = save_album(album, tmp_path / "a.safetensors")
    for name in ("../secret.png", "/etc/secret.png", "a/../../secret.png", "", "a\\b.png", "a\0.png"):
        photos = [{"path": name, "sha256": "0" * 64}] * 6
        with pytest.raises(InputError, match="out of its folder"):
            load_album(changed(path, tmp_path / "bad.safetensors", about={"photos": photos}))


def test_other_files_are_not_taken_for_albums(tmp_path: Path) -> None:
    part, file = {"x": np.zeros(1, np.float32)}, tmp_path / "x.safetensors"
    others = (
        ({"album": json.dumps({"format": "cicm-album-1"})}, "of another version of cicm, which is not read any more"),
        ({"format": "cicm-model-1"}, "no album but a model"),
        ({}, "safetensors, but no album"),
    )
    for metadata, message in others:
        save_file(part, file, metadata)
        with pytest.raises(InputError, match=message + r".*cicm remember FOLDER -o x\.safetensors"):
            load_album(file)


# Ten thousand ---------------------------------------------------------------------------------------------------------


def many(count: int, channels: int = 512) -> Album:
    """An album without photos: regions around 500 directions, as photos of many kinds of things give."""
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((500, channels), dtype=np.float32)
    regions = kinds[rng.integers(500, size=(count, 9))] + rng.standard_normal((count, 9, channels), dtype=np.float32)
    regions = (regions / np.linalg.norm(regions, axis=2, keepdims=True)).astype(np.float16)
    entries = tuple(Entry(f"{number}.jpg", f"{number:064x}") for number in range(count))
    return Album(Path("/nowhere"), entries, regions, *in_sets(regions))


def test_of_ten_thousand_photos_few_are_compared_and_the_right_one_is_found(tmp_path: Path) -> None:
    album = many(10_000)
    path = save_album(album, tmp_path / "a.safetensors")
    assert path.stat().st_size < 100 * 2**20
    found = load_album(path)
    known = np.linspace(0, 1, 9, dtype=np.float32)
    for number in (0, 4321, 9999):
        regions = album.regions[number].astype(np.float32)
        near = found.candidates(regions, known)
        assert number in near
        assert 4 <= len(near) < 2_500
        assert number not in found.candidates(regions, np.zeros(9))
    found.find(place(0), HOLE)  # loads the network
    started = time.process_time()
    assert len(found.find(place(1), HOLE)) == 4
    assert time.process_time() - started < 1.0  # measured: 0.1 s; a shared machine is slower


def test_small_albums_are_compared_whole(album: Album) -> None:
    assert len(album.anchors) == 1
    assert album.candidates(np.eye(9, 512, dtype=np.float32), np.ones(9)).tolist() == list(range(6))


# The command ----------------------------------------------------------------------------------------------------------


def test_remember_writes_an_album_and_says_what_it_skipped(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photos, target = tmp_path / "photos", tmp_path / "album.safetensors"
    shutil.copytree(folder, photos)
    (photos / "bad.jpg").write_text("no picture")
    assert main(["remember", str(photos), "-o", str(target), "--quiet"]) == 0
    told = capsys.readouterr()
    assert "6 photos, 1 skipped" in told.out
    assert "skipped: bad.jpg" in told.err
    assert load_album(target).folder == photos
    assert main(["remember", str(photos), "-o", str(target)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_an_album_is_brought_up_to_date(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, target = tmp_path / "photos", tmp_path / "album.safetensors"
    shutil.copytree(folder, photos)
    assert main(["remember", str(photos), "-o", str(target)]) == 0
    (photos / "0.png").unlink()
    (photos / "2.png").rename(photos / "moved.png")
    Image.fromarray(place(7)).save(photos / "new.png")
    seen = []
    monkeypatch.setattr(
        "cicm.exemplar.album.read_image", lambda file, **how: seen.append(file.name) or read_image(file, **how)
    )
    assert main(["remember", str(photos), "-o", str(target), "--overwrite"]) == 0
    assert seen == ["new.png"]
    monkeypatch.undo()
    save_album(make_album(photos), tmp_path / "anew.safetensors")
    assert target.read_bytes() == (tmp_path / "anew.safetensors").read_bytes()


def test_a_damaged_album_is_made_anew(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    target = tmp_path / "album.safetensors"
    target.write_bytes(b"nothing")
    assert main(["remember", str(folder), "-o", str(target), "--overwrite"]) == 0
    assert "All photos are looked at." in capsys.readouterr().err
    assert len(load_album(target).photos) == 6


def test_memory_says_what_an_album_is(
    album: Album, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = str(save_album(album, tmp_path / "a.safetensors"))
    assert main(["memory", path]) == 0
    assert "an album of 6 photos" in capsys.readouterr().out
    assert main(["memory", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": str(folder), "photos": 6, "in_place": 6, "sets": 1}
    assert main(["memory", path, "-o", str(tmp_path / "a.png")]) == 2
    assert "no picture of it" in capsys.readouterr().err


# In a repair ----------------------------------------------------------------------------------------------------------


def repair(album: Path, photo: Path) -> Report:
    """What a fill of a photo with an album tells."""
    inpainter = Inpainter(build(ModelConfig("unet", {"width": 4})), device="cpu", album=album)
    mask = np.zeros((240, 320), dtype=bool)
    mask[90:150, 120:200] = True
    inpainter.fill_photo(open_photo(photo), mask)
    assert inpainter.report is not None
    return inpainter.report


def test_the_damaged_photo_is_not_copied_from_under_its_own_hole(tmp_path: Path) -> None:
    """Neither itself, by its digest, nor a copy in another quality and size, which shows what is to be replaced."""
    pytest.importorskip("cv2")
    picture = Image.fromarray(place(1, 240, 320))
    picture.save(tmp_path / "photo.png")
    report = repair(tmp_path, tmp_path / "photo.png")
    assert (report.lenders, report.notes) == ((), ())
    picture.resize((480, 360), Image.Resampling.BICUBIC).save(tmp_path / "copy.jpg", quality=70)
    report = repair(tmp_path, tmp_path / "photo.png")
    assert report.lenders == ()
    assert any("not copied from copy.jpg" in note for note in report.notes)


def test_another_moment_lends_and_what_moved_since_is_one_note(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "photos").mkdir()
    whole = place(2, 240, 320)
    Image.fromarray(whole).save(tmp_path / "photos" / "before.png")
    Image.fromarray(place(3, 240, 320)).save(tmp_path / "photos" / "elsewhere.png")
    (tmp_path / "photos" / "broken.jpg").write_text("no picture")
    whole[100:140, 130:190] = (200, 30, 30)
    Image.fromarray(whole).save(tmp_path / "now.png")
    assert repair(tmp_path / "photos", tmp_path / "now.png").lenders == ("before.png",)
    album = save_album(make_album(tmp_path / "photos"), tmp_path / "a.safetensors")
    (tmp_path / "photos" / "before.png").rename(tmp_path / "photos" / "moved.png")
    report = repair(album, tmp_path / "now.png")
    assert report.lenders == ()
    assert len([note for note in report.notes if "before.png does not exist" in note]) == 1
