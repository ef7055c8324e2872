"""Tensors in an archive of `torch.save` or TorchScript that holds more than tensors, read without running any of it.

The pickle in it is taken apart as a list of instructions. Nothing that it names is imported or called: a class or a
function is its name, an object its name and its contents. Of these only what describes a tensor is looked at.
"""

from __future__ import annotations

import math
import pickletools
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_TENSORS = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor")
_PARAMETERS = ("torch._utils _rebuild_parameter",)
_MAX_PICKLE_BYTES = 2**26
_MAX_NAME = 300


class ArchiveError(ValueError):
    """An archive that is damaged, or that holds what is not understood here."""


@dataclass(eq=False)
class Made:
    """What the pickle would have called a name for, and what it would have put in.

    Args:
        name: "module name", never imported.
        given: the arguments.
        state: what would have been set on it, or its items.
    """

    name: str
    given: Any = ()
    state: Any = None


@dataclass(frozen=True)
class Stored:
    """A block of numbers in the archive: their type, the file's name, how many."""

    dtype: torch.dtype
    key: str
    count: int


class View(NamedTuple):
    """A tensor as a part of a block."""

    stored: Stored
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def is_torchscript(names: list[str]) -> bool:
    """Whether the entries of an archive are those of a TorchScript file.

    Example:
        >>> is_torchscript(["a/data.pkl", "a/code/b.py", "a/constants.pkl"]), is_torchscript(["a/data.pkl"])
        (True, False)
    """
    return any(name.split("/", 1)[-1] == "constants.pkl" for name in names)


