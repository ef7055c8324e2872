"""Real pixels in the fill: flat places, patches, both joined, and copies from other photos."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.conventions import InputError, SizeRule
from cicm.exemplar import patches
from cicm.exemplar.handful import Handful
from cicm.exemplar.patches import PatchesUnavailable, available, unavailable_reason
from cicm.inference import FillSettings, Inpainter
from cicm.inference.painter import PictureInpainter
from cicm.inference.plan import Plan

needs_patches = pytest.mark.skipif(not available(), reason=unavailable_reason())


class Grey(PictureInpainter):
    """Fills with one grey; counts its calls. NumPy alone."""

    size, device, model = SizeRule(16, 32), "nowhere", None
    calls = 0

    def _call(self, colours: np.ndarray, gone: np.ndarray, plan: Plan) -> np.ndarray:
        self.calls += 1
        return np.full_like(colours, 0.5)


def bricks(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A texture that patches can go on with."""
    y, x = np.mgrid[:height, :width]
    wall = ((y // 6 + (x + 5 * (y // 6 % 2)) // 10) % 2) * 90 + 60
    noise = np.random.default_rng(seed).integers(-8, 8, (height, width, 3))
    return (wall[..., None] + noise + [0, 10, 20]).clip(0, 255).astype(np.uint8)


def box(height: int, width: int, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    hole = np.zeros((height, width), bool)
    hole[top:bottom, left:right] = True
    return hole


HOLE = box(70, 90, 30, 20, 62, 48)


@pytest.mark.parametrize("fill", ["network", "exemplar", "both"])
def test_flat_places_and_ramps_come_back_whatever_fills_the_rest(fill: str) -> None:
    painter = Grey(FillSettings(fill=fill))
    for value in (0, 7, 255):
        image = np.full((70, 90, 3), value, np.uint8)
        image[HOLE] = 99
        assert (painter(image, HOLE) == value).all()
    y, x = np.mgrid[:70, :90]
    ramp = np.stack([y * 2 + 20, x + 60, 250 - y - x], -1).astype(np.uint8)
    assert np.abs(painter(np.where(HOLE[..., None], 0, ramp).astype(np.uint8), HOLE).astype(int) - ramp).max() <= 1
    deep = ramp.astype(np.uint16) * 257
    assert np.abs(painter(deep, HOLE).astype(int) - deep).max() <= 257
    grey = Image.fromarray(ramp[..., 0])
    assert np.abs(np.array(painter(grey, HOLE)).astype(int) - ramp[..., 0]).max() <= 1
    assert painter.calls == 0
    assert painter.report is not None
    assert (painter.report.tiles, painter.report.strategy) == (0, "whole")


def test_a_flat_hole_beside_a_rough_one(monkeypatch: pytest.MonkeyPatch) -> None:
    image, hole = bricks(70, 90), HOLE.copy()
    image[:, :20] = 33
    hole[20:40, 5:12] = True
    painter = Grey(FillSettings(fill="network"))
    filled = painter(image, hole)
    assert (filled[20:40, 5:12] == 33).all()
    assert (filled[HOLE] == 128).all()
    assert painter.calls == 1


@needs_patches
@pytest.mark.parametrize("kind", ["grey", "rgb", "rgba", "rgb16", "float32"])
@pytest.mark.parametrize("fill", ["both", "exemplar"])
def test_known_pixels_stay_and_the_texture_goes_on(kind: str, fill: str) -> None:
    image = bricks(70, 90)
    if kind == "grey":
        image = image[..., 0]
    elif kind == "rgba":
        image = np.concatenate([image, image[..., :1]], -1)
    elif kind == "rgb16":
        image = image.astype(np.uint16) * 257
    elif kind == "float32":
        image = image.astype(np.float32) / 255
    painter = Grey(FillSettings(fill=fill))
    filled = painter(image, HOLE)
    assert (filled.dtype, filled.shape) == (image.dtype, image.shape)
    assert np.array_equal(filled[~HOLE], image[~HOLE])
    if kind == "rgba":
        assert np.array_equal(filled[..., 3], image[..., 3])
    least = 0.6 if fill == "exemplar" else 0.1
    assert filled[HOLE].std() > least * image[HOLE].std()
    assert painter.calls == (fill == "both")
    assert painter.report is not None
    assert (painter.report.fill, painter.report.notes, painter.report.lenders) == (fill, (), ())


@needs_patches
def test_both_lies_between_the_network_and_the_patches() -> None:
    image = bricks(70, 90)
    grey, joined, sharp = (
        Grey(FillSettings(fill=fill))(image, HOLE)[HOLE].astype(float) for fill in ("network", "both", "exemplar")
    )
    assert (grey == 128).all()
    assert 0 < np.abs(joined - grey).mean() <= np.abs(sharp - grey).mean()


@needs_patches
def test_another_seed_is_another_answer_and_threads_change_nothing() -> None:
    jobs = [(bricks(70, 90, seed), seed) for seed in range(4)]

    def fill(job: tuple[np.ndarray, int]) -> np.ndarray:
        return Grey(FillSettings(seed=job[1]))(job[0], HOLE)

    alone = [fill(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(fill, jobs))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert not np.array_equal(fill((jobs[0][0], 1)), alone[0])
    assert np.array_equal(fill((jobs[0][0], 1)), fill((jobs[0][0], 1)))


@needs_patches
def test_batch_mates_change_nothing(weights: Path) -> None:
    inpainter = Inpainter.from_pretrained(weights, device="cpu")
    batch = torch.from_numpy(np.stack([bricks(64, 64, k) for k in range(3)])).permute(0, 3, 1, 2) / 255
    holes = torch.from_numpy(np.stack([box(64, 64, 20, 20 + k, 44, 40) for k in range(3)]))[:, None].float()
    together = inpainter(batch, holes)
    for index in range(3):
        alone = inpainter(batch[index], holes[index])
        assert (alone - together[index]).abs().max() < 2e-3, "a forward of three rounds otherwise than one of one"
    sharp = Inpainter.from_pretrained(weights, device="cpu", fill="exemplar")
    together = sharp(batch, holes)
    assert all(torch.equal(sharp(batch[index], holes[index]), together[index]) for index in range(3))


@needs_patches
@pytest.mark.parametrize("fill", ["both", "exemplar"])
@pytest.mark.parametrize("size", [(1, 2), (2, 3), (5, 5), (1, 40), (33, 17), (61, 37)])
def test_odd_and_tiny_sizes_and_holes_at_the_border(size: tuple[int, int], fill: str) -> None:
    image, hole = bricks(*size), np.zeros(size, bool)
    hole[: (size[0] + 1) // 2, : (size[1] + 1) // 2] = True
    filled = Grey(FillSettings(fill=fill))(image, hole)
    assert np.array_equal(filled[~hole], image[~hole])


@needs_patches
@pytest.mark.parametrize("strategy", ["crop", "tile", "resize", "whole"])
def test_every_way_of_cutting(strategy: str) -> None:
    image = bricks(150, 200)
    hole = box(150, 200, 20, 20, 50, 44) | box(150, 200, 130, 90, 170, 125)
    painter = Grey(FillSettings(strategy=strategy, tile=64, widest=24, margin=16, feather=3))
    filled = painter(image, hole)
    assert np.array_equal(filled[~hole], image[~hole])
    assert (filled[hole] != 128).mean() > 0.5


@needs_patches
@pytest.mark.parametrize("fill", ["both", "exemplar"])
def test_very_large_holes_are_searched_reduced(monkeypatch: pytest.MonkeyPatch, fill: str) -> None:
    monkeypatch.setattr("cicm.inference.exemplars.LARGEST", 400)
    image = bricks(70, 90)
    painter = Grey(FillSettings(fill=fill))
    filled = painter(image, HOLE)
    assert np.array_equal(filled[~HOLE], image[~HOLE])
    assert painter.report is not None
    assert painter.report.notes == ("the hole is very large; its patches were searched at 1/1.5 of its size",)
    assert 60 < filled[HOLE].mean() < 160


@needs_patches
def test_what_the_network_saw_much_reduced_is_filled_by_patches_alone() -> None:
    """Of a wide hole the network knows a blur, which would show as a ghost; a thin one beside it stays joined."""
    image, hole = bricks(150, 200), box(150, 200, 20, 20, 90, 90)
    hole[40:44, 150:180] = True
    answers = {
        fill: Grey(FillSettings(fill=fill, strategy="tile", widest=16))(image, hole) for fill in ("both", "exemplar")
    }
    wide = hole & (np.arange(200) < 100)
    assert np.array_equal(answers["both"][wide], answers["exemplar"][wide])
    assert not np.array_equal(answers["both"][hole], answers["exemplar"][hole])


def test_without_patches_the_network_fills_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patches, "_library", lambda: None)
    painter = Grey(FillSettings())
    assert (painter(bricks(70, 90), HOLE)[HOLE] == 128).all()
    assert painter.report is not None
    assert painter.report.fill == "network"
    (note,) = painter.report.notes
    assert "pip install PyPatchMatch" in note
    assert "network filled" in note
    with pytest.raises(PatchesUnavailable, match="pip install PyPatchMatch"):
        Grey(FillSettings(fill="exemplar"))


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(InputError, match="both, network, exemplar; got 'magic'"):
        FillSettings(fill="magic")
    with pytest.raises(InputError, match="seed must be at least 0"):
        FillSettings(seed=-1)


# Other photos


def scene(seed: int = 0) -> np.ndarray:
    """Blobs of many sizes: enough for features to be found, and nothing like it elsewhere."""
    rng = np.random.default_rng(seed)
    values = np.zeros((240, 320, 3), np.float32)
    for side in (6, 15, 40):
        coarse = rng.integers(0, 256, (240 // side + 1, 320 // side + 1, 3), dtype=np.uint8)
        values += np.asarray(Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC), np.float32)
    return (values / 3).clip(0, 255).astype(np.uint8)


def damaged(truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hole = box(240, 320, 140, 90, 200, 150)
    image = truth.copy()
    image[hole] = (200, 30, 30)
    return image, hole


def test_other_photos_lend_their_pixels_and_are_named() -> None:
    pytest.importorskip("cv2", reason="OpenCV is in the extra `album`")
    truth = scene()
    image, hole = damaged(truth)
    moved = np.roll(truth, (3, -5), (0, 1))
    album = Handful([("near.png", moved, "a"), ("other.png", scene(9), "b"), ("itself.png", image, "c")])
    painter = Grey(FillSettings(fill="network"), album)
    filled = painter(image, hole)
    assert np.array_equal(filled[~hole], image[~hole])
    assert np.abs(filled[hole].astype(int) - truth[hole]).mean() < 20
    assert painter.report is not None
    assert painter.report.lenders == ("near.png",)
    assert painter.report.notes == ("not copied from itself.png: it shows what is to be replaced",)
    alone = Grey(FillSettings(fill="network"))(image, hole)
    assert np.array_equal(Grey(FillSettings(fill="network"), Handful([("o", scene(9), "b")]))(image, hole), alone)


def test_a_photo_is_not_lent_to_itself_and_albums_come_from_folders_and_files(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="OpenCV is in the extra `album`")
    from cicm.exemplar.album import make_album, save_album
    from cicm.photos import open_photo

    truth = scene()
    (tmp_path / "album").mkdir()
    image, hole = damaged(truth)
    Image.fromarray(np.roll(truth, (2, 4), (0, 1))).save(tmp_path / "album" / "near.png")
    Image.fromarray(image).save(tmp_path / "album" / "photo.png")
    save_album(make_album(tmp_path / "album"), tmp_path / "album.safetensors")
    photo, results = open_photo(tmp_path / "album" / "photo.png"), []
    for album in (tmp_path / "album", tmp_path / "album.safetensors", make_album(tmp_path / "album")):
        inpainter = Inpainter.from_pretrained(weights, device="cpu", album=album, fill="network")
        repaired, report = inpainter.fill_photo(photo, hole)
        assert (report.lenders, report.notes) == (("near.png",), ())
        results.append(repaired.pixels.values)
    assert all(np.array_equal(one, results[0]) for one in results)
    (tmp_path / "album" / "near.png").write_bytes(b"no picture any more")
    _, report = inpainter.fill_photo(photo, hole)
    assert report.lenders == ()
    assert len(report.notes) == 1
    assert "near.png" in report.notes[0]


def test_without_opencv_an_album_is_one_clear_line(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match=r"pip install 'cicm\[album\]'"):
        Inpainter.from_pretrained(weights, device="cpu", album=Handful([("a", bricks(9, 9), "a")]))
