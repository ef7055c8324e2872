"""A memory in networks that know nothing of it: small ones written here, and two of the diffusers library."""

from __future__ import annotations

import copy
import dataclasses
import io
from collections import OrderedDict, namedtuple

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DModel
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import cicm
from cicm.assembly import MemoryInpainter
from cicm.attach import Attached, attach
from cicm.conventions import InputError
from cicm.memory import ContextMemory, MemoryConfig, inject, ratio_error
from cicm.networks import create
from cicm.objectives import ObjectiveConfig, Weights
from cicm.ops import as_regions, complete_cells, missing_share
from cicm.training.step import memory_terms, own_terms, part_of

SMALL = MemoryConfig(sets=2, contexts=3)
CHANNELS = 6


class Stages(nn.Module):
    """Encoder, middle, decoder; the middle runs several times."""

    def __init__(self, visits: int = 1, recompute: bool | None = None) -> None:
        super().__init__()
        self.visits, self.recompute = visits, recompute
        self.encoder = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1), nn.BatchNorm2d(CHANNELS))
        self.stages = nn.ModuleDict({"middle": nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.SiLU())})
        self.decoder = nn.Conv2d(CHANNELS, 3, 3, padding=1)

    def forward(self, image: Tensor, gain: float = 1.0) -> Tensor:
        x = self.encoder(image) * gain
        for _ in range(self.visits):
            x = self.middle(x) if self.recompute is None else self._again(x)
        return self.decoder(F.interpolate(x, scale_factor=2.0))

    def middle(self, x: Tensor) -> Tensor:
        return self.stages["middle"](x)

    def _again(self, x: Tensor) -> Tensor:
        return checkpoint(self.middle, x, use_reentrant=self.recompute)


PATH = "stages.middle"


def small(seeded: bool = True, visits: int = 1, recompute: bool | None = None, **changes) -> Attached:
    torch.manual_seed(3)
    config = dataclasses.replace(SMALL, ratio_bias=0.0, **changes)
    made = attach(Stages(visits, recompute), {PATH: config}, seed_after=None)
    with torch.no_grad():
        made.memory(PATH).ratio_head.weight.normal_()
    if seeded and made.memory(PATH).writes:
        made.memory(PATH).seed_(torch.randn(60, CHANNELS), torch.Generator().manual_seed(0))
    return made


