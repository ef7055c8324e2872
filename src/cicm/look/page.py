"""What was found in one repair: as plain numbers, and as one HTML file that asks for nothing outside of itself."""

from __future__ import annotations

import base64
import colorsys
import hashlib
import io
import json
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from cicm.conventions import InputError
from cicm.look.reading import Look, Visit
from cicm.look.sources import Source, SourceIndex

TOP = 8
"""Contexts that are told of each region; the others are summed up."""
WITH_SOURCES = 3
"""Contexts of each region whose sources are shown."""
SHOWN_SIDE = 640
"""Longest side of a picture on the page, in pixels."""
MAX_THUMBNAILS = 6 * 2**20
"""Bytes of all thumbnails on a page; the contexts that matter most come first."""
MAX_PAGE = 32 * 2**20
NUMBERED = 600
"""Up to so many cells, each has the number of its set written on it."""

Rgb = tuple[int, int, int]
RATIO: tuple[Rgb, ...] = ((247, 247, 240), (161, 207, 201), (64, 145, 158), (24, 82, 112), (12, 36, 64))
DIFFERENCE: tuple[Rgb, ...] = ((33, 102, 172), (146, 197, 222), (247, 247, 247), (244, 165, 130), (178, 24, 43))

HONEST = (
    "The pictures under a context are regions of the indexed photos that the finished network would write into it "
    "with the largest weight. They show what the context is nearest to now. They are not a recording: a context is a "
    "running mean of features, taken while the network was still changing, and nobody wrote down which photos went "
    "into it."
)


# Numbers --------------------------------------------------------------------------------------------------------------


def numbers(look: Look, index: SourceIndex | None = None, top: int = TOP) -> dict[str, Any]:
    """Everything that the page shows, as plain data for JSON.

    Args:
        look: from `cicm.look.look`.
        index: adds, for each context that is among the top of a region, where it is nearest to.
        top: contexts told for each region.
    """
    visits = []
    wanted: dict[str, set[tuple[int, int]]] = {site: set() for site in look.memories}
    for visit in look.visits:
        contexts, weights = visit.top(top)
        regions = []
        for region in visible(look, visit):
            row, column = divmod(region, visit.grid[1])
            set_ = int(visit.sets[region])
            wanted[visit.site].update((set_, int(k)) for k in contexts[region])
            regions.append(
                {
                    "row": row,
                    "column": column,
                    "cell": list(look.cell(visit, region)),
                    "set": set_,
                    "estimated": _short(visit.estimated[region]),
                    "true": _short(visit.true[region]),
                    "contexts": contexts[region].tolist(),
                    "weights": [_short(w) for w in weights[region]],
                }
            )
        visits.append(
            {
                "site": visit.site,
                "visit": visit.number,
                "grid": list(visit.grid),
                "summary": summary(look, visit),
                "regions": regions,
            }
        )
    found: dict[str, Any] = {
        "photo": look.name,
        "height": look.report.height,
        "width": look.report.width,
        "missing": _short(look.report.missing),
        "box": list(look.report.box),
        "reduced": look.report.reduced,
        "weights": look.fingerprint,
        "memories": look.memories,
        "visits": visits,
        "sources": None,
    }
    if index:
        found["sources"] = {
            site: {f"{set_}/{context}": _plain(index.of(site, set_, context)) for set_, context in sorted(some)}
            for site, some in wanted.items()
        }
        found["indexed_photos"] = index.facts.photos_read
    return found


def visible(look: Look, visit: Visit) -> list[int]:
    """Regions whose cell lies in the photo at all; the others are padding."""
    found = []
    for region in range(len(visit.sets)):
        left, top, right, bottom = look.cell(visit, region)
        if right > left and bottom > top:
            found.append(region)
    return found


def summary(look: Look, visit: Visit) -> dict[str, Any]:
    """A map in a few numbers; None where there is nothing to take a mean of.

    Returns:
        regions in all and per set (with those that something is missing of), mean estimated ratio of complete regions
        and of wholly missing ones, mean difference of estimated and true ratio.
    """
    shown = visible(look, visit)
    sets, estimated, true = visit.sets[shown], visit.estimated[shown], visit.true[shown]

    def mean(values: np.ndarray) -> float | None:
        return _short(values.mean()) if values.size else None

    return {
        "regions": len(shown),
        "complete": int((true == 0).sum()),
        "sets": [
            {"set": int(s), "regions": int((sets == s).sum()), "incomplete": int(((sets == s) & (true > 0)).sum())}
            for s in np.unique(sets)
        ],
        "ratio_of_complete": mean(estimated[true == 0]),
        "ratio_of_missing": mean(estimated[true == 1]),
        "ratio_error": mean(abs(estimated - true)),
    }


def _plain(sources: list[Source]) -> list[dict[str, Any]]:
    return [
        {
            "photo": s.photo,
            "box": list(s.box),
            "weight": _short(s.weight),
            "similarity": _short(s.similarity),
            "typical": _short(s.typical),
        }
        for s in sources
    ]


