"""What was found in one repair, as one HTML file that asks for nothing outside of itself."""

from __future__ import annotations

import base64
import colorsys
import hashlib
import io
import json
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from cicm.conventions import InputError
from cicm.look.numbers import TOP, short, summary, visible
from cicm.look.reading import Look, Visit
from cicm.look.sources import SourceIndex
from cicm.memory.drawing import coloured

_WITH_SOURCES = 3  # contexts of each region whose sources are shown
_SHOWN_SIDE = 640  # longest side of a picture on the page, in pixels
MAX_THUMBNAILS = 6 * 2**20  # bytes of all thumbnails on a page; the contexts that matter most come first
MAX_PAGE = 32 * 2**20
_NUMBERED = 600  # up to so many cells, each has the number of its set written on it

_Rgb = tuple[int, int, int]
_RATIO: tuple[_Rgb, ...] = ((247, 247, 240), (161, 207, 201), (64, 145, 158), (24, 82, 112), (12, 36, 64))
_DIFFERENCE: tuple[_Rgb, ...] = ((33, 102, 172), (146, 197, 222), (247, 247, 247), (244, 165, 130), (178, 24, 43))

_HONEST = (
    "The pictures under a context are regions of the indexed photos that the finished network would write into it "
    "with the largest weight. They show what the context is nearest to now. They are not a recording: a context is a "
    "running mean of features, taken while the network was still changing, and nobody wrote down which photos went "
    "into it."
)

_FILLS = {
    "both": "The repaired picture joins the network's fill with patches of known pixels. "
    "The maps explain the network's part alone.",
    "network": "The network filled the hole. The maps explain all of it.",
}


def page(look: Look, index: SourceIndex | None = None) -> str:
    """One HTML file: pictures inlined, no request to anywhere, nothing to run but its own script.

    It can be read without the script too: the maps and tables are plain HTML, the script adds what a region read.

    Raises:
        InputError: an index of other weights, or more than a page should hold.
    """
    from jinja2 import Environment, StrictUndefined

    if index and index.fingerprint != look.fingerprint:
        raise InputError("this index was made with other weights. Make it again with cicm look --make-index PHOTOS.")
    script = _part("page.js")
    data = json.dumps(_data(look, index), separators=(",", ":"))
    for mark in "<>&\u2028\u2029":  # so that no name can end the element that holds the data
        data = data.replace(mark, f"\\u{ord(mark):04x}")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'; "
        "base-uri 'none'; form-action 'none'"
    )
    html = Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True)
    found = html.from_string(_part("page.html")).render(
        look=look,
        index=index,
        policy=policy,
        variables=_variables(look),
        css=_part("page.css"),
        visits=[_visit(look, visit) for visit in look.visits],
        frame=_frame(look),
        grid=_grid(look),
        notes=_notes(look, index),
        data=data,
        script=script,
    )
    if len(found) > MAX_PAGE:
        raise InputError(f"the page would have {len(found) / 2**20:.0f} MiB. Use a smaller photo.")
    return found


def _part(name: str) -> str:
    return (files("cicm.look") / "templates" / name).read_text(encoding="utf-8")


def _notes(look: Look, index: SourceIndex | None) -> list[str]:
    notes = [_FILLS[look.report.fill], *(f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in look.report.notes)]
    if lenders := look.report.lenders:
        notes.append(f"Photos of the album gave pixels: {', '.join(lenders)}.")
    if index:
        many = index.facts
        notes.append(_HONEST)
        notes.append(
            f"The index saw {many.photos_read:,} photos ({many.regions:,} complete regions) in windows of {many.side} "
            f"pixels with random holes, as in training, and keeps up to {many.keep} regions for each context, "
            "at most one of a photo."
        )
    else:
        notes.append(
            "No index of photos was given, so the contexts are numbers only. Make one with: "
            "cicm look --make-index PHOTOS -o index.safetensors"
        )
    if index:
        notes.append(
            "Alike is the similarity of that region and the context, as the memory measures it, beside the mean over "
            "all indexed regions that chose the same set. Where the two are close, the context stands for the whole "
            "set rather than for what is in the picture."
        )
    notes.append(
        "A weight says how alike region and context are, not what the region looks like in the end: the network goes "
        "on computing after the mix, and sees the surroundings as well."
    )
    notes.append("Pictures and maps are reduced to fit; numbers are those of the repair itself.")
    for site, memory in look.memories.items():
        if not memory["seeded"]:
            notes.append(f"The memory at {site} is empty: it changes nothing yet, and what it read means nothing.")
        if memory["kind"] == "table":
            notes.append(f"At {site} sits a table learned by gradient: no region was ever written into it.")
        if memory["ratio"] == "full":
            notes.append(f"At {site} the ratio is fixed at 1.")
        if memory["ratio"] == "true":
            notes.append(f"At {site} the true ratio is used in place of an estimate.")
        if memory["blend"] == "paper":
            notes.append(f"At {site} the blend is as printed: a ratio of 0 is all context.")
    return notes


def _variables(look: Look) -> dict[str, str]:
    """Every picture once, and the colours."""
    left, top, right, bottom = look.report.box
    found = {}
    for name in ("original", "corrupted", "repaired"):
        whole: np.ndarray = getattr(look, name)
        seen = whole[top:bottom, left:right]
        found[f"whole-{name}"] = f"url({_shown(whole)})"
        found[f"seen-{name}"] = f"var(--whole-{name})" if seen.shape == whole.shape else f"url({_shown(seen)})"
    for name, scale in (("ratio", _RATIO), ("difference", _DIFFERENCE)):
        found[name] = f"linear-gradient(to right, {', '.join(_css(colour) for colour in scale)})"
    return found


