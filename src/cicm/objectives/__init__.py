"""Training objectives: reconstruction, adversarial (Eq. 5-6), the weighted total (Eq. 9), and the published ones."""

from cicm.objectives.adversarial import (
    ADVERSARIES,
    bce_discriminator_loss,
    bce_generator_loss,
    discriminator_loss,
    generator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from cicm.objectives.features import Features, perceptual, style
from cicm.objectives.labels import LabelObjective
from cicm.objectives.lama import LaMaObjective, gradient_penalty, patch_loss
from cicm.objectives.published import JPGNetObjective, Judge, MISFObjective, RFRObjective, Section, Seen
from cicm.objectives.reconstruction import masked_l1, reconstruction, share_l1, total_variation
from cicm.objectives.scales import GatedObjective, PENObjective, pyramid_l1
from cicm.objectives.semantic import SPGObjective, SPLObjective, StagesObjective
from cicm.objectives.structure import structural_similarity
from cicm.objectives.total import ObjectiveConfig, Weights, weighted_total