def _short(value: Any) -> float:
    """Four digits after the point are more than anybody reads, and a fraction of the bytes."""
    return round(float(value), 4)


# The page -------------------------------------------------------------------------------------------------------------


def page(look: Look, index: SourceIndex | None = None) -> str:
    """One HTML file: pictures inlined, no request to anywhere, nothing to run but its own script.

    It can be read without the script too: the maps and tables are plain HTML, the script adds what a region read.

    Args:
        look: from `cicm.look.look`.
        index: of the same weights; adds training regions to the contexts.

    Raises:
        InputError: an index of other weights, or more than a page should hold.
    """
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
    sections = "\n".join(_section(look, number) for number in range(len(look.visits)))
    found = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Look inside: {escape(look.name)}</title>
<style>
{_variables(look)}
{_part("page.css")}
</style>
</head>
<body>
<header>
<h1>Where did this come from?</h1>
<p>{_facts(look, index)}</p>
</header>
<main>
<section class="pictures" aria-label="The photo">
{_picture("original", "The photo", look)}
{_picture("corrupted", "With the hole", look)}
{_picture("repaired", "Repaired", look)}
</section>
<div class="columns">
<div>
<p class="lead">Each square below is a region: one cell of a feature map. It chose the set whose anchor is most like it,
mixed the contexts of that set by their weights, and took the mix to the share of its ratio: at 0 it stays as it is, at
1 it is all context. The maps show the part of the photo that the network saw.</p>
<p class="slider"><label for="opacity">Overlay</label>
<input id="opacity" type="range" min="0" max="100" value="70"></p>
{sections}
<section class="notes" aria-label="Notes">
<h2>What this is, and what it is not</h2>
{_notes(look, index)}
</section>
</div>
<aside id="detail" aria-label="The chosen region">
<p class="hint">Point at a region to see what it read; click to keep it, click again to let it go. With the keyboard:
Tab to a map of sets, then the arrow keys; Enter keeps, Escape lets go.</p>
<div id="region"><noscript><p>What single regions read is shown by this file's own script, which is switched off.</p>
</noscript></div>
<p id="said" class="hidden" aria-live="polite"></p>
</aside>
</div>
</main>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""
    if len(found) > MAX_PAGE:
        raise InputError(f"the page would have {len(found) / 2**20:.0f} MiB; use a smaller --max-side.")
    return found


def _part(name: str) -> str:
    return (files("cicm.look") / name).read_text(encoding="utf-8")


def _facts(look: Look, index: SourceIndex | None) -> str:
    report = look.report
    memories = "; ".join(
        f"{escape(site)}: {m['sets']} sets of {m['contexts']} contexts of {m['channels']} channels"
        for site, m in look.memories.items()
    )
    words = [
        f"<strong>{escape(look.name)}</strong>, {report.width}&thinsp;×&thinsp;{report.height}, "
        f"{100 * report.missing:.3g}&thinsp;% missing",
        f"memory at {memories}",
        f"weights {look.fingerprint[:12]}",
    ]
    if index:
        words.append(f"{index.facts.photos_read:,} photos indexed")
    return " · ".join(words)


def _notes(look: Look, index: SourceIndex | None) -> str:
    notes = []
    if index:
        many = index.facts
        notes.append(HONEST)
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
    return "\n".join(f"<p>{escape(note)}</p>" for note in notes)


def _variables(look: Look) -> str:
    """Every picture once, and the colours."""
    left, top, right, bottom = look.report.box
    rules = []
    for name in ("original", "corrupted", "repaired"):
        whole: np.ndarray = getattr(look, name)
        seen = whole[top:bottom, left:right]
        rules.append(f"--whole-{name}: url({_shown(whole)});")
        part = "whole-" + name if seen.shape == whole.shape else ""
        rules.append(f"--seen-{name}: {f'var(--{part})' if part else f'url({_shown(seen)})'};")
    for name, scale in (("ratio", RATIO), ("difference", DIFFERENCE)):
        rules.append(f"--{name}: linear-gradient(to right, {', '.join(f'rgb{colour}' for colour in scale)});")
    return ":root { " + "\n".join(rules) + " }"


