"""Training objectives: reconstruction, adversarial (Eq. 5-6), the weighted total (Eq. 9), and the published ones."""

from cicm.objectives.adversarial import (
    ADVERSARIES,
    bce_discriminator_loss,
    bce_generator_loss,
    discriminator_loss,
    generator_loss,
)
from cicm.objectives.features import Features, perceptual, style
from cicm.objectives.published import JPGNetObjective, MISFObjective, RFRObjective, Section, Seen
from cicm.objectives.reconstruction import masked_l1, reconstruction, share_l1, total_variation
from cicm.objectives.structure import structural_similarity
from cicm.objectives.total import ObjectiveConfig, Weights, weighted_total

__all__ = [
    "ADVERSARIES",
    "Features",
    "JPGNetObjective",
    "MISFObjective",
    "ObjectiveConfig",
    "RFRObjective",
    "Section",
    "Seen",
    "Weights",
    "bce_discriminator_loss",
    "bce_generator_loss",
    "discriminator_loss",
    "generator_loss",
    "masked_l1",
    "perceptual",
    "reconstruction",
    "share_l1",
    "structural_similarity",
    "style",
    "total_variation",
    "weighted_total",
]
