"""Released models by name: from a server on loopback or a file, checked, converted, found again; never unasked."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from cicm.assembly import load_weights
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.inference import models
from cicm.inference.models import RELEASED, Released, get_model, model_file
from cicm.networks.migan import MIGAN, to_original
from cicm.published import MissingWeights, PublishedFile


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CICM_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cicm" / "weights"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A small MI-GAN as its authors' code saves one."""
    torch.manual_seed(0)
    (tmp_path / "site").mkdir()
    torch.save(to_original(MIGAN(16, 4)), tmp_path / "site" / "small.pt")
    return tmp_path / "site" / "small.pt"


@pytest.fixture
def server(original: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(original.parent))) as http:
        http.daemon_threads = True
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/{original.name}"
        http.shutdown()


def enter(monkeypatch: pytest.MonkeyPatch, original: Path, url: str | None, sha256: str | None = None) -> None:
    """Let the registry believe that the file of ours was released as `small`."""
    digest = hashlib.sha256(original.read_bytes()).hexdigest() if sha256 is None else sha256
    file = PublishedFile("small.pt", "small.pt", url, digest, original.stat().st_size, "of the test", "", page="a page")
    monkeypatch.setitem(RELEASED, "small", Released("small", "migan", "a small one", (file,)))


def test_every_entry_is_complete() -> None:
    for name, model in RELEASED.items():
        assert model.name == name
        for file in model.files:
            assert file.licence
            assert file.url or file.page
            assert not file.url or (file.url.startswith("https://") and file.url.endswith(f"/{file.filename}"))
            assert not file.url or file.sha256, "what is downloaded has a checksum"
            assert file.sha256 == "" or (len(file.sha256) == 64 and int(file.sha256, 16) > 0)


def test_downloaded_converted_and_found(
    server: str, original: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(monkeypatch, original, server)
    with pytest.raises(MissingWeights, match="cicm models get small"):
        model_file("small")
    assert main(["models", "get", "small"]) == 0
    told = capsys.readouterr().out
    assert "terms: of the test" in told
    assert server in told
    assert [path.name for path in cache.iterdir()] == ["small.safetensors"]
    loaded = load_weights(model_file("small"))
    assert loaded.config.network == "migan"
    assert loaded.card["original"][0]["sha256"] == hashlib.sha256(original.read_bytes()).hexdigest()
    assert main(["models"]) == 0
    assert str(cache / "small.safetensors") in capsys.readouterr().out
    enter(monkeypatch, original, "http://127.0.0.1:9/nobody")
    assert get_model("small")[0] == model_file("small"), "what is there is not asked for again"


def test_a_download_of_other_bytes_is_not_converted(
    server: str, original: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(monkeypatch, original, server, "0" * 64)
    with pytest.raises(InputError, match="SHA-256"):
        get_model("small")
    assert list(cache.iterdir()) == []
    monkeypatch.setenv("CICM_OFFLINE", "1")
    with pytest.raises(InputError, match="CICM_OFFLINE"):
        get_model("small")


def test_a_file_that_is_here_is_taken_by_its_checksum(
    original: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(original.read_bytes()).hexdigest()
    enter(monkeypatch, original, None)
    with pytest.raises(InputError, match=r"no direct address\. Get small\.pt from a page"):
        get_model("small")
    assert get_model("small", original, folder=tmp_path / "a") == (tmp_path / "a" / "small.safetensors", ())
    assert original.is_file()

    enter(monkeypatch, original, None, "0" * 64)
    with pytest.raises(InputError, match=f"--sha256 {digest}"):
        get_model("small", original)
    with pytest.raises(InputError, match="as --sha256 says"):
        get_model("small", original, sha256="1" * 64)
    get_model("small", original, sha256=digest.upper(), folder=tmp_path / "b")

    enter(monkeypatch, original, None, "")
    notes = get_model("small", original, folder=tmp_path / "c")[1]
    assert notes == (f"no published checksum of it is known; the file's SHA-256 is {digest}",)
    assert not cache.exists()


def test_names_are_helped_with() -> None:
    with pytest.raises(InputError, match="Did you mean 'lama'"):
        models.released("lamma")
    assert main(["weights"]) == 2


def test_nothing_is_downloaded_by_an_import_or_the_list() -> None:
    program = (
        "import socket\n"
        "def refuse(*_): raise AssertionError('a connection')\n"
        "socket.socket.connect = refuse\n"
        "import cicm, cicm.inference.models, cicm.published\n"
        "from cicm.cli.main import main\n"
        "raise SystemExit(main(['models']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
