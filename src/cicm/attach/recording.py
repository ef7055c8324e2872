"""What an attached network's forwards leave behind, and the hook that writes it."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from cicm.attach.foreign import Place, map_in, put
from cicm.conventions import InputError, describe
from cicm.memory import ContextSource, MemoryRead
from cicm.memory.visit import look_up, needs_hole
from cicm.ops import missing_share


def key_of(path: str) -> str:
    """The name of a path's memory in a `ModuleDict`, which takes no dots."""
    return path.replace(".", "/")


class Forward:
    """One recorded call: its hole and, for each site, what its visits read.

    Forwards are chained backwards and not in a list: a compiled forward is compiled anew for each length of a list.
    """

    def __init__(self, hole: Tensor, recorded: bool) -> None:
        self.hole, self.recorded = hole, recorded
        self.reads: dict[str, list[MemoryRead]] = {}
        self.taken = False
        self.earlier: Forward | None = None

    def target(self, site: str, visit: int, size: tuple[int, int]) -> Tensor:
        """(N,), the missing share of each cell of a map of that size: the target of Eq. 7, the same at each visit."""
        return missing_share(self.hole, size).reshape(-1)

    def take_out_of_graph(self) -> None:
        """Keeps what a commit needs, and lets the graph go."""
        self.reads = {path: [visits[-1].detached()] for path, visits in self.reads.items()}
        self.taken = True


class Tape:
    """What was recorded since the last commit. A copy or a pickle of it is blank."""

    def __init__(self) -> None:
        self.now: Forward | None = None
        self.last: Forward | None = None
        self.gathering = False

    def __reduce__(self) -> tuple:
        return Tape, ()

    def forwards(self) -> list[Forward]:
        """In the order in which they were run."""
        found, forward = [], self.last
        while forward is not None:
            found.append(forward)
            forward = forward.earlier
        return found[::-1]


class Reader:
    """The hook: reads a memory with a module's output. An object and no closure, so that a copy gets its own."""

    def __init__(self, path: str, memories: nn.ModuleDict, tape: Tape, take: Place | None) -> None:
        self.path, self.memories, self.tape, self.take = path, memories, tape, take

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        memory = cast(ContextSource, self.memories[key_of(self.path)])
        place, features = map_in(output, self.take, self.path)
        if features.shape[1] != memory.channels:
            raise InputError(
                f"the memory at {self.path!r} is for {memory.channels} channels; the module gave {describe(features)}. "
                f"Build it with attach(..., channels={{{self.path!r}: {features.shape[1]}}})."
            )
        # In a backward pass a forward is a recomputation: it must do the same again, and be recorded no second time.
        again = not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1
        forward = self.tape.now
        recorded = forward is not None and forward.recorded and not again
        hole = None
        if recorded or needs_hole(memory):
            hole = self._hole(memory, again)
            if hole is not None and hole.shape[0] != features.shape[0]:
                raise InputError(
                    f"hole and map must agree in batch; got hole {describe(hole)} and, at {self.path!r}, "
                    f"{describe(features)}. Repeat the hole as often as the pictures."
                )
        read = look_up(memory, features, None if hole is None else hole.to(features.device))
        if recorded:
            assert forward is not None
            forward.reads.setdefault(self.path, []).append(read)
        found = read.features
        if found.stride() != features.stride():  # another layout would send what follows down another path
            found = torch.empty_like(features).copy_(found)
        return put(output, place, found)

    def _hole(self, memory: ContextSource, again: bool) -> Tensor | None:
        if self.tape.now is not None:
            return self.tape.now.hole
        if needs_hole(memory) and again:
            waiting = self.tape.forwards()
            if len(waiting) == 1:
                return waiting[0].hole
            raise InputError(
                f"the module at {self.path!r} is recomputed for the gradient, and its memory reads the hole; with "
                f"{len(waiting)} forwards recorded it cannot be told whose. Commit after each, or do not checkpoint it."
            )
        raise InputError(
            f"the memory at {self.path!r} reads the hole (ratio = {memory.config.ratio!r}, kind = "
            f"{memory.config.kind!r}). Call attached(..., hole=hole), or go through `with attached.holes(hole)`."
        )
