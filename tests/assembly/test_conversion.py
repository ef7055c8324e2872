"""Published weights into our file and back, bit for bit; everything else is refused, named, and writes nothing."""

from __future__ import annotations

import hashlib
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO

import pytest
import torch
from safetensors.torch import save_file

from cicm.assembly import MemoryInpainter, ModelConfig, build, checkpoint, conversion, load_weights, save_weights
from cicm.assembly.checkpoint import read_checkpoint
from cicm.assembly.conversion import convert
from cicm.assembly.restoring import restore
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.memory import MemoryConfig
from cicm.networks import create
from cicm.networks.originals import original_code, original_shapes

CASES = [("rfr", {"width": 8}), ("rfr", {"width": 8, "kernel": 5}), ("misf", {"width": 4})]
CASES += [("spl", {"width": 2, "blocks": 2, "dense": 3, "teacher": 5})]
COUNTER = {"rfr": "n_iter", "misf": "iteration", "spl": "iteration"}


def state_of(name: str, **options: object) -> dict[str, torch.Tensor]:
    """An original's state dict with numbers that differ everywhere."""
    generator = torch.Generator().manual_seed(5)
    state = original_code(name).to_original(create(name, **options))
    return {
        key: torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor + 7
        for key, tensor in state.items()
    }


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, torch.Tensor]]:
    return {"rfr": state_of("rfr", width=8), "misf": state_of("misf", width=4)}


@pytest.fixture(scope="module")
def parts() -> dict[str, dict[str, torch.Tensor]]:
    torch.manual_seed(2)
    code = original_code("jpgnet")
    return code.parts_of(code.to_original(create("jpgnet", width=4)))


@pytest.fixture
def files(parts: dict, tmp_path: Path) -> dict[str, Path]:
    """The published parts of a JPGNet, each in its own layout."""
    made = {}
    for part, state in parts.items():
        made[part] = tmp_path / f"{part}-of-them.pth"
        torch.save({"iteration": 9, "generator": state} if part in ("generator", "edges") else state, made[part])
    return made


def saved(path: Path, content: object, **how: object) -> Path:
    torch.save(content, path, **how)
    return path


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype, name
        assert torch.equal(tensor, second[name]), name


# There and back -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), CASES)
def test_there_and_back_bit_for_bit(name: str, options: dict, tmp_path: Path) -> None:
    state = state_of(name, **options)
    content = {COUNTER[name]: 41, "generator": state, "optimizer_G": {"state": {}, "param_groups": []}}
    file = saved(tmp_path / "original.pth", content)
    done = convert(name, [file], tmp_path / "ours.safetensors")
    assert done.config == ModelConfig(name, options)
    assert done.notes == ("original.pth: took the entry 'generator'; left out: 'optimizer_G'",)

    loaded = load_weights(tmp_path / "ours.safetensors")
    assert (loaded.config, loaded.card) == (done.config, done.card)
    same(original_code(name).to_original(loaded.model.network), state)

    back = restore(name, tmp_path / "ours.safetensors", tmp_path / "back.pth")
    content = torch.load(back.paths[0], weights_only=True)
    assert list(content) == [COUNTER[name], "generator"]
    assert content[COUNTER[name]] == 0
    same(content["generator"], state)
    assert left(tmp_path) == ["back.pth", "original.pth", "ours.safetensors"]


@pytest.mark.parametrize(("name", "key", "options"), [("gated", "G", {"attention": "port"}), ("pen", "netG", {})])
def test_originals_without_a_container_of_ours(name: str, key: str, options: dict, tmp_path: Path) -> None:
    """Bare, or in the container that is in use; back it goes bare."""
    state = state_of(name, width=4)
    for content in (state, {key: state, "optimizer": {}}):
        file = saved(tmp_path / "original.pth", content)
        done = convert(name, [file], tmp_path / "ours.safetensors", options=options, overwrite=True)
        assert done.config == ModelConfig(name, {"width": 4, **options})
        back = restore(name, done.paths[0], tmp_path / "back.pth", overwrite=True)
        same(torch.load(back.paths[0], weights_only=True), state)


