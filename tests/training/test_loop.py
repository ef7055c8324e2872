"""When memories are seeded and reseeded, and what a run may begin with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cicm.assembly import save_weights
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.recipes import load_recipe
from cicm.training import loop
from cicm.training.checkpoint import LAST, load
from cicm.training.run import Run, engine, new_run
from cicm.training.seeding import seed_memories
from cicm.training.step import complete_regions, part_of

from .conftest import read_log
from .test_resume import CHANGES, command, without_speed


def a_run(photos: Path, **changes: object) -> Run:
    data = {f"data.{part}": str(photos / part) for part in ("train", "val")}
    config = load_recipe("unet-cicm-toy", data | CHANGES | changes)
    return new_run(config, engine(config, "cpu", 1))


def test_memories_are_seeded_from_complete_regions_of_the_first_batches(photos: Path):
    plain = {"training.precision": "32-true", "training.memory_seed_batches": 2}
    run, again = a_run(photos, **plain), a_run(photos, **plain)
    for each in (run, again):
        seed_memories(each)
    first, second = run.players.bare.memories["bottom"].state, again.players.bare.memories["bottom"].state
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    fresh, seen = a_run(photos, **plain), []
    with torch.no_grad():
        for step in range(2):
            batch = fresh.stream.batch(step)
            output = fresh.players.bare(batch["image"] * (1 - batch["hole"]), batch["hole"])
            seen.append(complete_regions([part_of(output, batch, fresh.players.bare)], "bottom"))
    regions = torch.cat(seen)
    for context in first.contexts.flatten(0, 1):  # each is one of the regions that were really seen
        # micro-batches of two and batches of four may differ in the last bits of a convolution
        assert (regions - context).abs().amax(1).min() < 1e-6


def test_until_its_seeding_step_a_memory_changes_nothing(photos: Path, tmp_path: Path):
    late = {"training.memory_seed_step": 2, "training.steps": 4, "training.memory_reseed_every_steps": 1}
    assert main(command(photos, tmp_path / "run", **late)) == 0
    terms = [record["terms"] for record in read_log(tmp_path / "run" / "log.jsonl") if "terms" in record]
    assert ["inter" in t for t in terms] == [False, False, True, True]
    assert load(tmp_path / "run" / LAST)["model"]["memories.bottom.filled"] == 1


def test_starved_contexts_are_reseeded_counted_and_logged(photos: Path, tmp_path: Path, monkeypatch):
    plain, seeded = loop.take_step, []

    def starve(fabric, players, *rest, **options):
        done = plain(fabric, players, *rest, **options)
        players.bare.memories["bottom"].mass[0] = 0.0
        seeded.append(players.bare.memories["bottom"].contexts.clone())
        return done

    monkeypatch.setattr(loop, "take_step", starve)
    changes = {"training.memory_reseed_every_steps": 2, "training.memory_reseed_until": 0.5, "training.steps": 4}
    assert main(command(photos, tmp_path / "run", **changes)) == 0
    records = [record for record in read_log(tmp_path / "run" / "log.jsonl") if "terms" in record]
    assert [record["reseeded"] for record in records] == [0, 2, 0, 0]  # two contexts; step 4 is past the half


def test_the_same_seed_gives_the_same_start_and_another_one_does_not(photos: Path):
    first, same, other = a_run(photos), a_run(photos), a_run(photos, **{"training.seed": 1})
    weights = [run.players.bare.network.head.weight for run in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert first.stream.keys(0) == same.stream.keys(0)


def test_a_run_begins_from_a_file_but_for_what_is_to_be_fresh(photos: Path, tmp_path: Path):
    first = a_run(photos)
    with torch.no_grad():
        for parameter in first.players.bare.network.parameters():
            parameter.add_(1.0)
    file = save_weights(tmp_path / "w.safetensors", first.players.bare, first.config.model)
    given = first.players.bare.network.state_dict()
    # an option that changes no tensor may differ
    init = {"training.init": str(file), "training.init_fresh": ["head"], "model.options.start": "smooth"}
    begun = a_run(photos, **init).players.bare.network.state_dict()
    for name, tensor in begun.items():
        assert torch.equal(tensor, given[name]) != name.startswith("head"), name
    with pytest.raises(InputError, match="no parameter begins with 'tail'"):
        a_run(photos, **init | {"training.init_fresh": ["tail"]})
    with pytest.raises(InputError, match="holds the network"):
        a_run(photos, **init | {"model.options.width": 4})


def test_a_run_that_stops_early_is_the_beginning_of_the_whole_one(photos: Path, tmp_path: Path):
    changes = {"training.steps": 6, "training.validate_every_steps": 0}
    assert main(command(photos, tmp_path / "whole", **changes)) == 0
    assert main(command(photos, tmp_path / "parts", **changes, **{"training.stop_at": 2})) == 0
    assert (tmp_path / "parts" / "weights.safetensors").exists()
    assert [r["step"] for r in without_speed(tmp_path / "parts") if "loss" in r] == [1, 2]
    assert main(command(photos, tmp_path / "parts", **changes)) == 0
    losses = [[r for r in without_speed(tmp_path / name) if "loss" in r] for name in ("whole", "parts")]
    assert losses[0] == losses[1]


def test_every_second_step_may_take_larger_crops(photos: Path):
    run = a_run(photos, **{"data.crop": 32, "data.large_crop": 64, "data.large_every": 2, "data.batch_size": 8})
    assert [tuple(run.stream.batch(step)["image"].shape[::2]) for step in range(4)] == [(8, 32), (2, 64)] * 2
    with pytest.raises(InputError, match="go together"):
        a_run(photos, **{"data.large_crop": 64})
    with pytest.raises(InputError, match="a whole number"):
        a_run(photos, **{"data.crop": 48, "data.large_crop": 64, "data.large_every": 2, "data.batch_size": 4})
