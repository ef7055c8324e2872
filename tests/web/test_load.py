"""Many at a time, slow ones, and those that leave: bounded in bytes, pixels, places and time."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from cicm.conventions import InputError
from cicm.web.form import FILES, read_upload
from cicm.web.limits import Limits, Refused

from .conftest import Served, mask, photo

Serve = Callable[..., Served]


UNFINISHED = (
    b"POST /api/v1/inpaint HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b"
)


class Slow:
    """Holds the network before its first layer until it is let go."""

    def __init__(self, server: Served) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()
        self.calls = 0
        self.hook = server.shop.inpainter.model.register_forward_pre_hook(self._wait)

    def _wait(self, *_: object) -> None:
        self.calls += 1
        self.reached.set()
        assert self.go.wait(30)


@contextmanager
def slow(server: Served) -> Iterator[Slow]:
    made = Slow(server)
    try:
        yield made
    finally:
        made.go.set()
        made.hook.remove()


def soon(check: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not check() and time.monotonic() < deadline:
        time.sleep(0.02)
    return check()


# Bytes ----------------------------------------------------------------------------------------------------------------


def test_bytes_are_counted_while_they_come() -> None:
    """Of an endless upload no more is read than the limit and one piece."""
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        while True:
            given += 1000
            yield b"x" * 1000

    with pytest.raises(Refused) as refused:
        asyncio.run(read_upload("multipart/form-data; boundary=b", endless(), FILES, 50_000))
    assert refused.value.status == 413
    assert given <= 51_000


def test_too_many_bytes_told_or_not(serve: Serve) -> None:
    server = serve(max_bytes=20_000)
    answer = server.inpaint(b"x" * 30_000, mask())
    assert answer.status_code == 413
    assert "--max-bytes" in answer.json()["error"]
    body = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + b"x" * 30_000

    def pieces() -> Iterator[bytes]:  # without a Content-Length
        yield from (body[at : at + 1000] for at in range(0, len(body), 1000))

    kind = {"content-type": "multipart/form-data; boundary=b"}
    answer = server.client.post("/api/v1/inpaint", content=pieces(), headers=kind)
    assert answer.status_code == 413
    assert server.inpaint(photo(), mask()).status_code == 200


def test_too_many_pixels(serve: Serve) -> None:
    server = serve(max_pixels=2400)
    assert server.inpaint(photo(60, 40), mask(60, 40)).status_code == 200
    assert server.inpaint(photo(61, 40), mask(61, 40)).status_code == 413


@pytest.mark.parametrize(
    "wrong", [{"max_bytes": 5}, {"queue": -1}, {"timeout": 0}, {"timeout": float("nan")}, {"max_pixels": 0}]
)
def test_limits_that_would_let_nothing_in(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="or more"):
        Limits(**wrong)  # type: ignore[arg-type]


# Places and time ------------------------------------------------------------------------------------------------------


def test_a_full_line_says_when_to_come_again(serve: Serve) -> None:
    server = serve(queue=2)
    with ThreadPoolExecutor(3) as pool, slow(server) as held:
        inside = [pool.submit(server.inpaint, photo(), mask()) for _ in range(3)]
        assert soon(lambda: server.shop.waiting == 2)
        answer = server.inpaint(photo(), mask())
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert "2 photos are waiting" in answer.json()["error"]
        assert server.client.get("/api/v1/health").json()["waiting"] == 2
        held.go.set()
        assert [one.result().status_code for one in inside] == [200] * 3
    assert soon(lambda: server.shop.waiting == 0)
    assert server.inpaint(photo(), mask()).status_code == 200


def test_time_is_up(serve: Serve) -> None:
    server = serve(timeout=1.0)
    with slow(server) as held:
        threading.Timer(1.5, held.go.set).start()
        answer = server.inpaint(photo(), mask())
        assert answer.status_code == 503
        assert "--timeout" in answer.json()["error"]
    assert server.inpaint(photo(), mask()).status_code == 200


def test_an_upload_that_never_ends_takes_no_place(serve: Serve) -> None:
    server = serve(timeout=3.0, queue=0)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as line:
        line.sendall(UNFINISHED)
        assert soon(lambda: server.shop.budget.sent > 0)
        assert server.shop._inside.total() == 0
        assert b" 408 " in line.recv(4096)
    assert soon(lambda: server.shop.budget.sent == 0)
    assert server.inpaint(photo(), mask()).status_code == 200


def post_and_leave(server: Served) -> socket.socket:
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"; filename="a"\r\n\r\n%s\r\n' % (name, data)
        for name, data in ((b"image", photo()), (b"mask", mask()))
    )
    body += b"--b--\r\n"
    line = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    line.sendall(
        b"POST /api/v1/inpaint HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n%s" % (len(body), body)
    )
    return line


def test_who_leaves_is_taken_out_of_the_line_and_out_of_the_network(serve: Serve) -> None:
    server = serve()
    layers = []
    last = list(server.shop.inpainter.model.network.modules())[-1]
    last.register_forward_hook(lambda *_: layers.append(1))
    with slow(server) as held:
        lines = [post_and_leave(server)]
        assert held.reached.wait(10)
        lines += [post_and_leave(server) for _ in range(3)]
        assert soon(lambda: server.shop.waiting == 3)
        for line in lines[1:]:
            line.close()
        assert soon(lambda: server.shop.waiting == 0)  # the waiting ones go at once
        lines[0].close()
        assert soon(lambda: server.shop._current is None or server.shop._current.is_set())
        held.go.set()
        assert soon(lambda: server.shop._inside.total() == 0)
    assert held.calls == 1
    assert layers == []  # the one that ran did not get to its last layer
    assert server.inpaint(photo(), mask()).status_code == 200
    assert layers == [1]


# Many -----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_fifty_at_once_and_nobody_is_lost(serve: Serve) -> None:
    """Everyone gets the own photo back; memory after the second fifty is what it was after the first."""
    server = serve(queue=64)
    photos = [photo(320, 240, seed=seed) for seed in range(50)]
    hole = mask(320, 240, (100, 100, 140, 130))
    alone = [server.inpaint(data, hole).content for data in photos[:3]]

    def round_() -> list[bytes]:
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda data: server.inpaint(data, hole), photos))
        assert [answer.status_code for answer in answers] == [200] * 50
        return [answer.content for answer in answers]

    first = round_()
    assert first[:3] == alone
    assert len(set(first)) == 50
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        assert round_() == first
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown * (1 if sys.platform == "darwin" else 1024) < 32 * 2**20


@pytest.mark.slow
def test_albums_are_freed(serve: Serve) -> None:
    """Memory after some requests with albums is what it was after the first."""
    server = serve()
    album = [(f"{seed}.jpg", photo(2000, 1500, "JPEG", seed=seed)) for seed in range(1, 7)]

    def ask() -> None:
        answer = server.inpaint(photo(320, 240), mask(320, 240, (100, 100, 140, 130)), album=album)
        assert answer.status_code == 200, answer.text

    ask()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        ask()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown * (1 if sys.platform == "darwin" else 1024) < 40 * 2**20  # less than the album once more


def test_a_short_line_and_clients_that_come_again(serve: Serve) -> None:
    server = serve(queue=2)
    refused = []

    def insist(seed: int) -> int:
        for _ in range(200):
            answer = server.inpaint(photo(seed=seed), mask())
            if answer.status_code != 429:
                return answer.status_code
            refused.append(seed)
            time.sleep(0.02)
        return 0

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(insist, range(12))) == [200] * 12
    assert refused
    assert server.shop._inside.total() == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc and given back by glibc")
def test_memory_comes_back() -> None:
    """Of a server in a process of its own, with its decoders; most of what large photos took is free afterwards."""
    command = [sys.executable, "-m", "web.serving_memory"]
    tests = Path(__file__).parent.parent
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tests)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["statuses"] == [200] * 5
    taken, kept = told["peak"] - told["before"], told["after"] - told["before"]
    assert taken > 150, "the photos should have taken some memory"
    assert kept < taken / 2, told