def _shown(pixels: np.ndarray) -> str:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE), Image.Resampling.BICUBIC)
    return _uri(image, "JPEG", quality=90)


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    data = io.BytesIO()
    image.save(data, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


def _visit(look: Look, visit: Visit) -> dict[str, Any]:
    """What the page shows of one visit, but for what single regions read."""
    same = sum(one.site == visit.site for one in look.visits)
    found = summary(look, visit)
    height, width = visit.grid
    sets = look.memories[visit.site]["sets"]
    off = f"{found['ratio_error']:.2f} on average; red: more context than is missing"
    maps = (
        ("sets", "Set of each region", f"{len(found['sets'])} of {sets} sets are used", _set_colours(visit, sets)),
        ("estimated", "Estimated ratio", _means(found), coloured(visit.estimated, _RATIO)),
        ("true", "True ratio", "the share of the cell that is missing", coloured(visit.true, _RATIO)),
        ("difference", "Estimated minus true", off, coloured((visit.estimated - visit.true + 1) / 2, _DIFFERENCE)),
    )
    return {
        "title": f"Site {visit.site}" + (f", visit {visit.number + 1} of {same}" if same > 1 else ""),
        "last": visit.number == same - 1,
        "height": height,
        "width": width,
        "numbers": visit.sets.tolist() if height * width <= _NUMBERED else [],
        "maps": [
            {
                "name": name,
                "title": title,
                "text": text,
                "uri": _uri(Image.fromarray(pixels.reshape(height, width, 3)), "PNG"),
            }
            for name, title, text, pixels in maps
        ],
        "rows": [
            {**one, "colour": _css(_palette(one["set"]))}
            for one in sorted(found["sets"], key=lambda one: -one["regions"])
        ],
    }


def _means(found: dict[str, Any]) -> str:
    parts = [
        f"{found[key]:.2f} where {words} is missing"
        for key, words in (("ratio_of_missing", "all"), ("ratio_of_complete", "nothing"))
        if found[key] is not None
    ]
    return f"on average {', '.join(parts)}" if parts else "every region is missing in part"


def _frame(look: Look) -> str:
    left, top, right, bottom = look.report.box
    return f"aspect-ratio: {right - left} / {bottom - top}"


def _grid(look: Look) -> str:
    """Where the whole map lies relative to the part that was seen: padding sticks out, and is cut off."""
    tall, wide = look.report.network_size
    height, width = look.work
    top, left = look.offset
    places = {"left": -left / width, "top": -top / height, "width": wide / width, "height": tall / height}
    return "; ".join(f"{name}: {100 * share:.4f}%" for name, share in places.items())


def _palette(set_: int) -> _Rgb:
    """A colour for a set: hues far apart for neighbours in number, three levels of lightness.

    Example:
        >>> len({_palette(number) for number in range(40)})
        40
    """
    hue = (0.58 + set_ * 0.61803399) % 1
    red, green, blue = colorsys.hls_to_rgb(hue, (0.42, 0.56, 0.68)[set_ % 3], 0.55)
    return round(255 * red), round(255 * green), round(255 * blue)


def _css(colour: _Rgb) -> str:
    return f"rgb{colour}"


def _set_colours(visit: Visit, count: int) -> np.ndarray:
    return np.array([_palette(number) for number in range(count)], np.uint8)[visit.sets]


def _data(look: Look, index: SourceIndex | None) -> dict[str, Any]:
    """What the script needs; weights and ratios in ten-thousandths, since whole numbers are short."""
    visits = []
    importance: dict[tuple[str, int, int], float] = {}
    for visit in look.visits:
        contexts, weights = visit.top(TOP)
        for region in visible(look, visit):
            for k, weight in zip(contexts[region, :_WITH_SOURCES], weights[region], strict=False):
                key = (visit.site, int(visit.sets[region]), int(k))
                importance[key] = importance.get(key, 0.0) + float(weight * visit.estimated[region])
        visits.append(
            {
                "site": visit.site,
                "visit": visit.number,
                "grid": visit.grid,
                "contexts": look.memories[visit.site]["contexts"],
                "sets": visit.sets.tolist(),
                "top": contexts.ravel().tolist(),
                "each": contexts.shape[1],
                "weights": (weights * 1e4).round().astype(int).ravel().tolist(),
                "estimated": (visit.estimated * 1e4).round().astype(int).tolist(),
                "true": (visit.true * 1e4).round().astype(int).tolist(),
            }
        )
    sets = max(memory["sets"] for memory in look.memories.values())
    return {
        "box": look.report.box,
        "size": [look.report.width, look.report.height],
        "work": look.work,
        "padded": look.report.network_size,
        "offset": look.offset,
        "colours": [_css(_palette(number)) for number in range(sets)],
        "withSources": _WITH_SOURCES,
        "visits": visits,
        "sources": None if index is None else _sources(index, importance),
    }


def _sources(index: SourceIndex, importance: dict[tuple[str, int, int], float]) -> dict[str, list[dict[str, Any]]]:
    """The sources of the contexts that were read, thumbnails first for those that gave the most."""
    room = MAX_THUMBNAILS
    found = {}
    for site, set_, context in sorted(importance, key=lambda key: (-importance[key], key)):
        rows = []
        for source in index.of(site, set_, context):
            shown = 0 < len(source.thumbnail) <= room
            room -= len(source.thumbnail) if shown else 0
            rows.append(
                {
                    "photo": source.photo,
                    "box": source.box,
                    "window": source.window,
                    "alike": short(source.similarity),
                    "typical": short(source.typical),
                    "picture": base64.b64encode(source.thumbnail).decode() if shown else "",
                }
            )
        found[f"{site}/{set_}/{context}"] = rows
    return found
