"""A run in memory: built from its configuration, written to a checkpoint, put back from one."""

from __future__ import annotations

import inspect
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cicm.assembly import MemoryInpainter, build, load_weights
from cicm.assembly.weights import UNUSABLE, check_buildable
from cicm.conventions import InputError
from cicm.data.loading import MixedStream, TrainingStream
from cicm.memory import KINDS
from cicm.networks import DISCRIMINATORS, MapDiscriminator
from cicm.objectives import Features
from cicm.training import checkpoint
from cicm.training.alternating import Referee
from cicm.training.batches import photo_hash, training_photos, training_stream
from cicm.training.config import RunConfig
from cicm.training.distributed import barrier, gather_objects, rank, world_size
from cicm.training.ema import WeightAverage
from cicm.training.features import load_features
from cicm.training.modes import freeze, to_training_mode, trained
from cicm.training.step import Batch, Players


@dataclass
class Run:
    """A run in memory.

    Args:
        average: of the weights; None when nothing is averaged.
        best: highest mean PSNR at a validation so far, and the step of it.
        reseeded: contexts that were given new content since the last line of the log.
        features: the classifiers that terms of the objective look at, see `load_features`.
        notes: what a new run tells about its beginning.
    """

    config: RunConfig
    fabric: Any
    players: Players
    average: WeightAverage | None
    stream: TrainingStream | MixedStream
    photos: str
    step: int = 0
    best: tuple[float, int] = (-math.inf, 0)
    reseeded: int = 0
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    features: Mapping[str, Features] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def shown(self) -> MemoryInpainter:
        """The weights that are validated and written: the averaged ones, if there are any."""
        return self.average.model if self.average else self.players.bare  # type: ignore[return-value]


