"""Training by published losses: features by checksum, cut batches, what is frozen, and that the recipes learn."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cicm.assembly import ModelConfig, build
from cicm.cli.changes import parse_changes
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.metrics import published as registry
from cicm.metrics.trunks import Trunk, vgg_layers
from cicm.objectives import JPGNetObjective, MISFObjective, ObjectiveConfig, RFRObjective, Weights
from cicm.recipes import Recipe, load_recipe, recipe_names
from cicm.training import checkpoint
from cicm.training import features as features_module
from cicm.training.alternating import Referee
from cicm.training.config import TrainingConfig
from cicm.training.features import Maps, load_features
from cicm.training.modes import freeze, to_training_mode, trained
from cicm.training.run import make_discriminator
from cicm.training.step import Batch, Players, take_step

from .conftest import ALL_TERMS, read_log
from .test_distributed import EXACT, together
from .test_resume import command, same_tensors, without_speed

ROUNDING = {"rtol": 1e-9, "atol": 1e-12}  # float64; sums over the batch in another order
PUBLISHED = [name for name in recipe_names() if "-places2" in name and load_recipe(name).objective.sections]


def test_the_published_recipes_are_there() -> None:
    assert set(PUBLISHED) >= {
        "rfr-places2", "rfr-places2-finetune", "misf-places2", "lama-places2", "lama-places2-big",
        "jpgnet-places2-1-generator", "jpgnet-places2-2-filter", "jpgnet-places2-3-fusion",
    }  # fmt: skip


# Features by file and checksum ----------------------------------------------------------------------------------------


def small_vgg(convolutions: Sequence[int], width: int = 8) -> Trunk:
    """A VGG of a few channels, with all its layers, so that its file is small."""
    layers: list[nn.Module] = []
    channels = 3
    for count in convolutions:
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            nn.init.kaiming_normal_(layers[-2].weight)  # so that the deepest maps are not all 0
            channels = width
        layers.append(nn.MaxPool2d(2, stride=2))
    return Trunk(nn.Sequential(*layers), taps=(3,), channels=(width,), minimum=32)


SMALL = {"vgg16": lambda: small_vgg((2, 2, 3, 3, 3)), "vgg19": lambda: small_vgg((2, 2, 4, 4, 4))}


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights on this machine; returns the folder that CICM_WEIGHTS names."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("CICM_WEIGHTS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def classifiers(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small VGGs with random weights, whose files the registry believes to be the published ones."""
    for name, design in SMALL.items():
        torch.manual_seed(1)
        path = nowhere / registry.PUBLISHED[name].filename
        torch.save(design().state_dict() | {"classifier.0.weight": torch.zeros(2, 2)}, path)
        content = path.read_bytes()
        entry = replace(registry.PUBLISHED[name], sha256=hashlib.sha256(content).hexdigest(), num_bytes=len(content))
        monkeypatch.setitem(registry.PUBLISHED, name, entry)
        monkeypatch.setitem(features_module.DESIGNS, name, design)
    return nowhere


WITH_FEATURES = ObjectiveConfig(rfr=RFRObjective(), misf=MISFObjective())


def test_a_missing_file_says_how_to_get_it_and_how_to_do_without(nowhere: Path) -> None:
    with pytest.raises(InputError) as error:
        load_features(ObjectiveConfig(misf=MISFObjective()), torch.device("cpu"), torch.float32)
    told = str(error.value)
    assert "the terms misf.perceptual, misf.style need vgg19-dcbb9e9d.pth" in told
    assert "`cicm models get vgg19`" in told
    without = [part for part in told.rstrip(".").split() if part.startswith("objective.")]
    assert without == ["objective.misf.perceptual=0", "objective.misf.style=0"]
    recipe = load_recipe("misf-places2", parse_changes(without))
    assert load_features(recipe.objective, torch.device("cpu"), torch.float32) == {}


def test_another_file_of_that_name_is_refused(classifiers: Path) -> None:
    path = classifiers / registry.PUBLISHED["vgg16"].filename
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="SHA-256"):
        load_features(ObjectiveConfig(rfr=RFRObjective()), torch.device("cpu"), torch.float32)


