"""Names of networks -> networks."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from cicm.conventions import InputError
from cicm.networks.contract import InpaintingNetwork

_MAKERS: dict[str, Callable[..., InpaintingNetwork]] = {}


def register(name: str) -> Callable[[type[InpaintingNetwork]], type[InpaintingNetwork]]:
    """Class decorator: `create(name, **options)` then calls the class."""

    def add(maker: type[InpaintingNetwork]) -> type[InpaintingNetwork]:
        assert name not in _MAKERS, f"two networks named {name}"
        _MAKERS[name] = maker
        return maker

    return add


def names() -> list[str]:
    """All registered names, sorted."""
    return sorted(_MAKERS)


def maker(name: str) -> Callable[..., InpaintingNetwork]:
    """The class behind a name.

    Raises:
        InputError: an unknown name; the message lists the known ones.
    """
    if name not in _MAKERS:
        close = difflib.get_close_matches(name, _MAKERS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise InputError(f"unknown network {name!r}; known are {', '.join(names())}.{hint}")
    return _MAKERS[name]


def create(name: str, **options: Any) -> InpaintingNetwork:
    """Build a registered network.

    Args:
        name: one of `names()`.
        options: the network's own keyword arguments.

    Raises:
        InputError: an unknown name or option.

    Example:
        >>> create("unet", width=8).sites[-1].stride
        16
    """
    accepted = list(inspect.signature(maker(name)).parameters)
    if unknown := sorted(set(options) - set(accepted)):
        raise InputError(f"network {name!r} has no option {unknown[0]!r}; it takes {', '.join(accepted)}.")
    return maker(name)(**options)
