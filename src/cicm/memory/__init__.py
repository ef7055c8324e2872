"""The cross-image context memory: its state, its rules (Eq. 1-4), its losses (Eq. 7-8) and the module."""

from cicm.memory.controls import KINDS, ConvolutionControl, LearnedTable, create
from cicm.memory.losses import inter_set, intra_set, pixel_ratio, ratio_error
from cicm.memory.module import ContextMemory
from cicm.memory.places import Placed, PlaceHead, place
from cicm.memory.rules import augment, inject, inject_fast, keep_top, read, read_fast, route
from cicm.memory.single_image import SingleImageContext
from cicm.memory.source import ContextSource
from cicm.memory.state import MemoryConfig, MemoryRead, MemoryState
