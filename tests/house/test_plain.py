"""Plain data: strictly in, the same out again; TOML and JSON that is refused is refused in one line."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cicm.conventions import InputError
from cicm.plain import dump_json, dump_toml, from_plain, read_json, read_toml, to_plain


@dataclass(frozen=True)
class Inner:
    size: int = 1
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.size > 9:
            raise InputError(f"size must be at most 9; got {self.size}.")


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    table: dict[str, Inner] = field(default_factory=dict)
    pair: tuple[float, float] = (0.0, 1.0)
    names: tuple[str, ...] = ()
    many: tuple[Inner, ...] = ()
    maybe: int | None = None
    either: int | str = 0
    flag: bool = False
    free: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Needs:
    it: int


def test_what_a_file_gives_becomes_the_dataclass_and_back() -> None:
    plain = {
        "inner": {"size": 3}, "table": {"x": {"kind": "b"}}, "pair": [1, 2.5], "names": ["a"],
        "many": [{}, {"size": 2}], "maybe": 4, "either": "x", "free": {"a": [1, {"b": None}]},
    }  # fmt: skip
    built = from_plain(Outer, plain)
    assert built == Outer(
        Inner(3), {"x": Inner(kind="b")}, (1.0, 2.5), ("a",), (Inner(), Inner(2)), 4, "x", free={"a": [1, {"b": None}]}
    )
    assert type(built.pair[0]) is float
    assert from_plain(Outer, to_plain(built)) == from_plain(Outer, {**to_plain(built)}) != Outer()
    assert "maybe" not in to_plain(Outer())
    assert to_plain(from_plain(Outer, {})) == to_plain(Outer())  # every default is written
    assert list(to_plain(from_plain(Outer, {}))) == list(to_plain(Outer()))
    assert from_plain(Outer, {"inner": Inner(3)}) == Outer(Inner(3))  # a finished one may stand for its dict


REFUSED = [
    ({"flag": 1}, "flag must be true or false; got 1."),
    ({"inner": 3}, "inner must be a table; got 3."),
    ([], "the whole must be a table; got []."),
    ({"inner": {"size": 1.0}}, "inner.size must be an integer; got 1.0."),
    ({"inner": {"size": True}}, "inner.size must be an integer; got True."),
    ({"inner": {"size": "1"}}, "inner.size must be an integer; got '1'."),
    ({"inner": {"size": 10}}, "size must be at most 9; got 10."),
    ({"inner": {"kind": "c"}}, "inner.kind must be one of 'a', 'b'; got 'c'."),
    ({"inner": {"kind": []}}, "inner.kind must be one of 'a', 'b'; got []."),
    ({"names": "ab"}, "names must be a list; got 'ab'."),
    ({"names": ["a", 1]}, "names[1] must be a string; got 1."),
    ({"pair": [1.0]}, "pair must be a list of 2; got [1.0]."),
    ({"pair": [1.0, False]}, "pair[1] must be a number; got False."),
    ({"pair": [1.0, 10**400]}, "pair[1] must be a whole number of at most 64 bits"),
    ({"table": []}, "table must be a table; got []."),
    ({"table": {"a.b": {"size": "x"}}}, "table.a.b.size must be an integer; got 'x'."),
    ({"many": [{}, {"size": "x"}]}, "many[1].size must be an integer; got 'x'."),
    ({"many": [{"sise": 1}]}, "unknown key 'many[0].sise'; did you mean 'many[0].size'?"),
    ({"maybe": "x"}, "maybe must be an integer; got 'x'."),
    ({"either": 1.5}, "either must be an integer or a string; got 1.5."),
    ({"fla": True}, "unknown key 'fla'; did you mean 'flag'?"),
    ({"zzzzz": True}, "known here are either, flag, free"),
]


def test_what_does_not_fit_is_refused_with_its_place() -> None:
    for plain, message in REFUSED:
        with pytest.raises(InputError) as error:
            from_plain(Outer, plain)
        assert message in str(error.value), plain
    with pytest.raises(InputError, match=r"row 3\.it is missing"):
        from_plain(Needs, {}, "row 3")


WHOLE = st.integers(-(2**63), 2**63 - 1)  # what TOML promises
PLAIN = st.recursive(
    st.booleans() | WHOLE | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.dictionaries(st.text(max_size=6), inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=6), PLAIN, max_size=4))
def test_toml_written_is_toml_read(plain: dict[str, Any]) -> None:
    assert tomllib.loads(dump_toml(plain)) == plain


def test_json_is_finite_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(dump_json({"a": [1, 0.1, "ü"]}), encoding="utf-8")
    assert read_json(path, "x") == {"a": [1, 0.1, "ü"]}
    with pytest.raises(ValueError, match="JSON"):
        dump_json([float("nan")])
    for text in ("[NaN]", "[-Infinity]", "[1e999]", "[" * 100_000, "9" * 5000, "[1] x", "\xff"):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match=r"the header .*a\.json can't be read as JSON: .*\.$") as error:
            read_json(path, "header")
        assert "\n" not in str(error.value)
    (tmp_path / "a.json").write_text("[1.5]")
    assert read_json(tmp_path / "a.json", "list", 10) == [1.5]
    with pytest.raises(InputError, match=r"the list .*a\.json is larger than 3 bytes"):
        read_json(tmp_path / "a.json", "list", 3)
    with pytest.raises(InputError, match=r"the list .*none\.json does not exist"):
        read_json(tmp_path / "none.json", "list")


def test_toml_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    for data in (b"a = ", b"\xff\xfe\x00", b"a = " + b"[" * 100_000, b"a = " + b"9" * 5000):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"cannot be read as a recipe: .* A recipe is a TOML") as error:
            read_toml(path, "recipe")
        assert "\n" not in str(error.value)
    path.write_text("a = 1\n")
    assert read_toml(path, "recipe") == {"a": 1}
