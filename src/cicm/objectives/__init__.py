"""Training objectives: reconstruction, adversarial (Eq. 5-6), and the weighted total (Eq. 9)."""

from cicm.objectives.adversarial import discriminator_loss, generator_loss
from cicm.objectives.reconstruction import reconstruction
from cicm.objectives.total import ObjectiveConfig, Weights, weighted_total

__all__ = ["ObjectiveConfig", "Weights", "discriminator_loss", "generator_loss", "reconstruction", "weighted_total"]
