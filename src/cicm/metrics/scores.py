"""The metrics by name, with running state: `create("psnr")`, `update`, `compute`; and `Scores` for several at once.

Every running metric rounds to 8 bits first, so that it scores what a saved file would show, unless it is told another
rounding; `protocol` says everything that has to stand beside a figure. `update_all` feeds several metrics with one
batch: it is checked and rounded once, and metrics on the same network share one pass through it.

Images are scored on the device that they lie on. PyTorch lets convolutions run in TF32 on recent GPUs, which moves the
fourth digit of the scores that use a network: figures that are compared should be made on the same kind of device.
"""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from cicm.conventions import InputError
from cicm.metrics.frechet import FrechetStatistics, frechet_distance, kernel_distance
from cicm.metrics.inception import NUM_FEATURES as NUM_INCEPTION_FEATURES
from cicm.metrics.inception import FidInception, load_inception
from cicm.metrics.lpips import TRUNKS, VERSIONS, load_lpips
from cicm.metrics.pixels import COLORS, PSNR_CAP_DB, ROUNDINGS, check_pair, l1, psnr, quantised, ssim
from cicm.metrics.published import PublishedFile, find, locate, missing, published
from cicm.metrics.squeeze import NUM_FEATURES as NUM_SQUEEZE_FEATURES
from cicm.metrics.squeeze import load_squeeze_features, map_distance
from cicm.metrics.state import PerImageValues

FEWEST_FOR_FID = 100
"""Below so many images `fid` refuses: of 2048 directions, fewer than a twentieth would have any spread at all."""
FEW_FOR_KERNEL = 100
"""Below so many images the kernel distances say how unsure they are."""

T = TypeVar("T")


@dataclass(frozen=True)
class Metric:
    """What a metric is.

    Attributes:
        name: what it is called everywhere.
        better: whether higher or lower values are better.
        per_image: True if every image has a value of its own; False if only a set of images has one.
        unit: printed behind a value; empty for a pure number.
        explain: one line for a person.
        needs: names of the weights it needs, as `cicm weights` lists them.
    """

    name: str
    better: Literal["higher", "lower"]
    per_image: bool
    unit: str
    explain: str
    needs: tuple[str, ...] = ()


