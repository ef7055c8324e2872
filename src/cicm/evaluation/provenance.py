"""Which software and which processor or GPU a score was made with."""

from __future__ import annotations

import torch

from cicm.machine import processor, versions

_PACKAGES = ("cicm", "torch", "numpy", "pillow", "opencv-python-headless", "scikit-image")


def software() -> dict[str, str]:
    """Versions of Python and of the packages that a score depends on; those not installed are left out."""
    return versions(_PACKAGES)


def hardware(device: str | torch.device = "cpu") -> str:
    """The processor in words, with the number of threads, or the GPU's name."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} thread(s)"
