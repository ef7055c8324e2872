"""The training loop, straight: seed, step, average, log, validate, save.

`Run` holds what a run consists of; `train` is the loop. Everything that can be refused is refused before the run's
folder is made.
"""

from __future__ import annotations

import copy
import inspect
import logging
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cicm.assembly import MemoryInpainter, build, load_weights, save_weights
from cicm.conventions import InputError
from cicm.data.loading import TrainingStream
from cicm.networks.discriminators import PatchDiscriminator
from cicm.training import checkpoint
from cicm.training import folder as run_folder
from cicm.training.batches import ValidationSet, photo_hash, training_photos, training_stream, validation_set
from cicm.training.config import RunConfig
from cicm.training.distributed import any_rank, barrier, gather_objects, gather_regions, rank, world_size
from cicm.training.ema import WeightAverage
from cicm.training.records import LOG, Display, Log, truncate_log
from cicm.training.schedule import learning_rate
from cicm.training.step import Batch, Part, Players, TrainingStopped, complete_regions, part_of, split, take_step
from cicm.training.validation import grid, save_grid, validate

MOST_SEEDING_REGIONS = 20_000  # a few times L * K; more only makes k-means slower


@dataclass
class Run:
    """A run in memory.

    Args:
        config: what it is.
        fabric: the engine.
        players: model, discriminator and their optimizers.
        average: of the weights; None when nothing is averaged.
        stream: batches of this rank.
        photos: digest of the training photos' names.
        step: optimizer steps taken so far.
        best: highest mean PSNR at a validation so far, and the step of it.
        reseeded: contexts that were given new content since the last line of the log.
    """

    config: RunConfig
    fabric: Any
    players: Players
    average: WeightAverage | None
    stream: TrainingStream
    photos: str
    step: int = 0
    best: tuple[float, int] = (-math.inf, 0)
    reseeded: int = 0
    scores: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def shown(self) -> MemoryInpainter:
        """The weights that are validated and written: the averaged ones, if there are any."""
        return self.average.model if self.average else self.players.bare  # type: ignore[return-value]


def train(
    config: RunConfig,
    *,
    name: str,
    recipe: str,
    output: Path,
    resume: str = "auto",
    accelerator: str = "auto",
    devices: int = 0,
) -> int:
    """Train, or go on with a run that was interrupted.

    Args:
        config: the run.
        name: of the recipe.
        recipe: the resolved recipe as TOML, kept with the run.
        output: the run's folder.
        resume: `auto` or `never`, see `folder.may_resume`.
        accelerator: `auto`, `cpu` or `gpu`.
        devices: processes on this machine; 0 takes what torchrun says, else all GPUs, else one process on the CPU.

    Returns:
        exit code: 0 when the run is complete, 130 when it was stopped by a signal and saved.

    Raises:
        InputError: anything about the recipe, the photos or the folder; nothing was written then.
        TrainingStopped: a number stopped being one.
    """
    run_folder.may_resume(output, recipe, resume)
    fabric = engine(config, accelerator, devices)
    fabric.launch()
    main = fabric.global_rank == 0
    # Looked at before anything is written, and by all ranks before the first of them makes the folder.
    found = checkpoint.find(output) if run_folder.may_resume(output, recipe, resume) else None
    run = new_run(config, fabric)
    photos = validation_set(config.data, config.training.val_images) if main else None
    if found:
        restore(run, found.state)
    barrier()

    if main:
        run_folder.prepare(output, recipe)
        truncate_log(output / LOG, run.step)
    barrier()
    display = Display(config.training.steps, run.step, name, shown=main)
    log = Log(output / LOG, output / "tensorboard" if config.training.tensorboard else None) if main else None
    try:
        if found:
            for problem in found.damaged:
                display.say(f"passed over: {problem}")
            display.say(f"going on with {output} after step {run.step} of {config.training.steps}")
        else:
            display.say(f"new run in {output}: {config.training.steps} steps on {len(run.stream.dataset)} photos")
        with signals() as stopped:
            complete = _loop(run, name, output, photos, display, log, stopped)
        display.close()
        display.say(_last_words(run, output, complete))
    finally:
        display.close()
        if log:
            log.close()
    return 0 if complete else 130


