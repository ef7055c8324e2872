"""Scores of a run equal hand computation and scikit-image; the pairs are the same for all methods."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from cicm.conventions import BANDS, InputError
from cicm.data.pair_lists import pairs_hash
from cicm.data.pairs import make_pairs
from cicm.evaluation.classical import Classical, Mean, Method, Telea
from cicm.evaluation.grid import _draw_grid
from cicm.evaluation.intervals import interval
from cicm.evaluation.methods import FolderResults
from cicm.evaluation.plan import make_plan, make_protocol
from cicm.evaluation.provenance import hardware, software
from cicm.evaluation.scoring import evaluate
from cicm.metrics.sharpness import sharpness

from .conftest import Shifted, TinySet

PIXEL = ["psnr", "ssim", "l1"]


def plan_of(tiny: TinySet, **options):
    return make_plan(tiny.images, tiny.masks, tiny.pairs, **options)


def as_uint8(image: torch.Tensor) -> np.ndarray:
    return (image * 255).round().byte().permute(1, 2, 0).numpy()


def test_the_truth_has_ideal_scores(tiny):
    evaluation, _ = evaluate([Shifted(tiny)], plan_of(tiny), [*PIXEL, "sqz-distance"])
    values = {(r.band, r.metric): r.value for r in evaluation.records}
    for band in BANDS:
        assert values[band, "psnr"] == 100.0  # the cap that stands for identity
        assert values[band, "ssim"] == pytest.approx(1, abs=1e-12)  # float64
        assert values[band, "l1"] == 0.0
        assert values[band, "sqz-distance"] == pytest.approx(0, abs=1e-9)


def test_scores_equal_scikit_image_and_hand_computation(tiny):
    """One photo at a time, from the files, with 8-bit pictures and the library's own functions."""
    evaluation, _ = evaluate([Telea(3)], plan_of(tiny), PIXEL, batch_size=4)
    assert len(evaluation.images) == len(tiny.pairs)
    by_pair = {(row.image, row.mask): row for row in evaluation.images}
    for pair in tiny.pairs:
        photo, hole = as_uint8(tiny.truth(pair)), tiny.hole(pair)
        damaged = photo.copy()
        damaged[hole] = 0
        filled = Telea(3).fill_one(damaged, hole)
        row = by_pair[pair.image, pair.mask]
        assert row.missing == hole.mean()
        # 1e-9: float64 on both sides, another order of the sums
        assert row.scores["psnr"] == pytest.approx(peak_signal_noise_ratio(photo, filled, data_range=255), abs=1e-9)
        assert row.scores["ssim"] == pytest.approx(
            structural_similarity(photo / 255, filled / 255, data_range=1, channel_axis=-1), abs=1e-9
        )
        expected = 100 * np.abs(photo.astype(float) - filled).mean() / 255
        # 1e-6: the values of a picture are float32 multiples of 1/255
        assert row.scores["l1"] == pytest.approx(expected, abs=1e-6)


def test_records_summarise_the_images(tiny):
    shifts = {pair.image: 0.02 * (number % 5 + 1) for number, pair in enumerate(tiny.pairs)}
    evaluation, _ = evaluate([Shifted(tiny, shifts)], plan_of(tiny), PIXEL)
    for record in evaluation.records:
        values = [row.scores[record.metric] for row in evaluation.images if row.band == record.band]
        assert record.n == len(values) == 7
        assert record.value == pytest.approx(sum(values) / 7, abs=1e-12)
        assert record.std == pytest.approx(np.sqrt(sum((v - sum(values) / 7) ** 2 for v in values) / 6), abs=1e-9)
        assert record.interval == interval(values)
        assert record.interval[0] <= record.value <= record.interval[1]
        assert record.seconds > 0


