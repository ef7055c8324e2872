"""Two processes on half batches are one process on the whole batch: memory, loss, gradient."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cicm.cli.main import main
from cicm.training import checkpoint
from cicm.training.distributed import any_rank, gather_objects, gather_regions, mean_over_ranks, sum_over_ranks

from .conftest import read_log
from .test_resume import CHANGES, command

EXACT: dict[str, object] = {
    "training.precision": "64-true",
    "training.accumulate": 1,
    "training.steps": 4,
    "training.grad_clip": 0.5,  # the norm is that of the whole gradient on each rank
    "training.validate_every_steps": 0,
    "training.memory_reseed_until": 1.0,
    "data.batch_size": 4,
}


def start(argv: list[str], rank: int, world: int, port: int) -> subprocess.Popen:
    """One process, in the environment that torchrun gives."""
    env = {
        "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": 1,
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, *argv],
        env=os.environ | {k: str(v) for k, v in env.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def together(argv: list[str], world: int = 2) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [start(argv, rank, world, port) for rank in range(world)]
    try:
        told = [process.communicate(timeout=180)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * world, "\n".join(told)


@pytest.mark.parametrize("accumulate", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_two_processes_train_as_one(photos: Path, tmp_path: Path, accumulate: int):
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(command(photos, one, **EXACT)) == 0
    together(["-m", "cicm.cli.main", *command(photos, two, **EXACT | {"training.accumulate": accumulate})])

    first, second = ([r for r in read_log(f / "log.jsonl") if "terms" in r] for f in (one, two))
    assert len(first) == len(second) == 4
    for ours, theirs in zip(second, first, strict=True):
        for key in ("loss", "gradient", "reseeded"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-9), key
        assert ours["terms"] == pytest.approx(theirs["terms"], rel=1e-9)
    ours, theirs = (checkpoint.load(f / checkpoint.LAST) for f in (two, one))
    assert (ours["world"], theirs["world"]) == (2, 1)
    exact = {"rtol": 1e-8, "atol": 1e-11}  # float64, four steps: sums over the batch in another order
    memories = [name for name in theirs["model"] if name.endswith((".contexts", ".anchors", ".mass"))]
    assert memories
    for part in ("model", "average", "discriminator"):
        torch.testing.assert_close(ours[part], theirs[part], **exact)
    for part in ("optimizer", "discriminator_optimizer"):  # exp_avg is the running mean of the gradient
        for index, state in theirs[part]["state"].items():
            torch.testing.assert_close(ours[part]["state"][index], state, **exact)


WORKER = """
import os, sys, torch
from torch import distributed
from cicm.training.distributed import any_rank, barrier, gather_objects, gather_regions, mean_over_ranks, sum_over_ranks
distributed.init_process_group("gloo")
rank = distributed.get_rank()
x = torch.tensor([1.0 + rank, 2.0], dtype=torch.float64, requires_grad=True)
total = sum_over_ranks(x * (rank + 1))            # [1*1 + 2*2, 2*1 + 2*2] = [5, 6]
assert torch.equal(total, torch.tensor([5.0, 6.0], dtype=torch.float64)), total
loss = (total ** 2).sum()                          # the same on each rank; d/dtotal = [10, 12]
loss.backward()
# the ranks' equal gradients are summed; averaging over ranks, as data-parallel training does, leaves the true one
assert torch.equal(x.grad / 2, torch.tensor([10.0, 12.0], dtype=torch.float64) * (rank + 1)), x.grad
assert mean_over_ranks(torch.tensor(float(rank))).item() == 0.5
rows = gather_regions(torch.full((rank + 1, 2), float(rank)))
assert rows.tolist() == [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]], rows
assert gather_objects(rank) == [0, 1]
assert any_rank(rank == 1, torch.device("cpu")) and not any_rank(False, torch.device("cpu"))
barrier()
distributed.destroy_process_group()  # a group that dies with the interpreter can take the process along
"""


def test_sums_and_gatherings_of_two_processes(tmp_path: Path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    together([str(script)])


def test_one_process_is_the_identity():
    x = torch.rand(3, 2, requires_grad=True)
    assert sum_over_ranks(x) is x
    assert torch.equal(mean_over_ranks(x), x)
    assert gather_regions(x) is x
    assert gather_objects("a") == ["a"]
    assert any_rank(True, x.device)
    assert not any_rank(False, x.device)


def test_a_batch_that_does_not_divide_is_refused(photos: Path, tmp_path: Path, capsys):
    argv = command(photos, tmp_path / "run", **{"data.batch_size": 3})
    assert CHANGES["training.accumulate"] == 2
    assert main(argv) == 2
    assert "data.batch_size must be a multiple" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
