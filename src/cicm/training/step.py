"""One optimizer step: terms, gradients, and the single commit of the memories.

Micro-batches give the whole batch's step. A term that looks at the batch as a whole (the memory's pending state of
Eq. 8, the expectations of Eq. 6) is evaluated once per micro-batch, each time over all of them, with every part but its
own held constant: the partial gradients add up to the whole one. That takes a first pass without gradients, in which
each micro-batch's part is computed; it is only made when there are micro-batches and such a term has a weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cicm.assembly import Inpainting, MemoryInpainter
from cicm.conventions import InputError
from cicm.memory import MemoryRead, MemoryState, pixel_ratio
from cicm.memory.terms import ratio_term, route_term, similarity_terms
from cicm.objectives import ADVERSARIES, Features, Judge, ObjectiveConfig, Seen, reconstruction, weighted_total
from cicm.ops import complete_cells, label_planes, missing_share
from cicm.training.alternating import constant_judge, discriminator_step
from cicm.training.distributed import mean_over_ranks, sum_over_ranks, world_size

Batch = Mapping[str, Tensor]
"""`image` (B, 3, H, W) in [0, 1], `hole` (B, 1, H, W), 1 = missing, and with label maps `label` (B, H, W) uint8."""


class TrainingStopped(RuntimeError):
    """A number stopped being one; the message names the term and the step. The weights are those before the step."""


@dataclass
class Players:
    """What a step changes.

    Args:
        model: as the engine wrapped it (data-parallel, precision); called for every forward.
        discriminator, discriminator_optimizer, bare_discriminator: likewise; None without an adversarial term. LaMa's
            is wrapped with its loss, see `training.alternating.Referee`.
        teacher: the averaged weights, whose look at whole photos tells learned routes what to choose; None for `bare`.
    """

    model: Any
    optimizer: Any
    bare: MemoryInpainter
    discriminator: Any = None
    discriminator_optimizer: Any = None
    bare_discriminator: nn.Module | None = None
    teacher: MemoryInpainter | None = None


class Stepped(NamedTuple):
    """What a step did.

    Args:
        numbers: the terms before weighting, `loss` (their weighted total), `gradient` (its norm before clipping) and,
            with one, the `discriminator`'s loss; means over the ranks.
    """

    numbers: dict[str, float]
    parts: list[Part]


class Part(NamedTuple):
    """What a micro-batch gives to the terms that look at the whole batch.

    Args:
        complete: site -> (N,), which of its regions no missing pixel touches.
        result: (B, 3, H, W), what the discriminator sees; with planes of labels behind it where it sees those.
        classes: site -> (N,), the class of each region, where labels say to which sets it is written.
    """

    reads: dict[str, MemoryRead]
    complete: dict[str, Tensor]
    result: Tensor
    classes: dict[str, Tensor] = {}

    def detached(self) -> Part:
        reads = {site: read.detached() for site, read in self.reads.items()}
        return Part(reads, self.complete, self.result.detach(), self.classes)


def split(batch: Batch, count: int) -> list[Batch]:
    """A batch as `count` micro-batches of equal size.

    Example:
        >>> [len(part["hole"]) for part in split({"hole": torch.zeros(6, 1, 2, 2)}, 3)]
        [2, 2, 2]
    """
    pieces = {name: value.chunk(count) for name, value in batch.items()}
    assert all(len(p) == count and p[0].shape == p[-1].shape for p in pieces.values()), "the batch must divide evenly"
    return [{name: value[i] for name, value in pieces.items()} for i in range(count)]


def whole_pass(call: Any, bare: MemoryInpainter, batch: Batch, *, graph: bool = False) -> Inpainting | None:
    """A forward of the photos without their holes, where a memory is written from those; else None.

    Args:
        call: the model as the engine wrapped it, or `bare` itself.
        graph: keep the gradient, which Eq. 8 needs.
    """
    if not any(memory.config.written == "whole" for memory in bare.memories.values()):  # type: ignore[union-attr]
        return None
    with torch.set_grad_enabled(graph and torch.is_grad_enabled()), _unrecorded(bare):
        return forward(call, _unbroken(batch))


def route_targets(fabric: Any, players: Players, batch: Batch, objective: ObjectiveConfig) -> dict[str, Tensor]:
    """Site -> (N, C): what the teacher sees there in photos without holes; empty where no route is learned."""
    if objective.weights.route == 0:
        return {}
    teacher = players.teacher or players.bare
    with torch.no_grad(), fabric.autocast(), _unrecorded(teacher):
        reads = forward(teacher, _unbroken(batch)).reads
    return {site: visits[-1].regions for site, visits in reads.items()}


def part_of(
    output: Inpainting,
    batch: Batch,
    model: MemoryInpainter,
    judged: str = "composite",
    whole: Inpainting | None = None,
) -> Part:
    """What this forward gives to the terms of the whole batch.

    Args:
        judged: as in the objective.
        whole: of `whole_pass`.
    """
    reads, complete, classes = {}, {}, {}
    for site, visits in output.reads.items():
        reads[site] = visits[-1]  # a recurrent network reads at each visit and writes once, from the last
        hole = batch["hole"]
        if whole is not None and model.memories[site].config.written == "whole":  # type: ignore[union-attr]
            reads[site], hole = whole.reads[site][-1], torch.zeros_like(hole)
        share = missing_share(hole, tuple(visits[-1].features.shape[-2:]))  # type: ignore[arg-type]
        complete[site] = complete_cells(share, model.memories[site].config.complete_tolerance)  # type: ignore[union-attr, arg-type]
        if model.guide is not None and model.guide.tags is not None and site == model.guide.config.site:
            memory = model.memories[site]
            reads[site], classes[site], fits = model.guide.placed(reads[site], batch["label"], memory)  # type: ignore[arg-type]
            complete[site] = complete[site] & fits  # a cell of several classes belongs to no set
    result = output.composite if judged == "composite" else output.prediction.image
    if judged == "labelled":
        if "labels" not in output.maps or output.maps["labels"].shape[-2:] != result.shape[-2:]:
            raise InputError(
                "objective.judged = 'labelled' needs a network that predicts labels of the picture's size."
            )
        said = output.maps["labels"].softmax(1)
        true = _real(batch, said.shape[1])[:, 3:]
        result = torch.cat([result, said * true.sum(1, keepdim=True)], 1)  # void, where truth has none, tells nothing
    return Part(reads, complete, result, classes)


def complete_regions(parts: Sequence[Part], site: str) -> Tensor:
    """(N, C): the complete regions of a site, outside the graph, in the order of the batch."""
    return torch.cat([part.reads[site].regions[part.complete[site]] for part in parts]).detach()


def complete_classes(parts: Sequence[Part], site: str) -> Tensor | None:
    """(N,): the classes of `complete_regions`; None where no labels say where they are written."""
    if site not in parts[0].classes:
        return None
    return torch.cat([part.classes[site][part.complete[site]] for part in parts])


def own_terms(
    output: Inpainting,
    batch: Batch,
    objective: ObjectiveConfig,
    portions: int = 1,
    *,
    features: Mapping[str, Features] | None = None,
    share: Tensor | None = None,
    judge: Judge | None = None,
    routes: Mapping[str, Tensor] | None = None,
    memories: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Terms of which the whole batch's is the mean over its portions: `inpaint` (Eq. 5), with memories `ratio` (Eq. 7).

    And those of the published objectives.

    Args:
        portions: into how many equal parts the whole batch was cut, over ranks and micro-batches. The printed sum over
            regions is a sum over all of them, so that a portion's own counts so many times in the mean.
        features, share, judge: what the published objectives look at besides, see `Seen`.
        routes, memories: for `route`, what `route_targets` gives and the memories that were read.
    """
    image, hole = batch["image"], batch["hole"]
    look: dict[str, Any] = {"norm": objective.norm, "hole_weight": objective.hole_weight}
    terms = {"inpaint": reconstruction(output.prediction.image, image, hole, **look)}

    def target(site: str, visit: int, size: tuple[int, int]) -> Tensor:
        if objective.ratio_target == "share":
            left = output.missing[site][visit] if objective.ratio_visits == "current" else hole
            return missing_share(left, size).reshape(-1)
        return pixel_ratio(image * (1 - hole), image, size)

    ratio = ratio_term(output.reads, target, objective.ratio_reduction)
    if ratio is not None:
        terms["ratio"] = ratio * (portions if objective.ratio_reduction == "sum" else 1)
    if routes and memories:
        terms["route"] = route_term(memories, output.reads, routes, hole)
    if objective.sections:
        look = {"maps": output.maps, "label": batch.get("label"), "earlier": output.prediction.earlier}
        seen = Seen(output.prediction.image, output.composite, image, hole, features or {}, share, judge=judge, **look)
        for section in objective.sections:
            terms |= section.terms(seen)
    return terms