def test_the_card_says_what_it_is_from(states: dict, tmp_path: Path) -> None:
    file = saved(tmp_path / "a.pth", {"iteration": 12, "generator": states["misf"]})
    card = convert("misf", [file], tmp_path / "m.safetensors").card
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert card["original"] == [{"file": "a.pth", "sha256": digest, "iteration": 12}]
    assert card["source"] == "github.com/tsingqguo/misf @ 775ef7d"
    assert "no licence file" in card["licence"]
    assert "keep the terms" in card["licence"]
    assert len(card["converted"]) == 10


@pytest.mark.parametrize(
    "layout", ["bare", "zip", "before zip", "safetensors", "state_dict", "DataParallel", "ordered"]
)
def test_layouts_of_one_checkpoint(states: dict, tmp_path: Path, layout: str) -> None:
    state, path = states["misf"], tmp_path / "a.pth"
    if layout == "safetensors":
        path = tmp_path / "a.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    elif layout == "state_dict":
        saved(path, {"state_dict": state, "epoch": 3})
    elif layout == "DataParallel":
        saved(path, {"generator": {f"module.{name}": tensor for name, tensor in state.items()}})
    elif layout == "ordered":
        ordered = OrderedDict(state)
        ordered._metadata = {"": {"version": 1}}  # as state_dict() makes them
        saved(path, {"generator": ordered})
    else:
        saved(path, state, _use_new_zipfile_serialization=layout != "before zip")
    done = convert("misf", [path], tmp_path / "m.safetensors")
    same(original_code("misf").to_original(load_weights(done.paths[0]).model.network), state)
    told = [note for note in done.notes if "module." in note]
    assert bool(told) == (layout == "DataParallel")


@pytest.mark.parametrize(("dtype", "rounds"), [(torch.float16, False), (torch.bfloat16, False), (torch.float64, True)])
def test_other_types_become_float32_and_rounding_is_told(
    states: dict, tmp_path: Path, dtype: torch.dtype, rounds: bool
) -> None:
    state = {name: tensor.double().add(1e-12).to(dtype) for name, tensor in states["misf"].items()}
    done = convert("misf", [saved(tmp_path / "a.pth", state)], tmp_path / "m.safetensors")
    back = original_code("misf").to_original(load_weights(done.paths[0]).model.network)
    same(back, {name: tensor.float() for name, tensor in state.items()})
    assert any("rounded" in note for note in done.notes) == rounds


def test_an_option_that_no_shape_tells(states: dict, tmp_path: Path) -> None:
    file = saved(tmp_path / "a.pth", states["rfr"])
    assert convert("rfr", [file], tmp_path / "r.safetensors", options={"recurrences": 4}).config.options == {
        "width": 8,
        "recurrences": 4,
    }
    assert load_weights(tmp_path / "r.safetensors").model.network.recurrences == 4
    with pytest.raises(InputError, match="no option 'depth'; it takes width"):
        convert("rfr", [file], tmp_path / "s.safetensors", options={"depth": 4})
    with pytest.raises(InputError, match="recurrences must be at least 1"):
        convert("rfr", [file], tmp_path / "s.safetensors", options={"recurrences": 0})
    assert left(tmp_path) == ["a.pth", "r.safetensors"]


def test_a_memory_is_left_out_on_the_way_back_and_it_is_said(tmp_path: Path) -> None:
    config = ModelConfig("misf", {"width": 4}, {"bottom": MemoryConfig(sets=2, contexts=3)})
    model = build(config)
    file = save_weights(tmp_path / "m.safetensors", model, config)
    done = restore("misf", file, tmp_path / "m.pth")
    assert done.notes == ("the memory at bottom was left out: the original has none",)
    same(torch.load(done.paths[0], weights_only=True)["generator"], original_code("misf").to_original(model.network))


def test_a_converted_network_computes_what_the_original_parameters_say(states: dict, tmp_path: Path) -> None:
    done = convert("misf", [saved(tmp_path / "a.pth", states["misf"])], tmp_path / "m.safetensors")
    network = original_code("misf").from_original(states["misf"])
    hole = torch.zeros(1, 1, 32, 32)
    hole[..., 8:20, 8:20] = 1
    corrupted = torch.rand(1, 3, 32, 32) * (1 - hole)
    with torch.no_grad():
        expected = network(corrupted, hole).image
        assert torch.equal(load_weights(done.paths[0]).model(corrupted, hole).prediction.image, expected)


