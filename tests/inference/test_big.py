"""Large pictures: the right crops, tiles that don't show, a soft seam, and what was known stays as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from cicm.assembly import MemoryInpainter
from cicm.conventions import InputError
from cicm.inference import Inpainter
from cicm.inference.crops import groups, plan_crops
from cicm.inference.seams import soften, step_at_border
from cicm.inference.tiles import any_of, cut, depth, enlarge, fading, near, plan_levels, reduce, windows
from cicm.networks import InpaintingNetwork, Prediction
from cicm.networks.contract import SizeRule, unchanged

Maker = Callable[..., Inpainter]
SEEDS = st.integers(0, 2**32 - 1)
NO_FIXTURE_CHECK = [HealthCheck.function_scoped_fixture]


def spots(height: int, width: int, seed: int, count: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hole = np.zeros((height, width), dtype=bool)
    for _ in range(count):
        y, x, h, w = (int(rng.integers(0, limit)) for limit in (height, width, height // 3 + 1, width // 3 + 1))
        hole[y : y + h + 1, x : x + w + 1] = True
    hole[:, 0] = False  # something is always known
    hole[height // 2, width // 2] = True
    return hole


class Diffusion(InpaintingNetwork):
    """Fills with the mean of what it sees, or, if `moody`, with a grey that changes at each call; keeps the sizes."""

    size = SizeRule(16, 32)

    def __init__(self, moody: bool = False) -> None:
        super().__init__()
        self.moody = moody
        self.seen: list[tuple[int, int, float]] = []

    def forward(self, corrupted: Tensor, hole: Tensor, *, edit=unchanged) -> Prediction:
        self.size.check(*corrupted.shape[-2:])
        assert bool((corrupted[hole.expand_as(corrupted) > 0.5] == 0).all())
        assert bool((hole == 0).any()), "there is always something known"
        colour = corrupted.sum((2, 3), keepdim=True) / (1 - hole).sum((2, 3), keepdim=True)
        if self.moody:
            colour = torch.full_like(colour, 0.2 if len(self.seen) % 2 else 0.8)
        self.seen.append((*corrupted.shape[-2:], float(hole.mean())))
        return Prediction(colour.expand_as(corrupted).clone())


def grained(height: int, width: int, colour: int) -> np.ndarray:
    """A colour and its two neighbours, mixed: too rough to be filled as a flat place."""
    return np.random.default_rng(0).integers(colour - 3, colour + 4, (height, width, 3), dtype=np.uint8)


def diffusion(moody: bool = False, **options) -> Inpainter:
    return Inpainter(MemoryInpainter(Diffusion(moody)), device="cpu", **{"fill": "network", **options})


# Crops


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 50), width=st.integers(1, 50), seed=SEEDS, share=st.floats(0.01, 0.6))
def test_groups_are_the_connected_ones(height: int, width: int, seed: int, share: float) -> None:
    hole = np.random.default_rng(seed).random((height, width)) < share
    labels, _ = ndimage.label(hole, np.ones((3, 3)))
    expected = {(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)}
    found = groups(hole, cell=1)
    assert len(found) == labels.max()
    assert set(found) == expected
    for left, top, right, bottom in groups(hole, cell=7):  # tight, and together they hold everything
        assert hole[top, left:right].any()
        assert hole[bottom - 1, left:right].any()
        assert hole[top:bottom, left].any()
        assert hole[top:bottom, right - 1].any()
        labels[top:bottom, left:right] = 0
    assert not labels.any()


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, margin=st.integers(1, 30), longest=st.integers(20, 200), count=st.integers(1, 12))
def test_every_missing_pixel_has_one_crop(seed: int, margin: int, longest: int, count: int) -> None:
    hole = spots(90, 130, seed, count)
    crops = plan_crops(hole, margin=margin, relative=0.5, longest=longest)
    owners = np.zeros(hole.shape, dtype=int)
    for crop in crops:
        left, top, right, bottom = crop.hole
        owners[top:bottom, left:right] += 1
        wide = max(margin, int(np.ceil(0.5 * min(right - left, bottom - top))))
        assert crop.box == (max(0, left - wide), max(0, top - wide), min(130, right + wide), min(90, bottom + wide))
    assert (owners[hole] == 1).all()
    assert owners.max() == 1
    for index, one in enumerate(crops):  # what overlaps and still is two would be too long as one
        for other in crops[:index]:
            if _overlap(one.box, other.box):
                both = [*map(min, one.hole[:2], other.hole[:2]), *map(max, one.hole[2:], other.hole[2:])]
                width, height = both[2] - both[0], both[3] - both[1]
                assert max(width, height) + 2 * max(margin, min(width, height) // 2 + 1) > longest


def _overlap(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_many_specks_are_quick() -> None:
    hole = np.zeros((2000, 3000), dtype=bool)
    hole[::97, ::83] = True
    assert len(plan_crops(hole, margin=8, relative=0.5, longest=64)) > 500


# Levels and tiles


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 30), width=st.integers(1, 30), seed=SEEDS, share=st.floats(0, 1))
def test_depth_is_the_way_to_the_next_known_pixel(height: int, width: int, seed: int, share: float) -> None:
    hole = np.random.default_rng(seed).random((height, width)) < share
    if hole.all():
        assert (depth(hole) == height + width).all()
    else:
        assert np.array_equal(depth(hole), ndimage.distance_transform_cdt(hole, "taxicab"))


def test_wide_places_first_thin_ones_at_full_size() -> None:
    hole = np.zeros((400, 900), dtype=bool)
    hole[50:350, 50:350] = True  # 300 across
    hole[200:204, 350:880] = True  # a scratch that begins at it
    levels = plan_levels(hole, 60)
    assert [level.factor for level in levels] == [5.0, 1.0]
    assert (sum(level.places.astype(int) for level in levels) == hole).all()
    assert levels[0].places[50:350, 50:350].all()  # with its corners: the rim isn't done apart from the middle
    assert levels[1].places[200:204, 600:880].all()
    assert [level.factor for level in plan_levels(hole[:, 400:], 60)] == [1.0]
    assert plan_levels(hole[:60, :], 60)[0].factor == 1.0


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, widest=st.integers(4, 40), count=st.integers(1, 10))
def test_levels_share_out_the_hole(seed: int, widest: int, count: int) -> None:
    hole = spots(120, 90, seed, count)
    levels = plan_levels(hole, widest)
    assert (sum(level.places.astype(int) for level in levels) == hole).all()
    factors = [level.factor for level in levels]
    assert factors == sorted(factors, reverse=True)
    deepest = np.unravel_index(depth(hole).argmax(), hole.shape)
    assert levels[0].places[deepest]
    assert 2 * depth(hole).max() / factors[0] <= 1.25 * widest + 1e-6


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 400), width=st.integers(1, 400), side=st.integers(32, 200))
def test_tiles_cover_and_fade(height: int, width: int, side: int) -> None:
    total = np.zeros((height, width), dtype=np.float32)
    for box in windows((height, width), side):
        left, top, right, bottom = box
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert (right - left, bottom - top) == (min(width, side), min(height, side))
        share = fading(box, (height, width), side)
        cut(total, box)[...] += share
        for axis, last in ((0, bottom == height), (1, right == width)):
            assert np.abs(np.diff(share, axis=axis)).max(initial=0) <= 1 / (side // 8) + 1e-6
            assert last or share.take(-1, axis).max() == 0
    assert total.min() >= 0.999  # every pixel counts fully somewhere, or in the sum


def test_reduce_averages_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    picture, hole = rng.random((57, 83, 3), dtype=np.float32), rng.random((57, 83)) < 0.5
    for strip in (2**19, 200):  # in one go, and some rows at a time
        monkeypatch.setattr("cicm.inference.tiles.STRIP", strip)
        small, gone = reduce(lambda box: cut(picture, box), hole, (0, 0, 83, 57), (13, 20))
        places = any_of(hole, (13, 20))
        for y in range(13):
            for x in range(20):
                cell = (slice(y * 57 // 13, (y + 1) * 57 // 13), slice(x * 83 // 20, (x + 1) * 83 // 20))
                known = ~hole[cell]
                assert gone[y, x] == (known.mean() < 0.5)
                assert places[y, x] == hole[cell].any()
                expected = np.zeros(3) if gone[y, x] else picture[cell][known].mean(0)
                assert np.allclose(small[y, x], expected, atol=1e-6)


def test_enlarge_in_strips_is_enlarging_all() -> None:
    small = np.random.default_rng(0).random((9, 14, 3), dtype=np.float32)
    whole = F.interpolate(
        torch.from_numpy(small).permute(2, 0, 1)[None], size=(40, 61), mode="bicubic", align_corners=False
    )
    expected = whole[0].permute(1, 2, 0).clamp(0, 1).numpy()
    found = np.concatenate([enlarge(small, (40, 61), start, min(40, start + 7)) for start in range(0, 40, 7)])
    assert np.abs(found - expected).max() < 1e-5  # float32 coordinates


def test_near() -> None:
    places = np.zeros((9, 9), dtype=bool)
    places[4, 4] = True
    assert near(places, 2).sum() == 25
    assert near(places, 2)[2:7, 2:7].all()


def test_tiles_do_not_show() -> None:
    """Each tile has another brightness, 0.2 or 0.8; the picture goes over from one to the next without a step."""
    inpainter = diffusion(moody=True, tile=128, strategy="tile", widest=64)
    hole = np.zeros((100, 700), dtype=bool)
    hole[30:70, 20:680] = True
    filled = inpainter(grained(100, 700, 128).astype(np.float32) / 255, hole)
    report = inpainter.report
    assert report is not None
    assert report.strategy == "tile"
    assert report.tiles >= 6
    assert max(max(height, width) for height, width, _ in inpainter.model.network.seen) <= 128
    row = filled[50, 20:680, 0]
    assert row.min() < 0.25
    assert row.max() > 0.75
    assert np.abs(np.diff(row)).max() <= 0.6 / (128 // 8) + 1e-5  # the whole difference, over the width of the fading


# Whole pictures


@settings(max_examples=40, deadline=None, suppress_health_check=NO_FIXTURE_CHECK)
@given(
    height=st.integers(8, 150),
    width=st.integers(8, 150),
    seed=SEEDS,
    count=st.integers(1, 8),
    strategy=st.sampled_from(["auto", "whole", "crop", "tile", "resize"]),
    feather=st.sampled_from([0, 0, 5]),
    sides=st.sampled_from([(32, 32, 8), (64, 48, 16), (1024, 512, 96)]),
)
@pytest.mark.filterwarnings("ignore::cicm.inference.painter.LargeHoleWarning")
def test_known_pixels_stay_and_one_colour_is_one_colour(
    monkeypatch: pytest.MonkeyPatch,
    one_colour: Maker,
    height: int,
    width: int,
    seed: int,
    count: int,
    strategy: str,
    feather: int,
    sides: tuple[int, int, int],
) -> None:
    monkeypatch.setattr("cicm.inference.plan.WHOLE", 1500)
    hole = spots(height, width, seed, count)
    image = np.random.default_rng(seed).integers(0, 65536, (height, width, 4), dtype=np.uint16)
    options = {"max_side": sides[0], "tile": sides[1], "widest": sides[2], "margin": 7, "feather": feather}
    inpainter = one_colour(strategy=strategy, **options)
    result = inpainter(image, hole)
    assert np.array_equal(result[~hole], image[~hole])
    assert np.array_equal(result[..., 3], image[..., 3])
    report = inpainter.report
    assert report is not None
    assert report.tiles == len(inpainter.model.network.seen)
    assert len(report.crops) >= 1
    for crop in report.crops:
        assert report.box[0] <= crop[0] < crop[2] <= report.box[2] <= width
        assert report.box[1] <= crop[1] < crop[3] <= report.box[3] <= height
    if strategy != "whole":
        assert max(report.network_size) <= max(32, sides[0] + 15)
    if report.reduced == 1 and not feather:
        assert (result[hole][:, :3] == [13107, 39321, 26214]).all()


@pytest.mark.parametrize("strategy", ["auto", "crop", "tile", "resize", "whole"])
def test_a_flat_picture_stays_flat(strategy: str) -> None:
    """No black of a hole gets into the fill, at any size, tile or seam."""
    inpainter = diffusion(strategy=strategy, tile=64, widest=16, max_side=128, feather=6)
    hole = spots(600, 500, 3, 5)
    result = inpainter(grained(600, 500, 77), hole)
    assert np.abs(result.astype(int) - 77).max() <= 3


def test_small_pictures_are_as_ever(weights: Path) -> None:
    """Up to 512x512 pixels `auto` is one forward of the whole picture: here written out by hand."""
    inpainter = Inpainter.from_pretrained(weights, device="cpu", fill="network")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)
    hole = spots(96, 128, 0)
    result = inpainter(image, hole)
    tensor = torch.from_numpy(image.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None]
    known = torch.from_numpy(1 - hole.astype(np.float32))[None, None]
    with torch.inference_mode():
        filled = inpainter.model(tensor * known, 1 - known).composite.clamp(0, 1)[0].permute(1, 2, 0).numpy()
    expected = np.where(hole[..., None], np.floor(filled * np.float32(255) + np.float32(0.5)).astype(np.uint8), image)
    assert np.array_equal(result, expected)
    report = inpainter.report
    assert report is not None
    assert (report.strategy, report.tiles, report.crops) == ("whole", 1, ((0, 0, 128, 96),))


def test_groups_are_filled_apart_and_little_is_computed(one_colour: Maker) -> None:
    inpainter = one_colour()
    hole = np.zeros((1500, 2000), dtype=bool)
    hole[100:130, 100:140] = hole[1400:1420, 1900:1960] = hole[700:760, 900:930] = True
    inpainter(grained(1500, 2000, 9), hole)
    report = inpainter.report
    assert report is not None
    assert report.strategy == "crop"
    assert len(report.crops) == report.tiles == 3
    computed = sum(corrupted.shape[-1] * corrupted.shape[-2] for corrupted, _ in inpainter.model.network.seen)
    assert computed < 0.05 * hole.size


def test_later_crops_do_not_see_holes_as_known(one_colour: Maker) -> None:
    """Two groups too far apart to be one, whose surroundings overlap: neither shows the other's black as a colour."""
    inpainter = diffusion(strategy="crop", margin=60, max_side=176)
    hole = np.zeros((600, 600), dtype=bool)
    hole[300:350, 250:300] = hole[300:340, 340:380] = True
    result = inpainter(grained(600, 600, 200), hole)
    assert len(inpainter.report.crops) == 2
    assert np.abs(result.astype(int) - 200).max() <= 3


