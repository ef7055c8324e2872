"""What a memory holds, and how one is described."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cicm.conventions import InputError
from cicm.ops import SIMILARITIES
from cicm.ops.similarity import Similarity

Update = Literal["mean", "paper"]
Blend = Literal["text", "paper"]
RatioSource = Literal["estimated", "true", "full"]
Initial = Literal["data", "random", "zeros"]
Length = Literal["free", "unit"]
Route = Literal["feature", "query"]
Written = Literal["complete", "whole"]
Kind = Literal["memory", "table", "convolution", "kmeans", "ruc"]
Map = Float[Tensor, "B C h w"]
Ratio = Float[Tensor, " N"]
Complete = Bool[Tensor, " N"]


class MemoryState(NamedTuple):
    """Everything that a memory remembers; tensors only, so that rules stay functions.

    Args:
        anchors: (L, C), A_l, one per set.
        contexts: (L, K, C), C_{l,k}.
        mass: (L, K), the weight of the regions that each context is the mean of, with forgetting; None means one each.
    """

    anchors: Float[Tensor, "L C"]
    contexts: Float[Tensor, "L K C"]
    mass: Float[Tensor, "L K"] | None = None

    def weight(self) -> Float[Tensor, "L K"]:
        """`mass`, or ones where none was given."""
        return self.contexts.new_ones(self.contexts.shape[:2]) if self.mass is None else self.mass

    def center(self) -> Float[Tensor, " C"]:
        """Mean of all regions that the memory has received: that of the contexts, weighted by mass.

        Because each context is a mean of regions, no separate running mean is needed.
        """
        mass = self.weight()[..., None]
        return (mass * self.contexts).sum((0, 1)) / mass.sum().clamp_min(1e-12)

    def detached(self) -> MemoryState:
        """The same values outside the graph."""
        return MemoryState(self.anchors.detach(), self.contexts.detach(), self.weight().detach())


class MemoryRead(NamedTuple):
    """What a forward found in a memory; nothing in it has been stored.

    Args:
        features: (B, C, h, w), the augmented map R, in the dtype that came.
        regions: (N, C), the regions F as they were looked up, at least float32.
        sets: (N,), the chosen set of each region.
        weights: (N, K), softmax over the contexts of that set; sums to 1.
        context: (N, C), what was read.
        ratio: (N,) in [0, 1], the share of context in the blend, by the ratio head or the hole.
        query: (N, C), what was looked up in place of the regions; None where it was they.
    """

    features: Float[Tensor, "B C h w"]
    regions: Float[Tensor, "N C"]
    sets: Int[Tensor, " N"]
    weights: Float[Tensor, "N K"]
    context: Float[Tensor, "N C"]
    ratio: Float[Tensor, " N"]
    query: Float[Tensor, "N C"] | None = None

    def detached(self) -> MemoryRead:
        """The same values outside the graph."""
        return MemoryRead(*(None if tensor is None else tensor.detach() for tensor in self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class MemoryConfig:
    """How a memory is built. The defaults are the ones that won the trials in docs/experiments.md.

    Args:
        sets: L.
        contexts: K, per set.
        momentum: beta of Eq. 3.
        similarity: `dot` is printed in Eq. 1, 2 and 4; `cosine` bounds it; `centred` is the cosine around the mean of
            all regions.
        temperature: divides similarities before each softmax; 1 is the printed form.
        update: `mean` keeps each context the mean of what it received, with forgetting; `paper` adds without end
            (Eq. 2 as printed).
        retention: share of the accumulated mass that a step keeps (`mean`); 0.99 remembers about 100 steps.
        write_top: share of a set's contexts that a region is written to (Table 1: 1.0, 0.5); 0 is the best one.
        read_top: the same for reading.
        length: `free` stores and compares regions as they come (the printed form); `unit` gives each one the length of
            the root of C first, and what is read gets the length of the region that asked. Then neither features nor
            contexts can grow or shrink to please Eq. 8; see docs/memory-claim.md.
        route: what is looked up: the region's `feature` (the paper), or a `query` that a small head makes of the cells
            around; see `QueryHead`. It learns from the term `route` of the objective.
        blend: `text` gives a larger ratio more context; `paper` is Eq. 4 as printed.
        ratio: `estimated` by a convolution, `true` from the hole (Table 1, "w/ GT"), `full` is 1 everywhere
            ("w/o ratio").
        ratio_kernel: kernel of that convolution.
        ratio_bias: its bias at the start; -2 begins at a ratio of about 0.12, so that inserting a memory into a
            trained network changes little.
        initial: `data` waits for `seed_`; `random` and `zeros` do not.
        written: what a training step stores: the `complete` regions of the damaged photos (the paper), or all regions
            of the `whole` photos, which takes a second forward.
        kind: `memory`; or a control without one: `table`, a table of the same size that is read the same way and
            learned by gradient; `convolution`, a block of 1x1 convolutions with as many parameters; or the context of
            the same image alone (Table 2): `kmeans`, `ruc`.
        complete_tolerance: largest missing share of a cell that still counts as complete.
    """

    sets: int = 13
    contexts: int = 40
    momentum: float = 0.5
    similarity: Similarity = "centred"
    temperature: float = 0.1
    update: Update = "mean"
    retention: float = 0.99
    write_top: float = 0.0
    read_top: float = 1.0
    length: Length = "free"
    route: Route = "feature"
    written: Written = "complete"
    blend: Blend = "text"
    ratio: RatioSource = "estimated"
    ratio_kernel: int = 1
    ratio_bias: float = -2.0
    initial: Initial = "data"
    kind: Kind = "memory"
    complete_tolerance: float = 0.0

    def __post_init__(self) -> None:
        for name in ("sets", "contexts"):
            if getattr(self, name) < 1:
                raise InputError(f"memory {name} must be at least 1; got {getattr(self, name)}.")
        for name in ("momentum", "retention", "write_top", "read_top", "complete_tolerance"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"memory {name} must lie in [0, 1]; got {getattr(self, name)}.")
        if not 0 < self.temperature < math.inf:
            raise InputError(f"memory temperature must be above 0 and finite; got {self.temperature}.")
        if self.ratio_kernel < 1 or self.ratio_kernel % 2 == 0:
            raise InputError(f"memory ratio_kernel must be odd and at least 1; got {self.ratio_kernel}.")
        for name, known in (
            ("similarity", SIMILARITIES),
            ("update", get_args(Update)),
            ("length", get_args(Length)),
            ("route", get_args(Route)),
            ("written", get_args(Written)),
            ("blend", get_args(Blend)),
            ("ratio", get_args(RatioSource)),
            ("initial", get_args(Initial)),
            ("kind", get_args(Kind)),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"memory {name} must be one of {', '.join(known)}; got {getattr(self, name)!r}.")

    @classmethod
    def as_printed(cls, **changes: object) -> MemoryConfig:
        """Equations 1-4 to the letter. They grow without bound; see docs/experiments.md.

        Example:
            >>> MemoryConfig.as_printed().similarity
            'dot'
        """
        printed: dict[str, object] = {
            "similarity": "dot",
            "temperature": 1.0,
            "update": "paper",
            "blend": "paper",
            "initial": "random",
            "write_top": 1.0,
        }
        return cls(**{**printed, **changes})  # type: ignore[arg-type]


def kept(share: float, contexts: int) -> int:
    """How many of K contexts a share keeps: at least one.

    Example:
        >>> kept(1.0, 40), kept(0.5, 40), kept(0.0, 40)
        (40, 20, 1)
    """
    return max(1, round(share * contexts))


def blank(config: MemoryConfig, channels: int) -> MemoryState:
    """The state before anything was learned: zeros, or small random vectors."""
    shape = (config.sets, config.contexts, channels)
    if config.initial == "random":
        contexts = torch.randn(shape) / channels**0.5
        return MemoryState(contexts.mean(1), contexts, torch.ones(shape[:2]))
    # Without a mean: on the meta device torch would import its compiler for it, which takes a second.
    return MemoryState(torch.zeros(config.sets, channels), torch.zeros(shape), torch.ones(shape[:2]))
