"""Classical methods equal the libraries' own calls and touch only the hole; folders are matched by name."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.restoration import inpaint_biharmonic

from cicm.conventions import InputError
from cicm.evaluation.classical import CLASSICAL, Biharmonic, Given, Mean, NavierStokes, Telea, to_array, to_tensor
from cicm.evaluation.methods import FolderResults, method_from
from cicm.ops import composite


@pytest.fixture
def corrupted(tiny):
    """Two photos with different holes: (image, hole) as tensors, and (corrupted, hole) as arrays."""
    pairs = [tiny.pairs[1], tiny.pairs[11]]
    image = torch.stack([tiny.truth(pair) for pair in pairs])
    hole = torch.stack([torch.from_numpy(tiny.hole(pair)).float()[None] for pair in pairs])
    return image * (1 - hole), hole


def test_known_pixels_stay_bit_for_bit(corrupted):
    for name in CLASSICAL:
        damaged, hole = corrupted
        filled = CLASSICAL[name]().fill(damaged, hole)
        assert filled.dtype == torch.float32, name
        assert torch.equal(filled * (1 - hole), damaged), name
        assert not torch.equal(filled * hole, torch.zeros_like(filled)), "the hole was left empty"


def test_what_lies_in_the_hole_is_not_seen(corrupted):
    for name in CLASSICAL:
        damaged = corrupted[0]
        hole = torch.zeros(2, 1, 32, 32)  # inside the photo: at its border OpenCV's own code does look, see OpenCV
        hole[0, :, 8:20, 8:14] = hole[1, :, 12:16, 9:24] = 1
        damaged = damaged * (1 - hole)
        other = damaged + hole * 0.75
        assert torch.equal(CLASSICAL[name]().fill(damaged, hole), CLASSICAL[name]().fill(other, hole)), name


def test_images_of_a_batch_do_not_mix(corrupted):
    for name in CLASSICAL:
        damaged, hole = corrupted
        together = CLASSICAL[name]().fill(damaged, hole)
        alone = torch.cat([CLASSICAL[name]().fill(damaged[i : i + 1], hole[i : i + 1]) for i in range(2)])
        assert torch.equal(together, alone), name


def test_opencv_equals_a_direct_call(corrupted):
    for method, flag in ((Telea(3), cv2.INPAINT_TELEA), (NavierStokes(5), cv2.INPAINT_NS)):
        damaged, hole = corrupted
        filled = method.fill(damaged, hole)
        for index in range(2):
            array = (damaged[index] * 255).round().byte().permute(1, 2, 0).numpy()
            mask = np.uint8(255) * hole[index, 0].byte().numpy()
            expected = cv2.inpaint(np.ascontiguousarray(array), mask, method.radius, flag)
            np.testing.assert_array_equal(to_array(filled[index]), expected)


def test_the_contributed_methods_see_the_hole_and_not_its_opposite(corrupted):
    """xphoto wants 0 where a pixel is missing; the colours come back in the order that they went in."""
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.1
    image[:, 0] += 0.7
    image = (image * 255).round() / 255
    hole = torch.zeros(1, 1, 32, 32)
    hole[..., 12:18, 12:18] = 1
    for name in ("shiftmap", "fsr"):
        filled = CLASSICAL[name]().fill(image * (1 - hole), hole)
        colour = filled[..., 12:18, 12:18].mean(dim=(0, 2, 3))
        assert (colour - image.mean(dim=(0, 2, 3))).abs().max() < 0.1, name


def test_a_way_to_fill_that_the_caller_knows_is_a_method(corrupted):
    damaged, hole = corrupted
    grey = Given("grey", "half", lambda image, gone: np.full_like(image, 128))
    filled = method_from("plain=mine", more={"mine": lambda: grey}).fill(damaged, hole, [])
    assert grey.name == "plain"
    assert torch.equal(filled, composite(torch.full_like(damaged, 128 / 255), damaged, hole))
    with pytest.raises(InputError, match="did you mean 'mine'"):
        method_from("mien", more={"mine": lambda: grey})


def test_biharmonic_equals_a_direct_call_and_one_large_system(corrupted):
    damaged, hole = corrupted
    filled = Biharmonic().fill(damaged, hole)
    for index in range(2):
        array = damaged[index].permute(1, 2, 0).numpy().astype(np.float64)
        whole = inpaint_biharmonic(array, hole[index, 0].numpy() > 0.5, channel_axis=-1, split_into_regions=False)
        # 1e-5: float32 results (6e-8) of a system whose condition number grows with the fourth power of the hole
        np.testing.assert_allclose(filled[index].permute(1, 2, 0).numpy(), whole, atol=1e-5)


def test_biharmonic_regions_apart_equal_one_system_where_they_nearly_touch():
    """Pieces one pixel apart, diagonal pieces and pieces at the border share equations or they do not; both agree."""
    rng = np.random.default_rng(3)
    image = rng.uniform(0.2, 0.8, (24, 24, 3))
    hole = np.zeros((24, 24), bool)
    hole[0:3, 0:3] = hole[4:7, 0:3] = hole[7:9, 3:6] = hole[12:14, 12:14] = hole[14:16, 15:17] = hole[20:24, 5] = True
    image[hole] = 0
    apart = Biharmonic().fill_one(np.round(image * 255).astype(np.uint8), hole)
    whole = inpaint_biharmonic(np.round(image * 255) / 255, hole, channel_axis=-1, split_into_regions=False)
    np.testing.assert_allclose(apart, whole, atol=1e-9)  # 1e-9: two orders of elimination in float64


def test_mean_by_hand():
    image = np.array([[[10, 0, 0], [30, 0, 0]], [[50, 90, 0], [7, 7, 7]]], np.uint8)
    hole = np.array([[False, False], [False, True]])
    filled = to_array(to_tensor(Mean().fill_one(image, hole)))
    assert filled[1, 1].tolist() == [30, 30, 0]
    assert (filled[~hole] == image[~hole]).all()


def test_mean_needs_a_known_pixel():
    with pytest.raises(InputError, match="known pixel"):
        Mean().fill_one(np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), bool))


@pytest.mark.parametrize(("module", "name"), [("cv2", "telea"), ("skimage.restoration", "biharmonic")])
def test_a_missing_library_names_the_extra(tiny, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)  # makes `import` raise ImportError
    with pytest.raises(InputError, match=r'pip install "cicm\[baselines\]"'):
        method_from(name).prepare(tiny.pairs)


def test_unknown_methods_are_named():
    for text, words in (
        ("tellea", "did you mean 'telea'"),
        ("telea:many", "must be a number"),
        ("telea:0", "above 0"),
        ("telea:nan", "above 0"),
        ("telea:", "none of these"),
        ("mean:3", "takes no setting"),
        ("no/such/file.safetensors", "none of these"),
    ):
        with pytest.raises(InputError, match=words):
            method_from(text)


def test_methods_can_be_labelled(tmp_path):
    assert method_from("ours=telea:3").name == "ours"
    assert method_from("telea").name == "telea"
    (tmp_path / "a=b").mkdir()
    assert isinstance(method_from(str(tmp_path / "a=b")), FolderResults)


# Folders of results


def put(tiny, folder, name, pair, *, noise=0, size=None):
    """Save the truth, damaged by `noise` everywhere, as somebody's result."""
    array = to_array(tiny.truth(pair)).astype(int) + noise
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.clip(array, 0, 255).astype(np.uint8))
    (picture.resize(size) if size else picture).save(path)


