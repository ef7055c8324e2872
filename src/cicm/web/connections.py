"""Connections: as many as there is room for, none that says nothing for long, and none that takes no answer.

uvicorn counts idle connections against its limit and gives a new one no time in which to send a request. Here a new
connection is always let in: where there are too many, the one that has waited longest without a request makes room.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 512
"""Open at a time; a process may have 1024 files open on many machines."""

HEADER_SECONDS = 20.0
"""Seconds from the opening of a connection, or from the last answer, to the end of the next request's headers."""

STALLED_SECONDS = 30.0
"""Seconds after which a client that takes not a byte of its answer is cut off."""


class Connection(H11Protocol):
    """One connection, with a limit on the time that it may do nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._late: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether no request is under way: none came, or its headers are not complete, or it has its answer."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        others = [one for one in self.connections if isinstance(one, Connection)]
        if len(others) >= MAX_CONNECTIONS and not _make_room(others):
            transport.abort()
            return
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop(self._late)
        self._stop(self._stalled)
        if self.transport is not None:  # else it was turned away
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.idle:
            self._stop(self._late)

    def on_response_complete(self) -> None:
        self._wait_for_headers()
        super().on_response_complete()
        if not self.idle:  # the next request was there already
            self._stop(self._late)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._stop(self._stalled)
        super().resume_writing()

    def _wait_for_headers(self) -> None:
        self._stop(self._late)
        self._late = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _watch(self, left: int) -> None:
        """Look again later whether less is left to be sent."""

        def look() -> None:
            if (now := self.transport.get_write_buffer_size()) >= left:
                self.transport.abort()
            else:
                self._watch(now)

        self._stop(self._stalled)
        self._stalled = self.loop.call_later(STALLED_SECONDS, look)

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()


def _make_room(connections: list[Connection]) -> bool:
    """Close the idle connection that has waited longest, of the address that has most of them."""
    idle = [one for one in connections if one.idle and one._late is not None and not one.transport.is_closing()]
    if not idle:
        return False
    number = Counter(one.client[0] if one.client else "" for one in idle)
    most = number.most_common(1)[0][0]
    oldest = min((one for one in idle if (one.client[0] if one.client else "") == most), key=_since)
    oldest.transport.abort()
    oldest.connections.discard(oldest)
    return True


def _since(connection: Connection) -> float:
    return connection._late.when() if connection._late is not None else 0.0


def configuration(app: Any, **more: Any) -> uvicorn.Config:
    """How uvicorn serves an application: these connections, no access log, nothing about itself in the answers."""
    return uvicorn.Config(
        app,
        http=Connection,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        ws="none",
        lifespan="on",
        backlog=MAX_CONNECTIONS,
        **{"timeout_graceful_shutdown": 3, **more},
    )
