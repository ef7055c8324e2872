"""SRM-style: what the memory gives comes from its code alone; the two parts of its training; what is refused."""

from __future__ import annotations

import pytest
import torch

from cicm.conventions import InputError
from cicm.networks.srm import CODE, SRM


def test_the_second_part_begins_from_the_first() -> None:
    first, second = SRM(4, stage="memory"), SRM(4)
    assert {n: t.shape for n, t in first.state_dict().items()} == {n: t.shape for n, t in second.state_dict().items()}
    second.load_state_dict(first.state_dict())
    hole = torch.zeros(1, 1, 32, 48)
    hole[..., 8:24, 8:24] = 1
    corrupted = torch.rand(1, 3, 32, 48) * (1 - hole)
    memory, whole = first(corrupted, hole), second(corrupted, hole)
    assert torch.equal(memory.image, memory.earlier[0])
    assert torch.equal(memory.image, whole.earlier[0])
    assert not torch.equal(whole.image, whole.earlier[0])
    memory.image.sum().backward()
    with_gradient = {name.split(".")[0] for name, p in first.named_parameters() if p.grad is not None}
    assert with_gradient == {"stem", "down", "code", "generator"}


def test_the_memorys_picture_depends_on_the_code_alone() -> None:
    network = SRM(4)
    code = torch.randn(2, CODE)
    pictures = [network.generator.picture(network.generator(code, (2, 3))[-1]) for _ in range(2)]
    assert torch.equal(*pictures)
    assert pictures[0].shape == (2, 3, 32, 48)
    assert not torch.equal(pictures[0][0], pictures[0][1])


def test_what_the_memory_holds_reaches_the_repair() -> None:
    network = SRM(4)
    arguments = torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    before = network(*arguments).image
    with torch.no_grad():
        network.generator.constant.neg_()
    assert not torch.equal(network(*arguments).image, before)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="width must be at least 1"):
        SRM(0)
    with pytest.raises(Exception, match=r"stage must be one of memory, inpaint|parameter 'stage'"):
        SRM(4, stage="both")  # type: ignore[arg-type]
