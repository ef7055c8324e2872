"""One optimizer step: what it writes, that micro-batches change nothing, and that it stops on NaN."""

from __future__ import annotations

import copy

import pytest
import torch

from cicm.assembly import ModelConfig, build
from cicm.conventions import InputError
from cicm.memory import MemoryConfig, inject
from cicm.memory import terms as terms_module
from cicm.objectives import ObjectiveConfig, Weights
from cicm.ops import complete_cells, missing_share
from cicm.training import step as step_module
from cicm.training.step import Players, TrainingStopped, part_of, split, take_step

from .conftest import ALL_TERMS, NO_ADVERSARIAL, TINY

ROUNDING = {"rtol": 1e-9, "atol": 1e-12}  # float64; sums over the batch in another order


def gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("accumulate", [2, 4])
@pytest.mark.parametrize(
    ("objective", "adversarial"),
    [
        (ALL_TERMS, True),
        (NO_ADVERSARIAL, False),
        (ObjectiveConfig(weights=Weights(adversarial=0.0, inter=0.0, intra=0.0)), False),
        (ObjectiveConfig(weights=Weights(adversarial=0.0, inter=0.1, intra=0.1), ratio_reduction="sum"), False),
    ],
    ids=["all terms", "no adversarial", "own terms alone", "sum over regions"],
)
def test_micro_batches_give_the_step_of_the_whole_batch(
    fabric64, make_players, batch, objective, adversarial, accumulate
):
    whole, parts = make_players(adversarial), make_players(adversarial)
    for _ in range(2):  # the second step reads what the first one committed
        expected = take_step(fabric64, whole, batch, objective)
        got = take_step(fabric64, parts, batch, objective, accumulate=accumulate)
        assert got.numbers.keys() == expected.numbers.keys()
        for name, value in expected.numbers.items():
            assert got.numbers[name] == pytest.approx(value, rel=1e-9), name
        torch.testing.assert_close(gradients(parts.bare), gradients(whole.bare), **ROUNDING)
        torch.testing.assert_close(parts.bare.state_dict(), whole.bare.state_dict(), **ROUNDING)
    if adversarial:
        torch.testing.assert_close(
            parts.bare_discriminator.state_dict(), whole.bare_discriminator.state_dict(), **ROUNDING
        )


def test_the_gradient_is_that_of_the_weighted_total_written_out(fabric64, make_players, batch):
    players = make_players()
    reference = copy.deepcopy(players.bare)
    numbers = take_step(fabric64, players, batch, NO_ADVERSARIAL).numbers

    w = NO_ADVERSARIAL.weights
    output = reference(batch["image"] * (1 - batch["hole"]), batch["hole"])
    inpaint = (output.prediction.image - batch["image"]).square().mean()
    ratio, inter, intra = [], [], []
    for site, memory in reference.memories.items():
        read = output.reads[site][-1]
        share = missing_share(batch["hole"], read.features.shape[-2:])
        ratio.append((read.ratio - share.reshape(-1)).square().mean())
        state = inject(
            memory.state, read.regions, read.sets, read.weights, complete_cells(share), update="mean", retention=0.99
        )
        between, within = memory.losses(state)
        inter.append(between)
        intra.append(within)
    mean = lambda values: sum(values) / len(values)  # noqa: E731
    total = w.inpaint * inpaint + w.ratio * mean(ratio) + w.inter * mean(inter) - w.intra * mean(intra)
    total.backward()

    assert numbers["loss"] == pytest.approx(total.item(), rel=1e-9)
    assert numbers["inpaint"] == pytest.approx(inpaint.item(), rel=1e-9)
    torch.testing.assert_close(gradients(players.bare), gradients(reference), **ROUNDING)


def test_each_memory_is_written_once_with_the_complete_regions(fabric64, make_players, batch):
    players = make_players()
    before = copy.deepcopy(players.bare)
    take_step(fabric64, players, batch, NO_ADVERSARIAL, accumulate=2)
    output = before(batch["image"] * (1 - batch["hole"]), batch["hole"])
    for site, memory in players.bare.memories.items():
        read = output.reads[site][-1]
        complete = complete_cells(missing_share(batch["hole"], read.features.shape[-2:]))
        assert 0 < complete.sum() < len(complete)
        expected = inject(before.memories[site].state, read.regions, read.sets, read.weights, complete)
        for got, want in zip(memory.state, expected, strict=True):
            torch.testing.assert_close(got, want.detach(), **ROUNDING)


