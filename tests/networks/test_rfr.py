"""RFR: its lean forms against their definitions, the whole against a plain rewrite and the original's outputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from cicm.assembly import MemoryInpainter
from cicm.conventions import InputError
from cicm.memory import ContextMemory, MemoryConfig
from cicm.networks import create, rfr
from cicm.networks.rfr import RFR, Look, attention, attention_plain, partial_conv, partial_conv_plain

EXACT = {"rtol": 1e-10, "atol": 1e-12}  # float64: only the order of sums differs


def pictures(count: int = 2, height: int = 32, width: int = 48, dtype: torch.dtype = torch.float32):
    """Pictures with one box missing each."""
    hole = torch.zeros(count, 1, height, width, dtype=dtype)
    for i in range(count):
        hole[i, :, 4 + i : height // 2 + 6, 6 : width // 2 + 3 + 2 * i] = 1
    return torch.rand(count, 3, height, width, dtype=dtype) * (1 - hole), hole


def stirred(**options) -> RFR:
    """A float64 network in evaluation mode whose normalisations are not the identity."""
    network = create("rfr", **{"width": 8, **options}).double().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for value in (module.weight, module.running_var):
                    value.copy_(0.5 + torch.rand_like(value))
                for value in (module.bias, module.running_mean):
                    value.copy_(0.2 * torch.randn_like(value))
        network.reason.attention.ratio.fill_(-0.7)  # its size counts, not its sign
    assert isinstance(network, RFR)
    return network


# Partial convolution --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (7, 1), (5, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("groups", [None, (6,), (2, 4), (1, 2, 3)])
def test_the_lean_partial_convolution_equals_the_dense_one(
    kernel: int, stride: int, groups: tuple[int, ...] | None
) -> None:
    known = (torch.rand(2, len(groups or (6,)), 14, 18) < 0.2).double()
    known[1, ..., 9:] = 0  # windows without anything known, too
    results = []
    leaves = torch.randn(2, 6, 14, 18).double(), torch.randn(5, 6, kernel, kernel).double()
    seed = None
    for form in (partial_conv, partial_conv_plain):
        x, weight = (leaf.clone().requires_grad_() for leaf in leaves)
        y, reached = form(x, known, weight, stride=stride, padding=kernel // 2, groups=groups)
        seed = torch.randn_like(y) if seed is None else seed
        results.append([y, reached, *torch.autograd.grad(y, (x, weight), seed)])
    for lean, plain in zip(*results, strict=True):
        assert_close(lean, plain, **EXACT)
    reached = results[0][1]
    assert set(reached.unique().tolist()) == {0, 1}


def test_a_partial_convolution_is_the_mean_over_known_inputs_times_their_full_number() -> None:
    """Cell by cell, written from the formula; two masks that stand for one and two channels."""
    x, known = torch.randn(1, 3, 5, 6).double(), (torch.rand(1, 2, 5, 6) < 0.3).double()
    weight = torch.randn(2, 3, 3, 3).double()
    y, reached = partial_conv(x, known, weight, padding=1, groups=(1, 2))
    mask = known[0, [0, 1, 1]]
    for i in range(5):
        for j in range(6):
            total, seen = torch.zeros(2).double(), 0.0
            for c in range(3):
                for di in (-1, 0, 1):
                    for dj in (-1, 0, 1):
                        a, b = i + di, j + dj
                        if 0 <= a < 5 and 0 <= b < 6 and mask[c, a, b]:
                            total += x[0, c, a, b] * weight[:, c, di + 1, dj + 1]
                            seen += 1
            expected = total * 27 / seen if seen else total
            assert_close(y[0, :, i, j], expected, rtol=1e-7, atol=1e-9)  # the formula adds 1e-8 to the number
            assert reached[0, 0, i, j] == float(seen > 0)


def test_known_cells_stay_exactly_known() -> None:
    """In float64 a mean over 49 cells times 49 is less than 1 for one known cell."""
    for dtype in (torch.float32, torch.float64):
        known = torch.zeros(1, 1, 40, 40, dtype=dtype)
        known[..., 20, 20] = 1
        for _ in range(4):
            _, known = partial_conv(
                torch.rand(1, 1, 40, 40).to(dtype), known, torch.rand(1, 1, 7, 7).to(dtype), padding=3
            )
        assert set(known.unique().tolist()) == {0, 1}, dtype
        assert known.sum() == 25 * 25, dtype


@pytest.mark.parametrize(("kernel", "side", "left"), [(7, 160, 0), (7, 192, 15), (7, 224, 31), (5, 160, 25)])
def test_the_rim_moves_inwards_by_12_or_8_pixels_a_recurrence(kernel: int, side: int, left: int) -> None:
    """What is left of a square hole after six recurrences, in cells of two pixels."""
    network = create("rfr", width=8, kernel=kernel).eval()
    maps: list[Tensor] = []
    network.reason.register_forward_pre_hook(lambda _m, given: maps.append(given[1]))
    hole = torch.zeros(1, 1, 256, 256)
    low = 128 - side // 2
    hole[..., low : low + side, low : low + side] = 1
    with torch.inference_mode():
        network(torch.zeros(1, 3, 256, 256), hole)
    assert len(maps) == 6
    across = [int((1 - known).sum().sqrt()) for known in maps]
    step = 2 * 2 * (kernel // 2)
    assert across == [max(0, across[0] - i * step) for i in range(6)]
    assert across[-1] == left


# Attention ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_the_lean_attention_equals_its_definition(first: bool) -> None:
    held = torch.softmax(torch.randn(2, 30, 30), -1).double()
    known = (torch.rand(2, 1, 5, 6) < 0.5).double()
    leaves = torch.randn(2, 7, 5, 6).double(), held, torch.tensor([-0.6]).double()
    results, seeds = [], (torch.randn(2, 7, 5, 6).double(), torch.randn(2, 30, 30).double())
    for form in (attention, attention_plain):
        features, scores, ratio = given = [leaf.clone().requires_grad_() for leaf in leaves]
        out = form(features) if first else form(features, Look(scores, known), ratio)
        gradients = torch.autograd.grad(out, given[:1] if first else given, seeds)
        results.append([*out, *gradients])
    for lean, plain in zip(*results, strict=True):
        assert_close(lean, plain, **EXACT)


def test_attention_cell_by_cell() -> None:
    """Loops from the description; two recurrences, so that the second keeps part of the first."""
    height, width = 3, 4
    cells = [(i, j) for i in range(height) for j in range(width)]
    maps = torch.randn(2, 5, height, width).double()
    known, ratio = (torch.rand(height, width) < 0.5).double(), torch.tensor([0.4], dtype=torch.float64)

    def shares(f: Tensor) -> Tensor:
        rows = []
        for qi, qj in cells:
            row = []
            for pi, pj in cells:
                key = f[:, pi, pj] + 1e-7
                key = key / key.norm()
                near = [(i, j) for i, j in cells if abs(i - qi) <= 1 and abs(j - qj) <= 1]
                row.append(sum(key @ f[:, i, j] for i, j in near))
            rows.append(torch.stack(row).softmax(0))
        return torch.stack(rows)

    old, new, r = shares(maps[0]), shares(maps[1]), 0.4 + 1e-7
    held = known.flatten()[:, None]
    mixed = (old * held + new * r) / (held + r)
    keys = (maps[1] + 1e-7).flatten(1)
    found = (keys / keys.norm(dim=0)) @ mixed.T

    _, scores = attention(maps[:1])
    assert_close(scores[0], old, **EXACT)
    result, scores = attention(maps[1:], Look(scores, known[None, None]), ratio)
    assert_close(scores[0], mixed, **EXACT)
    assert_close(result[0].flatten(1), found, **EXACT)


def test_shares_sum_to_one_and_unknown_cells_hold_on_to_nothing() -> None:
    features, known = torch.randn(2, 6, 4, 4), torch.zeros(2, 1, 4, 4)
    known[..., 2:, :] = 1
    held = torch.softmax(torch.randn(2, 16, 16), -1)
    _, alone = attention(features)
    _, mixed = attention(features, Look(held, known), torch.ones(1))
    assert_close(mixed.sum(-1), torch.ones(2, 16))
    assert torch.equal(mixed[:, :8], alone[:, :8])
    assert_close(mixed[:, 8:], (held + alone)[:, 8:] / 2)


def test_attention_computes_in_float32_under_autocast() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        features = (4 * torch.randn(1, 32, 6, 6)).to(dtype)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, scores = attention(features)
        assert found.dtype == dtype, dtype
        assert scores.dtype == torch.float32, dtype
        assert torch.equal(scores, attention(features.float())[1]), dtype


def test_the_known_map_at_the_attention_is_the_nearest_one() -> None:
    network = create("rfr", width=8).eval()
    known = (torch.rand(1, 1, 24, 40) < 0.5).float()
    _, look = network.reason(torch.rand(1, 8, 24, 40), known, None, lambda _site, f: f)
    assert torch.equal(look.known, F.interpolate(known, (6, 10), mode="nearest"))


# The whole ------------------------------------------------------------------------------------------------------------


def rewritten(p: dict[str, Tensor], corrupted: Tensor, hole: Tensor, recurrences: int, kernel: int) -> Tensor:
    """RFR in evaluation mode as a list of layers, on parameters in the original's names, slow and literal."""
    normed = lambda x, n: F.batch_norm(  # noqa: E731
        x, p[f"{n}.running_mean"], p[f"{n}.running_var"], p[f"{n}.weight"], p[f"{n}.bias"]
    )

    def partial(x: Tensor, mask: Tensor, name: str, stride: int = 1) -> tuple[Tensor, Tensor]:
        w = p[f"{name}.weight"]
        pad = w.shape[-1] // 2
        total = F.conv2d(mask, torch.ones_like(w), None, stride, pad)
        return F.conv2d(x * mask, w, None, stride, pad) * w[0].numel() / (total + 1e-8) * total.clamp(
            0, 1
        ), total.clamp(0, 1)

    def down(x: Tensor, name: str, **how) -> Tensor:
        return F.relu(normed(F.conv2d(x, p[f"{name}.0.weight"], **how), f"{name}.1"))

    def up(pair: list[Tensor], name: str, **how) -> Tensor:
        conv = F.conv2d if "dilation" in how else F.conv_transpose2d
        return F.leaky_relu(normed(conv(torch.cat(pair, 1), p[f"{name}.0.weight"], **how), f"{name}.1"), 0.2)

    m = (1 - hole).expand_as(corrupted)
    x, m = partial(corrupted, m, "Pconv1", 2)
    x, m = partial(F.relu(normed(x, "bn1")), m, "Pconv2")
    x = F.relu(normed(x, "bn20"))
    assert p["Pconv2.weight"].shape[-1] == kernel
    group, masks, before, u = [x], [m], None, "RFRModule"
    half, dil = {"stride": 2, "padding": 1}, {"padding": 2, "dilation": 2}
    for _ in range(recurrences):
        x, m = partial(x, m, "Pconv21")
        x, m = partial(x, m, "Pconv22")
        h = [F.leaky_relu(normed(x, "bn2"), 0.01)]
        for i in range(1, 7):
            h.append(down(h[-1], f"{u}.enc_{i}", **(half if i <= 3 else dil)))
        d = up([h[6], h[5]], f"{u}.dec_5", **dil)
        d = up([d, h[4]], f"{u}.dec_4", **dil)
        d = up([d, h[3]], f"{u}.dec_3", **half)
        small = F.interpolate(m[:, :1], d.shape[-2:], mode="nearest")
        found, scores = attention_plain(d, before, p[f"{u}.att.att.ratio"])
        before = Look(scores, small)
        combiner = f"{u}.att.combiner"
        d = F.conv2d(torch.cat([found, d], 1), p[f"{combiner}.weight"], p[f"{combiner}.bias"])
        d = up([d, h[2]], f"{u}.dec_2", **half)
        x = up([d, h[1]], f"{u}.dec_1", **half) * m
        group.append(x)
        masks.append(m)
    merged = torch.stack([g * k for g, k in zip(group, masks, strict=True)]).mean(0) / (
        torch.stack(masks).mean(0) + 1e-7
    )
    y = F.leaky_relu(normed(F.conv_transpose2d(merged, p["Tconv.weight"], **half), "bn3"), 0.01)
    both = torch.cat([(1 - hole).expand_as(corrupted), F.interpolate(m, scale_factor=2, mode="nearest")], 1)
    y = F.leaky_relu(partial(torch.cat([corrupted, y], 1), both, "tail1")[0], 0.01)
    z = F.relu(normed(F.conv2d(y, p["tail2.conv1.weight"]), "tail2.bn1"))
    z = F.relu(normed(F.conv2d(z, p["tail2.conv2.weight"], padding=1), "tail2.bn2"))
    z = F.relu(normed(F.conv2d(z, p["tail2.conv3.weight"]), "tail2.bn3") + y)
    return F.conv2d(torch.cat([y, z], 1), p["out.weight"], padding=1)


