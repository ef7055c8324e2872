"""LaMa's step: equal to the original's losses, gradients and statistics; its order; cut batches; its run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cicm.assembly import MemoryInpainter, ModelConfig, build
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.memory import MemoryConfig
from cicm.metrics.dilated import ADE20K
from cicm.metrics.trunks import fill
from cicm.networks import MapDiscriminator
from cicm.networks.lama import from_original, rename
from cicm.objectives import LaMaObjective, ObjectiveConfig, Weights
from cicm.recipes import load_recipe
from cicm.training import checkpoint
from cicm.training.alternating import Referee
from cicm.training.features import Stages, load_features
from cicm.training.step import Batch, Players, take_step

from .conftest import read_log
from .test_distributed import EXACT, together
from .test_resume import command, same_tensors

ALONE = Weights(inpaint=0.0, adversarial=0.0, ratio=0.0, inter=0.0, intra=0.0)
PLAIN = ObjectiveConfig(ALONE, lama=LaMaObjective(perceptual=0.0))


def original_name(ours: str) -> str:
    """Of the discriminator."""
    parts = ours.split(".")
    return f"model5.0.{parts[1]}" if parts[0] == "head" else f"model{parts[1]}.{'.'.join(parts[2:])}"


def discriminator(oracles) -> MapDiscriminator:
    judge, state = MapDiscriminator(), oracles.state("lama_d")
    judge.load_state_dict({name: state[original_name(name)] for name in judge.state_dict()})
    return judge


# Plain gradient descent: a bias before a batch norm has a gradient of rounding alone, which Adam would make large.
def players(fabric64, bare: MemoryInpainter, judge: nn.Module, rate: float) -> Players:
    model, optimizer = fabric64.setup(bare, torch.optim.SGD(bare.parameters(), rate))
    made = Players(model, optimizer, bare)
    steps = torch.optim.SGD(judge.parameters(), rate)
    made.discriminator, made.discriminator_optimizer = fabric64.setup(Referee(judge, LaMaObjective().r1), steps)
    made.bare_discriminator = judge
    return made


# The original ---------------------------------------------------------------------------------------------------------


@pytest.mark.shared
@torch.no_grad()
def test_the_discriminator_gives_what_the_original_gave(oracles) -> None:
    judge, stored = discriminator(oracles).eval(), oracles.outputs("lama_d.a")
    assert sum(p.numel() for p in judge.parameters()) == 6_962_369
    image, _ = oracles.picture(stored)
    logits, maps = judge(image)
    assert oracles.error(logits, stored["output"]) < 1e-5
    assert len(maps) == 5
    for place, one in enumerate(maps):
        assert oracles.error(one.mean((2, 3)), stored[f"feature{place}_mean"]) < 1e-5


@pytest.mark.shared
def test_a_step_is_the_originals(oracles, fabric64) -> None:
    """Float64, measured 1e-15; with a rate of 0 both halves see the same networks, as in the stored step."""
    stored = oracles.outputs("lama_training.a")
    image, hole = (part.double() for part in oracles.picture(stored))
    network = from_original(oracles.state("lama_fourier")).double().train()
    judge = discriminator(oracles).double().train()
    prediction: list = []
    network.register_forward_hook(lambda *call: prediction.append(call[2].image.detach()))
    buffers = dict(network.named_buffers())
    after: list[dict] = []
    network.register_forward_hook(lambda *_: after.append({n: b.clone() for n, b in buffers.items()}))
    encoder = fill(ADE20K, oracles.state("ade20k_encoder"), "the encoder").double()
    objective = ObjectiveConfig(ALONE, lama=LaMaObjective())
    pair = players(fabric64, MemoryInpainter(network).train(), judge, 0.0)
    done = take_step(fabric64, pair, {"image": image, "hole": hole}, objective, features={"ade20k": Stages(encoder)})

    assert oracles.error(prediction[0].float(), stored["prediction"]) < 1e-6
    weights = objective.published
    terms = {"known": "l1", "adversarial": "adversarial", "matching": "feature_matching", "perceptual": "resnet_pl"}
    for ours, theirs in terms.items():
        value = weights[f"lama.{ours}"] * done.numbers[f"lama.{ours}"]
        assert value == pytest.approx(float(stored[f"g_{theirs}"]), rel=1e-9), ours
    assert done.numbers["loss"] == pytest.approx(float(stored["g_total"]), rel=1e-9)
    assert done.numbers["discriminator"] == pytest.approx(float(stored["d_total"]), rel=1e-9)
    for name, parameter in network.named_parameters():
        if (key := f"grad.{rename(name, 9)}") in stored:
            assert parameter.grad.norm().item() == pytest.approx(float(stored[key]), rel=1e-6), name
    for name, parameter in judge.named_parameters():
        if (key := f"grad.D.{original_name(name)}") in stored:
            assert parameter.grad.norm().item() == pytest.approx(float(stored[key]), rel=1e-6), name
    kept = [name for name in after[0] if f"after.{rename(name, 9)}" in stored]
    assert len(kept) == 3
    for name in kept:
        assert oracles.error(after[0][name].float(), stored[f"after.{rename(name, 9)}"]) < 1e-6


# Order and parts ------------------------------------------------------------------------------------------------------


@pytest.fixture
def make(fabric64) -> Callable[..., Players]:
    """make(rate, memory=False): a small LaMa and its discriminator, in float64, always the same."""

    def made(rate: float = 1e-3, memory: bool = False) -> Players:
        torch.manual_seed(3)
        sites = {"bottom": MemoryConfig(sets=2, contexts=3, write_top=1.0)} if memory else {}
        bare = build(ModelConfig("lama", {"width": 2, "blocks": 2}, sites)).double().train()
        judge = MapDiscriminator(width=2).double().train()
        generator = torch.Generator().manual_seed(5)
        for one in bare.memories.values():
            one.seed_(torch.rand(40, one.channels, generator=generator), generator)
        return players(fabric64, bare, judge, rate)

    return made


def test_the_network_moves_first_and_the_discriminator_sees_it_moved(fabric64, make, batch: Batch) -> None:
    pair, other = make(0.1), make(0.1)
    done = take_step(fabric64, pair, batch, PLAIN)
    # The network's step, by hand, against the discriminator of before
    bare, judge = other.bare, other.bare_discriminator
    corrupted = batch["image"] * (1 - batch["hole"])
    output = bare(corrupted, batch["hole"])
    _, real = judge(batch["image"])
    logits, maps = judge(output.prediction.image)
    matching = sum((a - b.detach()).square().mean() for a, b in zip(maps, real, strict=True)) / 5
    known = ((output.prediction.image - batch["image"]).abs() * (1 - batch["hole"])).mean()
    loss = 10 * known + 10 * nn.functional.softplus(-logits).mean() + 100 * matching
    assert done.numbers["loss"] == pytest.approx(loss.item(), rel=1e-9)
    other.optimizer.zero_grad()
    loss.backward()
    other.optimizer.step()
    torch.testing.assert_close(dict(pair.bare.named_parameters()), dict(bare.named_parameters()))
    other.discriminator_optimizer.zero_grad()  # what the network's step left there
    fake = bare(corrupted, batch["hole"]).prediction.image.detach()
    mine = Referee(judge, 0.001)(batch["image"], fake, batch["hole"])
    assert done.numbers["discriminator"] == pytest.approx(mine.item(), rel=1e-9)
    mine.backward()
    other.discriminator_optimizer.step()
    torch.testing.assert_close(pair.bare_discriminator.state_dict(), judge.state_dict())
    torch.testing.assert_close(pair.bare.state_dict(), bare.state_dict())


def test_a_memory_takes_part_and_is_written_once(fabric64, make, batch: Batch) -> None:
    pair = make(memory=True)
    objective = replace(PLAIN, weights=Weights(inpaint=0.0, adversarial=0.0, ratio=0.1, inter=0.1, intra=0.1))
    before = pair.bare.memories["bottom"].state.contexts.clone()
    done = take_step(fabric64, pair, batch, objective)
    assert {"ratio", "inter", "intra", "lama.known", "lama.matching", "discriminator"} <= set(done.numbers)
    assert not torch.equal(pair.bare.memories["bottom"].state.contexts, before)


def test_the_gradient_is_clipped_on_both_sides(fabric64, make, batch: Batch) -> None:
    pair = make(0.0)
    take_step(fabric64, pair, batch, PLAIN, clip=1e-3)
    for module in (pair.bare, pair.bare_discriminator):
        norm = torch.stack([p.grad.norm() for p in module.parameters()]).norm()
        assert norm.item() == pytest.approx(1e-3, rel=1e-4)


def test_micro_batches_give_the_mean_of_their_steps(fabric64, make, batch: Batch) -> None:
    """Not the whole batch's, because batch norms see each micro-batch alone; with equal halves both are the same."""
    twice = {name: torch.cat([part[:2], part[:2]]) for name, part in batch.items()}
    half = {name: part[:2] for name, part in batch.items()}
    pair, single = make(), make()
    got, expected = take_step(fabric64, pair, twice, PLAIN, accumulate=2), take_step(fabric64, single, half, PLAIN)
    assert got.numbers == pytest.approx(expected.numbers, rel=1e-9)
    torch.testing.assert_close(dict(pair.bare.named_parameters()), dict(single.bare.named_parameters()))


