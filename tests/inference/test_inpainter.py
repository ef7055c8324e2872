"""Any kind of picture in, the same kind out, and only the hole changed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cicm.assembly import MemoryInpainter
from cicm.conventions import InputError
from cicm.inference import Inpainter, LargeHoleWarning
from cicm.networks.lama import from_original
from cicm.photos.resampling import mirrored

COLOUR = (0.2, 0.6, 0.4)  # what the fixtures fill with
Maker = Callable[..., Inpainter]
RNG = np.random.default_rng(0)


def box_hole(height: int, width: int) -> np.ndarray:
    hole = np.zeros((height, width), dtype=bool)
    hole[height // 4 : height // 2 + 1, width // 3 : width // 2 + 1] = True
    return hole


def mask_of(hole: np.ndarray) -> Image.Image:
    return Image.fromarray(hole.astype(np.uint8) * 255)


ARRAYS = {
    "grey": RNG.integers(0, 256, (33, 47), dtype=np.uint8),
    "rgb": RNG.integers(0, 256, (33, 47, 3), dtype=np.uint8),
    "rgba": RNG.integers(0, 256, (33, 47, 4), dtype=np.uint8),
    "rgb16": RNG.integers(0, 65536, (33, 47, 3), dtype=np.uint16),
    "rgba16": RNG.integers(0, 65536, (33, 47, 4), dtype=np.uint16),
    "grey16": RNG.integers(0, 65536, (33, 47), dtype=np.uint16),
    "float32": RNG.random((33, 47, 3), dtype=np.float32),
    "float64": RNG.random((33, 47, 4)),
    "float16": RNG.random((33, 47)).astype(np.float16),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(inpainter: Inpainter, name: str) -> None:
    image = ARRAYS[name]
    kept, hole = image.copy(), box_hole(33, 47)
    result = inpainter(image, hole)
    assert np.array_equal(image, kept)  # the caller's array is not written to
    assert result.dtype == image.dtype
    assert result.shape == image.shape
    assert np.array_equal(result[~hole], image[~hole])
    ceiling = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    expected = np.array(COLOUR) if image.ndim == 3 else np.array(0.299 * 0.2 + 0.587 * 0.6 + 0.114 * 0.4)
    colours = result[hole][:, :3] if image.ndim == 3 else result[hole]
    # half a step of integers; float16 has 11 bits
    assert np.abs(colours / ceiling - expected).max() <= (0.51 / ceiling if ceiling > 1 else 5e-4)
    if image.ndim == 3 and image.shape[2] == 4:
        assert np.array_equal(result[..., 3], image[..., 3])


def test_views_and_read_only_arrays(inpainter: Inpainter) -> None:
    image = ARRAYS["rgb"][::-1, ::2]
    frozen = image.copy()
    frozen.flags.writeable = False
    hole = box_hole(*image.shape[:2])
    assert np.array_equal(inpainter(image, hole), inpainter(frozen, hole))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "F"])
def test_pil_modes(inpainter: Inpainter, mode: str) -> None:
    if mode.startswith("I;16"):
        image = Image.frombytes(mode, (47, 33), ARRAYS["grey16"].tobytes())
    elif mode == "F":
        image = Image.fromarray(ARRAYS["float32"][..., 0].copy())
    elif mode == "PA":
        image = Image.frombytes("PA", (47, 33), ARRAYS["rgba"][..., :2].tobytes())
        image.putpalette(ARRAYS["rgb"].tobytes()[:768])
    else:
        image = Image.fromarray(ARRAYS["rgba"], "RGBA").convert("RGB" if mode == "CMYK" else "RGBA").convert(mode)
    image.info["dpi"] = (72, 72)
    hole = box_hole(33, 47)
    result = inpainter(image, mask_of(hole))
    assert isinstance(result, Image.Image)
    assert (result.mode, result.size, result.info["dpi"]) == (mode, (47, 33), (72, 72))
    assert np.array_equal(np.array(result)[~hole], np.array(image)[~hole])
    assert not np.array_equal(np.array(result)[hole], np.array(image)[hole])
    if mode in ("P", "PA"):
        assert result.getpalette() == image.getpalette()
    if mode[-1] == "A":
        assert np.array_equal(np.array(result)[..., -1], np.array(image)[..., -1])


def test_paths_give_an_upright_picture(inpainter: Inpainter, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Acme"
    Image.fromarray(ARRAYS["rgb"]).save(tmp_path / "photo.png", exif=exif, dpi=(300, 300))
    hole = box_hole(47, 33)
    mask_of(hole).save(tmp_path / "mask.png")
    upright = np.rot90(ARRAYS["rgb"], -1)
    for photo, mask in [(tmp_path / "photo.png", str(tmp_path / "mask.png")), (str(tmp_path / "photo.png"), hole)]:
        result = inpainter(photo, mask)
        assert np.array_equal(np.array(result)[~hole], upright[~hole])
        assert (np.array(result)[hole] == [51, 153, 102]).all()
        again = Image.Exif()
        again.load(result.info["exif"])
        assert (again[0x0112], again[0x010F]) == (1, "Acme")
    with pytest.raises(InputError, match=r"47x33 \(width x height\)|33x47"):
        inpainter(tmp_path / "photo.png", box_hole(33, 47))


def test_sixteen_bit_colour_path_is_refused_before_the_work(inpainter: Inpainter, tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), ARRAYS["rgb16"])
    with pytest.raises(InputError, match="fill_photo"):
        inpainter(tmp_path / "a.png", box_hole(33, 47))
    assert inpainter.model.network.seen == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors(inpainter: Inpainter, dtype: torch.dtype) -> None:
    batch = torch.rand(5, 3, 20, 31).to(dtype)
    kept = batch.clone()
    holes = torch.zeros(5, 1, 20, 31)
    for index in range(5):
        holes[index, :, index : index + 6, 4 : 9 + index] = 1
    result = inpainter(batch, holes)
    assert torch.equal(batch, kept)
    assert result.dtype == dtype
    assert result.shape == batch.shape
    inside = holes.bool().expand_as(batch)
    assert torch.equal(result[~inside], batch[~inside])
    expected = torch.tensor(COLOUR).view(1, 3, 1, 1).to(dtype).expand_as(batch)
    assert torch.equal(result[inside], expected[inside])
    assert len(inpainter.model.network.seen) == 1  # one forward for pictures of one size
    assert [report.missing for report in inpainter.reports] == pytest.approx([6 * (5 + i) / 620 for i in range(5)])
    for index in range(5):  # one picture, and one mask for all
        assert torch.equal(inpainter(batch[index], holes[index]), result[index])
    assert torch.equal(inpainter(batch, holes[2])[2], result[2])
    assert torch.equal(inpainter(batch, list(holes)), result)


def test_large_batches_are_split(monkeypatch: pytest.MonkeyPatch, one_colour: Maker) -> None:
    monkeypatch.setattr("cicm.inference.painter.BATCH", 2 * 32 * 32)
    inpainter = one_colour()
    inpainter(torch.rand(5, 3, 32, 32), box_hole(32, 32))
    assert [len(corrupted) for corrupted, _ in inpainter.model.network.seen] == [2, 2, 1]


def test_no_gradients_and_no_inference_tensor(inpainter: Inpainter) -> None:
    image = torch.rand(3, 32, 32, requires_grad=True)
    result = inpainter(image, box_hole(32, 32))
    assert not result.requires_grad
    assert not result.is_inference()  # so that the caller may train on it


def test_polarity(inpainter: Inpainter) -> None:
    image, hole = ARRAYS["rgb"], box_hole(33, 47)
    assert np.array_equal(inpainter(image, hole), inpainter(image, ~hole, invert=True))
    with pytest.warns(LargeHoleWarning, match="of the picture would be filled"):
        result = inpainter(image, hole, invert=True)
    assert np.array_equal(result[hole], image[hole])
    assert (result[~hole] == [51, 153, 102]).all()


def test_warns_above_sixty_percent_only(inpainter: Inpainter) -> None:
    image = np.zeros((10, 10), dtype=np.uint8)
    hole = np.zeros((10, 10), dtype=bool)
    hole[:6] = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inpainter(image, hole)
    hole[6, 0] = True
    with pytest.warns(LargeHoleWarning, match="61%"):
        inpainter(image, hole)


BAD = [
    (np.zeros((8, 8, 2), np.uint8), "not empty"),
    (np.zeros((3, 8, 8), np.uint8), "channels last"),
    (np.zeros((0, 8, 3), np.uint8), "not empty"),
    (np.zeros((8, 8), np.int64), "int64"),
    (np.zeros((8, 8), bool), "bool"),
    (np.full((8, 8), np.nan), "NaN"),
    (np.full((8, 8, 3), 200.0), r"\[200, 200\]"),
    (torch.zeros(8, 8), "3, H, W"),
    (torch.zeros(1, 8, 8), "3, H, W"),
    (torch.zeros(3, 8, 8, dtype=torch.uint8), "uint8"),
    (torch.full((3, 8, 8), torch.inf), "NaN or infinity"),
    (torch.full((3, 8, 8), -0.1), r"\[-0.1, -0.1\]"),
    (Image.new("HSV", (8, 8)), "mode HSV"),
    (Image.new("I", (8, 8)), "mode I"),
    (7, "got int"),
]


@pytest.mark.parametrize(("image", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_pictures(inpainter: Inpainter, image: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        inpainter(image, box_hole(8, 8))


def test_bad_masks(inpainter: Inpainter) -> None:
    image = np.zeros((8, 9, 3), np.uint8)
    for mask, words in [
        (np.zeros((8, 9), bool), "nothing to fill"),
        (np.ones((8, 9), bool), "nothing known"),
        (np.ones((9, 8), bool), r"8x9.*9x8.*turned by 90"),
        (np.full((8, 9), np.nan), "NaN"),
        ("nowhere.png", "nowhere.png"),
    ]:
        with pytest.raises(InputError, match=words):
            inpainter(image, mask)
    with pytest.raises(InputError, match="nothing to fill"):
        inpainter(image, np.ones((8, 9), bool), invert=True)
    with pytest.raises(InputError, match="one for each of the 2"):
        inpainter(torch.zeros(2, 3, 8, 9), torch.ones(3, 1, 8, 9))


def test_bad_settings(one_colour: Maker) -> None:
    with pytest.raises(InputError, match="margin"):
        one_colour(margin=0)
    with pytest.raises(InputError, match="no device 'abacus'"):
        Inpainter(one_colour().model, device="abacus")
    with pytest.raises(InputError, match="no device 'cuda:99'"):
        Inpainter(one_colour().model, device="cuda:99")


def test_a_network_of_nans_writes_nothing(one_colour: Maker) -> None:
    broken = one_colour((float("nan"),) * 3)
    for image in (ARRAYS["rgb"], torch.rand(3, 33, 47)):
        with pytest.raises(InputError, match="NaN"):
            broken(image, box_hole(33, 47))


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 500), (500, 3), (17, 31), (32, 48), (1, 700), (1024, 33)])
def test_odd_sizes(inpainter: Inpainter, size: tuple[int, int]) -> None:
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    hole = np.zeros(size, dtype=bool)
    hole[size[0] // 2, size[1] // 2] = True
    if size == (1, 1):  # it is either wholly missing or wholly known
        with pytest.raises(InputError, match="nothing known"):
            inpainter(image, hole)
        return
    result = inpainter(image, hole)
    assert np.array_equal(result[~hole], image[~hole])
    assert (result[hole] == [51, 153, 102]).all()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0.01, 0.99),
    clustered=st.booleans(),
    limits=st.sampled_from([(1, 32), (5, 40), (128, 1024)]),
)
@pytest.mark.filterwarnings("ignore::cicm.inference.painter.LargeHoleWarning")
def test_any_size_and_hole(
    monkeypatch: pytest.MonkeyPatch,
    one_colour: Maker,
    height: int,
    width: int,
    seed: int,
    share: float,
    clustered: bool,
    limits: tuple[int, int],
) -> None:
    """Cut out, reduced or whole: known pixels stay, the hole is the one colour, the network's rule is kept."""
    monkeypatch.setattr("cicm.inference.plan.WHOLE", 1000)
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 65536, (height, width, 3), dtype=np.uint16)
    hole = rng.random((height, width)) < share
    if clustered:
        y, x = rng.integers(height), rng.integers(width)
        outside = np.ones_like(hole)
        outside[y : y + 9, x : x + 13] = False
        hole &= ~outside
    if hole.all() or not hole.any():
        return
    margin, max_side = limits
    inpainter = one_colour(margin=margin, max_side=max_side, strategy="resize")
    result = inpainter(image, hole)
    assert np.array_equal(result[~hole], image[~hole])
    report = inpainter.report
    assert report is not None
    left, top, right, bottom = report.box
    assert hole[top:bottom, left:right].sum() == hole.sum()
    if report.reduced == 1:
        assert (result[hole] == [13107, 39321, 26214]).all()
    (corrupted, _), *more = inpainter.model.network.seen
    assert not more
    assert tuple(corrupted.shape[-2:]) == report.network_size
    assert max(report.network_size) <= max(32, max_side + 15)


