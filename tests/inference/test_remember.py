"""A memory filled from photos: what it holds follows from their content alone, and is what the equations say."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cicm.assembly import MemoryInpainter, ModelConfig, build, save_weights
from cicm.assembly.album import load_album, with_album
from cicm.assembly.fingerprint import fingerprint
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.data.datasets import to_image
from cicm.inference.remember import remember
from cicm.memory import MemoryConfig, MemoryState, route
from cicm.memory.seeding import from_regions, generator_for
from cicm.ops import as_regions

CONFIG = ModelConfig("unet", {"width": 4}, {"bottom": MemoryConfig(sets=2, contexts=3)})


@pytest.fixture(scope="module")
def model() -> MemoryInpainter:
    torch.manual_seed(1)
    made = build(CONFIG).eval()
    made.memories["bottom"].seed_(torch.rand(40, 32), torch.Generator().manual_seed(0))  # type: ignore[operator]
    return made


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(4):  # 64x64 is one window of 64, so that the loops below stay short
        small = Image.fromarray(rng.integers(0, 255, (5, 5, 3), dtype=np.uint8))
        small.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"p{number}.png")
    return folder


def state_of(model: MemoryInpainter, *args, **options) -> MemoryState:
    return remember(model, *args, side=64, **options).album.pages["bottom"].state


def same(first: MemoryState, second: MemoryState) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))  # type: ignore[arg-type]


def regions_of(model: MemoryInpainter, path: Path) -> Tensor:
    image = to_image(np.asarray(Image.open(path)))[None]
    found: list[Tensor] = []

    def edit(site: str, features: Tensor) -> Tensor:
        if site == "bottom":
            found.append(as_regions(features))
        return features

    with torch.inference_mode():
        model.network(image, torch.zeros(1, 1, 64, 64), edit=edit)
    return found[0]


def by_content(photos: Path) -> list[Path]:
    import hashlib

    return sorted(photos.glob("*.png"), key=lambda path: hashlib.sha256(path.read_bytes()).hexdigest())


def written(
    state: MemoryState, regions: Tensor, momentum: float, fresh: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eq. 1 to 3 as loops: each region goes to the best context of its set; contexts are means by mass."""
    anchors, contexts, mass = (np.asarray(t, np.float64) for t in (state.anchors, state.contexts, state.weight()))
    center = (mass[..., None] * contexts).sum((0, 1)) / mass.sum()

    def unit(x: np.ndarray) -> np.ndarray:
        return (x - center) / np.linalg.norm(x - center)

    old = np.zeros_like(mass) if fresh else mass
    total, weight = contexts * old[..., None], old.copy()
    for region in np.asarray(regions, np.float64):
        own = int(np.argmax([unit(region) @ unit(a) for a in anchors]))
        best = int(np.argmax([unit(region) @ unit(c) for c in contexts[own]]))
        total[own, best] += region
        weight[own, best] += 1
    new = np.where(weight[..., None] > 0, total / np.maximum(weight, 1e-12)[..., None], contexts)
    return momentum * anchors + (1 - momentum) * new.mean(1), new, weight


def test_a_new_album_equals_the_loop(model: MemoryInpainter, photos: Path) -> None:
    regions = torch.cat([regions_of(model, path) for path in by_content(photos)])
    seed = from_regions(regions, 2, 3, generator_for(0, 0, 0))
    expected = written(seed, regions, 0.5, fresh=True)
    for ours, loop in zip(state_of(model, photos), expected, strict=True):
        np.testing.assert_allclose(ours, loop, rtol=1e-4, atol=1e-5)  # float32 features, stored as float32
    assert float(state_of(model, photos).weight().sum()) == len(regions)


def test_extending_equals_the_loop_and_adds_to_what_was_learned(model: MemoryInpainter, photos: Path) -> None:
    own: MemoryState = model.memories["bottom"].state  # type: ignore[assignment]
    regions = torch.cat([regions_of(model, path) for path in photos.glob("*.png")])
    found = state_of(model, photos, extend=True)
    for ours, loop in zip(found, written(own, regions, 0.5, fresh=False), strict=True):
        np.testing.assert_allclose(ours, loop, rtol=1e-4, atol=1e-5)
    untouched = found.weight() == own.weight()
    assert torch.equal(found.contexts[untouched], own.contexts[untouched])
    assert torch.isclose(found.weight().sum(), own.weight().sum() + len(regions))