@pytest.mark.parametrize(("recurrences", "kernel"), [(6, 7), (3, 5), (1, 7)])
def test_the_network_equals_a_rewrite_layer_by_layer(recurrences: int, kernel: int) -> None:
    network = stirred(recurrences=recurrences, kernel=kernel)
    corrupted, hole = pictures(2, 64, 96, torch.float64)
    hole[0, :, 4:60, 4:90] = 1  # so large that something stays empty
    corrupted = corrupted * (1 - hole)
    with torch.no_grad():
        image = network(corrupted, hole).image
        expected = rewritten(rfr.to_original(network), corrupted, hole, recurrences, kernel)
    assert_close(image, expected, **EXACT)


def test_the_network_with_plain_forms_has_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    network = stirred(recurrences=3)
    given = pictures(2, dtype=torch.float64)
    parameters = list(network.parameters())
    lean = torch.autograd.grad(network(*given).image.square().sum(), parameters)
    monkeypatch.setattr(rfr, "attention", attention_plain)
    monkeypatch.setattr(rfr, "partial_conv", partial_conv_plain)
    plain = torch.autograd.grad(network(*given).image.square().sum(), parameters)
    for (name, _), a, b in zip(network.named_parameters(), lean, plain, strict=True):
        assert (a - b).abs().max() <= 1e-8 * b.abs().max(), name  # sums over pixels and recurrences, some cancel


