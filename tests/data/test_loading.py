"""Batches that depend on (seed, step, rank, world) alone, for any number of workers, from any step on."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cicm.conventions import InputError
from cicm.data.datasets import TrainingPhotos
from cicm.data.loading import MixedStream, TrainingStream

SIZE = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(SIZE):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


class Numbers:
    """Stands in for a dataset where only its length counts."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


def stream(folder, batch_size=4, **options) -> TrainingStream:
    return TrainingStream(TrainingPhotos(folder, crop=16, seed=3), batch_size, 5, **options)


def equal(one, other) -> bool:
    return torch.equal(one["image"], other["image"]) and torch.equal(one["hole"], other["hole"])


def test_a_batch_is_made_of_its_samples(folder):
    photos = TrainingPhotos(folder, crop=16, seed=3)
    batches = TrainingStream(photos, 4, 5)
    batch = batches.batch(1)
    assert batch["image"].dtype == batch["hole"].dtype == torch.float32
    assert batch["image"].shape == (4, 3, 16, 16)
    assert batch["hole"].shape == (4, 1, 16, 16)
    assert batch["image"].is_contiguous()
    for place, key in enumerate(batches.keys(1)):
        assert torch.equal(batch["image"][place], photos[key]["image"])
        assert torch.equal(batch["hole"][place], photos[key]["hole"])


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 40),
    batch=st.integers(1, 9),
    world=st.integers(1, 4),
    epochs=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_no_sample_is_lost_or_doubled_in_any_epoch(length, batch, world, epochs, seed):
    ranks = [TrainingStream(Numbers(length), batch, seed, rank=rank, world=world) for rank in range(world)]
    row = []
    for step in range(-(-length * epochs // (batch * world))):
        for rank in ranks:
            row += rank.keys(step)
    whole = row[: length * epochs]
    assert Counter(whole) == Counter((epoch, index) for epoch in range(epochs) for index in range(length))
    assert [epoch for epoch, _ in whole] == sorted(epoch for epoch, _ in whole)


def test_each_epoch_and_each_seed_has_its_own_order():
    def order(seed, epoch):
        return [index for _, index in TrainingStream(Numbers(50), 50, seed).keys(epoch)]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert order(0, 0) != sorted(order(0, 0))


def test_workers_change_nothing(folder):
    for workers in (1, 2):
        here = list(islice(stream(folder), 6))
        there = list(islice(stream(folder, workers=workers), 6))
        assert all(equal(one, other) for one, other in zip(here, there, strict=True)), workers


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_at_any_step_goes_on_bit_for_bit(folder, workers):
    whole = list(islice(stream(folder), 8))
    for start in (1, 5):
        resumed = list(islice(stream(folder, workers=workers).from_step(start), 8 - start))
        assert all(equal(one, other) for one, other in zip(whole[start:], resumed, strict=True))
    assert equal(next(stream(folder, workers=workers).from_step(6)), whole[6])


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_together_see_what_one_process_sees(folder, world):
    whole = stream(folder, batch_size=2 * world)
    ranks = [stream(folder, batch_size=2, rank=rank, world=world) for rank in range(world)]
    for step in range(5):
        parts = [rank.batch(step) for rank in ranks]
        for name in ("image", "hole"):
            assert torch.equal(torch.cat([part[name] for part in parts]), whole.batch(step)[name])


def test_two_iterators_do_not_disturb_each_other(folder):
    batches = stream(folder)
    one, other = iter(batches), iter(batches)
    first = next(one)
    next(one)
    assert equal(next(other), first)


def test_the_global_random_state_stays(folder):
    for workers in (0, 1):
        before = torch.get_rng_state()
        next(iter(stream(folder, workers=workers)))
        assert torch.equal(torch.get_rng_state(), before), workers


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_stops_the_stream_with_one_line(folder, tmp_path, workers):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "3.png").write_bytes(b"no photo")
    with pytest.raises(InputError, match=r"3\.png") as raised:
        list(islice(stream(tmp_path, workers=workers), 2))
    assert "\n" not in str(raised.value)
    assert "Traceback" not in str(raised.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_files_are_counted_and_named_in_this_process(folder, tmp_path, workers):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "3.png").write_bytes(b"no photo")
    photos = TrainingPhotos(tmp_path, crop=16, on_error="skip")
    batches = TrainingStream(photos, SIZE, workers=workers)
    found = list(islice(batches, 2))
    assert [[entry.path for entry in batch["skipped"]] for batch in found] == [[str(tmp_path / "3.png")]] * 2
    assert list(batches.skipped) == [str(tmp_path / "3.png")]
    assert batches.skipped[str(tmp_path / "3.png")]
    assert all(batch["image"].shape[0] == SIZE for batch in found)


@pytest.mark.parametrize(("workers", "kept"), [(1, 2), (2, 1)])
def test_workers_share_the_caches_bytes(folder, workers, kept):
    """Room for two photos: both in one worker, or one in each of two; the batches stay what they are."""

    class Telling(TrainingPhotos):
        def draw(self, key):
            return super().draw(key)._replace(skipped=[("kept", len(self._cache.photos))])

    photos = Telling(folder, crop=16, seed=3, cache_mb=0.0030)  # 24 * 20 * 3 = 1,440 bytes each
    cached = list(islice(TrainingStream(photos, 4, 5, workers=workers), 6))
    assert max(count for batch in cached for _, count in batch["skipped"]) == kept
    assert all(equal(one, other) for one, other in zip(cached, stream(folder)))


def test_wrong_numbers(folder):
    for options, words in (
        ({"batch_size": 0}, "batch_size must be 1 or above; got 0"),
        ({"world": 0}, "world must be 1"),
        ({"rank": 2, "world": 2}, "rank 2 of 2"),
        ({"rank": -1}, "rank must be 0"),
        ({"workers": -1}, "workers must be 0"),
    ):
        with pytest.raises(InputError, match=words):
            stream(folder, **options)
        with pytest.raises(InputError, match="step must be 0"):
            next(stream(folder).from_step(-1))


@pytest.mark.shared
def test_a_stream_of_real_photos(shared):
    photos = TrainingPhotos(shared / "data" / "scenes" / "val", crop=64, cache_mb=50)
    here, there = TrainingStream(photos, 8), TrainingStream(photos, 8, workers=2)
    for one, other in islice(zip(here, there), 4):
        assert equal(one, other)
        assert one["image"].shape == (8, 3, 64, 64)


@pytest.mark.parametrize("every", [2, 3])
def test_a_mixed_stream_gives_both_in_turn_and_begins_anywhere(folder, every):
    small, large = stream(folder), TrainingStream(TrainingPhotos(folder, crop=20, seed=3), 2, 5)
    mixed = MixedStream(small, large, every)
    row = list(islice(mixed.from_step(0), 9))
    places = {16: 0, 20: 0}
    for step, batch in enumerate(row):
        side = 20 if step % every == every - 1 else 16
        source = large if side == 20 else small
        assert equal(batch, source.batch(places[side]))
        assert equal(batch, mixed.batch(step))
        places[side] += 1
    for start in (1, 4, 5):
        assert all(equal(a, b) for a, b in zip(islice(mixed.from_step(start), 4), row[start:], strict=False))


def test_a_mixed_stream_of_one_stream_is_refused(folder):
    with pytest.raises(InputError, match="every must be 2 or above"):
        MixedStream(stream(folder), stream(folder), 1)