def test_names_folders_order_and_copies_do_not_matter(model: MemoryInpainter, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for number, path in enumerate(sorted(photos.glob("*.png"), reverse=True)):
        shutil.copy(path, tmp_path / ("deep" if number % 2 else ".") / f"q{number}.png")
    shutil.copy(photos / "p0.png", tmp_path / "again.png")
    one, two = remember(model, photos, side=64), remember(model, tmp_path, side=64)
    assert same(one.album.pages["bottom"].state, two.album.pages["bottom"].state)
    assert one.album.facts == two.album.facts
    assert len(two.doubles) == 1
    listed = [photos / f"p{number}.png" for number in (2, 0, 3, 1)]
    assert same(one.album.pages["bottom"].state, state_of(model, listed))
    assert not same(one.album.pages["bottom"].state, state_of(model, listed[:3]))


def test_the_model_is_left_as_it_was_and_reads_the_album(model: MemoryInpainter, photos: Path) -> None:
    mark = fingerprint(model)
    album = remember(model, photos, side=64).album
    assert fingerprint(model) == mark == album.fingerprint
    hole = torch.zeros(1, 1, 64, 64)
    hole[..., 16:48, 16:48] = 1
    read = with_album(model, album)(torch.rand(1, 3, 64, 64) * (1 - hole), hole).reads["bottom"][0]
    offered = album.pages["bottom"].state.contexts
    expected = torch.einsum("nk,nkc->nc", read.weights, offered[read.sets])
    assert torch.allclose(read.context, expected, atol=1e-5)
    assert torch.equal(
        read.sets,
        route(
            read.regions,
            album.pages["bottom"].state.anchors,
            kind="centred",
            center=album.pages["bottom"].state.center(),
        ),
    )


def test_another_size_and_one_album_upon_another(model: MemoryInpainter, photos: Path) -> None:
    paths = sorted(photos.glob("*.png"))
    first = remember(model, paths[:2], side=64, sets=5, contexts=4)
    assert first.album.pages["bottom"].state.contexts.shape == (5, 4, 32)
    both = remember(model, paths[2:], side=64, album=first.album)
    facts = both.album.facts
    assert (facts.photos, facts.regions, facts.extended) == (4, 4 * 16, False)
    assert facts.content != first.album.facts.content
    assert both.album.fingerprint == fingerprint(model)
    assert float(both.album.pages["bottom"].state.weight().sum()) == pytest.approx(4 * 16)


def test_files_that_can_not_be_used(model: MemoryInpainter, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path, dirs_exist_ok=True)
    whole = (photos / "p0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    Image.new("RGB", (20, 90)).save(tmp_path / "thin.png")
    seen: list[tuple[int, int]] = []
    found = remember(model, tmp_path, side=64, progress=lambda done, total: seen.append((done, total)))
    assert sorted(Path(s.path).name for s in found.skipped) == ["cut.png", "text.jpg", "thin.png"]
    assert found.album.facts.skipped == 3
    assert same(found.album.pages["bottom"].state, state_of(model, photos))
    shares = [done / total for done, total in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    with pytest.raises(InputError, match="on_error"):
        remember(model, tmp_path, side=64, on_error="stop")
    with pytest.raises(InputError, match="none of the 1 photos"):
        remember(model, [tmp_path / "text.jpg"], side=64)


def test_calls_that_make_no_sense(model: MemoryInpainter, photos: Path) -> None:
    album = remember(model, photos, side=64).album
    for options, told in (
        ({"extend": True, "sets": 3}, "keeps its size"),
        ({"extend": True, "album": album}, "choose one"),
        ({"sets": 10**6, "contexts": 10**6}, "at most"),
        ({"sets": 0}, "at least 1"),
        ({"side": 50}, "multiples of 16"),
        ({"on_error": "shrug"}, "skip or stop"),
    ):
        with pytest.raises(InputError, match=told):
            remember(model, photos, **{"side": 64, **options})
    with pytest.raises(InputError, match="no memory"):
        remember(build(ModelConfig("unet", {"width": 4})), photos, side=64)
    with pytest.raises(InputError, match="empty; there is nothing to extend"):
        remember(build(CONFIG), photos, side=64, extend=True)
    with pytest.raises(InputError, match="empty list"):
        remember(model, [], side=64)


def test_from_the_command_line(
    model: MemoryInpainter, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = str(save_weights(tmp_path / "w.safetensors", model, CONFIG))
    torch.manual_seed(2)
    other = str(save_weights(tmp_path / "other.safetensors", build(CONFIG), CONFIG))
    album, mask = tmp_path / "album.safetensors", tmp_path / "mask.png"
    make = ["remember", str(photos), "-o", str(album), "--weights", weights]
    assert main(make) == 0
    assert "4 photos, 64 regions; 2 sets of 3 at bottom" in capsys.readouterr().out
    assert same(load_album(album).pages["bottom"].state, state_of(model, photos))
    assert main(make) == 2
    assert "--overwrite" in capsys.readouterr().err

    picture = np.zeros((64, 64), np.uint8)
    picture[20:40, 20:40] = 255
    Image.fromarray(picture).save(mask)
    fill = ["inpaint", str(photos / "p0.png"), "--mask", str(mask), "--device", "cpu"]
    assert main([*fill, "--weights", weights, "-o", str(tmp_path / "own.png")]) == 0
    assert main([*fill, "--weights", weights, "--album", str(album), "-o", str(tmp_path / "album.png")]) == 0
    own, remembered = (np.asarray(Image.open(tmp_path / name)) for name in ("own.png", "album.png"))
    assert not np.array_equal(own, remembered)
    assert np.array_equal(own[picture == 0], remembered[picture == 0])
    capsys.readouterr()
    for wrong, told in (([other, str(album)], "made with other weights"), ([weights, mask.name], "mask.png")):
        code = main([*fill, "--weights", wrong[0], "--album", wrong[1], "-o", str(tmp_path / "x.png")])
        assert (code, told in capsys.readouterr().err) == (2, True)
        assert not (tmp_path / "x.png").exists()
