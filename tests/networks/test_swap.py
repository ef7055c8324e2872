"""SWAP-style: who borrows from whom; pictures and labels at every scale; what is refused."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from cicm.conventions import InputError
from cicm.networks.swap import SHARPNESS, SWAP, same_label_attention


def test_the_attention_is_the_loop_over_complete_cells_of_the_same_label() -> None:
    features = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    label = torch.randint(2, (2, 3, 4))
    label[:, 0, 0], label[:, 2, 3] = 2, 3  # 2: complete once; 3: never complete
    complete = (torch.rand(2, 1, 3, 4) < 0.7).double()
    complete[..., 0, 0], complete[..., 2, 3], complete[..., 0, 1:] = 1, 0, 1
    found = same_label_attention(features, label, complete, 4)
    for b in range(2):
        rows, kinds, ready = features[b].flatten(1).T, label[b].flatten(), complete[b].flatten()
        for i, row in enumerate(rows):
            usable = [j for j in range(12) if ready[j] and kinds[j] == kinds[i]] or [j for j in range(12) if ready[j]]
            scores = torch.stack([SHARPNESS * F.cosine_similarity(row, rows[j], 0) for j in usable])
            expected = scores.softmax(0) @ rows[usable]
            assert_close(found[b].flatten(1).T[i], expected, atol=1e-9, rtol=0)  # e^-10 of other labels' keys
    nothing = same_label_attention(features, label, complete * 0, 4)
    assert torch.isfinite(nothing).all()


def test_every_scale_gives_a_picture_and_labels() -> None:
    network = SWAP(4, classes=3)
    prediction = network(torch.rand(2, 3, 32, 48), torch.zeros(2, 1, 32, 48))
    sizes = [(4, 6), (8, 12), (16, 24), (32, 48)]
    assert [tuple(p.shape) for p in (*prediction.earlier, prediction.image)] == [(2, 3, *size) for size in sizes]
    assert [tuple(m.shape) for m in prediction.maps.values()] == [(2, 3, *size) for size in sizes]
    assert list(prediction.maps) == ["labels8", "labels4", "labels2", "labels"]
    assert all(p.min() >= 0 and p.max() <= 1 for p in (*prediction.earlier, prediction.image))


def test_what_cannot_be_is_refused() -> None:
    for name in ("width", "classes"):
        with pytest.raises(InputError, match=f"{name} must be at least 1"):
            SWAP(**{"width": 2, name: 0})
