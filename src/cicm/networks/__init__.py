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
from cicm.networks.discriminators import MapDiscriminator, PatchDiscriminator
from cicm.networks.gated import GatedDiscriminator
from cicm.networks.pen import PENDiscriminator
from cicm.networks.registry import create, maker, names, register
from cicm.networks.spg import SPGDiscriminator
from cicm.networks.spl import SPLDiscriminator

DISCRIMINATORS = {
    "patch": PatchDiscriminator,
    "gated": GatedDiscriminator,
    "pen": PENDiscriminator,
    "spg": SPGDiscriminator,
    "spl": SPLDiscriminator,
}
"""Name, as in `training.discriminator` -> a class of (width), called with pictures and holes, that gives logits."""
