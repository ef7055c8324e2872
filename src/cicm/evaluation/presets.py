"""How other projects measured: their definitions as data, so that a published number is compared with its own kind.

`cicm evaluate --protocol NAME` scores with one of them. Each was read from the project's own code; where that differs
from its paper, the code counts, mistakes included, because the published tables came out of it. What is set here is
what happens to a filled picture. Photos, masks, sizes and the number of images are the caller's; `photos` tells what
the project took, and without the same photos and holes a number is of the same kind but not of the same test.

This module does not import torch: the command line lists the names at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from cicm.conventions import InputError
from cicm.metrics import METRICS, create

if TYPE_CHECKING:
    from cicm.metrics import Running

DEFAULT = "cicm"


@dataclass(frozen=True)
class Preset:
    """The definitions of one project.

    Args:
        metrics: name of a metric -> its options, as `cicm.metrics.create` takes them.
        absent: name of a metric that the project reports -> why it can't be had here in its way.
        photos: pictures, sizes, masks and counts there, in words.
        surprises: what one would not expect and what moves the figures.
    """

    name: str
    source: str
    metrics: Mapping[str, Mapping[str, Any]]
    absent: Mapping[str, str] = field(default_factory=dict)
    photos: str = ""
    surprises: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All metrics that the project reports, those that can't be had here at the end."""
        return [*self.metrics, *self.absent]

    def create(self, name: str) -> Running:
        """The running metric by this project's definition.

        Raises:
            InputError: the project does not report it, or not in a way that can be had here.
        """
        if name in self.absent:
            raise InputError(f"{name} as in {self.name}: {self.absent[name]}.")
        if name not in self.metrics:
            raise InputError(
                f"the protocol {self.name} has no {name}; it has {', '.join(self.names)}. Use the protocol {DEFAULT}."
            )
        return create(name, **self.metrics[name])

    def explain(self) -> str:
        """What a person has to know before comparing with a published number."""
        lines = [f"protocol {self.name}", f"source: {self.source}"]
        for name in self.metrics:
            settings = self.create(name).protocol
            lines.append(f"  {name}: " + "; ".join(f"{key.replace('_', ' ')}: {settings[key]}" for key in settings))
        lines += [f"  {name}: not here: {reason}" for name, reason in self.absent.items()]
        lines += [f"photos there: {self.photos}"] if self.photos else []
        lines += [f"mind: {text}" for text in self.surprises]
        return "\n".join(lines)