def tensors_of_archive(archive: zipfile.ZipFile, prefixes: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The named tensors in an archive; names are joined by dots, as in a state dict.

    Args:
        archive: its sizes are bounded by the caller.
        prefixes: only what begins with the first of these that any name begins with; everything if none does.

    Raises:
        ArchiveError: no such archive, or damage.
        zipfile.BadZipFile, OSError, ValueError, ...: damage to the archive itself.
    """
    pickled = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise ArchiveError("it has no data.pkl, or several")
    if archive.getinfo(pickled[0]).file_size > _MAX_PICKLE_BYTES:
        raise ArchiveError(f"its data.pkl is larger than {_MAX_PICKLE_BYTES >> 20} MiB")
    root = pickled[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise ArchiveError("its numbers are not little-endian")
    found = dict(_named(read_pickle(archive.read(pickled[0]))))
    chosen = prefix_of(found, prefixes)
    views = {name: _view(name, made) for name, made in found.items() if name.startswith(chosen)}
    claimed = sum(view.stored.dtype.itemsize * math.prod(view.size) for view in views.values())
    if claimed > 2 * sum(entry.file_size for entry in archive.infolist()):  # many names for the same numbers
        raise ArchiveError(f"it claims tensors of {claimed} bytes, more than it has")
    blocks = {view.stored: _block(archive, f"{root}data/", view.stored) for view in views.values()}
    return {name: blocks[v.stored].as_strided(v.size, v.stride, v.offset).contiguous() for name, v in views.items()}


def prefix_of(names: Iterable[str], prefixes: Iterable[str]) -> str:
    """The first prefix that any of the names begins with; empty if none does.

    Example:
        >>> prefix_of(["a.b", "c.d"], ["x.", "c."])
        'c.'
    """
    known = list(names)
    return next((prefix for prefix in prefixes if any(name.startswith(prefix) for name in known)), "")


def _named(top: Any) -> Iterator[tuple[str, Made]]:
    """(name, description of a tensor) of everything that lies below names alone; each object is entered once.

    Names longer than any network's, as settings nested in settings make them, are not followed.
    """
    waiting: list[tuple[str, Any]] = [("", top)]
    entered: set[int] = set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Made) and value.name in _PARAMETERS and isinstance(value.given, tuple) and value.given:
            value = value.given[0]
        if isinstance(value, Made) and value.name in _TENSORS:
            yield name, value
            continue
        inner = value.state if isinstance(value, Made) else value
        if isinstance(inner, dict) and id(inner) not in entered:
            entered.add(id(inner))
            below = [(f"{name}.{key}" if name else key, child) for key, child in inner.items()]
            waiting += reversed([one for one in below if len(one[0]) <= _MAX_NAME])


def _view(name: str, made: Made) -> View:
    """What a description of a tensor says, if that lies within the block that it names."""
    try:
        stored, offset, size, stride = made.given[:4]
        size, stride = tuple(size), tuple(stride)
        plain = isinstance(stored, Stored) and all(type(n) is int and n >= 0 for n in (offset, *size, *stride))
        if not plain or len(size) != len(stride) or len(size) > 8:
            raise TypeError
    except (TypeError, ValueError):
        raise ArchiveError(f"{name[:60]!r} is described as no tensor is") from None
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) > stored.count or (math.prod(size) and last >= stored.count):
        raise ArchiveError(f"{name[:60]!r} claims more numbers than are there")
    return View(stored, offset, size, stride)


def _block(archive: zipfile.ZipFile, folder: str, stored: Stored) -> Tensor:
    try:
        info = archive.getinfo(f"{folder}{stored.key}")
    except KeyError:
        raise ArchiveError(f"the numbers {stored.key[:40]!r} are missing") from None
    expected = stored.count * stored.dtype.itemsize
    if info.file_size != expected:
        raise ArchiveError(f"the numbers {stored.key[:40]!r} are {info.file_size} bytes, not {expected}")
    data = bytearray(archive.read(info))
    return torch.frombuffer(data, dtype=stored.dtype) if data else torch.empty(0, dtype=stored.dtype)


# The pickle, as a list of instructions --------------------------------------------------------------------------------


class _Mark:
    """Where a row of arguments begins."""


_PLAIN = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list}
_VALUES = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(data: bytes) -> Any:
    """What a pickle describes: plain data, `Made` for everything that it would have built, `Stored` for tensors' data.

    Raises:
        ArchiveError: damage, or an instruction that no such file has.
    """
    try:
        return _Reader().run(data)
    except ArchiveError:
        raise
    except Exception as error:  # of hostile bytes pickletools may raise anything
        raise ArchiveError(f"its pickle is damaged ({type(error).__name__})") from None


class _Reader:
    """The stack machine of a pickle, without the calls."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                if len(self.stack) != 1 or self.stack[0] is _Mark:
                    raise ArchiveError("its pickle is damaged")
                return self.stack[0]
            self.step(opcode.name, argument)
        raise ArchiveError("its pickle has no end")

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _PLAIN:
            stack.append(_PLAIN[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_Mark)
        elif name in _SHORT_TUPLES:
            count = _SHORT_TUPLES[name]
            if len(stack) < count:
                raise ArchiveError("its pickle is damaged")
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("TUPLE", "LIST", "FROZENSET"):
            row = self.since_mark()
            stack.append(tuple(row) if name == "TUPLE" else row)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            row = [stack.pop()] if name == "APPEND" else self.since_mark()
            self.extend(stack[-1], row)
        elif name == "DICT":
            row = self.since_mark()
            stack.append({})
            self.put_in(stack[-1], row)
        elif name in ("SETITEM", "SETITEMS"):
            row = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self.since_mark()
            self.put_in(stack[-1], row)
        elif name in ("GLOBAL", "INST", "STACK_GLOBAL", "OBJ"):
            self.name_something(name, argument)
        elif name in ("REDUCE", "NEWOBJ"):
            given = stack.pop()
            stack.append(Made(self.called(stack.pop()), given))
        elif name == "NEWOBJ_EX":
            del stack[-1]
            given = stack.pop()
            stack.append(Made(self.called(stack.pop()), given))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Made) and not isinstance(stack[-1].state, dict):
                stack[-1].state = state
        elif name in ("BINPERSID", "PERSID"):
            stack.append(self.stored(stack.pop() if name == "BINPERSID" else argument))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self.since_mark()
        elif name not in ("PROTO", "FRAME"):
            raise ArchiveError(f"its pickle has the instruction {name}, which no such file has")

    def since_mark(self) -> list[Any]:
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _Mark:
                row = self.stack[place + 1 :]
                del self.stack[place:]
                return row
        raise ArchiveError("its pickle is damaged")

    def extend(self, target: Any, row: list[Any]) -> None:
        if isinstance(target, list):
            target.extend(row)

    def put_in(self, target: Any, row: list[Any]) -> None:
        """Key and value in turn; the items of an object, as an ordered dict's, become its contents."""
        if isinstance(target, Made):
            target.state = target.state if isinstance(target.state, dict) else {}
            target = target.state
        for key, value in zip(row[::2], row[1::2], strict=True):
            if isinstance(target, dict) and isinstance(key, str):  # what has no name is no part of a network
                target[key] = value

    def name_something(self, name: str, argument: Any) -> None:
        if name == "STACK_GLOBAL":
            second, first = self.stack.pop(), self.stack.pop()
            self.stack.append(Made(f"{first} {second}"[:_MAX_NAME]))
        elif name == "GLOBAL":
            self.stack.append(Made(str(argument)[:_MAX_NAME]))
        else:
            row = self.since_mark()
            made = self.called(row.pop(0)) if name == "OBJ" else str(argument)[:_MAX_NAME]
            self.stack.append(Made(made, tuple(row)))

    def called(self, what: Any) -> str:
        return what.name if isinstance(what, Made) else ""

    def stored(self, given: Any) -> Stored:
        """("storage", type, name of the file, device, count), as torch writes it."""
        if isinstance(given, tuple) and len(given) >= 5 and given[0] == "storage" and isinstance(given[1], Made):
            _, kind, key, _, count = given[:5]
            if isinstance(key, str) and type(count) is int and count >= 0:
                if (dtype := DTYPES.get(kind.name.split(" ")[-1])) is None:
                    raise ArchiveError(f"numbers of the type {kind.name[:60]!r} are not read")
                return Stored(dtype, key, count)
        raise ArchiveError("its pickle points to something else than tensors' numbers")
