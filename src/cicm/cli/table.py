"""`cicm table`: list the paper's tables, make their rows, render them with ours beside the printed numbers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import InputError
from cicm.files import check_output, write_atomic

if TYPE_CHECKING:
    from cicm.tables import Job, Missing, Series
    from cicm.tables.plan import DataSet, Table

DESCRIPTION = """Make the paper's tables. A row of a table is a recipe with its changes.

run     trains each row, scores it, and writes a record for each row and seed; continues what was interrupted
render  shows our numbers beside the paper's, with differences, seeds and conditions, and why a row is missing
ID      1 to 5, figure3, figure4, all, or the path of a table file of your own (TOML, see docs/tables.md)

Records are in results/tables/NAME, runs in runs/tables/NAME. Exit code of run: 0 done, 1 some failed, 2 wrong input.
With --dry-run: 1 if some rows would fail, 2 if the run would be refused. A GPU is used if there is one.
"""

EXAMPLES = """examples:
  cicm table list
  cicm table run 3 --scale small --dry-run                    print the plan, write nothing
  cicm table run 3 --scale small --seeds 0 --rows UNet UNet-CICM
  cicm table run 1 2 3 --scale paper --data places2=photos/places2 --data celeba=photos/celeba --masks masks
  cicm table run experiments/memory-help.toml
  cicm table run 3 --scale small --data holiday --name holiday          photos of your own: holiday/train, val, test
  cicm table render 3 --scale small
  cicm table render all --scale small -o tables.tex                   also .md, .csv, .html

The same command does only what is still missing. To run two at once, give each other --seeds.
"""


def parser() -> ArgumentParser:
    """The verb's options."""
    made = verb_parser("table", DESCRIPTION, EXAMPLES, usage="cicm table list | run ID ... | render ID ... [options]")
    add = made.add_argument
    add("action", type=str, nargs="?", choices=["list", "run", "render"], default="list", help="what to do")
    add("ids", type=str, nargs="*", default=[], metavar="ID", help="see above")
    add_series(made)
    add("--rows", nargs="+", type=str, metavar="LABEL", help="run: only these rows")
    add("--seeds", nargs="+", type=int, metavar="N", help="run: these seeds instead of the scale's")
    add("--dry-run", action="store_true", help="run: print the plan, write nothing")
    add("--threads", type=int, default=0, metavar="N", help="run: CPU threads (default: torch decides)")
    add("--masks", type=str, metavar="DIR", help="mask files for scoring instead of the scale's; '' paints holes")
    add("-o", "--output", type=str, metavar="FILE", help="render: write .md, .tex, .csv or .html")
    add("--overwrite", action="store_true", help="render: replace a file that exists")
    return made


def add_series(made: ArgumentParser) -> None:
    """The options that say which series of results is meant."""
    add = made.add_argument
    add("--scale", type=str, default="small", metavar="NAME", help="conditions: small, paper or your own")
    add("--name", type=str, default="", metavar="NAME", help="name of this series of results (default: the scale's)")
    add("--data", action="append", default=[], metavar="[SET=]ROOT", help="photos instead of a data set's")


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    options = parse(parser(), argv)
    if options.action == "list":
        if options.ids:
            raise InputError(f"list takes no table; to see one: cicm table render {options.ids[0]}.")
        return _list(options)
    if not options.ids:
        raise InputError(f"{options.action} takes a table: cicm table {options.action} 3. `cicm table` lists them.")
    tables = tables_of(options.ids)
    if options.action == "render":
        return _render(options, [series_of(options, table) for table in tables])
    return _run(options, [series_of(options, table) for table in tables])


def tables_of(ids: Sequence[str]) -> list[Table]:
    """The tables that are meant; `all` are those that come with the package."""
    from cicm.tables import load_table, table_names

    names = [name for text in ids for name in (table_names() if text == "all" else [text])]
    found = {table.name: table for table in map(load_table, names)}
    return list(found.values())


def series_of(options: Namespace, table: Table) -> Series:
    """The table at the scale that the options name, with their photos."""
    from cicm.tables import Series
    from cicm.tables.series import with_root

    scale = table.scale_named(options.scale)
    masks = getattr(options, "masks", None)  # `cicm figure` has no such option
    used = [name for name in dict.fromkeys(part.data for part in table.part) if name in scale.data]
    changed: dict[str, DataSet] = {}
    for text in options.data:
        name, equals, root = text.partition("=")
        if not equals or Path(text).exists():
            if not used:  # a table of other data sets alone
                continue
            name, root = used[0], text
        if name not in scale.data:
            raise InputError(f"the scale {options.scale} has no data set {name!r}; it has {', '.join(scale.data)}.")
        changed[name] = with_root(scale.data[name], root, masks)
    only = changed if options.data else None
    if masks is not None and not options.data:
        changed = {name: with_root(scale.data[name], scale.data[name].root, masks) for name in used}
    return Series(table, options.scale, options.name, data=changed, only=only)


