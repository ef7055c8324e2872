"""When memories are filled, and when their starved places are filled again."""

from __future__ import annotations

import torch
from torch import Tensor

from cicm.memory.seeding import generator_for, thinned
from cicm.memory.tags import reseed_by_class_, seed_by_class_
from cicm.training.distributed import gather_regions
from cicm.training.run import Run, on_device
from cicm.training.schedule import due
from cicm.training.step import Part, complete_classes, complete_regions, forward, part_of, split, whole_pass


@torch.no_grad()
def seed_memories(run: Run) -> None:
    """Fill each memory that waits for it from the complete regions of the coming batches; the same on every rank."""
    waiting = [site for site, memory in run.players.bare.memories.items() if not memory.seeded]
    if not waiting:
        return
    found: dict[str, list[Tensor]] = {site: [] for site in waiting}
    for offset in range(run.config.training.memory_seed_batches):
        batch = on_device(run, run.stream.batch(run.step + offset))
        parts = []
        for piece in split(batch, run.config.training.accumulate):
            output = forward(run.players.model, piece)
            whole = whole_pass(run.players.model, run.players.bare, piece)
            parts.append(part_of(output, piece, run.players.bare, whole=whole))
        for site in waiting:  # gathered batch by batch, so that the order is that of the whole batches
            found[site].append(gather_regions(_with_classes(parts, site)))
    for place, site in enumerate(waiting):
        memory, regions = run.players.bare.memories[site], thinned(torch.cat(found[site]))
        if parts[0].classes.get(site) is None:
            memory.seed_(regions, _generator(run, place))  # type: ignore[operator]
        else:
            seed_by_class_(memory, *_split(regions), _classes(run), _generator(run, place))  # type: ignore[arg-type]


def reseed_when_due(run: Run, parts: list[Part]) -> None:
    """Give starved sets and contexts new content from the batch's complete regions, every so many steps."""
    training = run.config.training
    late = run.step > training.memory_reseed_until * training.steps
    if late or not due(run.step, training.memory_reseed_every_steps):
        return
    for place, (site, memory) in enumerate(run.players.bare.memories.items()):
        if memory.writes and memory.seeded:
            regions = gather_regions(_with_classes(parts, site))
            if parts[0].classes.get(site) is None:
                run.reseeded += memory.reseed_(regions, _generator(run, place))  # type: ignore[operator]
            else:
                run.reseeded += reseed_by_class_(memory, *_split(regions), _classes(run), _generator(run, place))  # type: ignore[arg-type]


def _with_classes(parts: list[Part], site: str) -> Tensor:
    """The complete regions of a site, with their class as one more column where labels say where they are written."""
    regions, classes = complete_regions(parts, site), complete_classes(parts, site)
    return regions if classes is None else torch.cat([regions, classes[:, None].to(regions.dtype)], 1)


def _split(both: Tensor) -> tuple[Tensor, Tensor]:
    return both[:, :-1], both[:, -1].long()


def _classes(run: Run) -> int:
    labels = run.config.model.labels
    assert labels is not None
    return labels.classes


def _generator(run: Run, place: int) -> torch.Generator:
    return generator_for(run.config.training.seed, run.step, place)
