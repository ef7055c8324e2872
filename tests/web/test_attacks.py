"""Clients that want to lock everyone out: they stop, stay silent, take no answer, or send what holds a decoder."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from cicm.conventions import InputError
from cicm.web import connections, server
from cicm.web.budget import PIXEL_BYTES, Budget
from cicm.web.decoders import Decoders, Gone
from cicm.web.limits import Limits, Refused
from cicm.web.opening import opened
from cicm.web.workshop import Workshop

from .conftest import Served, mask, photo, tiny
from .test_load import UNFINISHED, slow, soon

Serve = Callable[..., Served]


def line_to(served: Served, stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=60))


def is_closed(line: socket.socket, seconds: float = 60) -> bool:
    """Whether the other side ends the connection."""
    line.settimeout(seconds)
    try:
        while line.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


# Places and connections -----------------------------------------------------------------------------------------------


def test_uploads_that_stop_lock_nobody_out(serve: Serve) -> None:
    served = serve(queue=2)
    with ExitStack() as stack:
        for _ in range(20):
            line_to(served, stack).sendall(UNFINISHED)
        assert soon(lambda: served.shop.budget.sent == 20 * 3)
        assert served.client.get("/api/v1/health").json() == {"status": "ok", "waiting": 0}
        assert served.inpaint(photo(), mask()).status_code == 200
    assert soon(lambda: served.shop.budget.sent == 0)


def test_a_silent_upload_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SILENCE", 0.3)
    served = serve()
    with ExitStack() as stack:
        line = line_to(served, stack)
        line.sendall(UNFINISHED)
        assert b" 408 " in line.recv(4096)
    assert soon(lambda: served.shop.budget.sent == 0)


def test_idle_connections_make_room(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 12)
    served = serve()
    with ExitStack() as stack:
        lines = [line_to(served, stack) for _ in range(40)]
        lines[-1].sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b" 200 " in lines[-1].recv(4096)
        assert served.client.get("/api/v1/health").status_code == 200
        assert served.inpaint(photo(), mask()).status_code == 200
        assert is_closed(lines[0])  # the oldest goes first


def test_a_connection_in_work_is_not_closed_for_another(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 4)
    served = serve()
    with ExitStack() as stack, slow(served) as held, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(served.inpaint, photo(), mask())
        assert held.reached.wait(60)
        for _ in range(20):
            line_to(served, stack)
        held.go.set()
        assert answer.result().status_code == 200


def test_headers_must_come_in_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    served = serve()
    with ExitStack() as stack:
        silent, half, again = (line_to(served, stack) for _ in range(3))
        half.sendall(b"GET / HTTP/1.1\r\nHost: 127")
        again.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b" 200 " in again.recv(4096)
        again.sendall(b"GET / HT")  # a second request that stops
        assert all(is_closed(line) for line in (silent, half, again))


def test_work_may_take_longer_than_headers(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.5)
    served = serve()
    with slow(served) as held:
        threading.Timer(1.5, held.go.set).start()
        assert served.inpaint(photo(), mask()).status_code == 200


def test_a_client_that_takes_no_answer_is_cut_off(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALLED_SECONDS", 0.5)
    served = serve()
    values = np.random.default_rng(0).integers(0, 256, (1500, 1600, 3), dtype=np.uint8)
    body = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    body += encoded(values) + b'\r\n--b\r\nContent-Disposition: form-data; name="boxes"\r\n\r\n[[5,5,9,9]]\r\n--b--\r\n'
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", served.port))
        line.sendall(
            b"POST /api/v1/inpaint HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n%s" % (len(body), body)
        )
        assert soon(lambda: served.shop._inside.total() == 1, 60)
        assert soon(lambda: served.shop._inside.total() == 0, 60)
        assert soon(lambda: served.shop.budget.sent == 0, 60)
    assert served.client.get("/api/v1/health").status_code == 200


def encoded(values: np.ndarray) -> bytes:
    """An uncompressed file."""
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "BMP")
    return stream.getvalue()


def test_half_of_the_line_is_left_to_others() -> None:
    shop = Workshop(tiny(), Limits(queue=3), Decoders())

    async def fill() -> None:
        async with shop.place("192.168.1.7"), shop.place("192.168.1.7"):
            with pytest.raises(Refused, match="2 photos of yours"):
                shop.check_line("192.168.1.7")
            async with shop.place("192.168.1.8"), shop.place("127.0.0.1"):
                with pytest.raises(Refused, match="3 photos are waiting"):
                    shop.check_line("127.0.0.1")
        async with shop.place(), shop.place("127.0.0.1"), shop.place("127.0.0.1"), shop.place("127.0.0.1"):
            pass
        assert not shop._inside

    asyncio.run(fill())
    shop.close()


# Bytes ----------------------------------------------------------------------------------------------------------------


def test_uploads_share_half_of_the_budget() -> None:
    budget = Budget(800)
    budget.take("192.168.1.7", 100)
    with pytest.raises(Refused, match="bytes of uploads") as refused:
        budget.take("192.168.1.7", 1)
    assert refused.value.status == 429
    budget.take("127.0.0.1", 300)
    with pytest.raises(Refused):
        budget.take("192.168.1.8", 1)
    budget.give("127.0.0.1", 300)
    budget.take("192.168.1.8", 1)
    assert budget.sent == 101


def test_room_is_given_in_order_and_comes_back() -> None:
    async def play() -> list[str]:
        budget, told = Budget(100), []

        async def work(name: str, count: int) -> None:
            async with budget.room(count):
                told.append(name)
                assert budget.decoded <= 100 or name == "huge"
                await asyncio.sleep(0)
                told.append(f"/{name}")

        left = asyncio.ensure_future(work("left", 90))
        tasks = [asyncio.ensure_future(work(*job)) for job in (("a", 60), ("b", 60), ("c", 30), ("huge", 900))]
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(*tasks, left, return_exceptions=True)
        assert budget.decoded == 0
        return told

    told = asyncio.run(play())
    told = [name for name in told if "left" not in name]
    assert [name for name in told if name[0] != "/"] == ["a", "b", "c", "huge"]
    assert told.index("b") > told.index("/a")  # did not fit beside it
    assert told.index("huge") > max(told.index("/b"), told.index("/c"))  # more than there is: alone


def test_photos_wait_until_their_pixels_fit(serve: Serve) -> None:
    served = serve()
    cost = PIXEL_BYTES * 2 * 60 * 40  # the photo and its mask
    served.shop.budget.total = cost * 3 // 2
    with ThreadPoolExecutor(3) as pool, slow(served) as held:
        answers = [pool.submit(served.inpaint, photo(seed=seed), mask()) for seed in range(3)]
        assert held.reached.wait(60)
        assert soon(lambda: len(served.shop.budget._line) == 2)
        assert served.shop.budget.decoded == cost
        held.go.set()
        assert [answer.result().status_code for answer in answers] == [200] * 3
    assert soon(lambda: served.shop.budget.decoded == served.shop.budget.sent == 0)


def test_too_many_pixels_are_told_before_a_decoder_sees_them(serve: Serve) -> None:
    class Never(Decoders):
        def run(self, *_: Any) -> Any:
            raise AssertionError("decoded")

    served = serve(max_pixels=2400, decoding=Never())
    assert served.inpaint(photo(61, 40), mask(61, 40)).status_code == 413
    assert served.inpaint(b"no picture", mask()).status_code == 422


# Decoders -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def one() -> Iterator[Decoders]:
    made = Decoders(1, seconds=0.5)
    yield made
    made.close()


def test_work_that_takes_too_long_is_ended(one: Decoders) -> None:
    still = threading.Event()
    assert one.run(still, len, b"abc") == 3
    (child,) = one._all
    with pytest.raises(InputError, match=r"within 0\.5 seconds"):
        one.run(still, time.sleep, 3600)
    assert child not in one._all
    assert one.run(still, len, b"abcd") == 4


def test_work_that_ends_its_process_is_an_error(one: Decoders) -> None:
    with pytest.raises(InputError, match="ended the process"):
        one.run(threading.Event(), os._exit, 1)
    assert one.run(threading.Event(), len, b"abcd") == 4
    with pytest.raises(RuntimeError, match="TypeError"):
        one.run(threading.Event(), len, 5)
    with pytest.raises(InputError, match="empty"):
        one.run(threading.Event(), opened, opened_order(b""), Limits())
    assert one.run(threading.Event(), len, b"abcd") == 4


def opened_order(image: bytes) -> Any:
    from cicm.web.form import Order

    return Order(image, boxes=((0, 0, 1, 1),))


def test_work_of_a_client_that_left_is_ended() -> None:
    decoders, gone = Decoders(1, seconds=3600), threading.Event()
    threading.Timer(0.2, gone.set).start()
    with pytest.raises(Gone):
        decoders.run(gone, time.sleep, 3600)
    assert decoders.run(threading.Event(), len, b"ab") == 2
    decoders.close()


def test_two_uploads_that_hold_their_decoders_silence_nobody(serve: Serve) -> None:
    """A file that is decoded for an hour, sent twice, and an honest one behind them."""
    hostile = photo(seed=99)

    class Held(Decoders):
        def run(self, gone: threading.Event, work: Any, *args: Any) -> Any:
            if getattr(args[0], "image", b"") == hostile:
                work, args = time.sleep, (3600,)
            return super().run(gone, work, *args)

    decoders = Held(2, seconds=5)
    served = serve(decoding=decoders)
    with ThreadPoolExecutor(2) as pool:
        bad = [pool.submit(served.inpaint, hostile, mask()) for _ in range(2)]
        assert soon(lambda: len(decoders._all) == 2, 60)
        assert served.client.get("/api/v1/health").status_code == 200
        assert served.inpaint(photo(), mask()).status_code == 200
        assert [answer.result().status_code for answer in bad] == [422] * 2
    decoders.close()