def _missing_in_batch(batch: Batch, objective: ObjectiveConfig) -> Tensor | None:
    """The missing share of the whole batch, over all ranks, where a term divides by it; None elsewhere."""
    if objective.pen is None and (objective.misf is None or objective.misf.share != "batch"):
        return None
    return mean_over_ranks(batch["hole"].mean())


def memory_terms(
    model: MemoryInpainter, parts: Sequence[Part], objective: ObjectiveConfig
) -> tuple[dict[str, Tensor], dict[str, MemoryState]]:
    """`inter` and `intra` (Eq. 8), means over the seeded memories, and the states that they were taken from."""
    reads = {site: [part.reads[site] for part in parts] for site in model.memories}
    complete = {site: [part.complete[site] for part in parts] for site in model.memories}
    return similarity_terms(
        dict(model.memories.items()),  # type: ignore[arg-type]
        reads,
        complete,
        sum_over_ranks,
        printed=objective.printed_similarities,
    )


def take_step(
    fabric: Any,
    players: Players,
    batch: Batch,
    objective: ObjectiveConfig,
    *,
    accumulate: int = 1,
    clip: float = 0.0,
    features: Mapping[str, Features] | None = None,
) -> Stepped:
    """One optimizer step on a batch; each memory is committed once.

    Args:
        clip: largest norm of the gradient; 0 clips nothing.
        features: for the terms that need a classifier's maps: its name -> the function that makes them.

    Raises:
        TrainingStopped: a term or the gradient is NaN or infinite; nothing was changed by this step, apart from the
            discriminator when it was the generator's terms.
    """
    batches = split(batch, accumulate)
    weights, model = objective.weights, players.bare
    alternating = objective.judged_by_maps
    adversarial = players.discriminator is not None and not alternating
    look: dict[str, Any] = {"features": features, "share": _missing_in_batch(batch, objective)}
    if alternating:
        look["judge"] = constant_judge(fabric, players.bare_discriminator)
    whole = adversarial or (bool(model.memories) and (weights.inter != 0 or weights.intra != 0))

    def unbroken(piece: Batch) -> Inpainting | None:
        return whole_pass(players.model, model, piece, graph=weights.inter != 0 or weights.intra != 0)

    # What every micro-batch gives to the terms of the whole batch; with a single one its only forward tells.
    first: Inpainting | None = None
    parts: list[Part] = []
    if accumulate == 1:
        first = forward(players.model, batches[0])
        parts = [part_of(first, batches[0], model, objective.judged, unbroken(batches[0]))]
    elif whole:
        with torch.no_grad(), _unrecorded(model):
            parts = [
                part_of(forward(players.model, b), b, model, objective.judged, unbroken(b)).detached() for b in batches
            ]

    logged: dict[str, Tensor] = {}
    if adversarial:
        fakes = [part.result.detach() for part in parts]
        logged["discriminator"] = _discriminator_step(fabric, players, batches, fakes, objective)
        frozen = _frozen_logits(fabric, players, batches, [] if accumulate == 1 else fakes)

    # The generator's gradient, micro-batch by micro-batch.
    players.optimizer.zero_grad(set_to_none=True)
    states: dict[str, MemoryState] = {}
    for index, piece in enumerate(batches):
        last = index == accumulate - 1
        with nullcontext() if last else fabric.no_backward_sync(players.model):
            output = first if first is not None else forward(players.model, piece)
            mine = parts[0] if first is not None else part_of(output, piece, model, objective.judged, unbroken(piece))
            routes = route_targets(fabric, players, piece, objective)
            asked = dict(model.memories.items())
            portions = accumulate * world_size()
            own = own_terms(output, piece, objective, portions, **look, routes=routes, memories=asked)
            shared: dict[str, Tensor] = {}
            if adversarial:
                shared["adversarial"] = _adversarial(fabric, players, batches, frozen, mine.result, index, objective)
            if whole:
                others = [mine if i == index else parts[i] for i in range(accumulate)]
                terms, states = memory_terms(model, others, objective)
                shared |= terms
            else:
                parts.append(mine.detached()) if first is None else None
            total = weighted_total({k: v / accumulate for k, v in own.items()} | shared, weights, objective.published)
            # Before the gradient, so that what is wrong is named by its term rather than by every weight at once.
            for name, value in own.items():
                logged[name] = logged.get(name, 0) + value.detach() / accumulate
            logged |= {name: value.detach() for name, value in shared.items()}
            if last:
                numbers = _checked(logged)
            fabric.backward(total)
    if not whole:
        with torch.no_grad():
            terms, states = memory_terms(model, parts, objective)
            numbers |= _checked(terms)

    norm = fabric.clip_gradients(players.model, players.optimizer, max_norm=clip or math.inf, error_if_nonfinite=False)
    if not math.isfinite(numbers.setdefault("gradient", float(norm))):
        raise TrainingStopped(_blame(fabric, players, batches[0], objective, numbers, look))

    players.optimizer.step()
    for site, state in states.items():
        model.memories[site].commit(MemoryState(*(t.detach() for t in state)))  # type: ignore[operator, union-attr]
    if alternating:
        numbers |= _checked({"discriminator": discriminator_step(fabric, players, batches, clip, forward)})
    named = {
        name: torch.tensor(value, dtype=torch.float64)
        for name, value in numbers.items()
        if hasattr(weights, name) or name in objective.published
    }
    numbers["loss"] = float(weighted_total(named, weights, objective.published))
    return Stepped(numbers, parts)


