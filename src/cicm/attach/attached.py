"""A network with memories behind some of its modules; the network knows nothing of them.

The memory sits in a forward hook. The network's own parameter names, attributes and code stay as they are, and
`torch.compile` sees one graph; a wrapper in the module's place would rename every parameter below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from cicm.attach.foreign import Place, check_known, module_at
from cicm.attach.recording import Forward, Reader, Tape, key_of
from cicm.conventions import InputError, check_hole, describe
from cicm.memory import ContextMemory, ContextSource, MemoryRead
from cicm.memory.rules import Reduce, alone
from cicm.memory.seeding import MOST_REGIONS, generator_for, thinned
from cicm.memory.terms import ratio_term, similarity_terms
from cicm.objectives import ObjectiveConfig, Weights, weighted_total
from cicm.ops import complete_cells, missing_share

SEED_FROM = 4
"""A memory fills itself once it has seen so many complete regions for each of its contexts."""
MOST_FORWARDS = 256
"""So many forwards may wait for a commit; more is a commit that was forgotten, and memory that runs out later."""


class Attached(nn.Module):
    """A network of any kind with memories behind some of its modules; made by `attach`.

    In training mode a forward with a hole is recorded; `losses` and `commit` work on what was recorded since the last
    commit. Without a hole, and in evaluation mode, a forward reads the memories and leaves no trace. The mode is this
    module's own (`attached.train()`, `attached.eval()`; it begins as the network's), so that a frozen network may stay
    in evaluation mode while its memories fill.

    Args:
        memories: module path -> memory.
        take, seed_after, seed, reduce: as in `attach`.

    A copy (`copy.deepcopy`, averaged models) has its own network, hooks and memories, and nothing recorded.
    `state_dict` holds the network's tensors under `network.` and the memories' under `memories.`, with `/` for the
    dots of a path.

    Raises:
        InputError: an unknown path, or one that has a memory already.
    """

    def __init__(
        self,
        network: nn.Module,
        memories: Mapping[str, ContextSource],
        *,
        take: Mapping[str, Place] | None = None,
        seed_after: int | None = 0,
        seed: int = 0,
        reduce: Reduce = alone,
    ) -> None:
        super().__init__()
        for path, memory in memories.items():
            if memory.config.written != "complete":
                raise InputError(
                    f"the memory at {path!r} must have written = 'complete'; got {memory.config.written!r}. "
                    "Attached networks see no whole photo."
                )
        modules = {path: module_at(network, path) for path in memories}
        for path, module in modules.items():
            if any(isinstance(hook, Reader) and hook.path == path for hook in module._forward_hooks.values()):
                raise InputError(f"the module {path!r} has a memory already; detach() what was attached there first.")
        self.network = network
        self.memories = nn.ModuleDict({key_of(path): memory for path, memory in memories.items()})
        self.paths = tuple(memories)
        self.training = network.training
        self.memories.train(network.training)
        self._tape = Tape()
        self._seed_after, self._seed, self._reduce = seed_after, seed, reduce
        self._commits = 0
        self._gathered: dict[str, list[Tensor]] = {}
        for path, module in modules.items():
            module.register_forward_hook(Reader(path, self.memories, self._tape, (take or {}).get(path)))

    # Forwards ---------------------------------------------------------------------------------------------------------

    def forward(self, *args: Any, hole: Tensor | None = None, **kwargs: Any) -> Any:
        """The network's own forward, with the memories read on the way.

        Args:
            hole: (B, 1, H, W), 1 = missing, in pixels or at any other size that covers the same area; needed for what
                is trained and stored. Without it, inside `with attached.holes(hole)`, that one counts.
        """
        if hole is None:
            return self.network(*args, **kwargs)
        before = self._begin(hole)
        try:
            output = self.network(*args, **kwargs)
        except BaseException:
            self._tape.now = before
            raise
        self._end(before)
        return output

    @contextmanager
    def holes(self, hole: Tensor) -> Iterator[None]:
        """For networks that someone else calls: the hole of all forwards inside, which count as one forward.

        Args:
            hole: (B, 1, H, W), as in `forward`.
        """
        before = self._begin(hole)
        try:
            yield
        except BaseException:
            self._tape.now = before
            raise
        self._end(before)

    def _begin(self, hole: Tensor) -> Forward | None:
        if not isinstance(hole, Tensor) or hole.ndim != 4 or hole.shape[1] != 1:
            got = describe(hole) if isinstance(hole, Tensor) else type(hole).__name__
            raise InputError(f"hole must be (B, 1, H, W) with values 0 or 1 (1 = missing); got {got}.")
        tape = self._tape
        if not torch.compiler.is_compiling() and len(tape.forwards()) >= MOST_FORWARDS:
            raise InputError(
                f"{MOST_FORWARDS} forwards wait for a commit. Call attached.commit() after each optimizer step, "
                "attached.discard() where a step is skipped, attached.eval() for validation."
            )
        before = tape.now
        wide = hole if hole.dtype in (torch.float32, torch.float64) else hole.float()
        tape.now = Forward(wide, self.training or tape.gathering)
        return before

    def _end(self, before: Forward | None) -> None:
        tape = self._tape
        mine, tape.now = tape.now, before
        if mine is not None and mine.recorded:
            mine.earlier = tape.last
            tape.last = mine

    # Terms and the one write of a step --------------------------------------------------------------------------------

    def terms(self, objective: ObjectiveConfig | Weights | None = None) -> dict[str, Tensor]:
        """The terms before weighting: `ratio` (Eq. 7) of the forwards since the last `losses`; and, once a memory is
        seeded, `inter` and `intra` (Eq. 8) of what the commit would store.

        Raises:
            InputError: nothing was recorded since the last `losses`, a site was not run, or a hole with other values
                than 0 and 1.
        """
        return self._terms(_objective(objective))

    def losses(self, objective: ObjectiveConfig | Weights | None = None) -> Tensor:
        """What the memories add to the loss: the weighted sum of `terms` (Eq. 9); to be added to the task's own.

        Call it once per backward pass. Under gradient accumulation Eq. 8 looks at all forwards since the last commit,
        with a gradient through those since the last call.

        Args:
            objective: its `weights`, `ratio_reduction` and `printed_similarities` are used; or the weights alone. The
                defaults are the paper's weights.

        Raises:
            InputError: as `terms`; or a ratio that has no gradient although its weight is not 0.
        """
        objective = _objective(objective)
        if objective.weights.ratio != 0 and torch.is_grad_enabled():
            self._check_gradient()
        total = weighted_total(self._terms(objective), objective.weights)
        for forward in self._tape.forwards():
            forward.take_out_of_graph()
        return total

    def commit(self, *, reseed: bool = False) -> int:
        """Store what was recorded since the last commit; call it once per optimizer step. Nothing recorded: no change.

        Args:
            reseed: give starved sets and contexts new content from the complete regions of this step, as the package's
                own training does every 100 steps.

        Returns:
            how many contexts got new content by `reseed`.
        """
        forwards, changed = self._tape.forwards(), 0
        if not forwards:
            return 0
        with torch.no_grad():
            for place, (path, memory) in enumerate(self._named()):
                reads, complete = self._written(path, forwards)
                if not reads:
                    continue
                regions = torch.cat([r.regions[c] for r, c in zip(reads, complete, strict=True)]).detach()
                if not isinstance(memory, ContextMemory) or not memory.writes:
                    continue
                if not memory.seeded:
                    self._gather(path, place, memory, regions)
                    continue
                memory.commit(memory.pending([r.detached() for r in reads], complete, self._reduce))
                if reseed:
                    changed += memory.reseed_(regions, generator_for(self._seed, self._commits, place))
        self._commits += 1
        self.discard()
        return changed

    def discard(self) -> None:
        """Forget what was recorded since the last commit, where an optimizer step is skipped."""
        self._tape.last = None

    @torch.no_grad()
    def seed_(self, batches: Iterable[Any], call: Callable[[Any], Any] | None = None) -> None:
        """Fill all memories anew from the complete regions of some batches, at once; forgets what was recorded.

        Args:
            batches: a list or a loader; as many are used as it takes to give every memory `MOST_REGIONS` regions. The
                network runs in the mode that it is in.
            call: how to run a batch, with its hole: `lambda b: attached(b["x"], hole=b["hole"])`. Without it each
                batch is a mapping of keywords for `attached(...)`.

        Raises:
            InputError: a batch that is not a mapping without `call`, or no complete region.
        """
        found: dict[str, list[Tensor]] = {path: [] for path in self.paths}
        self.discard()
        self._tape.gathering = True
        try:
            for batch in batches:
                if call is not None:
                    call(batch)
                elif isinstance(batch, Mapping):
                    self(**batch)
                else:
                    raise InputError(f"seed_ needs call=... for batches of type {type(batch).__name__}; see its help.")
                forwards = self._tape.forwards()
                self.discard()
                for path in self.paths:
                    reads, complete = self._written(path, forwards)
                    found[path] += [r.regions[c] for r, c in zip(reads, complete, strict=True)]
                if all(sum(map(len, regions)) >= MOST_REGIONS for regions in found.values()):
                    break
        finally:
            self._tape.gathering = False
            self.discard()
        for place, (path, memory) in enumerate(self._named()):
            if not found[path]:
                raise InputError(f"no forward with a hole reached {path!r} while seeding; see attached.seed_'s help.")
            if isinstance(memory, ContextMemory):
                regions = thinned(torch.cat(found[path]))
                memory.seed_(regions, generator_for(self._seed, self._commits, place))
        self._gathered.clear()

    # What it holds ----------------------------------------------------------------------------------------------------

    def memory(self, path: str) -> ContextSource:
        """The memory behind the module of that path."""
        check_known(path, list(self.paths), "there is no memory at")
        return cast(ContextSource, self.memories[key_of(path)])

    def report(self) -> dict[str, dict[str, float]]:
        """Path -> plain numbers about the memory there, for a log."""
        return {path: memory.report() for path, memory in self._named()}

    def detach(self) -> nn.Module:
        """Take every memory out of the network; gives the network back, which is as it was before `attach`."""
        for path in self.paths:
            hooks = self.network.get_submodule(path)._forward_hooks
            for handle in [h for h, hook in hooks.items() if isinstance(hook, Reader) and hook.tape is self._tape]:
                del hooks[handle]
        self.discard()
        return self.network

    def extra_repr(self) -> str:
        return f"memories behind {', '.join(self.paths)}"

    def _named(self) -> list[tuple[str, ContextSource]]:
        return [(path, cast(ContextSource, self.memories[key_of(path)])) for path in self.paths]

    # Behind the verbs -------------------------------------------------------------------------------------------------

    def _terms(self, objective: ObjectiveConfig) -> dict[str, Tensor]:
        if objective.weights.route != 0:
            raise InputError("attached memories have no teacher; use a weight of 0 for `route`.")
        if objective.ratio_target != "share":
            raise InputError("attached memories know the hole alone; use ratio_target = 'share'.")
        forwards = self._tape.forwards()
        live = [f for f in forwards if not f.taken]
        for forward in live:
            check_hole(forward.hole)
        if not live:
            raise InputError(
                "no forward to take the losses from: expected attached(..., hole=hole) in training mode since the last "
                "losses() or commit(). For numbers to log besides, call attached.terms() before losses()."
            )
        for path in self.paths:
            if not any(path in f.reads for f in forwards):
                raise InputError(
                    f"the module {path!r} was not run, so that its memory was not read. Choose a module that the "
                    "forward calls as module(...), not as module.forward(...)."
                )
        ratios = []
        for forward in live:
            ratio = ratio_term(forward.reads, forward.target, objective.ratio_reduction)
            ratios += [] if ratio is None else [ratio]
        scale = len(ratios) if objective.ratio_reduction == "sum" else 1
        terms = {"ratio": torch.stack(ratios).mean() * scale}
        reads, complete = {}, {}
        for path in self.paths:
            reads[path], complete[path] = self._written(path, forwards)
        shared, _ = similarity_terms(
            dict(self._named()), reads, complete, self._reduce, printed=objective.printed_similarities
        )
        return terms | shared

    def _written(self, path: str, forwards: Sequence[Forward]) -> tuple[list[MemoryRead], list[Tensor]]:
        """The last visit of each forward at a site, and which of its regions are complete."""
        reads = [f.reads[path][-1] for f in forwards if path in f.reads]
        tolerance = self.memory(path).config.complete_tolerance
        holes = [f.hole.to(f.reads[path][-1].regions.device) for f in forwards if path in f.reads]
        complete = [
            complete_cells(missing_share(hole, tuple(read.features.shape[-2:])), tolerance)  # type: ignore[arg-type]
            for hole, read in zip(holes, reads, strict=True)
        ]
        return reads, complete

    def _gather(self, path: str, place: int, memory: ContextMemory, regions: Tensor) -> None:
        """A memory that is still empty keeps what it sees, and fills itself when that is enough."""
        if self._seed_after is None or self._commits < self._seed_after:
            return
        kept = self._gathered.setdefault(path, [])
        kept.append(regions)
        enough = min(SEED_FROM * memory.config.sets * memory.config.contexts, MOST_REGIONS)
        if sum(map(len, kept)) >= enough:
            memory.seed_(thinned(torch.cat(kept)), generator_for(self._seed, self._commits, place))
            del self._gathered[path]

    def _check_gradient(self) -> None:
        for forward in self._tape.forwards():
            for path, visits in {} if forward.taken else forward.reads.items():
                memory = self.memory(path)
                learns = memory.config.ratio == "estimated" and memory.ratio_head.weight.requires_grad
                if learns and not visits[-1].ratio.requires_grad:
                    raise InputError(
                        f"the ratio at {path!r} was read without gradient (under no_grad, or by checkpoint with "
                        "use_reentrant=True). Use use_reentrant=False, or give the ratio the weight 0."
                    )


def _objective(given: ObjectiveConfig | Weights | None) -> ObjectiveConfig:
    if given is None:
        return ObjectiveConfig()
    return ObjectiveConfig(weights=given) if isinstance(given, Weights) else given