def test_padding_mirrors_hole_as_hole(one_colour: Maker) -> None:
    """No black of a hole is passed off as known: every padded cell has the hole and colour of the pixel it mirrors."""
    inpainter = one_colour()
    image, hole = torch.rand(3, 19, 21), torch.zeros(1, 19, 21)
    hole[:, :, :7] = 1  # touches three borders
    inpainter(image, hole)
    corrupted, seen = inpainter.model.network.seen[0]
    assert corrupted.shape == (1, 3, 32, 32)
    rows, columns = mirrored(19, 32), mirrored(21, 32)
    for y in range(32):
        for x in range(32):
            assert torch.equal(seen[0, :, y, x], hole[:, rows[y], columns[x]])
            assert torch.equal(corrupted[0, :, y, x], (image * (1 - hole))[:, rows[y], columns[x]])
    assert rows[6:25].tolist() == list(range(19))


@pytest.mark.shared
@pytest.mark.parametrize("name", ["lama_fourier", "lama_big"])
def test_lama_fills_a_picture_of_any_size_as_its_own_pipeline_does(oracles, name: str) -> None:
    """61x90 pixels, padded as the original pads; 1e-5 of the largest value, and outside the hole bit for bit."""
    stored = oracles.outputs(f"{name}_pipeline.a")
    image, hole = oracles.picture(stored)
    inpainter = Inpainter(MemoryInpainter(from_original(oracles.state(name))), device="cpu", fill="network")
    filled = inpainter(image, hole)
    assert inpainter.report.network_size == (64, 96)
    assert oracles.error(filled, stored["composite"]) < 1e-5
    outside = (hole == 0).expand_as(image)
    assert torch.equal(filled[outside], image[outside])


