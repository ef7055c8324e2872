"""An album: what is written comes back, it fits one model only, and nothing in the file is trusted."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cicm.assembly import MemoryInpainter, ModelConfig, build, save_weights
from cicm.assembly.album import Album, AlbumFacts, Page, load_album, save_album, with_album
from cicm.assembly.fingerprint import fingerprint
from cicm.assembly.weights import read_header
from cicm.conventions import InputError
from cicm.memory import MemoryConfig, MemoryState

CONFIG = ModelConfig("unet", {"width": 4}, {"bottom": MemoryConfig(sets=2, contexts=3)})


@pytest.fixture
def model() -> MemoryInpainter:
    torch.manual_seed(1)
    made = build(CONFIG).eval()
    made.memories["bottom"].seed_(torch.rand(40, 32), torch.Generator().manual_seed(0))  # type: ignore[operator]
    return made


@pytest.fixture
def album(model: MemoryInpainter) -> Album:
    contexts = torch.rand(4, 5, 32)
    state = MemoryState(contexts.mean(1), contexts, torch.rand(4, 5))
    facts = AlbumFacts(photos=3, skipped=1, regions=120, side=64, extended=False, content="ab" * 32)
    return Album(fingerprint(model), {"bottom": Page(MemoryConfig(sets=4, contexts=5), state)}, facts)


def repaired(model: MemoryInpainter) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    hole = torch.zeros(1, 1, 64, 64)
    hole[..., 16:48, 16:48] = 1
    with torch.inference_mode():
        return model(torch.rand(1, 3, 64, 64, generator=generator) * (1 - hole), hole).composite


def test_what_is_written_comes_back(album: Album, tmp_path: Path) -> None:
    path = save_album(album, tmp_path / "a.safetensors")
    found = load_album(path)
    assert (found.fingerprint, found.facts) == (album.fingerprint, album.facts)
    assert found.pages["bottom"].config == album.pages["bottom"].config
    for ours, theirs in zip(found.pages["bottom"].state, album.pages["bottom"].state, strict=True):
        assert torch.equal(ours, theirs)  # type: ignore[arg-type]
    again = save_album(found, tmp_path / "b.safetensors")
    assert again.read_bytes() == path.read_bytes()
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["a.safetensors", "b.safetensors"]


def test_the_album_is_read_and_the_model_keeps_its_own(model: MemoryInpainter, album: Album) -> None:
    before, mark = repaired(model), fingerprint(model)
    changed = with_album(model, album)
    memory = changed.memories["bottom"]
    assert torch.equal(memory.contexts, album.pages["bottom"].state.contexts)  # type: ignore[arg-type]
    assert memory.seeded
    assert torch.equal(memory.ratio_head.bias, model.memories["bottom"].ratio_head.bias)  # type: ignore[union-attr,arg-type]
    assert not torch.equal(repaired(changed), before)
    assert torch.equal(repaired(model), before)
    assert fingerprint(model) == mark


def test_an_album_of_the_models_own_memory_changes_no_bit(model: MemoryInpainter, album: Album) -> None:
    own = model.memories["bottom"]
    page = Page(own.config, MemoryState(*own.state))  # type: ignore[arg-type,misc]
    assert torch.equal(repaired(with_album(model, replace(album, pages={"bottom": page}))), repaired(model))


def test_making_the_memory_draws_no_random_number(model: MemoryInpainter, album: Album) -> None:
    state = torch.get_rng_state()
    with_album(model, album)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_other_weight_is_another_model(model: MemoryInpainter, album: Album) -> None:
    with torch.no_grad():
        model.network.head.bias[0] += 1e-3  # type: ignore[union-attr,index]
    with pytest.raises(InputError, match=r"made with other weights.*cicm remember"):
        with_album(model, album)


def test_pages_that_do_not_fit(model: MemoryInpainter, album: Album) -> None:
    with pytest.raises(InputError, match="has no memory"):
        with_album(model, replace(album, pages={"down1": album.pages["bottom"]}))
    contexts = torch.rand(4, 5, 7)
    narrow = Page(MemoryConfig(sets=4, contexts=5), MemoryState(contexts.mean(1), contexts))
    with pytest.raises(InputError, match="does not fit"):
        with_album(model, replace(album, pages={"bottom": narrow}))


def test_where_it_is_written(album: Album, tmp_path: Path) -> None:
    path = save_album(album, tmp_path / "a.safetensors")
    for target, told in (
        (path, "exists"),
        (tmp_path / "a.bin", "ending"),
        (tmp_path / "no" / "a.safetensors", "folder"),
    ):
        with pytest.raises(InputError, match=told):
            save_album(album, target)
    save_album(album, path, overwrite=True)
    contexts = album.pages["bottom"].state.contexts.clone()
    contexts[0, 0, 0] = torch.nan
    bad = replace(album, pages={"bottom": Page(album.pages["bottom"].config, MemoryState(contexts.mean(1), contexts))})
    with pytest.raises(InputError, match="not finite"):
        save_album(bad, tmp_path / "b.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


# Nothing in a file is trusted -----------------------------------------------------------------------------------------


def tampered(path: Path, about: dict[str, Any] | str, tensors: dict[str, torch.Tensor]) -> Path:
    save_file(tensors, path, metadata={"album": about if isinstance(about, str) else json.dumps(about)})
    return path


CHANGES: dict[str, Any] = {
    "format": lambda a, t: a.update(format="cicm-album-9"),
    "no fingerprint": lambda a, t: a.pop("fingerprint"),
    "short fingerprint": lambda a, t: a.update(fingerprint="abc"),
    "fingerprint is a list": lambda a, t: a.update(fingerprint=["a"] * 64),
    "no pages": lambda a, t: (a.update(pages={}), t.clear(), t.update(x=torch.zeros(1))),
    "pages are a list": lambda a, t: a.update(pages=[1]),
    "unknown key": lambda a, t: a["pages"]["bottom"].update(colour=1),
    "huge": lambda a, t: a["pages"]["bottom"].update(sets=10**12, contexts=10**12),
    "sets are text": lambda a, t: a["pages"]["bottom"].update(sets="4"),
    "table": lambda a, t: a["pages"]["bottom"].update(kind="table"),
    "temperature": lambda a, t: a["pages"]["bottom"].update(temperature=0),
    "facts": lambda a, t: a["facts"].pop("photos"),
    "photos are text": lambda a, t: a["facts"].update(photos="3"),
    "negative photos": lambda a, t: a["facts"].update(photos=-3),
    "content": lambda a, t: a["facts"].update(content="x" * 64),
    "tensor missing": lambda a, t: t.pop("bottom/mass"),
    "tensor too many": lambda a, t: t.update({"bottom/more": torch.zeros(1)}),
    "shape": lambda a, t: t.update({"bottom/mass": torch.ones(4, 6)}),
    "dtype": lambda a, t: t.update({"bottom/mass": torch.ones(4, 5, dtype=torch.float16)}),
    "nan": lambda a, t: t["bottom/contexts"][0, 0].fill_(torch.nan),
    "negative mass": lambda a, t: t["bottom/mass"][0].fill_(-1),
    "no mass": lambda a, t: t["bottom/mass"].zero_(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_is_refused(name: str, album: Album, tmp_path: Path) -> None:
    path = save_album(album, tmp_path / "a.safetensors")
    about, tensors = json.loads(read_header(path)["album"]), load_file(path)
    assert load_album(tampered(path, about, tensors)).facts == album.facts
    CHANGES[name](about, tensors)
    with pytest.raises(InputError, match="damaged, or of another version"):
        load_album(tampered(path, about, tensors))


def test_files_that_are_no_album(album: Album, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = save_weights(tmp_path / "w.safetensors", build(CONFIG), CONFIG)
    with pytest.raises(InputError, match=r"no album.*--weights"):
        load_album(weights)
    path = save_album(album, tmp_path / "a.safetensors")
    for text, told in (("[", "damaged"), ("[" * 100_000, "damaged"), ("7", "damaged")):
        with pytest.raises(InputError, match=told):
            load_album(tampered(tmp_path / "t.safetensors", text, load_file(path)))
    cut = tmp_path / "cut.safetensors"
    for size in (0, 5, 300, path.stat().st_size - 4):
        cut.write_bytes(path.read_bytes()[:size])
        with pytest.raises(InputError):
            load_album(cut)
    pickled = tmp_path / "p.safetensors"
    pickled.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match="pickle"):
        load_album(pickled)
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(InputError, match="album"):
            load_album(missing)