class Batch:
    """One batch as the metrics see it: checked, rounded, with a place for what several of them need.

    Attributes:
        composite: (B, 3, H, W) float64 in [0, 1]; the repaired images.
        image: (B, 3, H, W) likewise; the complete pictures.
    """

    def __init__(self, composite: Tensor, image: Tensor) -> None:
        self.composite, self.image = composite, image
        self._known: dict[Hashable, Any] = {}

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` gives; computed at the first call with this key."""
        if key not in self._known:
            self._known[key] = compute()
        value: T = self._known[key]
        return value


class Running(ABC):
    """A metric that has seen some images.

    Attributes:
        metric: what it is.
        protocol: the settings that belong beside a figure.
        rounding: what happens to the values first, one of ROUNDINGS; `create` sets it.
    """

    rounding = "nearest"

    def __init__(self, metric: Metric, protocol: Mapping[str, Any], path: str | Path | None = None) -> None:
        self.metric = metric
        self.protocol = {**protocol, "rounded_to_8_bit": True}
        self._path = path

    def available(self) -> str | None:
        """None if it can be computed here; otherwise the reason, in a sentence that says what to do."""
        for file, path in self._files():
            try:
                if find(file, path) is None:
                    return missing(file, path)
                locate(file, path)
            except InputError as error:
                return str(error)
        return None

    def _files(self) -> list[tuple[PublishedFile, str | Path | None]]:
        """The files it needs; an explicit path is that of the network, the heads of LPIPS come with the package."""
        return [(published(name), None if name == "lpips-heads" else self._path) for name in self.metric.needs]

    @torch.no_grad()
    def update(self, composite: Tensor, image: Tensor) -> Float[Tensor, "B"] | None:
        """Take in one batch.

        Args:
            composite: (B, 3, H, W) in [0, 1]; the repaired images.
            image: (B, 3, H, W) in [0, 1]; the complete pictures, in the same order.

        Returns:
            (B,) float64, on the CPU, the values of these images; None for a metric that only a set of images has.

        Raises:
            InputError: shapes that differ, NaN, values outside [0, 1]; MissingWeights among them.
        """
        return update_all({self.metric.name: self}, composite, image)[self.metric.name]

    @property
    @abstractmethod
    def num_images(self) -> int:
        """How many images it has seen."""

    @abstractmethod
    def compute(self) -> float:
        """The value over all images seen. Raises InputError if there are too few."""

    def merge(self, other: Running) -> None:
        """Take in what another part of the run has seen (its images follow after ours); `other` stays as it is.

        Raises:
            InputError: another metric, or another protocol.
        """
        if other.metric != self.metric or other.protocol != self.protocol:
            raise InputError(
                f"only the same metric with the same protocol can be merged; got {other.metric.name} {other.protocol} "
                f"into {self.metric.name} {self.protocol}."
            )
        self._merge(other)

    @abstractmethod
    def _take(self, batch: Batch) -> Tensor | None: ...

    @abstractmethod
    def _merge(self, other: Any) -> None: ...


@torch.no_grad()
def update_all(
    running: Mapping[str, Running], composite: Tensor, image: Tensor
) -> dict[str, Float[Tensor, "B"] | None]:
    """Let several metrics take in one batch.

    Args:
        running: name -> metric.
        composite: (B, 3, H, W) in [0, 1]; the repaired images.
        image: (B, 3, H, W) in [0, 1]; the complete pictures, in the same order.

    Returns:
        Name -> what `Running.update` gives: (B,) float64, on the CPU; None for a metric that only a set has.

    Raises:
        InputError: shapes that differ, NaN, values outside [0, 1]; then no metric has taken in anything.
    """
    composite, image = check_pair(composite, image)
    batches: dict[str, Batch] = {}
    values: dict[str, Tensor | None] = {}
    with torch.autocast(composite.device.type, enabled=False):  # scores are not the place to save time
        for name, metric in running.items():
            if metric.rounding not in batches:
                pair = (quantised(picture, metric.rounding) for picture in (composite, image))
                batches[metric.rounding] = Batch(*pair)
            values[name] = metric._take(batches[metric.rounding])
    return values


class PerImage(Running):
    """A metric that every image has for itself; the mean over images is its value.

    Attributes:
        seen: the values so far, for intervals and paired comparisons.
    """

    def __init__(
        self,
        metric: Metric,
        load: Callable[[], Callable[[Batch], Tensor]],
        protocol: Mapping[str, Any],
        path: str | Path | None = None,
    ) -> None:
        super().__init__(metric, protocol, path)
        self._load = load
        self._score: Callable[[Batch], Tensor] | None = None
        self.seen = PerImageValues()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_score": None}  # a network doesn't travel to another process; it is loaded there

    @property
    def num_images(self) -> int:
        return len(self.seen)

    def compute(self) -> float:
        return self.seen.mean()

    def _take(self, batch: Batch) -> Tensor:
        if self._score is None:  # networks are loaded when the first images come
            self._score = self._load()
        values = self._score(batch).cpu().double()
        self.seen.append(values)
        return values

    def _merge(self, other: PerImage) -> None:
        self.seen.merge(other.seen)


Features = Callable[[Batch], tuple[Tensor, Tensor]]
"""What turns a batch into the features of its composites and of its images, (B, D) each."""


class FrechetBetweenSets(Running):
    """Frechet distance between the features of all composites and those of all images.

    With fewer images than features the covariances are singular: the figure is then far too high and means something
    only beside figures at the same number of images. `compute` warns, or refuses if `strict`; `note` says it in a line.
    Below `fewest` images it always refuses.
    """

    def __init__(
        self,
        metric: Metric,
        features: Features,
        num_features: int,
        protocol: Mapping[str, Any],
        path: str | Path | None = None,
        strict: bool = False,
        fewest: int = 2,
    ) -> None:
        super().__init__(metric, protocol, path)
        self._features = features
        self.composites = FrechetStatistics(num_features)
        self.images = FrechetStatistics(num_features)
        self.strict = strict
        self.fewest = fewest

    @property
    def num_images(self) -> int:
        return self.composites.num_images

    @property
    def note(self) -> str:
        """The number of images, and a warning where it is below the number of features."""
        count, features = self.num_images, self.composites.num_features
        if count >= features:
            return f"N={count}"
        return f"N={count} < {features} features: biased upwards, comparable only at the same N"

    def compute(self) -> float:
        if self.num_images < self.fewest:
            raise InputError(
                f"{self.metric.name} needs at least {self.fewest} images to mean anything; got {self.num_images}. "
                f"Score more, or look at {'kid' if self.metric.name == 'fid' else 'sqz-kernel'}."
            )
        if self.num_images < self.composites.num_features:
            if self.strict:
                raise InputError(
                    f"{self.metric.name}: {self.note}. Score more images, or use create(..., strict=False)."
                )
            warnings.warn(f"{self.metric.name}: {self.note}", stacklevel=2)
        x, y = self.composites, self.images
        return frechet_distance(x.mean.cpu(), x.covariance().cpu(), y.mean.cpu(), y.covariance().cpu())

    def _take(self, batch: Batch) -> None:
        composites, images = self._features(batch)
        self.composites.update(composites)
        self.images.update(images)

    def _merge(self, other: FrechetBetweenSets) -> None:
        self.composites.merge(other.composites)
        self.images.merge(other.images)


class KernelBetweenSets(Running):
    """Unbiased kernel distance between the features of all composites and those of all images, times 1000.

    The features are kept: 4 bytes for each and image and side.

    Args:
        unit_length: bring each feature vector to length 1 first, times the root of their number: the kernel is cubic,
            and where features are large single images would decide.
        paired: leave out a composite and its own picture, see `kernel_distance`.
    """

    def __init__(
        self,
        metric: Metric,
        features: Features,
        protocol: Mapping[str, Any],
        path: str | Path | None = None,
        *,
        unit_length: bool,
        paired: bool,
    ) -> None:
        super().__init__(metric, protocol, path)
        self._features = features
        self._unit_length, self._paired = unit_length, paired
        self._composites: list[Tensor] = []
        self._images: list[Tensor] = []

    @property
    def num_images(self) -> int:
        return sum(map(len, self._composites))

    @property
    def note(self) -> str:
        """The number of images, and a warning where it is small."""
        count = self.num_images
        few = count < FEW_FOR_KERNEL
        return f"N={count}" + (f" < {FEW_FOR_KERNEL}: unbiased, but another set of photos may tell otherwise" * few)

    def compute(self) -> float:
        if not self._composites:
            raise InputError("a kernel distance needs at least 2 images on each side; got none. Call update first.")
        return 1000 * kernel_distance(torch.cat(self._composites), torch.cat(self._images), paired=self._paired)

    def _take(self, batch: Batch) -> None:
        for kept, rows in zip((self._composites, self._images), self._features(batch)):
            if self._unit_length:
                rows = rows.shape[1] ** 0.5 * torch.nn.functional.normalize(rows, dim=1)
            kept.append(rows.cpu())

    def _merge(self, other: KernelBetweenSets) -> None:
        self._composites.extend(other._composites)
        self._images.extend(other._images)


# -- the metrics -----------------------------------------------------------------------------------------------------

_SQZ = "SqueezeNet v1.1 (keras-squeezenet, ImageNet)"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("psnr", "higher", True, "dB", "peak signal-to-noise ratio on RGB, at most 100 dB"),
        Metric("ssim", "higher", True, "", "structural similarity on RGB, uniform 7x7 window as in scikit-image"),
        Metric("l1", "lower", True, "%", "mean absolute difference x 100"),
        Metric(
            "sqz-distance",
            "lower",
            True,
            "",
            f"distance of deep features, {_SQZ}; no learned heads, not LPIPS",
            needs=("sqz-features",),
        ),
        Metric(
            "sqz-frechet",
            "lower",
            False,
            "",
            f"Frechet distance of pooled features (512), {_SQZ}; not FID; depends on the number of images",
            needs=("sqz-features",),
        ),
        Metric(
            "sqz-kernel",
            "lower",
            False,
            "x 1e-3",
            f"unbiased kernel distance of pooled features, {_SQZ}; not KID; fit for few images",
            needs=("sqz-features",),
        ),
        Metric(
            "lpips-alex",
            "lower",
            True,
            "",
            "LPIPS on AlexNet, v0.1 unless said otherwise",
            needs=("lpips-heads", "alexnet"),
        ),
        Metric(
            "lpips-vgg",
            "lower",
            True,
            "",
            "LPIPS on VGG-16, v0.1 unless said otherwise",
            needs=("lpips-heads", "vgg16"),
        ),
        Metric(
            "lpips-squeeze",
            "lower",
            True,
            "",
            "LPIPS on SqueezeNet, v0.1 unless said otherwise",
            needs=("lpips-heads", "squeezenet1_1"),
        ),
        Metric(
            "fid",
            "lower",
            False,
            "",
            "Frechet Inception distance, pytorch-fid's network and resize; depends on the number of images",
            needs=("fid-inception",),
        ),
        Metric(
            "kid",
            "lower",
            False,
            "x 1e-3",
            "kernel Inception distance, unbiased, network and resize of fid; fit for few images",
            needs=("fid-inception",),
        ),
    )
}
"""Name -> what it is; the order is that of the columns of a table."""


def _pixels(score: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Batch], Tensor]:
    return lambda batch: score(batch.composite, batch.image)


def _channels(color: str) -> str:
    """How a protocol names what is compared.

    Raises:
        InputError: an unknown name.
    """
    if color not in COLORS:
        raise InputError(f"unknown color {color!r}; known are {', '.join(COLORS)}.")
    weights = COLORS[color]
    return "RGB" if weights is None else f"{color}: " + " + ".join(f"{w:.4g} {c}" for w, c in zip(weights, "RGB"))


def _psnr(*, color: str = "rgb", floor: float = 0.0, offset_db: float = 0.0) -> Running:
    protocol: dict[str, Any] = {"color": _channels(color), "data_range": 1, "cap_db": PSNR_CAP_DB}
    # settings that are not the default alone: records from before they existed stay comparable
    protocol |= {name: value for name, value in (("floor", floor), ("offset_db", offset_db)) if value}
    score = partial(psnr, color=color, floor=floor, offset_db=offset_db)
    return PerImage(METRICS["psnr"], partial(_pixels, score), protocol)


def _ssim(
    *,
    window: str = "uniform",
    size: int | None = None,
    sigma: float = 1.5,
    sample_covariance: bool = True,
    color: str = "rgb",
    border: str = "inside",
    data_range: float = 1.0,
) -> Running:
    options: dict[str, Any] = {"window": window, "size": size, "sigma": sigma, "sample_covariance": sample_covariance}
    score = partial(ssim, **options, color=color, border=border, data_range=data_range)
    protocol: dict[str, Any] = {
        "color": "RGB, mean over channels" if color == "rgb" else _channels(color),
        "data_range": data_range,
        "window": window,
        "size": size or (7 if window == "uniform" else 11),
        "sample_covariance": sample_covariance,
    }
    if window == "gaussian":
        protocol["sigma"] = sigma
    if border != "inside":
        protocol["border"] = border
    return PerImage(METRICS["ssim"], partial(_pixels, score), protocol)


def _l1(*, color: str = "rgb", relative: bool = False) -> Running:
    scale = "sum |d| / sum (a + b) x 100" if relative else "mean |d| x 100 over the whole image"
    protocol = {"color": _channels(color), "scale": scale}
    return PerImage(METRICS["l1"], partial(_pixels, partial(l1, color=color, relative=relative)), protocol)


def _squeeze_maps(path: str | Path | None, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """All maps of both sides; one pass for all metrics on this network."""

    def compute() -> tuple[list[Tensor], list[Tensor]]:
        network = load_squeeze_features(path).to(batch.image.device)
        return network(batch.composite.float()), network(batch.image.float())

    return batch.once(("squeeze", path), compute)


def _squeeze_score(path: str | Path | None) -> Callable[[Batch], Tensor]:
    return lambda batch: map_distance(*_squeeze_maps(path, batch))


def _sqz_distance(*, path: str | Path | None = None) -> Running:
    protocol = {"network": _SQZ, "layers": 7, "heads": "none"}
    return PerImage(METRICS["sqz-distance"], partial(_squeeze_score, path), protocol, path)


def _squeeze_pooled(path: str | Path | None, batch: Batch) -> tuple[Tensor, Tensor]:
    composites, images = _squeeze_maps(path, batch)
    return composites[-1].mean(dim=(2, 3)), images[-1].mean(dim=(2, 3))


def _sqz_frechet(*, path: str | Path | None = None, strict: bool = False) -> Running:
    protocol = {"network": _SQZ, "features": f"last map, pooled, {NUM_SQUEEZE_FEATURES}", "resize": "none"}
    features = partial(_squeeze_pooled, path)
    return FrechetBetweenSets(METRICS["sqz-frechet"], features, NUM_SQUEEZE_FEATURES, protocol, path, strict)


def _sqz_kernel(*, path: str | Path | None = None) -> Running:
    protocol = {
        "network": _SQZ,
        "features": f"last map, pooled, {NUM_SQUEEZE_FEATURES}",
        "resize": "none",
        "kernel": "(cosine + 1)^3, unbiased, without a composite's own picture, all images at once, x 1000",
    }
    features = partial(_squeeze_pooled, path)
    return KernelBetweenSets(METRICS["sqz-kernel"], features, protocol, path, unit_length=True, paired=True)


def _load_lpips(net: str, version: str, path: str | Path | None, scaled: bool) -> Callable[[Batch], Tensor]:
    network = load_lpips(net, version, path)

    def score(batch: Batch) -> Tensor:
        pair = [picture.float() for picture in (batch.composite, batch.image)]
        if not scaled:  # the network takes 2 x - 1 of what it is given
            pair = [(picture + 1) / 2 for picture in pair]
        return network.to(batch.image.device)(*pair)

    return score


def _lpips(net: str, *, version: str = "0.1", path: str | Path | None = None, scaled: bool = True) -> Running:
    if version not in VERSIONS:
        raise InputError(f"unknown LPIPS version {version!r}; known are {', '.join(VERSIONS)}.")
    values = "[-1, 1]" if scaled else "[0, 1], which the weights do not expect"
    protocol = {"network": f"torchvision {TRUNKS[net][1]}", "version": version, "input": values}
    return PerImage(METRICS[f"lpips-{net}"], partial(_load_lpips, net, version, path, scaled), protocol, path)


@lru_cache(maxsize=1)
def _inception(path: str | Path | None) -> FidInception:
    return load_inception(path)


def _inception_pooled(path: str | Path | None, batch: Batch) -> tuple[Tensor, Tensor]:
    """The features of both sides; one pass for fid and kid."""

    def compute() -> tuple[Tensor, Tensor]:
        network = _inception(path).to(batch.image.device)
        return network(batch.composite.float()), network(batch.image.float())

    return batch.once(("inception", path), compute)


_INCEPTION = {
    "network": published("fid-inception").filename,
    "features": f"pooled, {NUM_INCEPTION_FEATURES}",
    "resize": "299, bilinear, align_corners=False, no antialiasing (pytorch-fid)",
}


def _fid(*, path: str | Path | None = None, strict: bool = False, fewest: int = FEWEST_FOR_FID) -> Running:
    features = partial(_inception_pooled, path)
    return FrechetBetweenSets(METRICS["fid"], features, NUM_INCEPTION_FEATURES, _INCEPTION, path, strict, fewest)


def _kid(*, path: str | Path | None = None) -> Running:
    protocol = {**_INCEPTION, "kernel": f"(x.y / {NUM_INCEPTION_FEATURES} + 1)^3, unbiased, all images at once, x 1000"}
    features = partial(_inception_pooled, path)
    return KernelBetweenSets(METRICS["kid"], features, protocol, path, unit_length=False, paired=False)


_BUILDERS: dict[str, Callable[..., Running]] = {
    "psnr": _psnr,
    "ssim": _ssim,
    "l1": _l1,
    "sqz-distance": _sqz_distance,
    "sqz-frechet": _sqz_frechet,
    "sqz-kernel": _sqz_kernel,
    **{f"lpips-{net}": partial(_lpips, net) for net in TRUNKS},
    "fid": _fid,
    "kid": _kid,
}
assert _BUILDERS.keys() == METRICS.keys()


def create(name: str, *, rounding: str = "nearest", **options: Any) -> Running:
    """A running metric that has seen no image.

    Args:
        name: one of METRICS.
        rounding: what happens to the values first, one of ROUNDINGS.
        options: of the metric: those of the functions `psnr`, `ssim` and `l1`; `version` and `scaled` of the LPIPS
            (False feeds [0, 1]); `path`, a file or folder of weights, of all that need one; `strict` of the Frechet
            distances, which refuses too few images, and `fewest` of fid.

    Raises:
        InputError: unknown name or option; the nearest known one is named.

    Example:
        >>> metric = create("l1")
        >>> metric.update(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.2))
        tensor([20.], dtype=torch.float64)
        >>> round(metric.compute(), 4), metric.metric.unit
        (20.0, '%')
    """
    if name not in METRICS:
        close = get_close_matches(name, METRICS, n=1)
        hint = f"did you mean {close[0]!r}? Known are" if close else "known are"
        raise InputError(f"unknown metric {name!r}; {hint} {', '.join(METRICS)}.")
    known = [
        option.name
        for option in inspect.signature(_BUILDERS[name]).parameters.values()
        if option.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    if unknown := sorted(options.keys() - set(known)):
        raise InputError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(['rounding', *known])}.")
    if rounding not in ROUNDINGS:
        raise InputError(f"unknown rounding {rounding!r}; known are {', '.join(ROUNDINGS)}.")
    running = _BUILDERS[name](**options)
    if rounding != "nearest":
        running.rounding = rounding
        running.protocol |= {"rounded_to_8_bit": rounding != "none", "rounding": ROUNDINGS[rounding]}
    return running


class Scores:
    """Several metrics at once, over the same images.

    Args:
        names: of METRICS.
        options: options of some of them by name, as in `create`.

    Attributes:
        running: name -> running metric, for those that can be computed here.
        unavailable: name -> why not, for the others. They are never replaced and never left out in silence.

    Example:
        >>> scores = Scores(["psnr", "l1"])
        >>> black, grey = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.2)
        >>> [f"{value:.2f}" for value in scores.update(black, grey)["l1"]]
        ['20.00', '20.00']
        >>> {name: round(value, 3) for name, value in scores.compute().items()}
        {'psnr': 13.979, 'l1': 20.0}
    """

    def __init__(self, names: Iterable[str], options: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.names = list(dict.fromkeys(names))
        options = options or {}
        if foreign := sorted(options.keys() - set(self.names)):
            raise InputError(f"options for metrics that were not asked for: {', '.join(foreign)}.")
        self.running: dict[str, Running] = {}
        self.unavailable: dict[str, str] = {}
        for name in self.names:
            metric = create(name, **options.get(name, {}))
            if (reason := metric.available()) is None:
                self.running[name] = metric
            else:
                self.unavailable[name] = reason

    def update(self, composite: Tensor, image: Tensor) -> dict[str, list[float]]:
        """Take in one batch.

        Args:
            composite: (B, 3, H, W) in [0, 1]; the repaired images.
            image: (B, 3, H, W) in [0, 1]; the complete pictures, in the same order.

        Returns:
            Name -> one value for each image; without the metrics that only a set has.

        Raises:
            InputError: as `Running.update`; then no metric has taken in anything.
        """
        values = update_all(self.running, composite, image)
        return {name: scored.tolist() for name, scored in values.items() if scored is not None}

    def compute(self) -> dict[str, float]:
        """Name -> value over all images, for the metrics that can be computed here."""
        return {name: metric.compute() for name, metric in self.running.items()}

    def protocol(self) -> dict[str, dict[str, Any]]:
        """Name -> the settings that belong beside its figure."""
        return {name: deepcopy(metric.protocol) for name, metric in self.running.items()}

    def merge(self, other: Scores) -> None:
        """Take in what another part of the run has seen; `other` stays as it is.

        Raises:
            InputError: other metrics or protocols.
        """
        if other.running.keys() != self.running.keys():
            raise InputError(f"cannot merge scores of {', '.join(other.running)} into {', '.join(self.running)}.")
        for name, metric in self.running.items():
            metric.merge(other.running[name])
