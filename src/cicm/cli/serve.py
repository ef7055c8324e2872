"""`cicm serve`: the web page and the REST interface, on this machine unless told otherwise."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from jsonargparse import ArgumentParser

from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import InputError
from cicm.web.limits import Limits

DESCRIPTION = """Serve a web page to repair photos in a browser, and a REST interface for programs.

Photos are held in RAM only while they are worked on. Nothing is stored, and no other machine is contacted. By default
only this machine can reach the server. With another --host other machines can reach it too; the server then asks for a
token, and the printed link contains it. The connection is not encrypted. In a network you do not trust, use a proxy
with TLS, or forward the port with ssh.
"""

EXAMPLES = """examples:
  cicm serve                                     then open http://127.0.0.1:8080/
  cicm serve --port 0                            any free port
  cicm serve --model lama                        with another model, after cicm models get lama
  cicm serve --host 0.0.0.0                      for the local network; prints a link with a token
  cicm serve --host 0.0.0.0 --host-name studio.example.org --token "$(cat token)"
  curl -F image=@photo.jpg -F mask=@mask.png http://127.0.0.1:8080/api/v1/inpaint -o repaired.jpg
"""

_NEEDS = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}
_LEAST_TOKEN = 16


def build_parser() -> ArgumentParser:
    parser = verb_parser("serve", DESCRIPTION, EXAMPLES)
    add = parser.add_argument
    add("--host", type=str, default="127.0.0.1", help="address to listen on; 0.0.0.0 is every network")
    add("--port", type=int, default=8080, help="port; 0 chooses a free one")
    add("--model", "--weights", type=str, metavar="NAME|FILE", help="as of cicm inpaint; default: the included weights")
    add("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:N or mps")

    add = parser.add_argument_group("who may use it").add_argument
    add("--token", type=str, metavar="TEXT", help="the token; safer in the variable CICM_TOKEN")
    add("--host-name", action="append", default=[], metavar="NAME", help="another name of this machine; repeatable")

    add = parser.add_argument_group("limits").add_argument
    default = Limits()
    add("--max-pixels", type=int, default=default.max_pixels, metavar="N", help="most pixels of one picture")
    add("--max-bytes", type=int, default=default.max_bytes, metavar="N", help="bytes of one upload")
    add("--timeout", type=float, default=default.timeout, metavar="SECONDS", help="for one request, with its upload")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb until it is interrupted.

    Raises:
        InputError: whatever the caller got wrong, a missing extra, a port that is taken.
    """
    options = parse(build_parser(), argv)
    missing = [package for module, package in _NEEDS.items() if find_spec(module) is None]
    if missing:
        raise InputError(f"cicm serve needs {', '.join(missing)}; not installed. Run: pip install 'cicm[serve]'.")
    token = _token(options.token or os.environ.get("CICM_TOKEN"), options.host)

    limits = Limits(max_bytes=options.max_bytes, max_pixels=options.max_pixels, timeout=options.timeout)
    listener = listen(options.host, options.port)
    with listener:
        warnings.simplefilter("ignore")  # about single files; what matters stands in the answer
        import uvicorn

        from cicm.export.opening import open_inpainter
        from cicm.inference.models import SHIPPED
        from cicm.web.connections import configuration
        from cicm.web.server import create_app

        name = Path(options.model).stem if options.model else SHIPPED
        inpainter = open_inpainter(options.model, device=options.device)
        names = {*options.host_name, options.host, *_own_names()}
        app = create_app(inpainter, limits=limits, token=token, names=names, model_name=name)
        for line in told(options.host, listener.getsockname()[1], token, f"{name} on {inpainter.device}"):
            print(line, flush=True)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(configuration(app)).run(sockets=[listener])
        print("cicm: stopped", file=sys.stderr)
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there, made before the model is loaded.

    Raises:
        InputError: a port out of range or taken, an address that is not this machine's.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"a port is a number from 0 to 65535; got {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"{host!r} is no address of this machine. Use 127.0.0.1, or 0.0.0.0 for all.") from error
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise InputError(
            f"can't listen to {host} port {port}: {error.strerror or error}. "
            "Choose another port with --port (0 takes a free one), or end the program that has it."
        ) from error
    return listener


def told(host: str, port: int, token: str | None, model: str) -> list[str]:
    """What is printed when the server starts."""
    everywhere = host in ("0.0.0.0", "::", "")
    shown = _address() if everywhere else host
    shown = f"[{shown}]" if ":" in shown else shown
    mark = f"#token={quote(token, safe='')}" if token else ""
    lines = [f"cicm serves http://{shown}:{port}/{mark}  ({model}; Ctrl+C ends it)"]
    if not _is_loopback(host):
        lines.append("Others in this network can use that link; the connection is not encrypted.")
    return lines


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach it.

    Example:
        >>> [_is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
        [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _token(given: str | None, host: str) -> str | None:
    if given is None:
        return None if _is_loopback(host) else secrets.token_urlsafe(24)
    if len(given) < _LEAST_TOKEN or not given.isascii() or not given.isprintable() or " " in given:
        raise InputError(
            f"a token is {_LEAST_TOKEN} or more ASCII characters without spaces; got {len(given)}. "
            "Leave it out, and one is made."
        )
    return given


def _own_names() -> set[str]:
    name = socket.gethostname()
    return {name, f"{name}.local"} if name else set()


def _address() -> str:
    """The address by which others reach this machine, as far as it can be told; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname() or "127.0.0.1"