@pytest.mark.parametrize("options", [{}, {"strategy": "crop", "max_side": 96}, {"feather": 4}])
def test_tensors_and_arrays_agree(weights: Path, options: dict) -> None:
    inpainter = Inpainter.from_pretrained(weights, device="cpu", tile=128, **options)
    rng = np.random.default_rng(0)
    image = rng.random((2, 3, 380, 720), dtype=np.float32)
    holes = np.stack([spots(380, 720, seed, 2) for seed in (1, 2)])
    batch = inpainter(torch.from_numpy(image), torch.from_numpy(holes)[:, None].float())
    reports = inpainter.reports
    assert len(reports) == 2
    for index in range(2):
        alone = inpainter(image[index].transpose(1, 2, 0).copy(), holes[index])
        assert np.array_equal(batch[index].permute(1, 2, 0).numpy(), alone)
        assert inpainter.report.crops == reports[index].crops
    known = ~holes[:, None].repeat(3, 1)
    assert np.array_equal(batch.numpy()[known], image[known])


def test_a_network_of_nans_writes_nothing(one_colour: Maker) -> None:
    broken = one_colour((float("nan"),) * 3)
    hole = spots(520, 600, 0, 1)
    for image in (grained(520, 600, 9), torch.rand(3, 520, 600)):
        with pytest.raises(InputError, match="NaN"):
            broken(image, hole)


