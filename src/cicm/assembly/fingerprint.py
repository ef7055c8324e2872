"""Whose numbers are these? A digest of a model, for files that mean something beside this model alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

_LATER = {"length": "free", "route": "feature", "written": "complete", "padding": "zeros"}
"""Settings that came later, and the values at which files of before are still valid: they are left out."""


def fingerprint(model: nn.Module) -> str:
    """A digest of every number in a model and of how its memories are read; the same on every device.

    Example:
        >>> from cicm.assembly import ModelConfig, build
        >>> model = build(ModelConfig("unet", {"width": 4}))
        >>> same = fingerprint(model) == fingerprint(model)
        >>> len(fingerprint(model)), same
        (64, True)
    """
    digest = hashlib.sha256()
    for name, memory in model.memories.items():  # type: ignore[union-attr,operator]
        digest.update(json.dumps([name, _told(asdict(memory.config))], sort_keys=True).encode())
    network: Any = model.network
    digest.update(f"{type(network).__name__} {sorted(_told(getattr(network, 'options', {})).items())}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _LATER or value != _LATER[name]}
