"""The index of sources: equal to a plain search, deterministic, and nothing in its file is trusted."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cicm.assembly import MemoryInpainter
from cicm.assembly.fingerprint import fingerprint
from cicm.conventions import InputError
from cicm.data import HoleGenerator
from cicm.data.datasets import to_image
from cicm.inference.views import views
from cicm.look import SourceIndex, index_file, make_index, read_index, save_index
from cicm.look.sources import THUMBNAIL
from cicm.memory import ContextMemory, MemoryConfig
from cicm.memory.rules import keep_top
from cicm.networks.contract import SizeRule
from cicm.photos import read_image

from .conftest import Place, picture
from .test_look import Twice

RULE = SizeRule(16, 32)


@pytest.fixture(scope="module")
def index(place: Place) -> SourceIndex:
    return make_index(place.model, place.photos, keep=3, side=64)


@pytest.fixture(scope="module")
def file(index: SourceIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_index(index, tmp_path_factory.mktemp("index") / "index.safetensors")


# Views ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (130, 100), (70, 400), (40, 200), (33, 47)])
def test_cells_of_a_window_show_what_lies_there_in_the_photo(size: tuple[int, int]) -> None:
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    photo = np.stack([y * 255 // size[0], x * 255 // size[1], 0 * x], -1).astype(np.uint8)
    seen = list(views(photo, 64, RULE))
    assert 1 <= len(seen) <= 3 + 4
    for view in seen:
        height, width = view.pixels.shape[:2]
        assert height % 16 == width % 16 == 0
        grid = (height // 16, width // 16)
        for number, (left, top, right, bottom) in enumerate(view.cells(grid)):
            assert 0 <= left < right <= size[1]
            assert 0 <= top < bottom <= size[0]
            row, column = divmod(number, grid[1])
            shown = view.pixels[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            there = photo[top:bottom, left:right]
            # exact where nothing is reduced; a reduced cell's edges are rounded to whole pixels
            reduced = (view.across, view.down) != (1.0, 1.0)
            assert abs(shown.mean((0, 1)) - there.mean((0, 1))).max() <= (3.0 if reduced else 0.0)


def test_a_large_photo_is_seen_reduced_and_as_it_is() -> None:
    seen = list(views(np.zeros((256, 512, 3), np.uint8), 64, RULE))
    assert sorted({(view.across, view.down) for view in seen}) == [(1.0, 1.0), (4.0, 4.0)]
    assert len(seen) == 2 + 4
    assert {view.pixels.shape for view in seen} == {(64, 64, 3)}


# The search -----------------------------------------------------------------------------------------------------------


def plain_search(
    model: MemoryInpainter, photos: list[Path], keep: int, side: int, visit: int = -1
) -> dict[tuple[int, int], list[tuple]]:
    """Every complete region of every window, sorted; written without the index's own arrays."""
    memory = model.memories["bottom"]
    found: dict[tuple[int, int], dict[int, tuple]] = {}
    for number, path in enumerate(photos):
        rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(number,)))
        groups: dict[tuple, list] = {}
        for view in views(read_image(path), side, model.network.size):
            groups.setdefault(view.pixels.shape, []).append(view)
        for group in groups.values():
            for view in group:
                hole = HoleGenerator()(*view.pixels.shape[:2], rng)[None]
                image = to_image(view.pixels)[None]
                with torch.no_grad():
                    read = model(image * (1 - hole), hole).reads["bottom"][visit]
                grid = read.features.shape[-2:]
                stride = view.pixels.shape[0] // grid[0]
                given = keep_top(read.weights, memory.config.write_top)
                soft = memory.config.write_top > 0
                for region in range(len(read.sets)):
                    row, column = divmod(region, grid[1])
                    part = hole[..., stride * row : stride * (row + 1), stride * column : stride * (column + 1)]
                    if part.any():
                        continue
                    for k in range(memory.config.contexts):
                        if given[region, k] == 0:
                            continue
                        weight = float(given[region, k] if soft else read.weights[region, k])
                        box = tuple(view.cells(grid)[region].tolist())
                        entry = (weight, box, path.name, float(read.weights[region, k]))
                        best = found.setdefault((int(read.sets[region]), k), {})
                        if number not in best or weight > best[number][0]:
                            best[number] = entry
    return {
        key: sorted(best.values(), key=lambda e: -e[0])[:keep]  # stable: earlier photos first
        for key, best in found.items()
    }


