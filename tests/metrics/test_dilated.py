"""The scene parser's encoder: the original's maps, names and count, and how its file is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cicm.conventions import InputError
from cicm.metrics.dilated import ADE20K, DilatedResNet
from cicm.metrics.trunks import fill, read_tensors


def test_names_and_count() -> None:
    with torch.device("meta"):
        encoder = DilatedResNet()
        maps = encoder(torch.empty(1, 3, 64, 96))
    assert sum(p.numel() for p in encoder.parameters()) == 23_631_808
    assert len(encoder.state_dict()) == 330
    assert [tuple(one.shape) for one in maps] == [(1, 256, 16, 24), (1, 512, 8, 12), (1, 1024, 8, 12), (1, 2048, 8, 12)]


@pytest.mark.shared
@torch.no_grad()
def test_it_gives_what_the_original_gave_also_from_its_file(oracles, tmp_path: Path) -> None:
    """In float64; the stored means are float32."""
    state = oracles.state("ade20k_encoder")
    # the published file has no counters, and the leftovers of a batch norm over several devices
    file = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    file |= {"bn1._tmp_running_mean": torch.ones(1), "layer1.0.bn1._tmp_running_var": torch.ones(1)}
    torch.save(file, tmp_path / "encoder_epoch_20.pth")
    encoder = fill(ADE20K, read_tensors(tmp_path / "encoder_epoch_20.pth"), "it").double()
    assert not any(p.requires_grad for p in encoder.parameters())
    stored = oracles.outputs("lama_training.a")
    image, _ = oracles.picture(stored)
    for stage, found in enumerate(encoder(image.double())):
        assert oracles.error(found.mean((2, 3)).float(), stored[f"hrf_feature{stage}_mean"]) < 1e-6
    with pytest.raises(InputError, match=r"1 names differ, such as layer4\.2\.bn3\.bias"):
        fill(ADE20K, {name: t for name, t in file.items() if name != "layer4.2.bn3.bias"}, "it")
