"""What is a pure function of the step: the learning rate, and what is due."""

from __future__ import annotations

import math


def learning_rate(step: int, *, highest: float, steps: int, warmup_steps: int, last: float) -> float:
    """Linear warm-up, then a cosine down to `last * highest` (Loshchilov and Hutter, ICLR 2017).

    Args:
        step: 0 for the first.
        highest: reached at step `warmup_steps`.
        steps: length of the run.
        last: share of `highest` at the end.

    Example:
        >>> [learning_rate(s, highest=1.0, steps=11, warmup_steps=2, last=0.0) for s in (0, 1, 2, 6, 10)]
        [0.333..., 0.666..., 1.0, 0.5, 0.0]
    """
    if step < warmup_steps:
        return highest * (step + 1) / (warmup_steps + 1)
    done = min(1.0, (step - warmup_steps) / max(1, steps - 1 - warmup_steps))
    return highest * (last + (1 - last) * (1 + math.cos(math.pi * done)) / 2)


def due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps happens after this one; 0 means never.

    Example:
        >>> [step for step in range(1, 10) if due(step, 4)], due(3, 0)
        ([4, 8], False)
    """
    return every > 0 and step % every == 0
