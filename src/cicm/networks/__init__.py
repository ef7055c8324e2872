"""Inpainting networks: one architecture, one file, one paper; and the contract that all keep."""

from cicm.networks import jpgnet, lama, misf, rfr, spg, spl, unet  # each registers itself
from cicm.networks.contract import Edit, FeatureSite, InpaintingNetwork, Prediction, SizeRule, unchanged
from cicm.networks.discriminators import MapDiscriminator, PatchDiscriminator
from cicm.networks.registry import create, maker, names, register