@pytest.mark.parametrize("layout", ["{band}/{stem}.png", "{stem}_{band}.png", "{band}/{stem}.PNG"])
def test_folder_is_matched_by_name_and_band(tiny, tmp_path, layout):
    folder = tmp_path / "results"
    for number, pair in enumerate(tiny.pairs):
        put(tiny, folder, layout.format(band=pair.band, stem=pair.image.removesuffix(".png")), pair, noise=number + 1)
    method = FolderResults(folder)
    method.prepare(tiny.pairs)
    for number, pair in enumerate(tiny.pairs):
        hole = torch.from_numpy(tiny.hole(pair)).float()[None, None]
        image = tiny.truth(pair)[None]
        filled = to_array(method.fill(image * (1 - hole), hole, [pair])[0]).astype(int)
        truth, inside = to_array(image[0]).astype(int), hole[0, 0].numpy() > 0.5
        assert (filled[~inside] == truth[~inside]).all()
        assert (filled[inside] == np.clip(truth + number + 1, 0, 255)[inside]).all()


def test_folder_raw_keeps_the_results_own_pixels(tiny, tmp_path):
    pair = tiny.pairs[0]
    put(tiny, tmp_path, pair.image, pair, noise=9)
    image = tiny.truth(pair)[None]
    hole = torch.from_numpy(tiny.hole(pair)).float()[None, None]
    raw = FolderResults(tmp_path, raw=True).fill(image * (1 - hole), hole, [pair])
    expected = np.clip(to_array(image[0]).astype(int) + 9, 0, 255)
    np.testing.assert_array_equal(to_array(raw[0]), expected)


