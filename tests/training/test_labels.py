"""Training with label maps: batches carry them, the loss falls, and labels of another picture are worth less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.assembly import load_weights
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.datasets import LAYOUTS
from cicm.objectives.labels import LabelObjective, class_weights, label_error
from cicm.objectives.published import Seen
from cicm.photos.labels import VOID
from cicm.recipes import load_recipe
from cicm.training.batches import photos_in, training_photos, training_stream, validation_set

from .conftest import read_log

COLOURS = np.random.default_rng(0).integers(0, 255, (11, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CamVid's layout in small: 6 and 2 pictures of 64x64 whose colour says their class, in blocks of 16."""
    folder = tmp_path_factory.mktemp("street")
    rng = np.random.default_rng(3)
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for part in ("image", "label"):
            (folder / split / part).mkdir(parents=True)
        for number in range(count):
            label = rng.integers(0, 11, (4, 4), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
            picture = (COLOURS[label] * 0.9 + rng.integers(0, 25, (64, 64, 3))).astype(np.uint8)
            label[:3] = 11
            Image.fromarray(picture).save(folder / split / "image" / f"0001TP_{number:06}.png")
            Image.fromarray(label).save(folder / split / "label" / f"0001TP_{number:06}.png")
    return folder


@pytest.fixture(autouse=True)
def small_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = replace(LAYOUTS["camvid"], counts={"train": 6, "val": 2, "test": 2}, size=(64, 64))
    monkeypatch.setitem(LAYOUTS, "camvid", layout)


CHANGES = {
    "model.options.width": 4, "data.crop": 64, "data.batch_size": 4, "data.kinds": ["boxes"], "training.steps": 3,
    "training.warmup_steps": 0, "training.val_images": 2, "training.memory_seed_batches": 2,
    "training.memory_reseed_every_steps": 2, "training.log_every_steps": 1, "model.memories.bottom.contexts": 2,
    "training.precision": "32-true",
}  # fmt: skip


def run(street: Path, output: Path, **more: object) -> Path:
    words = ["train", "unet-cicm-camvid-small", "--data", str(street), "--output", str(output), "--threads", "1"]
    for key, value in {**CHANGES, **more}.items():
        words += ["--set", f"{key}={value}".replace("'", '"')]
    assert main(words) == 0
    return output


def test_a_run_with_labels_learns_writes_and_resumes(street: Path, tmp_path: Path) -> None:
    run(street, tmp_path / "run", **{"training.stop_at": 2})
    run(street, tmp_path / "run")
    whole = run(street, tmp_path / "whole")
    told = [
        record["terms"]["labels.cross_entropy"]
        for record in read_log(tmp_path / "run" / "log.jsonl")
        if "terms" in record
    ]
    assert len(told) == 3
    parts, one = (load_weights(folder / "weights.safetensors") for folder in (tmp_path / "run", whole))
    assert all(torch.equal(a, b) for a, b in zip(parts.model.state_dict().values(), one.model.state_dict().values()))
    assert parts.config.labels is not None
    assert parts.config.labels.source == "known"


def test_micro_batches_give_the_memory_and_the_labels_loss_of_the_whole_batch(street: Path, tmp_path: Path) -> None:
    same = {"training.precision": "64-true", "model.labels.dropped": 0.0, "training.steps": 1}
    whole, parts = (
        run(street, tmp_path / "a", **same),
        run(street, tmp_path / "b", **same, **{"training.accumulate": 2}),
    )
    a, b = (load_weights(folder / "weights.safetensors").model.state_dict() for folder in (whole, parts))
    assert torch.allclose(a["memories.bottom.contexts"], b["memories.bottom.contexts"], atol=1e-6)
    assert torch.equal(a["memories.bottom.mass"].round(decimals=4), b["memories.bottom.mass"].round(decimals=4))


def test_labels_of_another_picture_score_worse(street: Path, tmp_path: Path) -> None:
    more = {"training.steps": 60, "training.lr": 5e-3, "training.log_every_steps": 0, "model.labels.source": "oracle"}
    folder = run(street, tmp_path / "run", **more)
    model = load_weights(folder / "weights.safetensors").model
    recipe = load_recipe("unet-cicm-camvid-small", {**CHANGES, "data.train": str(street), "data.val": str(street)})
    stream = training_stream(recipe.data, training_photos(recipe.data), 0, rank=0, world=1)
    errors = {"own": 0.0, "other": 0.0}
    for step in range(4):
        batch = stream.batch(step)
        for name, label in (("own", batch["label"]), ("other", batch["label"].roll(1, 0))):
            with torch.no_grad():
                filled = model(batch["image"] * (1 - batch["hole"]), batch["hole"], label).composite
            errors[name] += float((filled - batch["image"]).abs().mean())
    assert errors["own"] < 0.9 * errors["other"], errors


def test_validation_crops_have_their_labels(street: Path) -> None:
    data = load_recipe("unet-cicm-camvid-small", {**CHANGES, "data.train": str(street), "data.val": str(street)}).data
    photos = validation_set(data, 2)
    assert photos.labels is not None
    said = photos.labels != VOID
    true = torch.from_numpy(COLOURS)[photos.labels[said].long()].float() * 0.9
    assert float((photos.images.movedim(1, -1)[said].float() - true).abs().max()) < 26


def test_photos_without_a_map_are_left_out_and_none_at_all_is_told(street: Path, tmp_path: Path) -> None:
    data = load_recipe("unet-cicm-camvid-small", {"data.train": str(tmp_path), "data.val": str(tmp_path)}).data
    for number in range(2):
        (tmp_path / "train" / "image").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "train" / "image" / f"{number}.png")
    with (
        pytest.raises(InputError, match="asks for label maps; the split train of camvid"),
        pytest.warns(UserWarning, match="a complete copy has 6"),
    ):
        photos_in(data, "train")
    (tmp_path / "train" / "label").mkdir()
    Image.new("L", (64, 64), 3).save(tmp_path / "train" / "label" / "1.png")
    with pytest.warns(UserWarning, match="have no label"):
        assert [path.name for path in photos_in(data, "train")] == ["1.png"]


