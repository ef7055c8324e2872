"""The verb of this room: a memory behind modules of any network, named by their paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from cicm.attach.attached import Attached
from cicm.attach.foreign import Place, channels_of, channels_seen, check_known, module_at
from cicm.conventions import InputError
from cicm.memory import ContextSource, MemoryConfig, create
from cicm.memory.rules import Reduce, alone


def attach(
    network: nn.Module,
    memories: str | Sequence[str] | Mapping[str, MemoryConfig | ContextSource],
    *,
    take: Mapping[str, Place] | None = None,
    channels: Mapping[str, int] | None = None,
    example: Any = None,
    seed_after: int | None = 0,
    seed: int = 0,
    reduce: Reduce = alone,
) -> Attached:
    """Put a memory behind modules of a network that was not written for it.

    Args:
        network: any module. It is used, not copied; `Attached.detach` gives it back as it was.
        memories: module path (as in `named_modules`) -> configuration, or a memory that exists; a path alone, or
            several, for the defaults.
        take: path -> which part of the module's output is the (B, C, h, w) map, where the output is a tuple, mapping
            or dataclass. Without it the first tensor in there is taken; the other parts go on unchanged.
        channels: path -> C. Without it C comes from `example`, or else from the module: its own `out_channels`, or
            those of the last convolution in it. A wrong guess is refused at the first call.
        example: what to call the network with, once, to find C: a tuple of arguments, a dict of keywords, or a tensor.
        seed_after: commits after which a memory that is still empty starts to gather complete regions, and fills
            itself from `SEED_FROM` per context; None leaves that to `Attached.seed_`.
        reduce: a sum over ranks inside the graph, for data-parallel training.

    Raises:
        InputError: an unknown path, a path that has a memory already, or one whose channels cannot be found out.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
        >>> attached = attach(network, {"1": MemoryConfig(sets=2, contexts=3)}, channels={"1": 8})
        >>> image = torch.rand(1, 3, 16, 16)
        >>> torch.equal(attached(image), network[2](network[1](network[0](image))))
        True
        >>> hole = torch.zeros(1, 1, 16, 16)
        >>> _ = attached(image, hole=hole)
        >>> attached.commit()
        0
        >>> attached.memory("1").seeded
        True
    """
    if isinstance(memories, str):
        memories = {memories: MemoryConfig()}
    elif not isinstance(memories, Mapping):
        memories = {path: MemoryConfig() for path in memories}
    if not memories:
        raise InputError("attach needs the path of at least one module; got none. See network.named_modules().")
    modules = {path: module_at(network, path) for path in memories}
    for name, given in (("take", take), ("channels", channels)):
        for path in given or {}:
            check_known(path, list(memories), f"{name} names")
    known = dict(channels or {})
    wanted = [p for p, c in memories.items() if not isinstance(c, ContextSource) and p not in known]
    if example is not None and wanted:
        known |= channels_seen(network, {path: modules[path] for path in wanted}, take or {}, example)
    made = {}
    for path, config in memories.items():
        if isinstance(config, ContextSource):
            made[path] = config
            continue
        weight = next((p for m in (modules[path], network) for p in m.parameters()), torch.zeros(()))
        count = known[path] if path in known else channels_of(modules[path], path)
        made[path] = create(count, config).to(weight.device)
    return Attached(network, made, take=take, seed_after=seed_after, seed=seed, reduce=reduce)