def learned(**changes: object) -> ModelConfig:
    memory = MemoryConfig(sets=2, contexts=3, write_top=1.0, **changes)  # type: ignore[arg-type]
    return ModelConfig("unet", {"width": 2}, {"bottom": memory})


ROUTE = ObjectiveConfig(weights=Weights(inpaint=1.0, adversarial=0.0, ratio=0.7, inter=0.3, intra=0.2, route=0.5))


def test_a_learned_route_is_taught_by_the_whole_photos_features(fabric64, make_players, batch):
    players = make_players(config=learned(route="query"))
    reference = copy.deepcopy(players.bare)
    numbers = take_step(fabric64, players, batch, ROUTE).numbers
    memory = reference.memories["bottom"]
    read = reference(batch["image"] * (1 - batch["hole"]), batch["hole"]).reads["bottom"][-1]
    told = reference(batch["image"], torch.zeros_like(batch["hole"])).reads["bottom"][-1].regions
    sets, contexts = memory.route_error(read, told)
    share = missing_share(batch["hole"], read.features.shape[-2:]).reshape(-1)
    assert numbers["route"] == pytest.approx(((sets + contexts) * share).mean().item(), rel=1e-9)
    assert float(players.bare.memories["bottom"].query_head.query.weight.grad.abs().max()) > 0


def test_the_teacher_is_asked_where_there_is_one(fabric64, make_players, batch):
    players, alone = make_players(config=learned(route="query")), make_players(config=learned(route="query"))
    own = take_step(fabric64, alone, batch, ROUTE).numbers["route"]
    players.teacher = copy.deepcopy(players.bare)
    for parameter in players.teacher.network.parameters():
        parameter.data.mul_(-1)
    assert take_step(fabric64, players, batch, ROUTE).numbers["route"] != pytest.approx(own, rel=1e-6)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_give_the_same_step_with_a_learned_route_and_whole_photos(
    fabric64, make_players, batch, accumulate
):
    config = learned(route="query", written="whole")
    whole, parts = make_players(config=config), make_players(config=config)
    expected = take_step(fabric64, whole, batch, ROUTE)
    got = take_step(fabric64, parts, batch, ROUTE, accumulate=accumulate)
    for name, value in expected.numbers.items():
        assert got.numbers[name] == pytest.approx(value, rel=1e-9), name
    torch.testing.assert_close(gradients(parts.bare), gradients(whole.bare), **ROUNDING)
    torch.testing.assert_close(parts.bare.state_dict(), whole.bare.state_dict(), **ROUNDING)


def test_whole_photos_are_written_with_all_their_regions(fabric64, make_players, batch):
    players = make_players(config=learned(written="whole"))
    before = copy.deepcopy(players.bare)
    take_step(fabric64, players, batch, NO_ADVERSARIAL)
    read = before(batch["image"], torch.zeros_like(batch["hole"])).reads["bottom"][-1]
    everything = torch.ones(len(read.sets), dtype=torch.bool)
    expected = inject(before.memories["bottom"].state, read.regions, read.sets, read.weights, everything)
    for got, want in zip(players.bare.memories["bottom"].state, expected, strict=True):
        torch.testing.assert_close(got, want.detach(), **ROUNDING)


def test_an_unseeded_memory_stays_empty(fabric64, make_players, batch):
    players = make_players(config=ModelConfig("unet", {"width": 2}, {"bottom": MemoryConfig(sets=2, contexts=3)}))
    memory = players.bare.memories["bottom"]
    memory.filled.fill_(0)
    before = [tensor.clone() for tensor in memory.state]
    numbers = take_step(fabric64, players, batch, NO_ADVERSARIAL).numbers
    assert "inter" not in numbers
    assert all(torch.equal(a, b) for a, b in zip(memory.state, before, strict=True))


def test_clipping_scales_the_gradient_to_the_norm(fabric64, make_players, batch):
    free, clipped = make_players(), make_players()
    norm = take_step(fabric64, free, batch, NO_ADVERSARIAL).numbers["gradient"]
    assert take_step(fabric64, clipped, batch, NO_ADVERSARIAL, clip=norm / 2).numbers["gradient"] == norm
    total = torch.cat([g.flatten() for g in gradients(clipped.bare).values()]).norm().item()
    assert total == pytest.approx(norm / 2, rel=1e-4)  # torch adds 1e-6 to the norm before it divides


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_nan_stops_before_the_weights_and_names_the_term(fabric64, make_players, batch, accumulate):
    players = make_players()
    players.bare.memories["bottom"].ratio_head.bias.data.fill_(float("nan"))
    before = copy.deepcopy(players.bare.state_dict())
    # A NaN ratio reaches the prediction as well; only the ratio's own term is asked for here.
    objective = ObjectiveConfig(weights=Weights(adversarial=0.0, inter=0.0, intra=0.0))
    with pytest.raises(TrainingStopped, match="the term 'inpaint' is nan"):
        take_step(fabric64, players, batch, objective, accumulate=accumulate)
    torch.testing.assert_close(players.bare.state_dict(), before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("home", "term"), [(step_module, "reconstruction"), (terms_module, "ratio_error")])
