"""An index of sources as a file; nothing in one that is read is trusted."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save
from torch import nn

from cicm.assembly.fingerprint import fingerprint
from cicm.assembly.weights import UNUSABLE, read_header
from cicm.conventions import InputError
from cicm.files import check_output, check_readable, write_atomic
from cicm.look.sources import MAX_CELLS, MOST_KEPT, THUMBNAIL, Facts, SiteSources, SourceIndex, sound, with_sets

_FORMAT = "cicm-sources-1"
_MAX_BYTES = 256 * 2**20
_MAX_THUMBNAIL = 32 * 2**10


def save_index(index: SourceIndex, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write an index as one safetensors file, whole or not at all.

    Raises:
        InputError: another ending, no such folder, a file that is there already without `overwrite`.
    """
    target = check_output(path, endings=(".safetensors",), overwrite=overwrite, what="index")
    tensors = {f"{site}/{name}": value for site, one in index.sites.items() for name, value in vars(one).items()}
    about = {
        "format": _FORMAT,
        "fingerprint": index.fingerprint,
        "photos": list(index.photos),
        "sites": list(index.sites),
        "facts": asdict(index.facts),
    }
    # One entry: the order of several in the header is not fixed, and the same index shall be the same file.
    data = save(tensors, {"index": json.dumps(about)})
    if len(data) > _MAX_BYTES:
        raise InputError(
            f"the index would have {len(data) / 2**20:.0f} MiB; at most {_MAX_BYTES // 2**20}. Keep fewer."
        )
    write_atomic(target, data, overwrite=overwrite)
    return target


def read_index(path: str | Path, model: nn.Module | None = None) -> SourceIndex:
    """Read an index that `save_index` wrote; nothing in it is trusted.

    Raises:
        InputError: missing, too large, damaged, not an index, numbers that make no sense, or made with other weights.
    """
    file = check_readable(path, "index")
    if (size := file.stat().st_size) > _MAX_BYTES:
        raise InputError(f"{file} has {size / 2**20:.0f} MiB; an index has at most {_MAX_BYTES // 2**20}.")
    header = read_header(file)
    if "index" not in header:
        raise InputError(f"{file} is safetensors but no index of sources. Make one with cicm look --make-index PHOTOS.")
    try:
        about = json.loads(header["index"])
        if about["format"] != _FORMAT:
            raise ValueError(f"expected format {_FORMAT!r}, got {about['format']!r}")
        facts = Facts(**about["facts"])
        if not all(type(value) is int and value >= 0 for value in asdict(facts).values()):
            raise ValueError("its counts are not whole numbers")
        names = about["photos"]
        if not (isinstance(names, list) and all(isinstance(n, str) and sound(n) for n in names)):
            raise ValueError("its file names are not names")
        mark = str(about["fingerprint"])
        tensors = load_file(file)
        sites = {site: _site(site, tensors, len(names)) for site in about["sites"]}
        if len(tensors) != len(SiteSources.__dataclass_fields__) * len(sites):
            raise ValueError("it holds more than its sites")
    except UNUSABLE as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise InputError(f"{file} is damaged, or of another version: {reason}. Make it again.") from error
    index = SourceIndex(mark, tuple(names), sites, facts)
    if model is not None:
        _check_model(file, index, model)
    return index


def _site(site: str, tensors: dict[str, np.ndarray], photos: int) -> SiteSources:
    """The checked sources of a site; ValueError for what can't be."""
    one = SiteSources(**{name: tensors[f"{site}/{name}"] for name in SiteSources.__dataclass_fields__})
    shape = one.photo.shape
    if len(shape) != 3 or not 1 <= shape[2] <= MOST_KEPT or not 0 < one.photo.size <= MAX_CELLS:
        raise ValueError(f"its entries have the shape {shape}")
    expected = {
        "photo": (shape, np.int32),
        "box": ((*shape, 4), np.int32),
        "window": ((*shape, 4), np.int32),
        "weight": (shape, np.float32),
        "similarity": (shape, np.float32),
        "typical": (shape[:2], np.float32),
        "regions": (shape[:2], np.int64),
        "thumbnails": (one.thumbnails.shape[:1], np.uint8),
        "ends": ((one.photo.size,), np.int64),
    }
    for name, (wanted, kind) in expected.items():
        value = getattr(one, name)
        if value.shape != wanted or value.dtype != kind:
            raise ValueError(f"{name} is {value.shape} {value.dtype}")
    lengths = np.diff(one.ends, prepend=0)
    numbers = (one.weight, one.similarity, one.typical)
    counts = (one.box, one.window, one.regions, lengths)
    sound = one.photo.min() >= -1 and one.photo.max() < photos and all(np.isfinite(value).all() for value in numbers)
    sound = sound and all(value.min() >= 0 for value in counts) and lengths.max() <= _MAX_THUMBNAIL
    if not sound or one.ends[-1] != one.thumbnails.size:
        raise ValueError("its numbers are out of range")
    for start, end in zip(one.ends - lengths, one.ends, strict=True):
        if end > start:
            width, height = _jpeg_size(one.thumbnails[start:end].tobytes())
            if not (1 <= width <= THUMBNAIL and 1 <= height <= THUMBNAIL):
                raise ValueError(f"a thumbnail has {width}x{height} pixels")
    return one


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) that a JPEG's header states; a few bytes can claim a huge picture, which a browser would try."""
    if data[:2] != b"\xff\xd8":
        raise ValueError("a thumbnail is no JPEG")
    place, found = 2, []
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], struct.unpack(">H", data[place + 2 : place + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[place + 5 : place + 9].ljust(4, b"\0")[:4])
            found.append((width, height))
        if marker == 0xDA:
            break
        place += 2 + max(length, 2)
    if len(found) != 1:
        raise ValueError("a thumbnail is a damaged JPEG")
    return found[0]


def _check_model(file: Path, index: SourceIndex, model: nn.Module) -> None:
    own = fingerprint(model)
    if index.fingerprint != own:
        raise InputError(
            f"{file} was made with other weights (theirs {index.fingerprint[:12]!r}, these {own[:12]!r}). "
            "Name the weights that it was made with, or make it again with cicm look --make-index PHOTOS."
        )
    for site, memory in with_sets(model).items():
        one = index.sites.get(site)
        if one is None or one.photo.shape[:2] != (memory.config.sets, memory.config.contexts):
            raise InputError(f"{file} does not fit the memory at {site!r}. Make it again.")