# Parts ----------------------------------------------------------------------------------------------------------------


def test_parts_in_any_order_and_back_as_a_folder(parts: dict, files: dict[str, Path], tmp_path: Path) -> None:
    done = convert("jpgnet", list(files.values()), tmp_path / "0.safetensors")
    first = load_weights(done.paths[0]).model.state_dict()
    assert sorted(one["part"] for one in done.card["original"]) == ["edges", "filter", "fusion", "generator"]
    folder = tmp_path / "back"
    back = restore("jpgnet", tmp_path / "0.safetensors", folder)
    assert sorted(path.name for path in back.paths) == left(folder)
    found = {}
    for path in back.paths:
        one = read_checkpoint(path)
        found[original_code("jpgnet").recognise_part(one.state)] = one.state
    assert found.keys() == parts.keys()
    for part, state in parts.items():
        same(found[part], state)
    # and those files, in another order, make the same model again
    again = convert("jpgnet", [*back.paths[2:], *back.paths[:2]], tmp_path / "again.safetensors")
    same(load_weights(again.paths[0]).model.state_dict(), first)
    with pytest.raises(InputError, match="is not empty"):
        restore("jpgnet", tmp_path / "0.safetensors", folder)
    restore("jpgnet", tmp_path / "0.safetensors", folder, overwrite=True)
    assert not [name for name in left(tmp_path) if name.startswith(".")]
    with pytest.raises(InputError, match="expected a folder"):
        restore("jpgnet", tmp_path / "0.safetensors", tmp_path / "all.pth")


def test_the_edge_part_may_be_absent(files: dict[str, Path], tmp_path: Path) -> None:
    needed = [file for part, file in files.items() if part != "edges"]
    config = convert("jpgnet", needed, tmp_path / "j.safetensors").config
    assert config.options["edges"] == "known"
    assert "edges" not in [path.stem for path in restore("jpgnet", tmp_path / "j.safetensors", tmp_path / "b").paths]


def test_a_part_that_an_option_makes_idle_is_left_out_and_it_is_said(files: dict[str, Path], tmp_path: Path) -> None:
    done = convert("jpgnet", list(files.values()), tmp_path / "j.safetensors", options={"edges": "none"})
    assert done.notes[-1] == "left out, as the options say: edges"
    assert sorted(one["part"] for one in done.card["original"]) == ["filter", "fusion", "generator"]


def test_a_generator_that_is_a_network_of_its_own(tmp_path: Path) -> None:
    code = original_code("jpgnet")
    parts = code.parts_of(code.to_original(create("jpgnet", width=8, generator="rfr")))
    files = [saved(tmp_path / f"{part}.pth", state) for part, state in parts.items()]
    done = convert("jpgnet", files, tmp_path / "j.safetensors")
    assert done.config.options == {"width": 8, "generator": "rfr"}
    assert any("do not influence each other" in note for note in done.notes)
    kept = convert("jpgnet", files, tmp_path / "batch.safetensors", options={"uncertainty": "batch"})
    assert kept.config.options["uncertainty"] == "batch"
    for path in restore("jpgnet", done.paths[0], tmp_path / "back").paths:
        state = read_checkpoint(path).state
        same(state, parts[code.recognise_part(state)])
    # what is wrong with another part is not blamed on the generator
    saved(tmp_path / "fusion.pth", parts["fusion"] | {"strange": torch.zeros(1)})
    with pytest.raises(InputError, match=r"surplus  fusion.strange"):
        convert("jpgnet", files, tmp_path / "k.safetensors")


