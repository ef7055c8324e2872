"""The stored outputs of original networks, and the rules by which they were made; a fixture of all tests."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor


class Oracles:
    """A folder of stored outputs, beside the rules for parameters, pictures and holes.

    Attributes:
        inputs, filling, layers: the rules, as modules (`layers` is for single layers).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inputs = self._rules("inputs")  # first: the others import it
        self.filling, self.layers = self._rules("filling"), self._rules("unit_inputs")

    def _rules(self, name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, self.folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        sys.modules[name] = module
        spec.loader.exec_module(module)  # type: ignore[union-attr]
        return module

    def state(self, name: str) -> dict[str, Tensor]:
        """All entries of a network's state dict by their original names; counters are 0."""
        names = json.loads((self.folder / f"{name}.keys.json").read_text())
        filled = self.filling.state(name, self.folder)
        return {key: torch.from_numpy(filled[key]) if key in filled else torch.tensor(0) for key in names}

    def outputs(self, file: str) -> dict[str, np.ndarray]:
        """What is stored in a file, by its name without the ending."""
        stored = np.load(self.folder / f"{file}.npz")
        return {key: stored[key] for key in stored.files}

    def picture(self, stored: dict[str, np.ndarray]) -> tuple[Tensor, Tensor]:
        """(image, hole) of a stored case."""
        seed, shape = int(stored["seed"]), stored["shape"].tolist()
        return torch.from_numpy(self.inputs.image(seed, *shape)), torch.from_numpy(self.inputs.hole(seed, *shape))

    def error(self, ours: Tensor, stored: np.ndarray) -> float:
        """Largest absolute difference over largest absolute stored value."""
        return self.layers.relative_error(ours.detach().numpy(), stored)


@pytest.fixture(scope="session")
def oracles(shared: Path) -> Oracles:
    """Stored outputs of original networks; the test is skipped, and says so, where they are absent."""
    if not (shared / "oracles" / "filling.py").exists():
        pytest.skip("no outputs of the original networks beside this clone")
    return Oracles(shared / "oracles")