def test_large_photo_is_cut_around_the_hole(one_colour: Maker) -> None:
    inpainter = one_colour(strategy="resize", margin=128)
    hole = np.zeros((900, 1200), dtype=bool)
    hole[400:500, 300:340] = True
    inpainter(RNG.integers(0, 256, (900, 1200), dtype=np.uint8), hole)
    report = inpainter.report
    assert report is not None
    # the hole is 100 long, so the margin is 128: 40 + 256 = 296 grows to 304, 100 + 256 = 356 to 368
    assert report.network_size == (368, 304)
    assert report.box == (168, 266, 472, 634)
    assert report.reduced == 1
    corner = np.zeros((900, 1200), dtype=bool)
    corner[880:, 1190:] = True
    plan = inpainter.plan(corner)
    assert plan.box == (1056, 740, 1200, 900)  # 128 beyond the hole, then up to multiples of 16
    assert plan.work == (160, 144)


def test_long_hole_is_reduced_and_known_colours_do_not_mix_with_the_hole(one_colour: Maker) -> None:
    inpainter = one_colour(max_side=64, strategy="resize")
    image = RNG.integers(197, 204, (600, 900, 3), dtype=np.uint8)
    hole = np.zeros((600, 900), dtype=bool)
    hole[100:300, 200:700] = True
    result = inpainter(image, hole)
    report = inpainter.report
    assert report is not None
    assert report.reduced == pytest.approx(900 / 64)
    corrupted, seen = inpainter.model.network.seen[0]
    known = seen.expand_as(corrupted) == 0
    assert torch.allclose(corrupted[known], torch.tensor(200 / 255), atol=3 / 255)
    middle = result[150:250, 300:600]
    assert (middle == [51, 153, 102]).all()
    assert np.array_equal(result[~hole], image[~hole])


def test_a_real_model_on_a_path(weights: Path, tmp_path: Path) -> None:
    image, hole = ARRAYS["rgb"], box_hole(33, 47)
    Image.fromarray(image).save(tmp_path / "a.png")
    inpainter = Inpainter.from_pretrained(weights, device="cpu")
    by_path = np.array(inpainter(tmp_path / "a.png", hole))
    by_array = inpainter(image, hole)
    by_tensor = inpainter(torch.from_numpy(image).permute(2, 0, 1) / 255, hole)
    assert np.array_equal(by_path, by_array)
    assert np.array_equal(by_path[~hole], image[~hole])
    rounded = torch.floor(by_tensor.clamp(0, 1) * 255 + 0.5).permute(1, 2, 0).numpy()
    assert np.abs(rounded - by_array).max() <= 1  # 8-bit values by two routes, half a step apart
    assert len(np.unique(by_array[hole].reshape(-1, 3), axis=0)) > 5


def test_the_package_offers_it() -> None:
    import cicm

    assert cicm.Inpainter is Inpainter
