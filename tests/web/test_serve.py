"""`cicm serve`: what is wrong is told before the model is loaded; who may reach it; a whole life of it."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from cicm.cli import serve
from cicm.cli.main import main


def refused(capsys: pytest.CaptureFixture, *words: str) -> str:
    assert main(["serve", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cicm: error: ")
    assert err.count("\n") == 1
    return err


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        err = refused(capsys, "--port", str(port))
    assert f"port {port}" in err
    assert "--port" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--port", "70000"], "0 to 65535"),
        (["--host", "no.such.host.invalid"], "no address of this machine"),
        (["--host", "192.0.2.1"], "can't listen"),
        (["--token", "short"], "16 or more"),
        (["--token", "with spaces in between"], "without spaces"),
        (["--max-pixels", "0"], "max_pixels must be"),
        (["--timeout", "0"], "timeout must be"),
        (["--port", "0", "--weights", "none.safetensors"], "none.safetensors"),
    ],
)
def test_what_can_not_be(words: list[str], told: str, capsys: pytest.CaptureFixture) -> None:
    assert told in refused(capsys, *words)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "uvicorn" else real(name))
    assert "needs uvicorn; not installed. Run: pip install 'cicm[serve]'" in refused(capsys)


def test_beyond_this_machine_there_is_always_a_token() -> None:
    assert serve._token(None, "127.0.0.1") is None
    assert serve._token(None, "::1") is None
    first, second = serve._token(None, "0.0.0.0"), serve._token(None, "192.168.1.7")
    assert first is not None
    assert second is not None
    assert len(first) >= 32
    assert first != second
    assert serve._token("x" * 16, "127.0.0.1") == "x" * 16


def test_the_link_carries_the_token_behind_the_mark_that_is_not_sent() -> None:
    line, note = serve.told("192.168.1.7", 80, "t/k#n" * 4, "m on cpu")
    assert "http://192.168.1.7:80/#token=" + "t%2Fk%23n" * 4 + " " in line
    assert "not encrypted" in note
    assert serve.told("::1", 80, None, "m") == ["cicm serves http://[::1]:80/  (m; Ctrl+C ends it)"]
    assert "0.0.0.0" not in serve.told("0.0.0.0", 80, None, "m")[0]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_it_serves_and_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "cicm.cli.main", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.fullmatch(
            r"cicm serves (http://127\.0\.0\.1:\d+/)  \(unet-cicm-scenes on \w+; Ctrl\+C ends it\)\n", line
        )
        assert match, line
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(match[1] + "api/v1/info", timeout=30) as answer:
            assert b"unet-cicm-scenes" in answer.read()
            assert "server" not in answer.headers
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "cicm: stopped\n")
