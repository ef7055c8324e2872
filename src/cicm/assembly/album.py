"""An album: what a memory holds of one's own photos, as a file beside the model whose features it is made of."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cicm.assembly.fingerprint import fingerprint
from cicm.assembly.inpainter import MemoryInpainter
from cicm.assembly.model import ModelConfig
from cicm.assembly.weights import ENDINGS, UNUSABLE, read_header
from cicm.conventions import InputError
from cicm.files import check_output, write_atomic
from cicm.memory import KINDS, ContextMemory, MemoryConfig
from cicm.memory.state import MemoryState
from cicm.plain import from_plain

FORMAT = "cicm-album-1"
MAX_BYTES = 2**30
_STATE = ("anchors", "contexts", "mass")


@dataclass(frozen=True)
class Page:
    """What an album holds for one site.

    Args:
        config: how this memory is read; its kind is `memory`.
        state: what it remembers, float32.
    """

    config: MemoryConfig
    state: MemoryState

    def tensors(self) -> dict[str, Tensor]:
        """By the names that they have in a `ContextMemory`."""
        return dict(zip(_STATE, (self.state.anchors, self.state.contexts, self.state.weight()), strict=True))


@dataclass(frozen=True)
class AlbumFacts:
    """How an album was made. No name of a photo is kept.

    Args:
        photos: different photos that were read.
        skipped: files that could not be used.
        regions: of these photos, of all sites together.
        side: of the windows they were seen through, in pixels.
        extended: it began with the model's own memory, or with another album, and not empty.
        content: SHA-256 over the photos' own digests, in the digests' order: the same for the same photos under any
            names; of an album that extends another one, over that one's as well.
    """

    photos: int
    skipped: int
    regions: int
    side: int
    extended: bool
    content: str

    def __post_init__(self) -> None:
        if min(self.photos, self.skipped, self.regions, self.side) < 0:
            raise InputError("an album can't hold fewer than 0 of anything.")


@dataclass(frozen=True)
class Album:
    """Memories that take the place of a model's own.

    Args:
        fingerprint: of the model, its own memory included, as it was when the album was made.
        pages: site -> what is remembered there.
        facts: how it was made.
    """

    fingerprint: str
    pages: dict[str, Page]
    facts: AlbumFacts


def with_album(model: MemoryInpainter, album: Album) -> MemoryInpainter:
    """The model with the album's memories in the place of its own, in evaluation mode.

    The network is shared with the model, which keeps its own memories. Sites without a page in the album keep theirs.

    Raises:
        InputError: the album was made with another model, or does not fit this one.
    """
    check_model(album.fingerprint, model)
    own: Mapping[str, nn.Module] = dict(model.memories.items())
    memories: dict[str, Any] = dict(own)
    for site, page in album.pages.items():
        if site not in own:
            raise InputError(
                f"the album has a page for {site!r}, where this model has no memory. Make the album again."
            )
        old = own[site]
        assert isinstance(old, ContextMemory)
        device = old.anchors.device
        with torch.random.fork_rng(devices=[]):  # a new head's weights are drawn, and then replaced
            memory = ContextMemory(old.channels, page.config)
        # The ratio head stays the model's own: it was trained, the album was not.
        head = {name: tensor for name, tensor in old.state_dict().items() if name.startswith("ratio_head.")}
        found = head | page.tensors() | {"filled": torch.tensor(1.0)}
        try:
            memory.load_state_dict(found)
        except RuntimeError as error:
            raise InputError(f"the album's page for {site!r} does not fit this model. Make the album again.") from error
        memories[site] = memory.to(device)
    return MemoryInpainter(model.network, memories).eval()  # type: ignore[arg-type]


def check_model(made_with: str, model: MemoryInpainter) -> None:
    """Refuse a model whose features are not those of the album.

    Raises:
        InputError: with both digests.
    """
    if made_with != (own := fingerprint(model)):
        raise InputError(
            f"this album was made with other weights (theirs {made_with[:12]!r}, these {own[:12]!r}), and features of "
            "one model mean nothing to another. Name those weights with --weights, or make the album again with "
            "cicm remember."
        )


# The file -------------------------------------------------------------------------------------------------------------


def save_album(album: Album, path: str | os.PathLike, *, overwrite: bool = False) -> Path:
    """Write an album as one safetensors file, whole or not at all; the same album is the same file.

    Raises:
        InputError: what `check_output` refuses; values that are not finite.
    """
    target = check_output(path, endings=ENDINGS, overwrite=overwrite, what="album")
    tensors = {
        f"{site}/{name}": t.contiguous() for site, page in album.pages.items() for name, t in page.tensors().items()
    }
    if bad := [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]:
        raise InputError(f"{bad[0]} holds values that are not finite; nothing was written.")
    about = {
        "format": FORMAT,
        "fingerprint": album.fingerprint,
        "pages": {site: asdict(page.config) for site, page in album.pages.items()},
        "facts": asdict(album.facts),
    }
    # One entry: the order of several in the header is not fixed, and the same album shall be the same file.
    write_atomic(target, save(tensors, {"album": json.dumps(about)}), overwrite=overwrite)
    return target


def load_album(path: str | os.PathLike) -> Album:
    """Read an album that `save_album` wrote; nothing in it is trusted.

    Raises:
        InputError: missing, too large, damaged, a pickle, not an album, or numbers that make no sense.
    """
    file, header = Path(path), read_header(path, "album", MAX_BYTES)
    if "album" not in header:
        hint = " It is a model: name it with --weights." if str(header.get("format", "")).startswith("cicm-") else ""
        raise InputError(f"{file} is safetensors but no album.{hint} Albums are made with cicm remember.")
    try:
        about = json.loads(header["album"])
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {str(about['format'])[:20]!r}, expected {FORMAT!r}")
        facts = from_plain(AlbumFacts, about["facts"], "facts")
        mark = about["fingerprint"]
        if not _digest(mark) or not _digest(facts.content):
            raise ValueError("its digests are none")
        # `ModelConfig` reads the configurations strictly: no unknown key, no value out of its range.
        configs = ModelConfig.from_dict({"memories": about["pages"]}).memories
        pages = _pages(load_file(file, device="cpu"), configs)
    except UNUSABLE as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
        raise InputError(f"{file} is damaged, or of another version: {reason}. Make it again.") from error
    return Album(mark, pages, facts)


def _pages(tensors: dict[str, Tensor], configs: Mapping[str, MemoryConfig]) -> dict[str, Page]:
    wanted = {f"{site}/{name}" for site in configs for name in _STATE}
    if not configs or set(tensors) != wanted:
        raise ValueError(f"it holds {len(tensors)} tensors, expected {len(wanted)}")
    pages = {}
    for site, config in configs.items():
        own = {name: tensors[f"{site}/{name}"] for name in _STATE}
        channels = own["anchors"].shape[-1] if own["anchors"].ndim == 2 else 0
        sizes: dict[str, tuple[int, ...]] = {
            "anchors": (config.sets, channels),
            "contexts": (config.sets, config.contexts, channels),
            "mass": (config.sets, config.contexts),
        }
        for name, tensor in own.items():
            if tuple(tensor.shape) != sizes[name] or tensor.dtype != torch.float32 or channels < 1:
                raise ValueError(f"{site}/{name} is {tuple(tensor.shape)} {tensor.dtype}")
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{site}/{name} holds values that are not finite")
        if not KINDS[config.kind].writes or bool((own["mass"] < 0).any()) or not bool(own["mass"].sum() > 0):
            raise ValueError(f"{site} holds nothing")
        pages[site] = Page(config, MemoryState(*(own[name] for name in _STATE)))
    return pages


def _digest(text: Any) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")