def engine(config: RunConfig, accelerator: str, devices: int) -> Any:
    """The lightning engine: devices, precision, data parallelism.

    Raises:
        InputError: lightning-fabric is missing, or there is no such accelerator.
    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
    except ImportError as error:
        raise InputError('training needs the extra: pip install "cicm[train]".') from error
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # the plan says it already
    gpus = torch.cuda.device_count()
    if accelerator == "auto":
        accelerator = "gpu" if gpus else "cpu"
    if accelerator == "gpu" and not gpus:
        raise InputError("expected a GPU for --accelerator gpu; torch sees none. Use --accelerator cpu.")
    nodes = 1
    if "LOCAL_WORLD_SIZE" in os.environ and "TORCHELASTIC_RUN_ID" in os.environ:  # under torchrun
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    if accelerator == "gpu":
        torch.backends.cudnn.benchmark = not config.training.deterministic
    devices = devices or (gpus if accelerator == "gpu" else 1)
    strategy: Any = "auto"
    if devices * nodes > 1:
        # Ranks commit the same reduced memory by themselves; a broadcast of rank 0's buffers would only hide a fault.
        known = inspect.signature(torch.nn.parallel.DistributedDataParallel).parameters
        broadcast = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # torch < 2.13
        options: dict[str, Any] = {"find_unused_parameters": _some_are_unused(config), broadcast: False}
        strategy = DDPStrategy(**options)
    return Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=strategy,
        # The engine's own 64-true turns every output back into float32; in float64 we convert, and it leaves all alone.
        precision="bf16-mixed" if config.training.precision == "bf16-mixed" else "32-true",
    )


def _some_are_unused(config: RunConfig) -> bool:
    """Whether parameters may get no gradient: a ratio head that is not asked, anchors that are only looked up."""
    loss = config.objective.labels
    idle = config.model.labels is not None and (loss is None or not loss.cross_entropy)  # a head that nothing teaches
    return idle or any(m.ratio != "estimated" or not KINDS[m.kind].writes for m in config.model.memories.values())


def new_run(config: RunConfig, fabric: Any) -> Run:
    """A run before its first step, the same on every rank."""
    training = config.training
    if config.data.batch_size % (world_size() * training.accumulate):
        raise InputError(
            f"data.batch_size must be a multiple of devices * training.accumulate = "
            f"{world_size()} * {training.accumulate}; got {config.data.batch_size}."
        )
    if training.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    paths = training_photos(config.data)
    on_gpu = fabric.device.type == "cuda"
    dtype = torch.float64 if training.precision == "64-true" else torch.float32
    features = load_features(config.objective, fabric.device, dtype)
    stream = training_stream(config.data, paths, training.seed, rank=rank(), world=world_size(), pin_memory=on_gpu)

    check_buildable(config.model)
    torch.manual_seed(training.seed)
    bare = build(config.model)
    bare.network.size.check(config.data.crop, config.data.crop)
    notes = _begin_from(bare, config, training.init) if training.init else []
    judge = make_discriminator(config)
    if training.channels_last:
        bare = bare.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        judge = judge.to(memory_format=torch.channels_last) if judge else None  # type: ignore[call-overload]
    if training.precision == "64-true":
        bare, judge = bare.double(), judge.double() if judge else None
    freeze(bare, training)
    bare = bare.to(fabric.device)
    to_training_mode(bare, training)
    average = WeightAverage(bare, training.ema_decay) if training.ema_decay else None

    adam: dict[str, Any] = {"betas": training.betas, "fused": training.precision != "64-true"}
    optimizer = torch.optim.AdamW(trained(bare), training.lr, weight_decay=training.weight_decay, **adam)
    called = torch.compile(bare) if training.compile else bare
    model, engine_optimizer = fabric.setup(called, optimizer)
    players = Players(model, engine_optimizer, bare, teacher=average.model if average else None)  # type: ignore[arg-type]
    if judge is not None:
        adam["betas"] = training.discriminator_betas or training.betas
        judge_optimizer = torch.optim.AdamW(judge.parameters(), training.discriminator_lr, weight_decay=0.0, **adam)
        lama = config.objective.lama
        called_judge = Referee(judge, lama.r1) if lama and config.objective.judged_by_maps else judge
        players.discriminator, players.discriminator_optimizer = fabric.setup(called_judge, judge_optimizer)
        players.bare_discriminator = judge
    photos = photo_hash(paths, config.data.train)
    return Run(config, fabric, players, average, stream, photos, features=features, notes=notes)


def make_discriminator(config: RunConfig) -> nn.Module | None:
    """The discriminator that the objective asks for; None if it asks for none."""
    if config.objective.judged_by_maps:
        return MapDiscriminator(width=config.training.discriminator_width)
    if config.objective.weights.adversarial:
        width, more = config.training.discriminator_width, {}
        if config.objective.judged == "labelled":
            if config.training.discriminator != "spg" or config.model.labels is None:
                raise InputError(
                    "objective.judged = 'labelled' needs training.discriminator = 'spg', which judges label maps too, "
                    "and [model.labels], which says of which classes."
                )
            more = {"classes": config.model.labels.classes}
        return DISCRIMINATORS[config.training.discriminator](width=width, **more)
    return None


def _begin_from(model: MemoryInpainter, config: RunConfig, path: str) -> list[str]:
    """Start from a weights file: the network's weights, and the memories whose configuration is the same.

    Options that change no tensor (as the UNet's `start`) may differ from the file's; parameters named in
    `training.init_fresh` stay as they are. A memory that the file lacks, or has in another configuration, starts fresh.

    Returns:
        one sentence on what was taken, one on each memory that starts fresh.
    """
    loaded, ours = load_weights(path), model.network.state_dict()
    fresh, given = config.training.init_fresh, loaded.model.network.state_dict()
    for start in fresh:
        if not any(name.startswith(start) for name in ours):
            raise InputError(
                f"training.init_fresh: no parameter begins with {start!r}; the first is {next(iter(ours))!r}."
            )
    if {name: t.shape for name, t in given.items()} != {name: t.shape for name, t in ours.items()}:
        raise InputError(
            f"training.init: {path} holds the network {(loaded.config.network, loaded.config.options)}; "
            f"the recipe asks for {(config.model.network, config.model.options)}."
        )
    model.network.load_state_dict({name: ours[name] if name.startswith(fresh) else t for name, t in given.items()})
    notes = [f"the network begins from {path}"]
    for site, memory in config.model.memories.items():
        if loaded.config.memories.get(site) == memory:
            model.memories[site].load_state_dict(loaded.model.memories[site].state_dict())
        else:
            why = "has it in another configuration" if site in loaded.config.memories else "has none there"
            notes.append(f"the memory at {site} starts fresh: {path} {why}")
    return notes


def save(run: Run, output: Path) -> None:
    """Write everything that the next steps depend on."""
    states = gather_objects(checkpoint.random_states())
    if run.fabric.global_rank != 0:
        barrier()
        return
    players = run.players
    state = {
        "step": run.step,
        "photos": run.photos,
        "best": list(run.best),
        "world": world_size(),
        "random": states,
        "model": players.bare.state_dict(),
        "optimizer": players.optimizer.state_dict(),
        "average": run.average.model.state_dict() if run.average else {},
        "updates": run.average.updates if run.average else 0,
        "discriminator": players.bare_discriminator.state_dict() if players.bare_discriminator else {},
        "discriminator_optimizer": players.discriminator_optimizer.state_dict() if players.discriminator else {},
        "reseeded": run.reseeded,
    }
    checkpoint.save(output, state)
    barrier()


def restore(run: Run, state: dict[str, Any], path: Path) -> None:
    """Put a fresh run where a checkpoint was taken.

    Args:
        path: of the checkpoint, for messages.

    Raises:
        InputError: the photos are others; a checkpoint that is whole, but not of such a run.
    """
    try:
        _restore(run, state)
    except InputError:
        raise
    except (*UNUSABLE, IndexError) as error:
        told = next(iter(str(error).splitlines()), "").rstrip(":. ")
        raise InputError(
            f"{path} is whole, but not a checkpoint of this run ({type(error).__name__}: {told[:200]}). Nothing was "
            f"changed. Move it away: the run then goes on from {checkpoint.PREVIOUS}, or begins anew without one."
        ) from error


def _restore(run: Run, state: dict[str, Any]) -> None:
    if state["photos"] != run.photos:
        raise InputError(
            f"the photos in {run.config.data.train} are not those that this run began with (their names differ). "
            "Bring the folder back, or give a new --output."
        )
    players = run.players
    players.bare.load_state_dict(state["model"])
    _restore_optimizer(players.optimizer, state["optimizer"])
    if run.average:
        run.average.model.load_state_dict(state["average"])
        run.average.updates = int(state["updates"])
    if players.bare_discriminator is not None:
        players.bare_discriminator.load_state_dict(state["discriminator"])
        _restore_optimizer(players.discriminator_optimizer, state["discriminator_optimizer"])
    if state["step"] < 0:
        raise ValueError(f"its step is {state['step']}")
    run.step, run.reseeded = int(state["step"]), int(state["reseeded"])
    run.best = (float(state["best"][0]), int(state["best"][1]))
    if len(state["random"]) == world_size():  # another number of processes goes on with fresh ones
        checkpoint.restore_random_states(state["random"][rank()])


def _restore_optimizer(optimizer: Any, state: dict[str, Any]) -> None:
    """Load an optimizer's state; torch itself looks at the number of its tensors alone, not at their shapes."""
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for name, value in optimizer.state[parameter].items():
                if torch.is_tensor(value) and value.ndim and value.shape != parameter.shape:
                    raise ValueError(f"{name} of shape {tuple(value.shape)} for weights of {tuple(parameter.shape)}")


def on_device(run: Run, batch: Any) -> Batch:
    """A batch of the stream where the model is, in its dtype and layout."""
    dtype = torch.float64 if run.config.training.precision == "64-true" else torch.float32
    layout = torch.channels_last if run.config.training.channels_last else torch.contiguous_format
    moved = {name: run.fabric.to_device(batch[name]).to(dtype) for name in ("image", "hole")}
    ready = {name: value.contiguous(memory_format=layout) for name, value in moved.items()}
    return ready | ({"label": run.fabric.to_device(batch["label"])} if "label" in batch else {})