def _loop(
    run: Run,
    name: str,
    output: Path,
    photos: ValidationSet | None,
    display: Display,
    log: Log | None,
    stopped: dict[str, str],
) -> bool:
    """All remaining steps; False when a signal ended them early (the run is saved then)."""
    training, players = run.config.training, run.players
    batches = run.stream.from_step(run.step)
    meter = _Meter(run.config.data.batch_size)
    while run.step < training.steps:
        if run.step == training.memory_seed_step:
            seed_memories(run)

        # one step
        batch = meter.waiting(lambda: _on_device(run, next(batches)))
        rate = _set_learning_rate(run)
        options: dict[str, Any] = {"accumulate": training.accumulate, "clip": training.grad_clip}
        try:
            done = take_step(run.fabric, players, batch, run.config.objective, **options)
        except TrainingStopped as problem:
            raise TrainingStopped(
                f"at step {run.step + 1}: {problem} Checkpoints are as they were saved last."
            ) from None
        if run.average:
            run.average.update(players.bare)
        run.step += 1
        _reseed_when_due(run, done.parts)
        meter.count()

        # what is due after it
        last = run.step == training.steps
        stopping = any_rank(bool(stopped), run.fabric.device)
        if log and (last or _due(run.step, training.log_every_steps)):
            speed = meter.take()
            reports = {site: memory.report() for site, memory in players.bare.memories.items()}  # type: ignore[operator]
            numbers = dict(done.numbers)
            record = {"loss": numbers.pop("loss"), "gradient": numbers.pop("gradient"), "terms": numbers, "lr": rate}
            log.write(run.step, **record, **speed, memory=reports, reseeded=run.reseeded)
            run.reseeded = 0
            display.update(run.step, f"loss {record['loss']:.4f}  {speed['images_per_s']:.1f} images/s")
        if last or _due(run.step, training.validate_every_steps):
            with meter.paused():
                _validate(run, name, output, photos, display, log)
                barrier()
        if last or stopping or _due(run.step, training.save_every_steps):
            with meter.paused():
                save(run, output)
        if stopping and not last:
            display.say(f"stopped by {stopped.get('signal', 'a signal to another process')}")
            return False
    return True


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
    return any(m.ratio != "estimated" or m.kind != "memory" for m in config.model.memories.values())


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
    stream = training_stream(config.data, paths, training.seed, rank=rank(), world=world_size(), pin_memory=on_gpu)

    torch.manual_seed(training.seed)
    bare = build(config.model)
    bare.network.size.check(config.data.crop, config.data.crop)
    if training.init:
        begin_from(bare, config, training.init)
    judge = PatchDiscriminator(width=training.discriminator_width) if config.objective.weights.adversarial else None
    if training.channels_last:
        bare = bare.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        judge = judge.to(memory_format=torch.channels_last) if judge else None  # type: ignore[call-overload]
    if training.precision == "64-true":
        bare, judge = bare.double(), judge.double() if judge else None
    bare = bare.to(fabric.device).train()
    average = WeightAverage(bare, training.ema_decay) if training.ema_decay else None

    adam: dict[str, Any] = {"betas": training.betas, "fused": training.precision != "64-true"}
    optimizer = torch.optim.AdamW(bare.parameters(), training.lr, weight_decay=training.weight_decay, **adam)
    called = torch.compile(bare) if training.compile else bare
    model, engine_optimizer = fabric.setup(called, optimizer)
    players = Players(model, engine_optimizer, bare)
    if judge is not None:
        judge_optimizer = torch.optim.AdamW(judge.parameters(), training.discriminator_lr, weight_decay=0.0, **adam)
        players.discriminator, players.discriminator_optimizer = fabric.setup(judge, judge_optimizer)
        players.bare_discriminator = judge
    return Run(config, fabric, players, average, stream, photo_hash(paths, config.data.train))


