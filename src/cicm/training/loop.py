"""The training loop, straight: seed, step, average, log, validate, save.

Everything that can be refused is refused before the run's folder is made.
"""

from __future__ import annotations

import copy
import io
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from cicm.assembly import MemoryInpainter, save_weights
from cicm.conventions import InputError
from cicm.terminal import Progress
from cicm.training import checkpoint
from cicm.training import folder as run_folder
from cicm.training.batches import ValidationSet, validation_set
from cicm.training.config import RunConfig
from cicm.training.distributed import any_rank, barrier
from cicm.training.modes import to_training_mode
from cicm.training.records import LOG, Log, truncate_log
from cicm.training.run import Run, engine, new_run, on_device, restore, save
from cicm.training.schedule import due, learning_rate
from cicm.training.seeding import reseed_when_due, seed_memories
from cicm.training.step import TrainingStopped, take_step
from cicm.training.validation import grid, save_grid, validate


def train(
    config: RunConfig, *, name: str, recipe: str, output: Path, accelerator: str = "auto", devices: int = 0
) -> int:
    """Train, or go on with a run that was interrupted.

    Args:
        accelerator: `auto`, `cpu` or `gpu`.
        devices: processes on this machine; 0 takes what torchrun says, else all GPUs, else one process on the CPU.

    Returns:
        exit code: 0 when the run is complete, 130 when it was stopped by a signal and saved.

    Raises:
        InputError: anything about the recipe, the photos or the folder, such as another training in it; nothing was
            written then.
        TrainingStopped: a number stopped being one.
        OSError: the disk is full, or broken.
    """
    run_folder.may_resume(output, recipe)
    with ExitStack() as held:  # before the other processes are there, which would wait for this one
        if run_folder.is_first_process() and output.is_dir():
            held.enter_context(run_folder.held(output))
        return _train(config, name, recipe, output, accelerator, devices, held)


def _train(
    config: RunConfig, name: str, recipe: str, output: Path, accelerator: str, devices: int, held: ExitStack
) -> int:
    """`train`, with the folder in `held` if there is one."""
    new = not output.is_dir()
    fabric = engine(config, accelerator, devices)
    fabric.launch()
    main = fabric.global_rank == 0
    # Looked at before anything is written, and by all ranks before the first of them makes the folder.
    found = checkpoint.find(output) if run_folder.may_resume(output, recipe) else None
    run = new_run(config, fabric)
    photos = validation_set(config.data, config.training.val_images) if main else None
    if found:
        restore(run, found.state, found.path)
    barrier()

    if main:
        if new:
            output.mkdir(parents=True, exist_ok=True)
            held.enter_context(run_folder.held(output))
            if run_folder.may_resume(output, recipe):
                raise InputError(f"another training has begun in {output} meanwhile. The same command goes on with it.")
        run.notes += run_folder.prepare(output, recipe)
        truncate_log(output / LOG, run.step)
    barrier()
    stream = None if main else io.StringIO()  # the other ranks are silent
    progress = Progress(config.training.steps, f"steps of {name}", done=run.step, quiet=not main, stream=stream)
    log = Log(output / LOG, output / "tensorboard" if config.training.tensorboard else None) if main else None
    try:
        if found:
            for problem in found.damaged:
                progress.say(f"passed over: {problem}")
            progress.say(f"going on with {output} after step {run.step} of {config.training.steps}")
        else:
            progress.say(f"new run in {output}: {config.training.steps} steps on {len(run.stream.dataset)} photos")
        for note in run.notes:
            progress.say(note)
        with progress, _signals() as stopped:
            complete = _loop(run, name, output, photos, progress, log, stopped)
        progress.say(_last_words(run, output, complete))
    finally:
        if log:
            log.close()
    return 0 if complete else 130


