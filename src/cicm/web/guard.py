"""What every request passes before anything else: whose name it calls, which page sent it, whether it knows the token.

A server on loopback is reachable by every page that a browser on this machine has open. Pages of other origins are told
by the `Origin` that browsers send with a POST; a page that gave its own name our address (DNS rebinding) by the `Host`.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from cicm.web.limits import Refused

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_OPEN = ("/api/v1/health",)
"""Paths of the interface that need no token."""


class Guard:
    """An ASGI application around another.

    Args:
        app: called for what passes.
        names: host names that are this server's, beside `localhost` and every address in digits.
        token: what the interface asks for; None asks for nothing. The page itself is open: it holds no photo.
    """

    def __init__(self, app: Any, names: Collection[str] = (), token: str | None = None) -> None:
        self.app = app
        self.names = {"localhost", *(name.lower().rstrip(".") for name in names)}
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no web sockets here
            return
        headers = {name.lower(): value for name, value in scope["headers"]}

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message.get("headers", ())}
                more = dict(HEADERS)
                if b"cache-control" not in there:
                    more["cache-control"] = "no-store"
                extra = [(name.encode(), value.encode()) for name, value in more.items()]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        try:
            self.check(scope["method"], scope["path"], headers)
        except Refused as refusal:
            await _answer(guarded, refusal)
            return
        await self.app(scope, receive, guarded)

    def check(self, method: str, path: str, headers: dict[bytes, bytes]) -> None:
        """Let a request pass.

        Raises:
            Refused: 403 another host's name or another page, 401 no token.
        """
        host = headers.get(b"host", b"").decode("latin-1")
        if not self.knows(host):
            raise Refused(
                403,
                f"This server does not answer to the name {host[:80]!r}. Use its address, or start it with "
                "--host-name NAME.",
            )
        if method not in ("GET", "HEAD"):
            origin = headers.get(b"origin")
            same = origin is None or origin.decode("latin-1").partition("://")[2].lower() == host.lower()
            if not same or headers.get(b"sec-fetch-site", b"none") not in (b"same-origin", b"none"):
                raise Refused(403, "Pages of other sites may not use this server. Open its own page.")
        if self.token and path.startswith("/api/") and path not in _OPEN:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self.token.encode()):
                raise Refused(
                    401,
                    "This server asks for a token. Send the header `Authorization: Bearer TOKEN` with the one that it "
                    "printed when it started.",
                    {"WWW-Authenticate": "Bearer"},
                )

    def knows(self, host: str) -> bool:
        """Whether a `Host` header calls this server.

        Example:
            >>> guard = Guard(None, ["studio.local"])
            >>> [guard.knows(h) for h in ("127.0.0.1:8080", "[::1]:80", "Studio.local", "evil.example:8080", "")]
            [True, True, True, False, False]
        """
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@\s]+)(:\d{1,5})?", host)
        if match is None:
            return False
        name = match[1].lower().rstrip(".")
        if name in self.names:
            return True
        try:  # an address in digits can't be rebound: it is no name
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


async def _answer(send: Send, refusal: Refused) -> None:
    body = json.dumps({"status": refusal.status, "error": refusal.reason}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
