"""Which code, which machine: what a number needs so that somebody can make it again."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = ("cicm", "torch", "numpy", "pillow", "opencv-python-headless", "scikit-image")


def software() -> dict[str, str]:
    """Versions of Python and of the packages that a score depends on; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: str | torch.device = "cpu") -> str:
    """The processor in words, with the number of threads, or the GPU's name."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():  # Linux: platform.processor() says only "x86_64" there
        lines = [line for line in cpuinfo.read_text(errors="replace").splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    return f"{name}, {torch.get_num_threads()} thread(s)"


def commit(file: str | Path = __file__) -> str | None:
    """The git commit that this code is of, with `+changes` when its folder differs from it.

    None where the file is not tracked by git: an installed package, or a folder before its first commit.
    """
    folder = Path(file).resolve().parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # Tracked, not merely inside: an environment may lie in the work tree of somebody else's repository.
    if git("ls-files", "--error-unmatch", Path(file).name) is None or (revision := git("rev-parse", "HEAD")) is None:
        return None
    package = folder.parent
    return revision[:12] + ("+changes" if git("status", "--porcelain", "--", str(package)) else "")
