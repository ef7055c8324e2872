"""A model as plain data, and the model that the data describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cicm import memory as memories
from cicm.assembly.inpainter import MemoryInpainter
from cicm.assembly.labels import LabelGuide, LabelsConfig
from cicm.memory import MemoryConfig
from cicm.networks import create
from cicm.plain import from_plain


@dataclass(frozen=True)
class ModelConfig:
    """Which network, with which options, and which memory at which site.

    Args:
        memories: site name -> configuration; empty for the network alone.
        labels: how label maps enter; None for a model without.

    Example:
        >>> config = ModelConfig("unet", {"width": 8}, {"bottom": MemoryConfig(sets=4)})
        >>> ModelConfig.from_dict(config.to_dict()) == config
        True
    """

    network: str = "unet"
    options: dict[str, Any] = field(default_factory=dict)
    memories: dict[str, MemoryConfig] = field(default_factory=dict)
    labels: LabelsConfig | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; without labels the key is left out, as in files from before there were any."""
        plain = asdict(self)
        return plain if self.labels is not None else {key: value for key, value in plain.items() if key != "labels"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`; refuses unknown keys.

        Raises:
            InputError: an unknown key, with the nearest known one; a value of another type.
        """
        return from_plain(cls, data)


def build(config: ModelConfig) -> MemoryInpainter:
    """The untrained model that a configuration describes; random numbers come from torch's global generator.

    Raises:
        InputError: an unknown network, option or site.
    """
    network = create(config.network, **config.options)
    made = {name: memories.create(network.site(name).channels, c) for name, c in config.memories.items()}
    guide = LabelGuide(config.labels, network, made.get(config.labels.site)) if config.labels else None
    return MemoryInpainter(network, made, guide)