def test_a_gradient_that_is_not_finite_names_its_term(fabric64, make_players, batch, monkeypatch, home, term):
    plain = getattr(home, term)

    def with_a_root_of_zero(first, second, *rest, **options):
        return plain(first, second, *rest, **options) + ((first - first.detach()).abs().sqrt()).mean()

    monkeypatch.setattr(home, term, with_a_root_of_zero)
    players = make_players()
    before = copy.deepcopy(players.bare.state_dict())
    name = {"reconstruction": "inpaint", "ratio_error": "ratio"}[term]
    with pytest.raises(TrainingStopped, match=f"gradient of the term '{name}'"):
        take_step(fabric64, players, batch, NO_ADVERSARIAL)
    torch.testing.assert_close(players.bare.state_dict(), before, rtol=0, atol=0)


def test_mixed_precision_names_the_term_too(batch, monkeypatch):
    """There the engine guards every backward."""
    from lightning_fabric import Fabric

    plain = terms_module.ratio_error
    root = lambda x: (x - x.detach()).abs().sqrt().mean()  # noqa: E731
    monkeypatch.setattr(
        terms_module, "ratio_error", lambda first, *rest, **how: plain(first, *rest, **how) + root(first)
    )
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    bare = build(TINY)
    for memory in bare.memories.values():
        memory.seed_(torch.rand(40, memory.channels), torch.Generator().manual_seed(5))
    players = Players(*fabric.setup(bare, torch.optim.AdamW(bare.parameters(), 1e-3)), bare)
    before = copy.deepcopy(bare.state_dict())
    single = {name: tensor.float() for name, tensor in batch.items()}
    with pytest.raises(TrainingStopped, match="gradient of the term 'ratio'"):
        take_step(fabric, players, single, ObjectiveConfig(weights=Weights(adversarial=0.0)))
    torch.testing.assert_close(bare.state_dict(), before, rtol=0, atol=0)


def test_without_an_adversarial_term_it_is_not_blamed(fabric64, make_players, batch):
    """A gradient whose norm overflows, although no term's own gradient does."""
    players, objective = make_players(), ObjectiveConfig(weights=Weights(adversarial=0.0, inpaint=1e300))
    with pytest.raises(TrainingStopped, match="the gradient is not finite although each term's own is") as error:
        take_step(fabric64, players, batch, objective)
    assert "adversarial" not in str(error.value)


def test_the_generators_step_leaves_no_gradient_in_the_discriminator(fabric64, make_players, batch):
    players = make_players(adversarial=True)
    seen = {}

    class Spy:
        def zero_grad(self, **options):
            players.bare_discriminator.zero_grad(**options)

        def step(self):
            seen.update(gradients(players.bare_discriminator))

    players.discriminator_optimizer = Spy()
    take_step(fabric64, players, batch, ALL_TERMS)
    assert seen
    torch.testing.assert_close(gradients(players.bare_discriminator), seen, rtol=0, atol=0)
    assert all(p.requires_grad for p in players.bare_discriminator.parameters())


def test_complete_regions_follow_the_order_of_the_reads(make_players, batch):
    players = make_players()
    part = part_of(players.bare(batch["image"], batch["hole"]), batch, players.bare)
    complete = part.complete["down2"].view(4, 16, 16)
    for index in range(4):
        for row in range(16):
            for column in range(16):
                cell = batch["hole"][index, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                assert complete[index, row, column] == (cell.sum() == 0)


def test_split_keeps_order_and_refuses_an_uneven_cut(batch):
    parts = split(batch, 2)
    assert torch.equal(torch.cat([p["image"] for p in parts]), batch["image"])
    with pytest.raises(AssertionError):
        split(batch, 3)


def test_a_term_without_weight_is_refused():
    from cicm.objectives import weighted_total

    with pytest.raises(InputError):
        weighted_total({"style": torch.tensor(1.0)}, Weights())
