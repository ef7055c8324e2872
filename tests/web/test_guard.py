"""Who is let in: names, origins, the token; what every answer carries; what the page is made of."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files

import pytest

from cicm.web.guard import HEADERS

from .conftest import Served, mask, photo

Serve = Callable[..., Served]
PAGE = files("cicm.web").joinpath("page")
TOKEN = "a-token-of-some-length"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("[::1]:{port}", 200),
        ("192.168.1.7:{port}", 200),  # no name, so nobody can have rebound it
        ("studio.example.org", 200),
        ("evil.example:{port}", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:{port}", 403),
        ("evil.example@127.0.0.1", 403),
        ("1.2.3", 403),
        ("", 403),
    ],
)
def test_only_own_names_are_answered_to(serve: Serve, host: str, status: int) -> None:
    server = serve(names=("studio.example.org",))
    for path in ("/", "/api/v1/info"):
        answer = server.client.get(path, headers={"Host": host.format(port=server.port)})
        assert answer.status_code == status
    if status == 403:
        assert "--host-name" in answer.json()["error"]


def test_pages_of_other_origins_can_not_post(serve: Serve) -> None:
    server = serve()

    def post(**headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        files = {"image": photo(), "mask": mask()}
        return server.client.post("/api/v1/inpaint", files=files, headers=named).status_code

    assert post() == 200  # a program
    assert post(origin=server.url, sec_fetch_site="same-origin") == 200
    assert post(origin="http://evil.example") == 403
    assert post(origin="null") == 403
    assert post(origin="http://127.0.0.1:1") == 403
    assert post(sec_fetch_site="cross-site") == 403
    assert post(origin=server.url, sec_fetch_site="same-site") == 403


def test_no_answer_opens_the_door_to_other_origins(serve: Serve) -> None:
    client = serve().client
    for path in ("/", "/api/v1/info", "/api/v1/inpaint", "/none"):
        for method in ("GET", "OPTIONS"):
            answer = client.request(method, path, headers={"Origin": "http://evil.example"})
            assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_token(serve: Serve) -> None:
    client = serve(token=TOKEN).client
    for path in ("/", "/docs", "/api/v1/health", "/page/app.js"):
        assert client.get(path).status_code == 200
    for given in (None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", f"Bearer {TOKEN}x"):
        answer = client.get("/api/v1/info", headers={"Authorization": given} if given else {})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answer.text
    assert client.post("/api/v1/inpaint", files={"image": photo(), "mask": mask()}).status_code == 401
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/api/v1/info", headers=right).status_code == 200
    files = {"image": photo(), "mask": mask()}
    assert client.post("/api/v1/inpaint", files=files, headers=right).status_code == 200


def test_every_answer_carries_the_headers(serve: Serve) -> None:
    server = serve()
    answers = [server.client.get(path) for path in ("/", "/page/app.js", "/docs", "/api/v1/info", "/none")]
    answers += [server.inpaint(photo(), mask()), server.inpaint(b"x", mask())]
    answers += [server.client.get("/", headers={"Host": "evil.example"})]
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers.get_list(name) == [value], (answer.url, name)
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert answers[3].headers["cache-control"] == "no-store"


def test_the_page_is_fixed_files_and_nothing_beside_them(serve: Serve) -> None:
    client = serve().client
    first = client.get("/")
    assert first.headers["content-type"].startswith("text/html")
    again = client.get("/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.head("/").status_code == 200
    for path in (
        "/page/../server.py",
        "/page/%2e%2e/server.py",
        "/page/%2e%2e%2fserver.py",
        "/page//etc/passwd",
        "/page/",
    ):
        assert client.get(path).status_code == 404
        # httpx tidies a path up before it sends it; this one goes as it is
    assert b" 404 " in raw(client, b"GET /page/../server.py HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")


def raw(client, request: bytes) -> bytes:
    import socket

    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as line:
        line.sendall(request)
        return line.recv(65536)


# What the page is made of ---------------------------------------------------------------------------------------------


def text(name: str) -> str:
    return PAGE.joinpath(name).read_text("utf-8")


def test_the_page_names_no_other_place() -> None:
    for file in PAGE.iterdir():
        found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", file.read_text("utf-8"))
        assert [place for place in found if "www.w3.org/2000/svg" not in place] == [], file.name


def test_what_the_page_asks_for_is_there(serve: Serve) -> None:
    client = serve().client
    wanted = set(re.findall(r'(?:href|src)="(/[^"#]*)"', text("index.html")))
    for file in PAGE.iterdir():
        if file.name.endswith(".js"):
            wanted |= {f"/page/{name}" for name in re.findall(r'from "\./([\w.]+)"', file.read_text("utf-8"))}
    assert "/page/mask.js" in wanted
    for path in wanted:
        assert client.get(path).status_code == 200, path


def test_scripts_and_page_agree_on_ids() -> None:
    page = text("index.html")
    ids = re.findall(r'\sid="([\w-]+)"', page)
    assert len(ids) == len(set(ids))
    asked = set(re.findall(r'\$\("([\w-]+)"\)', text("app.js"))) | set(re.findall(r'press\("([\w-]+)"', text("app.js")))
    assert asked - set(ids) == set()
    for name in re.findall(r'(?:for|aria-labelledby|aria-describedby)="([\w-]+)"', page):
        assert name in ids
    for icon in re.findall(r'href="#(i-[\w-]+)"', page):
        assert icon in ids


def test_the_policy_fits_the_page() -> None:
    """No script or style within the page: the policy would not let it run."""
    page = text("index.html")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", page)


def test_everything_to_press_has_a_name() -> None:
    page = text("index.html")
    for tag, inside in re.findall(r"<(button[^>]*|summary[^>]*)>(.*?)</(?:button|summary)>", page, re.DOTALL):
        words = re.sub(r"<[^>]*>", "", inside).strip()
        assert words or "aria-label=" in tag, tag
    for tag in re.findall(r"<(?:input|select)[^>]*>", page):
        name = re.search(r'\sid="([\w-]+)"', tag)
        labelled = "aria-label=" in tag or 'type="radio"' in tag
        labelled = labelled or (
            name
            and (f'for="{name[1]}"' in page or re.search(rf"<label[^>]*>[^<]*<span>[^<]*</span>{re.escape(tag)}", page))
        )
        assert labelled, tag