def _shown(pixels: np.ndarray) -> str:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BICUBIC)
    return _uri(image, "JPEG", quality=90)


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    data = io.BytesIO()
    image.save(data, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


def _picture(name: str, title: str, look: Look) -> str:
    size = f"aspect-ratio: {look.report.width} / {look.report.height}"
    return (
        f'<figure><div class="picture" role="img" aria-label="{title}" '
        f'style="background-image: var(--whole-{name}); {size}"></div><figcaption>{title}</figcaption></figure>'
    )


def _section(look: Look, number: int) -> str:
    visit = look.visits[number]
    same = [v for v in look.visits if v.site == visit.site]
    last = visit.number == len(same) - 1
    title = f"Site {escape(visit.site)}"
    if len(same) > 1:
        title += f", visit {visit.number + 1} of {len(same)}"
    found = summary(look, visit)
    height, width = visit.grid
    maps = {
        "sets": _set_colours(visit, look.memories[visit.site]["sets"]),
        "estimated": _coloured(visit.estimated, RATIO),
        "true": _coloured(visit.true, RATIO),
        "difference": _coloured((visit.estimated - visit.true + 1) / 2, DIFFERENCE),
    }
    captions = {
        "sets": ("Set of each region", f"{len(found['sets'])} of {look.memories[visit.site]['sets']} sets are used"),
        "estimated": ("Estimated ratio", _means(found)),
        "true": ("True ratio", "the share of the cell that is missing"),
        "difference": (
            "Estimated minus true",
            f"{found['ratio_error']:.2f} on average; red: more context than is missing",
        ),
    }
    figures = []
    for name, pixels in maps.items():
        first = name == "sets"
        focus = (
            f'tabindex="0" role="application" aria-roledescription="map of regions" '
            f'aria-label="{title}: set of each region, {height} rows of {width}; arrow keys move"'
            if first
            else f'role="img" aria-label="{title}: {captions[name][0]}"'
        )
        uri = _uri(Image.fromarray(pixels.reshape(height, width, 3)), "PNG")
        text = _numbers_on(visit) if first and height * width <= NUMBERED else ""
        scale = {"sets": "", "difference": '<span class="scale difference">−1<i></i>1</span>'}.get(
            name, '<span class="scale ratio">0<i></i>1</span>'
        )
        figures.append(
            f'<figure><div class="map" data-map="{name}" {focus} style="{_frame(look)}">'
            f'<div class="grid" style="{_grid(look)}"><img src="{uri}" alt="">{text}</div>'
            '<div class="mark"></div></div>'
            f"<figcaption><b>{captions[name][0]}</b>{scale}<br>{captions[name][1]}</figcaption></figure>"
        )
    rows = "".join(
        f'<tr><th scope="row"><span class="chip" style="background: {_css(_palette(one["set"]))}"></span>'
        f"{one['set']}</th><td>{one['regions']}</td><td>{one['incomplete']}</td></tr>"
        for one in sorted(found["sets"], key=lambda one: -one["regions"])
    )
    return f"""<details class="visit" data-visit="{number}"{" open" if last else ""}>
<summary><h2>{title}</h2> <span>{width}&thinsp;×&thinsp;{height} regions</span></summary>
<div class="maps">
{"".join(figures)}
</div>
<details class="table"><summary>Regions of each set</summary>
<table>
<thead><tr><th scope="col">set</th><th scope="col">regions</th><th scope="col">with something missing</th></tr></thead>
<tbody>{rows}</tbody>
</table></details>
</details>"""


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
    places = {
        "left": -left / width,
        "top": -top / height,
        "width": wide / width,
        "height": tall / height,
    }
    return "; ".join(f"{name}: {100 * share:.4f}%" for name, share in places.items())


def _numbers_on(visit: Visit) -> str:
    height, width = visit.grid
    words = "".join(
        f'<text x="{region % width + 0.5}" y="{region // width + 0.5}">{int(set_)}</text>'
        for region, set_ in enumerate(visit.sets)
    )
    return f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">{words}</svg>'


def _palette(set_: int) -> Rgb:
    """A colour for a set: hues far apart for neighbours in number, three levels of lightness.

    Example:
        >>> len({_palette(number) for number in range(40)})
        40
    """
    hue = (0.58 + set_ * 0.61803399) % 1
    red, green, blue = colorsys.hls_to_rgb(hue, (0.42, 0.56, 0.68)[set_ % 3], 0.55)
    return round(255 * red), round(255 * green), round(255 * blue)


def _css(colour: Rgb) -> str:
    return f"rgb{colour}"


def _set_colours(visit: Visit, count: int) -> np.ndarray:
    return np.array([_palette(number) for number in range(count)], np.uint8)[visit.sets]


def _coloured(values: np.ndarray, scale: tuple[Rgb, ...]) -> np.ndarray:
    """Values in [0, 1] -> RGB bytes, by straight lines between the colours."""
    places = np.linspace(0, 1, len(scale))
    channels = [np.interp(values, places, [colour[c] for colour in scale]) for c in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def _data(look: Look, index: SourceIndex | None) -> dict[str, Any]:
    """What the script needs; weights and ratios in ten-thousandths, since whole numbers are short."""
    visits = []
    importance: dict[tuple[str, int, int], float] = {}
    for visit in look.visits:
        contexts, weights = visit.top(TOP)
        for region in visible(look, visit):
            for k, weight in zip(contexts[region, :WITH_SOURCES], weights[region], strict=False):
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
        "withSources": WITH_SOURCES,
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
                    "alike": _short(source.similarity),
                    "typical": _short(source.typical),
                    "picture": base64.b64encode(source.thumbnail).decode() if shown else "",
                }
            )
        found[f"{site}/{set_}/{context}"] = rows
    return found
