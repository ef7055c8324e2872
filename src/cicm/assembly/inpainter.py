"""A network with memories at some of its sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.assembly.labels import LabelGuide, picture_mean
from cicm.conventions import InputError
from cicm.memory import ContextSource, MemoryRead
from cicm.memory.visit import look_up
from cicm.networks import InpaintingNetwork, Prediction
from cicm.ops import composite, missing_share


class Inpainting(NamedTuple):
    """What a forward gives back.

    Args:
        composite: (B, 3, H, W), equal to the corrupted image outside the hole bit for bit; not clamped inside.
        reads: for each site what each visit read, in order.
        missing: for each site the hole as it still was at each visit; smaller and smaller in a recurrent network.
        maps: what else was predicted, by name; logits of label maps begin with `labels`.
    """

    prediction: Prediction
    composite: Float[Tensor, "B 3 H W"]
    reads: dict[str, list[MemoryRead]]
    missing: dict[str, list[Tensor]] = {}
    maps: dict[str, Tensor] = {}


class MemoryInpainter(nn.Module):
    """A network and a memory for each site named; none at all makes it the network alone.

    Args:
        network: keeps the contract of `cicm.networks`.
        memories: site name -> memory with as many channels as the site.
        guide: what label maps do in the model; None for a model without.

    Raises:
        InputError: a site that the network does not declare, or another number of channels.

    Example:
        >>> import torch
        >>> from cicm.memory import ContextMemory, MemoryConfig
        >>> from cicm.networks import create
        >>> unet = create("unet", width=4)
        >>> model = MemoryInpainter(unet, {"bottom": ContextMemory(32, MemoryConfig(sets=2, contexts=3))})
        >>> result = model(torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32))
        >>> result.composite.shape, len(result.reads["bottom"])
        (torch.Size([1, 3, 32, 32]), 1)
    """

    def __init__(
        self,
        network: InpaintingNetwork,
        memories: Mapping[str, ContextSource] | None = None,
        guide: LabelGuide | None = None,
    ) -> None:
        super().__init__()
        for name, memory in (memories or {}).items():
            site = network.site(name)
            if memory.channels != site.channels:
                raise InputError(
                    f"site {name!r} has {site.channels} channels; got a memory for {memory.channels}. "
                    f"Build it with ContextMemory({site.channels}, ...)."
                )
        self.network = network
        self.memories = nn.ModuleDict(memories or {})
        self.guide = guide

    def forward(
        self,
        corrupted: Float[Tensor, "B 3 H W"],
        hole: Float[Tensor, "B 1 H W"],
        label: UInt8[Tensor, "B H W"] | None = None,
    ) -> Inpainting:
        """Predict, and paste the prediction into the hole.

        Args:
            corrupted: (B, 3, H, W) in [0, 1], `image * (1 - hole)`.
            hole: (B, 1, H, W), 1 = missing.
            label: classes, and void, for a model with label maps; what of them it may see is up to its source. None
                where there is no map.
        """
        if self.guide is None:
            return self._fill(corrupted, hole, None)
        if self.guide.config.source != "predicted":
            return self._fill(corrupted, hole, self.guide.known(label, hole))
        first = self._fill(corrupted, hole, self.guide.known(None, hole)).maps["labels"]
        said = F.interpolate(first.detach().float().softmax(1).to(hole.dtype), size=hole.shape[-2:], mode="nearest")
        result = self._fill(corrupted, hole, said * (1 - hole))
        return result._replace(maps={**result.maps, "labels_first": first})

    def _fill(self, corrupted: Tensor, hole: Tensor, known: Tensor | None) -> Inpainting:
        """One forward; `known` are the planes of what may be seen of the labels."""
        guide = self.guide
        reads: dict[str, list[MemoryRead]] = {name: [] for name in self.memories}
        missing: dict[str, list[Tensor]] = {name: [] for name in self.memories}
        maps: dict[str, Tensor] = {}

        def edit(site: str, features: Tensor) -> Tensor:
            if guide is None or known is None:
                return visit(site, features) if site in reads else features
            if site == guide.entry:
                features = guide.entering(features, known)
            if site != guide.config.site:
                return visit(site, features) if site in reads else features
            completed = guide.complete(features, known)
            maps["labels"] = completed.logits
            share = missing_share(hole, (features.shape[-2], features.shape[-1]))
            plain = features
            if site in reads:
                mean = picture_mean(features, share) if guide.config.relative else None
                prior = guide.prior(completed, self.memories[site])  # type: ignore[arg-type]
                features = visit(site, features if mean is None else features - mean, prior)
                features = features if mean is None else features + mean
            if guide.same is not None:
                features = features + guide.same(plain, completed.shares, share)
            return features

        def visit(site: str, features: Tensor, prior: Tensor | None = None) -> Tensor:
            left = self.network.remaining(hole, len(reads[site]))
            found = look_up(self.memories[site], features, hole, left, prior)  # type: ignore[arg-type]
            reads[site].append(found)
            missing[site].append(left)
            return found.features

        more = {"labels": known} if self.network.takes_labels else {}
        prediction = self.network(corrupted, hole, edit=edit, **more)
        pasted = composite(prediction.image, corrupted, hole)
        return Inpainting(prediction, pasted, reads, missing, {**prediction.maps, **maps})
