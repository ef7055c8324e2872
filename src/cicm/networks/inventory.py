"""What is said of a network before it runs: parameters, multiply-adds, sites, size rule, paper, origin and terms."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from cicm.networks.contract import FeatureSite, SizeRule
from cicm.networks.originals import Origin, origin
from cicm.networks.registry import create, maker

_PAPER = re.compile(r'"(?P<title>[^"]+)"\s+\((?P<venue>[^()]*\d{4})\)')
"""How the docstring of a network's file names its paper: "Title" (venue year)."""


@dataclass(frozen=True)
class NetworkFacts:
    """Args:
    name: as registered.
    parameters: how many.
    multiply_adds: of one image of `pixels`, counted on the operators that run.
    pixels: (height, width) that they were counted at.
    sites: as declared.
    size: the sizes it takes.
    paper: title, venue and year; empty if the file names none.
    origin: where the original code is, and its licence; the code here is written anew, weights keep their own terms.
    """

    name: str
    parameters: int
    multiply_adds: int
    pixels: tuple[int, int]
    sites: tuple[FeatureSite, ...]
    size: SizeRule
    paper: str
    origin: Origin


def facts(name: str, side: int = 256, /, **options: Any) -> NetworkFacts:
    """Count a registered network without allocating it.

    Args:
        side: of the square image for the multiply-adds; enlarged to what the network takes.

    Example:
        >>> round(facts("unet").parameters / 1e6, 1), facts("unet").sites[-1].name
        (25.8, 'bottom')
    """
    with torch.device("meta"):
        network = create(name, **options).eval()
        height, width = network.size.nearest(side, side)
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            network(torch.empty(1, 3, height, width), torch.empty(1, 1, height, width))
    return NetworkFacts(
        name,
        sum(p.numel() for p in network.parameters()),
        counter.get_total_flops() // 2,  # the counter takes a multiply-add for two operations
        (height, width),
        network.sites,
        network.size,
        _paper(name),
        origin(name),
    )


def _paper(name: str) -> str:
    """The paper that the network's file names; empty if it names none."""
    text = inspect.getdoc(sys.modules[maker(name).__module__]) or ""
    match = _PAPER.search(text)
    return f"{' '.join(match['title'].split())} ({match['venue']})" if match else ""
