"""The cross-image context memory as a module: buffers, the ratio head, and the verbs read, pending, commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from cicm.conventions import InputError, describe
from cicm.memory import losses, rules, seeding
from cicm.memory.query import QueryHead, route_error
from cicm.memory.source import ContextSource
from cicm.memory.state import Complete, Kind, Map, MemoryConfig, MemoryRead, MemoryState, Ratio, blank
from cicm.ops import as_map, as_regions


class ContextMemory(ContextSource):
    """Cross-image context memory for one site of a network (section 4 of the paper).

    Seed it once from features of several images. Then a forward reads and changes nothing; a training step asks for the
    `pending` state, takes its losses from it, and stores it once with `commit`. Works on any (B, C, h, w) map; only C
    and the configuration fix its size.

    Args:
        channels: C of the site.
        config: see `MemoryConfig`.

    Until it is seeded the memory is the exact identity, and `commit` refuses.

    Example:
        >>> memory = ContextMemory(4, MemoryConfig(sets=2, contexts=3))
        >>> features = torch.rand(8, 4, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> torch.equal(memory.read(features).features, features)
        True
        >>> memory.seed_(features, torch.Generator().manual_seed(0))      # once, from features of several images
        >>> read = memory.read(features)                                  # in every forward
        >>> torch.equal(read.features, features), read.weights.shape
        (False, torch.Size([32, 3]))
        >>> complete = torch.ones(32, dtype=torch.bool)                   # no cell has a missing pixel
        >>> state = memory.pending([read], [complete])                    # in every step: take Eq. 8 from it
        >>> inter, intra = memory.losses(state)
        >>> memory.commit(state)                                          # once per optimizer step
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("memory",)
    has_sets = True
    writes = True

    anchors: Tensor
    contexts: Tensor
    mass: Tensor

    def __init__(self, channels: int, config: MemoryConfig | None = None) -> None:
        super().__init__(channels, config)
        if self.config.initial == "data":
            self.filled.fill_(0.0)
        self.query_head = QueryHead(channels) if self.config.route == "query" else None

    def _hold(self) -> None:
        state = blank(self.config, self.channels)
        for name, tensor in zip(("anchors", "contexts", "mass"), (*state[:2], state.weight()), strict=True):
            self.register_buffer(name, tensor)

    # What it holds ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> MemoryState:
        """The stored state; its tensors are the memory's own."""
        return MemoryState(self.anchors, self.contexts, self.mass)

    @torch.no_grad()
    def seed_(self, regions: Float[Tensor, "N C"] | Float[Tensor, "B C h w"], generator: torch.Generator) -> None:
        """Fill the memory from complete regions of several images.

        Args:
            regions: (N, C), a few times L * K of them; or whole maps (B, C, h, w) of images without holes.
            generator: on the CPU; the same one gives the same memory, on every rank.

        Raises:
            InputError: no region, another number of channels, or values that are not finite.
        """
        if regions.ndim == 4:
            regions = as_regions(regions)
        self._check(regions)
        regions, _ = self._entering(regions.float())
        shape = self.config.sets, self.config.contexts
        self._store(seeding.from_regions(regions, *shape, generator, self.config.similarity))
        self.filled.fill_(1.0)

    @torch.no_grad()
    def reseed_(self, regions: Float[Tensor, "N C"], generator: torch.Generator) -> int:
        """Give sets and contexts that starve new content from complete regions; returns how many contexts changed."""
        if not self.writes:
            return 0
        self._check(regions)
        if not torch.isfinite(regions).all():
            raise InputError("a memory must be reseeded from finite features; got NaN or infinity. Check the network.")
        regions, _ = self._entering(regions.float())
        state, sets, contexts = seeding.reseeded(self.state, regions, generator, self.config.similarity)
        self._store(state)
        return sets * self.config.contexts + contexts

    # Read, pending, commit --------------------------------------------------------------------------------------------

    def read(
        self,
        features: Map,
        ratio: Ratio | None = None,
        complete: Complete | None = None,
        *,
        query: Map | None = None,
        prior: Float[Tensor, "N L"] | None = None,
    ) -> MemoryRead:
        """Find each region's context and blend it in (Eq. 1 and 4); see `ContextSource.read`.

        Args:
            query: (B, C, h, w), looked up in place of the features, and of what a query head would make of them; for
                studies of what another route would be worth.
            prior: (N, L), added to the similarities with the anchors; see `cicm.memory.tags`.
        """
        self._check_map(features)
        # float32: half precision flips the argmax of close anchors and flattens the softmax
        with torch.autocast(features.device.type, enabled=False):
            wide = features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
            plain = as_regions(wide)
            regions, length = self._entering(plain)
            state, look = self._frame(regions.dtype)
            asked, trust = None, None
            if query is not None:
                asked = self._entering(as_regions(query.to(wide.dtype)))[0]
            elif self.query_head is not None:
                asked, trust = self.query_head(wide.to(self.query_head.query.weight.dtype))
                asked = self._entering(as_regions(asked).to(regions.dtype))[0]
            looked = regions if asked is None else asked
            sets = rules.route(looked, state.anchors, prior=prior, **look)
            context, weights = rules.read_fast(
                looked, sets, state.contexts, temperature=self.config.temperature, top=self.config.read_top, **look
            )
            context = context if length is None else context * length
            share = self._ratio(wide, ratio)
            used = share if trust is None else share * trust.reshape(-1).to(share.dtype)
            blended = rules.augment(plain, context, used, blend=self.config.blend)
            # An empty memory has nothing to offer: `filled` is 0 or 1, and no branch, so that graphs stay whole.
            blended = torch.where(self.filled > 0, blended, plain)
        return MemoryRead(as_map(blended, features).to(features.dtype), regions, sets, weights, context, share, asked)

    def route_error(
        self, read: MemoryRead, target: Float[Tensor, "N C"]
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """Cross entropies, in nats, of a read's choice of set and context against an undamaged photo's feature.

        Args:
            target: (N, C), that photo's features in the rows of the read, at any length.
        """
        with torch.autocast(target.device.type, enabled=False):
            state, look = self._frame(read.regions.dtype)
            asked = read.regions if read.query is None else read.query
            told, _ = self._entering(target.to(asked.dtype))
            sets, contexts, _ = route_error(asked, told, state, temperature=self.config.temperature, **look)
        return sets, contexts

    def placed(self, read: MemoryRead, prior: Float[Tensor, "N L"]) -> MemoryRead:
        """A read whose regions are to be written elsewhere: to the sets that another prior gives them."""
        with torch.autocast(read.regions.device.type, enabled=False):
            state, look = self._frame(read.regions.dtype)
            sets = rules.route(read.regions, state.anchors, prior=prior, **look)
            _, weights = rules.read_fast(
                read.regions, sets, state.contexts, temperature=self.config.temperature, **look
            )
        return read._replace(sets=sets, weights=weights, query=None)

    def pending(
        self, reads: Sequence[MemoryRead], complete: Sequence[Tensor], reduce: rules.Reduce = rules.alone
    ) -> MemoryState:
        """What this step would store: Eq. 2 and 3, still in the graph of the features; stores nothing.

        Args:
            reads: of one batch; of several micro-batches under gradient accumulation; of a recurrent network the last
                visit alone.
            complete: (N,) bool for each read, regions that no missing pixel touches (`cicm.ops.complete_cells`).
            reduce: a sum over ranks that autograd knows about.

        Returns:
            the state to take Eq. 8 from, and to `commit`. Equal to the stored one if no region is complete.

        Raises:
            InputError: `complete` does not fit the reads.
        """
        if len(reads) != len(complete):
            raise InputError(f"each read needs its complete regions; got {len(reads)} and {len(complete)}.")
        for read, known in zip(reads, complete, strict=True):
            if known.dtype != torch.bool or known.shape != read.sets.shape:
                raise InputError(
                    f"complete must be (N,) bool with one value for each region of its read, here "
                    f"({len(read.sets)},); got {describe(known)}. Make it with cicm.ops.complete_cells(missing share)."
                )
        if not self.writes or not reads:
            return self.state
        regions = torch.cat([r.regions for r in reads])
        with torch.autocast(regions.device.type, enabled=False):
            sets, weights = torch.cat([r.sets for r in reads]), torch.cat([r.weights for r in reads])
            if any(r.query is not None for r in reads):  # a region is kept where it belongs, not where a query went
                state, look = self._frame(regions.dtype)
                sets = rules.route(regions, state.anchors, **look)
                _, weights = rules.read_fast(regions, sets, state.contexts, temperature=self.config.temperature, **look)
            given = rules.keep_top(weights, self.config.write_top)
            return rules.inject_fast(
                MemoryState(*(t.to(regions.dtype) for t in self.state.detached())),  # type: ignore[union-attr]
                regions,
                sets,
                given,
                torch.cat(list(complete)),
                self.config.momentum,
                reduce,
                update=self.config.update,
                retention=self.config.retention,
            )

    @torch.no_grad()
    def commit(self, state: MemoryState) -> None:
        """Store what was pending: once per optimizer step.

        Raises:
            InputError: the memory is empty, so that it would go on giving back what it reads.
        """
        if not self.seeded:
            raise InputError(
                "this memory is empty, so that it gives back the features it reads. Fill it once, before "
                "training: memory.seed_(features, generator), with features (B, C, h, w) of several images without "
                "holes, and a torch.Generator."
            )
        self._store(state)

    # Eq. 8 and a look inside ------------------------------------------------------------------------------------------

    def losses(self, state: MemoryState, *, printed: bool = False) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Inter-set and intra-set similarity of a (pending) state (Eq. 8), in this memory's own similarity."""
        center = state.center()  # in the graph: the features move it too
        look = {"kind": self.config.similarity, "center": center, "printed": printed}
        with torch.autocast(state.anchors.device.type, enabled=False):  # two digits are not enough for a weight of 20
            return losses.inter_set(state.anchors, **look), losses.intra_set(state, **look)  # type: ignore[arg-type]

    @torch.no_grad()
    def report(self) -> dict[str, float]:
        """Plain numbers about the memory, for a log: usage, starvation, norms, similarity within and between sets.

        Returns:
            `seeded` (0 or 1), and nothing else while it is 0; `sets_used` and `contexts_used` (not starving),
            `largest_set` (share of all mass), `norm`, `within` (mean similarity of different contexts of one set),
            `between` (of different anchors).
        """
        if not self.seeded:
            return {"seeded": 0.0}
        state = self.state
        dead, weak = seeding.starved(state)
        per_set = state.weight().sum(1)
        center = state.center()
        unit = rules.compared(state.contexts, self.config.similarity, center)
        count = self.config.contexts
        pairs = unit @ unit.transpose(-1, -2)
        off = pairs.sum((-1, -2)) - pairs.diagonal(dim1=-2, dim2=-1).sum(-1)
        within = (off / max(1, count * (count - 1))).mean() if count > 1 else torch.tensor(1.0)
        used = (~weak & ~dead[:, None]).sum()
        return {
            "seeded": 1.0,
            "sets_used": float((~dead).sum()),
            "contexts_used": float(used),
            "largest_set": float(per_set.max() / per_set.sum().clamp_min(1e-12)),
            "norm": float(state.contexts.norm(dim=-1).mean()),
            "within": float(within),
            "between": float(losses.inter_set(state.anchors, kind=self.config.similarity, center=center)),
        }

    def _entering(self, regions: Tensor) -> tuple[Tensor, Tensor | None]:
        """Regions (N, C) as the memory holds them, and (N, 1) by what a read is multiplied; None where nothing is."""
        if self.config.length == "free":
            return regions, None
        length = regions.norm(dim=-1, keepdim=True).clamp_min(1e-6) / self.channels**0.5
        return regions / length, length

    def _frame(self, dtype: torch.dtype) -> tuple[MemoryState, dict]:
        """The state to read from, in the regions' dtype, and the arguments that say how to compare with it."""
        state = self._readable()
        state = MemoryState(*(t.to(dtype) for t in state))  # type: ignore[union-attr]
        center = state.center().detach() if self.config.similarity == "centred" else None
        return state, {"kind": self.config.similarity, "center": center}

    def _readable(self) -> MemoryState:
        """The stored state as a read sees it; a memory has no gradient."""
        return self.state.detached()

    def _check(self, regions: Tensor) -> None:
        if regions.ndim != 2 or regions.shape[1] != self.channels:
            raise InputError(f"regions must be (N, {self.channels}); got {tuple(regions.shape)}.")

    def _store(self, state: MemoryState) -> None:
        self.anchors.copy_(state.anchors)
        self.contexts.copy_(state.contexts)
        self.mass.copy_(state.weight())