def forward(model: Any, batch: Batch) -> Inpainting:
    """The model's call on a batch."""
    label = (batch["label"],) if "label" in batch else ()
    return model(batch["image"] * (1 - batch["hole"]), batch["hole"], *label)  # type: ignore[no-any-return]


def _unbroken(batch: Batch) -> Batch:
    return {**batch, "hole": torch.zeros_like(batch["hole"])}


@contextmanager
def _unrecorded(model: nn.Module) -> Iterator[None]:
    """A pass that leaves no trace: running statistics and random generators are afterwards as they were before."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False  # the batch's own statistics are used all the same
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


# The adversarial side -------------------------------------------------------------------------------------------------


def _expectation(logits: Tensor) -> Tensor:
    return mean_over_ranks(logits.mean())


def _discriminator_step(
    fabric: Any, players: Players, batches: Sequence[Batch], fakes: Sequence[Tensor], objective: ObjectiveConfig
) -> Tensor:
    """One step of the discriminator on the whole batch; returns its loss."""
    _, discriminator_loss = ADVERSARIES[objective.adversary]
    players.discriminator_optimizer.zero_grad(set_to_none=True)
    count, loss = len(batches), torch.zeros(())
    known: list[tuple[Tensor, Tensor]] = []
    if count > 1:
        with torch.no_grad():
            # One call in training mode, for the one power iteration that a step makes; all others use its result.
            _judge(players.discriminator, batches[0], fakes[0])
            with _still(players.bare_discriminator):
                known = [_judge(players.discriminator, b, f) for b, f in zip(batches, fakes, strict=True)]
    for index, (batch, fake) in enumerate(zip(batches, fakes, strict=True)):
        with (
            nullcontext() if index == count - 1 else fabric.no_backward_sync(players.discriminator),
            nullcontext() if count == 1 else _still(players.bare_discriminator),
        ):
            mine = _judge(players.discriminator, batch, fake)
            pairs = [mine if i == index else known[i] for i in range(count)]
            loss = discriminator_loss(torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs]), _expectation)
            _checked({"discriminator": loss.detach()})
            fabric.backward(loss)
    players.discriminator_optimizer.step()
    return loss.detach()


def _judge(discriminator: Any, batch: Batch, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the images and of the results, in one pass."""
    real, hole = _real(batch, fake.shape[1] - 3), batch["hole"]
    logits = _wide(discriminator(torch.cat([real, fake]), torch.cat([hole, hole])))
    return logits[: len(real)], logits[len(real) :]


