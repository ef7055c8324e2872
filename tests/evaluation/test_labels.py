"""Scores by labels: confusions, PSNR by class and read sets as counted by hand; blocks of frames for intervals."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.assembly import LabelsConfig, ModelConfig, build, save_weights
from cicm.conventions import InputError
from cicm.data.pairs import make_pairs
from cicm.datasets import LAYOUTS, photos_of
from cicm.evaluation.intervals import block_interval, blocks_of, interval
from cicm.evaluation.labels import ImageLabels, accuracy, miou, score_labels, summed
from cicm.evaluation.methods import Model
from cicm.evaluation.plan import Plan, label_files, make_plan
from cicm.evaluation.scoring import evaluate
from cicm.memory import MemoryConfig

LABELS = LabelsConfig("camvid", "known", prior=20.0)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Four frames of two films, 64x64, in blocks of 16 of one class; their test split."""
    monkeypatch.setitem(LAYOUTS, "camvid", replace(LAYOUTS["camvid"], counts={"train": 0, "val": 0, "test": 4}))
    rng = np.random.default_rng(0)
    for name in ("0001TP_000001", "0001TP_000002", "Seq05VD_f00000", "Seq05VD_f00030"):
        label = rng.integers(0, 12, (4, 4), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        for part, values in (("image", rng.integers(0, 255, (64, 64, 3), np.uint8)), ("label", label)):
            (tmp_path / "test" / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(tmp_path / "test" / part / f"{name}.png")
    pairs = make_pairs(tmp_path, sizes=(64,), bands=["20-40", "40-60"], photos=photos_of(tmp_path, "camvid", "test"))
    return make_plan(tmp_path, None, pairs, labels=label_files(tmp_path, "camvid", "test"))


def model(folder: Path, labels: LabelsConfig | None) -> Model:
    torch.manual_seed(0)
    config = ModelConfig("unet", {"width": 2}, {"bottom": MemoryConfig(sets=11, contexts=2)}, labels)
    made = build(config)
    made.memories["bottom"].seed_(torch.randn(50, 16), torch.Generator().manual_seed(0))
    return Model(save_weights(folder / "model.safetensors", made, config, overwrite=True))


def test_the_model_gets_its_maps_and_the_record_says_which(plan: Plan, tmp_path: Path) -> None:
    method = model(tmp_path, LABELS)
    with torch.no_grad():
        torch.nn.init.normal_(method.model.guide.enter[2].weight)  # type: ignore[union-attr,index,arg-type]
    scored, _ = evaluate([method], plan, ["psnr"])
    detail = "labels known, 11 classes of camvid, void no class, resized to the nearest"
    assert scored.records[0].detail.endswith(detail)
    blind, _ = evaluate([method], replace(plan, labels=None), ["psnr"])
    assert blind.records[0].detail.endswith(f"{detail}; no label maps were given")
    assert blind.records[0].value != scored.records[0].value
    plain, _ = evaluate([model(tmp_path, None)], plan, ["psnr"])
    assert "labels" not in plain.records[0].detail


def test_scores_by_labels_are_those_counted_pixel_by_pixel(plan: Plan, tmp_path: Path) -> None:
    method = model(tmp_path, replace(LABELS, source="oracle"))
    report = score_labels(method, plan, batch_size=3)
    scores = report.scores["20-40"]
    assert scores["read"].value == 1.0, "an oracle with a strong prior reads what is there"
    assert scores["accuracy"].value == pytest.approx(1.0, abs=0.05)
    assert scores["smooth-accuracy"].value < 0.97  # type: ignore[operator]
    # PSNR of one class, by hand
    squares, pixels = 0.0, 0
    cell = next(cell for cell in plan.cells if cell.band == "20-40")
    from cicm.evaluation.scoring import batches

    for _, image, hole, label in batches(plan, cell, 1, labels=True):
        assert label is not None
        filled = (method.run(image * (1 - hole), hole, label).composite.clamp(0, 1) * 255).round() / 255
        here = (label[0] == 3) & (hole[0, 0] > 0)
        squares += float((filled - image)[0][:, here].square().sum())
        pixels += int(here.sum())
    assert scores["psnr Road"].value == pytest.approx(-10 * math.log10(squares / (3 * pixels)), abs=1e-4)
    assert sum(sum(row["pixels"]) for row in report.images["20-40"]) == sum(
        r["counted"] for r in report.images["20-40"]
    )
    report.save(tmp_path / "a.labels.json")
    assert json.loads((tmp_path / "a.labels.json").read_text())["scores"]["20-40"]["read"]["value"] == 1.0


def test_a_model_without_labels_is_scored_by_class_alone(plan: Plan, tmp_path: Path) -> None:
    scores = score_labels(model(tmp_path, None), plan).scores["40-60"]
    assert {"accuracy", "miou", "read"}.isdisjoint(scores)
    assert {"smooth-accuracy", "smooth-miou", "psnr Road"} <= set(scores)
    with pytest.raises(InputError, match="need label maps"):
        score_labels(model(tmp_path, None), replace(plan, labels=None))


def test_accuracy_and_miou_by_hand() -> None:
    confusion = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    assert accuracy(confusion) == 0.75
    assert miou(confusion) == pytest.approx((6 / 9 + 3 / 6) / 2), "a class in neither is left out"
    assert math.isnan(miou(np.zeros((2, 2))))


def test_the_confusion_is_summed_over_the_set() -> None:
    rows = [
        ImageLabels(f"x_{n}", np.array([[n, 1], [0, 1]]), np.eye(2), np.array([0.3, 0.0]), np.array([1, 0]), n, 2)
        for n in (1, 2)
    ]
    found = summed(rows, ["a", "b"], block=1)
    assert found["accuracy"].value == pytest.approx(5 / 7)
    assert found["psnr a"].value == pytest.approx(10.0)
    assert found["psnr b"].value is None
    assert found["read"].value == pytest.approx(3 / 4)
    assert found["read"].interval == pytest.approx((0.5, 1.0))


def test_blocks_are_frames_of_one_film_in_their_order() -> None:
    names = ["t/a_3.png", "t/a_1.png", "t/b_1.png", "t/a_2.png", "t/a_4.png", "t/a_5.png"]
    assert blocks_of(names, 2) == ["a 1", "a 0", "b 0", "a 0", "a 1", "a 2"]


def test_blocks_of_one_give_the_plain_bootstrap_and_blocks_of_alike_frames_a_wider_one() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=12), 20)
    sums = np.stack([values, np.ones_like(values)], 1)
    mean = lambda added: added[0] / added[1]  # noqa: E731
    single = block_interval(sums, [str(n) for n in range(240)], mean)
    assert single == pytest.approx(interval(values), abs=0.02)
    blocks = block_interval(sums, [str(n // 20) for n in range(240)], mean)
    assert blocks is not None
    assert single is not None
    assert blocks[1] - blocks[0] > 3 * (single[1] - single[0])
    assert block_interval(sums, ["one"] * 240, mean) is None
