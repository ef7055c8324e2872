"""A network with memories at some of its sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from cicm.conventions import InputError
from cicm.memory import ContextSource, MemoryRead
from cicm.memory.visit import look_up
from cicm.networks import InpaintingNetwork, Prediction
from cicm.ops import composite


class Inpainting(NamedTuple):
    """What a forward gives back.

    Args:
        composite: (B, 3, H, W), equal to the corrupted image outside the hole bit for bit; not clamped inside.
        reads: for each site what each visit read, in order.
        missing: for each site the hole as it still was at each visit; smaller and smaller in a recurrent network.
    """

    prediction: Prediction
    composite: Float[Tensor, "B 3 H W"]
    reads: dict[str, list[MemoryRead]]
    missing: dict[str, list[Tensor]] = {}


class MemoryInpainter(nn.Module):
    """A network and a memory for each site named; none at all makes it the network alone.

    Args:
        network: keeps the contract of `cicm.networks`.
        memories: site name -> memory with as many channels as the site.

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

    def __init__(self, network: InpaintingNetwork, memories: Mapping[str, ContextSource] | None = None) -> None:
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

    def forward(self, corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"]) -> Inpainting:
        """Predict, and paste the prediction into the hole.

        Args:
            corrupted: (B, 3, H, W) in [0, 1], `image * (1 - hole)`.
            hole: (B, 1, H, W), 1 = missing.
        """
        reads: dict[str, list[MemoryRead]] = {name: [] for name in self.memories}
        missing: dict[str, list[Tensor]] = {name: [] for name in self.memories}

        def edit(site: str, features: Tensor) -> Tensor:
            if site not in reads:
                return features
            left = self.network.remaining(hole, len(reads[site]))
            found = look_up(self.memories[site], features, hole, left)  # type: ignore[arg-type]
            reads[site].append(found)
            missing[site].append(left)
            return found.features

        prediction = self.network(corrupted, hole, edit=edit)
        return Inpainting(prediction, composite(prediction.image, corrupted, hole), reads, missing)
