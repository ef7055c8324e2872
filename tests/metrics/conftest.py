"""Pictures and networks that the metrics are tested on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cicm.metrics import published as registry


@pytest.fixture
def pictures() -> tuple[Tensor, Tensor]:
    """Four pairs, (4, 3, 40, 48): gradients and texture; the same with noise, a shift, a patch, a dark tone."""
    generator = torch.Generator().manual_seed(7)
    y, x = torch.meshgrid(torch.linspace(0, 1, 40), torch.linspace(0, 1, 48), indexing="ij")
    base = torch.stack([0.5 + 0.4 * torch.sin(9 * x + 4 * y), x * y, (1 - x) * 0.8])
    image = (base + 0.15 * torch.rand(4, 3, 40, 48, generator=generator)).clamp(0, 1)
    composite = image.clone()
    composite[0] += 0.1 * torch.randn(3, 40, 48, generator=generator)
    composite[1] = composite[1].roll(2, dims=-1)
    composite[2, :, 10:25, 12:30] = 0.5
    composite[3] *= 0.6
    return composite.clamp(0, 1), image


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights on this machine but those of the package; returns the empty cache."""
    monkeypatch.delenv("CICM_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cicm" / "weights"


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], None]:
    """Let the registry believe that a file of ours is the published one: its size and checksum are entered."""

    def enter(name: str, path: Path) -> None:
        content = path.read_bytes()
        entry = replace(
            registry.PUBLISHED[name],
            filename=path.name,
            sha256=hashlib.sha256(content).hexdigest(),
            num_bytes=len(content),
        )
        monkeypatch.setitem(registry.PUBLISHED, name, entry)

    return enter
