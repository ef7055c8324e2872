"""`python -m benchmarks [NAME ...] [-o FILE.json]`: run, print, and keep with commit, versions and hardware."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from cicm.evaluation import provenance
from cicm.machine import commit

NAMES = ("big", "doors", "fill", "folder", "kills", "memory", "networks", "training")


def conditions() -> dict[str, object]:
    """Where the numbers were measured."""
    where = "cuda" if torch.cuda.is_available() else "cpu"
    return {"hardware": provenance.hardware(where), "commit": commit(__file__), **provenance.software()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES), help=f"some of {', '.join(NAMES)}")
    parser.add_argument("-o", "--output", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    found = {}
    for name in options.names:
        rows = found[name] = import_module(f"benchmarks.{name}").main()
        for keys in dict.fromkeys(tuple(row) for row in rows):
            table = Table(*keys, title=name)
            for row in rows:
                if tuple(row) == keys:
                    table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
            Console(width=200).print(table)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps({"conditions": conditions(), "results": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