def begin_from(model: MemoryInpainter, config: RunConfig, path: str) -> None:
    """Start from a weights file: the network's weights, and the memories whose configuration is the same.

    Raises:
        InputError: not a weights file, or of another network.
    """
    loaded = load_weights(path)
    theirs, ours = (loaded.config.network, loaded.config.options), (config.model.network, config.model.options)
    if theirs != ours:
        raise InputError(f"training.init: {path} holds the network {theirs}; the recipe asks for {ours}.")
    model.network.load_state_dict(loaded.model.network.state_dict())
    for site, memory in config.model.memories.items():
        if loaded.config.memories.get(site) == memory:
            model.memories[site].load_state_dict(loaded.model.memories[site].state_dict())


# Memories -------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def seed_memories(run: Run) -> None:
    """Fill each memory that waits for it from the complete regions of the coming batches; the same on every rank."""
    waiting = [site for site, memory in run.players.bare.memories.items() if not memory.seeded]
    if not waiting:
        return
    found: dict[str, list[Tensor]] = {site: [] for site in waiting}
    for offset in range(run.config.training.memory_seed_batches):
        batch = _on_device(run, run.stream.batch(run.step + offset))
        parts = []
        for piece in split(batch, run.config.training.accumulate):
            output = run.players.model(piece["image"] * (1 - piece["hole"]), piece["hole"])
            parts.append(part_of(output, piece, run.players.bare))
        for site in waiting:  # gathered batch by batch, so that the order is that of the whole batches
            found[site].append(gather_regions(complete_regions(parts, site)))
    for place, site in enumerate(waiting):
        regions = torch.cat(found[site])
        stride = max(1, -(-len(regions) // MOST_SEEDING_REGIONS))
        generator = _generator(run, place)
        run.players.bare.memories[site].seed_(regions[::stride], generator)  # type: ignore[operator]


def _reseed_when_due(run: Run, parts: list[Part]) -> None:
    training = run.config.training
    late = run.step > training.memory_reseed_until * training.steps
    if late or not _due(run.step, training.memory_reseed_every_steps):
        return
    for place, (site, memory) in enumerate(run.players.bare.memories.items()):
        if memory.seeded:
            regions = gather_regions(complete_regions(parts, site))
            run.reseeded += memory.reseed_(regions, _generator(run, place))  # type: ignore[operator]


def _generator(run: Run, place: int) -> torch.Generator:
    """A generator that depends on the seed, the step and the memory alone, so that no state of it need be saved."""
    mixed = (run.config.training.seed * 1_000_003 + run.step) * 101 + place
    return torch.Generator().manual_seed(mixed % 2**63)


# Validation, checkpoints ----------------------------------------------------------------------------------------------


def _validate(
    run: Run, name: str, output: Path, photos: ValidationSet | None, display: Display, log: Log | None
) -> None:
    """Score, draw and write the weights; on the first rank."""
    if photos is None or log is None:
        return
    shown = run.shown.eval()
    run.scores = validate(run.fabric, shown, photos)
    mean = sum(score["psnr"] for score in run.scores.values()) / len(run.scores)
    log.write(run.step, validation=run.scores, mean_psnr=mean)
    if count := run.config.training.grid_images:
        save_grid(grid(run.fabric, shown, photos, count), output / run_folder.GRIDS / f"{run.step:08d}.png")
    card = {"recipe": name, "step": run.step, "steps": run.config.training.steps, "validation": run.scores}
    paths = [output / run_folder.WEIGHTS]
    if mean > run.best[0]:
        run.best = (mean, run.step)
        paths.append(output / run_folder.BEST)
    for path in paths:
        save_weights(path, _contiguous(shown), run.config.model, card, overwrite=True)
    told = "  ".join(f"{band}: {score['psnr']:.2f}" for band, score in run.scores.items())
    display.say(f"step {run.step}: PSNR {told}  mean {mean:.2f} dB (best {run.best[0]:.2f} at step {run.best[1]})")
    run.players.bare.train()


def _contiguous(model: MemoryInpainter) -> MemoryInpainter:
    """A copy in the plain memory layout, for the file."""
    return copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


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


def restore(run: Run, state: dict[str, Any]) -> None:
    """Put a fresh run where a checkpoint was taken.

    Raises:
        InputError: the photos are others, or the number of processes.
    """
    if state["photos"] != run.photos:
        raise InputError(
            f"the photos in {run.config.data.train} are not those that this run began with (their names differ). "
            "Bring the folder back, or give a new --output."
        )
    players = run.players
    players.bare.load_state_dict(state["model"])
    players.optimizer.load_state_dict(state["optimizer"])
    if run.average:
        run.average.model.load_state_dict(state["average"])
        run.average.updates = state["updates"]
    if players.bare_discriminator is not None:
        players.bare_discriminator.load_state_dict(state["discriminator"])
        players.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
    run.step, run.reseeded = state["step"], state["reseeded"]
    run.best = (float(state["best"][0]), int(state["best"][1]))
    if len(state["random"]) == world_size():  # another number of processes goes on with fresh ones
        checkpoint.restore_random_states(state["random"][rank()])


# Small things ---------------------------------------------------------------------------------------------------------


@contextmanager
def signals() -> Iterator[dict[str, str]]:
    """Catch SIGINT and SIGTERM: the first one asks for a stop after the step at hand, a second one ends at once."""
    stopped: dict[str, str] = {}

    def ask(number: int, frame: Any) -> None:
        if stopped:
            raise KeyboardInterrupt
        stopped["signal"] = signal.Signals(number).name

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Meter:
    """Images per second and the share of the time spent waiting for them; validation and saving do not count."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.began, self.images, self.waited = time.monotonic(), 0, 0.0

    def waiting(self, get: Any) -> Any:
        began = time.monotonic()
        got = get()
        self.waited += time.monotonic() - began
        return got

    def count(self) -> None:
        self.images += self.batch_size

    @contextmanager
    def paused(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.began += time.monotonic() - began

    def take(self) -> dict[str, float]:
        passed = max(1e-9, time.monotonic() - self.began)
        speed = {"images_per_s": round(self.images / passed, 3), "loading_share": round(self.waited / passed, 4)}
        self.began, self.images, self.waited = time.monotonic(), 0, 0.0
        return speed


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _set_learning_rate(run: Run) -> float:
    t = run.config.training
    rate = learning_rate(run.step, highest=t.lr, steps=t.steps, warmup_steps=t.warmup_steps, last=t.lr_last)
    for group in run.players.optimizer.param_groups:
        group["lr"] = rate
    return rate


def _on_device(run: Run, batch: Any) -> Batch:
    dtype = torch.float64 if run.config.training.precision == "64-true" else torch.float32
    layout = torch.channels_last if run.config.training.channels_last else torch.contiguous_format
    moved = {name: run.fabric.to_device(batch[name]).to(dtype) for name in ("image", "hole")}
    return {name: value.contiguous(memory_format=layout) for name, value in moved.items()}


def _last_words(run: Run, output: Path, complete: bool) -> str:
    count = len(run.stream.skipped)
    skipped = f" {count} unusable photo{'s' * (count > 1)} skipped: {', '.join(sorted(run.stream.skipped)[:3])}"
    skipped = skipped + (", ..." if count > 3 else ".") if count else ""
    if not complete:
        return f"saved after step {run.step} in {output}; the same command goes on from there.{skipped}"
    return f"done: {run.step} steps; weights in {output / run_folder.WEIGHTS}.{skipped}"
