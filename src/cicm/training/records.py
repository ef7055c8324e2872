"""What a run writes down: its log, its environment, and what a person sees meanwhile."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from cicm.conventions import InputError
from cicm.training.checkpoint import write_atomically

LOG = "log.jsonl"
PLAIN_EVERY_SECONDS = 20.0


class Log:
    """`log.jsonl`: one JSON object per line, each with its `step`; flushed line by line.

    Numbers are written so that reading gives the same float back; NaN and infinities as strings.
    """

    def __init__(self, path: Path, tensorboard: Path | None = None) -> None:
        self.path = path
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115  # open as long as the run
        self.board = _summary_writer(tensorboard) if tensorboard else None

    def write(self, step: int, **record: Any) -> None:
        """Append one record."""
        self.file.write(json.dumps(_json_safe({"step": step, **record})) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in _numbers(record):
                self.board.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()


def truncate_log(path: Path, step: int) -> int:
    """Drop the lines of later steps than `step`, and a half-written last one; returns how many went.

    A run that resumes after `step` writes them again.
    """
    if not path.exists():
        return 0
    kept, dropped = [], 0
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            keep = json.loads(line)["step"] <= step
        except (json.JSONDecodeError, KeyError, TypeError):
            keep = False
        kept += [line] if keep else []
        dropped += not keep
    if dropped:
        write_atomically(path, lambda file: file.write("".join(f"{line}\n" for line in kept).encode()))
    return dropped


def read_log(path: Path) -> list[dict[str, Any]]:
    """All records of a log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def environment() -> dict[str, Any]:
    """Versions, commit and hardware, for the record."""
    names = ("cicm", "torch", "lightning-fabric", "numpy", "pillow", "safetensors")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": {name: _version(name) for name in names} | {"python": platform.python_version()},
        "commit": _commit(),
        "command": sys.argv,
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


class Display:
    """Progress for a person: a live bar on a terminal, one plain line now and then elsewhere; nothing on other ranks.

    Args:
        total: steps of the run.
        first: the step that it begins with.
        name: of the run.
        shown: whether this process shows anything.
    """

    def __init__(self, total: int, first: int, name: str, shown: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True, quiet=not shown, highlight=False, soft_wrap=True)
        self.total, self.step, self.first = total, first, first
        self.began = self.spoke = time.monotonic()
        self.paused = 0.0
        self.bar = None
        if self.console.is_terminal and shown:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(elapsed_when_finished=True),
            )
            self.bar = Progress(*columns, console=self.console, speed_estimate_period=300)
            self.task = self.bar.add_task(name, total=total, completed=first, note="")
            self.bar.start()

    def say(self, text: str) -> None:
        """One line that stays."""
        self.console.print(text, markup=False)

    def update(self, step: int, note: str) -> None:
        """Step `step` is done; `note` is shown beside the bar, or printed when it is time for a plain line."""
        self.step = step
        if self.bar is not None:
            self.bar.update(self.task, completed=step, note=note)
        elif (now := time.monotonic()) - self.spoke >= PLAIN_EVERY_SECONDS or step == self.total:
            self.spoke = now
            per_step = (now - self.began) / max(1, step - self.first)
            self.say(f"step {step}/{self.total}  {note}  {clock((self.total - step) * per_step)} left")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()


def clock(seconds: float) -> str:
    """A duration as h:mm:ss.

    Example:
        >>> clock(3725.4)
        '1:02:05'
    """
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def _json_safe(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_safe(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def _numbers(record: Mapping[str, Any], where: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in record.items():
        name = f"{where}/{key}" if where else key
        if isinstance(value, Mapping):
            found += _numbers(value, name)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append((name, float(value)))
    return found


def _summary_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError('training.tensorboard needs the extra: pip install "cicm[tensorboard]".') from error
    return SummaryWriter(str(folder))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """The commit of the source, `+` behind it when files differ from it; `unknown` outside a repository."""
    here = Path(__file__).parent
    try:
        call = {"cwd": here, "capture_output": True, "text": True, "timeout": 10, "check": True}
        # a package installed inside somebody else's repository has no commit of its own
        subprocess.run(["git", "ls-files", "--error-unmatch", Path(__file__).name], **call)  # type: ignore[call-overload]
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **call).stdout.strip()  # type: ignore[call-overload]
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], **call).stdout  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit + ("+" if changed.strip() else "")


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
