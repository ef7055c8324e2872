"""Metrics by name: the registry, running state, several at once, and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_metrics_networks import randomised
from torch import Tensor, nn

from cicm.conventions import InputError
from cicm.metrics import METRICS, MissingWeights, create, frechet, inception, to_8bit, update_all
from cicm.metrics.frechet import FrechetBetweenSets
from cicm.metrics.inception import FidInception
from cicm.metrics.l1 import l1
from cicm.metrics.pixels import quantised
from cicm.metrics.psnr import psnr
from cicm.metrics.published import PUBLISHED
from cicm.metrics.squeeze import SqueezeFeatures
from cicm.metrics.ssim import ssim
from cicm.metrics.state import PerImage

AT_HAND = ["psnr", "ssim", "l1", "sqz-distance", "sqz-frechet", "sqz-kernel"]
IDEAL = {"psnr": 100.0, "ssim": 1.0, "l1": 0.0, "sqz-distance": 0.0, "sqz-frechet": 0.0}


DIRECTIONS = {"psnr": "higher", "ssim": "higher", "sharpness": "near 1"}
DRIFT = {"psnr": 19.9955786, "ssim": 0.7577008, "l1": 3.8253287, "sqz-distance": 0.4384757}


def quiet(metric: object) -> float:
    """`compute` of a metric that rightly warns of too few images."""
    with pytest.warns(UserWarning, match="biased upwards"):
        return metric.compute()  # type: ignore[attr-defined]


def test_every_metric_is_described() -> None:
    assert list(METRICS)[:3] == ["psnr", "ssim", "l1"]
    assert {"sqz-distance", "sqz-frechet", "lpips-alex", "lpips-vgg", "lpips-squeeze", "fid"} <= set(METRICS)
    for name, metric in METRICS.items():
        running = create(name)
        assert running.metric is metric
        assert metric.name == name
        assert metric.better == DIRECTIONS.get(name, "lower")
        low, high = metric.bounds
        assert IDEAL.get(name, low) == (high if metric.better == "higher" else low) or metric.better == "near 1"
        assert metric.explain
        for needed in metric.needs:
            assert name in PUBLISHED[needed].used_by
    for file in PUBLISHED.values():
        assert all(file.name in METRICS[name].needs for name in file.used_by if "." not in name)


def test_stand_ins_are_not_called_by_published_names() -> None:
    for name, metric in METRICS.items():
        if name.startswith("sqz"):
            assert "lpips" not in name
            assert "fid" not in name
            assert "not " in metric.explain or "only" in metric.explain


def test_what_is_available_here(nowhere: Path) -> None:
    for name in METRICS:
        reason = create(name).available()
        assert (reason is None) == (name in [*AT_HAND, "sharpness"])
        if reason is not None:
            assert "cicm models get" in reason


def test_unknown_names_and_options_name_the_known_ones() -> None:
    with pytest.raises(InputError, match="did you mean 'psnr'"):
        create("pnsr")
    with pytest.raises(InputError, match="no option windows; it has rounding, window, size, sigma, sample_covariance"):
        create("ssim", windows="gaussian")
    with pytest.raises(InputError, match="psnr has no option strict; it has rounding, color"):
        create("psnr", strict=True)
    with pytest.raises(InputError, match="unknown rounding 'up'; known are nearest, down, none"):
        create("l1", rounding="up")
    for name in ("psnr", "ssim", "l1"):
        with pytest.raises(InputError, match="unknown color 'gray'; known are rgb, mean, grey"):
            create(name, color="gray")


def test_running_metric_scores_what_a_file_would_hold(pictures: tuple[Tensor, Tensor]) -> None:
    for name, score in (("psnr", psnr), ("ssim", ssim), ("l1", l1)):
        composite, image = pictures
        values = create(name).update(composite, image)
        assert values is not None, name
        assert values.dtype == torch.float64, name
        # 1e-6: the eight bits in float64 and in float32
        expected = score(to_8bit(composite), to_8bit(image))
        torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-6)
        assert not torch.allclose(values, score(composite, image), rtol=1e-7, atol=1e-7), "rounding leaves a trace"


@pytest.mark.parametrize("name", AT_HAND)
def test_batches_add_up(name: str, pictures: tuple[Tensor, Tensor]) -> None:
    composite, image = pictures
    whole, single = create(name), create(name)
    together = whole.update(composite, image)
    one_by_one = [single.update(composite[i : i + 1], image[i : i + 1]) for i in range(4)]
    assert whole.num_images == single.num_images == 4
    values = [quiet(m) if name == "sqz-frechet" else m.compute() for m in (whole, single)]
    # 1e-4: float32 convolutions of another batch size; the Frechet distance takes roots of small differences
    assert values == pytest.approx([values[0]] * 2, rel=1e-4)
    if isinstance(whole, PerImage):
        assert together is not None
        assert torch.cat([value for value in one_by_one if value is not None]).tolist() == pytest.approx(
            together.tolist(), rel=1e-5
        )
        assert values[0] == pytest.approx(together.mean().item(), abs=1e-12)
    else:
        assert together is None


def test_identical_images_have_the_ideal_value(pictures: tuple[Tensor, Tensor]) -> None:
    for name, value in IDEAL.items():
        metric = create(name)
        metric.update(pictures[1], pictures[1])
        computed = quiet(metric) if name == "sqz-frechet" else metric.compute()
        # 1e-6: the Frechet distance of a set and itself is rounding of a trace near 1e6
        assert computed == pytest.approx(value, abs=1e-6), name


def test_a_worse_set_is_further_away(pictures: tuple[Tensor, Tensor]) -> None:
    _, image = pictures
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(4))
    for name in ("sqz-frechet", "sqz-kernel"):
        values = []
        for strength in (0.03, 0.1, 0.3):
            metric = create(name)
            metric.update((image + strength * noise).clamp(0, 1), image)
            values.append(quiet(metric) if name == "sqz-frechet" else metric.compute())
        assert values == sorted(values)
        assert values[-1] > values[0]


def test_too_few_images_are_named_or_refused(pictures: tuple[Tensor, Tensor]) -> None:
    composite, image = pictures
    metric = create("sqz-frechet")
    assert isinstance(metric, FrechetBetweenSets)
    metric.update(composite, image)
    assert metric.note == "N=4 < 512 features: biased upwards, comparable only at the same N"
    assert quiet(metric) > 0
    for name in AT_HAND:
        empty = create(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(InputError, match="at least"):
                empty.compute()


def test_broken_images_are_refused_and_leave_no_trace(pictures: tuple[Tensor, Tensor]) -> None:
    for name in AT_HAND:
        composite, image = pictures
        metric = create(name)
        metric.update(composite, image)
        broken = composite.clone()
        broken[2, 1, 5, 5] = float("nan")
        with pytest.raises(InputError, match=r"images \[2\]"):
            metric.update(broken, image)
        with pytest.raises(InputError, match="same shape"):
            metric.update(composite[:, :, :30], image)
        with pytest.raises(InputError, match=r"\[0, 1\]"):
            metric.update(composite * 255, image)
        assert metric.num_images == 4, name


def test_scores_are_not_moved_by_autocast_or_gradients(pictures: tuple[Tensor, Tensor]) -> None:
    composite, image = pictures
    names = ["psnr", "ssim", "sqz-distance"]
    plain = update_all({name: create(name) for name in names}, composite, image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = update_all({name: create(name) for name in names}, composite.clone().requires_grad_(), image)
    assert all(torch.equal(mixed[name], plain[name]) for name in names)


def test_protocols_say_what_was_chosen() -> None:
    assert create("ssim").protocol["size"] == 7
    assert create("ssim", window="gaussian").protocol["size"] == 11
    assert create("ssim", window="gaussian").protocol["sigma"] == 1.5
    assert create("lpips-vgg").protocol["version"] == "0.1"
    assert "299" in create("fid").protocol["resize"]


def test_settings_that_are_not_ours_stand_in_the_protocol() -> None:
    assert "rounding" not in create("psnr").protocol
    cut = create("psnr", rounding="down", color="grey", offset_db=1.0)
    assert cut.protocol["rounding"] == "down to one of 256 values"
    assert cut.protocol["color"] == "grey: 0.2125 R + 0.7154 G + 0.0721 B"
    assert cut.protocol["offset_db"] == 1
    assert "floor" not in cut.protocol
    assert create("l1", rounding="none").protocol["rounded_to_8_bit"] is False
    assert create("ssim", border="zeros").protocol["border"] == "zeros"


def test_metrics_on_one_network_share_one_pass(
    pictures: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    composite, image = pictures
    names = ["psnr", "sqz-distance", "sqz-frechet", "sqz-kernel"]
    alone = {name: create(name) for name in names}
    values = {name: metric.update(composite, image) for name, metric in alone.items()}
    passes = []
    forward = SqueezeFeatures.forward
    monkeypatch.setattr(SqueezeFeatures, "forward", lambda self, x: passes.append(len(x)) or forward(self, x))
    together = {name: create(name) for name in names}
    found = update_all(together, composite, image)
    assert passes == [4, 4], "one pass over the composites, one over the images"
    for name in names:
        assert torch.equal(found[name], values[name]) if values[name] is not None else found[name] is None
        both = [quiet(m[name]) if name == "sqz-frechet" else m[name].compute() for m in (alone, together)]
        assert both[0] == both[1]
    broken = composite.clone()
    broken[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="finite"):
        update_all(together, broken, image)
    assert {metric.num_images for metric in together.values()} == {4}


def test_one_batch_may_be_rounded_in_several_ways(pictures: tuple[Tensor, Tensor]) -> None:
    composite, image = pictures
    metrics = {way: create("l1", rounding=way) for way in ("nearest", "down", "none")}
    found = update_all(metrics, composite, image)
    for way, values in found.items():
        expected = l1(quantised(composite, way), quantised(image, way))
        torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-6)  # 8 bits in float64 and in float32
    assert len({round(values.sum().item(), 9) for values in found.values()}) == 3


def test_few_images_are_named_by_the_kernel_distances_too(pictures: tuple[Tensor, Tensor]) -> None:
    metric = create("sqz-kernel")
    metric.update(*pictures)
    assert metric.note == "N=4 < 100: unbiased, but another set of photos may tell otherwise"
    for _ in range(24):
        metric.update(*pictures)
    assert metric.note == "N=100"


def test_the_scores_of_our_network_do_not_drift() -> None:
    """Numbers of this version on a picture from a formula: stored scores stay comparable as long as they come out."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(56.0), indexing="ij")
    image = torch.stack([0.5 + 0.4 * torch.sin(x / 5), 0.5 + 0.4 * torch.cos(y / 7), (x * y) / 2600])[None].clamp(0, 1)
    composite = image.clone()
    composite[..., 10:30, 15:40] = 0.4
    values = {name: create(name).update(composite, image) for name in ("psnr", "ssim", "l1", "sqz-distance")}
    # 1e-4: float32 convolutions of other machines; the pixel scores are float64
    assert {name: value.item() for name, value in values.items()} == pytest.approx(DRIFT, rel=1e-4)


