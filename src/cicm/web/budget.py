"""Memory that the server may use, in bytes: one budget for what is sent and for what is decoded."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cicm.web.limits import Refused

MEMORY = 2 * 2**30
"""Bytes of uploads, answers and decoded photos together, beside the model; one largest photo alone may take more."""

PIXEL_BYTES = 24
"""Bytes that a pixel takes while its photo is decoded, filled and encoded: measured at 21 for 8-bit RGB."""


class Budget:
    """Who holds how many bytes.

    Uploads and answers may hold half of the whole. A client of another machine may hold a quarter of that half.

    Args:
        total: bytes.
    """

    def __init__(self, total: int = MEMORY) -> None:
        self.total = total
        self.decoded = 0
        self._clients: Counter[str] = Counter()
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def sent(self) -> int:
        """Bytes of uploads and answers."""
        return self._clients.total()

    def take(self, client: str, count: int) -> None:
        """Hold more bytes of an upload.

        Raises:
            Refused: 429, too many are held.
        """
        most = self.total // 2
        own = most if is_own(client) else most // 4
        if self.sent + count > most or self._clients[client] + count > own:
            raise Refused(
                429,
                "This server holds as many bytes of uploads as it may. Try again in 10 seconds.",
                {"Retry-After": "10"},
            )
        self._clients[client] += count

    def keep(self, client: str, count: int) -> None:
        """Hold the bytes of an answer, which is there already."""
        self._clients[client] += count

    def give(self, client: str, count: int) -> None:
        """Hold fewer."""
        self._clients[client] -= count
        if not self._clients[client]:
            del self._clients[client]
        self._let_in()

    @asynccontextmanager
    async def room(self, count: int) -> AsyncIterator[None]:
        """Room for decoded photos: first come, first served; one that needs more than there is waits to be alone."""
        turn = asyncio.get_running_loop().create_future()
        entry = (count, turn)
        self._line.append(entry)
        self._let_in()
        try:
            await turn
            yield
        finally:
            if entry in self._line:
                self._line.remove(entry)
            else:
                self.decoded -= count
            self._let_in()

    def _let_in(self) -> None:
        while self._line:
            count, turn = self._line[0]
            if self.decoded and self.decoded + self.sent + count > self.total:
                return
            self._line.popleft()
            self.decoded += count
            if not turn.done():
                turn.set_result(None)


def is_own(client: str) -> bool:
    """Whether a client is this machine: its programs and proxies stand for many, and share one address.

    Example:
        >>> [is_own(client) for client in ("127.0.0.1", "::1", "", "192.168.1.7")]
        [True, True, True, False]
    """
    try:
        return not client or ipaddress.ip_address(client).is_loopback
    except ValueError:
        return False
