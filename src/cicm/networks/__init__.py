"""Inpainting networks: one architecture, one file, one paper; and the contract that all keep."""

from cicm.networks import jpgnet as jpgnet  # each registers itself
from cicm.networks import misf as misf
from cicm.networks import rfr as rfr
from cicm.networks import unet as unet
from cicm.networks.contract import Edit, FeatureSite, InpaintingNetwork, Prediction, SizeRule, unchanged
from cicm.networks.discriminators import PatchDiscriminator
from cicm.networks.registry import create, maker, names, register

__all__ = [
    "Edit",
    "FeatureSite",
    "InpaintingNetwork",
    "PatchDiscriminator",
    "Prediction",
    "SizeRule",
    "create",
    "maker",
    "names",
    "register",
    "unchanged",
]
