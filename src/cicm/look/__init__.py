"""Where did this come from? What a repaired photo read from the memories, and which photos' regions those are made of.

`reading` asks one repair, `sources` asks the training photos, `page` writes both down for people.
"""

from cicm.look.page import numbers, page
from cicm.look.reading import Look, Visit, look
from cicm.look.sources import Source, SourceIndex, fingerprint, make_index, read_index, save_index

__all__ = [
    "Look",
    "Source",
    "SourceIndex",
    "Visit",
    "fingerprint",
    "look",
    "make_index",
    "numbers",
    "page",
    "read_index",
    "save_index",
]
