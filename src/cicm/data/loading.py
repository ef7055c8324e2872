"""Batches for training that can be resumed at any step and shared out over any number of ranks and workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cicm.conventions import InputError
from cicm.data.datasets import Skipped, TrainingPhotos, to_image

_Key = tuple[int, int]  # (epoch, index) of a sample


class Batch(TypedDict):
    """`image` (B, 3, h, w) in [0, 1], `hole` (B, 1, h, w), and the files that were passed over for it (mostly none).

    `label`: (B, h, w) uint8, classes and void of the whole pictures; only where the photos have label maps.
    """

    image: Tensor
    hole: Tensor
    skipped: list[Skipped]
    label: NotRequired[Tensor]


class TrainingStream:
    """Batches without end; the batch of a step is a function of (seed, step, rank, world) and the dataset.

    One epoch after the other, each in an order of its own, is read as one long row: batch `step` of all ranks together
    is samples `step * B * W` and following of that row, rank 0 takes the first `B` of them. So no sample is lost where
    an epoch ends inside a batch, `W` ranks with `B` samples see what one process with `W * B` sees, and resuming means
    beginning at another step.

    Iterating begins at step 0, `from_step` at any other. Nothing here touches the global random state.

    Args:
        dataset: gives its samples by (epoch, index).
        seed: of the order; the dataset has its own for crops and holes.
        workers: processes that read ahead; 0 reads in this one.
        pin_memory: for a GPU, with workers: put batches into page-locked memory.

    Raises:
        InputError: a number out of its range; while iterating: what the dataset raises, also from a worker.

    Example:
        >>> from PIL import Image
        >>> folder = getfixture("tmp_path")
        >>> for shade in range(5):
        ...     Image.new("L", (16, 16), shade).save(folder / f"{shade}.png")
        >>> stream = TrainingStream(TrainingPhotos(folder, crop=16), batch_size=4)
        >>> [key[0] for key in stream.keys(1)]
        [0, 1, 1, 1]
        >>> next(iter(stream))["image"].shape
        torch.Size([4, 3, 16, 16])
    """

    def __init__(
        self,
        dataset: TrainingPhotos,
        batch_size: int,
        seed: int = 0,
        *,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        for name, value, least in [
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("world", world, 1),
            ("rank", rank, 0),
            ("workers", workers, 0),
        ]:
            if value < least:
                raise InputError(f"{name} must be {least} or above; got {value}.")
        if rank >= world:
            raise InputError(f"rank must be below world, the number of processes; got rank {rank} of {world}.")
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.rank, self.world, self.workers = rank, world, workers
        self.pin_memory = pin_memory
        self.skipped: dict[str, str] = {}
        """Every file that this rank passed over so far, with the reason."""
        self._orders: dict[int, np.ndarray] = {}

    def keys(self, step: int) -> list[_Key]:
        """Which samples this rank's batch is made of."""
        first = (step * self.world + self.rank) * self.batch_size
        places = (divmod(place, len(self.dataset)) for place in range(first, first + self.batch_size))
        return [(epoch, int(self._order(epoch)[offset])) for epoch, offset in places]

    def batch(self, step: int) -> Batch:
        """The batch of a step, read in this process."""
        return self._noted(_Collated(self.dataset)[self.keys(step)])

    def from_step(self, step: int) -> Iterator[Batch]:
        """Batches of `step`, `step + 1`, ... without end. A fresh iterator each time; several may run side by side."""
        if step < 0:
            raise InputError(f"step must be 0 or above; got {step}.")
        if self.workers == 0:
            while True:
                yield self.batch(step)
                step += 1
        # A generator of its own: without one, the loader would draw its workers' seeds from the global state.
        loader = DataLoader(
            _Collated(self.dataset),
            batch_size=None,
            sampler=_Steps(self, step),
            num_workers=self.workers,
            collate_fn=_as_is,
            generator=torch.Generator().manual_seed(0),
            pin_memory=self.pin_memory,
        )
        for batch in loader:
            yield self._noted(batch)

    def __iter__(self) -> Iterator[Batch]:
        return self.from_step(0)

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            # A batch that is longer than the dataset visits several epochs, reading ahead a few more.
            for old in sorted(self._orders)[:-4]:
                del self._orders[old]
            entropy = np.random.SeedSequence(self.seed, spawn_key=(epoch,))
            self._orders[epoch] = np.random.default_rng(entropy).permutation(len(self.dataset))
        return self._orders[epoch]

    def _noted(self, batch: Batch | InputError) -> Batch:
        if isinstance(batch, InputError):
            raise batch
        self.skipped.update(batch["skipped"])
        return batch


class MixedStream:
    """Two streams in one: every so many steps a batch of `large`, otherwise one of `small`; resumable like both.

    Args:
        large: gives the batch of each step `every - 1`, `2 * every - 1`, ...; usually larger crops, fewer of them.
    """

    def __init__(self, small: TrainingStream, large: TrainingStream, every: int) -> None:
        if every < 2:
            raise InputError(f"every must be 2 or above, so that both streams are read; got {every}.")
        self.small, self.large, self.every = small, large, every
        self.dataset = small.dataset

    @property
    def skipped(self) -> dict[str, str]:
        """Every file that either stream passed over so far, with the reason."""
        return {**self.small.skipped, **self.large.skipped}

    def batch(self, step: int) -> Batch:
        """The batch of a step, read in this process."""
        passed, place = divmod(step, self.every)
        return self.large.batch(passed) if place == self.every - 1 else self.small.batch(step - passed)

    def from_step(self, step: int) -> Iterator[Batch]:
        """Batches of `step`, `step + 1`, ... without end."""
        passed = step // self.every
        small, large = self.small.from_step(step - passed), self.large.from_step(passed)
        while True:
            yield next(large if step % self.every == self.every - 1 else small)
            step += 1


class _Collated(Dataset[Any]):
    """A list of keys -> the batch of those samples; a bad file comes back as the error, not raised.

    A loader would wrap what a worker raises into the worker's whole traceback.
    """

    def __init__(self, dataset: TrainingPhotos) -> None:
        self.dataset = dataset

    def __getitem__(self, keys: list[_Key]) -> Batch | InputError:
        try:
            samples = [self.dataset.draw(key) for key in keys]
        except InputError as problem:
            return InputError(str(problem))
        batch: Batch = {
            "image": to_image(np.stack([sample.image for sample in samples])),
            "hole": torch.stack([sample.hole for sample in samples]),
            "skipped": [entry for sample in samples for entry in sample.skipped],
        }
        if labels := [sample.label for sample in samples if sample.label is not None]:  # of all photos, or of none
            batch["label"] = torch.from_numpy(np.stack(labels))
        return batch


class _Steps(Sampler[list[_Key]]):
    """The keys of one step after the other, without end."""

    def __init__(self, stream: TrainingStream, step: int) -> None:
        self.stream, self.step = stream, step

    def __iter__(self) -> Iterator[list[_Key]]:
        step = self.step
        while True:
            yield self.stream.keys(step)
            step += 1


def _as_is(batch: Any) -> Any:
    return batch
