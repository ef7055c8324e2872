"""What a training run is made of, as plain numbers: the sections of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from cicm.assembly import ModelConfig
from cicm.conventions import BANDS, InputError
from cicm.datasets import classes_of, layout_named
from cicm.objectives import ObjectiveConfig
from cicm.training.schedule import Schedule

_MOST_PIXELS = 2**28  # of a batch: what no machine can hold is refused at once, not when its memory is full
_MOST_WORKERS = 1024
_MOST_WIDTH = 4096

Precision = Literal["32-true", "64-true", "bf16-mixed"]


@dataclass(frozen=True)
class DataConfig:
    """The `[data]` section: which photos, how they are cut and what is missing.

    Args:
        train, val: folders of photos, searched through all their levels.
        layout: name of a published data set's layout (`cicm data list`); `train` and `val` are then its folder, and the
            photos those of `train_split` and `val_split`. Empty: `train` and `val` hold photos and nothing else.
        train_split, val_split: splits of the layout.
        labels: batches carry the label maps of the layout, which must have some (`cicm data list NAME`); photos without
            one are left out.
        match: patterns such as `coco-*`; only photos whose path below the folder fits one of them. Empty: all.
        limit: use only so many training photos, evenly spread over the folder; 0 uses all.
        crop: side of the square crops, pixels.
        large_crop, large_every: every so many steps (2 or above; 0 never) the crops are `large_crop` wide, from the
            photos that have that many pixels, and fewer by as much as they are larger: a step costs the same.
        batch_size: images of one optimizer step, over all devices and all micro-batches together.
        scale: least and largest factor by which a photo is reduced before it is cropped; 0: down to the whole photo.
        native: share of the crops that are cut out without reducing.
        flip: mirror half of the photos left to right.
        small: what a photo smaller than the crop does: `error`, `skip` or `enlarge`.
        holes: how training holes are drawn: `bands`, or `lama`, as LaMa was trained, which looks at none of the next
            three (validation's always are of a band).
        bands: the shares of missing image that holes are drawn from, evenly.
        kinds: kinds of generated holes, see `cicm.data.generators.KINDS`.
        border: share of the holes that keep a free border.
        on_error: `stop` at a photo that cannot be read, or `skip` it; skipped ones are counted and reported.
        workers: processes that read photos ahead; 0 reads in the training process. The samples do not depend on it.
        cache_mb: memory for decoded photos.
    """

    train: str = "data/train"
    val: str = "data/val"
    layout: str = ""
    train_split: str = "train"
    val_split: str = "val"
    labels: bool = False
    match: tuple[str, ...] = ()
    limit: int = 0
    crop: int = 256
    large_crop: int = 0
    large_every: int = 0
    batch_size: int = 8
    scale: tuple[float, float] = (0.0, 1.0)
    native: float = 0.5
    flip: bool = True
    small: Literal["error", "skip", "enlarge"] = "error"
    holes: Literal["bands", "lama"] = "bands"
    bands: tuple[str, ...] = tuple(BANDS)
    kinds: tuple[str, ...] = ("strokes", "blobs", "boxes", "mixed")
    border: float = 0.4
    on_error: Literal["stop", "skip"] = "stop"
    workers: int = 1
    cache_mb: float = 512.0

    def __post_init__(self) -> None:
        if self.labels:
            classes_of(self.layout)
        if self.layout:
            layout = layout_named(self.layout, "photos")
            _one_of(self, "train_split", tuple(layout.counts))
            _one_of(self, "val_split", tuple(layout.counts))
        _at_least(self, 1, "crop", "batch_size")
        _at_least(self, 0, "workers", "cache_mb", "limit", "large_crop", "large_every")
        _at_most(self, _MOST_WORKERS, "workers")
        if self.batch_size * max(self.crop, self.large_crop) ** 2 > _MOST_PIXELS:
            raise InputError(
                f"data.batch_size crops of data.crop (or data.large_crop) pixels must be at most {_MOST_PIXELS} pixels "
                f"together, which take 3 GiB; got {self.batch_size} of {max(self.crop, self.large_crop)}."
            )
        if bool(self.large_crop) != (self.large_every >= 2):
            raise InputError(
                "data.large_crop and data.large_every (2 or above) go together; "
                f"got {self.large_crop} and {self.large_every}. Set both, or neither."
            )
        if self.large_crop and (self.large_crop <= self.crop or self.batch_size * self.crop**2 % self.large_crop**2):
            raise InputError(
                "data.large_crop must be larger than data.crop, and data.batch_size * crop^2 / large_crop^2 a whole "
                f"number; got {self.batch_size} of {self.crop} and {self.large_crop}."
            )


@dataclass(frozen=True)
class TrainingConfig:
    """The `[training]` section: how long, how fast, how exact.

    Args:
        steps: optimizer steps of the whole run.
        stop_at: end after this step, with weights, as if it were the last; the learning rate still follows `steps`.
            0 never does. A larger one later goes on from there.
        lr: highest learning rate, reached after `warmup_steps`, falling as `schedule` says to `lr_last` at the end.
        lr_last: learning rate of the last step, as a share of `lr`.
        schedule: `cosine`; `constant`; `linear`, which stays at `lr` until the share `decay_from` of the run, then
            falls; `step`, which drops to `lr_last` there.
        decay_from: for `linear` and `step`.
        betas, weight_decay: of AdamW; without decay it is Adam.
        freeze: beginnings of names of the network's parameters that are not trained, as `generator`; modules that hold
            nothing else run in evaluation mode.
        freeze_norm: every BatchNorm of the network runs in evaluation mode, on the running statistics that it began
            with; its weight and bias are trained all the same.
        discriminator: `patch`, or that of a published network, `gated` (which sees the hole), `pen`, `spg` or `spl`.
        discriminator_lr: constant learning rate of the discriminator; used where the adversarial weight is above 0.
        discriminator_betas: of its AdamW; without them those of the network's.
        discriminator_width: channels of the discriminator's first layer.
        ema_decay: of the averaged weights, which are validated and written; 0 averages nothing.
        precision: `bf16-mixed` runs the networks in bfloat16 with float32 weights, on CPU and GPU.
        grad_clip: largest norm of the gradient; 0 clips nothing.
        accumulate: micro-batches per optimizer step; the result is that of the whole batch.
        channels_last: memory layout of images and weights; faster for convolutions in bfloat16.
        compile: run the model through torch.compile.
        deterministic: refuse operations without a deterministic form; a CPU is deterministic without it.
        seed: of weights, photos, crops, holes and seeding.
        log_every_steps, save_every_steps, validate_every_steps: 0 never does it (the end of the run always does).
        val_images: photos of the validation folder that are scored, each once per band.
        grid_images: of these, how many are drawn in the grid, per band.
        tensorboard: write TensorBoard files as well (extra `tensorboard`).
        init: a weights file to begin from instead of random weights; its memory comes along. Empty: random weights.
        init_fresh: beginnings of names of the network's parameters that are not taken from `init`, as `head`.
        memory_seed_step: the step before which the memories are seeded; until then they change nothing.
        memory_seed_batches: batches whose complete regions the memories are seeded from.
        memory_reseed_every_steps: starved sets and contexts are moved to living regions so often; 0 never.
        memory_reseed_until: share of the run after which nothing is reseeded any more, so that the end is calm.
    """

    steps: int = 100_000
    stop_at: int = 0
    lr: float = 2e-4
    lr_last: float = 0.01
    schedule: Schedule = "cosine"
    decay_from: float = 0.0
    warmup_steps: int = 500
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    freeze: tuple[str, ...] = ()
    freeze_norm: bool = False
    discriminator: Literal["patch", "gated", "pen", "spg", "spl"] = "patch"
    discriminator_lr: float = 1e-4
    discriminator_betas: tuple[float, float] | None = None
    discriminator_width: int = 64
    ema_decay: float = 0.999
    precision: Precision = "bf16-mixed"
    grad_clip: float = 1.0
    accumulate: int = 1
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = False
    seed: int = 0
    log_every_steps: int = 50
    save_every_steps: int = 500
    validate_every_steps: int = 2000
    val_images: int = 64
    grid_images: int = 4
    tensorboard: bool = False
    init: str = ""
    init_fresh: tuple[str, ...] = ()
    memory_seed_step: int = 0
    memory_seed_batches: int = 4
    memory_reseed_every_steps: int = 100
    memory_reseed_until: float = 0.8

    def __post_init__(self) -> None:
        _at_least(self, 1, "steps", "accumulate", "val_images", "memory_seed_batches", "discriminator_width")
        _at_most(self, _MOST_WIDTH, "discriminator_width")
        _at_least(self, 0, "warmup_steps", "weight_decay", "grad_clip", "log_every_steps", "save_every_steps")
        _at_least(self, 0, "validate_every_steps", "grid_images", "lr", "lr_last", "discriminator_lr", "seed")
        _at_least(self, 0, "stop_at", "memory_seed_step", "memory_reseed_every_steps", "memory_reseed_until")
        _one_of(self, "precision", get_args(Precision))
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"training.ema_decay must be in [0, 1); got {self.ema_decay}.")
        _one_of(self, "schedule", get_args(Schedule))
        for name in ("betas", "discriminator_betas"):
            betas = getattr(self, name)
            if betas is not None and (len(betas) != 2 or not all(0 <= beta < 1 for beta in betas)):
                raise InputError(f"training.{name} must be two numbers in [0, 1); got {betas}.")
        if not 0 <= self.decay_from < 1 or (self.decay_from and self.schedule not in ("linear", "step")):
            raise InputError(
                "training.decay_from must be a share in [0, 1), and 0 unless training.schedule is 'linear' or 'step'; "
                f"got {self.decay_from} with {self.schedule!r}."
            )


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's numbers, apart from the photos themselves."""

    model: ModelConfig
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        labels = self.model.labels
        if labels is not None and not labels.layout:
            labels = replace(labels, layout=self.data.layout)
            object.__setattr__(self, "model", replace(self.model, labels=labels))
        if labels is not None and self.data.labels and labels.layout != self.data.layout:
            raise InputError(
                f"the model's labels are those of {labels.layout}, the photos' those of {self.data.layout}. Set "
                "model.labels.layout and data.layout alike."
            )
        asks = "objective.labels" if self.objective.labels is not None else "model.labels" if labels else ""
        if asks and not self.data.labels:
            raise InputError(f"{asks} is about label maps; set data.labels = true, and a data.layout that has some.")


# What a resumed run may change, because no step's numbers depend on it.
FREE_KEYS = frozenset(
    # the photos themselves are compared by their names, see batches.photo_hash
    [f"data.{key}" for key in ("workers", "cache_mb", "train", "val", "layout", "train_split", "val_split")]
    + [f"training.{kind}_every_steps" for kind in ("log", "save", "validate")]
    + [f"training.{key}" for key in ("val_images", "grid_images", "tensorboard", "stop_at")]
)


def _section(config: Any) -> str:
    return type(config).__name__.removesuffix("Config").lower()


def _at_least(config: Any, low: float, *names: str) -> None:
    assert set(names) <= {f.name for f in fields(config)}
    for name in names:
        if not getattr(config, name) >= low:
            raise InputError(f"{_section(config)}.{name} must be at least {low}; got {getattr(config, name)}.")


def _at_most(config: Any, high: float, *names: str) -> None:
    assert set(names) <= {f.name for f in fields(config)}
    for name in names:
        if not getattr(config, name) <= high:
            raise InputError(f"{_section(config)}.{name} must be at most {high}; got {getattr(config, name)}.")


def _one_of(config: Any, name: str, known: tuple[str, ...]) -> None:
    if getattr(config, name) not in known:
        raise InputError(f"{_section(config)}.{name} must be one of {', '.join(known)}; got {getattr(config, name)!r}.")
