"""Other projects' definitions: each against scikit-image or a loop with the same options; protocols that do not mix."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.color import rgb2gray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.data.pair_lists import write_pairs
from cicm.evaluation.classical import Method
from cicm.evaluation.compare import compare
from cicm.evaluation.plan import make_plan
from cicm.evaluation.presets import DEFAULT, PRESETS, WITHOUT_CODE, preset_of
from cicm.evaluation.records import Evaluation
from cicm.evaluation.scoring import evaluate
from cicm.metrics import METRICS

from .conftest import TinySet

PIXELS = ("psnr", "ssim", "l1")
CLOSE = 1e-8  # float64 on both sides in another order; the division in SSIM amplifies that by at most 1 / 0.03^2


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    """A composite (3, 60, 64) as a network gives it, not rounded and a little outside [0, 1], and its 8-bit photo."""
    generator = torch.Generator().manual_seed(11)
    y, x = torch.meshgrid(torch.linspace(0, 1, 60), torch.linspace(0, 1, 64), indexing="ij")
    photo = torch.stack([0.5 + 0.45 * torch.sin(11 * x + 5 * y), x * y, 0.9 * (1 - x)])
    photo = ((photo + 0.1 * torch.rand(3, 60, 64, generator=generator)).clamp(0, 1) * 255).round() / 255
    composite = photo.clone()
    hole = (slice(None), slice(12, 44), slice(20, 50))
    composite[hole] += 0.15 * torch.randn(3, 32, 30, generator=generator) + 0.05
    return composite.clamp(-0.0005, 1.0005), photo


def channels_last(picture: Tensor) -> np.ndarray:
    return picture.clamp(0, 1).permute(1, 2, 0).numpy()


def cut(picture: Tensor) -> np.ndarray:
    """(H, W, 3) uint8, as `(255 * x).astype(uint8)` makes it."""
    return (channels_last(picture) * np.float32(255)).astype(np.uint8)


def rounded(picture: Tensor) -> np.ndarray:
    return np.rint(channels_last(picture).astype(np.float64) * 255).astype(np.uint8)


# The projects' metrics, written from their descriptions with other means than ours -----------------------------------


def skimage_ssim(a: np.ndarray, b: np.ndarray, data_range: float, **options) -> float:
    axis = -1 if a.ndim == 3 else None
    return structural_similarity(a, b, data_range=data_range, channel_axis=axis, **options)


def psnr255(a: np.ndarray, b: np.ndarray) -> float:
    return peak_signal_noise_ratio(b, a, data_range=255)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return 100 * np.abs(a.astype(float) - b).sum() / (a.astype(float) + b).sum()


def share(a: np.ndarray, b: np.ndarray) -> float:
    return 100 * np.abs(a.astype(float) - b).mean() / 255


def misf(a: Tensor, b: Tensor) -> dict[str, float]:
    x, y = cut(a), cut(b)
    l1 = 100 * np.abs(channels_last(a).astype(np.float64) - channels_last(b)).mean()
    return {"psnr": psnr255(x, y), "ssim": skimage_ssim(x, y, 255), "l1": l1}


def lama(a: Tensor, b: Tensor) -> dict[str, float]:
    """Two-dimensional convolutions over zeros, as its SSIM module has them."""
    x, y = (torch.from_numpy(cut(t)).permute(2, 0, 1)[None].double() / 255 for t in (a, b))
    bell = torch.exp(-((torch.arange(11.0, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    bell /= bell.sum()
    window = torch.outer(bell, bell).expand(3, 1, 11, 11)

    def mean(t: Tensor) -> Tensor:
        return F.conv2d(t, window, padding=5, groups=3)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    values = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    return {"ssim": values.mean().item()}


GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


def mat(a: Tensor, b: Tensor) -> dict[str, float]:
    x, y = rounded(a), rounded(b)
    return {"psnr": psnr255(x, y), "ssim": skimage_ssim(x, y, 255, **GAUSSIAN), "l1": share(x, y)}


def zits(a: Tensor, b: Tensor) -> dict[str, float]:
    x, y = cut(a)[..., ::-1], cut(b)[..., ::-1]  # OpenCV reads BGR
    error = np.mean((x / 255.0 - y / 255.0) ** 2)
    ssim = skimage_ssim(rgb2gray(x), rgb2gray(y), 2)
    return {"psnr": 1.0 - 10 * np.log(error + 1e-7) / np.log(10), "ssim": ssim, "l1": share(x, y)}


def pen(a: Tensor, b: Tensor) -> dict[str, float]:
    x, y = cut(a), cut(b)
    return {"psnr": psnr255(x, y), "ssim": skimage_ssim(x, y, 255, win_size=51), "l1": relative(x, y)}


def spl(a: Tensor, b: Tensor) -> dict[str, float]:
    x, y = cut(a), cut(b)
    l1 = 100 * np.mean(np.abs((np.mean(x, 2) - np.mean(y, 2)) / 255))
    return {"psnr": psnr255(x, y), "ssim": skimage_ssim(x, y, 255, win_size=11), "l1": l1}


def edgeconnect(a: Tensor, b: Tensor) -> dict[str, float]:
    x, y = rgb2gray(cut(a)), rgb2gray(cut(b))
    psnr = peak_signal_noise_ratio(y, x, data_range=1)
    return {"psnr": psnr, "ssim": skimage_ssim(x, y, 1, win_size=51), "l1": relative(x, y)}


def structureflow(a: Tensor, b: Tensor) -> dict[str, float]:
    x, y = cut(a), cut(b)
    return {"psnr": psnr255(x, y), "ssim": skimage_ssim(x, y, 255, win_size=51), "l1": share(x, y)}


def mmediting(a: Tensor, b: Tensor) -> dict[str, float]:
    x, y = rounded(a), rounded(b)
    return {"psnr": psnr255(x, y), "ssim": skimage_ssim(x, y, 255, **GAUSSIAN)}


def ours(a: Tensor, b: Tensor) -> dict[str, float]:
    x, y = rounded(a), rounded(b)
    return {"psnr": psnr255(x, y), "ssim": skimage_ssim(x, y, 255), "l1": share(x, y)}


ORACLES = {
    DEFAULT: ours,
    "misf": misf,
    "lama": lama,
    "mat": mat,
    "zits": zits,
    "pen": pen,
    "rn": spl,
    "spl": spl,
    "edgeconnect": edgeconnect,
    "structureflow": structureflow,
    "mmediting": mmediting,
}


def test_a_preset_gives_what_the_project_would(pair: tuple[Tensor, Tensor]) -> None:
    for name in PRESETS:
        composite, photo = pair
        expected = ORACLES[name](composite, photo)
        preset = PRESETS[name]
        assert set(expected) == set(PIXELS) & set(preset.metrics), "a metric is without its oracle"
        for metric, value in expected.items():
            found = preset.create(metric).update(composite[None], photo[None])
            assert found is not None, name
            assert found.item() == pytest.approx(value, abs=CLOSE), f"{metric} as in {name}"


def test_the_definitions_matter(pair: tuple[Tensor, Tensor]) -> None:
    """One picture, one filling: what the tables of these projects would say about it."""
    found = {
        name: {m: preset.create(m).update(pair[0][None], pair[1][None]).item() for m in PIXELS if m in preset.metrics}
        for name, preset in PRESETS.items()
    }
    assert found["zits"]["psnr"] - found["misf"]["psnr"] > 0.9
    ssims = [values["ssim"] for values in found.values()]
    assert max(ssims) - min(ssims) > 0.05
    assert found["pen"]["l1"] / found["misf"]["l1"] > 1.1
    assert found["spl"]["l1"] / found["misf"]["l1"] < 0.9


# Data -----------------------------------------------------------------------------------------------------------------


def test_every_preset_is_whole() -> None:
    assert next(iter(PRESETS)) == DEFAULT
    assert list(PRESETS[DEFAULT].metrics) == list(METRICS), "the default has every metric, as it is"
    assert not any(PRESETS[DEFAULT].metrics.values())
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.source
        assert preset.photos
        assert not set(preset.metrics) & set(preset.absent)
        assert set(preset.names) <= set(METRICS)
        for metric in preset.metrics:
            assert preset.create(metric).metric is METRICS[metric]
        text = preset.explain()
        assert preset.source in text
        for reason in (*preset.absent.values(), *preset.surprises):
            assert reason in text


def test_unknown_names_tell_the_known_ones() -> None:
    with pytest.raises(InputError, match="did you mean 'misf'"):
        preset_of("missf")
    for name in WITHOUT_CODE:
        with pytest.raises(InputError, match=f"no protocol '{name}'.*measures nothing.*Known are cicm, misf"):
            preset_of(name)
    with pytest.raises(InputError, match="misf has no sqz-distance; it has psnr, ssim, l1, lpips-vgg, fid"):
        PRESETS["misf"].create("sqz-distance")
    with pytest.raises(InputError, match="fid as in zits: its FID is on torchvision's"):
        PRESETS["zits"].create("fid")


# A run ----------------------------------------------------------------------------------------------------------------


class Brighter(Method):
    """The photo plus 0.6 of an 8-bit step in the hole: rounded it is one step off, cut off it is right."""

    name, detail = "brighter", "the photo, 0.6 of a step brighter"

    def __init__(self, tiny: TinySet) -> None:
        self.tiny = tiny

    def fill(self, corrupted, hole, pairs):
        photos = torch.stack([self.tiny.truth(pair) for pair in pairs])
        return corrupted + hole * (photos + 0.6 / 255)


def test_a_run_rounds_as_its_protocol_says(tiny: TinySet) -> None:
    plan = make_plan(tiny.images, tiny.masks, tiny.pairs, bands=["40-60"])
    scores = {}
    for name in (DEFAULT, "spl", "misf"):
        evaluation, _ = evaluate([Brighter(tiny)], plan, ["psnr", "l1"], preset=PRESETS[name])
        scores[name] = {record.metric: record.value for record in evaluation.records}
        assert evaluation.protocol.name == name
        assert evaluation.protocol.source == PRESETS[name].source
    missing = np.mean([tiny.hole(pair).mean() for pair in tiny.pairs if pair.band == "40-60"])
    # 0.01: photos have few values of 255, which can't be brighter
    assert scores[DEFAULT]["l1"] == pytest.approx(100 * missing / 255, rel=0.01)
    assert scores["misf"]["l1"] == pytest.approx(60 * missing / 255, rel=0.01)
    assert scores["spl"]["l1"] == 0
    assert scores["spl"]["psnr"] == scores["misf"]["psnr"] == 100
    assert scores[DEFAULT]["psnr"] < 60


def test_a_metric_that_can_not_be_had_in_the_projects_way_is_null_with_the_reason(tiny: TinySet) -> None:
    plan = make_plan(tiny.images, tiny.masks, tiny.pairs, limit=1)
    evaluation, _ = evaluate([Brighter(tiny)], plan, ["psnr", "fid"], preset=PRESETS["zits"])
    for record in evaluation.records:
        if record.metric == "fid":
            assert record.value is None
            assert "torchvision's ImageNet" in record.reason
    assert "not here" in evaluation.protocol.metrics["fid"]
    with pytest.raises(InputError, match=r"the protocol zits has psnr, .*; got sqz-kernel.*--protocol cicm"):
        evaluate([Brighter(tiny)], plan, ["sqz-kernel"], preset=PRESETS["zits"])


def test_protocols_do_not_mix(tiny: TinySet, tmp_path) -> None:
    """Even where the settings of the metrics are equal, as PSNR in misf and spl."""
    plan = make_plan(tiny.images, tiny.masks, tiny.pairs, limit=2)
    first, _ = evaluate([Brighter(tiny)], plan, ["psnr"], preset=PRESETS["misf"])
    second, _ = evaluate([Brighter(tiny)], plan, ["psnr"], preset=PRESETS["spl"])
    assert first.protocol.metrics == second.protocol.metrics
    renamed = Evaluation(tuple(dataclasses.replace(record, method="other") for record in second.records))
    with pytest.raises(InputError, match=r"name: 'misf', not 'spl'.*--protocol misf, or both with --protocol spl"):
        Evaluation.join([first, renamed])
    with pytest.raises(InputError, match=r"not scored on the same terms.*--protocol misf, or both"):
        compare([(first, "brighter")], [(second, "brighter")])
    first.save(tmp_path / "a.json")
    assert Evaluation.load(tmp_path / "a.json").protocol == first.protocol


def test_files_from_before_protocols_had_names_still_open(tiny: TinySet, tmp_path) -> None:
    plan = make_plan(tiny.images, tiny.masks, tiny.pairs, limit=2)
    evaluation, _ = evaluate([Brighter(tiny)], plan, ["psnr", "l1"])
    evaluation.save(tmp_path / "now.json")
    text = (tmp_path / "now.json").read_text()
    old = text.replace('"name": "cicm",', "").replace('"source": "this project",', "")
    assert len(old) < len(text) - 30
    (tmp_path / "old.json").write_text(old)
    assert Evaluation.load(tmp_path / "old.json").protocol == evaluation.protocol


def test_on_the_command_line(tiny: TinySet, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs("list.csv", tiny.pairs)
    common = ["--images", str(tiny.images), "--masks", str(tiny.masks), "--pairs", "list.csv", "--limit", "2"]
    arguments = ["evaluate", "mean", *common, "--metrics", "psnr,fid", "--protocol", "zits"]
    assert main([*arguments, "-o", "zits.json", "--explain"]) == 0
    printed = capsys.readouterr()
    assert "n/a: its FID is on torchvision's" in printed.out
    assert "its PSNR is 1 dB too high" in printed.out
    assert "name: zits" in printed.out
    assert main(["evaluate", "mean", *common, "--metrics", "psnr", "-o", "ours.json"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "zits.json", "ours.json"]) == 2
    assert "--protocol zits, or both with --protocol cicm" in capsys.readouterr().err
    assert main(["evaluate", "ours.json", "--protocol", "misf"]) == 2
    assert "files of records have been" in capsys.readouterr().err
    assert main(["evaluate", "--protocol", "edgeconnect", "--explain"]) == 0
    assert "everything is of the grey pictures" in capsys.readouterr().out
    assert main(["evaluate", "mean", *common, "--protocol", "rfr"]) == 2
    assert "no protocol 'rfr'" in capsys.readouterr().err


def test_intervals_and_counts_stand_in_the_table_when_asked_for(tiny: TinySet, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs("list.csv", tiny.pairs)
    common = ["--images", str(tiny.images), "--masks", str(tiny.masks), "--pairs", "list.csv", "--bands", "0-20"]
    arguments = ["evaluate", "mean", *common, "--metrics", "psnr,sqz-kernel", "--explain"]
    assert main([*arguments, "-o", "mean.json"]) == 0
    printed = capsys.readouterr().out
    psnr, kernel = Evaluation.load("mean.json").records
    low, high = psnr.interval
    assert f"{psnr.value:.2f} [{low:.2f}, {high:.2f}]" in printed
    assert f"{kernel.value:.2f} (N=7)" in printed
    assert "sqz-kernel at 32x32: N=7 < 100: unbiased" in printed
    assert main(["evaluate", "mean.json"]) == 0
    printed = capsys.readouterr().out
    assert f"| {psnr.value:.2f} |" in printed
    assert "N=7 < 100" in printed, "a note belongs to every table"
