"""The only room where a network meets a memory; and the file that holds both."""

from cicm.assembly.inpainter import Inpainting, MemoryInpainter
from cicm.assembly.labels import LabelsConfig
from cicm.assembly.model import ModelConfig, build
from cicm.assembly.weights import LoadedModel, default_weights, load_weights, save_weights
