"""TorchScript files and checkpoints with objects in them: their tensors, and nothing in them is run."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cicm.assembly import archive, checkpoint, load_weights
from cicm.assembly.archive import ArchiveError, read_pickle
from cicm.assembly.checkpoint import read_checkpoint
from cicm.assembly.conversion import convert
from cicm.assembly.restoring import restore
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.networks import create
from cicm.networks.lama import to_original
from traced import traced


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The published names of a small LaMa, with numbers that differ everywhere."""
    generator = torch.Generator().manual_seed(5)
    return {
        name: torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor + 7
        for name, tensor in to_original(create("lama", width=2, blocks=2)).items()
    }


def below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


class Settings:
    """Stands for the objects that a trainer saves beside its tensors."""

    def __init__(self) -> None:
        self.rate = 1e-3


def same(path: Path, state: dict[str, Tensor]) -> None:
    back = to_original(load_weights(path).model.network)  # type: ignore[arg-type]
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


# What is read ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [False, True])
def test_a_traced_lama_is_converted_bit_for_bit(state: dict, tmp_path: Path, script: bool) -> None:
    file = traced(below("model.generator.", state), tmp_path / "big-lama.pt", script=script)
    done = convert("lama", [file], tmp_path / "l.safetensors")
    assert done.config.options == {"width": 2, "blocks": 2}
    assert done.notes == ("big-lama.pt: took the names that begin with 'model.generator.'",)
    same(done.paths[0], state)


def test_a_training_checkpoint_with_objects_in_it(state: dict, tmp_path: Path) -> None:
    whole = {
        "state_dict": below("generator.", state) | {"discriminator.x": torch.ones(3), "val_evaluator.y": torch.ones(2)},
        "epoch": 3,
        "hyper_parameters": Settings(),
        "callbacks": {Settings: {"best": torch.ones(2)}},
        "lr": torch.device("cpu"),
    }
    file = tmp_path / "best.ckpt"
    torch.save(whole, file)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    done = convert("lama", [file], tmp_path / "l.safetensors")
    assert done.notes == ("best.ckpt: took the names that begin with 'state_dict.generator.'",)
    same(done.paths[0], state)
    with pytest.raises(InputError, match=r"was not opened.*Settings"):  # other networks' files hold none
        convert("rfr", [file], tmp_path / "r.safetensors")

    plain = {"state_dict": whole["state_dict"], "epoch": 3}
    torch.save(plain, tmp_path / "plain.ckpt")
    done = convert("lama", [tmp_path / "plain.ckpt"], tmp_path / "p.safetensors")
    assert done.notes[-1].endswith("begin with 'generator.'; left out: 'discriminator', 'val_evaluator'")
    same(done.paths[0], state)

    back = restore("lama", done.paths[0], tmp_path / "back.ckpt")
    content = torch.load(back.paths[0], weights_only=True)
    assert list(content) == ["state_dict"]
    assert content["state_dict"].keys() == below("generator.", state).keys()
    same(convert("lama", back.paths, tmp_path / "again.safetensors").paths[0], state)


def test_tensors_that_are_views_and_of_many_types(tmp_path: Path) -> None:
    base = torch.arange(24.0)
    state = {
        "a.part": base[4:10],
        "a.turned": base.view(4, 6).t(),
        "b.scalar": torch.tensor(3),
        "b.empty": torch.zeros(0, 2),
        **{f"c.{i}": torch.ones(3).to(dtype) for i, dtype in enumerate(archive.DTYPES.values())},
    }
    torch.save({"state_dict": state, "beside": Settings()}, tmp_path / "a.pt")
    read = read_checkpoint(tmp_path / "a.pt", prefixes=["a.", "none."], objects_beside=True).state
    assert sorted(read) == ["part", "turned"]
    read = read_checkpoint(tmp_path / "a.pt", objects_beside=True).state
    for name, tensor in state.items():
        assert torch.equal(read[f"state_dict.{name}"], tensor), name
        assert read[f"state_dict.{name}"].dtype == tensor.dtype


def test_another_network_is_named_also_when_it_is_traced(
    state: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name, blocks in (("small", 9), ("big", 18)):
        content = to_original(create("lama", width=1, blocks=blocks))
        file = traced(below("model.generator.", content), tmp_path / f"{name}.pt")
        assert main(["convert", "rfr", str(file), "-o", str(tmp_path / "r.safetensors")]) == 2
        told = capsys.readouterr().err
        count = len(content)
        assert f"looks like a checkpoint of lama ({count} of {count} names fit); use: cicm convert lama" in told


# What can't be had ----------------------------------------------------------------------------------------------------


def test_a_frozen_file_has_no_names(state: dict, tmp_path: Path) -> None:
    file = traced(below("model.generator.", state), tmp_path / "frozen.pt", freeze=True)
    with pytest.raises(InputError, match=r"no tensor that has a name.*not run here. Get the network's state dict"):
        convert("lama", [file], tmp_path / "l.safetensors")
    assert not (tmp_path / "l.safetensors").exists()


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, at: Path) -> None:
        self.at = at

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.at, "harm")


