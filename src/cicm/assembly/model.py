"""A model as plain data, and the model that the data describe."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from cicm import memory as memories
from cicm.assembly.inpainter import MemoryInpainter
from cicm.conventions import InputError
from cicm.memory import MemoryConfig
from cicm.networks import create


@dataclass(frozen=True)
class ModelConfig:
    """Which network, with which options, and which memory at which site.

    Args:
        network: a registered name.
        options: the network's keyword arguments.
        memories: site name -> configuration; empty for the network alone.

    Example:
        >>> config = ModelConfig("unet", {"width": 8}, {"bottom": MemoryConfig(sets=4)})
        >>> ModelConfig.from_dict(config.to_dict()) == config
        True
    """

    network: str = "unet"
    options: dict[str, Any] = field(default_factory=dict)
    memories: dict[str, MemoryConfig] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`; refuses unknown keys.

        Raises:
            InputError: an unknown key, with the nearest known one.
        """
        _refuse_unknown(data, cls)
        sites = data.get("memories", {})
        for site in sites.values():
            _refuse_unknown(site, MemoryConfig)
        return cls(
            data.get("network", "unet"),
            dict(data.get("options", {})),
            {name: MemoryConfig(**site) for name, site in sites.items()},
        )


def build(config: ModelConfig) -> MemoryInpainter:
    """The untrained model that a configuration describes; random numbers come from torch's global generator.

    Raises:
        InputError: an unknown network, option or site.
    """
    network = create(config.network, **config.options)
    return MemoryInpainter(
        network, {name: memories.create(network.site(name).channels, c) for name, c in config.memories.items()}
    )


def _refuse_unknown(data: Mapping[str, Any], into: type) -> None:
    known = [f.name for f in fields(into)]
    for key in data:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}."
            raise InputError(f"{into.__name__} has no {key!r}; {hint}")
