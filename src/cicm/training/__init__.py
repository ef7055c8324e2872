"""Training: the straight loop, its step, its checkpoints; the only room with optimizers and process groups."""

from cicm.training.config import DataConfig, RunConfig, TrainingConfig
