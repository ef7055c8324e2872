"""Files of published weights: what they are, where they are looked for, how they are fetched and checked.

No file is used unless its SHA-256 is the published one. A file that is not there is a `MissingWeights`, which says
what to do; nothing is ever replaced by random weights. This module does not import torch, so that the command line
can list the files at once.
"""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path

from cicm.conventions import InputError
from cicm.files import atomic, digest_of
from cicm.metrics.registry import METRICS

PACKAGE_FOLDER = Path(__file__).resolve().parent / "weights"
ENVIRONMENT = "CICM_WEIGHTS"
_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 30.0


class MissingWeights(InputError):
    """A metric needs a published file that is not on this machine; the message says which one and how to get it."""


@dataclass(frozen=True)
class PublishedFile:
    """One file of published weights.

    Attributes:
        filename: the official name; the file is looked for under it.
        url: where it is published; None for a file that ships with this package.
        sha256: of the whole file; torchvision and pytorch-fid put its first eight digits into the official name.
        num_bytes: exact size; a download that grows larger is cut off.
        losses: training terms that need it, as a recipe names them below `objective`.
    """

    name: str
    filename: str
    url: str | None
    sha256: str
    num_bytes: int
    licence: str
    origin: str
    losses: tuple[str, ...] = ()

    @property
    def used_by(self) -> tuple[str, ...]:
        """Names of the metrics that need it."""
        return tuple(metric.name for metric in METRICS.values() if self.name in metric.needs)


