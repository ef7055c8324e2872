"""Inpainting networks: one architecture, one file, one paper; and the contract that all keep."""

from cicm.networks import (
    gated,
    jpgnet,
    lama,
    migan,
    misf,
    pen,
    rfr,
    spg,
    spl,
    srm,
    swap,
    tmad,
    unet,
)  # each registers itself
from cicm.networks.contract import Edit, FeatureSite, InpaintingNetwork, Prediction, SizeRule, unchanged
from cicm.networks.discriminators import PatchDiscriminator
from cicm.networks.registry import create, maker, names, register