def test_the_original_has_as_many_parameters() -> None:
    for options, count in (({}, 31_224_065), ({"kernel": 5}, 30_929_153)):
        with torch.device("meta"):
            network = create("rfr", **options)
        assert sum(p.numel() for p in network.parameters()) == count, options
        if not options:
            assert sum(b.numel() for b in network.buffers()) == 9_202, options


def test_each_site_is_visited_once_per_recurrence_from_fine_to_coarse_and_back() -> None:
    visits: list[str] = []
    network = create("rfr", width=8, recurrences=4).eval()
    network(*pictures(1), edit=lambda site, f: (visits.append(site), f)[1])
    assert visits == ["enc_1", "enc_2", "bottom", "dec_4"] * 4
    assert network.sites[-1].name == "bottom"


def test_a_memory_at_the_bottom_reads_in_each_recurrence_and_matters() -> None:
    network = create("rfr", width=8).eval()
    memory = ContextMemory(64, MemoryConfig(sets=2, contexts=3))
    model = MemoryInpainter(network, {"bottom": memory}).eval()
    given = pictures(2)
    alone = model(*given).prediction.image
    memory.seed_(torch.rand(40, 64), torch.Generator().manual_seed(0))
    result = model(*given)
    assert len(result.reads["bottom"]) == 6
    assert len({read.regions.sum().item() for read in result.reads["bottom"]}) == 6
    assert not torch.equal(result.prediction.image, alone)


