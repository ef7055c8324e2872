"""What was found in one repair, as plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from cicm.look.reading import Look, Visit
from cicm.look.sources import Source, SourceIndex

TOP = 8  # contexts that are told of each region; the others are summed up


def numbers(look: Look, index: SourceIndex | None = None) -> dict[str, Any]:
    """Everything that the page shows, as plain data for JSON.

    Args:
        index: adds, for each context that is among the top of a region, where it is nearest to.
    """
    visits = []
    wanted: dict[str, set[tuple[int, int]]] = {site: set() for site in look.memories}
    for visit in look.visits:
        contexts, weights = visit.top(TOP)
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
                    "estimated": short(visit.estimated[region]),
                    "true": short(visit.true[region]),
                    "contexts": contexts[region].tolist(),
                    "weights": [short(w) for w in weights[region]],
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
        "missing": short(look.report.missing),
        "box": list(look.report.box),
        "reduced": look.report.reduced,
        "fill": look.report.fill,
        "lenders": list(look.report.lenders),
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
        return short(values.mean()) if values.size else None

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
    measured = ("weight", "similarity", "typical")
    return [
        {"photo": s.photo, "box": list(s.box), **{name: short(getattr(s, name)) for name in measured}} for s in sources
    ]


def short(value: Any) -> float:
    """Four digits after the point are more than anybody reads, and a fraction of the bytes."""
    return round(float(value), 4)
