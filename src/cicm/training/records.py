"""What a run writes down: its log, and its environment."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cicm.conventions import InputError
from cicm.files import write_atomic
from cicm.machine import commit, processor, versions

LOG = "log.jsonl"
DAMAGED = ".damaged.jsonl"
"""Ending of a log that was damaged, as it was found."""


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
    """Drop the lines of later steps than `step`, and those that can't be read; returns how many went.

    A run that resumes after `step` writes them again. A half-written last line is what a kill leaves. If others can't
    be read, the log as it was is kept beside it.
    """
    if not path.exists():
        return 0
    data = path.read_bytes()
    kept, dropped, damaged = [], 0, 0
    lines = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            keep = json.loads(line)["step"] <= step
        except (ValueError, KeyError, TypeError, RecursionError):
            keep = False
            damaged += bool(line) and number < len(lines)
        kept += [line] if keep else []
        dropped += not keep and bool(line)
    if damaged:
        write_atomic(path.with_suffix(DAMAGED), data)
    if dropped:
        write_atomic(path, b"".join(line + b"\n" for line in kept))
    return dropped


def environment() -> dict[str, Any]:
    """Versions, commit and hardware, for the record."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": versions(["cicm", "torch", "lightning-fabric", "numpy", "pillow", "safetensors"]),
        "commit": commit() or "unknown",
        "command": sys.argv,
        "platform": platform.platform(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


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
