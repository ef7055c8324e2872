"""What can be scored: a model, a classical method, a folder of results made elsewhere. One interface for all."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cicm.conventions import InputError
from cicm.data.pair_lists import Pair
from cicm.evaluation.classical import CLASSICAL, Method, OpenCV, to_tensor
from cicm.files import digest_of
from cicm.ops import composite
from cicm.photos.headers import find_images
from cicm.photos.photo import read_image

if TYPE_CHECKING:
    from cicm.assembly import Inpainting


class Model(Method):
    """A trained model from its weights file.

    Args:
        path: a .safetensors file that `save_weights` wrote.
        device: where it runs.
        raw: score the prediction itself, not the composite.

    Raises:
        InputError: whatever is wrong with the file.
    """

    def __init__(self, path: str | Path, *, device: str | torch.device = "cpu", raw: bool = False) -> None:
        from cicm.assembly import load_weights

        path = Path(path)
        loaded = load_weights(path, device=str(device))
        self.model = loaded.model.eval()
        self.name = path.stem
        self.device = torch.device(device)
        self.raw = raw
        seed = loaded.card.get("seed")
        self.seed = seed if isinstance(seed, int) and not isinstance(seed, bool) else None
        self.detail = f"model, weights {path.name}, sha256 {digest_of(path)[:16]}, {self.device.type}"
        self.labels = loaded.config.labels
        if self.labels is not None:
            self.detail += f"; {self.labels.told()}"
            self.takes_labels = self.labels.source in ("known", "oracle")

    def fill(self, corrupted: Tensor, hole: Tensor, pairs: Sequence[Pair] = (), label: Tensor | None = None) -> Tensor:
        result = self.run(corrupted, hole, label)
        return result.prediction.image.float() if self.raw else result.composite.float()

    def run(self, corrupted: Tensor, hole: Tensor, label: Tensor | None = None) -> Inpainting:
        """Everything that the model gives; `label` (B, H, W), of which it sees what its source allows."""
        self.model.network.size.check(*corrupted.shape[-2:])
        with torch.inference_mode():
            return self.model(corrupted, hole, label) if self.labels else self.model(corrupted, hole)  # type: ignore[no-any-return]


class FolderResults(Method):
    """Pictures that another program made from the same photos and holes.

    For photo `town/a.jpg` and band `20-40` the result is one of `20-40/town/a.*` or `town/a_20-40.*`; where the list
    has one band alone, also `town/a.*`. Any ending that is read as a picture will do.

    Args:
        folder: where they lie.
        raw: score them as they are; without it the photo's own pixels stand around the hole, which forgives a lossy
            format.

    Raises:
        InputError: not a folder.
    """

    def __init__(self, folder: str | Path, *, raw: bool = False) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(f"results must be a folder of pictures; {self.folder} is none.")
        self.name = self.folder.resolve().name
        self.detail = f"results in a folder named {self.name}, {'scored raw' if raw else 'composited'}"
        self.raw = raw
        self.files: dict[Pair, Path] = {}

    def prepare(self, pairs: Sequence[Pair]) -> None:
        """Find the file of each pair.

        Raises:
            InputError: files are missing, or two could be meant; all pairs are looked at, ten are named.
        """
        made: dict[str, list[Path]] = {}
        for path in find_images(self.folder):
            made.setdefault(path.relative_to(self.folder).with_suffix("").as_posix(), []).append(path)
        one_band = len({pair.band for pair in pairs}) == 1
        absent = []
        for pair in pairs:
            stem = Path(pair.image).with_suffix("").as_posix()
            names = [f"{pair.band}/{stem}", f"{stem}_{pair.band}", *([stem] if one_band else [])]
            found = [path for name in names for path in made.get(name, [])]
            if len(found) > 1:
                both = " and ".join(path.relative_to(self.folder).as_posix() for path in found[:2])
                raise InputError(f"{self.folder} has two results for {pair.image}, band {pair.band}: {both}. Keep one.")
            if found:
                self.files[pair] = found[0]
            else:
                absent.append(names[0])
        if absent:
            shown = ", ".join(f"{name}.png" for name in absent[:10])
            raise InputError(
                f"{self.folder} lacks {len(absent)} of {len(pairs)} results: {shown}"
                f"{f' and {len(absent) - 10} more' if len(absent) > 10 else ''}. "
                "Name them BAND/PHOTO.png or PHOTO_BAND.png, or score fewer with --pairs, --bands or --limit."
            )

    def fill(self, corrupted: Tensor, hole: Tensor, pairs: Sequence[Pair]) -> Tensor:
        if not set(pairs) <= self.files.keys():
            self.prepare(pairs)
        pictures = []
        for pair, image in zip(pairs, corrupted):
            path = self.files[pair]
            picture = read_image(path)
            height, width = image.shape[-2:]
            if picture.shape[:2] != (height, width):
                raise InputError(
                    f"{path} must have the size that is scored, {width}x{height} pixels; got "
                    f"{picture.shape[1]}x{picture.shape[0]}. Fill the same centre crop of the photo."
                )
            pictures.append(to_tensor(picture))
        filled = torch.stack(pictures)
        return filled if self.raw else composite(filled, corrupted, hole)


def method_from(
    specification: str,
    *,
    device: str | torch.device = "cpu",
    raw: bool = False,
    more: Mapping[str, Callable[[], Method]] | None = None,
) -> Method:
    """A method from its name on the command line.

    Args:
        specification: `telea`, `navier-stokes` (both also with a radius, `telea:3`), `biharmonic`, `shiftmap`, `fsr`,
            `mean`, `default` (the weights that ship with the package), a weights file, or a folder; each also as
            LABEL=METHOD.
        device: for a model.
        raw: for a model or a folder.
        more: further methods by their names, which this room can't build.

    Raises:
        InputError: none of these; the message names what is known.

    Example:
        >>> method_from("telea:3").detail
        'fast marching (Telea 2004), cv2.inpaint, radius 3 px, 8-bit RGB'
    """
    label, text = "", specification
    if "=" in text and not Path(text).exists():
        label, text = text.split("=", 1)
    method = _method(text, device, raw, more or {})
    if label:
        method.name = label
    return method


def _method(text: str, device: str | torch.device, raw: bool, more: Mapping[str, Callable[[], Method]]) -> Method:
    if text in more:
        return more[text]()
    name, _, setting = text.partition(":")
    if name in CLASSICAL and not (setting == "" and ":" in text):
        kind = CLASSICAL[name]
        if not setting:
            return kind()
        if not issubclass(kind, OpenCV):
            raise InputError(f"{name} takes no setting; got {text!r}.")
        try:
            return kind(float(setting))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the radius of {name} must be a number of pixels, as {name}:3; got {text!r}.") from None
    path = Path(text)
    if text == "default" and not path.exists():
        from cicm.assembly import default_weights

        shipped = Model(default_weights(), device=device, raw=raw)
        shipped.name = text  # as it was called, so that `--compare scores.json:default` finds it
        return shipped
    if path.is_dir():
        return FolderResults(path, raw=raw)
    if path.is_file():
        return Model(path, device=device, raw=raw)
    known = [*CLASSICAL, "default", *more]
    close = difflib.get_close_matches(text, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(
        f"a method is {', '.join(known)}, a weights file or a folder of results; got {text!r}, which is none of "
        f"these. {hint}".rstrip()
    )
