"""Weights files: what is written is read again, whole, and everything else is refused with a word of help."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from cicm.assembly import MemoryInpainter, ModelConfig, build, load_weights, save_weights, weights
from cicm.assembly.weights import read_header
from cicm.conventions import InputError
from cicm.memory import MemoryConfig

CONFIG = ModelConfig(
    "unet", {"width": 4}, {"bottom": MemoryConfig(sets=2, contexts=3), "down3": MemoryConfig(sets=3, contexts=2)}
)
CARD = {"data": "photos of nobody", "licence": "CC0-1.0", "scores": {"psnr": [20.5, 18.25]}}


@pytest.fixture(scope="module")
def model() -> MemoryInpainter:
    torch.manual_seed(1)
    made = build(CONFIG)
    for memory in made.memories.values():
        memory.seed_(torch.rand(40, memory.channels) * 300, torch.Generator().manual_seed(0))
    return made.eval()


@pytest.fixture
def good(model: MemoryInpainter, tmp_path: Path) -> Path:
    return save_weights(tmp_path / "good.safetensors", model, CONFIG, CARD)


def rewritten(good: Path, path: Path, tensors=None, **header: str) -> Path:
    """The good file with other tensors or another header."""
    with good.open("rb") as stream:
        length = struct.unpack("<Q", stream.read(8))[0]
        metadata = json.loads(stream.read(length))["__metadata__"]
    save_file(load_file(good) if tensors is None else tensors, path, metadata={**metadata, **header})
    return path


def left_behind(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# Round trip -----------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(model: MemoryInpainter, good: Path) -> None:
    loaded = load_weights(good)
    assert (loaded.config, loaded.card) == (CONFIG, CARD)
    assert not loaded.model.training
    for (name, a), (other, b) in zip(model.state_dict().items(), loaded.model.state_dict().items(), strict=True):
        assert name == other
        assert a.dtype == b.dtype
        assert torch.equal(a, b), name
    hole = torch.zeros(1, 1, 32, 32)
    hole[..., 8:20, 8:20] = 1
    corrupted = torch.rand(1, 3, 32, 32) * (1 - hole)
    assert torch.equal(model(corrupted, hole).composite, loaded.model(corrupted, hole).composite)
    assert left_behind(good.parent) == ["good.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_in_half_precision_is_read_as_float32(
    model: MemoryInpainter, good: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    small = tmp_path / "half.safetensors"
    tensors = {n: t.to(dtype) if n.startswith("network.") else t for n, t in model.state_dict().items()}
    save_file(tensors, small, metadata=read_header(good))
    loaded = load_weights(small).model
    for name, tensor in model.state_dict().items():
        kept = loaded.state_dict()[name]
        assert kept.dtype == torch.float32
        expected = tensor.to(dtype).float() if name.startswith("network.") else tensor
        assert torch.equal(kept, expected), name


def test_a_control_is_saved_and_loaded(tmp_path: Path) -> None:
    for kind in ("table", "convolution"):
        config = ModelConfig("unet", {"width": 4}, {"bottom": MemoryConfig(sets=2, contexts=3, kind=kind)})
        made = build(config)
        loaded = load_weights(save_weights(tmp_path / f"{kind}.safetensors", made, config)).model
        pairs = zip(made.state_dict().values(), loaded.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


# Writing --------------------------------------------------------------------------------------------------------------


def test_a_card_that_is_no_data_writes_nothing(model: MemoryInpainter, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_weights(tmp_path / "w.safetensors", model, CONFIG, {"when": object()})
    assert left_behind(tmp_path) == []


# Reading what is bad --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_damaged_header_is_refused_or_harmless(good: Path, place: float, value: int) -> None:
    """One byte of the header changed: an InputError, or a file that still describes a whole model. Nothing else."""
    data = bytearray(good.read_bytes())
    end = 8 + struct.unpack("<Q", data[:8])[0]
    data[int(place * end)] = value
    path = good.with_name("damaged.safetensors")
    path.write_bytes(data)
    try:
        loaded = load_weights(path)
    except InputError:
        return
    assert isinstance(loaded.model, MemoryInpainter)


def test_safetensors_of_another_project(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
        with pytest.raises(InputError, match=r"not a cicm model.*cicm convert"):
            load_weights(path)


def test_tensors_of_another_network(good: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    wide = build(ModelConfig("unet", {"width": 8}, CONFIG.memories)).state_dict()
    with pytest.raises(InputError, match=r"0 tensors missing, 0 surplus, \d+ of another shape, the first is 'network"):
        load_weights(rewritten(good, other, wide))
    tensors = load_file(good)
    lost = tensors.pop("network.head.bias")
    with pytest.raises(InputError, match=r"1 tensors missing, 0 surplus.*'network.head.bias'"):
        load_weights(rewritten(good, other, tensors))
    with pytest.raises(InputError, match=r"0 tensors missing, 1 surplus.*'extra'"):
        load_weights(rewritten(good, other, {**tensors, "network.head.bias": lost, "extra": lost.clone()}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["network.head.weight", "memories.bottom.contexts"])
def test_values_that_are_not_finite(good: Path, tmp_path: Path, name: str, value: float) -> None:
    tensors = load_file(good)
    tensors[name].view(-1)[3] = value
    with pytest.raises(InputError, match=f"not finite, first in '{name}'"):
        load_weights(rewritten(good, tmp_path / "bad.safetensors", tensors))


def test_a_configuration_that_makes_no_model(good: Path, tmp_path: Path) -> None:
    for config in (
        "",
        "{",
        "[]",
        "5",
        "null",
        '{"network": 5}',
        '{"network": "rfrx"}',
        '{"network": []}',
        '{"options": 5}',
        '{"options": {"width": "wide"}}',
        '{"options": {"width": 2.5}}',
        '{"options": {"width": -1}}',
        '{"options": {"no": 1}}',
        '{"memories": []}',
        '{"memories": 5}',
        '{"memories": {"bottom": 5}}',
        '{"memories": {"bottom": {"sets": "x"}}}',
        '{"memories": {"bottom": {"sets": 2.5}}}',
        '{"memories": {"bottom": {"sets": null}}}',
        '{"memories": {"nowhere": {}}}',
        '{"memories": {"bottom": {"ratio_kernel": 1.0}}}',
        '{"memories": {"bottom": {"similarity": []}}}',
        "[" * 100_000,
        '{"unknown": 1}',
    ):
        with pytest.raises(InputError, match="Get it again"):
            load_weights(rewritten(good, tmp_path / "bad.safetensors", config=config))


def test_a_small_file_cannot_ask_for_all_memory(good: Path, tmp_path: Path) -> None:
    """The shapes are compared before anything is allocated."""
    for config in (
        '{"options": {"width": 200000}}',  # a stem of 4 MB, a bottom of 80 TB
        '{"options": {"width": 4}, "memories": {"bottom": {"sets": 1000000, "contexts": 1000000}}}',
        '{"options": {"width": 4}, "memories": {"bottom": {"sets": 1000000000000000000000}}}',
    ):
        with pytest.raises(InputError, match="Get it again"):
            load_weights(rewritten(good, tmp_path / "huge.safetensors", config=config))


def test_a_card_that_is_none(good: Path, tmp_path: Path) -> None:
    for card in ("{", "[" * 100_000, "[]", "5"):
        with pytest.raises(InputError, match="Get it again"):
            load_weights(rewritten(good, tmp_path / "bad.safetensors", card=card))


def test_headers_that_are_no_headers(tmp_path: Path) -> None:
    for text in (b"[" * 100_000, b'{"a": ' * 50_000, b"[]", b'{"__metadata__": []}', b"\xff\xfe"):
        path = tmp_path / "bad.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text)
        with pytest.raises(InputError, match=r"Get it again|not a cicm model"):
            load_weights(path)


def test_a_header_longer_than_the_file_or_than_is_sane(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    for length in (10**4, weights.MAX_HEADER + 1, 2**63):
        path.write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(InputError, match="header can't be read"):
            load_weights(path)


def test_a_file_larger_than_is_read(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="at most"):
        load_weights(good)


def test_weights_that_should_have_come_with_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "DEFAULT", tmp_path / "none.safetensors")
    with pytest.raises(InputError, match=r"own weights are missing.*Reinstall"):
        load_weights()


def test_an_album_is_not_taken_for_a_model(tmp_path: Path) -> None:
    save_file({"bottom/anchors": torch.zeros(1, 1)}, tmp_path / "album.safetensors", metadata={"album": "{}"})
    with pytest.raises(InputError, match=r"is an album of photos, not a model\. Use it .*--album"):
        load_weights(tmp_path / "album.safetensors")


@pytest.mark.parametrize("label", ["I32", "U32"])
def test_a_tensor_under_another_type_is_refused(good: Path, tmp_path: Path, label: str) -> None:
    """Of the same width, so that all else fits: its numbers would be taken for weights."""
    data = good.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    name = next(name for name in header if name != "__metadata__" and header[name]["dtype"] == "F32")
    header[name]["dtype"] = label
    text = json.dumps(header).encode()
    other = tmp_path / "other.safetensors"
    other.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    with pytest.raises(InputError, match=f"{name}.*must be float32.*labelled u?int32"):
        load_weights(other)