@pytest.mark.parametrize("write_top", [0.0, 0.5, 1.0])
def test_it_finds_what_a_plain_search_finds(place: Place, write_top: float) -> None:
    model = place.model
    memory = model.memories["bottom"]
    memory.config = replace(memory.config, write_top=write_top)
    photos = sorted(place.photos.rglob("*.png"), key=lambda p: p.relative_to(place.photos).as_posix())
    expected = plain_search(model, photos, 3, 64)
    made = make_index(model, place.photos, keep=3, side=64)
    count = 0
    for set_ in range(3):
        for k in range(4):
            told = made.of("bottom", set_, k)
            wanted = expected.get((set_, k), [])
            assert [Path(one.photo).name for one in told] == [name for _, _, name, _ in wanted]
            assert [one.box for one in told] == [box for _, box, _, _ in wanted]
            assert [one.weight for one in told] == pytest.approx([weight for *_, weight in wanted], abs=1e-4)
            count += len(told)
    assert count >= 12
    assert "town/p3.png" in made.photos


def test_similarity_is_that_of_the_region_and_its_context(place: Place, index: SourceIndex) -> None:
    """The memory's own cosine, within [-1, 1]; the best of a context is more alike than its set's mean."""
    site = index.sites["bottom"]
    there = site.photo >= 0
    assert there.any()
    assert site.similarity.max() <= 1.0001
    assert (site.similarity[..., 0][there[..., 0]] > site.typical[there[..., 0]] - 1e-6).mean() > 0.9
    assert site.regions.sum() == index.facts.regions  # hard writing: each region goes to one context
    assert not (site.photo[site.regions == 0] >= 0).any()
    assert (site.photo[site.regions > 0][:, 0] >= 0).all()


def test_no_photo_comes_twice_in_a_context(index: SourceIndex) -> None:
    for row in index.sites["bottom"].photo.reshape(-1, 3):
        there = row[row >= 0]
        assert len(set(there.tolist())) == len(there)


def test_the_last_visit_counts(place: Place) -> None:
    """As in training, where the earlier visits of a recurrent network write nothing."""
    memory = ContextMemory(3, MemoryConfig(sets=2, contexts=3))
    memory.seed_(torch.rand(60, 3), torch.Generator().manual_seed(0))
    model = MemoryInpainter(Twice(), {"bottom": memory}).eval()
    made = make_index(model, place.photos, side=32, keep=2)
    photos = sorted(place.photos.rglob("*.png"), key=lambda p: p.relative_to(place.photos).as_posix())

    def boxes(found: dict) -> list:
        return [[entry[1] for entry in found.get((set_, k), [])] for set_ in range(2) for k in range(3)]

    told = [[one.box for one in made.of("bottom", set_, k)] for set_ in range(2) for k in range(3)]
    assert told == boxes(plain_search(model, photos, 2, 32))
    assert told != boxes(plain_search(model, photos, 2, 32, visit=0))


# The file -------------------------------------------------------------------------------------------------------------


def test_the_same_photos_and_weights_give_the_same_file(place: Place, file: Path, tmp_path: Path) -> None:
    again = save_index(make_index(place.model, place.photos, keep=3, side=64), tmp_path / "again.safetensors")
    assert again.read_bytes() == file.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["again.safetensors"]