def test_a_recipe_that_asks_for_labels_must_have_them() -> None:
    for changes, told in (
        ({"data.labels": False}, "objective.labels is about label maps; set data.labels"),
        ({"data.layout": "celeba"}, "come with the data sets"),
        ({"model.labels.layout": "cityscapes"}, "the model's labels are those of cityscapes"),
    ):
        with pytest.raises(InputError, match=told):
            load_recipe("unet-cicm-camvid-small", changes)


# The loss -------------------------------------------------------------------------------------------------------------


def test_the_error_is_the_weighted_cross_entropy_pixel_by_pixel() -> None:
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    label = torch.randint(0, 3, (2, 8, 8), dtype=torch.uint8)
    label[0, :2] = VOID
    hole = (torch.rand(2, 1, 8, 8, dtype=torch.float64) > 0.5).double()
    weights = torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64)
    total, counted = 0.0, 0.0
    for b in range(2):
        for y in range(8):
            for x in range(8):
                kind = int(label[b, y, x])
                if kind != VOID:
                    weight = float(weights[kind]) * (2.0 if hole[b, 0, y, x] else 1.0)
                    total -= weight * float(logits[b, :, y // 2, x // 2].log_softmax(0)[kind])
                    counted += weight
    assert float(label_error(logits, label, hole, weights=weights)) == pytest.approx(total / counted, rel=1e-9)
    assert float(label_error(logits, torch.full_like(label, VOID), hole)) == 0.0


def test_class_weights_are_capped() -> None:
    assert class_weights((0.64, 0.16, 1e-9)).tolist() == pytest.approx([1.0, 2.0, 4.0])


def test_the_objective_says_what_it_lacks() -> None:
    picture = torch.rand(1, 3, 8, 8)
    seen = {"prediction": picture, "composite": picture, "image": picture, "hole": torch.zeros(1, 1, 8, 8)}
    label = torch.zeros(1, 8, 8, dtype=torch.uint8)
    with pytest.raises(InputError, match="a model that predicts none"):
        LabelObjective().terms(Seen(**seen, label=label))
    with pytest.raises(InputError, match="batches without label maps"):
        LabelObjective().terms(Seen(**seen, maps={"labels": torch.rand(1, 2, 2, 2)}))
    with pytest.raises(InputError, match="one share for each of 2 classes; got 3"):
        LabelObjective(frequencies=(0.1, 0.2, 0.7)).terms(
            Seen(**seen, label=label, maps={"labels": torch.rand(1, 2, 2, 2)})
        )
    both = {"labels": torch.rand(1, 2, 2, 2), "labels_first": torch.rand(1, 2, 4, 4), "other": torch.zeros(1)}
    terms = LabelObjective().terms(Seen(**seen, label=label, maps=both))
    errors = [label_error(both[name], label, seen["hole"]) for name in ("labels", "labels_first")]
    assert float(terms["labels.cross_entropy"]) == pytest.approx(float(sum(errors)) / 2)
    assert LabelObjective().weights() == {"labels.cross_entropy": 0.5}