PUBLISHED: dict[str, PublishedFile] = {
    file.name: file
    for file in (
        PublishedFile(
            name="sqz-features",
            filename="squeezenet1_1_features.safetensors",
            url=None,
            sha256="15384e3b3ee545a6b1a36a64603d2450afe1bac90a0faf8a31c530ff603a72cb",
            num_bytes=2_894_928,
            licence="MIT",
            origin="SqueezeNet v1.1, ImageNet, from keras-squeezenet, without the classifier",
        ),
        PublishedFile(
            name="lpips-heads",
            filename="lpips_heads.safetensors",
            url=None,
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
            losses=("rfr.perceptual", "rfr.style"),
        ),
        PublishedFile(
            name="vgg19",
            filename="vgg19-dcbb9e9d.pth",
            url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
            sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
            num_bytes=574_673_361,
            licence="BSD-3-Clause",
            origin="torchvision's VGG-19, ImageNet",
            losses=("misf.perceptual", "misf.style"),
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


# -- where files are looked for --------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """The folder that `fetch` writes to: `cicm/weights` in the user's cache, wherever the platform keeps that."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "cicm" / "weights"
    if sys.platform == "win32" and (base := os.environ.get("LOCALAPPDATA")):
        return Path(base) / "cicm" / "weights"
    return Path.home() / ".cache" / "cicm" / "weights"


def folders() -> list[Path]:
    """Where a file is looked for, first match wins: the folder in CICM_WEIGHTS, the cache, this package.

    Raises:
        InputError: CICM_WEIGHTS names something that is not a folder.
    """
    named = []
    if value := os.environ.get(ENVIRONMENT):
        if not Path(value).is_dir():
            raise InputError(f"{ENVIRONMENT} must name a folder; got {value}. Make the folder, or unset the variable.")
        named.append(Path(value))
    return [*named, cache_folder(), PACKAGE_FOLDER]


def find(file: PublishedFile, path: str | Path | None = None) -> Path | None:
    """Where the file lies, unchecked; None if it is in none of the folders.

    Args:
        path: an explicit file, or a folder that holds it under its official name; then nothing else is looked at.
    """
    if path is not None:
        given = Path(path)
        given = given / file.filename if given.is_dir() else given
        return given if given.is_file() else None
    return next((at for folder in folders() if (at := folder / file.filename).is_file()), None)


def locate(file: PublishedFile, path: str | Path | None = None) -> Path:
    """Where the file lies, with size and SHA-256 checked.

    Raises:
        MissingWeights: it is nowhere.
        InputError: it is there, but it is not the published file.
    """
    at = find(file, path)
    if at is None:
        raise MissingWeights(missing(file, path))
    check(at, file)
    return at


def missing(file: PublishedFile, path: str | Path | None = None) -> str:
    """The sentence for a file that is not there: which, where it was looked for, how to get it."""
    where = str(path) if path is not None else ", ".join(str(folder) for folder in folders())
    users = ", ".join(file.used_by or file.losses)
    return f"{users} needs {file.filename} ({file.origin}); not found in {where}. {_how_to_get(file)}"


def _how_to_get(file: PublishedFile) -> str:
    if file.url is None:
        return "It is part of this package: install cicm again."
    return f"Run `cicm weights fetch {file.name}`, or put {file.url} into a folder and name that in {ENVIRONMENT}."


def check(path: Path, file: PublishedFile) -> None:
    """Refuse a file that is not, byte for byte, the published one.

    Raises:
        InputError: another size or checksum, or unreadable.
    """
    try:
        status = path.stat()
        if status.st_size != file.num_bytes:
            raise InputError(
                f"{path} must be {file.filename} of {file.num_bytes} bytes; got {status.st_size} bytes. "
                f"Remove it. {_how_to_get(file)}"
            )
        found = _digest(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}. {_how_to_get(file)}") from error
    if found != file.sha256:
        raise InputError(
            f"{path} must have the SHA-256 {file.sha256[:12]}...; got {found[:12]}.... Remove it. {_how_to_get(file)}"
        )


@lru_cache(maxsize=32)
def _digest(path: Path, modified_ns: int, num_bytes: int) -> str:
    """SHA-256 of a file; remembered as long as the file does not change."""
    return digest_of(path)


# -- fetching --------------------------------------------------------------------------------------------------------

Progress = Callable[[int, int], None]  # called with (bytes so far, bytes in all)


def fetch(
    file: PublishedFile,
    folder: str | Path | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Download one file, check it, and only then give it its name.

    Args:
        overwrite: replace a file of that name which is not the published one.

    Returns:
        Where the file lies. If the published file is there already, nothing is downloaded.

    Raises:
        InputError: a file of that name which is not the published one; no connection; too many or too few bytes;
            another checksum. Nothing is left behind then.
    """
    target = (cache_folder() if folder is None else Path(folder)) / file.filename
    if target.exists() and not overwrite:
        check(target, file)
        return target
    if file.url is None:
        raise InputError(f"{file.name} ships with this package and is not downloaded; it lies in {PACKAGE_FOLDER}.")

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic(target) as temporary, open(temporary, "wb") as sink:
            _download(file, sink.write, progress)
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise InputError(
            f"could not fetch {file.url} into {target.parent}: {reason}. Check the connection and the folder, "
            f"or get the file elsewhere and name its folder in {ENVIRONMENT}."
        ) from error
    return target


def _download(file: PublishedFile, write: Callable[[bytes], object], progress: Progress | None) -> None:
    assert file.url is not None
    digest, received = hashlib.sha256(), 0
    with urllib.request.urlopen(file.url, timeout=_TIMEOUT_SECONDS) as response:
        while part := response.read(_CHUNK_BYTES):
            received += len(part)
            if received > file.num_bytes:
                raise InputError(f"{file.url} must be {file.num_bytes} bytes; it sends more. Not kept.")
            digest.update(part)
            write(part)
            if progress is not None:
                progress(received, file.num_bytes)
    if received != file.num_bytes:
        raise InputError(f"{file.url} must be {file.num_bytes} bytes; got {received}. Not kept; try again.")
    if digest.hexdigest() != file.sha256:
        raise InputError(
            f"{file.url} must have the SHA-256 {file.sha256[:12]}...; got {digest.hexdigest()[:12]}.... Not kept."
        )