def batch(count: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hole = torch.zeros(count, 1, 16, 16)
    hole[:, :, 3:9, 5:12] = 1
    return torch.rand(count, 3, 16, 16, generator=generator) * (1 - hole), hole


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# The network stays what it is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("train", [True, False])
def test_an_empty_memory_leaves_outputs_gradients_and_names(
    train: bool, layout: torch.memory_format, dtype: torch.dtype
) -> None:
    alone = Stages().to(dtype=dtype, memory_format=layout).train(train)  # type: ignore[call-overload]
    network = copy.deepcopy(alone)
    attached = attach(network, {PATH: SMALL})
    image, hole = batch()
    image = image.to(dtype=dtype, memory_format=layout)
    results = [alone(image, gain=0.5), attached(image, gain=0.5, hole=hole)]
    assert torch.equal(*results)
    for result in results:
        result.square().sum().backward()
    for one, other in zip(alone.parameters(), network.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    assert same(alone.state_dict(), network.state_dict())
    assert {f"network.{name}" for name in alone.state_dict()} < attached.state_dict().keys()


class Turned(nn.Module):
    """Gives a map that is neither contiguous nor channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3)
        self.turn = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.turn(self.first(image).transpose(2, 3)))


def test_the_layout_of_a_map_stays_too() -> None:
    network = Turned()
    seen: list[tuple] = []
    network.last.register_forward_pre_hook(lambda _, args: seen.append(args[0].stride()))
    image = torch.rand(2, 3, 20, 12)
    alone = network(image)
    assert torch.equal(attach(network, {"turn": SMALL}, channels={"turn": 8})(image), alone)
    assert seen[0] == seen[1]


def test_detach_takes_everything_off() -> None:
    attached = small()
    network, (image, hole) = attached.network, batch()

    def others(module: nn.Module, args: tuple, output: Tensor) -> None: ...

    network.get_submodule(PATH).register_forward_hook(others)
    found = attached(image, hole=hole)
    assert attached.detach() is network
    assert [hook for m in network.modules() for hook in m._forward_hooks.values()] == [others]
    assert not torch.equal(network(image), found)
    again = attach(network, {PATH: attached.memory(PATH)})
    assert again.memory(PATH) is attached.memory(PATH)
    assert torch.equal(again(image), found)


def test_the_output_is_that_of_the_parts_by_hand() -> None:
    attached = small().eval()
    network, memory, (image, _) = attached.network, attached.memory(PATH), batch()
    read = memory.read(network.stages.middle[1](network.stages.middle[0](network.encoder(image))))
    assert torch.equal(attached(image), network.decoder(F.interpolate(read.features, scale_factor=2.0)))
    assert not torch.equal(attached(image), attached.detach()(image))


# Paths, outputs, channels ---------------------------------------------------------------------------------------------


def test_a_wrong_path_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"Stages has no module 'stages.midle'; did you mean 'stages.middle'\?"):
        attach(Stages(), "stages.midle")
    for nothing in ([], {}):
        with pytest.raises(InputError, match="at least one module"):
            attach(Stages(), nothing)
    for wrong in ({"take": {"stages": 0}}, {"channels": {"stages": 3}}):
        with pytest.raises(InputError, match=r"names 'stages'; did you mean 'stages.middle'"):
            attach(Stages(), PATH, **wrong)
    with pytest.raises(
        InputError, match=r"'stages' is a ModuleDict, which no forward calls; .* such as 'stages.middle'"
    ):
        attach(Stages(), "stages")
    with pytest.raises(InputError, match=r"no memory at 'midle'; did you mean 'stages.middle'"):
        small().memory("midle")


def test_what_needs_the_whole_photo_is_refused() -> None:
    with pytest.raises(InputError, match="written = 'complete'; got 'whole'"):
        attach(Stages(), {PATH: ContextMemory(CHANNELS, MemoryConfig(sets=2, contexts=2, written="whole"))})
    attached, (image, hole) = small(), batch()
    attached(image, hole=hole)
    with pytest.raises(InputError, match="no teacher"):
        attached.losses(Weights(route=0.1))


def test_one_memory_for_a_place() -> None:
    attached = small()
    with pytest.raises(InputError, match="has a memory already; detach"):
        attach(attached.network, PATH)
    attach(attached.network, "encoder")  # another place is free


class Gives(nn.Module):
    """A network whose part gives what it is told to."""

    def __init__(self, pack, unpack) -> None:
        super().__init__()
        self.part = nn.Conv2d(3, CHANNELS, 1)
        self.part.register_forward_hook(lambda _, args, output: pack(output))
        self.unpack = unpack

    def forward(self, image: Tensor) -> Tensor:
        return self.unpack(self.part(image))


@dataclasses.dataclass
class Record:
    number: int
    sample: Tensor


class Bag:
    def __init__(self, sample: Tensor) -> None:
        self.sample = sample


Pair = namedtuple("Pair", ["other", "sample"])

PACKED = [
    (lambda x: (x, [x]), lambda y: y[0], None),
    (lambda x: [None, x], lambda y: y[1], None),
    (lambda x: (x * 2, x), lambda y: y[1], 1),
    (lambda x: (x * 2, x), lambda y: y[1], -1),
    (lambda x: {"n": 1, "sample": x}, lambda y: y["sample"], None),
    (lambda x: OrderedDict(other=x * 2, sample=x), lambda y: y["sample"], "sample"),
    (lambda x: Record(1, x), lambda y: y.sample, None),
    (lambda x: Pair(x * 2, x), lambda y: y.sample, "sample"),
    (lambda x: Pair(x * 2, x), lambda y: y.sample, 1),
    (lambda x: Bag(x), lambda y: y.sample, "sample"),
]


def test_the_map_is_found_in_what_a_module_gives() -> None:
    for pack, unpack, take in PACKED:
        network = Gives(pack, unpack).eval()
        attached = attach(network, {"part": SMALL}, take=None if take is None else {"part": take})
        memory, image = attached.memory("part"), torch.rand(2, 3, 8, 8)
        memory.seed_(torch.randn(60, CHANNELS), torch.Generator().manual_seed(0))
        assert torch.equal(attached(image), memory.read(F.conv2d(image, *network.part.parameters())).features), pack


@pytest.mark.parametrize(
    ("pack", "take", "told"),
    [
        (lambda x: x.flatten(2), None, r"the output of 'part' is \(2, 6, 64\) float32"),
        (lambda x: x > 0, None, r"\(2, 6, 8, 8\) bool"),
        (lambda x: ([x],), None, "the output of 'part' is tuple"),
        (lambda x: (x, 7), 1, "part 1 of the output of 'part' is int"),
        (lambda x: (x, 7), 2, "part 2 of the output of 'part' is NoneType"),
        (lambda x: x, 0, "part 0 of the output of 'part' is NoneType"),
    ],
)
def test_what_is_no_map_is_refused(pack, take, told: str) -> None:
    attached = attach(Gives(pack, lambda y: y), {"part": SMALL}, take=None if take is None else {"part": take})
    with pytest.raises(InputError, match=told):
        attached(torch.rand(2, 3, 8, 8))


def test_channels_come_from_the_module_from_a_call_or_from_you() -> None:
    assert attach(Stages(), {PATH: SMALL}).memory(PATH).channels == CHANNELS  # the last convolution in it
    assert attach(Stages(), {"encoder": SMALL}).memory("encoder").channels == CHANNELS
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.PixelShuffle(2), nn.Dropout(), nn.BatchNorm2d(2))
    network[2].eval()
    before = bits(network)
    for example in (torch.rand(2, 3, 8, 8), (torch.rand(2, 3, 8, 8),), {"input": torch.rand(2, 3, 8, 8)}):
        made = attach(network, {"1": MemoryConfig(sets=2, contexts=3, ratio="full")}, example=example)
        assert made.memory("1").channels == 2
        made.detach()
    assert same(before, bits(network))
    assert [m.training for m in network.modules()] == [True, True, True, False, True]
    with pytest.raises(InputError, match=r"can't be told .* channels=\{'1': 64\}"):
        attach(network, {"1": SMALL})
    with pytest.raises(InputError, match=r"memory at '0' is for 5 channels.*channels=\{'0': 8\}"):
        attach(network, {"0": SMALL}, channels={"0": 5})(torch.rand(2, 3, 8, 8))


def test_an_example_draws_no_random_number() -> None:
    values = []
    for example in (None, torch.rand(2, 3, 8, 8)):
        network = Gives(lambda x: x, lambda y: y * torch.rand(()))
        torch.manual_seed(5)
        attach(network, {"part": SMALL}, example=example)
        values.append(torch.rand(()))
    assert torch.equal(*values)


def test_an_example_that_misses_the_module_is_refused() -> None:
    network = nn.Module()
    network.a, network.b = nn.Identity(), nn.Identity()
    network.forward = lambda x: network.a(x)
    with pytest.raises(InputError, match="did not run the module 'b'"):
        attach(network, {"b": SMALL}, example=torch.rand(1, 3, 4, 4))


# What is recorded, and what is not ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeded", [True, False])
def test_without_a_hole_or_in_evaluation_nothing_is_written(seeded: bool) -> None:
    attached, (image, hole) = small(seeded), batch()
    before = bits(attached.memories)
    attached(image)
    attached.eval()
    attached(image, hole=hole)
    with attached.holes(hole):
        attached.network(image)
    attached.train()
    with pytest.raises(InputError, match=r"expected attached\(..., hole=hole\) in training mode"):
        attached.losses()
    assert attached.commit() == 0
    assert same(before, bits(attached.memories))


def test_the_mode_begins_as_the_networks_and_may_differ_from_it() -> None:
    for train in (True, False):
        attached, (image, hole) = attach(Stages().train(train), {PATH: SMALL}), batch()
        assert {m.training for m in attached.modules()} == {train}, train
        attached.train()
        attached.network.eval()
        before = bits(attached.network)
        attached(image, hole=hole)
        attached.commit()
        assert attached.memory(PATH).seeded, train
        assert same(before, bits(attached.network)), train  # statistics of the frozen network included


def test_forwards_never_write_and_a_commit_writes_once() -> None:
    attached, (image, hole) = small(), batch()
    before = bits(attached.memories)
    attached(image, hole=hole)
    attached.losses().backward()
    assert same(before, bits(attached.memories))
    attached.commit()
    after = bits(attached.memories)
    assert not same(before, after)
    attached.commit()
    assert same(after, bits(attached.memories))


def expected_state(memory: ContextMemory, reads, holes):
    """Eq. 2 and 3 by the plain rule, from all the reads at once; hard writes are the default."""
    complete = torch.cat([complete_cells(missing_share(h, (8, 8))) for h in holes])
    weights = torch.cat([r.weights for r in reads])
    hard = F.one_hot(weights.argmax(-1), weights.shape[-1]).to(weights)
    return inject(
        memory.state.detached(),
        torch.cat([r.regions for r in reads]),
        torch.cat([r.sets for r in reads]),
        hard,
        complete,
        memory.config.momentum,
        update=memory.config.update,
        retention=memory.config.retention,
    )


def visits_of(attached: Attached, image: Tensor) -> list:
    """What the memory finds at each visit, by an observer of its own."""
    memory, found = attached.memory(PATH), []
    inner = memory.read
    memory.read = lambda *args: found.append(inner(*args)) or found[-1]
    try:
        attached.eval()(image)
    finally:
        del memory.read
        attached.train()
    return found


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("visits", [1, 3])
@pytest.mark.parametrize("forwards", [1, 3])
def test_a_commit_stores_the_last_visit_of_every_forward(visits: int, forwards: int, taken: bool) -> None:
    attached = small(visits=visits)
    for module in attached.network.modules():  # batch norm without a state, so that a second look sees the same
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    batches = [batch(seed=i) for i in range(forwards)]
    reads = [visits_of(attached, image) for image, _ in batches]
    assert {len(r) for r in reads} == {visits}
    wanted = expected_state(attached.memory(PATH), [r[-1] for r in reads], [hole for _, hole in batches])
    for (image, hole), own in zip(batches, reads, strict=True):  # gradient accumulation
        attached(image, hole=hole)
        if not taken:  # the losses are not asked for: a memory that only fills
            continue
        target = missing_share(hole, (8, 8)).reshape(-1)
        ratio = attached.terms()["ratio"]
        assert_close(ratio, torch.stack([ratio_error(r.ratio, target) for r in own]).mean())
        (attached.losses() / forwards).backward()
    attached.commit()
    for found, want in zip(attached.memory(PATH).state, wanted, strict=True):
        assert_close(found, want)


def test_one_loss_after_several_forwards_is_the_loss_of_the_whole_batch() -> None:
    gradients = []
    image, hole = batch(4)
    for cut in (1, 2):
        attached = small()
        attached.network.encoder[1].eval()
        for i, h in zip(image.chunk(cut), hole.chunk(cut), strict=True):
            attached(i, hole=h)
        attached.losses().backward()
        gradients.append([p.grad for p in attached.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-5)  # float32 sums in another order
    assert len(gradients[0]) >= 8


def test_losses_are_taken_once_and_terms_as_often_as_you_like() -> None:
    attached, (image, hole) = small(), batch()
    attached(image, hole=hole)
    terms = attached.terms()
    weights = Weights(ratio=2.0, inter=3.0, intra=4.0)
    assert_close(attached.losses(weights), 2 * terms["ratio"] + 3 * terms["inter"] - 4 * terms["intra"])
    with pytest.raises(InputError, match="since the last losses"):
        attached.losses(weights)


def test_printed_sums_count_every_region_of_every_forward() -> None:
    attached = small()
    objective = ObjectiveConfig(ratio_reduction="sum", printed_similarities=True)
    for seed in (0, 1):
        image, hole = batch(seed=seed)
        attached(image, hole=hole)
    mean, total = attached.terms(), attached.terms(objective)
    assert_close(total["ratio"], mean["ratio"] * 2 * 2 * 64)
    anchors = attached.memory(PATH).pending(
        [f.reads[PATH][-1] for f in attached._tape.forwards()], [complete_cells(missing_share(batch()[1], (8, 8)))] * 2
    )
    assert_close(total["inter"], (anchors.anchors @ anchors.anchors.T).sum())
    with pytest.raises(InputError, match="ratio_target = 'share'"):
        attached.terms(ObjectiveConfig(ratio_target="pixels"))


@pytest.mark.parametrize("seeded", [True, False])
def test_terms_and_commit_are_those_of_the_packages_own_training(seeded: bool) -> None:
    """One network, once by the edit that it calls itself and once by the hook: every bit is the same."""
    config = MemoryConfig(sets=3, contexts=4)
    unet = create("unet", width=4)
    own = MemoryInpainter(unet, {"bottom": ContextMemory(unet.site("bottom").channels, config)})
    if seeded:
        own.memories["bottom"].seed_(torch.rand(60, 32), torch.Generator().manual_seed(0))
    attached = attach(copy.deepcopy(unet), {"bottom.4": copy.deepcopy(own.memories["bottom"])}, seed_after=None)
    hole = torch.zeros(2, 1, 32, 48)
    hole[..., 3:20, 5:29] = 1
    image = torch.rand(2, 3, 32, 48)
    result = own(image * (1 - hole), hole)
    found = attached(image * (1 - hole), hole, hole=hole)
    assert torch.equal(result.prediction.image, found.image)
    sample, objective = {"image": image, "hole": hole}, ObjectiveConfig()
    terms = {"ratio": own_terms(result, sample, objective)["ratio"]}
    more, states = memory_terms(own, [part_of(result, sample, own)], objective)
    terms |= more
    assert len(terms) == (3 if seeded else 1)
    assert same(attached.terms(), terms)
    attached.commit()
    for site, state in states.items():
        own.memories[site].commit(state)
    assert same(own.memories["bottom"].state_dict(), attached.memory("bottom.4").state_dict())


def test_holes_for_networks_that_someone_else_calls() -> None:
    one, other, (image, hole) = small(), small(), batch()
    results = [one(image, hole=hole)]
    with other.holes(hole):
        results.append(other.network(image))
    assert torch.equal(*results)
    assert torch.equal(one.losses(), other.losses())
    for attached in (one, other):
        attached.commit()
    assert same(one.state_dict(), other.state_dict())
    with other.holes(hole):  # all that is called inside is one forward: its last visit is written
        other.network(image * 0.5)
        other(image)
    assert [len(f.reads[PATH]) for f in other._tape.forwards()] == [2]


def test_a_forward_that_fails_is_not_recorded() -> None:
    attached, (image, hole) = small(), batch()
    for wrong in (image[:, :2], "no image"):
        with pytest.raises((RuntimeError, TypeError)):
            attached(wrong, hole=hole)

    def interrupted() -> None:
        with attached.holes(hole):
            attached.network(image)
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert attached._tape.now is None
    assert attached._tape.forwards() == []


def test_a_skipped_step_is_discarded_and_a_forgotten_commit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    attached, (image, hole) = small(), batch()
    before = bits(attached.memories)
    attached(image, hole=hole)
    attached.discard()
    attached.commit()
    assert same(before, bits(attached.memories))
    monkeypatch.setattr("cicm.attach.attached.MOST_FORWARDS", 2)
    attached(image, hole=hole)
    attached(image, hole=hole)
    with pytest.raises(InputError, match=r"2 forwards wait for a commit. Call attached.commit\(\)"):
        attached(image, hole=hole)


def test_a_wrong_hole_is_refused() -> None:
    for hole, told in (
        (torch.zeros(2, 3, 16, 16), r"hole must be \(B, 1, H, W\).*got \(2, 3, 16, 16\) float32"),
        (torch.zeros(16, 16), r"got \(16, 16\) float32"),
        ([[0]], "got list"),
        (torch.zeros(1, 1, 16, 16), r"agree in batch; got hole \(1, 1, 16, 16\).*'stages.middle', \(2, 6, 8, 8\)"),
    ):
        attached, (image, _) = small(), batch()
        with pytest.raises(InputError, match=told):
            attached(image, hole=hole)
        assert attached._tape.forwards() == [], hole


def test_a_hole_is_0_or_1_in_any_dtype_and_size() -> None:
    attached, (image, hole) = small(), batch()
    values = []
    for kind in (hole, hole.bool(), hole.to(torch.uint8), hole.half(), F.interpolate(hole, scale_factor=4.0)):
        attached(image, hole=kind)
        values.append(attached.losses())
        attached.discard()
    assert_close(torch.stack(values), values[0].expand(5))
    attached(image, hole=hole * 255)
    with pytest.raises(InputError, match=r"only 0 \(known\) and 1 \(missing\); got values in \[0, 255\]"):
        attached.losses()


def test_a_memory_that_looks_at_the_hole_asks_for_it() -> None:
    for changes in ({"ratio": "true"}, {"kind": "kmeans"}):
        attached, (image, hole) = small(**changes), batch()
        for train in (True, False):
            attached.train(train)
            with pytest.raises(InputError, match="reads the hole"):
                attached(image)
            attached(image, hole=hole)
        given = attached(image, hole=hole)
        assert not torch.equal(given, attached(image, hole=torch.zeros_like(hole)))


def test_a_module_that_is_not_run_is_told() -> None:
    network = Stages()
    network.spare = nn.Conv2d(3, 4, 1)
    attached, (image, hole) = attach(network, {"spare": SMALL}), batch()
    attached(image, hole=hole)
    with pytest.raises(InputError, match="the module 'spare' was not run"):
        attached.losses()


# Filling --------------------------------------------------------------------------------------------------------------


def test_a_memory_fills_itself_from_the_first_commits() -> None:
    attached = attach(Stages(), {PATH: MemoryConfig(sets=2, contexts=12)}, seed_after=1)
    memory, steps = attached.memory(PATH), []
    for step in range(5):
        image, hole = batch(1, seed=step)
        attached(image, hole=hole)
        attached.losses()
        attached.commit()
        steps.append(memory.seeded)
    complete = int(complete_cells(missing_share(hole, (8, 8))).sum())
    waited = 1 + -(-96 // complete)  # 4 * 2 * 12 regions are enough, gathered from the second commit on
    assert steps == [step + 1 >= waited for step in range(5)]
    assert 2 < waited < 5
    never = small(seeded=False)
    for _ in range(5):
        never(image, hole=hole)
        never.commit()
    assert not never.memory(PATH).seeded


def test_seeding_from_batches_is_seeding_from_their_complete_regions() -> None:
    attached, batches = small(seeded=False), [batch(seed=i) for i in range(3)]
    attached.eval()
    with torch.no_grad():
        maps = [attached.network.middle(attached.network.encoder(image)) for image, _ in batches]
    regions = [as_regions(m)[complete_cells(missing_share(h, (8, 8)))] for m, (_, h) in zip(maps, batches, strict=True)]
    twin = copy.deepcopy(attached)
    attached._gathered[PATH] = [torch.zeros(1, CHANNELS)]  # of earlier commits; not needed any more
    attached.seed_([{"image": image, "hole": hole} for image, hole in batches])
    assert attached._gathered == {}
    wanted = ContextMemory(CHANNELS, SMALL)
    wanted.seed_(torch.cat(regions), torch.Generator().manual_seed(0))  # seed 0, no commit yet, the first site
    assert_close(attached.memory(PATH).state, wanted.state)
    assert not twin.memory(PATH).seeded
    twin.seed_(iter(batches), lambda b: twin(b[0], hole=b[1]))
    assert same(attached.state_dict(), twin.state_dict())
    assert not attached.training
    attached(*batches[0][:1], hole=batches[0][1])  # in evaluation again
    assert attached._tape.forwards() == []
    with pytest.raises(InputError, match=r"call=... for batches of type tuple"):
        attached.seed_(batches)
    with pytest.raises(InputError, match=r"no forward with a hole reached 'stages.middle'"):
        attached.seed_([{"image": batch()[0]}])


def test_seeding_stops_when_it_has_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cicm.attach.attached.MOST_REGIONS", 50)
    attached, used = small(seeded=False), []

    def run(seed: int) -> None:
        used.append(seed)
        image, hole = batch(1, seed)
        attached(image, hole=hole)

    attached.seed_(range(100), run)
    assert 1 <= len(used) <= 3


def test_reseeding_gives_starved_sets_new_content() -> None:
    attached, (image, hole) = small(), batch()
    memory = attached.memory(PATH)
    with torch.no_grad():
        memory.mass[0] = 1e9  # beside which whatever the other set has is nothing
        memory.contexts[1] = 1e3
    attached(image, hole=hole)
    assert attached.commit() == 0
    assert memory.contexts.abs().max() > 100
    attached(image, hole=hole)
    assert attached.commit(reseed=True) >= memory.config.contexts
    assert memory.contexts.abs().max() < 100
    assert "sets_used" in attached.report()[PATH]


def test_the_reduction_is_the_memorys() -> None:
    """Two equal ranks give what one rank with everything twice gives."""
    one, two, (image, hole) = small(), small(), batch()
    two._reduce = lambda tensor: 2 * tensor
    for attached, times in ((one, 2), (two, 1)):
        attached.network.encoder[1].eval()
        for _ in range(times):
            attached(image, hole=hole)
    assert_close(one.terms(), two.terms())
    one.commit()
    two.commit()
    assert_close(one.memory(PATH).state, two.memory(PATH).state)


# Copies, files, precision, recomputation ------------------------------------------------------------------------------


def check_apart(attached: Attached, twin: Attached) -> None:
    image, hole = batch()
    before = bits(attached)
    twin.train()(image, hole=hole)
    assert attached._tape.forwards() == []
    assert len(twin._tape.forwards()) == 1
    twin.losses().backward()
    assert all(p.grad is None for p in attached.parameters())
    twin.commit()
    assert same(before, bits(attached))
    assert not same(before, bits(twin))


@pytest.mark.parametrize("how", ["deepcopy", "averaged", "pickle"])
def test_a_copy_writes_to_itself(how: str) -> None:
    attached, (image, hole) = small(), batch()
    attached(image, hole=hole)  # what is recorded stays behind: it is in a graph, which cannot be copied
    if how == "deepcopy":
        twin = copy.deepcopy(attached)
    elif how == "averaged":
        twin = torch.optim.swa_utils.AveragedModel(attached).module
    else:
        stream = io.BytesIO()
        torch.save(attached, stream)
        stream.seek(0)
        twin = torch.load(stream, weights_only=False)
    assert len(attached._tape.forwards()) == 1
    attached.discard()
    assert twin._tape.forwards() == []
    assert torch.equal(twin.eval()(image), attached.eval()(image))
    check_apart(attached, twin)


def test_save_load_gives_the_same_output() -> None:
    attached, fresh, (image, _) = small(), small(seeded=False), batch()
    with torch.no_grad():
        for p in fresh.parameters():
            p.normal_()
    assert not fresh.memory(PATH).seeded
    names = fresh.load_state_dict(load(save(attached.state_dict())))
    assert not names.missing_keys
    assert not names.unexpected_keys
    assert fresh.memory(PATH).seeded
    assert torch.equal(fresh.eval()(image), attached.eval()(image))
    assert "memories.stages/middle.anchors" in attached.state_dict()


def test_under_autocast_the_map_keeps_its_dtype_and_the_memory_its_digits() -> None:
    attached, (image, hole) = small(), batch()
    seen: list[torch.dtype] = []
    attached.network.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        out = attached(image, hole=hole)
        loss = out.float().square().mean() + attached.losses()
    loss.backward()
    assert seen == [torch.bfloat16]
    assert loss.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in attached.parameters())
    attached.commit()
    assert attached.memory(PATH).anchors.dtype == torch.float32


@pytest.mark.parametrize("ratio", ["estimated", "true"])
def test_a_recomputed_forward_reads_again_and_is_recorded_once(ratio: str) -> None:
    results = []
    for recompute in (None, False):
        attached = small(visits=2, recompute=recompute, ratio=ratio)
        image, hole = batch()
        reads = []
        inner = attached.memory(PATH).read
        attached.memory(PATH).read = lambda *args, inner=inner, reads=reads: reads.append(1) or inner(*args)
        loss = attached(image, hole=hole).square().mean() + attached.losses()
        assert [len(f.reads[PATH]) for f in attached._tape.forwards()] == [1]  # taken out of the graph: the last
        loss.backward()
        assert len(reads) == (2 if recompute is None else 4)
        assert len(attached._tape.forwards()) == 1
        attached.commit()
        del attached.memory(PATH).read
        results.append((loss, *(p.grad for p in attached.parameters() if p.grad is not None), *attached.buffers()))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_recomputing_what_cannot_work_is_told() -> None:
    attached, (image, hole) = small(recompute=True), batch()
    attached(image, hole=hole)
    with pytest.raises(InputError, match=r"without gradient .*use_reentrant=False, or give the ratio the weight 0"):
        attached.losses()
    attached.losses(Weights(ratio=0.0))
    attached = small(recompute=False, ratio="true")
    outputs = [attached(image, hole=hole).sum() for _ in range(2)]
    with pytest.raises(InputError, match="2 forwards recorded it cannot be told whose"):
        outputs[0].backward()


# Networks of others ---------------------------------------------------------------------------------------------------


def unet() -> UNet2DModel:
    return UNet2DModel(
        sample_size=16,
        in_channels=4,
        out_channels=3,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=8,
    )


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=16,
    )


def photos() -> tuple[Tensor, Tensor]:
    """Four pictures of two kinds of stripes."""
    hole = torch.zeros(4, 1, 16, 16)
    hole[0, :, 4:10, 3:9] = hole[1, :, 2:7, 8:14] = hole[2, :, 8:14, 4:8] = hole[3, :, 5:9, 5:12] = 1
    line = (torch.arange(16) // 2 % 2).float()
    pictures = torch.stack([line.expand(16, 16), line[:, None].expand(16, 16)] * 2)
    return pictures[:, None].repeat(1, 3, 1, 1), hole


UNET_SITES = ["mid_block", "down_blocks.0", "up_blocks.1.resnets.0", "mid_block.attentions.0"]


def test_a_diffusers_unet_is_unchanged_by_an_empty_memory_and_changed_by_a_full_one() -> None:
    for path in UNET_SITES:
        network, (image, hole) = unet().eval(), photos()
        sample = torch.cat([image * (1 - hole), hole], 1)
        alone, names = network(sample, 3).sample, list(network.state_dict())
        attached = attach(network, {path: SMALL})
        assert torch.equal(attached(sample, 3, hole=hole).sample, alone), path
        assert torch.equal(attached(sample, 3, return_dict=False)[0], alone), path
        assert list(network.state_dict()) == names, path
        attached.seed_([{"sample": sample, "timestep": 3, "hole": hole}])
        assert not torch.equal(attached(sample, 3).sample, alone), path
        assert torch.equal(attached.detach()(sample, 3).sample, alone), path


@pytest.mark.parametrize("recompute", [False, True])
def test_a_diffusers_unet_learns_and_its_memory_fills(recompute: bool) -> None:
    network, (image, hole) = unet(), photos()
    if recompute:
        network.enable_gradient_checkpointing()
    attached = cicm.attach(network, {"mid_block": MemoryConfig(sets=2, contexts=8)})
    optimizer = torch.optim.Adam(attached.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        out = attached(torch.cat([image * (1 - hole), hole], 1), 0, hole=hole).sample
        task = (out - image).square().mean()
        loss = task + attached.losses(Weights(inter=0.01, intra=0.01))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        attached.commit()
        losses.append(task.item())
    assert losses[-1] < 0.6 * losses[0]
    memory = attached.memory("mid_block")
    assert memory.seeded
    assert memory.report()["norm"] > 0
    assert memory.ratio_head.weight.any()
    fresh = attach(unet(), {"mid_block": MemoryConfig(sets=2, contexts=8)})
    fresh.load_state_dict(attached.state_dict())
    sample = torch.cat([image * (1 - hole), hole], 1)
    wanted = attached.eval()(sample, 0).sample
    assert torch.equal(fresh.eval()(sample, 0).sample, wanted)
    assert torch.equal(copy.deepcopy(attached)(sample, 0).sample, wanted)
    assert not torch.equal(attached.detach()(sample, 0).sample, wanted)


def test_two_memories_in_a_diffusers_autoencoder_called_by_its_own_verbs() -> None:
    network, (image, hole) = autoencoder(), photos()
    attached = attach(network, {"encoder.mid_block": SMALL, "decoder.up_blocks.0": SMALL})
    assert [attached.memory(p).channels for p in attached.paths] == [16, 16]
    optimizer = torch.optim.Adam(attached.parameters(), 1e-3)
    for _ in range(3):
        with attached.holes(hole):
            code = network.encode(image * (1 - hole)).latent_dist.mode()
            out = network.decode(code).sample
        optimizer.zero_grad()
        ((out - image).square().mean() + attached.losses()).backward()
        optimizer.step()
        attached.commit()
    assert all(attached.memory(p).seeded for p in attached.paths)
    found = attached.eval()(image * (1 - hole)).sample
    fresh = attach(autoencoder(), {"encoder.mid_block": SMALL, "decoder.up_blocks.0": SMALL}).eval()
    fresh.load_state_dict(load(save(attached.state_dict())))
    assert torch.equal(fresh(image * (1 - hole)).sample, found)


# The house ------------------------------------------------------------------------------------------------------------
