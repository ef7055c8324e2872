"""The published files that metrics and training losses need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cicm.conventions import InputError
from cicm.metrics.registry import METRICS
from cicm.published import MissingWeights as MissingWeights
from cicm.published import PublishedFile

PACKAGE_FOLDER = Path(__file__).resolve().parent / "weights"

_LOSSES = {"vgg16": ("rfr.perceptual", "rfr.style"), "vgg19": ("misf.perceptual", "misf.style")}
"""Training terms that need a file."""


def _metrics_with(name: str) -> tuple[str, ...]:
    return tuple(metric.name for metric in METRICS.values() if name in metric.needs)


PUBLISHED: dict[str, PublishedFile] = {
    file.name: replace(file, used_by=(*_metrics_with(file.name), *_LOSSES.get(file.name, ())))
    for file in (
        PublishedFile(
            name="sqz-features",
            filename="squeezenet1_1_features.safetensors",
            url=None,
            home=PACKAGE_FOLDER,
            sha256="15384e3b3ee545a6b1a36a64603d2450afe1bac90a0faf8a31c530ff603a72cb",
            num_bytes=2_894_928,
            licence="MIT",
            origin="SqueezeNet v1.1, ImageNet, from keras-squeezenet, without the classifier",
        ),
        PublishedFile(
            name="lpips-heads",
            filename="lpips_heads.safetensors",
            url=None,
            home=PACKAGE_FOLDER,
            sha256="04857481966177c1960911166996685a110d8d59044a3e901482f6a35080822c",
            num_bytes=42_864,
            licence="BSD-2-Clause",
            origin="learned linear heads of LPIPS v0.0 and v0.1",
        ),
        PublishedFile(
            name="alexnet",
            filename="alexnet-owt-7be5be79.pth",
            url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            num_bytes=244_408_911,
            licence="BSD-3-Clause",
            origin="torchvision's AlexNet, ImageNet",
        ),
        PublishedFile(
            name="vgg16",
            filename="vgg16-397923af.pth",
            url="https://download.pytorch.org/models/vgg16-397923af.pth",
            sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            num_bytes=553_433_881,
            licence="BSD-3-Clause",
            origin="torchvision's VGG-16, ImageNet",
        ),
        PublishedFile(
            name="vgg19",
            filename="vgg19-dcbb9e9d.pth",
            url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
            sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
            num_bytes=574_673_361,
            licence="BSD-3-Clause",
            origin="torchvision's VGG-19, ImageNet",
        ),
        PublishedFile(
            name="squeezenet1_1",
            filename="squeezenet1_1-b8a52dc0.pth",
            url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
            sha256="b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
            num_bytes=4_958_839,
            licence="BSD-3-Clause",
            origin="torchvision's SqueezeNet v1.1, ImageNet",
        ),
        PublishedFile(
            name="fid-inception",
            filename="pt_inception-2015-12-05-6726825d.pth",
            url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
            "pt_inception-2015-12-05-6726825d.pth",
            sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            num_bytes=95_628_359,
            licence="Apache-2.0",
            origin="TensorFlow's Inception v3 of 2015-12-05 as ported by pytorch-fid",
        ),
    )
}
"""Name -> file. Sizes and whole checksums are those of the files that the official names denote."""


def published(name: str) -> PublishedFile:
    """The registry's entry; an unknown name lists the known ones.

    Example:
        >>> published("vgg16").filename
        'vgg16-397923af.pth'
    """
    if name not in PUBLISHED:
        raise InputError(f"unknown weights {name!r}; known are {', '.join(PUBLISHED)}.")
    return PUBLISHED[name]
