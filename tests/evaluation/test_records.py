"""Records: strict JSON there and back, one protocol per file, nothing written over."""

from __future__ import annotations

import dataclasses
import json

import pytest

from cicm.conventions import InputError
from cicm.evaluation.protocol import COMPOSITE, RAW, ROUNDING, SIZES, Protocol
from cicm.evaluation.records import Evaluation, ImageScores, Record, images_path

PROTOCOL = Protocol(
    sizes=SIZES["crop"],
    groups=("256x256",),
    bands={"0-20": "0% to 20%"},
    scored=COMPOSITE,
    rounding=ROUNDING,
    metrics={"psnr": "peak", "ssim": "window 7"},
    masks="files",
    pairs_sha256="aa",
    pixels_sha256="bb",
    num_pairs=2,
    num_images=2,
    software={"torch": "1"},
)
RECORD = Record(
    protocol=PROTOCOL,
    method="mean",
    detail="mean colour",
    band="0-20",
    group="256x256",
    metric="psnr",
    value=20.125,
    reason=None,
    note=None,
    std=0.1 + 0.2,  # a number that does not survive anything but a full round trip
    interval=(19.0, 21.0),
    n=2,
    seed=3,
    commit="0123456789ab",
    seconds=0.001,
    hardware="a processor",
)
ABSENT = dataclasses.replace(RECORD, metric="fid", value=None, reason="needs FILE", std=None, interval=None, seed=None)
IMAGES = (
    ImageScores("mean", "256x256", "0-20", "a.png", "m, 1.png", 0.125, {"psnr": 20.0}),
    ImageScores("mean", "256x256", "0-20", 'b "x".png', "m2.png", 1 / 3, {"psnr": 20.25}),
)


def test_json_round_trip(tmp_path):
    before = Evaluation((RECORD, ABSENT), IMAGES)
    written = before.save(tmp_path / "scores.json")
    assert written == [tmp_path / "scores.json", tmp_path / "scores.images.csv"]
    after = Evaluation.load(tmp_path / "scores.json")
    assert after.records == before.records
    assert after.protocol.software == {"torch": "1"}  # not part of equality, but kept
    assert [row.scores for row in after.images] == [row.scores for row in IMAGES]
    assert [(row.image, row.mask) for row in after.images] == [(row.image, row.mask) for row in IMAGES]
    assert after.images[1].missing == pytest.approx(1 / 3, rel=1e-8)  # nine digits
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scores.images.csv", "scores.json"]


def test_missing_metric_is_null_with_its_reason(tmp_path):
    Evaluation((RECORD, ABSENT)).save(tmp_path / "scores.json")
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["records"][1]["value"] is None
    assert content["records"][1]["reason"] == "needs FILE"
    assert content["images"] is None


def test_a_value_or_a_reason():
    for value, reason in ((None, None), (1.0, "why")):
        with pytest.raises(InputError, match="either a value or a reason"):
            dataclasses.replace(RECORD, value=value, reason=reason)


def test_protocols_that_differ_can_not_be_mixed():
    for change in (
        {"scored": RAW},
        {"pairs_sha256": "cc"},
        {"pixels_sha256": "cc"},
        {"metrics": {"psnr": "peak", "ssim": "window 11"}},
        {"sizes": SIZES["reduce"]},
        {"groups": ("128x128",)},
    ):
        other = dataclasses.replace(RECORD, method="telea", protocol=dataclasses.replace(PROTOCOL, **change))
        with pytest.raises(InputError, match=f"measured differently.*{next(iter(change))}"):
            Evaluation((RECORD, other))
        with pytest.raises(InputError, match="measured differently"):
            Evaluation.join([Evaluation((RECORD,)), Evaluation((other,))])


def test_other_versions_and_more_metrics_still_fit():
    protocol = dataclasses.replace(PROTOCOL, software={"torch": "2"}, metrics={"psnr": "peak", "fid": "2048"})
    joined = Evaluation.join([Evaluation((RECORD,)), Evaluation((dataclasses.replace(ABSENT, protocol=protocol),))])
    assert joined.methods == ["mean"]


def test_one_cell_has_room_for_one_record():
    with pytest.raises(InputError, match="two records for mean 256x256 0-20 psnr"):
        Evaluation((RECORD, dataclasses.replace(RECORD, value=1.0)))


def test_nothing_is_written_over(tmp_path):
    path = tmp_path / "scores.json"
    Evaluation((RECORD,), IMAGES).save(path)
    before = path.read_bytes(), images_path(path).read_bytes()
    other = Evaluation((dataclasses.replace(RECORD, value=1.0),), IMAGES[:1])
    with pytest.raises(InputError, match="--overwrite"):
        other.save(path)
    path.unlink()
    with pytest.raises(InputError, match=r"images\.csv exists"):
        other.save(path)
    assert not path.exists()
    assert images_path(path).read_bytes() == before[1]
    other.save(path, overwrite=True)
    assert Evaluation.load(path).records[0].value == 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: "", "empty"),
        (lambda text: "[1]", "with format"),
        (lambda text: text[: len(text) // 2], "can't be read"),
        (lambda text: text.replace("20.125", "NaN"), "finite"),
        (lambda text: text.replace("20.125", "1e999"), "finite"),
        (lambda text: text.replace("20.125", '"20.125"'), r"records\[0\]\.value must be"),
        (lambda text: text.replace("20.125", "true"), r"records\[0\]\.value must be"),
        (lambda text: text.replace('"n": 2', '"n": 2.5'), r"records\[0\]\.n must be"),
        (
            lambda text: text.replace('"seed": 3', '"sead": 3'),
            r"unknown key 'records\[0\]\.sead'; did you mean 'records\[0\]\.seed'",
        ),
        (lambda text: text.replace("scores.images.csv", "../scores.images.csv"), "beside it"),
        (lambda text: text.replace("cicm-evaluation-1", "cicm-evaluation-9"), "with format"),
        (lambda text: "[" * 100_000, "can't be read"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path, change, words):
    path = tmp_path / "scores.json"
    Evaluation((RECORD,), IMAGES).save(path)
    text = path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text, "the change found nothing to change"
    with pytest.raises(InputError, match=words) as caught:
        Evaluation.load(path)
    assert "\n" not in str(caught.value)


def test_the_table_of_images_must_be_the_one_written_with_it(tmp_path):
    path = tmp_path / "scores.json"
    Evaluation((RECORD,), IMAGES).save(path)
    table = images_path(path)
    table.write_text(table.read_text().replace("20.25", "30.25"))
    with pytest.raises(InputError, match="not the table that was written with"):
        Evaluation.load(path)
    table.unlink()
    with pytest.raises(InputError, match="does not exist"):
        Evaluation.load(path)


def test_explain_names_every_field():
    text = PROTOCOL.explain()
    for item in dataclasses.fields(Protocol):
        assert item.name.replace("_", " ") in text
    assert "window 7" in text
    assert "bb" in text