def _real(batch: Batch, classes: int) -> Tensor:
    """The image, and beside it its label map as planes, where the discriminator sees those."""
    if not classes:
        return batch["image"]
    if "label" not in batch:
        raise InputError("objective.judged = 'labelled' needs batches with label maps; set data.labels = true.")
    return torch.cat([batch["image"], label_planes(batch["label"], classes).to(batch["image"].dtype)], 1)


def _wide(logits: Tensor) -> Tensor:
    """At least float32: the expectations of Eq. 6 are sums over many patches."""
    return logits if logits.dtype == torch.float64 else logits.float()


@contextmanager
def _still(discriminator: nn.Module | None) -> Iterator[None]:
    """Eval mode for a while: no power iteration of the spectral normalisation."""
    assert discriminator is not None
    discriminator.eval()
    try:
        yield
    finally:
        discriminator.train()


def _frozen_logits(
    fabric: Any, players: Players, batches: Sequence[Batch], fakes: Sequence[Tensor]
) -> list[tuple[Tensor, Tensor | None]]:
    """Logits of the updated discriminator, as constants: of all real images, and of the given results."""
    assert players.bare_discriminator is not None
    with torch.no_grad(), _still(players.bare_discriminator), fabric.autocast():
        judge = players.bare_discriminator
        holes = [b["hole"] for b in batches]
        results = [_wide(judge(f, h)) for f, h in zip(fakes, holes, strict=True)] if fakes else [None] * len(batches)
        classes = int(getattr(judge, "classes", 0))
        return [(_wide(judge(_real(b, classes), b["hole"])), r) for b, r in zip(batches, results, strict=True)]


def _adversarial(
    fabric: Any,
    players: Players,
    batches: Sequence[Batch],
    frozen: Sequence[tuple[Tensor, Tensor | None]],
    result: Tensor,
    index: int,
    objective: ObjectiveConfig,
) -> Tensor:
    """The adversarial term over the whole batch, with a gradient through the micro-batch `index` alone."""
    judge = players.bare_discriminator
    assert judge is not None
    generator_loss, _ = ADVERSARIES[objective.adversary]
    # The bare network with constant weights: the generator's step must neither reach nor synchronise its gradients.
    judge.requires_grad_(False)
    try:
        with _still(judge), fabric.autocast():
            mine = judge(result, batches[index]["hole"])
    finally:
        judge.requires_grad_(True)
    fakes = [_wide(mine) if i == index else logits for i, (_, logits) in enumerate(frozen)]
    return generator_loss(torch.cat([real for real, _ in frozen]), torch.cat(fakes), _expectation)  # type: ignore[arg-type]


# When a number is none ------------------------------------------------------------------------------------------------


def _checked(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """The terms as numbers, means over the ranks, in one transfer; refuses what is not finite."""
    if not terms:
        return {}
    values = mean_over_ranks(torch.stack([value.detach().double() for value in terms.values()])).tolist()
    numbers = dict(zip(terms, values, strict=True))
    if bad := [name for name, value in numbers.items() if not math.isfinite(value)]:
        told = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        raise TrainingStopped(
            f"the term {bad[0]!r} is {numbers[bad[0]]} ({told}). Lower training.lr or the term's weight, "
            "clip gradients (training.grad_clip), or use precision 32-true."
        )
    return numbers


def _blame(
    fabric: Any,
    players: Players,
    batch: Batch,
    objective: ObjectiveConfig,
    numbers: Mapping[str, float],
    look: Mapping[str, Any],
) -> str:
    """Which term's gradient is not finite: each is differentiated alone, on the (first) micro-batch."""
    with fabric.autocast():  # the bare model: the engine's wrapper takes gradients through its own call alone
        output = forward(players.bare, batch)
    routes = route_targets(fabric, players, batch, objective)
    terms = own_terms(output, batch, objective, **look, routes=routes, memories=dict(players.bare.memories.items()))
    terms |= memory_terms(players.bare, [part_of(output, batch, players.bare)], objective)[0]
    named = [(name, p) for name, p in players.bare.named_parameters() if p.requires_grad]
    for term, value in terms.items():
        if not value.requires_grad:
            continue
        grads = torch.autograd.grad(value, [p for _, p in named], retain_graph=True, allow_unused=True)
        for (name, _), grad in zip(named, grads, strict=True):
            if grad is not None and not bool(torch.isfinite(grad).all()):
                return (
                    f"the gradient of the term {term!r} is not finite at {name} (the term itself is "
                    f"{numbers.get(term, math.nan):.4g}). Lower training.lr or the term's weight, or use 32-true."
                )
    told = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
    likely = " The adversarial term is the likely one." if players.discriminator is not None else ""
    return (
        f"the gradient is not finite although each term's own is, on the first micro-batch ({told}).{likely} "
        "Lower training.lr or the weights of the objective, or use 32-true."
    )