def rewritten(file: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The archive with other contents; None leaves an entry out."""
    other = file.with_name(f"changed-{file.name}")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(other, "w") as new:
        for entry in old.infolist():
            data = change(entry.filename.split("/", 1)[1], old.read(entry))
            if data is not None:
                new.writestr(entry.filename, data)
    return other


def test_nothing_in_a_file_is_run(state: dict, tmp_path: Path) -> None:
    at = tmp_path / "harm.txt"
    torch.save({"state_dict": below("generator.", state), "callbacks": Harm(at)}, tmp_path / "harm.ckpt")
    same(convert("lama", [tmp_path / "harm.ckpt"], tmp_path / "l.safetensors").paths[0], state)
    file = traced(below("model.generator.", state), tmp_path / "a.pt")
    harmful = pickle.dumps({"model": Harm(at)}, protocol=2)
    for names in (("data.pkl",), ("data.pkl", "constants.pkl")):
        bad = rewritten(file, lambda name, data, names=names: harmful if name in names else data)
        with pytest.raises(InputError, match="holds no tensor that has a name"):
            convert("lama", [bad], tmp_path / "m.safetensors")
    # code that would be compiled and run by torch.jit.load is not even looked at
    spoilt = rewritten(file, lambda name, data: b"import os" if name.startswith("code/") else data)
    same(convert("lama", [spoilt], tmp_path / "n.safetensors").paths[0], state)
    assert not at.exists()
    pickle.loads(harmful)  # it would have worked
    assert at.read_text() == "harm"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda name, data: data[:-7] if name == "data.pkl" else data, "its pickle is damaged"),
        (lambda name, data: b"\x80\x02cos\nsystem\n2." if name == "data.pkl" else data, "instruction DUP"),
        (lambda name, data: b"\xff" * 9 if name == "data.pkl" else data, "its pickle is damaged"),
        (lambda name, data: data[:2] + b"K\x01K\x01." if name == "data.pkl" else data, "its pickle is damaged"),
        (lambda name, data: None if name == "data.pkl" else data, "no data.pkl"),
        (lambda name, data: None if name == "data/0" else data, "the numbers '0' are missing"),
        (lambda name, data: data[:-4] if name == "data/0" else data, "the numbers '0' are"),
        (lambda name, data: b"big" if name == "byteorder" else data, "little-endian"),
    ],
)
def test_damage_is_told(state: dict, tmp_path: Path, change: Callable, told: str) -> None:
    file = traced(below("model.generator.", state), tmp_path / "a.pt")
    with pytest.raises(InputError, match=told):
        convert("lama", [rewritten(file, change)], tmp_path / "l.safetensors")
    assert not (tmp_path / "l.safetensors").exists()


def with_tensor(size: tuple, stride: tuple, offset: int = 0, count: int = 4, times: int = 1) -> dict:
    """A state as the pickle reader gives it."""
    block = archive.Stored(torch.float32, "0", count)
    return {
        f"w{i}": archive.Made("torch._utils _rebuild_tensor_v2", (block, offset, size, stride)) for i in range(times)
    }


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (with_tensor((5,), (1,)), "more numbers than are there"),
        (with_tensor((2, 2), (2, 2)), "more numbers than are there"),
        (with_tensor((2,), (1,), offset=3), "more numbers than are there"),
        (with_tensor((10**12,), (0,)), "more numbers than are there"),
        (with_tensor((2,), (-1,), offset=3), "as no tensor is"),
        (with_tensor((2,), (1, 1)), "as no tensor is"),
        (with_tensor((1,) * 9, (1,) * 9), "as no tensor is"),
        (with_tensor((True,), (1,)), "as no tensor is"),
        (with_tensor((4,), (1,), times=1000), "claims tensors of 16000 bytes"),
    ],
)
def test_a_tensor_stays_within_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: dict, told: str
) -> None:
    torch.save({"a": torch.arange(4.0), "b": Settings()}, tmp_path / "a.pt")
    monkeypatch.setattr(archive, "read_pickle", lambda data: content)
    with pytest.raises(InputError, match=told):
        read_checkpoint(tmp_path / "a.pt", objects_beside=True)


def test_hostile_pickles_end_quickly() -> None:
    for data in (
        b"",
        b"\x80\x02.",
        b"\x80\x02r\xff\xff\xff\x7f.",  # puts nothing into place 2 147 483 647
        b"\x80\x02NbN.",
        b"\x80\x02(((.",
        b"\x80\x02U\x05abc",  # ends within a text
        b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.",  # a text of 8 EiB
        b"\x80\x02]Q.",  # numbers that are no block
        b"\x80\x02\x82\x01.",  # an extension
        b"\x80\x02\x86.",
    ):
        with pytest.raises(ArchiveError):
            read_pickle(data)
    around = read_pickle(b"\x80\x02}q\x00U\x01ah\x00s.")  # a dict that holds itself
    assert list(archive._named(around)) == []
    deep: dict = {}
    for _ in range(100_000):
        deep = {"": {"a": deep}}
    assert list(archive._named(deep)) == []
    many = {"x": {}}
    for _ in range(60):  # 2 to the 60 paths, 60 dicts
        many = {"a": many, "b": many}
    assert list(archive._named(many)) == []


def test_an_archive_that_unpacks_to_more_than_is_read(
    state: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = traced(below("model.generator.", state), tmp_path / "a.pt")
    monkeypatch.setattr(checkpoint, "MAX_BYTES", file.stat().st_size - 10)
    with pytest.raises(InputError, match="checkpoints up to"):
        convert("lama", [file], tmp_path / "l.safetensors")
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 2**32)
    monkeypatch.setattr(archive, "_MAX_PICKLE_BYTES", 10)
    with pytest.raises(InputError, match=r"data.pkl is larger"):
        convert("lama", [file], tmp_path / "l.safetensors")