def test_settings_are_checked(one_colour: Maker) -> None:
    for options, words in [
        ({"strategy": "magic"}, "auto, whole, crop, tile, resize; got 'magic'"),
        ({"feather": -1}, "feather must be at least 0"),
        ({"tile": 16}, "tile must be at least 32"),
        ({"widest": 0}, "widest must be at least 8"),
        ({"max_side": 0}, "max_side must be at least 32"),
    ]:
        with pytest.raises(InputError, match=words):
            one_colour(**options)


# Seams


def test_a_step_is_taken_out_near_the_border_only(one_colour: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fill that is too bright by 0.2 everywhere: right beside the known pixels, unchanged beyond the feather."""
    hole = np.zeros((120, 120), dtype=bool)
    hole[30:90, 30:90] = True
    image = np.full((120, 120, 3), 0.4, dtype=np.float32)
    monkeypatch.setattr("cicm.inference.painter.fill_flat", lambda filling, part, own: own)  # as in a rough picture
    hard = one_colour((0.6, 0.6, 0.6))(image, hole)
    soft = one_colour((0.6, 0.6, 0.6), feather=12)(image, hole)
    assert np.array_equal(soft[~hole], image[~hole])
    assert step_at_border(hard, hole) == pytest.approx(0.2, abs=1e-6)
    assert step_at_border(soft, hole) < 0.01
    far = depth(hole)
    assert np.allclose(soft[far > 12], 0.6, atol=1e-6)
    line = soft[60, 30:60, 0]
    assert (np.diff(line) >= -1e-6).all()
    assert np.diff(line).max() < 0.2 * 1.5 / 12 + 0.01  # the steepest of the smooth step, and no new edge


def test_a_fill_without_a_step_stays() -> None:
    """The picture itself is its own best fill: what little is added is the mean of its own steps, which is small."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:160, :160] / 160
    picture = np.stack([y, x, 1 - x], -1).astype(np.float32) + rng.normal(0, 0.02, (160, 160, 3)).astype(np.float32)
    picture = picture.clip(0, 1)
    hole = np.zeros((160, 160), dtype=bool)
    hole[40:120, 40:120] = True
    kept = picture.copy()

    def write(box: tuple[int, int, int, int], colours: np.ndarray, places: np.ndarray) -> None:
        cut(picture, box)[places] = colours[places]

    soften(lambda box: cut(picture, box).copy(), write, (0, 0, 160, 160), hole, ~hole, depth(hole), 16)
    assert np.array_equal(picture[~hole], kept[~hole])
    assert 0 < np.abs(picture - kept).max() < 0.03


# What it needs


BIG = """
import json, sys
import numpy as np
from PIL import Image
from cicm.photos.photo import open_photo, save_photo
from cicm.inference import Inpainter

folder, weights = sys.argv[1:]
inpainter = Inpainter.from_pretrained(weights, device="cpu")
photo, report = inpainter.fill_photo(open_photo(f"{folder}/photo.jpg"), f"{folder}/mask.png")
save_photo(photo, f"{folder}/out.jpg")
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"peak": peak / 2**10, "tiles": report.tiles, "crops": report.crops, "strategy": report.strategy}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux' /proc")
def test_twenty_four_megapixels_in_two_gibibytes(weights: Path, tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    small.resize((6000, 4000), Image.Resampling.BICUBIC).save(tmp_path / "photo.jpg")
    hole = np.zeros((4000, 6000), dtype=np.uint8)
    hole[100:180, 200:300] = hole[3000:3040, 5000:5900] = hole[1500:2300, 2500:3300] = 255
    for step in range(900):  # a scratch of 8 pixels across
        hole[200 + step : 208 + step, 4000 + step : 4008 + step] = 255
    Image.fromarray(hole).save(tmp_path / "mask.png")
    words = [sys.executable, "-c", BIG, str(tmp_path), str(weights)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["peak"] < 2048
    assert found["strategy"] == "tile"
    assert sum((right - left) * (bottom - top) for left, top, right, bottom in found["crops"]) < 0.25 * hole.size


def test_the_command_line_says_what_was_done(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from PIL import Image

    from cicm.cli.main import main

    image = np.random.default_rng(0).integers(0, 256, (60, 200, 3), dtype=np.uint8)
    hole = np.zeros((60, 200), dtype=np.uint8)
    hole[20:26, 20:26] = hole[40:44, 160:170] = 255
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(hole).save(tmp_path / "m.png")
    words = ["inpaint", str(tmp_path / "a.png"), "--mask", str(tmp_path / "m.png"), "--weights", str(weights)]
    options = ["--strategy", "crop", "--margin", "16", "--feather", "3", "--device", "cpu"]
    assert main([*words, "-o", str(tmp_path / "b.png"), *options]) == 0
    assert ", crop (2)" in capsys.readouterr().out
    assert np.array_equal(np.array(Image.open(tmp_path / "b.png"))[hole == 0], image[hole == 0])
    assert main([*words, "-o", str(tmp_path / "c.png"), "--strategy", "magic"]) == 2
    assert "strategy must be one of" in capsys.readouterr().err
