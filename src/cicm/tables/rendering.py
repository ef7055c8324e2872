"""A page as text: Markdown, LaTeX, HTML, and CSV with everything in columns of its own."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cicm.evaluation.tables import Grid
from cicm.evaluation.tables import number as usual
from cicm.tables.page import DOWN, UP, Block, Cell, Page, remarks
from cicm.tables.plan import PRINTED, Part, table_names

_NONE = "-"
_DIGITS = {"psnr": 3}  # where the paper prints more digits than our other tables


def grid(block: Block, bands: Sequence[str], notes: dict[str, int]) -> Grid:
    """A block as a plain table; columns without anything in them are left out."""
    cells = [cell for line in block.lines for cell in line.cells.values()]
    printed = any(cell.paper for cell in cells)
    differ = any(line.row.baseline for line in block.lines)
    ours = block.ours or block.metric
    header = ["", "seeds", *(["against"] if differ else [])]
    for band in bands:
        header += [f"{band} % paper"] if printed else []
        header += [f"{band} % ours"]
        header += [f"{band} % Δ paper"] if printed and differ else []
        header += [f"{band} % Δ ours"] if differ else []
    rows = []
    for line in block.lines:
        numbers = "".join(f" [{place}]" for place in sorted(notes[text] for text in remarks(line)))
        row = [line.row.label + numbers, str(len(line.seeds)) if line.seeds else _NONE]
        row += [line.row.baseline or _NONE] if differ else []
        for band in bands:
            cell = line.cells[band]
            row += [cell.paper or _NONE] if printed else []
            row += [_value(ours, cell)]
            row += [cell.paper_difference or _NONE] if printed and differ else []
            row += [_difference(ours, cell)] if differ else []
        rows.append(row)
    return Grid(header, rows, labels=1)


def number(metric: str, value: float, *, sign: bool = False) -> str:
    """A score with as many digits as the paper prints.

    Example:
        >>> number("psnr", 25.1239), number("psnr", 1.5, sign=True), number("ssim", 0.5)
        ('25.124', '+1.500', '0.5000')
    """
    if metric in _DIGITS:
        return format(value, f"{'+' if sign else ''}.{_DIGITS[metric]}f")
    return usual(metric, value, sign=sign)


def _value(metric: str, cell: Cell) -> str:
    if cell.ours is None:
        return _NONE
    text = number(metric, cell.ours)
    return text if cell.spread is None else f"{text} ± {number(metric, cell.spread)}"


def _difference(metric: str, cell: Cell) -> str:
    if cell.difference is None:
        return _NONE
    text = number(metric, cell.difference, sign=True)
    if cell.interval is None:
        return text
    low, high = (number(metric, end, sign=True) for end in cell.interval)
    return f"{text} [{low}, {high}]"


def _by_part(shown: Page) -> list[tuple[Part, list[Block]]]:
    return [(part, [block for block in shown.blocks if block.part is part]) for part in shown.series.table.part]


def _changes(shown: Page) -> list[list[str]]:
    """Row, recipe, what it changes: what a reader needs to make it again."""
    rows = []
    for part in shown.series.table.part:
        for row in part.row:
            base = shown.series.scale.recipes.get(row.recipe)
            recipe = (base.recipe if base else row.recipe) or _NONE
            words = [*_words(base.set if base else {}), *_words(row.set)]
            rows.append([f"{part.title}: {row.label}", recipe, ", ".join(words) or _NONE])
    return rows


def _words(changes: Mapping[str, Any]) -> list[str]:
    """Changes for a reader: `a.b=1`; a table becomes a change for each of its keys."""
    words = []
    for key, value in changes.items():
        if isinstance(value, Mapping) and value:
            words += _words({f"{key}.{inner}": item for inner, item in value.items()})
        else:
            words.append(f"{key}={json.dumps(value, ensure_ascii=False)}")
    return words


def markdown(shown: Page) -> str:
    """The table in Markdown."""
    table = shown.series.table
    lines = [f"# {table.title}", "", table.caption, ""]
    lines += [table.note, ""] if table.note else []
    for part, blocks in _by_part(shown):
        lines += [f"## {part.title}", ""]
        for block in blocks:
            lines += [f"### {block.title}", "", grid(block, table.bands, shown.notes).markdown(), ""]
    if shown.notes:
        lines += [*(f"[{place}] {text}" + "  " for text, place in shown.notes.items()), ""]
    lines += ["## Conditions", "", *(f"- {text}" for text in shown.conditions), ""]
    lines += ["## Rows", "", Grid(["row", "recipe", "what it changes"], _changes(shown), labels=3).markdown(), ""]
    lines += [f"Made by `{_command(shown)}`.", ""]
    return "\n".join(lines)


def latex(shown: Page) -> str:
    """One `table` for each part and metric; needs the packages booktabs and graphicx."""
    table = shown.series.table
    lines = [f"% {table.title}; needs \\usepackage{{booktabs,graphicx}}; made by: {_command(shown)}"]
    for part, blocks in _by_part(shown):
        for block in blocks:
            drawn = grid(block, table.bands, shown.notes)
            used = {text: n for text, n in shown.notes.items() if any(text in remarks(line) for line in block.lines)}
            lines += [
                "\\begin{table}[t]",
                "\\centering",
                "\\resizebox{\\linewidth}{!}{%",
                f"\\begin{{tabular}}{{l{'r' * (len(drawn.header) - 1)}}}",
                "\\toprule",
                " & ".join(map(_tex, drawn.header)) + " \\\\",
                "\\midrule",
                *(" & ".join(map(_tex, row)) + " \\\\" for row in drawn.rows),
                "\\bottomrule",
                "\\end{tabular}}",
            ]
            told = " ".join(f"[{place}] {text}." for text, place in used.items())
            lines.append(f"\\caption{{{_tex(f'{table.title}, {part.title}, {block.title}. {table.caption}')}}}")
            lines += [f"\\footnotesize {_tex(told)}"] if told else []
            lines += ["\\end{table}", ""]
    lines += [f"% {text}" for text in ("conditions:", *shown.conditions)]
    return "\n".join(lines) + "\n"


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", UP: r"$\uparrow$", DOWN: r"$\downarrow$", "±": r"$\pm$",
    "Δ": r"$\Delta$", "[": "{[}", "]": "{]}",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def to_html(shown: Page) -> str:
    """A page that stands alone."""
    table = shown.series.table
    body = [f"<h1>{_safe(table.title)}</h1>", f"<p>{_safe(table.caption)}</p>"]
    body += [f"<p>{_safe(table.note)}</p>"] if table.note else []
    for part, blocks in _by_part(shown):
        body.append(f"<h2>{_safe(part.title)}</h2>")
        for block in blocks:
            body += [f"<h3>{_safe(block.title)}</h3>", _html_grid(grid(block, table.bands, shown.notes))]
    body += ["<ol>", *(f"<li>{_safe(text)}</li>" for text in shown.notes), "</ol>"] if shown.notes else []
    body += ["<h2>Conditions</h2>", "<ul>", *(f"<li>{_safe(text)}</li>" for text in shown.conditions), "</ul>"]
    body += ["<h2>Rows</h2>", _html_grid(Grid(["row", "recipe", "what it changes"], _changes(shown), labels=3))]
    body.append(f"<p>Made by <code>{_safe(_command(shown))}</code>.</p>")
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:90rem;padding:0 1rem}"
        "div{overflow-x:auto}table{border-collapse:collapse;margin:.5rem 0}"
        "th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #ccc;white-space:nowrap}"
        ".l{text-align:left;white-space:normal}"
    )
    head = f'<meta charset="utf-8"><title>{_safe(table.title)}</title><style>{style}</style>'
    return "\n".join(["<!doctype html>", f'<html lang="en"><head>{head}</head><body>', *body, "</body></html>", ""])


def _html_grid(drawn: Grid) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=l' if place < drawn.labels else ''}>{_safe(text)}</{tag}>"
            for place, text in enumerate(row)
        )

    rows = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in drawn.rows)
    return f"<div><table>\n<tr>{cells('th', drawn.header)}</tr>\n{rows}\n</table></div>"


def _safe(text: str) -> str:
    return html.escape(text, quote=True)


def to_csv(shown: Page) -> str:
    """One line for each row, metric and band, with everything in columns of its own."""
    rows = []
    changes = {row[0]: row[1:] for row in _changes(shown)}
    for block in shown.blocks:
        for line in block.lines:
            recipe, changed = changes[f"{block.part.title}: {line.row.label}"]
            for band, cell in line.cells.items():
                low, high = cell.interval or (None, None)
                row = {
                    "table": shown.series.table.name,
                    "part": block.part.title,
                    "row": line.row.label,
                    "metric": block.metric,
                    "better": PRINTED[block.metric],
                    "band": band,
                    "paper": cell.paper,
                    "paper_difference": cell.paper_difference,
                    "ours_metric": block.ours if cell.ours is not None else None,
                    "ours": _plain(cell.ours),
                    "spread": _plain(cell.spread),
                    "seeds": len(line.seeds),
                    "images": cell.images,
                    "baseline": line.row.baseline,
                    "difference": _plain(cell.difference),
                    "low": _plain(low),
                    "high": _plain(high),
                    "recipe": recipe,
                    "changes": changed,
                    "missing": line.reason,
                    "note": line.row.note,
                }
                rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None else format(value, ".9g")


def _command(shown: Page) -> str:
    series = shown.series
    table = series.table.name if series.table.name in table_names() else f"{series.table.name}.toml"
    name = f" --name {series.name}" if series.name != series.scale_name else ""
    return f"cicm table render {table} --scale {series.scale_name}{name}"


FORMATS: dict[str, Callable[[Page], str]] = {".md": markdown, ".tex": latex, ".csv": to_csv, ".html": to_html}
"""Ending of the file -> writer."""
