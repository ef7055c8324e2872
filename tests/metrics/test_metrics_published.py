"""Files of published weights: where they are looked for, that only the published ones are taken, and fetching."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.metrics import published as registry
from cicm.metrics.published import PUBLISHED, published
from cicm.published import ENVIRONMENT, MissingWeights, PublishedFile, cache_folder, fetch, find, locate

CONTENT = bytes(range(256)) * 9000  # 2.3 MB: more than one part


@pytest.fixture
def server() -> Iterator[str]:
    """A web server on this machine: /good, /long (never ends), /short, /missing; /parts knows ranges."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/missing":
                self.send_error(404)
                return
            asked = self.headers.get("Range")
            if self.path == "/parts" and asked:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
                self.end_headers()
                self.wfile.write(CONTENT[start:])
                return
            self.send_response(200)
            self.end_headers()  # no length: the reader has to count
            try:
                if self.path == "/long":
                    while True:
                        self.wfile.write(CONTENT)
                self.wfile.write(CONTENT[: 1000 if self.path == "/short" else None])
            except OSError:
                pass  # the reader hung up

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def entry(url: str | None, content: bytes = CONTENT) -> PublishedFile:
    return replace(PUBLISHED["alexnet"], url=url, sha256=hashlib.sha256(content).hexdigest(), num_bytes=len(content))


def test_every_entry_is_complete() -> None:
    for file in PUBLISHED.values():
        assert len(file.sha256) == 64
        assert int(file.sha256, 16) > 0
        if file.url is not None:
            assert file.url.endswith("/" + file.filename)
            assert file.url.startswith("https://")
            prefix = Path(file.filename).stem.rsplit("-", 1)[1]
            assert len(prefix) == 8
            assert file.sha256.startswith(prefix), "the official name carries the beginning of the checksum"
        else:
            assert locate(file).parent == registry.PACKAGE_FOLDER
    licences = {path.name for path in registry.PACKAGE_FOLDER.glob("LICENSE.*")}
    assert licences == {"LICENSE.keras-squeezenet", "LICENSE.lpips"}


def test_order_of_the_folders(nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = published("sqz-features")
    shipped = registry.PACKAGE_FOLDER / file.filename
    assert find(file) == shipped
    nowhere.mkdir(parents=True)
    (nowhere / file.filename).write_bytes(b"cache")
    assert find(file) == nowhere / file.filename
    named = tmp_path / "named"
    named.mkdir()
    monkeypatch.setenv(ENVIRONMENT, str(named))
    assert find(file) == nowhere / file.filename
    (named / file.filename).write_bytes(b"named")
    assert find(file) == named / file.filename
    assert find(file, shipped) == shipped
    assert find(file, registry.PACKAGE_FOLDER) == shipped
    assert find(file, tmp_path / "not there") is None, "an explicit path is not replaced by another file"
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "not there"))
    with pytest.raises(InputError, match="CICM_WEIGHTS must name a folder"):
        find(file)


def test_a_missing_file_says_which_and_how(nowhere: Path) -> None:
    with pytest.raises(MissingWeights) as caught:
        locate(published("vgg16"))
    for part in ("lpips-vgg", "vgg16-397923af.pth", str(nowhere), "cicm models get vgg16", "download.pytorch.org"):
        assert part in str(caught.value)
    with pytest.raises(MissingWeights, match="elsewhere"):
        locate(published("vgg16"), "elsewhere/vgg.pth")
    with pytest.raises(InputError, match="known are"):
        published("resnet")


def test_only_the_published_bytes_are_taken(tmp_path: Path) -> None:
    file = entry(None)
    path = tmp_path / file.filename
    path.write_bytes(CONTENT)
    assert locate(file, path) == path
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match=r"must be .* 2304000 bytes; got 2303999"):
        locate(file, path)
    path.write_bytes(CONTENT[:-1] + b"\0")  # the same size, after a digest of this path has been remembered
    with pytest.raises(InputError, match="SHA-256"):
        locate(file, path)


