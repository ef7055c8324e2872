"""Rendering from records with chosen numbers: ours beside the paper's in four formats, differences, spread, reasons."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.evaluation.protocol import Protocol
from cicm.evaluation.records import Evaluation, ImageScores, Record
from cicm.tables import Series, Table
from cicm.tables.figures import curves, save_curves
from cicm.tables.page import page
from cicm.tables.rendering import FORMATS, grid, latex, markdown, to_csv, to_html

BANDS = {"0-20": "few", "20-40": "some", "40-60": "most"}


def protocol(**changes: object) -> Protocol:
    plain = {
        "sizes": "cut",
        "groups": ("32x32",),
        "bands": BANDS,
        "scored": "composite",
        "rounding": "8 bit",
        "masks": "a list",
        "metrics": {"psnr": "cap 100", "l1": "x 100"},
        "pairs_sha256": "ab" * 32,
        "pixels_sha256": "cd" * 32,
        "num_pairs": 6,
        "num_images": 2,
    }
    return Protocol(**{**plain, **changes})


def put(series: Series, label: str, seed: int, psnr: float, terms: Protocol | None = None) -> Path:
    """A record of two images a band: psnr -+ 1 dB, half a dB less in each further band."""
    (job,) = series.jobs([label], [seed])[0]
    terms = terms or protocol()
    records, images = [], []
    for place, band in enumerate(BANDS):
        for metric, value in (("psnr", psnr - place / 2), ("l1", 2.0 + place)):
            records.append(
                Record(
                    protocol=terms,
                    method=label,
                    detail="d",
                    band=band,
                    group="32x32",
                    metric=metric,
                    value=value,
                    reason=None,
                    note=None,
                    std=1.0,
                    interval=(value - 1, value + 1),
                    n=2,
                    seed=seed,
                    commit="c0ffee",
                    seconds=0.25,
                    hardware="a machine",
                )
            )
        for name, shift in (("a.png", -1.0), ("b.png", 1.0)):
            scores = {"psnr": psnr - place / 2 + shift, "l1": 2.0 + place}
            images.append(ImageScores(label, "32x32", band, name, f"{band}.png", 0.1, scores))
    target = series.target(job)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_suffix(".toml").write_text(job.recipe.to_toml())
    Evaluation(tuple(records), tuple(images)).save(target, overwrite=True)
    return target


@pytest.fixture
def made(series: Series, toy: Table) -> Series:
    """Two seeds of the plain network, three of the one with memory, which is 1 and 2 dB better with the same seed."""
    for label, seed, psnr in [
        ("plain", 0, 20.0), ("plain", 1, 21.0), ("w/ memory", 0, 21.0), ("w/ memory", 1, 23.0), ("w/ memory", 2, 30.0),
    ]:  # fmt: skip
        put(series, label, seed, psnr)
    return Series(toy, "toy")


def test_numbers_by_hand(made: Series) -> None:
    shown = page(made)
    assert [(block.metric, block.ours) for block in shown.blocks] == [("psnr", "psnr"), ("l1", "l1")]
    plain, memory, absent = shown.blocks[0].lines
    assert (plain.seeds, memory.seeds, absent.seeds) == ((0, 1), (0, 1, 2), ())
    cell = memory.cells["20-40"]
    assert cell.paper == "10.10"
    assert cell.paper_difference == "-0.10"
    assert cell.ours == pytest.approx((20.5 + 22.5 + 29.5) / 3)
    assert cell.spread == pytest.approx(4.7258156)  # of 20.5, 22.5, 29.5 with n - 1
    assert cell.difference == pytest.approx(1.5)  # over the two seeds that both have
    assert cell.interval == pytest.approx((1.5, 1.5))  # every image gained as much
    assert cell.images == 2
    assert plain.cells["0-20"].difference is None
    assert absent.reason == "SRM is not among our networks"
    assert shown.blocks[1].lines[0].cells["0-20"].paper is None


MARKDOWN = """\
### PSNR ↑ [dB]

|  | seeds | against | 0-20 % paper | 0-20 % ours | 0-20 % Δ paper | 0-20 % Δ ours | 20-40 % paper | 20-40 % ours | \
20-40 % Δ paper | 20-40 % Δ ours | 40-60 % paper | 40-60 % ours | 40-60 % Δ paper | 40-60 % Δ ours |
| :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| plain | 2 | - | 20.10 | 20.500 ± 0.707 | - | - | 10.20 | 20.000 ± 0.707 | - | - | 5.30 | 19.500 ± 0.707 | - | - |
| w/ memory [1] | 3 | plain | 20.30 | 24.667 ± 4.726 | +0.20 | +1.500 [+1.500, +1.500] | 10.10 | 24.167 ± 4.726 | \
-0.10 | +1.500 [+1.500, +1.500] | 6.00 | 23.667 ± 4.726 | +0.70 | +1.500 [+1.500, +1.500] |
| SRM [2] | - | - | 30.00 | - | - | - | 20.00 | - | - | - | 10.00 | - | - | - |

### L1 ↓ [%]

|  | seeds | against | 0-20 % ours | 0-20 % Δ ours | 20-40 % ours | 20-40 % Δ ours | 40-60 % ours | 40-60 % Δ ours |
| :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| plain | 2 | - | 2.000 ± 0.000 | - | 3.000 ± 0.000 | - | 4.000 ± 0.000 | - |
"""


def test_markdown_is_as_it_was_written_by_hand(made: Series) -> None:
    text = markdown(page(made))
    assert MARKDOWN in text
    assert text.startswith("# Toy\n\nTwo rows.\n")
    for line in (
        "[1] printed: a doubt  ",
        "[2] none of ours: SRM is not among our networks  ",
        "- scale toy: three steps",
        "- pictures: 32x32; cut; 2 photos, 6 holes, list abababababab, pixels cdcdcdcdcdcd; a list",
        "- scored: composite; 8 bit",
        "- code: c0ffee",
        "- scored on: a machine",
        "| Toys: plain | unet-cicm-toy | model.memories={} |",
        "Made by `cicm table render toy.toml --scale toy`.",
    ):
        assert line in text.splitlines()


def test_latex_is_a_table_of_as_many_columns_everywhere(made: Series) -> None:
    text = latex(page(made))
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 2
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    columns = [len(re.split(r"(?<!\\)&", row)) for row in rows]
    assert columns == [15, 15, 15, 15, 9, 9, 9, 9]
    assert rows[1].startswith("plain & 2 & - & 20.10 & 20.500 $\\pm$ 0.707 & ")
    assert "\\begin{tabular}{lrrrrrrrrrrrrrr}" in text
    assert "0-20 \\% $\\Delta$ ours" in text
    assert "PSNR $\\uparrow$" in text
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[%#]|[↑↓±Δ]", body.replace("!}{%\n", "")), "something is not escaped"


def test_csv_has_everything_in_columns_and_the_printed_digits(made: Series) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(page(made)))))
    assert list(rows[0])[:8] == ["table", "part", "row", "metric", "better", "band", "paper", "paper_difference"]
    assert len(rows) == 2 * 3 * 3
    (found,) = [r for r in rows if (r["row"], r["metric"], r["band"]) == ("w/ memory", "psnr", "40-60")]
    assert (found["paper"], found["paper_difference"], found["better"]) == ("6.00", "+0.70", "higher")
    assert float(found["ours"]) == pytest.approx((20 + 22 + 29) / 3)
    assert (found["seeds"], found["images"], found["baseline"], found["note"]) == ("3", "2", "plain", "a doubt")
    assert [float(found[name]) for name in ("difference", "low", "high")] == pytest.approx([1.5, 1.5, 1.5])


def test_html_is_well_formed_and_escaped(made: Series) -> None:
    class Balance(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.cells: list[str] = []

        def handle_starttag(self, tag: str, attrs: list) -> None:
            if tag not in ("meta",):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

        def handle_data(self, data: str) -> None:
            if self.open and self.open[-1] in ("td", "th"):
                self.cells.append(data)

    shown = page(made)
    object.__setattr__(shown.series.table, "caption", "<script>alert(1)</script>")
    text = to_html(shown)
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    assert "<script" not in text
    for cell in [cell for row in grid(shown.blocks[0], tuple(BANDS), shown.notes).rows for cell in row]:
        assert cell in parser.cells


def test_nothing_made_yet_still_shows_what_is_printed(series: Series) -> None:
    shown = page(series)
    assert {line.reason for line in shown.blocks[0].lines} == {"not run yet", "SRM is not among our networks"}
    assert "| plain [1] | - | - | 20.10 | - |" in markdown(shown)
    assert all(writer(shown) for writer in FORMATS.values())


def test_a_record_of_another_protocol_is_refused_with_what_to_do(made: Series, toy: Table) -> None:
    for changes in ({"pairs_sha256": "ee" * 32}, {"scored": "raw"}, {"metrics": {"psnr": "cap 50", "l1": "x 100"}}):
        put(made, "w/ memory", 1, 23.0, protocol(**changes))
        with pytest.raises(InputError, match=r"(?s)row 'w/ memory', seed 1 .*measured differently.*Remove .*--name"):
            page(Series(toy, "toy"))


def test_a_record_that_was_changed_by_hand_is_refused(made: Series, toy: Table) -> None:
    table = made.results / "toy/toys/plain-0.images.csv"
    table.write_text(table.read_text().replace("a.png", "c.png"))
    with pytest.raises(InputError, match="is not the table that was written with"):
        page(Series(toy, "toy"))


def test_a_stand_in_is_called_one(series: Series, toy: Table) -> None:
    target = put(series, "plain", 0, 20.0)
    target.write_text(target.read_text().replace('"l1"', '"sqz-distance"'))
    images = target.with_name("plain-0.images.csv")
    content = images.read_text().replace("l1", "sqz-distance")
    images.write_text(content)
    import hashlib

    digest = re.search(r'"sha256": "(\w+)"', target.read_text())
    assert digest
    target.write_text(target.read_text().replace(digest[1], hashlib.sha256(content.encode()).hexdigest()))
    titles = [block.title for block in page(Series(toy, "toy")).blocks]
    assert titles[-1] == "LPIPS ↓, ours: sqz-distance, a stand-in that is no LPIPS"


def test_the_command_prints_or_writes(made: Series, house: Path, capsys) -> None:
    words = ["table", "render", "toy.toml", "--scale", "toy"]
    assert main(words) == 0
    assert MARKDOWN in capsys.readouterr().out
    for ending, write in FORMATS.items():
        assert main([*words, "-o", f"out{ending}"]) == 0
        assert (house / f"out{ending}").read_text() == write(page(made))
    assert main([*words, "-o", "out.md"]) == 2
    assert "out.md exists" in capsys.readouterr().err


# Figures --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn(house: Path) -> Series:
    from cicm.tables import load_table

    text = (
        (house / "toy.toml")
        .read_text()
        .partition("[[part]]")[0]
        .replace('title = "Toy"', 'title = "F"\nbands = ["20-40"]')
    )
    text += '[[part]]\ntitle = "sets"\ndata = "pictures"\naxis = "number of sets L"\n'
    for x in (5, 1, 3):
        text += f'[[part.row]]\nlabel = "L = {x}"\nrecipe = "unet-cicm-toy"\nx = {x}\n'
        text += f'set = {{ "model.memories.bottom.sets" = {x} }}\n'
    (house / "curve.toml").write_text(text)
    table = load_table("curve.toml")
    series = Series(table, "toy")
    for label, seed, psnr in [("L = 1", 0, 20.0), ("L = 1", 1, 21.0), ("L = 5", 0, 24.0)]:
        put(series, label, seed, psnr)
    return Series(table, "toy")


def test_a_curve_runs_over_the_rows_that_were_made(drawn: Series) -> None:
    (curve,) = curves(page(drawn))
    assert (curve.x, curve.band, curve.metric) == ((1.0, 5.0), "20-40", "psnr")
    assert curve.y == pytest.approx((20.0, 23.5))
    assert curve.spread[0] == pytest.approx(0.70710678)
    assert curve.spread[1] != curve.spread[1]  # one seed has no spread
    assert curve.seconds == (0.25, 0.25)


def test_no_curve_where_there_is_none(drawn: Series, made: Series) -> None:
    with pytest.raises(InputError, match="no row of curve has been made with lpips"):
        curves(page(drawn), ["lpips"])
    with pytest.raises(InputError, match="the metrics are"):
        curves(page(drawn), ["psrn"])
    with pytest.raises(InputError, match="toy has no curves"):
        curves(page(made))


def test_curves_become_a_picture_once(drawn: Series, house: Path, capsys) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is in the extra `figures`")
    for ending in ("png", "svg", "pdf"):
        words = ["figure", "curve.toml", "--scale", "toy", "-o", f"curve.{ending}"]
        assert main(words) == 0
        data = (house / f"curve.{ending}").read_bytes()
        assert len(data) > 5000
        if ending == "png":
            assert data.startswith(b"\x89PNG")
        if ending == "svg":
            assert b"number of sets L" in data or b"<svg" in data
        capsys.readouterr()
        assert main(words) == 2
        assert "exists. Choose another name" in capsys.readouterr().err


def test_without_matplotlib_the_error_says_what_to_install(drawn: Series, house: Path, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"pip install \"cicm\[figures\]\""):
        save_curves(house / "a.png", curves(page(drawn)))
    assert not (house / "a.png").exists()


def test_figures_that_cannot_be_drawn_say_why(house: Path, capsys) -> None:
    for words, message in (
        ([], "name the figure"),
        (["3", "-o", "a.jpg"], "must end in .png or .svg or .pdf"),
        (["3", "-o", "no/a.png"], "the folder no of the picture does not exist"),
        (["3", "-o", "a.png"], "first: cicm table run figure3"),
        (["4", "-o", "a.png"], "has trained weights"),
    ):
        assert main(["figure", *words]) == 2, words
        err = capsys.readouterr().err
        assert message in err, words
        assert err.count("\n") == 1, words
