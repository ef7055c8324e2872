"""Labels as planes: void is nothing, cells hold shares, and what is known is continued without changing it."""

from __future__ import annotations

import torch

from cicm.ops import cell_shares, continued, label_planes


def test_planes_are_one_hot_and_void_is_nothing() -> None:
    label = torch.tensor([[[0, 2, 255], [1, 1, 7]]], dtype=torch.uint8)
    planes = label_planes(label, 3)
    assert planes.shape == (1, 3, 2, 3)
    assert planes.argmax(1)[0].tolist() == [[0, 2, 0], [1, 1, 0]]
    assert planes.sum(1)[0].tolist() == [[1, 1, 0], [1, 1, 0]]


def test_shares_of_a_cell_are_counts() -> None:
    label = torch.randint(0, 4, (2, 32, 48), dtype=torch.uint8)
    for size in ((4, 4), (5, 7)):
        shares = cell_shares(label_planes(label, 4), size)
        assert shares.shape == (2, 4, *size)
        assert torch.allclose(shares.sum(1), torch.ones(2, *size))
    counted = (label[0, :8, :12] == 3).float().mean()
    assert torch.isclose(cell_shares(label_planes(label, 4), (4, 4))[0, 3, 0, 0], counted)


def test_known_labels_are_kept_and_continued_from_their_side() -> None:
    label = torch.zeros(1, 32, 64, dtype=torch.uint8)
    label[..., 32:] = 1
    known = label_planes(label, 3)
    known[..., 24:40] = 0
    chance = continued(known).exp()
    assert torch.allclose(chance.sum(1), torch.ones(1, 32, 64), atol=1e-5)
    assert torch.equal(chance.argmax(1)[0], label[0].long()), "the nearer side wins"
    assert torch.allclose(chance[:, 0, :, :24], torch.tensor(0.98 + 0.02 / 3))


def test_nothing_known_is_the_same_number_everywhere() -> None:
    logs = continued(torch.zeros(2, 5, 16, 32))
    assert logs.unique().numel() == 1
    assert torch.isclose(logs.exp().sum(1), torch.tensor(1.0)).all()