_DOWN = {"rounding": "down"}
_MEAN_CHANNEL_L1 = {"rounding": "down", "color": "mean"}
_UNIFORM_51 = {"size": 51, "rounding": "down"}
_PAPER_SSIM = {"window": "gaussian", "size": 11, "sigma": 1.5, "sample_covariance": False}
_IMAGENET_FID = "its FID is on torchvision's ImageNet Inception v3; figures on the network of pytorch-fid differ"
_NO_CAP = "two equal pictures are infinite decibels there, 100 here"

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name=DEFAULT,
            source="this project",
            metrics={name: {} for name in METRICS},
            photos="whatever the list names; composites, rounded to 8 bits",
        ),
        Preset(
            name="misf",
            source="github.com/tsingqguo/misf: src/misf.py (metric, test)",
            metrics={"psnr": _DOWN, "ssim": _DOWN, "l1": {"rounding": "none"}, "lpips-vgg": {"rounding": "none"}},
            absent={"fid": "its code has none"},
            photos="256x256; masks by index in folders 0%-20%, 20%-40%, 40%-60%; validation stops at 1,000 photos",
            surprises=(
                "L1 and LPIPS see the clamped floats, PSNR and SSIM the truncated bytes",
                "L1 is a share there; a table in percent is 100 times that, as here",
            ),
        ),
        Preset(
            name="lama",
            source="github.com/advimman/lama: bin/evaluate_predicts.py, saicinpainting/evaluation/losses",
            metrics={"ssim": {**_PAPER_SSIM, "border": "zeros", "rounding": "down"}, "lpips-vgg": _DOWN, "fid": _DOWN},
            photos="Places at 512x512 and CelebA-HQ at 256x256; thin, medium and thick masks of its own",
            surprises=(
                "SSIM counts the pixels at the border over a black margin",
                "LPIPS is on VGG-16, where MAT and ZITS take AlexNet",
            ),
        ),
        Preset(
            name="mat",
            source="github.com/fenglinglwb/MAT: evaluatoin/cal_psnr_ssim_l1.py, cal_lpips.py, generate_image.py",
            metrics={"psnr": {}, "ssim": _PAPER_SSIM, "l1": {}, "lpips-alex": {}},
            absent={"fid": "its FID, P-IDS and U-IDS are on StyleGAN's port of the network with another resize"},
            photos="512x512 and 256x256; small and large free-form masks of its own",
            surprises=(_NO_CAP, "L1 is a share there, 100 times that here"),
        ),
        Preset(
            name="zits",
            source="github.com/DQiaole/ZITS_inpainting: src/inpainting_metrics.py",
            metrics={
                "psnr": {"rounding": "down", "floor": 1e-7, "offset_db": 1.0},
                "ssim": {"rounding": "down", "color": "grey-bgr", "data_range": 2.0},
                "l1": _DOWN,
                "lpips-alex": _DOWN,
            },
            absent={"fid": _IMAGENET_FID},
            photos="256x256 and 512x512; the Places photos and the masks that its repository lists, data_list/",
            surprises=(
                "its PSNR is 1 dB too high: the formula adds the range, 1, instead of 10 times its logarithm, 0",
                "SSIM is grey, with red and blue exchanged, and takes a data range of 2 for values that span 1",
                "L1 is its MAE: a share there, 100 times that here",
            ),
        ),
        Preset(
            name="pen",
            source="github.com/researchmm/PEN-Net-for-Inpainting: core/metric.py, eval.py",
            metrics={"psnr": _DOWN, "ssim": _UNIFORM_51, "l1": {"rounding": "down", "relative": True}},
            absent={"fid": _IMAGENET_FID},
            photos="256x256; the i-th sorted photo with the i-th mask of a level, masks repeated",
            surprises=("L1 is its MAE: the sum of differences over the sum of both pictures", _NO_CAP),
        ),
        Preset(
            name="rn",
            source="github.com/geekyutao/RN: eval.py",
            metrics={
                "psnr": _DOWN,
                "ssim": {"size": 11, "rounding": "down"},
                "l1": _MEAN_CHANNEL_L1,
                "lpips-alex": {"scaled": False, "rounding": "down"},
            },
            photos="256x256",
            surprises=(
                "L1 is of the mean over the channels, so that errors of opposite sign cancel",
                "LPIPS is fed [0, 1] where its weights expect [-1, 1]",
                _NO_CAP,
            ),
        ),
        Preset(
            name="spl",
            source="github.com/WendongZh/SPL: eval_final.py",
            metrics={"psnr": _DOWN, "ssim": {"size": 11, "rounding": "down"}, "l1": _MEAN_CHANNEL_L1},
            photos="256x256; a stored list of mask numbers, one for each photo",
            surprises=("L1 is of the mean over the channels, so that errors of opposite sign cancel", _NO_CAP),
        ),
        Preset(
            name="edgeconnect",
            source="github.com/knazeri/edge-connect: scripts/metrics.py, src/edge_connect.py (postprocess)",
            metrics={
                "psnr": {"rounding": "down", "color": "grey"},
                "ssim": {**_UNIFORM_51, "color": "grey"},
                "l1": {"rounding": "down", "color": "grey", "relative": True},
            },
            absent={"fid": _IMAGENET_FID},
            photos="256x256; the irregular masks of Liu 2018 by tenths of the image",
            surprises=(
                "everything is of the grey pictures",
                "L1 is its MAE: the sum of differences over the sum of both pictures",
                "pictures are saved under the photo's name: where that ends in .jpg, compression is scored too",
            ),
        ),
        Preset(
            name="structureflow",
            source="github.com/RenYurui/StructureFlow: scripts/metrics.py, src/structure_flow.py",
            metrics={"psnr": _DOWN, "ssim": _UNIFORM_51, "l1": _DOWN},
            absent={"fid": _IMAGENET_FID},
            photos="256x256; six masks a photo, one for each tenth of the image",
            surprises=(
                "it reports this L1 and the relative MAE of pen side by side",
                "as published its script computes FID alone; the class beside it computes these",
                _NO_CAP,
            ),
        ),
        Preset(
            name="mmediting",
            source="github.com/open-mmlab/mmagic, releases 0.x: mmedit/core/evaluation/metrics.py",
            metrics={"psnr": {}, "ssim": _PAPER_SSIM},
            absent={"l1": "it is of the raw output in the hole alone, on [-1, 1]"},
            photos="256x256 and 512x512",
            surprises=(_NO_CAP,),
        ),
    )
}
"""Name -> definitions."""

WITHOUT_CODE = {
    "rfr": (
        "the code of RFR saves pictures and measures nothing, so that its figures can't be made again with certainty"
    ),
    "deepfill": (
        "the code of DeepFill v1 and v2 measures nothing; the papers report mean L1 and L2 errors without a definition "
        "of their range"
    ),
}
"""Projects whose published numbers have no definition to follow -> why."""


def preset_of(name: str) -> Preset:
    """The definitions by name.

    Raises:
        InputError: unknown, the nearest is named; or a project that published no way of measuring.

    Example:
        >>> preset_of("zits").metrics["psnr"]["offset_db"]
        1.0
        >>> preset_of("rfr")
        Traceback (most recent call last):
        cicm.conventions.InputError: no protocol 'rfr': the code of RFR saves pictures and measures nothing, ...
    """
    if name in WITHOUT_CODE:
        raise InputError(f"no protocol {name!r}: {WITHOUT_CODE[name]}. Known are {', '.join(PRESETS)}.")
    if name not in PRESETS:
        close = get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {close[0]!r}? Known are" if close else "known are"
        raise InputError(f"unknown protocol {name!r}; {hint} {', '.join(PRESETS)}.")
    return PRESETS[name]
