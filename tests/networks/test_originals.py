"""Names of the original code into ours and back; where the networks come from; which original a file is of."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cicm.conventions import InputError
from cicm.networks import create, maker, names, originals, register, registry
from cicm.networks.contract import InpaintingNetwork
from cicm.networks.inventory import facts
from cicm.networks.originals import (
    Misfit,
    compare_original,
    convertible,
    dump_original,
    load_original,
    origin,
    original_code,
    original_shapes,
    recognise,
)

SMALL = {"rfr": 8, "misf": 4, "jpgnet": 4, "lama": 2, "migan": 4, "gated": 4, "pen": 4, "spg": 4, "spl": 4}


class Pair(InpaintingNetwork):
    """Two layers, which its original calls a and b."""

    def __init__(self, width: int = 2, colour: str = "red") -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, 3), nn.Linear(3, 1, bias=False)


def rename(name: str) -> str:
    return name.replace("first", "a").replace("second", "b")


# Names ----------------------------------------------------------------------------------------------------------------


def test_into_ours_and_back_bit_for_bit() -> None:
    state = {"b.weight": torch.randn(1, 3), "a.weight": torch.randn(3, 2), "a.bias": torch.randn(3)}
    pair = Pair()
    load_original(pair, state, rename)
    assert torch.equal(pair.first.weight, state["a.weight"])
    back = dump_original(pair, rename)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    back["a.bias"].zero_()  # a copy, not the network's own
    assert torch.equal(pair.first.bias, state["a.bias"])


def test_all_that_does_not_fit_is_told_and_nothing_is_copied() -> None:
    pair = Pair()
    before = copy.deepcopy(pair.state_dict())
    state = {"a.weight": torch.randn(3, 5), "a.bias": torch.randn(3), "c": torch.randn(1), "d": torch.randn(1)}
    fit = compare_original(pair, state, rename)
    assert fit.missing == ("b.weight",)
    assert fit.surplus == ("c", "d")
    assert fit.misshapen == (("a.weight", (3, 2), (3, 5)),)
    with pytest.raises(Misfit, match="1 missing, 2 surplus, 1 of another shape") as caught:
        load_original(pair, state, rename)
    assert caught.value.fit == fit
    for line in ("missing  b.weight", "surplus  c", "surplus  d", "shape    a.weight: expected (3, 2), got (3, 5)"):
        assert f"\n  {line}" in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in pair.state_dict().items())


def test_without_numbers_names_and_shapes_are_still_told() -> None:
    with torch.device("meta"):
        dumped = dump_original(Pair(), rename)
    assert {name: tuple(tensor.shape) for name, tensor in dumped.items()} == {
        "a.weight": (3, 2),
        "a.bias": (3,),
        "b.weight": (1, 3),
    }
    assert all(tensor.is_meta for tensor in dumped.values())


# What a network was made with -----------------------------------------------------------------------------------------


def test_a_registered_network_keeps_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_MAKERS", dict(registry._MAKERS))
    made = register("pair")(Pair)
    assert create("pair").options == {"width": 2, "colour": "red"}
    assert made(5, colour="blue").options == {"width": 5, "colour": "blue"}
    assert copy.deepcopy(made(7)).options["width"] == 7
    with pytest.raises(InputError, match="it takes width, colour"):
        create("pair", height=3)
    assert origin("pair").source == "not stated"
    assert "pair" not in convertible()


def test_the_options_make_the_network_again() -> None:
    for name in names():
        with torch.device("meta"):
            network = create(name, width=16)
            again = create(name, **network.options)
        assert again.options == network.options, name
        assert network.options["width"] == 16, name
        shapes = [{key: tensor.shape for key, tensor in one.state_dict().items()} for one in (network, again)]
        assert shapes[0] == shapes[1], name


# Origins --------------------------------------------------------------------------------------------------------------


def test_every_network_of_this_package_says_where_it_comes_from() -> None:
    ours = [name for name in names() if maker(name).__module__.startswith("cicm.")]
    assert sorted(originals.ORIGINS) == ours
    for name in ours:
        known = origin(name)
        assert known.licence
        assert known.source.startswith("this project") == (known.revision == "") == (name not in convertible())
        assert str(known).startswith(known.source)
        assert facts(name, 64).origin.licence == known.licence


def test_what_has_no_licence_says_so() -> None:
    for name in ("misf", "jpgnet", "spg", "spl"):
        assert "no licence file" in origin(name).licence
        assert "all rights reserved" in origin(name).licence
    assert origin("rfr").licence.startswith("MIT")


# Recognising ----------------------------------------------------------------------------------------------------------


def test_which_networks_have_an_original() -> None:
    assert convertible() == sorted(SMALL)
    with pytest.raises(InputError, match=f"'unet' has no original.*{', '.join(sorted(SMALL))}"):
        original_code("unet")
    with pytest.raises(InputError, match="unknown network 'rfx'"):
        original_code("rfx")


@pytest.mark.parametrize("name", SMALL)
def test_a_file_is_recognised_at_any_width_and_never_taken_for_another(name: str) -> None:
    for part, shapes in original_shapes(name, width=SMALL[name]).items():
        state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
        guess = recognise(state)
        assert guess is not None
        assert (guess.network, guess.part, guess.fitting, guess.count) == (name, part, len(shapes), len(shapes))
        fewer = dict(list(state.items())[: len(state) // 2])
        assert recognise(fewer) is None
        almost = dict(list(state.items())[1:]) | {"extra": torch.empty(1)}
        guess = recognise(almost)
        assert guess is not None
        assert (guess.network, guess.fitting, guess.count) == (name, len(shapes) - 1, len(shapes))
    assert recognise({}) is None
    assert recognise({"weight": torch.empty(1)}) is None