def test_it_comes_back_as_it_was(place: Place, index: SourceIndex, file: Path) -> None:
    again = read_index(file, place.model)
    assert (again.fingerprint, again.photos, again.facts) == (index.fingerprint, index.photos, index.facts)
    for name, value in vars(index.sites["bottom"]).items():
        assert np.array_equal(getattr(again.sites["bottom"], name), value), name


def test_a_thumbnail_shows_its_window(place: Place, index: SourceIndex) -> None:
    shown = [one for set_ in range(3) for k in range(4) for one in index.of("bottom", set_, k)]
    assert shown
    for one in shown:
        left, top, right, bottom = one.window
        assert left <= one.box[0] < one.box[2] <= right
        assert top <= one.box[1] < one.box[3] <= bottom
        with Image.open(io.BytesIO(one.thumbnail), formats=["JPEG"]) as image:
            assert image.size == (right - left, bottom - top) or max(image.size) == THUMBNAIL
            there = read_image(place.photos / one.photo)[top:bottom, left:right]
            assert abs(np.asarray(image).mean((0, 1)) - there.mean((0, 1))).max() < 6


def test_without_thumbnails_there_is_no_picture_in_the_file(place: Place, tmp_path: Path) -> None:
    made = make_index(place.model, place.photos, keep=3, side=64, thumbnails=False)
    assert made.sites["bottom"].thumbnails.size == 0
    path = save_index(made, tmp_path / "names.safetensors")
    assert b"\xff\xd8\xff" not in path.read_bytes()
    assert read_index(path, place.model).photos == made.photos