def _list(options: Namespace) -> int:
    from cicm.tables import Series, load_table, table_names

    for name in table_names():
        table = load_table(name)
        jobs, missing = Series(table, options.scale, options.name).jobs()
        series = Series(table, options.scale, options.name)
        done = sum(series.record(job) is not None for job in jobs)
        print(f"{name:<8} {table.caption}")
        rows = sum(len(part.row) for part in table.part)
        print(f"{'':<8} {rows} rows, {len(missing)} of them can't be made; {done} of {len(jobs)} runs done")
    return 0


def _render(options: Namespace, all_series: Sequence[Series]) -> int:
    from cicm.tables.page import page
    from cicm.tables.rendering import FORMATS

    ending = ".md"
    if options.output:
        output = check_output(options.output, endings=tuple(FORMATS), overwrite=options.overwrite)
        ending = output.suffix.lower()
    texts = [FORMATS[ending](page(series)) for series in all_series]
    if ending == ".csv":  # one header
        texts = [texts[0], *(text.partition("\n")[2] for text in texts[1:])]
    text = ("" if ending == ".csv" else "\n").join(texts)
    if not options.output:
        print(text, end="")
        return 0
    write_atomic(output, text)
    print(f"wrote {output}", file=sys.stderr)
    return 0


def _run(options: Namespace, all_series: Sequence[Series]) -> int:
    if options.threads < 0:
        raise InputError(f"--threads must be 0 or more; got {options.threads}.")
    plans = [(series, *series.jobs(options.rows, options.seeds)) for series in all_series]
    if options.dry_run:
        return max([_tell_plan(*plan) for plan in plans])

    import torch

    from cicm.tables.apart import train_apart
    from cicm.tables.page import page
    from cicm.tables.rendering import markdown
    from cicm.tables.runner import default_device, run

    if options.threads:
        torch.set_num_threads(options.threads)
    device = default_device()
    train = train_apart(threads=options.threads)
    failed: list[str] = []
    for series, jobs, missing in plans:
        for gap in missing:
            _say(f"{series.table.name}, {gap.part.title}, {gap.row.label}: left out: {gap.reason}")

        def write(series: Series = series) -> None:
            series.results.mkdir(parents=True, exist_ok=True)
            write_atomic(series.results / f"{series.table.name}.md", markdown(page(series)))

        outcomes = run(series, jobs, train, say=_say, device=device, after=write)
        write()
        states = [outcome.state for outcome in outcomes]
        _say(
            f"{series.table.name}: {states.count('made')} made, {states.count('there')} were there, "
            f"{states.count('failed')} failed, {len(missing)} rows left out; {series.results / series.table.name}.md"
        )
        failed += [
            f"{series.table.name}, {o.job.part.title}, {o.job.row.label}, seed {o.job.seed}: {o.reason}"
            for o in outcomes
            if o.state == "failed"
        ]
    for line in failed:
        _say(f"failed: {line}")
    return 1 if failed else 0


def _tell_plan(series: Series, jobs: Sequence[Job], missing: Sequence[Missing]) -> int:
    """Print what would be made; returns 1 if some of it would fail."""
    from cicm.tables.runner import check, refusals

    check(series, jobs)
    refused = refusals(series, jobs)
    print(f"{series.table.name} at scale {series.scale_name}: {series.scale.about}")
    seen: dict[tuple[str, int], str] = {}
    for job in jobs:
        where, key = f"{job.part.title}: {job.row.label}, seed {job.seed}", (job.key, job.seed)
        if there := series.record(job):
            state = f"there: {there}"
        elif key in refused:
            state = f"would fail: {refused[key]}"
        elif key in seen:
            state = f"the same run as {seen[key]}"
        else:
            begun = " (begun)" if series.run_folder(job).is_dir() else ""
            state = f"{job.steps} steps of {job.recipe.name}{begun}, in {series.run_folder(job)}"
            seen[key] = where
        print(f"  {where}: {state}")
    for gap in missing:
        print(f"  {gap.part.title}: {gap.row.label}: left out: {gap.reason}")
    steps = {(job.key, job.seed): job.steps for job in jobs if (job.key, job.seed) in seen}
    print(
        f"  {len(steps)} runs to make, {sum(steps.values())} steps" + (f"; {len(refused)} would fail" * bool(refused))
    )
    return 1 if refused else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
