"""What label maps do in a model: they enter it, are completed, and say which sets of the memory fit a cell.

The paper says of its semantic part only that the memory "can be easily extended to learn the cross-image features from
not only the RGB images but also the semantic segmentation results". How is ours:

1. Known labels enter at the network's finest site, as shares of classes per cell, by two convolutions whose last one
   begins at zero: an untrained model is the network alone, bit for bit.
2. At the memory's site a small head completes the labels: the known ones continued smoothly, plus what features say.
3. The completed labels are a log prior of the routing (`cicm.memory.tags`): the memory's sets belong to classes.
4. Beside the memory, or in its place, the same picture's complete cells of the same class may be borrowed, as control
   and partner: the rule of "Image Inpainting Guided by Coherence Priors of Semantics and Textures" (CVPR 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.conventions import InputError
from cicm.datasets import classes_of
from cicm.memory import ContextMemory, ContextSource, MemoryRead
from cicm.memory.tags import class_of_sets, log_prior, pure, strict_prior
from cicm.networks import InpaintingNetwork
from cicm.ops import as_regions, cell_shares, complete_cells, continued, label_planes

Source = Literal["none", "predicted", "known", "oracle"]

_WIDTH = 32  # channels of the small convolutions here


@dataclass(frozen=True)
class LabelsConfig:
    """How label maps enter a model.

    Args:
        layout: the data set whose classes are meant (`cicm data list`): `cityscapes`, `outdoor-scenes` or `camvid`. A
            recipe may leave it empty, for that of its photos.
        source: what is known of the labels: `none`, they only supervise; `predicted`, what the model itself says of the
            known pixels in a first pass without labels; `known`, the true ones outside the hole; `oracle`, also inside:
            an upper bound, never a result.
        site: where labels are completed, and where the memory is that they route; empty: the network takes and
            completes labels itself, or there is nothing but the loss.
        prior: strength of the labels in routing against the features; 0 routes by features alone, as the paper.
        tags: `classes`, or for a control `shuffled`: what is written under one class is read under another.
        relative: the memory holds features less the mean of the picture's complete cells, which is added when read.
        same: borrow from the same picture's complete cells of the same class.
        dropped: share of the training pictures that are shown without labels, so that the model also works without.
    """

    layout: str = ""
    source: Source = "known"
    site: str = "bottom"
    prior: float = 1.0
    tags: Literal["classes", "shuffled"] = "classes"
    relative: bool = False
    same: bool = False
    dropped: float = 0.1

    def __post_init__(self) -> None:
        if self.layout:
            classes_of(self.layout)
        if self.source not in get_args(Source):
            raise InputError(f"labels.source must be one of {', '.join(get_args(Source))}; got {self.source!r}.")
        if not self.prior >= 0:
            raise InputError(f"labels.prior must be 0 or above; got {self.prior}.")
        if not 0 <= self.dropped < 1:
            raise InputError(f"labels.dropped is a share of the pictures, in [0, 1); got {self.dropped}.")

    @property
    def classes(self) -> int:
        """N."""
        return len(classes_of(self.layout))

    def told(self) -> str:
        """In words, for a record."""
        return f"labels {self.source}, {self.classes} classes of {self.layout}, void no class, resized to the nearest"


class Completed(NamedTuple):
    """Labels after completion.

    Args:
        logits: (B, N, h, w), at a quarter of the picture's size.
        shares: (B, N, gh, gw), probability of each class in each cell of the site; no gradient.
    """

    logits: Float[Tensor, "B N h w"]
    shares: Float[Tensor, "B N gh gw"]


class CompletionHead(nn.Module):
    """Logits at a quarter of the picture's size: known labels continued smoothly, plus what the features say.

    Args:
        channels: of the features.
        classes: N.
        stride: pixels per cell of the features.
    """

    def __init__(self, channels: int, classes: int, stride: int) -> None:
        super().__init__()
        self.factor = max(1, stride // 4)
        self.narrow = nn.Conv2d(channels, 2 * _WIDTH, 1)
        self.joined = nn.Conv2d(2 * _WIDTH + classes, 2 * _WIDTH, 3, padding=1)
        self.last = nn.Conv2d(2 * _WIDTH, classes, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, known: Float[Tensor, "B N H W"]) -> Float[Tensor, "B N h w"]:
        narrow = F.leaky_relu(self.narrow(features), 0.1)
        wider = F.interpolate(narrow, scale_factor=float(self.factor), mode="bilinear", align_corners=False)
        base = cell_shares(continued(known), (wider.shape[-2], wider.shape[-1])).to(wider.dtype)
        hidden = F.leaky_relu(self.joined(torch.cat([wider, base], 1)), 0.1)
        return base + self.last(hidden)


class SamePicture(nn.Module):
    """What the picture's own complete cells of the same class show, the nearer the more.

    The last 1x1 convolution begins at zero.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.agreement = nn.Parameter(torch.tensor(2.0))
        self.reach = nn.Parameter(torch.tensor(0.0))  # log of the distance, in cells, over which a weight falls to 1/e
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)
        nn.init.zeros_(self.mix.weight)

    def forward(
        self, features: Float[Tensor, "B C h w"], shares: Float[Tensor, "B N h w"], missing: Float[Tensor, "B 1 h w"]
    ) -> Float[Tensor, "B C h w"]:
        """What is borrowed, by the missing share; nothing where a picture has no complete cell."""
        height, width = features.shape[-2:]
        rows = torch.stack(
            torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1
        ).view(-1, 2).to(features)  # fmt: skip
        apart = torch.cdist(rows, rows) / self.reach.exp()
        chance = shares.flatten(2).to(features.dtype)
        agree = (chance.transpose(1, 2) @ chance + 1e-3).log()
        usable = complete_cells(missing).view(len(features), 1, -1)
        scores = (self.agreement * agree - apart).masked_fill(~usable, -torch.inf)
        scores = torch.where(usable.any(-1, keepdim=True), scores, torch.zeros_like(scores))
        borrowed = (scores.softmax(-1) @ features.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(features)
        some = usable.any(-1).to(features.dtype).view(-1, 1, 1, 1)
        return some * missing.to(features.dtype) * self.mix(borrowed)


class LabelGuide(nn.Module):
    """Everything that label maps do in a model.

    Args:
        network: its sites say where.
        memory: at the site; None without.

    Attributes:
        tags: (L,), the class of each set of the memory; None where labels do not route.

    Raises:
        InputError: no such site; a prior for a memory without sets, or with sets that the classes do not divide.
    """

    tags: Tensor | None

    def __init__(self, config: LabelsConfig, network: InpaintingNetwork, memory: ContextSource | None) -> None:
        super().__init__()
        self.config = config
        self.entry = ""
        self.head: CompletionHead | None = None
        self.same: SamePicture | None = None
        self.enter: nn.Sequential | None = None
        self.register_buffer("tags", None, persistent=False)
        own = network.options.get("classes")
        if own is not None and own != config.classes:
            raise InputError(
                f"the network is for {own} classes, {config.layout} has {config.classes}; set model.options.classes."
            )
        if not config.site:
            return
        site = network.site(config.site)
        self.head = CompletionHead(site.channels, config.classes, site.stride)
        self.same = SamePicture(site.channels) if config.same else None
        if config.source != "none":
            first = network.sites[0]
            self.entry = first.name
            last = nn.Conv2d(_WIDTH, first.channels, 3, padding=1, bias=False)
            nn.init.zeros_(last.weight)
            self.enter = nn.Sequential(
                nn.Conv2d(config.classes + 1, _WIDTH, 3, padding=1), nn.LeakyReLU(0.1), last
            )  # fmt: skip
        if memory is not None and config.prior:
            if not isinstance(memory, ContextMemory) or not memory.writes:
                raise InputError(
                    f"labels route sets that are written; the memory at {config.site} is of kind "
                    f"{memory.config.kind!r}. Set labels.prior = 0."
                )
            self.tags = class_of_sets(memory.config.sets, config.classes)

    def known(self, label: UInt8[Tensor, "B H W"] | None, hole: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B N H W"]:
        """The planes that the model may see, by the source: the only place where labels enter a forward.

        Args:
            label: classes of the whole picture, and void; None where there is no map.
        """
        batch, _, height, width = hole.shape
        if label is None or self.config.source in ("none", "predicted"):
            return hole.new_zeros(batch, self.config.classes, height, width)
        if label.shape != (batch, height, width):
            raise InputError(
                f"labels must be (B, H, W) of the picture's size, here {(batch, height, width)}; "
                f"got {tuple(label.shape)}."
            )
        planes = label_planes(label, self.config.classes).to(hole.dtype)
        if self.config.source != "oracle":
            planes = planes * (1 - hole)
        if self.training and self.config.dropped:
            kept = torch.rand(batch, 1, 1, 1, device=hole.device) >= self.config.dropped
            planes = planes * kept.to(planes.dtype)
        return planes

    def entering(self, features: Float[Tensor, "B C h w"], known: Float[Tensor, "B N H W"]) -> Tensor:
        """The finest site's features with the labels in them; unchanged where nothing is known of any label."""
        assert self.enter is not None
        shares = cell_shares(known, (features.shape[-2], features.shape[-1]))
        share = shares.sum(1, keepdim=True)
        some = (share.amax((1, 2, 3), keepdim=True) > 0).to(features.dtype)
        return features + some * self.enter(torch.cat([shares, share], 1)).to(features.dtype)

    def complete(self, features: Float[Tensor, "B C h w"], known: Float[Tensor, "B N H W"]) -> Completed:
        """Complete the labels from the features of the memory's site, before the memory is read."""
        assert self.head is not None
        logits = self.head(features, known)
        with torch.no_grad():
            given = cell_shares(known, (logits.shape[-2], logits.shape[-1]))
            whole = given + (1 - given.sum(1, keepdim=True)) * logits.float().softmax(1).to(given.dtype)
            return Completed(logits, cell_shares(whole, (features.shape[-2], features.shape[-1])))

    def prior(self, completed: Completed, memory: ContextSource) -> Float[Tensor, "N L"] | None:
        """What the completed labels add to the memory's routing; None where they do not route."""
        if self.tags is None:
            return None
        tags = self.tags
        if self.config.tags == "shuffled":  # turned by half the classes: never a class on itself
            tags = (tags + self.config.classes // 2) % self.config.classes
        return log_prior(as_regions(completed.shares), tags, self.config.prior, memory.config.temperature)

    def placed(
        self, read: MemoryRead, label: UInt8[Tensor, "B H W"], memory: ContextSource
    ) -> tuple[MemoryRead, Tensor, Tensor]:
        """A read as it is written: each region to the sets of its true class.

        Returns:
            the read, (N,) classes, and (N,) bool, whether enough of the region is that class to be written.
        """
        assert self.tags is not None
        size = (read.features.shape[-2], read.features.shape[-1])
        shares = as_regions(cell_shares(label_planes(label, self.config.classes), size))
        kind, fits = pure(shares)
        assert isinstance(memory, ContextMemory)
        return memory.placed(read, strict_prior(kind, self.tags, read.regions.dtype)), kind, fits


def picture_mean(features: Float[Tensor, "B C h w"], missing: Float[Tensor, "B 1 h w"]) -> Float[Tensor, "B C 1 1"]:
    """Mean over a picture's complete cells; where it has none, over all cells by their known share.

    Example:
        >>> cells, gone = torch.tensor([[[[1.0, 5.0]]]]), torch.tensor([[[[0.0, 0.5]]]])
        >>> picture_mean(cells, gone).item()
        1.0
    """
    complete = (missing <= 0).to(features.dtype)
    some = complete.amax((1, 2, 3), keepdim=True) > 0
    weight = torch.where(some, complete, (1 - missing).to(features.dtype) + 1e-6)
    return (features * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True)
