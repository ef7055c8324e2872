"""What a run would be, in words, before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cicm.assembly import MemoryInpainter, build
from cicm.assembly.weights import check_buildable
from cicm.training.batches import photos_in, training_photos
from cicm.training.config import RunConfig
from cicm.training.features import describe_objective, feature_files
from cicm.training.modes import freeze, to_training_mode
from cicm.training.run import make_discriminator

MIB = 2**20


def describe_plan(config: RunConfig, output: Path) -> str:
    """Model, sites, photos, steps and an estimate of the memory, as lines of text; writes nothing.

    Raises:
        InputError: everything that the run itself would refuse about model, objective and photos.
    """
    data, training = config.data, config.training
    photos, model = check_run(config)
    micro = data.batch_size // training.accumulate
    weights = sum(p.numel() for p in model.parameters())
    freeze(model, training)
    to_training_mode(model, training)
    still = weights - sum(p.numel() for p in model.parameters() if p.requires_grad)
    discriminator = make_discriminator(config)
    judge = sum(p.numel() for p in discriminator.parameters()) if discriminator else 0
    of_bands = f"of {', '.join(data.bands)} percent"
    lines = [
        ("network", f"{config.model.network} {config.model.options or ''}, {_millions(weights)} parameters"),
        # some originals have a layer or two that they never use, which is no news here
        *([("not trained", f"{_millions(still)} parameters")] if still > weights / 1000 else []),
        *[("memory", _memory_line(model, site)) for site in model.memories],
        *describe_objective(config.objective),
        *([("discriminator", f"{_millions(judge)} parameters")] if judge else []),
        ("training photos", f"{len(photos)} in {data.train}"),
        ("validation photos", f"{min(training.val_images, len(photos_in(data, 'val')))} of those in {data.val}"),
        ("crops", f"{data.crop}x{data.crop}, holes {'as LaMa draws them' if data.holes == 'lama' else of_bands}"),
        (
            "steps",
            f"{training.steps} of {data.batch_size} images ({training.accumulate} x {micro}), "
            f"{training.steps * data.batch_size / len(photos):.1f} times every photo",
        ),
        ("precision", training.precision),
        ("memory needed", _bytes_line(config, model, judge, micro)),
        ("output", f"{output}{' (exists)' if output.exists() else ''}; nothing was written"),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def check_run(config: RunConfig) -> tuple[list[Path], MemoryInpainter]:
    """The training photos and the untrained model of a run; writes nothing.

    Raises:
        InputError: what the run itself would refuse about photos, objective and model.
    """
    photos = training_photos(config.data)
    photos_in(config.data, "val")
    feature_files(config.objective)
    check_buildable(config.model)
    model = build(config.model)
    model.network.size.check(config.data.crop, config.data.crop)
    return photos, model


def _activation_bytes(model: MemoryInpainter, crop: int, batch: int, precision: str) -> int:
    """What the backward of one micro-batch keeps: measured on one image, times the batch."""
    kept: dict[int, int] = {}
    own = {p.data_ptr() for p in model.parameters()}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    image = torch.rand(1, 3, crop, crop)
    hole = torch.zeros(1, 1, crop, crop)
    hole[..., : crop // 2] = 1
    half = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed")
    with half, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = model(image * (1 - hole), hole)
    del output
    return sum(kept.values()) * batch


def _memory_line(model: MemoryInpainter, site: str) -> str:
    memory: Any = model.memories[site]
    place = model.network.site(site)
    c = memory.config
    size = f"{c.sets} sets x {c.contexts} contexts x {place.channels} channels"
    return f"at {site}: {size}, one cell = {place.stride} pixels"


def _bytes_line(config: RunConfig, model: MemoryInpainter, judge: int, micro: int) -> str:
    numbers = sum(t.numel() for t in model.state_dict().values())
    copies = 4 + bool(config.training.ema_decay)  # weights, gradients, two moments of Adam, average
    fixed = 4 * (numbers * copies + judge * 4)
    activations = _activation_bytes(model, config.data.crop, micro, config.training.precision)
    total = (fixed + activations + config.data.cache_mb * 1e6) / MIB
    return (
        f"about {total:.0f} MiB: weights and optimizer {fixed / MIB:.0f}, activations {activations / MIB:.0f}, "
        f"photos up to {config.data.cache_mb * 1e6 / MIB:.0f}; and torch itself"
    )


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"
