"""Where did this come from? What a repaired photo read from the memories, and which photos' regions those are made of.

`reading` asks one repair, `indexing` asks the training photos, `page` writes both down for people.
"""

from cicm.look.index_file import read_index, save_index
from cicm.look.indexing import make_index
from cicm.look.numbers import numbers
from cicm.look.page import page
from cicm.look.reading import Look, Visit, look
from cicm.look.sources import Source, SourceIndex