def test_missing_and_double_parts(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    before, out = left(tmp_path), tmp_path / "j.safetensors"
    with pytest.raises(InputError, match=r"filter and fusion are missing; got generator \(generator-of-them.pth\)"):
        convert("jpgnet", [files["generator"]], out)
    with pytest.raises(InputError, match=r"generator is missing"):
        convert("jpgnet", [files["filter"], files["fusion"]], out)
    with pytest.raises(InputError, match=r"two files of the part 'filter': .*filter-of-them.pth and .*filter-of"):
        convert("jpgnet", [files["filter"], files["fusion"], files["filter"]], out)
    with pytest.raises(InputError, match=r"no part 'fliter'; its parts are .*filter"):
        convert("jpgnet", [files["fusion"]], out, parts={"fliter": files["filter"]})
    # the filter where the fusion should be: the names are the same, the shapes tell
    with pytest.raises(InputError, match=r"conv1.conv1.0.weight: expected .* got "):
        convert("jpgnet", [], out, parts={p: files["filter" if p == "fusion" else p] for p in files})
    assert left(tmp_path) == before
    named = [f"--part={part}={file}" for part, file in files.items()]
    assert main(["convert", "jpgnet", *named, "-o", str(out)]) == 0
    assert "jpgnet, width 4" in capsys.readouterr().out
    with pytest.raises(InputError, match="is one file, without parts"):
        convert("misf", [files["filter"]], tmp_path / "m.safetensors", parts={"filter": files["filter"]})
    with pytest.raises(InputError, match="is one file; got 2"):
        convert("misf", [files["filter"]] * 2, tmp_path / "m.safetensors")


# What is not it -------------------------------------------------------------------------------------------------------


def refused(argv: list[str], capsys: pytest.CaptureFixture) -> str:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cicm: error: ")
    assert "Traceback" not in err
    return err


def test_every_name_that_does_not_fit_is_listed(states: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("rfr", "misf"):
        state = dict(states[name])
        keys = list(state)
        lost = [keys[0], keys[5], keys[-1]]  # the first is the one that the width is read from
        for key in lost:
            del state[key]
        wrong = [keys[8], keys[10]]
        for key in wrong:
            state[key] = torch.zeros(5, 3)
        state |= {"strange.weight": torch.zeros(1), "strange.bias": torch.zeros(1)}
        file = saved(tmp_path / f"{name}.pth", state)
        told = refused(["convert", name, str(file), "-o", str(tmp_path / "x.safetensors")], capsys)
        assert "3 missing, 2 surplus, 2 of another shape" in told
        for key in lost:
            assert f"\n  missing  {key}\n" in told
        for key in ("strange.weight", "strange.bias"):
            assert f"\n  surplus  {key}\n" in told
        for key in wrong:
            assert f"\n  shape    {key}: expected " in told
    assert left(tmp_path) == ["misf.pth", "rfr.pth"]


def test_a_checkpoint_of_another_network_is_named(
    states: dict, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rfr, misf = (saved(tmp_path / f"{name}.pth", {"generator": states[name]}) for name in ("rfr", "misf"))
    out = ["-o", str(tmp_path / "x.safetensors")]
    told = refused(["convert", "rfr", str(misf), *out], capsys)
    assert "looks like a checkpoint of misf (92 of 92 names fit); use: cicm convert misf misf.pth" in told
    assert "missing" not in told
    told = refused(["convert", "misf", str(rfr), *out], capsys)
    assert "looks like a checkpoint of rfr (114 of 114 names fit)" in told
    told = refused(["convert", "jpgnet", str(rfr), *out], capsys)
    assert "use: cicm convert rfr rfr.pth" in told
    for part, file in files.items():
        told = refused(["convert", "misf", str(file), *out], capsys)
        assert f"looks like a checkpoint of jpgnet, part '{part}'" in told
    assert not (tmp_path / "x.safetensors").exists()


def test_files_that_belong_to_training(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    for content in (optimizer.state_dict(), {"n_iter": 3, "optimizer_G": optimizer.state_dict()}):
        with pytest.raises(InputError, match="holds only the state of an optimizer"):
            convert("rfr", [saved(tmp_path / "o.pth", content)], tmp_path / "x.safetensors")
    judge = {"conv1.0.weight_orig": torch.zeros(64, 3, 4, 4), "features.0.weight_orig": torch.zeros(64, 3, 4, 4)}
    pens = {"encoder.0.weight_orig": torch.zeros(64, 3, 5, 5), "classifier.weight": torch.zeros(1, 512, 5, 5)}
    gateds = {"conv1.conv_sn.weight": torch.zeros(64, 4, 5, 5), "conv1.conv_sn.weight_u": torch.zeros(64, 1)}
    for name, content in (("pen", pens), ("pen", {"netG": pens}), ("gated", gateds), ("gated", {"G": gateds})):
        with pytest.raises(InputError, match="holds a discriminator"):
            convert(name, [saved(tmp_path / "d.pth", content)], tmp_path / "x.safetensors")
    for content in ({"discriminator": judge}, judge):
        for name in ("misf", "jpgnet"):
            with pytest.raises(InputError, match="holds a discriminator"):
                convert(name, [saved(tmp_path / "d.pth", content)], tmp_path / "x.safetensors")
    assert left(tmp_path) == ["d.pth", "o.pth"]


def test_our_own_files_are_told_from_the_originals(tmp_path: Path) -> None:
    config = ModelConfig("misf", {"width": 4})
    ours = save_weights(tmp_path / "ours.safetensors", build(config), config)
    with pytest.raises(InputError, match=r"is a cicm model already.*--to original"):
        convert("misf", [ours], tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="this package's own models"):
        convert("misf", [saved(tmp_path / "c.pt", {"model": build(config).state_dict()})], tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=r"holds the network 'misf', not 'rfr'; use: cicm convert misf"):
        restore("rfr", ours, tmp_path / "x.pth")
    other = ModelConfig("unet", {"width": 4})
    unet = save_weights(tmp_path / "unet.safetensors", build(other), other)
    with pytest.raises(InputError, match=r"holds the network 'unet', not 'rfr'; that has no original"):
        restore("rfr", unet, tmp_path / "x.pth")
    with pytest.raises(InputError, match="'unet' has no original"):
        restore("unet", unet, tmp_path / "x.pth")
    with pytest.raises(InputError, match="is a pickle"):
        restore("misf", tmp_path / "c.pt", tmp_path / "x.pth")
    assert left(tmp_path) == ["c.pt", "ours.safetensors", "unet.safetensors"]


def test_contents_that_are_no_network(tmp_path: Path) -> None:
    for content, told in (
        ([1, 2], "holds no network.*got list"),
        ({"a": 1, "b\x1b[2J": torch.zeros(1)}, r"holds no network.*'a', 'b\\x1b\[2J'"),
        ({"generator": {}}, "holds no network"),
        ({"generator": {"a": 3}}, "holds no network"),
        ({"a\x1b[2J": torch.zeros(1)}, "unprintable"),
        ({"a" * 301: torch.zeros(1)}, "longer than 300"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "plain tensor of real numbers"),
        ({"a": torch.zeros(1, dtype=torch.complex64)}, "plain tensor of real numbers"),
        ({"a": torch.zeros(1).expand(10**12)}, "claims tensors of 4000000000000"),
        (torch.zeros(3), "holds no network.*got Tensor"),
        ({}, "holds no network"),
    ):
        with pytest.raises(InputError, match=told):
            convert("rfr", [saved(tmp_path / "a.pth", content)], tmp_path / "x.safetensors")
        assert left(tmp_path) == ["a.pth"], content


def test_values_of_another_kind(states: dict, tmp_path: Path) -> None:
    name = next(iter(states["misf"]))
    whole = states["misf"] | {name: states["misf"][name].long()}
    with pytest.raises(InputError, match=f"{name} must be torch.float32; got torch.int64"):
        convert("misf", [saved(tmp_path / "a.pth", whole)], tmp_path / "x.safetensors")
    for value in (float("nan"), float("inf")):
        bad = states["misf"] | {name: states["misf"][name].clone().fill_(value)}
        with pytest.raises(InputError, match="not finite"):
            convert("misf", [saved(tmp_path / "a.pth", bad)], tmp_path / "x.safetensors")
    assert left(tmp_path) == ["a.pth"]


# Files that mean harm -------------------------------------------------------------------------------------------------


def test_an_archive_that_unpacks_to_more_than_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = saved(tmp_path / "a.pth", {"a": torch.zeros(200_000)})
    packed = tmp_path / "packed.pth"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert packed.stat().st_size < 10_000
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 500_000)
    with pytest.raises(InputError, match="unpacks to"):
        read_checkpoint(packed)
    with pytest.raises(InputError, match="checkpoints up to"):
        read_checkpoint(whole)


def test_a_small_file_cannot_ask_for_all_memory(tmp_path: Path) -> None:
    """A stem as wide as a network of terabytes; the other layers small."""
    for name in ("rfr", "misf"):
        state = {key: torch.zeros([min(n, 2) for n in shape]) for key, shape in original_shapes(name)[""].items()}
        first = next(iter(state))
        state[first] = torch.zeros(80_000, *state[first].shape[1:])
        with pytest.raises(InputError, match=r"of another shape|larger than the file"):
            convert(name, [saved(tmp_path / "a.pth", state)], tmp_path / "x.safetensors")


def test_memory_out_of_nothing_is_limited() -> None:
    with conversion._Allowance(100):
        torch.zeros(10)
        with torch.device("meta"):
            torch.zeros(10**6)
        torch.ones(5).repeat(3)
        with pytest.raises(InputError, match="larger than the file"):
            torch.nn.Linear(50, 50)


# Writing --------------------------------------------------------------------------------------------------------------


def test_a_folder_of_parts_appears_whole_or_not_at_all(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert("jpgnet", list(files.values()), tmp_path / "j.safetensors")
    before, calls = left(tmp_path), []

    def full(_content: object, file: IO[bytes]) -> None:
        file.write(b"half of it")
        calls.append(1)
        if len(calls) == 2:  # the second part's file fails, after the first was written
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        restore("jpgnet", tmp_path / "j.safetensors", tmp_path / "folder")
    assert left(tmp_path) == before


def test_the_input_is_no_output(states: dict, tmp_path: Path) -> None:
    plain = tmp_path / "in.safetensors"
    save_file(states["misf"], plain)
    before = plain.read_bytes()
    with pytest.raises(InputError, match="is the input"):
        convert("misf", [plain], plain, overwrite=True)
    assert plain.read_bytes() == before


# The verb -------------------------------------------------------------------------------------------------------------


def test_the_verb_says_what_it_did(states: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = saved(tmp_path / "a.pth", {"module": 1, "generator": {f"module.{k}": v for k, v in states["rfr"].items()}})
    ours = tmp_path / "r.safetensors"
    assert main(["convert", "rfr", str(file), "-o", str(ours), "--option", "recurrences=3"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith(f"{ours}: rfr, width 8, recurrences 3, ")
    assert "keep the terms they were released on" in out
    assert err.splitlines() == [
        "cicm: note: a.pth: took the entry 'generator'; left out: 'module'",
        'cicm: note: a.pth: took "module." off every name: it was saved by DataParallel',
    ]
    assert main(["convert", "rfr", str(ours), "--to", "original", "-o", str(tmp_path / "b.pth")]) == 0
    assert capsys.readouterr().out.startswith(str(tmp_path / "b.pth"))
    same(torch.load(tmp_path / "b.pth", weights_only=True)["generator"], states["rfr"])


def test_what_is_typed_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for words, told in (
        (["rfr"], "convert takes a file"),
        (["rfr", "a.pth"], "needs the file to write: add -o rfr.safetensors"),
        (["rfr", "-o", "x.safetensors"], "convert takes a file"),
        (["rfr", "a", "-o", "x.safetensors", "--to", "there"], "there"),
        (["rfr", "a", "b", "--to", "original", "-o", "x.pth"], "takes one weights file; got 2"),
        (["rfr", "a", "--to", "original", "--part", "filter=b", "-o", "x.pth"], "can't be used with --to original"),
        (["rfr", "a", "--part", "filter", "-o", "x.safetensors"], "--part takes NAME=VALUE; got 'filter'"),
        (["rfr", "a", "--option", "a=1", "--option", "a=2", "-o", "x.safetensors"], "names 'a' twice"),
        (["rfx", "a", "-o", "x.safetensors"], "unknown network 'rfx'"),
        (["unet", "a", "-o", "x.safetensors"], "'unet' has no original"),
        (["rfr", "a.pth", "-o", "x.safetensors"], "the checkpoint a.pth does not exist. Check the path."),
    ):
        monkeypatch.chdir(tmp_path)
        error = refused(["convert", *words], capsys)
        assert told in error, words
        assert error.count("\n") == 1, words
        assert left(tmp_path) == [], words


def test_the_network_alone_is_what_was_converted(states: dict, tmp_path: Path) -> None:
    done = convert("misf", [saved(tmp_path / "a.pth", states["misf"])], tmp_path / "m.safetensors")
    model = load_weights(done.paths[0]).model
    assert isinstance(model, MemoryInpainter)
    assert len(model.memories) == 0
