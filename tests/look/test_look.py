"""What a look finds in one repair is what the repair did."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cicm.assembly import MemoryInpainter, ModelConfig, build
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.inference import Inpainter
from cicm.look import look, numbers, reading
from cicm.memory import ContextMemory, MemoryConfig
from cicm.networks import InpaintingNetwork, Prediction
from cicm.networks.contract import FeatureSite, SizeRule, unchanged
from cicm.ops import as_regions
from cicm.photos import open_photo

from .conftest import Place, picture


def looked(place: Place, **options):
    return look(Inpainter(place.model, device="cpu", **options), open_photo(place.photo), place.mask)


def test_looking_changes_neither_the_repair_nor_the_model(place: Place) -> None:
    inpainter = Inpainter(place.model, device="cpu")
    before = {name: t.clone() for name, t in inpainter.model.state_dict().items()}
    photo = open_photo(place.photo)
    plain = inpainter.fill_photo(photo, str(place.mask))[0].pixels.values
    found = look(inpainter, photo, place.mask)
    assert np.array_equal(found.repaired, plain)
    assert np.array_equal(found.original, photo.pixels.values)
    assert not inpainter.model._forward_hooks
    for name, tensor in inpainter.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_it_fills_with_the_settings_of_every_door(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(picture(rng, 600, 500)).save(tmp_path / "a.png")
    hole = np.zeros((600, 500), np.uint8)
    hole[200:290, 310:400] = 255
    Image.fromarray(hole).save(tmp_path / "m.png")
    photo = open_photo(tmp_path / "a.png")
    inpainter = Inpainter(place.model, device="cpu")
    filled, _ = inpainter.fill_photo(photo, tmp_path / "m.png")
    found = look(inpainter, photo, tmp_path / "m.png")
    assert (found.repaired == filled.pixels.values).all()
    words = ["look", tmp_path / "a.png", "--mask", tmp_path / "m.png", "--weights", place.weights, "--json"]
    assert main([str(word) for word in words]) == 0
    assert json.loads(capsys.readouterr().out)["box"] == list(found.report.box)


def test_sets_weights_and_ratios_are_those_of_the_equations(place: Place) -> None:
    """A loop over regions and contexts, from features that were caught without any memory's help."""
    found = looked(place)
    (visit,) = found.visits
    model = place.model
    memory = model.memories["bottom"]
    hole = (torch.from_numpy(np.asarray(Image.open(place.mask)).copy()) > 127).float()[None, None]
    image = torch.from_numpy(found.original.copy()).permute(2, 0, 1)[None] / 255
    caught: list[Tensor] = []

    def edit(site: str, features: Tensor) -> Tensor:
        caught.extend([as_regions(features)] if site == "bottom" else [])
        return features

    with torch.no_grad():
        model.network(image * (1 - hole), hole, edit=edit)
    center = memory.state.center()

    def alike(a: Tensor, b: Tensor) -> float:
        a, b = (a - center).double(), (b - center).double()
        return float(a @ b / (a.norm() * b.norm()))

    assert visit.grid == (4, 6)
    for index, region in enumerate(caught[0]):
        scores = [alike(region, anchor) for anchor in memory.anchors]
        assert visit.sets[index] == int(np.argmax(scores))
        powers = [math.exp(alike(region, c) / memory.config.temperature) for c in memory.contexts[visit.sets[index]]]
        assert visit.weights[index] == pytest.approx([p / sum(powers) for p in powers], abs=1e-4)
        row, column = divmod(index, 6)
        cell = hole[0, 0, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        assert visit.true[index] == pytest.approx(float(cell.mean()), abs=1e-6)
    assert visit.estimated == pytest.approx(1 / (1 + math.exp(2)), abs=1e-6)  # an untrained head says its bias


@pytest.mark.parametrize(
    ("size", "hole", "options"),
    [
        ((50, 70), (slice(13, 33), slice(20, 61)), {}),  # padded on all sides
        ((600, 500), (slice(200, 290), slice(310, 420)), {"margin": 30}),  # only a part is seen
    ],
)
def test_a_cell_lies_where_its_ratio_says(place: Place, tmp_path: Path, size, hole, options) -> None:
    """The mean of the mask over the cell, in pixels of the photo, is the true ratio that came out of the network."""
    mask = np.zeros(size, bool)
    mask[hole] = True
    Image.fromarray(picture(np.random.default_rng(0), *size)).save(tmp_path / "photo.png")
    inpainter = Inpainter(place.model, device="cpu", **options)
    found = look(inpainter, open_photo(tmp_path / "photo.png"), mask)
    (visit,) = found.visits
    whole, cut = 0, 0
    for region in range(len(visit.sets)):
        left, top, right, bottom = found.cell(visit, region)
        if right - left == bottom - top == 16:
            assert visit.true[region] == pytest.approx(mask[top:bottom, left:right].mean(), abs=1e-6)
            whole += 1
        else:
            cut += 1
            assert right - left < 16 or bottom - top < 16
    assert whole > 0
    assert (cut > 0) == (size == (50, 70))
    assert max(visit.true) > 0.7


def test_a_reduced_photo_maps_back_to_its_own_pixels(place: Place, tmp_path: Path) -> None:
    mask = np.zeros((640, 640), bool)
    mask[160:320, 160:480] = True
    Image.fromarray(picture(np.random.default_rng(0), 640, 640)).save(tmp_path / "photo.png")
    inpainter = Inpainter(place.model, device="cpu", margin=400, max_side=64)
    found = look(inpainter, open_photo(tmp_path / "photo.png"), mask)
    (visit,) = found.visits
    assert (found.report.reduced, visit.grid) == (10, (4, 4))
    expected = [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert visit.true.reshape(4, 4).round(3).tolist() == expected
    assert found.cell(visit, 5) == (160, 160, 320, 320)


def test_numbers_are_plain_and_complete(place: Place) -> None:
    found = looked(place)
    (visit,) = found.visits
    told = numbers(found)
    assert [told["photo"], told["width"], told["height"]] == ["photo.png", 96, 64]
    (one,) = told["visits"]
    assert len(one["regions"]) == 24
    for index, region in enumerate(one["regions"]):
        assert region["set"] == visit.sets[index]
        assert region["weights"] == pytest.approx(sorted(visit.weights[index])[::-1][:8], abs=1e-4)
        assert [visit.weights[index][k] for k in region["contexts"]] == pytest.approx(region["weights"], abs=1e-4)
    per_set = one["summary"]["sets"]
    assert sum(s["regions"] for s in per_set) == 24
    assert sum(s["incomplete"] for s in per_set) == 24 - one["summary"]["complete"] == int((visit.true > 0).sum())
    assert one["summary"]["ratio_error"] == pytest.approx(abs(visit.estimated - visit.true).mean(), abs=1e-4)


class Twice(InpaintingNetwork):
    """Comes to its site two times, with other features."""

    size = SizeRule(8, 8)
    sites = (FeatureSite("bottom", 3, 8),)

    def forward(self, corrupted: Tensor, hole: Tensor, *, edit=unchanged) -> Prediction:
        features = torch.nn.functional.avg_pool2d(corrupted, 8)
        for _ in range(2):
            features = edit("bottom", 1 - features)
        return Prediction(torch.nn.functional.interpolate(features, scale_factor=8.0))


def twice() -> MemoryInpainter:
    memory = ContextMemory(3, MemoryConfig(sets=2, contexts=3))
    memory.seed_(torch.rand(60, 3), torch.Generator().manual_seed(0))
    return MemoryInpainter(Twice(), {"bottom": memory}).eval()


def test_every_visit_is_told_apart(place: Place) -> None:
    found = look(Inpainter(twice(), device="cpu"), open_photo(place.photo), place.mask)
    assert [(v.site, v.number) for v in found.visits] == [("bottom", 0), ("bottom", 1)]
    assert np.array_equal(found.visits[0].true, found.visits[1].true)
    assert not np.array_equal(found.visits[0].weights, found.visits[1].weights)


def test_what_is_mixed_is_told_not_what_was_left_out(place: Place) -> None:
    torch.manual_seed(0)
    model = twice()
    config = MemoryConfig(sets=2, contexts=3, read_top=0.0)
    memory = ContextMemory(3, config)
    memory.seed_(torch.rand(60, 3), torch.Generator().manual_seed(0))
    model = MemoryInpainter(Twice(), {"bottom": memory}).eval()
    found = look(Inpainter(model, device="cpu"), open_photo(place.photo), place.mask)
    assert (np.sort(found.visits[0].weights, 1) == [0, 0, 1]).all()


def test_what_can_not_be_looked_at_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = open_photo(place.photo)
    for memories in ({}, {"bottom": MemoryConfig(kind="convolution")}, {"bottom": MemoryConfig(kind="kmeans")}):
        model = build(ModelConfig("unet", {"width": 4}, memories)).eval()
        with pytest.raises(InputError, match="no memory"):
            look(Inpainter(model, device="cpu"), photo, place.mask)
    monkeypatch.setattr(reading, "MAX_REGIONS", 23)
    with pytest.raises(InputError, match=r"24 regions .* smaller photo"):
        looked(place)
