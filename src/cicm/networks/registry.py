"""Names of networks -> networks."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any

from cicm.conventions import InputError
from cicm.networks.contract import InpaintingNetwork

_MAKERS: dict[str, Callable[..., InpaintingNetwork]] = {}


def register(name: str) -> Callable[[type[InpaintingNetwork]], type[InpaintingNetwork]]:
    """Class decorator: `create(name, **options)` then calls the class, whose instances keep their `options`."""

    def add(maker: type[InpaintingNetwork]) -> type[InpaintingNetwork]:
        assert name not in _MAKERS, f"two networks named {name}"
        _MAKERS[name] = maker
        _keep_options(maker)
        return maker

    return add


def _keep_options(maker: type[InpaintingNetwork]) -> None:
    """So that a network that was not made by `create`, as from an original's weights, can still be described."""
    construct, signature = maker.__init__, inspect.signature(maker)

    @functools.wraps(construct)
    def construct_and_keep(self: InpaintingNetwork, *values: Any, **options: Any) -> None:
        construct(self, *values, **options)
        given = signature.bind(*values, **options)
        given.apply_defaults()
        self.options = dict(given.arguments)

    maker.__init__ = construct_and_keep  # type: ignore[assignment, method-assign]


def names() -> list[str]:
    """All registered names, sorted."""
    return sorted(_MAKERS)


def maker(name: str) -> Callable[..., InpaintingNetwork]:
    """The class behind a name."""
    if name not in _MAKERS:
        close = difflib.get_close_matches(name, _MAKERS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise InputError(f"unknown network {name!r}; known are {', '.join(names())}.{hint}")
    return _MAKERS[name]


def create(name: str, **options: Any) -> InpaintingNetwork:
    """Build a registered network.

    Example:
        >>> create("unet", width=8).sites[-1].stride
        16
    """
    accepted = list(inspect.signature(maker(name)).parameters)
    if unknown := sorted(set(options) - set(accepted)):
        raise InputError(f"network {name!r} has no option {unknown[0]!r}; it takes {', '.join(accepted)}.")
    return maker(name)(**options)