def test_the_maps_are_those_of_the_named_layers_without_gradient_on_the_weights(classifiers: Path) -> None:
    found = load_features(WITH_FEATURES, torch.device("cpu"), torch.float64)
    assert set(found) == {"vgg16", "vgg19"}
    maps = found["vgg19"]
    assert isinstance(maps, Maps)
    assert not any(p.requires_grad or p.dtype != torch.float64 for p in maps.trunk.parameters())
    image = torch.rand(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    expected, walked = {}, image  # walked by hand, image as it is: no normalisation
    for (name, index), layer in zip(vgg_layers(maps.trunk).items(), maps.trunk.features, strict=True):
        assert maps.trunk.features[index] is layer
        walked = layer(walked)
        expected[name] = walked
    names = [*MISFObjective.layers, *MISFObjective.style_layers, "pool2"]
    for name, got in zip(names, maps(image, names), strict=True):
        torch.testing.assert_close(got, expected[name], rtol=0, atol=0)
    sum(m.sum() for m in maps(image, names)).backward()
    assert image.grad is not None
    half = torch.autocast("cpu", torch.bfloat16)
    with half:
        assert maps(image.float().double(), ["relu1_1"])[0].dtype == torch.float64


def test_a_run_with_features_trains_and_logs_every_term(classifiers: Path, photos: Path, tmp_path: Path) -> None:
    for name, terms in (("rfr", RFRObjective()), ("misf", MISFObjective())):
        changes = {f"objective.{term}": weight for term, weight in terms.weights().items()}
        argv = command(photos, tmp_path / name, **changes, **{"training.steps": 2, "training.accumulate": 1})
        assert main(argv) == 0
        steps = [r for r in read_log(tmp_path / name / "log.jsonl") if "terms" in r]
        assert set(terms.weights()) <= set(steps[-1]["terms"])
        assert all(steps[-1]["terms"][term] != 0 for term in terms.weights())


def test_without_the_file_nothing_is_written_and_the_plan_refuses_too(
    nowhere: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = command(photos, tmp_path / "run", **{"objective.rfr.style": 1.0})
    for extra in ([], ["--dry-run"]):
        assert main(argv + extra) == 2
        assert "cicm models get vgg16" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


def test_the_plan_tells_the_terms_and_what_is_left_out(
    classifiers: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ["--dry-run"]
    assert main(command(photos, tmp_path / "a", **{"objective.rfr.perceptual": 0.0}) + plan) == 0
    told = capsys.readouterr().out
    assert "1 rfr.valid + 6 rfr.hole + 120 rfr.style + 0.1 rfr.variation" in told
    assert "left out" in told
    assert "rfr.perceptual: the published objective has" in told
    assert "vgg16-397923af.pth" in told
    assert main(command(photos, tmp_path / "b") + plan) == 0
    assert "left out" not in capsys.readouterr().out


# A batch that is cut --------------------------------------------------------------------------------------------------


def fake(images: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """Maps with a gradient that depends on the picture."""
    return [(images * (1 + place)).square().roll(1, -1) * images for place, _ in enumerate(layers)]


EVERYTHING = replace(
    ALL_TERMS,
    adversary="bce",
    judged="prediction",
    rfr=RFRObjective(style=1.0),
    misf=MISFObjective(style=1.0, share="batch"),
    jpgnet=JPGNetObjective(),
)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("accumulate", [2, 4])
@pytest.mark.parametrize("share", ["image", "batch"])
def test_micro_batches_give_the_step_of_the_whole_batch(fabric64, make_players, batch: Batch, accumulate: int, share):
    objective = replace(EVERYTHING, misf=replace(EVERYTHING.misf, share=share))
    whole, parts = make_players(True), make_players(True)
    look = {"vgg16": fake, "vgg19": fake}
    expected = take_step(fabric64, whole, batch, objective, features=look)
    got = take_step(fabric64, parts, batch, objective, features=look, accumulate=accumulate)
    assert {"rfr.variation", "misf.style", "jpgnet.ssim", "adversarial", "inter"} <= set(got.numbers)
    assert got.numbers == pytest.approx(expected.numbers, rel=1e-9)
    torch.testing.assert_close(gradients(parts.bare), gradients(whole.bare), **ROUNDING)
    torch.testing.assert_close(parts.bare_discriminator.state_dict(), whole.bare_discriminator.state_dict(), **ROUNDING)


def test_the_loss_is_the_weighted_sum_of_what_is_logged(fabric64, make_players, batch: Batch) -> None:
    look = {"vgg16": fake, "vgg19": fake}
    numbers = take_step(fabric64, make_players(True), batch, EVERYTHING, features=look).numbers
    w = EVERYTHING.weights
    weights = {"inpaint": w.inpaint, "adversarial": w.adversarial, "ratio": w.ratio, "inter": w.inter} | {
        "intra": -w.intra
    }
    expected = sum(weight * numbers[name] for name, weight in (weights | EVERYTHING.published).items())
    assert numbers["loss"] == pytest.approx(expected, rel=1e-9)


def test_the_discriminator_sees_what_the_objective_says(fabric64, make_players, batch: Batch, monkeypatch) -> None:
    for judged in ("composite", "prediction"):
        players = make_players(True)
        output = players.bare(batch["image"] * (1 - batch["hole"]), batch["hole"])
        given: list[Tensor] = []
        players.bare_discriminator.register_forward_pre_hook(lambda _, x, given=given: given.append(x[0].detach()))
        take_step(fabric64, players, batch, replace(ALL_TERMS, judged=judged))
        expected = output.composite if judged == "composite" else output.prediction.image
        torch.testing.assert_close(given[0][4:], expected, **ROUNDING)


def test_the_discriminator_is_given_the_hole_of_each_picture(fabric64, make_players, batch: Batch) -> None:
    """Twice of the batch in its own step, image before result; also of micro-batches."""
    for accumulate in (1, 2):
        players = make_players(True)
        given: list[tuple[Tensor, ...]] = []
        players.bare_discriminator.register_forward_pre_hook(lambda _, x, given=given: given.append(x))
        take_step(fabric64, players, batch, replace(ALL_TERMS, adversary="hinge"), accumulate=accumulate)
        for pictures, hole in given:
            assert len(pictures) == len(hole)
            known = [i for i in range(4) if torch.equal(hole[0], batch["hole"][i])]
            assert len(known) == 1
            same_outside = (pictures[0] - batch["image"][known[0]]) * (1 - hole[0])
            assert same_outside.abs().max() < 1e-12


CUT: dict[str, object] = {
    "objective.adversary": "bce",
    "objective.judged": "prediction",
    "objective.rfr.perceptual": 0.0,
    "objective.rfr.style": 0.0,
    "objective.misf.perceptual": 0.0,
    "objective.misf.style": 0.0,
    "objective.misf.share": "batch",
    "objective.jpgnet.ssim": 0.2,
    "training.freeze": ["stem"],
    "training.schedule": "linear",
    "training.decay_from": 0.25,
    "training.discriminator_betas": [0.0, 0.9],
}


@pytest.mark.slow
def test_two_processes_train_as_one_by_published_losses(photos: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(command(photos, one, **EXACT, **CUT)) == 0
    together(["-m", "cicm.cli.main", *command(photos, two, **EXACT, **CUT)])
    first, second = ([r for r in read_log(f / "log.jsonl") if "terms" in r] for f in (one, two))
    assert "misf.l1" in first[0]["terms"]
    for ours, theirs in zip(second, first, strict=True):
        assert ours["terms"] == pytest.approx(theirs["terms"], rel=1e-9)
        assert (ours["loss"], ours["gradient"]) == pytest.approx((theirs["loss"], theirs["gradient"]), rel=1e-9)
    ours, theirs = (checkpoint.load(f / checkpoint.LAST) for f in (two, one))
    torch.testing.assert_close(ours["model"], theirs["model"], rtol=1e-8, atol=1e-11)


def test_a_stopped_run_goes_on_bit_for_bit(photos: Path, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    short = CUT | {"training.steps": 6, "training.validate_every_steps": 2}
    assert main(command(photos, whole, **short)) == 0
    assert main(command(photos, halves, **short, **{"training.stop_at": 3})) == 0
    assert main(command(photos, halves, **short)) == 0
    same_tensors(halves, whole)
    records = [r for r in without_speed(halves) if "terms" in r]
    assert records == [r for r in without_speed(whole) if "terms" in r]


# Frozen ---------------------------------------------------------------------------------------------------------------


class Normed(nn.Module):
    """Stands where a network is expected: two halves with BatchNorm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.second = nn.Sequential(nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = Normed()


def test_what_is_frozen_neither_learns_nor_drifts() -> None:
    model, training = Holder(), TrainingConfig(freeze=("first",))
    freeze(model, training)  # type: ignore[arg-type]
    before = {name: tensor.clone() for name, tensor in model.network.first.state_dict().items()}
    optimizer = torch.optim.AdamW(trained(model), 0.1)
    for _ in range(3):
        model.eval()  # as a validation does
        to_training_mode(model, training)  # type: ignore[arg-type]
        optimizer.zero_grad()
        model.network(torch.rand(2, 3, 4, 4)).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(model.network.first.state_dict(), before, rtol=0, atol=0)
    assert not model.network.first[2].training, "dropout of a frozen part is off"
    assert model.network.second[1].training
    assert int(model.network.second[1].num_batches_tracked) == 3


def test_freeze_norm_keeps_the_statistics_and_trains_the_affine() -> None:
    model, training = Holder(), TrainingConfig(freeze_norm=True)
    to_training_mode(model, training)  # type: ignore[arg-type]
    norm = model.network.second[1]
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    optimizer = torch.optim.AdamW(trained(model), 0.1)
    model.network(torch.rand(2, 3, 4, 4)).square().mean().backward()
    optimizer.step()
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(norm, name), before[name]), name
    assert not torch.equal(norm.weight, before["weight"])
    assert not torch.equal(norm.bias, before["bias"])
    assert model.network.first[2].training


def test_a_name_that_freezes_nothing_or_everything_is_refused() -> None:
    with pytest.raises(InputError, match="no parameter begins with 'third'"):
        freeze(Holder(), TrainingConfig(freeze=("third",)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="nothing to train"):
        freeze(Holder(), TrainingConfig(freeze=("first", "second")))  # type: ignore[arg-type]


def test_a_run_leaves_its_frozen_parameters_alone(photos: Path, tmp_path: Path) -> None:
    for seed, folder in ((0, "short"), (0, "long")):
        steps = {"short": 1, "long": 5}[folder]
        changes = {"training.freeze": ["stem", "down.0"], "training.steps": steps, "training.seed": seed}
        assert main(command(photos, tmp_path / folder, **changes)) == 0
    short, long = (checkpoint.load(tmp_path / f / checkpoint.LAST)["model"] for f in ("short", "long"))
    for name in (n for n in short if n.startswith("network.")):
        frozen = name.startswith(("network.stem", "network.down.0"))
        assert torch.equal(short[name], long[name]) == frozen, name


# The recipes ----------------------------------------------------------------------------------------------------------


def tiny(name: str) -> Recipe:
    """The recipe on a small network, without the terms that need weights from outside."""
    recipe = load_recipe(name)
    gone = {f"objective.{term}": 0 for section in recipe.objective.sections for term in section.needs_features()}
    width = 8 if recipe.model.network == "rfr" else 4
    return load_recipe(name, {"model.options.width": width, "training.init": "", **gone})


@pytest.mark.parametrize("name", [name for name in PUBLISHED if "-wo-" not in name])
def test_each_published_recipe_learns_a_fixed_batch(fabric64, batch: Batch, name: str) -> None:
    recipe = tiny(name)
    training = recipe.training
    torch.manual_seed(3)
    bare = build(ModelConfig(recipe.model.network, recipe.model.options)).double()
    freeze(bare, training)
    to_training_mode(bare, training)
    model, optimizer = fabric64.setup(bare, torch.optim.AdamW(trained(bare), training.lr, betas=training.betas))
    players = Players(model, optimizer, bare)
    objective = recipe.objective
    if judge := make_discriminator(replace(recipe, training=replace(training, discriminator_width=2))):
        judge = judge.double()
        called = Referee(judge, objective.lama.r1) if objective.judged_by_maps else judge
        steps = torch.optim.AdamW(judge.parameters(), training.discriminator_lr, betas=training.betas)
        players.discriminator, players.discriminator_optimizer = fabric64.setup(called, steps)
        players.bare_discriminator = judge
    before = {n: t.clone() for n, t in bare.state_dict().items()}
    side = max(32, bare.network.size.minimum)
    small = {name: tensor[:2, :, :side, :side] for name, tensor in batch.items()}
    losses = [take_step(fabric64, players, small, objective).numbers["loss"] for _ in range(10)]
    assert all(torch.isfinite(torch.tensor(losses))), losses
    assert losses[-1] < losses[0], losses
    still = [n for n, p in bare.named_parameters() if not p.requires_grad]
    assert all(torch.equal(bare.state_dict()[n], before[n]) for n in still)
    if training.freeze_norm:
        assert all(torch.equal(t, before[n]) for n, t in bare.state_dict().items() if "running_" in n)


def test_the_recipes_numbers_are_the_published_ones() -> None:
    def told(name: str) -> tuple:
        t = load_recipe(name).training
        return t.lr, t.betas, t.schedule, load_recipe(name).data.batch_size, t.weight_decay, t.warmup_steps

    assert told("rfr-places2") == (2e-4, (0.9, 0.999), "constant", 6, 0.0, 0)
    assert told("rfr-places2-finetune") == (5e-5, (0.9, 0.999), "constant", 6, 0.0, 0)
    assert told("misf-places2") == (1e-4, (0.0, 0.9), "constant", 8, 0.0, 0)
    assert told("lama-places2") == (1e-3, (0.9, 0.999), "constant", 30, 0.0, 0)
    assert told("lama-places2-big") == (1e-3, (0.9, 0.999), "constant", 120, 0.0, 0)
    assert told("jpgnet-places2-1-generator") == (1e-4, (0.0, 0.9), "constant", 8, 0.0, 0)
    assert told("jpgnet-places2-2-filter") == (2e-4, (0.5, 0.999), "linear", 8, 0.0, 0)
    assert told("jpgnet-places2-3-fusion") == (2e-4, (0.5, 0.999), "linear", 1, 0.0, 0)
    assert load_recipe("rfr-places2-finetune").training.freeze_norm
    assert load_recipe("misf-places2").training.discriminator_lr == 1e-5
    assert [load_recipe(n).training.steps for n in ("rfr-places2", "rfr-places2-finetune", "misf-places2")] == [
        2_000_000, 1_000_000, 350_000,
    ]  # fmt: skip
    for name in PUBLISHED:
        section = load_recipe(name).objective.sections[0]
        assert section == type(section)() or "-wo-" in name or name.startswith("srm-places2-"), name


def test_a_recipe_without_features_says_so_where_it_is_listed() -> None:
    for name in PUBLISHED:
        recipe = load_recipe(name)
        gone = [term for section in recipe.objective.sections for term in section.left_out()]
        assert bool(gone) == ("without" in recipe.about), name
        needed = [s.classifier for s in recipe.objective.sections if s.needs_features()]
        assert all(f"needs {c}" in recipe.about or f"needs the weights {c}" in recipe.about for c in needed), name


def test_an_empty_section_is_the_published_objective(tmp_path: Path) -> None:
    path = tmp_path / "plain.toml"
    path.write_text('[model]\nnetwork = "unet"\n[objective.rfr]\n')
    recipe = load_recipe(str(path))
    assert recipe.objective == ObjectiveConfig(rfr=RFRObjective())
    assert recipe.objective.weights == Weights()
    written = tomllib.loads(recipe.to_toml())
    assert written["objective"]["rfr"]["style"] == 120.0
    assert "misf" not in written["objective"]