def test_l1_of_a_shift_by_hand(tiny):
    """A fill that is 0.2 too bright, where that fits into [0, 1], costs 0.2 x 100 x the missing share."""
    evaluation, _ = evaluate([Shifted(tiny, 51 / 255)], plan_of(tiny), ["l1"])
    for row in evaluation.images:
        pair = next(pair for pair in tiny.pairs if (pair.image, pair.mask) == (row.image, row.mask))
        truth = tiny.truth(pair)[:, torch.from_numpy(tiny.hole(pair))]
        clipped = (truth + 51 / 255).clamp(max=1) - truth
        expected = 100 * float(clipped.double().sum()) / (3 * 32 * 32)
        assert row.scores["l1"] == pytest.approx(expected, abs=1e-5)  # float32 sums of values around 1
        assert row.scores["l1"] <= 20 * row.missing + 1e-5


def test_the_interval_equals_an_independent_loop():
    """Not the same draws: another generator, many more of them, agreeing to within the noise of both."""
    rng = np.random.default_rng(1)
    values = rng.gamma(2.0, 3.0, 40)
    means = sorted(np.mean([values[rng.integers(40)] for _ in range(40)]) for _ in range(6000))
    expected = means[int(0.025 * 6000)], means[int(0.975 * 6000)]
    low, high = interval(values)
    # A quantile of m means of spread s has the error sqrt(q (1 - q) / m) / f, f about 0.06 / s there:
    # 0.058 s for 2,000 and 0.034 s for 6,000, together 0.07 s; four times that is allowed.
    slack = 4 * 0.07 * values.std() / np.sqrt(40)
    assert low == pytest.approx(expected[0], abs=slack)
    assert high == pytest.approx(expected[1], abs=slack)
    assert interval(values) == interval(list(values)), "not deterministic"
    assert interval([1.5]) is None, "it needs two images"
    assert high - low > 2 * slack, "the comparison would pass for anything"


def test_batches_change_nothing(tiny):
    plan = plan_of(tiny)
    one, _ = evaluate([Telea()], plan, PIXEL, batch_size=1)
    all_at_once, _ = evaluate([Telea()], plan, PIXEL, batch_size=100)
    assert [row.scores for row in one.images] == [row.scores for row in all_at_once.images]
    assert one.protocol == all_at_once.protocol


class Spy(Method):
    """Notes what it was given."""

    name, detail = "spy", "a spy"

    def __init__(self, name: str) -> None:
        self.name, self.seen = name, []

    def fill(self, corrupted, hole, pairs):
        assert not (corrupted * hole).any(), "the truth is in the hole"
        self.seen.append((list(pairs), corrupted.clone(), hole.clone()))
        return corrupted


def test_all_methods_see_the_same_holes_and_never_the_truth(tiny):
    spies = [Spy("first"), Spy("second")]
    evaluate(spies, plan_of(tiny), ["l1"], batch_size=3)
    for mine, theirs in zip(spies[0].seen, spies[1].seen, strict=True):
        assert mine[0] == theirs[0]
        assert torch.equal(mine[1], theirs[1])
        assert torch.equal(mine[2], theirs[2])
    assert sorted(pair for pairs, _, _ in spies[0].seen for pair in pairs) == sorted(tiny.pairs)


class Vandal(Method):
    name, detail = "vandal", "changes known pixels"

    def fill(self, corrupted, hole, pairs):
        return corrupted + 0.1


def test_a_method_that_changes_known_pixels_is_caught(tiny):
    with pytest.raises(AssertionError, match="vandal changed known pixels"):
        evaluate([Vandal()], plan_of(tiny), ["l1"])


def test_raw_scores_the_known_pixels_too(tiny, tmp_path):
    for pair in tiny.pairs:
        path = tmp_path / pair.band / pair.image
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(as_uint8(tiny.truth(pair)).astype(int) - 10, 0, 255).astype(np.uint8)).save(path)
    plan = plan_of(tiny)
    pasted, _ = evaluate([FolderResults(tmp_path)], plan, ["l1"])
    raw, _ = evaluate([FolderResults(tmp_path, raw=True)], plan, ["l1"])
    for a, b in zip(pasted.images, raw.images):
        assert a.scores["l1"] < b.scores["l1"]
        # Every pixel is 10 levels off, but those that were below 10; `photo` has few.
        assert b.scores["l1"] == pytest.approx(100 * 10 / 255, abs=0.05)
    assert "raw" in raw.protocol.scored
    with pytest.raises(InputError, match="can't share a table"):
        evaluate([FolderResults(tmp_path, raw=True), Mean()], plan, ["l1"])


