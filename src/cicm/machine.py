"""Which code, which machine: what a number needs so that somebody can make it again. No torch in here."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The processor in words, such as "AMD EPYC 7B13"."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():  # Linux: platform.processor() says only "x86_64" there
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit(file: str | os.PathLike = __file__) -> str | None:
    """The git commit that this code is of, twelve digits, with `+changes` when its folder differs from it.

    None where the file is not tracked by git: an installed package, or a folder before its first commit.
    """
    path = Path(file).resolve()

    def git(*arguments: str) -> str | None:
        call = ["git", "-C", str(path.parent), *arguments]
        try:
            done = subprocess.run(call, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # Tracked, not merely inside: an environment may lie in the work tree of somebody else's repository.
    if git("ls-files", "--error-unmatch", path.name) is None or (revision := git("rev-parse", "HEAD")) is None:
        return None
    return revision[:12] + ("+changes" if git("status", "--porcelain", "--", ".") else "")


def give_memory_back() -> None:
    """Give freed memory back to the system, where C's library keeps it for later: glibc, on Linux."""
    if platform.system() == "Linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
