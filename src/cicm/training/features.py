"""The classifiers whose maps some published objectives look at: found by file and checksum, never guessed.

Images go in as they are, in [0, 1], without ImageNet's normalisation: so do the published codes of RFR and MISF.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cicm.conventions import InputError
from cicm.files import check_readable
from cicm.metrics.dilated import ADE20K, STAGES
from cicm.metrics.published import published
from cicm.metrics.trunks import Design, Trunk, fill, read_tensors, vgg16, vgg19, vgg_layers
from cicm.objectives import Features, LaMaObjective, ObjectiveConfig, Section
from cicm.published import MissingWeights, locate

DESIGNS: dict[str, Callable[[], Trunk]] = {"vgg16": vgg16, "vgg19": vgg19}
"""The registry's name of a file -> the classifier's convolutions."""

ENCODER_URL = "http://sceneparsing.csail.mit.edu/model/pytorch/ade20k-resnet50dilated-ppm_deepsup/encoder_epoch_20.pth"


class Maps:
    """A frozen classifier as a function from images and names of layers to maps; it keeps no state.

    Example:
        >>> maps = Maps(vgg16().eval())
        >>> [tuple(m.shape) for m in maps(torch.rand(1, 3, 32, 32), ["relu1_1", "pool2"])]
        [(1, 64, 32, 32), (1, 128, 8, 8)]
    """

    def __init__(self, trunk: Trunk) -> None:
        self.trunk = trunk
        self.index = vgg_layers(trunk)

    def __call__(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        wanted = {self.index[name]: name for name in layers}
        found: dict[str, Tensor] = {}
        # float32 or above also where the run is in half precision: the sums of a Gram matrix are long
        with torch.autocast(images.device.type, enabled=False):
            for index in range(max(wanted) + 1):
                images = self.trunk.features[index](images)
                if index in wanted:
                    found[wanted[index]] = images
        return [found[name] for name in layers]


class Stages:
    """LaMa's frozen encoder as the same kind of function; it normalises the images itself."""

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder

    def __call__(self, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
        with torch.autocast(images.device.type, enabled=False):
            found = dict(zip(STAGES, self.encoder(images), strict=True))
        return [found[name] for name in layers]


def load_features(objective: ObjectiveConfig, device: torch.device, dtype: torch.dtype) -> dict[str, Features]:
    """What the objective's terms need: the registry's name -> maps; empty where no term needs any.

    Raises:
        InputError: a file that is missing (how to get it, how to do without), or is not the published one.
    """
    found: dict[str, Features] = {}
    for section, path in feature_files(objective).items():
        if section.classifier == "ade20k":
            encoder = fill(ADE20K, read_tensors(path), str(path))
            found["ade20k"] = Stages(encoder.to(device, dtype))
            continue
        design = Design(DESIGNS[section.classifier], unused=("classifier.",))
        trunk = fill(design, read_tensors(path), str(path))
        assert isinstance(trunk, Trunk)
        found[section.classifier] = Maps(trunk.to(device, dtype))
    return found


def feature_files(objective: ObjectiveConfig) -> dict[Section, Path]:
    """The sections that need a classifier, and where its file lies, checked."""
    files: dict[Section, Path] = {}
    for section in objective.sections:
        if needed := section.needs_features():
            if isinstance(section, LaMaObjective):
                files[section] = _encoder(section)
                continue
            try:
                files[section] = locate(published(section.classifier))
            except MissingWeights as error:
                verb = "needs" if len(needed) == 1 else "need"
                without = " ".join(f"--set objective.{name}=0" for name in needed)
                raise InputError(
                    f"the terms {', '.join(needed)} {verb} {published(section.classifier).filename}, which is not on "
                    f"this machine. Run `cicm models get {section.classifier}` (`cicm models` says where files are "
                    f"looked for), or leave the terms out with {without}."
                ) from error
    return files


def _encoder(section: LaMaObjective) -> Path:
    if section.encoder:
        return check_readable(section.encoder, "encoder of lama.perceptual")
    raise InputError(
        "the term lama.perceptual needs the file encoder_epoch_20.pth, which is not named. Get it from "
        f"{ENCODER_URL} and add --set objective.lama.encoder=FILE, or leave the term out with "
        "--set objective.lama.perceptual=0."
    )


def describe_objective(objective: ObjectiveConfig) -> list[tuple[str, str]]:
    """Lines of the plan about the published objectives: their terms, their classifiers, and what is left out."""
    files = feature_files(objective)
    lines = []
    for section in objective.sections:
        terms = [f"{weight:g} {name}" for name, weight in section.weights().items() if weight]
        lines.append((f"{section.title} objective", " + ".join(terms) or "none of its terms"))
        if section in files:
            lines.append(("features", f"{files[section]}; its activations come on top of the memory below"))
        if gone := section.left_out():
            lines.append(("left out", f"{', '.join(gone)}: the published objective has them, their weight here is 0"))
    return lines
