"""Train the rows of a comparison over its seeds, score them on one fixed list, and render the table.

    python -m experiments.compare experiments/memory-help.toml --shared ../shared [--rows none memory] [--render]

A file names a recipe, seeds, a list of pairs and rows; a row is a label and the keys of the recipe that it changes. A
run that was interrupted goes on, one that is complete is not repeated, so the command can be given again at any time.
Results: `results/NAME/LABEL-SEED.json` (records) with each image's scores as CSV, and `results/NAME/README.md`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from cicm.evaluation.compare import Comparison, compare
from cicm.evaluation.records import Evaluation
from cicm.tables.plan import spelled

ROOT = Path(__file__).resolve().parent.parent
UNITS = {"psnr": "dB", "sqz-distance": "x 1000", "ssim": "", "l1": ""}


def command(verb: str, *words: str) -> None:
    """One `cicm` command in a process of its own; stops this program when it fails."""
    subprocess.run([sys.executable, "-m", "cicm.cli.main", verb, *words], check=True, cwd=ROOT)


def records(name: str, label: str, seed: int) -> Path:
    return ROOT / "results" / name / f"{label}-{seed}.json"


def run(plan: dict[str, Any], name: str, row: dict[str, Any], seed: int, shared: Path, threads: int) -> None:
    """Train and score one row with one seed, unless that is done."""
    target = records(name, row["label"], seed)
    if target.exists():
        return
    folder = ROOT / "runs" / name / f"{row['label']}-{seed}"
    changes = {**plan.get("set", {}), **row.get("set", {}), "training.seed": seed}
    words = [w for change in spelled(changes) for w in ("--set", change)]
    began = time.monotonic()
    print(f"== {name}: {row['label']}, seed {seed}", flush=True)
    command(
        "train", row.get("recipe", plan["recipe"]), "--data", str(shared / "data/scenes"),
        "--output", str(folder), "--threads", str(threads), *words,
    )  # fmt: skip
    print(f"   trained in {time.monotonic() - began:.0f} s", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    command(
        "evaluate", f"{row['label']}={folder / 'weights.safetensors'}",
        "--images", str(shared / "data/scenes" / plan["split"]), "--masks", str(shared / "data/masks"),
        "--pairs", str(ROOT / "experiments" / plan["pairs"]), "--fit", plan.get("fit", "crop"),
        "--metrics", *plan["metrics"], "-o", str(target),
    )  # fmt: skip


def render(plan: dict[str, Any], name: str, file: str) -> str:
    """The table of all complete rows, each against the first one."""
    seeds = plan["seeds"]
    done = {r["label"]: [s for s in seeds if records(name, r["label"], s).exists()] for r in plan["row"]}
    load = {lb: [(Evaluation.load(records(name, lb, s)), lb) for s in found] for lb, found in done.items()}
    first = plan["row"][0]["label"]
    bands: list[str] = []
    rows: dict[str, dict[tuple[str, str], Comparison]] = {}
    for label, found in done.items():
        shared_seeds = [s for s in found if s in done[first]]
        if not shared_seeds:
            continue
        pick = [[run for run, s in zip(load[lb], done[lb], strict=True) if s in shared_seeds] for lb in (first, label)]
        cells = compare(*pick)
        bands = bands or list(dict.fromkeys(c.band for c in cells))
        rows[label] = {(c.metric, c.band): c for c in cells}
    lines = [f"# {plan['title']}", "", plan["question"].strip(), ""]
    for metric in plan["metrics"]:
        lines += [f"## {metric} {UNITS.get(metric, '')}".rstrip(), ""]
        lines += ["| | seeds |" + "".join(f" {b} % | against {first} |" for b in bands)]
        lines += ["|---|---|" + "---|---|" * len(bands)]
        for label, cells in rows.items():
            scale = 1000 if metric == "sqz-distance" else 1
            text = []
            for band in bands:
                c = cells[metric, band]
                spread = f" ± {c.second_spread * scale:.3f}" if c.second_spread is not None else ""
                text.append(f"{c.second * scale:.3f}{spread}")
                low, high = c.interval or (float("nan"), float("nan"))
                same = label == first
                text.append("" if same else f"{c.difference * scale:+.3f} [{low * scale:+.3f}, {high * scale:+.3f}]")
            lines.append(f"| {label} | {len(done[label])} | " + " | ".join(text) + " |")
        lines.append("")
    lines += [
        "± is the standard deviation of the mean over seeds; brackets are a 95 % paired bootstrap over images of the",
        f"difference to `{first}`, scores averaged over seeds.", "",
        f"Command: `python -m experiments.compare {file}`", "",
    ]  # fmt: skip
    lines += ["| row | what it changes |", "|---|---|"]
    for row in plan["row"]:
        changed = ", ".join(f"`{change}`" for change in spelled(row.get("set", {}))) or "-"
        lines.append(f"| {row['label']} | {row.get('about', '')} {changed} |")
    protocol = load[first][0][0].protocol if load[first] else None
    if protocol:
        lines += ["", "## Protocol", "", "```", protocol.explain(), "```"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--shared", type=Path, default=ROOT.parent / "shared", help="folder with data/scenes, data/masks"
    )
    parser.add_argument("--rows", nargs="+", help="only these labels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--render", action="store_true", help="only render what is there")
    options = parser.parse_args()
    plan = tomllib.loads(options.file.read_text())
    name = options.file.stem
    page = ROOT / "results" / name / "README.md"
    for seed in plan["seeds"]:
        for row in plan["row"]:
            if not options.render and (not options.rows or row["label"] in options.rows):
                run(plan, name, row, seed, options.shared.resolve(), options.threads)
                page.write_text(render(plan, name, f"experiments/{options.file.name}"))
    page.write_text(render(plan, name, f"experiments/{options.file.name}"))
    print(page)


if __name__ == "__main__":
    main()