# Runs -----------------------------------------------------------------------------------------------------------------

RUN: dict[str, object] = {
    "model.network": "lama",
    "model.options.blocks": 1,
    "objective.weights.adversarial": 0.0,
    "objective.lama.perceptual": 0.0,
    "data.holes": "lama",
}


def test_a_stopped_run_goes_on_bit_for_bit(photos: Path, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    short = RUN | {"training.steps": 4, "training.validate_every_steps": 2}
    assert main(command(photos, whole, **short)) == 0
    assert main(command(photos, halves, **short, **{"training.stop_at": 2})) == 0
    assert main(command(photos, halves, **short)) == 0
    same_tensors(halves, whole)
    terms = [r["terms"] for r in read_log(whole / "log.jsonl") if "terms" in r]
    assert {"lama.known", "lama.adversarial", "lama.matching", "discriminator"} <= set(terms[0])


@pytest.mark.slow
def test_two_processes_take_their_steps(photos: Path, tmp_path: Path) -> None:
    """Batch norms see each process's own pictures, so that it is not one process's step; the weights stay equal."""
    exact = EXACT | RUN | {"training.steps": 2}
    together(["-m", "cicm.cli.main", *command(photos, tmp_path / "two", **exact)])
    state = checkpoint.load(tmp_path / "two" / checkpoint.LAST)
    assert state["step"] == 2
    assert all(torch.isfinite(t).all() for t in state["discriminator"].values())


def test_the_encoder_has_to_be_named(tmp_path: Path) -> None:
    recipe = load_recipe("lama-places2")
    with pytest.raises(InputError, match=r"needs the file encoder_epoch_20.pth.*objective\.lama\.encoder=FILE"):
        load_features(recipe.objective, torch.device("cpu"), torch.float32)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    for name, told in (("nothing.pth", "does not exist"), ("other.pth", "does not fit the network")):
        wrong = replace(recipe.objective, lama=LaMaObjective(encoder=str(tmp_path / name)))
        with pytest.raises(InputError, match=told):
            load_features(wrong, torch.device("cpu"), torch.float32)