def test_bad_photos_are_passed_over_and_counted(place: Place, tmp_path: Path) -> None:
    Image.fromarray(picture(np.random.default_rng(0), 64, 64)).save(tmp_path / "good.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    Image.new("RGB", (20, 200)).save(tmp_path / "thin.png")
    facts = make_index(place.model, tmp_path, side=64).facts
    assert (facts.photos_read, facts.photos_skipped) == (1, 2)
    (tmp_path / "good.png").unlink()
    with pytest.raises(InputError, match="none of the 2 photos"):
        make_index(place.model, tmp_path, side=64)


def test_fingerprints_tell_models_apart(place: Place) -> None:
    model = place.model
    marks = {fingerprint(model)}
    memory = model.memories["bottom"]
    memory.config = replace(memory.config, temperature=0.2)
    marks.add(fingerprint(model))
    with torch.no_grad():
        memory.contexts[0, 0, 0] += 1
    marks.add(fingerprint(model))
    assert len(marks) == 3
    assert fingerprint(place.model) in marks


def test_settings_that_came_later_leave_old_fingerprints_as_they_were(place: Place) -> None:
    """Albums and indexes of before must stay valid: a new setting at its old value is not part of the digest."""
    from cicm.assembly.fingerprint import _told

    told = _told({"length": "free", "route": "feature", "written": "complete", "padding": "zeros", "width": 4})
    assert told == {"width": 4}
    assert _told({"length": "unit", "padding": "reflect"}) == {"length": "unit", "padding": "reflect"}
    model = place.model
    before = fingerprint(model)
    model.memories["bottom"].config = replace(model.memories["bottom"].config, length="unit")
    assert fingerprint(model) != before


def test_an_index_of_other_weights_is_refused(place: Place, file: Path) -> None:
    other = place.model
    with torch.no_grad():
        other.network.head.bias += 0.1
    with pytest.raises(InputError, match="made with other weights"):
        read_index(file, other)


def test_numbers_out_of_their_range_are_refused(place: Place) -> None:
    for options, message in (
        ({"keep": 0}, "keep must lie in 1..16"),
        ({"keep": 17}, "keep must lie in 1..16"),
        ({"limit": -1}, "limit"),
        ({"side": 40}, "multiples of 16"),
    ):
        with pytest.raises(InputError, match=message):
            make_index(place.model, place.photos, **options)


def test_an_empty_memory_has_no_sources(place: Place) -> None:
    model = place.model
    model.memories["bottom"].filled.fill_(0)
    with pytest.raises(InputError, match="is empty"):
        make_index(model, place.photos)


# Hostile files --------------------------------------------------------------------------------------------------------


def tampered(file: Path, target: Path, tensors: dict | None = None, about: dict | None = None) -> Path:
    held = load_file(file)
    with safe_open(file, "numpy") as opened:
        header = json.loads(opened.metadata()["index"])
    held.update({f"bottom/{name}": change(held[f"bottom/{name}"].copy()) for name, change in (tensors or {}).items()})
    header.update(about or {})
    save_file(held, target, {"index": json.dumps(header)})
    return target


def put(value: float):
    def change(array: np.ndarray) -> np.ndarray:
        array.reshape(-1)[-1] = value
        return array

    return change


def test_an_untouched_copy_is_read(file: Path, tmp_path: Path) -> None:
    """So that what follows fails because of the change."""
    read_index(tampered(file, tmp_path / "copy.safetensors"))


def test_numbers_that_make_no_sense_are_refused(file: Path, tmp_path: Path) -> None:
    for tensors, about in (
        ({"photo": put(99)}, {}),
        ({"photo": put(-2)}, {}),
        ({"photo": lambda a: a.astype(np.int64)}, {}),
        ({"photo": lambda a: np.repeat(a, 9, 2)}, {}),
        ({"box": put(-1)}, {}),
        ({"box": lambda a: a[..., :3].copy()}, {}),
        ({"weight": put(np.nan)}, {}),
        ({"similarity": put(np.inf)}, {}),
        ({"regions": put(-1)}, {}),
        ({"ends": put(0)}, {}),
        ({"ends": lambda a: a + 10**6}, {}),
        ({"thumbnails": lambda a: a[:-1].copy()}, {}),
        ({"thumbnails": lambda a: a[::-1].copy()}, {}),
        ({}, {"format": "cicm-sources-9"}),
        ({}, {"photos": ["a\nb"] * 6}),
        ({}, {"photos": ["a" * 2000] * 6}),
        ({}, {"photos": "abcdef"}),
        ({}, {"facts": {"photos_read": "<b>"}}),
        ({}, {"sites": ["bottom", "top"]}),
        ({}, {"sites": []}),
        ({}, {"sites": 5}),
    ):
        with pytest.raises(InputError, match=r"damaged, or of another version"):
            read_index(tampered(file, tmp_path / "bad.safetensors", tensors, about))


def test_a_thumbnail_that_claims_a_huge_picture_is_refused(file: Path, tmp_path: Path) -> None:
    def claim(array: np.ndarray) -> np.ndarray:
        data = array.tobytes()
        start = data.index(b"\xff\xc0")
        return np.frombuffer(data[: start + 5] + struct.pack(">HH", 60000, 60000) + data[start + 9 :], np.uint8)

    with pytest.raises(InputError, match="60000x60000"):
        read_index(tampered(file, tmp_path / "bad.safetensors", {"thumbnails": claim}))


def test_what_is_no_index_is_refused(place: Place, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no index of sources"):
        read_index(place.weights)
    with pytest.raises(InputError, match="does not exist"):
        read_index(tmp_path / "nowhere.safetensors")
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="pickle"):
        read_index(tmp_path / "a.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:-50])
    with pytest.raises(InputError, match="damaged"):
        read_index(tmp_path / "cut.safetensors")
    monkeypatch.setattr(index_file, "_MAX_BYTES", 1000)
    with pytest.raises(InputError, match="at most"):
        read_index(file)


def test_writing_asks_before_it_replaces(index: SourceIndex, file: Path, tmp_path: Path) -> None:
    for path, message in ((file, "exists"), (tmp_path / "a.json", "must end in"), (tmp_path / "b/a", "end")):
        with pytest.raises(InputError, match=message):
            save_index(index, path)
    assert list(tmp_path.iterdir()) == []
