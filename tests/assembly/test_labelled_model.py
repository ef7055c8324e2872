"""Label maps in a model: nothing gets in from inside the hole, nothing changes where nothing is known, sets follow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cicm.assembly import LabelsConfig, MemoryInpainter, ModelConfig, build, load_weights, save_weights
from cicm.assembly.labels import SamePicture, picture_mean
from cicm.conventions import InputError
from cicm.memory import MemoryConfig
from cicm.photos.labels import VOID

N = 8  # classes of outdoor-scenes
LABELS = LabelsConfig("outdoor-scenes", "known", "bottom", relative=True, same=True)
MEMORY = MemoryConfig(sets=16, contexts=3)
PLAIN = ModelConfig("unet", {"width": 4}, {"bottom": MEMORY})
SOURCES = ("none", "predicted", "known", "oracle")


def made(labels: LabelsConfig | None, *, stirred: bool = True) -> MemoryInpainter:
    """A model whose memory is seeded and, if stirred, whose every parameter is random."""
    torch.manual_seed(0)
    model = build(replace(PLAIN, labels=labels)).eval()
    generator = torch.Generator().manual_seed(1)
    model.memories["bottom"].seed_(torch.randn(200, 32, generator=generator), generator)
    if stirred and model.guide is not None:
        for parameter in model.guide.parameters():
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return model


@pytest.fixture
def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """corrupted, hole, label (2, 64, 64), with some void."""
    image = torch.rand(2, 3, 64, 64)
    hole = torch.zeros(2, 1, 64, 64)
    hole[..., 20:50, 10:60] = 1
    label = torch.randint(N, (2, 4, 4), dtype=torch.uint8).repeat_interleave(16, 1).repeat_interleave(16, 2)
    label[:, :5, :5] = VOID
    return image * (1 - hole), hole, label


def changed_inside(label: torch.Tensor, hole: torch.Tensor) -> torch.Tensor:
    return torch.where(hole[:, 0] > 0, (label + 3) % N, label)


@pytest.mark.parametrize("source", SOURCES)
def test_labels_inside_the_hole_change_no_bit_but_for_the_oracle(source: str, scene) -> None:
    corrupted, hole, label = scene
    model = made(replace(LABELS, source=source))
    one, other = model(corrupted, hole, label), model(corrupted, hole, changed_inside(label, hole))
    same = torch.equal(one.composite, other.composite) and torch.equal(one.maps["labels"], other.maps["labels"])
    assert same == (source != "oracle")
    outside = model(corrupted, hole, torch.where(hole[:, 0] > 0, label, (label + 3) % N))
    assert torch.equal(one.composite, outside.composite) == (source in ("none", "predicted")), "they are looked at"


@pytest.mark.parametrize("source", SOURCES)
def test_an_untrained_model_is_the_network_with_its_memory(source: str, scene) -> None:
    """Without a prior the completed labels touch nothing; the input begins at zero."""
    labels = replace(LABELS, source=source, prior=0.0, relative=False)
    ours, plain = made(labels, stirred=False), made(None)
    assert torch.equal(ours(*scene).composite, plain(*scene[:2]).composite)


def test_no_map_and_a_map_of_nothing_but_void_are_the_same_and_end_no_run(scene) -> None:
    corrupted, hole, label = scene
    model = made(LABELS)
    void = torch.full_like(label, VOID)
    assert torch.equal(model(corrupted, hole).composite, model(corrupted, hole, void).composite)


def test_unknown_labels_in_an_untrained_model_route_as_features_do(scene) -> None:
    """Equal chances of all classes are no prior: the exact reduction to the plain memory."""
    corrupted, hole, label = scene
    ours, plain = made(replace(LABELS, relative=False), stirred=False), made(None)
    void = torch.full_like(label, VOID)
    guided, free = ours(corrupted, hole, void).reads["bottom"][0], plain(corrupted, hole).reads["bottom"][0]
    assert all(torch.equal(a, b) for a, b in zip(guided, free) if a is not None)


def test_each_cell_reads_a_set_of_its_completed_class_and_a_shuffled_one_does_not(scene) -> None:
    corrupted, hole, label = scene
    strong = replace(LABELS, source="oracle", prior=20.0)
    truth = label[:, 8::16, 8::16].flatten().long()
    for tags, right in (("classes", 1.0), ("shuffled", 0.0)):
        model = made(replace(strong, tags=tags), stirred=False)
        assert model.guide is not None
        sets = model.guide.tags[model(corrupted, hole, label).reads["bottom"][0].sets]
        assert (sets == truth).float().mean() == right


def test_known_labels_are_completed_as_they_are(scene) -> None:
    corrupted, hole, label = scene
    completed = made(LABELS, stirred=False)(corrupted, hole, label).maps["labels"].argmax(1)
    known = hole[:, 0, 2::4, 2::4] == 0
    said = label[:, 2::4, 2::4]
    rows = known & (said != VOID)
    assert (completed == said)[rows].float().mean() > 0.99


def test_dropping_is_for_training_alone(scene) -> None:
    _, hole, label = scene
    model = made(replace(LABELS, dropped=0.5))
    assert model.guide is not None
    known = model.guide.known(label, hole)
    assert known.sum() > 0
    assert torch.equal(known, model.guide.known(label, hole))
    model.train()
    sums = [float(model.guide.known(label, hole)[0].sum()) for _ in range(40)]
    assert set(sums) == {0.0, float(known[0].sum())}


def test_the_file_brings_everything_back(tmp_path: Path, scene) -> None:
    config = replace(PLAIN, labels=LABELS)
    model = made(LABELS)
    path = save_weights(tmp_path / "a.safetensors", model, config)
    loaded = load_weights(path)
    assert loaded.config == config
    assert torch.equal(loaded.model(*scene).composite, model(*scene).composite)
    assert "labels" not in ModelConfig().to_dict(), "files without labels stay what they were"


def test_every_parameter_of_the_guide_learns(scene) -> None:
    model = made(LABELS)
    output = model(*scene)
    (output.composite.square().mean() + output.maps["labels"].square().mean()).backward()
    assert model.guide is not None
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.guide.parameters())


def test_what_is_borrowed_is_of_the_same_class_and_near() -> None:
    same = SamePicture(1)
    torch.nn.init.ones_(same.mix.weight)
    features = torch.tensor([1.0, 2.0, 3.0, 9.0]).view(1, 1, 1, 4)
    missing = torch.tensor([0.0, 0.0, 0.0, 1.0]).view(1, 1, 1, 4)
    shares = torch.tensor([[1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]]).view(1, 2, 1, 4)
    far, near = torch.exp(torch.tensor(-3.0)), torch.exp(torch.tensor(-2.0))
    borrowed = same(features, shares, missing)
    assert borrowed[0, 0, 0, :3].eq(0).all(), "complete cells borrow nothing"
    assert borrowed[0, 0, 0, 3].item() == pytest.approx(float((1 * far + 2 * near) / (far + near)), abs=1e-3)
    assert same(features, shares, torch.ones(1, 1, 1, 4)).eq(0).all(), "nothing to borrow from"


def test_the_picture_mean_is_that_of_complete_cells() -> None:
    cells = torch.tensor([[1.0, 3.0, 8.0], [1.0, 3.0, 8.0], [1.0, 3.0, 5.0]]).view(3, 1, 1, 3)
    missing = torch.tensor([[0.0, 0.0, 1.0], [0.5, 0.5, 1.0], [1.0, 1.0, 1.0]]).view(3, 1, 1, 3)
    assert picture_mean(cells, missing).flatten().tolist() == pytest.approx([2.0, 2.0, 3.0], abs=1e-4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"memories": {"bottom": MemoryConfig(sets=13)}}, "a multiple of 8; got 13"),
        ({"memories": {"bottom": MemoryConfig(sets=16, kind="table")}}, "of kind 'table'. Set labels.prior = 0"),
        ({"labels": replace(LABELS, site="top")}, "has no site 'top'"),
    ],
)
def test_what_does_not_fit_is_told(change: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        build(replace(replace(PLAIN, labels=LABELS), **change))


def test_wrong_settings_and_sizes(scene) -> None:
    for change, told in (
        ({"layout": "celeba"}, "come with the data sets"),
        ({"source": "some"}, "must be one of none, predicted, known, oracle"),
        ({"prior": -1.0}, "0 or above"),
        ({"dropped": 1.0}, "a share"),
    ):
        with pytest.raises(InputError, match=told):
            replace(LABELS, **change)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"here \(2, 64, 64\); got \(2, 32, 64\)"):
        made(LABELS)(scene[0], scene[1], scene[2][:, :32])