def test_the_weight_of_new_scores_learns_only_where_there_are_old_ones() -> None:
    for recurrences in (1, 2):
        network = create("rfr", width=8, recurrences=recurrences)
        assert network.reason.attention.ratio.requires_grad == (recurrences > 1)


def test_complete_and_wholly_missing_pictures_are_finite() -> None:
    for share in (0.0, 1.0):
        network = create("rfr", width=8)
        hole = torch.full((2, 1, 32, 32), share)
        image = network(torch.rand(2, 3, 32, 32) * (1 - hole), hole).image
        image.square().sum().backward()
        assert torch.isfinite(image).all(), share
        assert all(torch.isfinite(p.grad).all() for p in network.parameters()), share


def test_bad_options_are_refused() -> None:
    for options, message in (
        ({"width": 0}, "multiple of 8; got 0"),
        ({"width": 12}, "multiple of 8; got 12"),
        ({"recurrences": 0}, "recurrences must be at least 1"),
        ({"kernel": 3}, r"kernel must be 7|parameter 'kernel'"),  # ours, or that of the shape checks while testing
    ):
        with pytest.raises(Exception, match=message):
            create("rfr", **options)


# Parameters of the original -------------------------------------------------------------------------------------------


def test_hostile_checkpoints_are_refused() -> None:
    for state, message in (
        ({}, "missing"),
        ({"n_iter": 3, "weights": {}}, "other values under n_iter, weights"),
        ({"Pconv1.weight": torch.zeros(12, 3, 7, 7)}, "multiple of 8; got 12"),
        ({"Pconv1.weight": torch.zeros(())}, "1 of another shape"),
        # a claim of some terabytes, refused before anything is allocated for it
        ({"Pconv1.weight": torch.zeros(1).expand(2**17, 3, 7, 7)}, "missing"),
    ):
        with pytest.raises(InputError, match=message):
            rfr.from_original(state)
    with pytest.raises(InputError, match="of another shape"):
        rfr.from_original(rfr.to_original(create("rfr", width=8)), width=16)


@pytest.mark.parametrize("kernel", [7, 5])
def test_the_remaining_hole_is_what_each_recurrence_masks(kernel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = RFR(8, recurrences=3, kernel=kernel).eval()  # type: ignore[arg-type]
    hole = torch.zeros(2, 1, 128, 96)
    hole[0, :, 8:120, 6:90] = 1
    hole[1, :, 60:70, 40:44] = 1
    seen = []
    plain = network.reason.forward
    monkeypatch.setattr(network.reason, "forward", lambda x, known, *rest: seen.append(known) or plain(x, known, *rest))
    with torch.no_grad():
        network(torch.rand(2, 3, 128, 96) * (1 - hole), hole)
    assert len(seen) == 3
    for visit, known in enumerate(seen):
        assert torch.equal(network.remaining(hole, visit), 1 - known)
    assert network.remaining(hole, 0).mean() > network.remaining(hole, 1).mean() > 0