def _loop(
    run: Run,
    name: str,
    output: Path,
    photos: ValidationSet | None,
    progress: Progress,
    log: Log | None,
    stopped: dict[str, str],
) -> bool:
    """All remaining steps; False when a signal ended them early (the run is saved then)."""
    training, players = run.config.training, run.players
    batches = run.stream.from_step(run.step)
    meter = _Meter(run.config.data.batch_size)
    end = min(training.steps, training.stop_at or training.steps)
    while run.step < end:
        if run.step == training.memory_seed_step:
            seed_memories(run)

        # one step
        batch = meter.waiting(lambda: on_device(run, next(batches)))
        rate = _set_learning_rate(run)
        options: dict[str, Any] = {"accumulate": training.accumulate, "clip": training.grad_clip}
        options["features"] = run.features
        try:
            done = take_step(run.fabric, players, batch, run.config.objective, **options)
        except TrainingStopped as problem:
            raise TrainingStopped(
                f"at step {run.step + 1}: {problem} Checkpoints are as they were saved last."
            ) from None
        if run.average:
            run.average.update(players.bare)
        run.step += 1
        reseed_when_due(run, done.parts)
        meter.count()

        # what is due after it
        last = run.step == end
        stopping = any_rank(bool(stopped), run.fabric.device)
        if log and (last or due(run.step, training.log_every_steps)):
            speed = meter.take()
            reports = {site: memory.report() for site, memory in players.bare.memories.items()}  # type: ignore[operator]
            numbers = dict(done.numbers)
            record = {"loss": numbers.pop("loss"), "gradient": numbers.pop("gradient"), "terms": numbers, "lr": rate}
            log.write(run.step, **record, **speed, memory=reports, reseeded=run.reseeded)
            run.reseeded = 0
            progress.update(run.step, note=f"loss {record['loss']:.4f}, {speed['images_per_s']:.1f} images/s")
        if last or due(run.step, training.validate_every_steps):
            with meter.paused():
                _validate(run, name, output, photos, progress, log)
                barrier()
        if last or stopping or due(run.step, training.save_every_steps):
            with meter.paused():
                save(run, output)
        if stopping and not last:
            progress.say(f"stopped by {stopped.get('signal', 'a signal to another process')}")
            return False
    return True


# Validation, checkpoints ----------------------------------------------------------------------------------------------


def _validate(
    run: Run, name: str, output: Path, photos: ValidationSet | None, progress: Progress, log: Log | None
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
    plan = run.config.training
    card = {"recipe": name, "seed": plan.seed, "step": run.step, "steps": plan.steps, "validation": run.scores}
    paths = [output / run_folder.WEIGHTS]
    if mean > run.best[0]:
        run.best = (mean, run.step)
        paths.append(output / run_folder.BEST)
    for path in paths:
        save_weights(path, _contiguous(shown), run.config.model, card, overwrite=True)
    told = "  ".join(f"{band}: {score['psnr']:.2f}" for band, score in run.scores.items())
    progress.say(f"step {run.step}: PSNR {told}  mean {mean:.2f} dB (best {run.best[0]:.2f} at step {run.best[1]})")
    to_training_mode(run.players.bare, run.config.training)


def _contiguous(model: MemoryInpainter) -> MemoryInpainter:
    """A copy in the plain memory layout, for the file."""
    return copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


# Small things ---------------------------------------------------------------------------------------------------------


@contextmanager
def _signals() -> Iterator[dict[str, str]]:
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


def _set_learning_rate(run: Run) -> float:
    t = run.config.training
    course: dict[str, Any] = {"last": t.lr_last, "schedule": t.schedule, "decay_from": t.decay_from}
    rate = learning_rate(run.step, highest=t.lr, steps=t.steps, warmup_steps=t.warmup_steps, **course)
    for group in run.players.optimizer.param_groups:
        group["lr"] = rate
    return rate


def _last_words(run: Run, output: Path, complete: bool) -> str:
    count = len(run.stream.skipped)
    skipped = f" {count} unusable photo{'s' * (count > 1)} skipped: {', '.join(sorted(run.stream.skipped)[:3])}"
    skipped = skipped + (", ..." if count > 3 else ".") if count else ""
    if not complete:
        return f"saved after step {run.step} in {output}; the same command goes on from there.{skipped}"
    return f"done: {run.step} steps; weights in {output / run_folder.WEIGHTS}.{skipped}"