def test_folder_without_bands_serves_one_band_only(tiny, tmp_path):
    one = [pair for pair in tiny.pairs if pair.band == "20-40"]
    for pair in one:
        put(tiny, tmp_path, pair.image, pair)
    FolderResults(tmp_path).prepare(one)
    with pytest.raises(InputError, match=f"lacks {len(tiny.pairs)} of {len(tiny.pairs)}"):
        FolderResults(tmp_path).prepare(tiny.pairs)


def test_missing_results_are_counted_and_named(tiny, tmp_path):
    for pair in tiny.pairs[2:]:
        put(tiny, tmp_path, f"{pair.band}/{pair.image}", pair)
    with pytest.raises(InputError, match=rf"lacks 2 of {len(tiny.pairs)} results: 0-20/p0\.png, 20-40/p0\.png\. Name"):
        FolderResults(tmp_path).prepare(tiny.pairs)


def test_two_results_for_one_photo_are_refused(tiny, tmp_path):
    for pair in tiny.pairs:
        put(tiny, tmp_path, f"{pair.band}/{pair.image}", pair)
    put(tiny, tmp_path, "0-20/p0.jpg", tiny.pairs[0])
    with pytest.raises(InputError, match=r"two results for p0\.png, band 0-20"):
        FolderResults(tmp_path).prepare(tiny.pairs)


def test_a_result_of_another_size_is_refused(tiny, tmp_path):
    pair = tiny.pairs[0]
    put(tiny, tmp_path, pair.image, pair, size=(40, 32))
    image = tiny.truth(pair)[None]
    with pytest.raises(InputError, match="32x32 pixels; got 40x32"):
        FolderResults(tmp_path).fill(image, torch.zeros(1, 1, 32, 32), [pair])


def test_a_damaged_result_is_named(tiny, tmp_path):
    pair = tiny.pairs[0]
    (tmp_path / pair.image).write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    image = tiny.truth(pair)[None]
    with pytest.raises(InputError, match=r"p0\.png"):
        FolderResults(tmp_path).fill(image, torch.zeros(1, 1, 32, 32), [pair])


# A model


def test_a_model_fills_by_its_weights_file(tiny, tmp_path):
    from cicm.assembly import ModelConfig, build, save_weights

    config = ModelConfig(network="unet", options={"width": 4}, memories={})
    model = build(config).eval()
    path = save_weights(tmp_path / "small.safetensors", model, config, {"seed": 5})
    method, raw = method_from(str(path)), method_from(str(path), raw=True)
    assert (method.name, method.seed) == ("small", 5)
    pair = tiny.pairs[2]
    image, hole = tiny.truth(pair)[None], torch.from_numpy(tiny.hole(pair)).float()[None, None]
    damaged = image * (1 - hole)
    with torch.no_grad():
        expected = model(damaged, hole)
    assert torch.equal(method.fill(damaged, hole, [pair]), expected.composite)
    assert torch.equal(raw.fill(damaged, hole, [pair]), expected.prediction.image)
    assert torch.equal(method.fill(damaged, hole, [pair]) * (1 - hole), damaged)