def test_a_metric_without_weights_is_null_with_the_files_name(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("CICM_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    evaluation, _ = evaluate([Mean()], plan_of(tiny, limit=2), ["l1", "fid"])
    absent = [record for record in evaluation.records if record.metric == "fid"]
    assert [record.value for record in absent] == [None] * 3
    for record in absent:
        assert record.reason.startswith("needs ")
        assert record.reason.endswith(".pth")
        assert str(tmp_path) not in record.reason
    assert all("fid" not in row.scores for row in evaluation.images)


def test_scores_of_a_set_have_no_interval_and_tell_when_it_is_small(tiny):
    evaluation, _ = evaluate([Mean()], plan_of(tiny), ["sqz-frechet"])
    for record in evaluation.records:
        assert record.value > 0
        assert record.interval is None
        assert record.std is None
        assert "N=7" in record.note
    single, _ = evaluate([Mean()], plan_of(tiny, limit=1), ["l1", "sqz-frechet"])
    assert {r.metric: r.value is None for r in single.records} == {"l1": False, "sqz-frechet": True}
    assert all(r.reason for r in single.records if r.metric == "sqz-frechet")


def test_two_sizes_make_two_groups(tiny, tmp_path):
    """Photos of 32x32 and larger at 32, in a second set those of 40 and more at 40."""
    pairs = make_pairs(tiny.images, tiny.masks, 0, sizes=(34, 32))
    plan = make_plan(tiny.images, tiny.masks, pairs)
    assert [(cell.group, cell.band, len(cell.pairs)) for cell in plan.cells] == [
        *(("34x34", band, 5) for band in BANDS),
        *(("32x32", band, 2) for band in BANDS),
    ]
    evaluation, _ = evaluate([Mean()], plan, ["l1"])
    assert [(r.group, r.band, r.n) for r in evaluation.records] == [
        (cell.group, cell.band, len(cell.pairs)) for cell in plan.cells
    ]
    assert evaluation.protocol.groups == ("34x34", "32x32")


def test_the_protocol_names_list_and_pixels(tiny, tmp_path):
    plan = plan_of(tiny)
    first, _ = evaluate([Mean()], plan, ["l1"], batch_size=2)
    assert first.protocol.pairs_sha256 == pairs_hash(tiny.pairs)
    assert (first.protocol.num_pairs, first.protocol.num_images) == (21, 7)
    assert make_protocol(plan, ["l1"], pixels_sha256=first.protocol.pixels_sha256) == first.protocol
    # The same names with one other pixel: the same list, other pixels.
    copy = tmp_path / "photos"
    for path in tiny.images.rglob("*.png"):
        target = copy / path.relative_to(tiny.images)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    array = np.asarray(Image.open(copy / "p0.png")).copy()
    array[0, 0, 0] ^= 1
    Image.fromarray(array).save(copy / "p0.png")
    other, _ = evaluate([Mean()], make_plan(copy, tiny.masks, tiny.pairs), ["l1"])
    assert other.protocol.pairs_sha256 == first.protocol.pairs_sha256
    assert other.protocol.pixels_sha256 != first.protocol.pixels_sha256


def test_limit_spreads_over_the_list_and_keeps_whole_photos(tiny):
    plan = plan_of(tiny, limit=3)
    assert list(dict.fromkeys(pair.image for pair in plan.pairs)) == ["p0.png", "p2.png", "p5.png"]
    assert len(plan.pairs) == 9
    assert len(plan_of(tiny, limit=3, bands=["40-60"]).pairs) == 3
    assert plan_of(tiny, limit=99).pairs == tuple(tiny.pairs)


def test_bad_runs(tiny):
    for methods, metrics, words in (
        ([], ["l1"], "different names; got none"),
        ([Mean(), Mean()], ["l1"], "different names"),
        ([Mean()], ["lpips"], "metrics are psnr"),
        ([Mean()], [], "metrics are psnr"),
        ([Mean()], ["l1", "l1"], "each metric once"),
    ):
        with pytest.raises(InputError, match=words):
            evaluate(methods, plan_of(tiny), metrics)
    for options, words in (
        ({"bands": ["60-80"]}, "bands are 0-20, 20-40, 40-60; got 60-80"),
        ({"limit": 0}, "at least 1 photo"),
    ):
        with pytest.raises(InputError, match=words):
            plan_of(tiny, **options)


def test_hardware_and_software_are_named():
    assert f"{torch.get_num_threads()} thread(s)" in hardware()
    assert len(hardware().split(",")[0]) > 2
    versions = software()
    assert versions["torch"] == torch.__version__
    assert {"python", "numpy", "pillow"} <= versions.keys()


def test_missing_photos_and_masks_stop_the_plan(tiny, tmp_path):
    with pytest.raises(InputError, match="lacks 7 of the 7 photos"):
        make_plan(tmp_path, tiny.masks, tiny.pairs)
    with pytest.raises(InputError, match="lacks 9 of the 9 masks"):
        make_plan(tiny.images, tmp_path, tiny.pairs)
    with pytest.raises(InputError, match="give the folder"):
        make_plan(tiny.images, None, tiny.pairs)


def test_painted_holes_need_no_mask_files(tiny):
    pairs = make_pairs(tiny.images, None, 0, sizes=(32,))
    evaluation, _ = evaluate([Mean()], make_plan(tiny.images, None, pairs, limit=2), ["l1"])
    assert "6 painted from seeds" in evaluation.protocol.masks
    assert all(0 < row.missing <= 0.6 for row in evaluation.images)


def test_grid_shows_each_chosen_photo_in_each_band(tiny):
    plan = plan_of(tiny)
    _, rows = evaluate([Mean(), Shifted(tiny)], plan, ["l1"], grid_photos=2)
    assert [row.label for row in rows] == [f"{image}  {band} %" for image in ("p0.png", "p4.png") for band in BANDS]
    for row in rows:
        pair = next(p for p in tiny.pairs if f"{p.image}  {p.band} %" == row.label)
        hole = tiny.hole(pair)
        assert (row.corrupted[hole] == 255).all()
        assert (row.corrupted[~hole] == row.image[~hole]).all()
        assert (row.filled["shifted"] == row.image).all()
        assert (row.filled["mean"][~hole] == row.image[~hole]).all()
    canvas = _draw_grid(rows)
    assert canvas.width == 4 * (32 + 4) + 4
    last = np.asarray(canvas)[-4 - 32 : -4, 4:36]
    assert (last == rows[-1].image).all()


def test_progress_counts_every_picture(tiny):
    seen = []
    evaluate([Mean(), Telea()], plan_of(tiny), ["l1"], batch_size=4, progress=lambda text, n: seen.append((text, n)))
    assert sum(n for _, n in seen) == 2 * len(tiny.pairs)
    assert seen[0] == ("mean 32x32 0-20", 4)


def test_time_is_that_of_filling_alone(tiny):
    class Slow(Classical):
        name, detail = "slow", "sleeps"

        def fill_one(self, image, hole):
            import time

            time.sleep(0.01)
            return image

    evaluation, _ = evaluate([Slow()], plan_of(tiny, limit=2), ["l1"])
    for record in evaluation.records:
        assert 0.01 <= record.seconds < 0.1  # ten times the sleep, for a busy machine


def test_metrics_that_look_at_the_hole_get_it(tiny):
    evaluation, _ = evaluate([Shifted(tiny), Mean()], plan_of(tiny), ["sharpness"])
    for row in evaluation.images:
        pair = next(pair for pair in tiny.pairs if (pair.image, pair.band) == (row.image, row.band))
        hole = torch.from_numpy(tiny.hole(pair)[None, None]).float()
        own = sharpness(tiny.truth(pair)[None], hole).item()
        if row.method == "shifted":
            assert row.scores["sharpness"] == pytest.approx(own, rel=1e-6)
        else:
            assert row.scores["sharpness"] < own, "a flat fill is blurred"
