"""What one server takes on, and how it says no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cicm.conventions import InputError

MAX_FIELD = 2**20
"""Bytes of the longest text field: some thirty thousand boxes."""


@dataclass(frozen=True)
class Limits:
    """What one request may cost, and how many may be in the house.

    Args:
        max_bytes: of one request's body.
        max_pixels: of one picture; told by its header, before it is decoded.
        max_album: other photos that one request may bring.
        max_album_pixels: of all of these together.
        queue: requests that may wait while one is worked on.
        timeout: seconds from the first byte of a request to the last of its answer.

    Raises:
        InputError: a number that would let nothing in.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 50_000_000
    max_album: int = 12
    max_album_pixels: int = 100_000_000
    queue: int = 16
    timeout: float = 120.0

    def __post_init__(self) -> None:
        least = {
            "max_bytes": 1024,
            "max_pixels": 1,
            "max_album": 0,
            "max_album_pixels": 1,
            "queue": 0,
            "timeout": 1.0,
        }
        for name, low in least.items():
            value = getattr(self, name)
            if not value >= low:
                raise InputError(f"{name} must be {low:g} or more; got {value}.")


class Refused(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        reason: one sentence on what was wrong, then what to do.
        headers: to send along.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


def too_many_bytes(limit: int) -> Refused:
    """The refusal of a body beyond the limit."""
    return Refused(
        413,
        f"The upload is larger than {_megabytes(limit)}, the most that this server takes. "
        "Save the photo smaller or cut out the part to repair, or start the server with a larger --max-bytes.",
    )


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.4g} MiB" if count >= 2**20 else f"{count} bytes"
