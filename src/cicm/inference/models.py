"""Models by name: the one that ships, and released ones of others, which a person gets once. No torch.

A released file is read without running what may be in it, converted, and kept as `NAME.safetensors`; its card names the
file that it was made from, and the terms.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path

from cicm.conventions import InputError
from cicm.files import check_readable, digest_of
from cicm.published import MissingWeights, Progress, PublishedFile, cache_folder, fetch, folders

SHIPPED = "unet-cicm-scenes"
"""The model that comes with the package."""


@dataclass(frozen=True)
class Released:
    """A model that others released.

    Args:
        network: the registered network that takes its weights.
        about: what it is, in a line.
        files: published files that hold it; the first that has an address is downloaded.
    """

    name: str
    network: str
    about: str
    files: tuple[PublishedFile, ...]

    @property
    def filename(self) -> str:
        """Of the converted file."""
        return f"{self.name}.safetensors"


_PHOTOS = "trained on Places2, whose photos are for non-commercial research"
_LAMA = f"Apache-2.0 as its card says; {_PHOTOS}"
_MIGAN = f"MIT (its authors' LICENSE-WEIGHTS); its teacher's weights are non-commercial; {_PHOTOS}"
_MIGAN_PAGE = "https://drive.google.com/drive/folders/1xNtvN2lto0p5yFKOEEg9RioMjGrYM74w"


def _file(
    filename: str, sha256: str, licence: str, *, url: str | None = None, size: int = 0, page: str = ""
) -> PublishedFile:
    return PublishedFile(filename, filename, url, sha256, size, licence, "", page=page)


RELEASED: dict[str, Released] = {
    model.name: model
    for model in (
        Released(
            "lama",
            "lama",
            "big-lama, for photos of any size and large holes",
            (
                _file(
                    "big-lama.pt",
                    "344c77bbcb158f17dd143070d1e789f38a66c04202311ae3a258ef66667a9ea9",
                    _LAMA,
                    url="https://github.com/Sanster/models/releases/download/add_big_lama/big-lama.pt",
                    size=205_669_692,
                ),
                _file(
                    "best.ckpt",
                    "fccb7adffd53ec0974ee5503c3731c2c2f1e7e07856fd9228cdcc0b46fd5d423",
                    _LAMA,
                    size=410_046_389,
                    page="https://huggingface.co/smartywu/big-lama (big-lama.zip)",
                ),
            ),
        ),
        Released(
            "migan",
            "migan",
            "MI-GAN of 512x512, small and fast",
            (
                _file(
                    "migan_512_places2.pt",
                    "1d6087eee0aac8923ad2606be5d8caeb4824d3e4de331995e420c74e124a466a",
                    _MIGAN,
                    page=_MIGAN_PAGE,
                ),
            ),
        ),
        Released(
            "migan-256",
            "migan",
            "MI-GAN of 256x256",
            (
                _file(
                    "migan_256_places2.pt",
                    "8b82b2e82fc8e5a2e1f06827594aac1a5d66a9ca41e24199ddd969847788097f",
                    _MIGAN,
                    page=_MIGAN_PAGE,
                ),
            ),
        ),
        Released(
            "migan-256-faces",
            "migan",
            "MI-GAN of 256x256 for faces",
            (
                _file(
                    "migan_256_ffhq.pt",
                    "",
                    "MIT (its authors' LICENSE-WEIGHTS); trained on FFHQ, whose photos are partly non-commercial",
                    page=_MIGAN_PAGE,
                ),
            ),
        ),
    )
}
"""Name -> model. Addresses and checksums are those that were published; an empty one is not known."""


def released(name: str) -> Released:
    """The registry's entry; an unknown name lists the known ones.

    Example:
        >>> released("lama").files[0].filename
        'big-lama.pt'
    """
    if name not in RELEASED:
        close = difflib.get_close_matches(name, RELEASED, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise InputError(f"unknown model {name!r}; known are {', '.join(RELEASED)}.{hint}")
    return RELEASED[name]


def find_model(model: Released) -> Path | None:
    """Where the converted file lies; None if it is in none of the folders."""
    return next((at for folder in folders() if (at := folder / model.filename).is_file()), None)


def model_file(name: str) -> Path:
    """The converted file of a released model.

    Raises:
        InputError: an unknown name.
        MissingWeights: it was not fetched yet; the message says how to.
    """
    model = released(name)
    if (at := find_model(model)) is None:
        raise MissingWeights(
            f"the model {name} is not on this machine (looked in {', '.join(map(str, folders()))}). {how_to_get(model)}"
        )
    return at


def how_to_get(model: Released) -> str:
    """The command, and for a file without an address where it is published."""
    if any(file.url for file in model.files):
        return f"Run: cicm models get {model.name}"
    file = model.files[0]
    return f"Get {file.filename} from {file.page} and run: cicm models get {model.name} --from {file.filename}"


def get_model(
    name: str,
    source: str | Path | None = None,
    *,
    sha256: str | None = None,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[Path, tuple[str, ...]]:
    """Download a released model, or take a file that is here already, and convert it.

    Args:
        source: a released file; None downloads it.
        sha256: of the source, for a file that is not one of the known ones.
        folder: where to; None for the cache.

    Returns:
        where it lies, and notes for people.

    Raises:
        InputError: nothing to download it from; a file with another checksum; whatever the conversion refuses.
    """
    model = released(name)
    target = (cache_folder() if folder is None else Path(folder)) / model.filename
    if target.is_file():
        return target, ("it is there already",)
    if source is None:
        file = next((file for file in model.files if file.url), None)
        if file is None:
            raise InputError(f"the model {name} has no direct address. {how_to_get(model)}")
        known = replace(file, name=name)
        fetched = fetch(replace(known, sha256=sha256) if sha256 else known, target.parent, progress=progress)
        notes = _converted(model, fetched, target)
        fetched.unlink()  # the converted file holds all of it
        return target, notes
    given = check_readable(source, "file")
    return target, (*_accepted(model, digest_of(given), sha256), *_converted(model, given, target))


def _accepted(model: Released, found: str, stated: str | None) -> tuple[str, ...]:
    """Refuse a file that is neither published nor vouched for; notes about what is not known."""
    if stated is not None:
        if found != stated.lower():
            raise InputError(f"the file has the SHA-256 {found}, not {stated} as --sha256 says. Get it again.")
        return ()
    known = {file.filename: file.sha256 for file in model.files if file.sha256}
    if not known:
        return (f"no published checksum of it is known; the file's SHA-256 is {found}",)
    if found not in known.values():
        told = ", ".join(f"{digest[:12]}... ({filename})" for filename, digest in known.items())
        raise InputError(
            f"the file has the SHA-256 {found}; known for {model.name} are {told}. If you trust it, add "
            f"--sha256 {found}."
        )
    return ()


def _converted(model: Released, source: Path, target: Path) -> tuple[str, ...]:
    from cicm.assembly.conversion import convert

    return convert(model.network, [source], target).notes
