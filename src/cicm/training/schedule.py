"""What is a pure function of the step: the learning rate, and what is due."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["cosine", "constant", "linear", "step"]


def learning_rate(
    step: int,
    *,
    highest: float,
    steps: int,
    warmup_steps: int,
    last: float,
    schedule: Schedule = "cosine",
    decay_from: float = 0.0,
) -> float:
    """Linear warm-up, then one of four ways down to `last * highest`.

    Args:
        highest: reached at step `warmup_steps`.
        last: share of `highest` at the end.
        schedule: `cosine` (Loshchilov and Hutter, ICLR 2017); `constant`, where it stays at `highest` and `last` plays
            no role; `linear`, where it stays there for a share of the run and then falls along a straight line; `step`,
            where it stays there for a share of the run and is at its last value after it.
        decay_from: that share, in [0, 1); a fall never begins before the warm-up ends.

    Example:
        >>> [learning_rate(s, highest=1.0, steps=11, warmup_steps=2, last=0.0) for s in (0, 1, 2, 6, 10)]
        [0.333..., 0.666..., 1.0, 0.5, 0.0]
        >>> line = {"schedule": "linear", "decay_from": 0.5}
        >>> [learning_rate(s, highest=1.0, steps=9, warmup_steps=0, last=0.0, **line) for s in (0, 4, 5, 6, 8)]
        [1.0, 1.0, 0.75, 0.5, 0.0]
    """
    if step < warmup_steps:
        return highest * (step + 1) / (warmup_steps + 1)
    if schedule == "constant":
        return highest
    start = warmup_steps if schedule == "cosine" else max(warmup_steps, math.floor(decay_from * steps))
    if schedule == "step":
        return highest * (last if step >= start else 1)
    done = max(0.0, min(1.0, (step - start) / max(1, steps - 1 - start)))
    left = (1 + math.cos(math.pi * done)) / 2 if schedule == "cosine" else 1 - done
    return highest * (last + (1 - last) * left)


def due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps happens after this one; 0 means never.

    Example:
        >>> [step for step in range(1, 10) if due(step, 4)], due(3, 0)
        ([4, 8], False)
    """
    return every > 0 and step % every == 0