def test_fid_refuses_too_few_images_and_kid_does_not(
    nowhere: Path,
    tmp_path: Path,
    publish: Callable[[str, Path], None],
    pictures: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both on one pass of a stand-in network, kid against a loop over pairs of images."""

    class Standin(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            passes.append(len(image))
            return image.mean(dim=(2, 3)).repeat(1, 2048 // 3 + 1)[:, :2048] * torch.linspace(0, 2, 2048)

    passes: list[int] = []
    monkeypatch.setattr(inception, "_shared", lambda path: Standin())
    composite, image = pictures
    metrics = {name: create(name) for name in ("fid", "kid")}
    update_all(metrics, composite, image)
    assert passes == [4, 4]
    with pytest.raises(InputError, match=r"fid needs at least 100 images to mean anything; got 4. Score more, or look"):
        metrics["fid"].compute()
    x, y = (Standin()(to_8bit(picture)).double() for picture in (composite, image))
    total = 0.0
    for i in range(4):
        for j in range(4):
            inside = ((x[i] @ x[j] / 2048 + 1) ** 3 + (y[i] @ y[j] / 2048 + 1) ** 3) / 12 if i != j else 0.0
            total += float(inside - 2 * (x[i] @ y[j] / 2048 + 1) ** 3 / 16)
    assert metrics["kid"].compute() == pytest.approx(1000 * total, rel=1e-4)  # float32 features
    monkeypatch.setattr(frechet, "frechet_distance", lambda *_: 7.0)  # roots of 2048 x 2048 take long
    few = create("fid", fewest=4)
    few.update(composite, image)
    with pytest.warns(UserWarning, match="N=4 < 2048 features"):
        assert few.compute() == 7.0


def test_fid_with_its_file(
    nowhere: Path, tmp_path: Path, publish: Callable[[str, Path], None], pictures: tuple[Tensor, Tensor]
) -> None:
    composite, image = pictures
    with pytest.raises(MissingWeights, match=r"pt_inception-2015-12-05-6726825d\.pth"):
        create("fid").update(composite, image)
    network = randomised(FidInception())
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    publish("fid-inception", tmp_path / "inception.pth")
    metric = create("fid", path=str(tmp_path / "inception.pth"))
    assert metric.available() is None
    assert isinstance(metric, FrechetBetweenSets)
    assert metric.update(composite[:2], image[:2]) is None
    with torch.no_grad():
        expected = network(to_8bit(composite[:2])).mean(0)
    torch.testing.assert_close(metric.composites.mean.float(), expected, rtol=1e-4, atol=1e-5)  # float32 features
    assert metric.note.startswith("N=2 < 2048")