def test_fetch_over_http(server: str, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    file = entry(f"{server}/good")
    at = fetch(file, tmp_path / "new" / "folder", progress=lambda *step: steps.append(step))
    assert at == tmp_path / "new" / "folder" / file.filename
    assert at.read_bytes() == CONTENT
    assert [received for received, _ in steps] == sorted({received for received, _ in steps})
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert list(at.parent.iterdir()) == [at]
    # there already: nothing is asked for, so a dead address does not matter
    assert fetch(replace(file, url=f"{server}/missing"), at.parent) == at


def test_fetch_from_a_file_into_the_cache(nowhere: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    file = entry(source.as_uri())
    assert fetch(file) == nowhere / file.filename == cache_folder() / file.filename
    assert locate(file).read_bytes() == CONTENT


def test_a_bad_download_leaves_nothing(server: str, tmp_path: Path) -> None:
    for page, message in (("long", "sends more"), ("missing", "could not fetch .*Not Found")):
        with pytest.raises(InputError, match=message):
            fetch(entry(f"{server}/{page}"), tmp_path)
        assert list(tmp_path.iterdir()) == [], page


def test_a_foreign_download_leaves_nothing(server: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SHA-256"):
        fetch(entry(f"{server}/good", content=CONTENT[::-1]), tmp_path)
    with pytest.raises(InputError, match="could not fetch"):
        fetch(entry("http://127.0.0.1:9/nobody"), tmp_path)
    with pytest.raises(InputError, match="could not fetch"):
        fetch(entry("no address"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_download_goes_on_where_it_stopped(server: str, tmp_path: Path) -> None:
    def interrupt(received: int, total: int) -> None:
        raise KeyboardInterrupt

    for page in ("parts", "good"):  # the second server knows no parts: from the start
        with pytest.raises(KeyboardInterrupt):
            fetch(entry(f"{server}/{page}"), tmp_path, progress=interrupt)
        (part,) = tmp_path.iterdir()
        assert 0 < part.stat().st_size < len(CONTENT)
        steps: list[int] = []
        at = fetch(
            entry(f"{server}/{page}"), tmp_path, progress=lambda received, _, steps=steps: steps.append(received)
        )
        assert at.read_bytes() == CONTENT
        assert list(tmp_path.iterdir()) == [at]
        assert (len(steps) == 2) == (page == "parts"), "what was there is not asked for again"
        at.unlink()


def test_a_download_that_ends_early_is_kept_as_a_part_and_a_wrong_part_is_not(server: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2304000 bytes; got 1000"):
        fetch(entry(f"{server}/short"), tmp_path)
    (part,) = tmp_path.iterdir()
    assert part.read_bytes() == CONTENT[:1000]
    part.write_bytes(b"x" * 1000)
    with pytest.raises(InputError, match="SHA-256"):
        fetch(entry(f"{server}/parts"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_download_at_a_time(server: str, tmp_path: Path) -> None:
    def another(received: int, total: int) -> None:
        with pytest.raises(InputError, match="another process"):
            fetch(entry(f"{server}/good"), tmp_path)

    assert fetch(entry(f"{server}/good"), tmp_path, progress=another).read_bytes() == CONTENT


def test_downloads_can_be_forbidden(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CICM_OFFLINE", "1")
    with pytest.raises(InputError, match="CICM_OFFLINE is set"):
        fetch(entry(f"{server}/good"), tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("CICM_OFFLINE", "0")
    assert fetch(entry(f"{server}/good"), tmp_path).is_file()


def test_a_proxy_of_the_environment_is_asked(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server takes the proxy's place: it is asked for the whole address."""
    monkeypatch.setenv("http_proxy", server)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert fetch(entry("http://weights.invalid/good"), tmp_path).read_bytes() == CONTENT


def test_a_foreign_file_is_never_replaced(server: str, tmp_path: Path) -> None:
    file = entry(f"{server}/good")
    path = tmp_path / file.filename
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match="got 4 bytes"):
        fetch(file, tmp_path)
    assert path.read_bytes() == b"mine"
    blocked = tmp_path / "a file"
    blocked.write_bytes(b"")
    with pytest.raises(InputError, match="could not fetch"):
        fetch(file, blocked)


# -- the command line ------------------------------------------------------------------------------------------------


def test_the_list(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    for file in PUBLISHED.values():
        assert f"{file.name}\n" in out
        assert file.licence in out
        assert (f"cicm models get {file.name}\n" in out) == (file.url is not None)
    assert str(nowhere) in out


def test_verify_finds_a_bad_file(nowhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--verify"]) == 0
    assert "checksum as published" in capsys.readouterr().out
    nowhere.mkdir(parents=True)
    (nowhere / published("alexnet").filename).write_bytes(b"no")
    assert main(["models", "--verify"]) == 1
    captured = capsys.readouterr()
    assert "NOT the published file" in captured.out
    assert captured.err.startswith("cicm: error: alexnet: ")
    assert captured.err.count("\n") == 1


def test_fetch_by_name(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PUBLISHED, "alexnet", entry(f"{server}/good"))
    assert main(["models", "get", "alexnet", "--to", str(tmp_path)]) == 0
    assert (tmp_path / "alexnet-owt-7be5be79.pth").read_bytes() == CONTENT
    assert str(tmp_path / "alexnet-owt-7be5be79.pth") in capsys.readouterr().out


def test_bad_lines_give_one_line_and_exit_code_2(
    nowhere: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in (
        "get",
        "get resnet",
        "get vgg16 --verify",
        "get vgg16 --from a.pth",
        "get sqz-features",
        "list vgg16",
        "--to somewhere",
        "--nonsense",
        "remove vgg16",
    ):
        assert main(["models", *line.split()]) == 2, line
        captured = capsys.readouterr()
        assert captured.err.startswith("cicm: error: "), line
        assert captured.err.count("\n") == 1, line
        assert captured.out == "", line
        assert list(tmp_path.iterdir()) == [], line


def test_the_list_and_the_help_do_without_torch() -> None:
    program = (
        "import sys; from cicm.cli.main import main; code = main(['models']);\n"
        "assert not {'torch', 'numpy'} & set(sys.modules), 'heavy import'\n"
        "try:\n    main(['models', '--help'])\nexcept SystemExit as end:\n    sys.exit(end.code or code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout
