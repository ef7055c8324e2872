"""Context of one image alone: what Table 2 compares the cross-image memory with ("k-means", "RUC").

The paper says only that the complete regions of the image are clustered, and that the regions of the most similar
cluster repair the corrupted ones. Everything else is our reading: at most L clusters and never more than half of the
complete regions; farthest-first starting points, so that nothing is random; ten iterations; Eq. 4 over the members of
the chosen cluster. An image without a complete region stays as it is.

The other two rows of Table 2 need no code: "merged sets" is a memory of one set (`sets = 1, contexts = 520`), whose
softmax runs over everything; "anchor only" is a memory of one context a set that the anchor follows at once
(`contexts = 1, momentum = 0`), so that an anchor is all that a read can find.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from cicm.conventions import InputError
from cicm.memory.rules import augment
from cicm.memory.source import ContextSource
from cicm.memory.state import Complete, Kind, Map, MemoryRead, Ratio
from cicm.ops import as_map

_ITERATIONS = 10
_STEPS, _SURE = 30, 0.99  # of RUC: gradient steps, and the least probability of a confident label
ROWS = 1024  # regions compared with all others at a time


def cluster_counts(valid: Bool[Tensor, "B N"], most: int) -> Int[Tensor, " B"]:
    """How many clusters each image is cut into: at most `most` and half of its complete regions; 0 without any.

    Example:
        >>> cluster_counts(torch.tensor([[True] * 7, [True] + [False] * 6, [False] * 7]), 13)
        tensor([3, 1, 0])
    """
    complete = valid.sum(1)
    return torch.minimum((complete // 2).clamp(1, most), complete)


def kmeans(
    units: Float[Tensor, "B N C"], valid: Bool[Tensor, "B N"], counts: Int[Tensor, " B"], most: int
) -> tuple[Int[Tensor, "B N"], Float[Tensor, "B K C"]]:
    """Spherical k-means over the valid regions of each image (K = `most`; centres beyond an image's count are zero).

    Args:
        units: (B, N, C), of length 1.
        valid: (B, N); the others are labelled too but count for nothing.
        counts: (B,), clusters of each image.
        most: K.

    Returns:
        labels in 0..counts-1, and centres of length 1. The start is the region nearest to the mean, then always the one
        least like any chosen; a centre that loses all members stays where it is.
    """
    batch, _, channels = units.shape
    usable = valid[..., None].to(units.dtype)
    mean = (units * usable).sum(1)
    closeness = torch.einsum("bnc,bc->bn", units, mean).masked_fill(~valid, -torch.inf)
    picked = closeness.argmax(1)
    centres = units.new_zeros(batch, most, channels)
    nearest = torch.full_like(closeness, -torch.inf)
    rows = torch.arange(batch, device=units.device)
    for index in range(most):
        alive = (counts > index)[:, None]
        centres[:, index] = torch.where(alive, units[rows, picked], 0)
        nearest = torch.maximum(nearest, torch.einsum("bnc,bc->bn", units, centres[:, index]))
        picked = nearest.masked_fill(~valid, torch.inf).argmin(1)
    for _ in range(_ITERATIONS):
        centres = _means(units, valid, assign(units, centres, counts), centres)
    return assign(units, centres, counts), centres


def assign(
    units: Float[Tensor, "B N C"], centres: Float[Tensor, "B K C"], counts: Int[Tensor, " B"]
) -> Int[Tensor, "B N"]:
    """The most similar centre of each region, among those that its image has."""
    return _scores(units, centres, counts).argmax(-1)


def _scores(units: Tensor, centres: Tensor, counts: Tensor) -> Tensor:
    beyond = torch.arange(centres.shape[1], device=units.device) >= counts[:, None].clamp_min(1)
    return (units @ centres.transpose(1, 2)).masked_fill(beyond[:, None], -torch.inf)


def _means(units: Tensor, valid: Tensor, labels: Tensor, old: Tensor) -> Tensor:
    member = F.one_hot(labels, old.shape[1]).to(units.dtype) * valid[..., None]
    total = member.transpose(1, 2) @ units
    return torch.where(member.sum(1)[..., None] > 0, F.normalize(total, dim=-1, eps=1e-6), old)


# RUC ------------------------------------------------------------------------------------------------------------------


def refine(
    units: Float[Tensor, "B N C"],
    valid: Bool[Tensor, "B N"],
    counts: Int[Tensor, " B"],
    centres: Float[Tensor, "B K C"],
    *,
    temperature: float = 0.1,
) -> tuple[Int[Tensor, "B N"], Float[Tensor, "B K C"]]:
    """Clean the clusters of k-means by robust learning, after "Improving Unsupervised Image Classification With Robust
    Learning" (RUC, CVPR 2021), on the features as they are.

    As there: a label is clean if it is confident and agrees with its neighbours; two heads teach each other; labels of
    unclean regions are guesses of both, sharpened; clean ones are mixed with the other head's view; MixUp; label
    smoothing on a strongly disturbed view. Differs from it: linear heads on fixed features in place of two networks,
    noise in place of picture augmentation, 30 steps of gradient descent with momentum in place of 200 epochs.
    All noise comes from one fixed seed, so that the same features give the same clusters.

    Args:
        units, valid, counts, centres: as `kmeans` takes and gives them.
        temperature: of the softmax over centres that confidence is taken from.

    Returns:
        labels and centres, as `kmeans`.
    """
    batch, size, channels = units.shape
    most = centres.shape[1]
    noise = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=noise).to(units)

    beyond = torch.arange(most, device=units.device) >= counts[:, None].clamp_min(1)
    scores = _scores(units, centres, counts)
    labels, sure = scores.argmax(-1), (scores / temperature).softmax(-1).amax(-1) >= _SURE
    clean = sure & (_vote(units, valid, labels, most) == labels) & valid
    heads = [draw(batch, channels, most) * 0.01 for _ in range(2)]
    speed = [torch.zeros_like(h) for h in heads]
    trust = [units.new_zeros(batch, size) for _ in range(2)]

    def view(strength: float) -> Tensor:
        return F.normalize(units + strength * draw(batch, size, channels) / channels**0.5, dim=-1)

    def predict(head: Tensor, seen: Tensor) -> Tensor:
        return ((seen @ head) / temperature).masked_fill(beyond[:, None], -torch.inf).softmax(-1)

    for step in range(_STEPS):
        ramp = min(1.0, max(0.1, step / _STEPS))
        for own, other in ((0, 1), (1, 0)):
            weak = [view(0.1), view(0.1)]
            guesses = torch.stack([predict(h, w) for h in heads for w in weak]).mean(0)
            peer = predict(heads[other], weak[0])
            mix = trust[other][..., None]
            target = torch.where(
                clean[..., None], (1 - mix) * F.one_hot(labels, most).to(units) + mix * peer, guesses
            ).square()  # sharpening with T = 0.5
            target = target / target.sum(-1, keepdim=True).clamp_min(1e-12)
            share = 0.5 + 0.5 * torch.rand((batch, 1, 1), generator=noise).to(units)
            order = torch.randperm(size, generator=noise).to(units.device)
            seen = share * weak[1] + (1 - share) * weak[1][:, order]
            target = share * target + (1 - share) * target[:, order]
            usable = (valid & valid[:, order]).to(units)[..., None]
            firm = clean.to(units)[..., None] * usable
            loose = usable - firm
            p = predict(heads[own], seen)
            push = firm * (p - target) / firm.sum(1, keepdim=True).clamp_min(1)  # of the cross-entropy
            error = 2 * (p - target) / most
            pull = p * (error - (error * p).sum(-1, keepdim=True))  # of the squared error, through the softmax
            push = push + 25 * ramp * loose * pull / loose.sum(1, keepdim=True).clamp_min(1)
            gradient = seen.transpose(1, 2) @ push
            strong = view(0.4)
            q = predict(heads[own], strong)
            ones = (~beyond[:, None]).to(units)
            smooth = 0.5 * F.one_hot(labels, most).to(units) + 0.5 * ones / ones.sum(-1, keepdim=True)
            certain = clean.to(units)[..., None]
            gradient = gradient + strong.transpose(1, 2) @ (certain * (q - smooth)) / certain.sum(
                1, keepdim=True
            ).clamp_min(1)
            speed[own] = 0.9 * speed[own] + gradient
            heads[own] = heads[own] - 0.1 * speed[own]
            now = predict(heads[own], units)
            best, guess = now.max(-1)
            joined = valid & ~clean & (best >= _SURE)
            labels, clean = torch.where(joined, guess, labels), clean | joined
            low = best.masked_fill(~valid, torch.inf).amin(1, keepdim=True)
            high = best.masked_fill(~valid, -torch.inf).amax(1, keepdim=True)
            trust[own] = ((best - low) / (high - low).clamp_min(1e-6)).clamp(0, 1).nan_to_num(0.0)
    labels = (predict(heads[0], units) + predict(heads[1], units)).argmax(-1)
    return labels, _means(units, valid, labels, centres)


def _vote(units: Tensor, valid: Tensor, labels: Tensor, most: int) -> Tensor:
    """The label that most of a region's nearest valid neighbours have: a quarter of the image, at most 100."""
    count = max(1, min(100, units.shape[1] // 4))
    alike = (units @ units.transpose(1, 2)).masked_fill(~valid[:, None], -torch.inf)
    alike.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    best, place = alike.topk(min(count, units.shape[1]), dim=-1)
    near = labels.gather(1, place.flatten(1)).view_as(place)
    votes = F.one_hot(near, most).to(units) * best.isfinite()[..., None]
    return votes.sum(2).argmax(-1)


# The module -----------------------------------------------------------------------------------------------------------


class SingleImageContext(ContextSource):
    """Sits where a memory would and remembers nothing: its contexts are complete regions of the same image.

    Args:
        channels: C.
        config: `kind` is `kmeans` or `ruc`; `sets` is the largest number of clusters; `similarity`, `temperature`,
            `blend` and `ratio` mean what they mean for a memory, centred around the image's complete regions.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("kmeans", "ruc")
    needs_complete = True

    def read(self, features: Map, ratio: Ratio | None = None, complete: Complete | None = None) -> MemoryRead:
        """As `ContextMemory.read`; `complete` says which regions no missing pixel touches.

        Raises:
            InputError: no `complete`, or another number of channels.
        """
        self._check_map(features)
        if complete is None:
            raise InputError(f"{self.config.kind} clusters the complete regions; pass read(features, complete=...).")
        with torch.autocast(features.device.type, enabled=False):
            wide = features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
            regions = wide.flatten(2).transpose(1, 2)
            valid = complete.view(regions.shape[:2])
            units = self._units(regions, valid)
            with torch.no_grad():
                counts = cluster_counts(valid, self.config.sets)
                labels, centres = kmeans(units, valid, counts, self.config.sets)
                if self.config.kind == "ruc":
                    labels, centres = refine(units, valid, counts, centres, temperature=self.config.temperature)
                chosen = assign(units, centres, counts)
            pieces = []
            for row in range(0, units.shape[1], ROWS):
                own = chosen[:, row : row + ROWS]
                member = valid[:, None] & (labels[:, None] == own[..., None])
                # an image without complete regions, or a cluster that lost all of them, offers the region itself
                offered = member.any(-1, keepdim=True)
                scores = units[:, row : row + ROWS] @ units.transpose(1, 2) / self.config.temperature
                weights = scores.masked_fill(~member & offered, -torch.inf).softmax(-1)
                pieces.append(torch.where(offered, weights @ regions, regions[:, row : row + ROWS]))
            context, flat = torch.cat(pieces, 1).flatten(0, 1), regions.flatten(0, 1)
            share = self._ratio(wide, ratio)
            blended = augment(flat, context, share, blend=self.config.blend)
        one = share.new_ones(len(flat), 1)
        return MemoryRead(as_map(blended, features).to(features.dtype), flat, chosen.flatten(), one, context, share)

    def _units(self, regions: Tensor, valid: Tensor) -> Tensor:
        if self.config.similarity == "dot":
            raise InputError("clusters of one image need similarity 'cosine' or 'centred'; got 'dot'.")
        if self.config.similarity == "centred":
            usable = valid[..., None].to(regions)
            regions = regions - (regions * usable).sum(1, keepdim=True) / usable.sum(1, keepdim=True).clamp_min(1)
        return F.normalize(regions, dim=-1, eps=1e-6)
