"""The learned route: what a damaged region asks for, and how far that is from what the whole photo would ask for."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cicm.memory.state import MemoryState
from cicm.ops.similarity import Similarity, compared


class QueryHead(nn.Module):
    """Features -> the query that is routed and compared with contexts in place of them, and how far to trust the read.

    The damaged feature of a hole says little of what was there. Two 3x3 convolutions (the second dilated by 2) look at
    the cells around it. At the start the query is the feature itself, and the trust 0.88.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate"),
            nn.LeakyReLU(0.1),
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2, padding_mode="replicate"),
            nn.LeakyReLU(0.1),
        )
        self.query = nn.Conv2d(channels, channels, 1)
        self.trust = nn.Conv2d(channels, 1, 1)
        for last in (self.query, self.trust):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.trust.bias, 2.0)  # type: ignore[arg-type]

    def forward(self, features: Float[Tensor, "B C h w"]) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B 1 h w"]]:
        """(queries, trust in [0, 1]). What is not trusted is the share of a null context, which changes nothing."""
        seen = self.look(features)
        return features + self.query(seen), self.trust(seen).sigmoid()


def route_error(
    query: Float[Tensor, "N C"],
    target: Float[Tensor, "N C"],
    state: MemoryState,
    *,
    kind: Similarity = "centred",
    temperature: float = 0.1,
    center: Float[Tensor, " C"] | None = None,
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"], Int[Tensor, " N"]]:
    """Cross entropy, in nats, of a query's choice of set and of context against that of the undamaged photo's feature.

    Both choices are soft: a softmax over the anchors, and one over the contexts of the set that the target chooses.

    Args:
        target: the undamaged photo's features in the same rows; without gradient.
        state: the memory that both look into.
        kind, temperature, center: as in `MemoryConfig`.

    Returns:
        of the set (N,), of the context within the target's set (N,), and that set (N,).
    """
    asked, told = compared(query, kind, center), compared(target.detach(), kind, center)
    anchors = compared(state.anchors.detach(), kind, center)
    wanted = told @ anchors.T
    sets = wanted.argmax(-1)
    own = compared(state.contexts.detach(), kind, center).flatten(0, 1)
    count = state.contexts.shape[1]
    places = sets[:, None] * count + torch.arange(count, device=sets.device)
    errors = []
    for scores, goal in (
        (asked @ anchors.T, wanted),
        ((asked @ own.T).gather(1, places), (told @ own.T).gather(1, places)),
    ):
        chosen = (goal / temperature).softmax(-1)
        errors.append(-(chosen * (scores / temperature).log_softmax(-1)).sum(-1))
    return errors[0], errors[1], sets
