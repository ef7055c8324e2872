"""Paired comparison: equals a loop over images; refuses what was not scored on the same terms."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

from cicm.conventions import InputError
from cicm.evaluation.compare import compare, load_runs
from cicm.evaluation.intervals import interval
from cicm.evaluation.records import Evaluation, ImageScores
from cicm.evaluation.tables import comparison_table, notes, table

from .test_records import ABSENT, PROTOCOL, RECORD

FRECHET = dataclasses.replace(RECORD, metric="fid", value=30.0, std=None, interval=None, note="N=2: small")


def evaluation_of(method: str, psnr: list[float], l1: list[float], *, fid: float | None = None, **protocol):
    """Scores of photos 0, 1, 2 ... as a run would give them."""
    terms = dataclasses.replace(PROTOCOL, metrics={"psnr": "peak", "l1": "x 100", "fid": "2048"}, **protocol)
    common = {"protocol": terms, "method": method, "n": len(psnr)}
    records = [
        dataclasses.replace(RECORD, metric=name, value=float(np.mean(values)), **common)
        for name, values in (("psnr", psnr), ("l1", l1))
    ]
    records.append(dataclasses.replace(FRECHET if fid else ABSENT, **common, **({"value": fid} if fid else {})))
    images = [
        ImageScores(method, "256x256", "0-20", f"{i}.png", f"m{i}.png", 0.1, {"psnr": a, "l1": b})
        for i, (a, b) in enumerate(zip(psnr, l1))
    ]
    return Evaluation(tuple(records), tuple(images))


def test_differences_by_hand():
    first = evaluation_of("a", [20.0, 22.0, 30.0, 25.0], [4.0, 3.0, 1.0, 2.0], fid=30.0)
    second = evaluation_of("b", [21.0, 22.0, 33.0, 24.0], [3.0, 3.5, 1.0, 1.0], fid=28.0)
    found = {c.metric: c for c in compare([(first, "a")], [(second, "b")])}
    psnr, l1, fid = found["psnr"], found["l1"], found["fid"]
    assert (psnr.first, psnr.second, psnr.difference) == (24.25, 25.0, 0.75)
    assert psnr.improved == 0.5  # images 0 and 2; image 1 is a tie
    assert psnr.interval == interval([1.0, 0.0, 3.0, -1.0])
    assert l1.difference == -0.375
    assert l1.improved == 0.5  # lower is better: images 0 and 3
    assert (fid.difference, fid.interval, fid.improved, fid.n) == (-2.0, None, None, 4)
    assert psnr.first_spread is None
    assert psnr.by_seed == (0.75,)


def test_paired_interval_equals_an_independent_loop():
    rng = np.random.default_rng(5)
    base = rng.normal(25, 5, 60)  # photos differ by much more than the methods do
    first = evaluation_of("a", list(base), [1.0] * 60)
    second = evaluation_of("b", list(base + rng.normal(0.3, 0.5, 60)), [1.0] * 60)
    (psnr, _) = compare([(first, "a")], [(second, "b")])
    a = [row.scores["psnr"] for row in first.images]
    b = [row.scores["psnr"] for row in second.images]
    means = []
    for _ in range(4000):
        drawn = rng.integers(0, 60, 60)
        means.append(np.mean([b[i] for i in drawn]) - np.mean([a[i] for i in drawn]))
    low, high = np.quantile(means, [0.025, 0.975])
    slack = 4 * 0.075 * 0.5 / np.sqrt(60)  # four times the error of a quantile of 2,000 and of 4,000 means
    assert psnr.interval[0] == pytest.approx(low, abs=slack)
    assert psnr.interval[1] == pytest.approx(high, abs=slack)
    unpaired = interval(b)[1] - interval(b)[0]
    assert psnr.interval[1] - psnr.interval[0] < unpaired / 4, "the pairs were lost"


def test_several_seeds_give_mean_and_spread():
    first = [evaluation_of("a", [20.0 + s, 24.0 + s], [1.0, 1.0]) for s in (0.0, 1.0, 2.0)]
    second = [evaluation_of("b", [22.0 + s, 25.0], [1.0, 1.0]) for s in (0.0, 0.5, 1.0)]
    (psnr, l1) = compare([(e, "a") for e in first], [(e, "b") for e in second])
    assert (psnr.first, psnr.second) == (23.0, 23.75)
    assert psnr.first_spread == pytest.approx(1.0)
    assert psnr.second_spread == pytest.approx(0.25)
    assert psnr.by_seed == pytest.approx((1.5, 0.75, 0.0))
    assert psnr.interval == interval([22.5 - 21.0, 25.0 - 25.0])  # images, averaged over seeds
    assert psnr.improved == 0.5
    assert l1.difference == 0
    uneven = compare([(first[0], "a")], [(e, "b") for e in second])
    assert uneven[0].by_seed == ()


def test_the_order_of_photos_does_not_matter():
    first = evaluation_of("a", [20.0, 22.0, 30.0], [1.0, 2.0, 3.0])
    second = evaluation_of("b", [21.0, 25.0, 30.5], [1.0, 2.0, 3.0])
    turned = Evaluation(second.records, second.images[::-1])
    assert compare([(first, "a")], [(second, "b")]) == compare([(first, "a")], [(turned, "b")])


def test_other_terms_are_refused():
    for change in ({"pairs_sha256": "cc"}, {"pixels_sha256": "cc"}, {"scored": "raw"}):
        first, second = evaluation_of("a", [1.0, 2.0], [1.0, 1.0]), evaluation_of("b", [1.0, 2.0], [1.0, 1.0], **change)
        with pytest.raises(InputError, match=f"not scored on the same terms: {next(iter(change))}"):
            compare([(first, "a")], [(second, "b")])


def test_other_photos_are_refused():
    first, second = evaluation_of("a", [1.0, 2.0], [1.0, 1.0]), evaluation_of("b", [1.0, 2.0, 3.0], [1.0] * 3)
    with pytest.raises(InputError, match="different photos at 256x256 0-20, psnr: 3 and 2, 2 in common"):
        compare([(first, "a")], [(second, "b")])


def test_scores_of_images_are_needed():
    first = evaluation_of("a", [1.0, 2.0], [1.0, 1.0])
    with pytest.raises(InputError, match="no scores of single images by 'a'"):
        compare([(Evaluation(first.records), "a")], [(first, "a")])


def test_runs_are_named_on_the_command_line(tmp_path):
    one = evaluation_of("a", [1.0, 2.0], [1.0, 1.0])
    both = Evaluation.join([one, evaluation_of("b", [1.0, 3.0], [1.0, 1.0])])
    one.save(tmp_path / "one.json")
    both.save(tmp_path / "both.json")
    assert [name for _, name in load_runs(f"{tmp_path}/one.json,{tmp_path}/both.json:b")] == ["a", "b"]
    with pytest.raises(InputError, match=r"holds a, b; say which one: .*both\.json:a"):
        load_runs(f"{tmp_path}/both.json")
    with pytest.raises(InputError, match="no method 'c'"):
        load_runs(f"{tmp_path}/both.json:c")
    with pytest.raises(InputError, match="does not exist"):
        load_runs(f"{tmp_path}/none.json")


# Tables


def test_table_in_markdown():
    both = Evaluation.join(
        [evaluation_of("a|b", [20.0, 21.0], [1.0, 2.0]), evaluation_of("c", [30.0, 31.0], [0.5, 0.25])]
    )
    assert table(both).markdown().splitlines() == [
        "| size | band | method | psnr [dB] ↑ | l1 [%] ↓ | fid ↓ |",
        "| :--- | :--- | :--- | ---: | ---: | ---: |",
        "| 256x256 | 0-20 | a\\|b | 20.50 | 1.500 | n/a: needs FILE |",
        "| 256x256 | 0-20 | c | 30.50 | 0.375 | n/a |",
    ]


def test_a_metric_that_one_method_lacks_tells_why_and_no_cell_is_empty():
    joined = Evaluation.join([evaluation_of("a", [20.0], [1.0], fid=9.5), evaluation_of("b", [20.0], [1.0])])
    extra = dataclasses.replace(joined.records[0], metric="ssim", value=0.5)
    grid = table(Evaluation((*joined.records, extra)))
    column = grid.header.index("fid ↓")
    assert [row[column] for row in grid.rows] == ["9.50", "n/a: needs FILE"]
    assert [row[grid.header.index("ssim ↑")] for row in grid.rows] == ["0.5000", "not scored"]
    assert all(cell for row in grid.rows for cell in row)
    assert notes(joined) == ["fid at 256x256: N=2: small"]


def test_terminal_table_shows_every_number_and_unit():
    for width in (50, 70, 200):
        joined = evaluation_of("[bold]odd[/bold]", [20.0, 21.0], [1.0, 2.0])
        console = Console(width=width, record=True, file=io.StringIO())
        for part in table(joined).rich(width):
            console.print(part)
        text = console.export_text()
        for part in ("20.50", "1.500", "[bold]odd[/bold]", "[dB]", "FILE"):
            assert part in text, f"{part} is cut at {width} characters"


def test_comparison_table():
    first = [evaluation_of("a", [20.0, 22.0], [1.0, 2.0], fid=9.0) for _ in range(2)]
    second = [evaluation_of("b", [21.0, 23.0], [1.0, 2.0], fid=8.0) for _ in range(2)]
    found = compare([(e, "a") for e in first], [(e, "b") for e in second])
    rows = comparison_table(found, "a", "b").rows
    assert rows[0] == [
        *("256x256", "0-20", "psnr [dB] ↑", "21.00 ± 0.00", "22.00 ± 0.00"),
        *("+1.00", "+1.00 to +1.00", "100%", "2", "+1.00 +1.00"),
    ]
    assert rows[2][5:8] == ["-1.00", "none (a score of the set)", "-"]
