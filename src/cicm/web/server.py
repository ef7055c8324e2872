"""The application: the page, the interface, and what every answer carries."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from cicm import __version__
from cicm.exemplar import align, patches
from cicm.inference.arrays import PatchInpainter
from cicm.inference.painter import PictureInpainter
from cicm.inference.settings import FILLS
from cicm.photos.formats import ENDINGS
from cicm.photos.headers import FORMATS
from cicm.photos.marking import MAX_GROW
from cicm.web.decoders import Decoders
from cicm.web.form import MAX_SEED, Upload, order_of, preview_of, read_upload
from cicm.web.guard import Guard
from cicm.web.limits import Limits, Refused, too_many_bytes
from cicm.web.reference import reference_page
from cicm.web.workshop import Repaired, Workshop

_PATIENCE = 5.0
"""Seconds that a refused upload is still read, and thrown away, so that its sender gets to see the answer."""

_PIECE = 2**18
"""Bytes of an answer that are sent at a time."""

SILENCE = 10.0
"""Seconds in which nothing of an upload comes, after which it is given up."""

KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_MEDIA = {format_: f"image/{format_.lower()}" for format_ in FORMATS}
_SUFFIX = {"JPEG": "jpg", "TIFF": "tif", "HEIF": "heic"}


class Model(BaseModel):
    """Which model repairs."""

    name: str = Field(description="The weights file, without its ending.")
    network: str
    parameters: int
    device: str


class Limit(BaseModel):
    """What one request may cost."""

    max_bytes: int = Field(description="Bytes of one request's body.")
    max_pixels: int = Field(description="Pixels of one picture.")
    max_album: int = Field(description="Other photos that may come with one.")
    max_album_pixels: int = Field(description="Pixels of all of these together.")
    queue: int = Field(description="Requests that may wait while one is worked on.")
    timeout: float = Field(description="Seconds for a request, its upload included.")
    max_grow: int = Field(description="Pixels that a hole may grow by.")


class Info(BaseModel):
    """What this server is."""

    version: str
    model: Model
    limits: Limit
    formats: list[str] = Field(description="What is opened.")
    answers: list[str] = Field(description="What `format` takes.")
    fills: list[str] = Field(
        description="What `fill` takes here, the default first; without PyPatchMatch the network alone is left."
    )
    album: bool = Field(description="Whether other photos can lend pixels; without OpenCV they can't.")


class Health(BaseModel):
    """That this server answers."""

    status: str
    waiting: int = Field(description="Requests in the line.")


class Problem(BaseModel):
    """Why a request was refused."""

    status: int
    error: str = Field(description="One sentence on what was wrong, then what to do.")


def _fills(inpainter: PictureInpainter) -> list[str]:
    """What `fill` takes, the model's own way first."""
    own = inpainter.settings.fill
    if isinstance(inpainter, PatchInpainter):
        return [own]
    return [own, *(fill for fill in FILLS if fill != own)] if patches.available() else ["network"]


def create_app(
    inpainter: PictureInpainter,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    names: Collection[str] = (),
    model_name: str = "",
    decoders: Decoders | None = None,
) -> Guard:
    """The application, for any ASGI server, in one process.

    Args:
        inpainter: what repairs; it belongs to the application from now on.
        limits: on bytes, pixels, the line and time.
        token: what the interface asks for; None asks for nothing.
        names: host names that the server answers to, beside `localhost` and addresses in digits.
        model_name: what the page calls the model.
        decoders: processes that decode, which stay the caller's; None makes its own, and ends them.
    """
    limits = limits or Limits()
    shop = Workshop(inpainter, limits, decoders)
    info = Info(
        version=__version__,
        model=Model(
            name=model_name or "unnamed",
            network=type(getattr(inpainter.model, "network", inpainter.model)).__name__,
            parameters=sum(parameter.numel() for parameter in inpainter.model.parameters())
            if hasattr(inpainter.model, "parameters")
            else 0,
            device=str(inpainter.device),
        ),
        limits=Limit(**vars(limits), max_grow=MAX_GROW),
        formats=[format_.lower() for format_ in FORMATS],
        answers=_ANSWERS,
        fills=_fills(inpainter),
        album=align.available(),
    )

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        shop.decoders.start()
        yield
        shop.close()

    app = FastAPI(
        title="cicm",
        version=__version__,
        summary="Fills holes in photographs.",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        routes=_page_routes(),
        openapi_tags=[{"name": "photos"}, {"name": "server"}],
    )
    _add_handlers(app)

    @app.get("/api/v1/health", tags=["server"], summary="Whether the server answers", response_description="It does.")
    async def health() -> Health:
        return Health(status="ok", waiting=shop.waiting)

    @app.get(
        "/api/v1/info",
        tags=["server"],
        summary="The model, the limits, the version",
        responses=_problems(401),
        response_description="What it is.",
    )
    async def about() -> Info:
        return info

    @app.post("/api/v1/inpaint", tags=["photos"], response_class=Response, **_INPAINT)
    async def inpaint(request: Request) -> Response:
        """Fills the places that a mask or boxes mark.

        The answer is the file itself: the photo's size, format, depth, EXIF, profile and alpha. Outside the hole its
        pixels are the photo's bit for bit, unless the format compresses every pixel anew (JPEG, lossy WebP)."""

        async def work(upload: Upload) -> Response:
            return _file(await shop.repair(order_of(upload)))

        return await _served(request, shop, tuple(_INPAINT_PARTS), work)

    @app.post("/api/v1/preview", tags=["photos"], response_class=Response, **_PREVIEW)
    async def preview(request: Request) -> Response:
        """The upright photo as a PNG that every browser shows, for formats that some can't, such as TIFF."""

        async def work(upload: Upload) -> Response:
            shown = await shop.preview(*preview_of(upload))
            headers = {"Cicm-Width": str(shown.width), "Cicm-Height": str(shown.height), "Cicm-Format": shown.format}
            return Response(shown.data, media_type="image/png", headers=headers)

        return await _served(request, shop, ("image", "side"), work)

    described = app.openapi

    def openapi() -> dict[str, Any]:
        schema = described()
        if token:
            schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path, verbs in schema["paths"].items():
                for verb in verbs.values():
                    verb["security"] = [] if path.endswith("/health") else [{"token": []}]
        return schema

    app.openapi = openapi  # type: ignore[method-assign]

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference_page(openapi()))

    guard = Guard(app, names, token)
    guard.shop = shop  # type: ignore[attr-defined]
    return guard


# One request ----------------------------------------------------------------------------------------------------------


class _Left(Exception):
    """The client has gone away."""


class _Body:
    """The body of a request, and what comes after it: word that the client has left."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self.ended = False

    async def chunks(self) -> AsyncIterator[bytes]:
        while not self.ended:
            try:
                async with asyncio.timeout(SILENCE):
                    message = await self._receive()
            except TimeoutError as error:
                raise Refused(408, f"Nothing of the upload came for {SILENCE:g} seconds. Try again.") from error
            if message["type"] == "http.disconnect":
                raise _Left
            self.ended = not message.get("more_body", False)
            if message.get("body"):
                yield message["body"]

    async def drain(self) -> None:
        """Read on and throw away: a client that is still sending would not look at the answer."""
        with suppress(_Left, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                async for _ in self.chunks():
                    pass

    async def left(self) -> None:
        """Returns when the client has gone away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _served(
    request: Request, shop: Workshop, names: tuple[str, ...], work: Callable[[Upload], Awaitable[Response]]
) -> Response:
    """Read the upload, take a place, do the work; give up when the time is up or the client leaves."""
    limits, body, client = shop.limits, _Body(request), request.client.host if request.client else ""
    held, upload = 0, None

    async def counted() -> AsyncIterator[bytes]:
        nonlocal held
        async for chunk in body.chunks():
            shop.budget.take(client, len(chunk))
            held += len(chunk)
            yield chunk

    try:
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > limits.max_bytes:
            raise too_many_bytes(limits.max_bytes)
        shop.check_line(client)  # told at once; the place is taken when all is there
        async with asyncio.timeout(limits.timeout):
            kind = request.headers.get("content-type", "")
            upload = await read_upload(kind, counted(), names, limits.max_bytes, limits.max_album)
            async with shop.place(client):
                answer = await _while_connected(body, work(upload))
        return _Counted(answer, shop, client)
    except _Left:
        return Response(status_code=499)  # nobody reads it
    except TimeoutError:
        if not body.ended:
            refusal = Refused(408, f"The upload was not complete after {limits.timeout:g} seconds. Try again.")
        else:
            refusal = Refused(
                503,
                f"The photo was not ready after {limits.timeout:g} seconds. Try again later, cut out the part to "
                "repair, or start the server with a larger --timeout.",
                {"Retry-After": "30"},
            )
        raise refusal from None
    except Refused:
        await body.drain()
        raise
    finally:
        del upload
        shop.budget.give(client, held)


class _Counted(Response):
    """An answer whose bytes are held until they are sent; in pieces, each when the one before is on its way."""

    background = None

    def __init__(self, answer: Response, shop: Workshop, client: str) -> None:
        self.answer, self.shop, self.client = answer, shop, client
        shop.budget.keep(client, len(answer.body))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = memoryview(self.answer.body)
        try:
            start = {"type": "http.response.start", "status": self.answer.status_code}
            await send({**start, "headers": self.answer.raw_headers})
            for at in range(0, max(1, len(body)), _PIECE):
                piece, more = bytes(body[at : at + _PIECE]), at + _PIECE < len(body)
                await send({"type": "http.response.body", "body": piece, "more_body": more})
        finally:
            self.shop.budget.give(self.client, len(body))
            self.shop.tidy()


async def _while_connected(body: _Body, work: Awaitable[Response]) -> Response:
    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(body.left())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _Left
        return task.result()
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


def _file(repaired: Repaired) -> Response:
    report = repaired.report
    headers = {
        "Content-Disposition": f'attachment; filename="repaired.{_suffix(repaired.format)}"',
        "Cicm-Width": str(report.width),
        "Cicm-Height": str(report.height),
        "Cicm-Missing": f"{report.missing:.6f}",
        "Cicm-Box": ",".join(map(str, report.box)),
        "Cicm-Reduced": f"{report.reduced:.4g}",
        "Cicm-Device": report.device,
        "Cicm-Seconds": f"{report.seconds:.3f}",
        "Cicm-Fill": report.fill,
        "Cicm-Seed": str(repaired.seed),
    }
    if report.lenders:
        headers["Cicm-Lenders"] = ",".join(quote(name, safe="") for name in report.lenders)
    if repaired.notes:
        headers["Cicm-Notes"] = _one_line("; ".join(repaired.notes))
    return Response(repaired.data, media_type=_MEDIA[repaired.format], headers=headers)


def _one_line(text: str) -> str:
    """A note may quote the photo's file: no line breaks, nothing but ASCII.

    Example:
        >>> _one_line("a\\r\\nSet-Cookie: b é")
        'a  Set-Cookie: b ?'
    """
    return "".join(c if c.isprintable() else " " for c in text).encode("ascii", "replace").decode()


def _suffix(format_: str) -> str:
    return _SUFFIX.get(format_, format_.lower())


# Errors ---------------------------------------------------------------------------------------------------------------


def _add_handlers(app: FastAPI) -> None:
    def problem(status: int, reason: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"status": status, "error": reason}, status_code=status, headers=dict(headers or {}))

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refused)
        return problem(error.status, error.reason, error.headers)

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, f"{error.detail}. See /docs.", error.headers)

    async def failed(_: Request, error: Exception) -> JSONResponse:
        return problem(500, "The server failed on this request; what happened stands in its log. Try another photo.")

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, failed)


# The page -------------------------------------------------------------------------------------------------------------


def _page_routes() -> list[BaseRoute]:
    """One route for each file of the page, read now: no path that comes from outside ever reaches a disk."""
    routes: list[BaseRoute] = []
    for file in files("cicm.web").joinpath("page").iterdir():
        kind = KINDS.get(file.name.rpartition(".")[2])
        if kind:
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            routes.append(Route(path, _sender(file.read_bytes(), kind), include_in_schema=False))
    return routes


def _sender(data: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    tag = f'"{hashlib.sha256(data).hexdigest()[:20]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}

    async def send(request: Request) -> Response:
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=kind, headers=headers)

    return send


# What the interface says of itself ------------------------------------------------------------------------------------

_REASONS = {
    401: "The token is missing or wrong.",
    403: "The request comes from another site's page, or calls the server by a name that is not its own.",
    408: "The upload took longer than the server waits.",
    413: "Too many bytes, pixels or album photos.",
    415: "The body is not multipart/form-data.",
    422: "A part is missing or can't be used: no picture, a mask of another size, nothing to fill.",
    429: "The line is full; `Retry-After` says when to come again.",
    503: "The time was up, or memory ran out.",
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": _REASONS[status]} for status in statuses}


def _parts(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": properties, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


_ANSWERS = [ending[1:] for ending in ENDINGS]
_BINARY = {"type": "string", "format": "binary"}
_HEADER_NOTES = {
    "Cicm-Width": "Pixels.",
    "Cicm-Height": "Pixels.",
    "Cicm-Missing": "Share of the pixels that were filled.",
    "Cicm-Box": "The part that the network saw: left,top,right,bottom.",
    "Cicm-Reduced": "How many times smaller it saw that part; 1 is as it is.",
    "Cicm-Device": "Where it ran.",
    "Cicm-Seconds": "What the repair took, without decoding and encoding.",
    "Cicm-Fill": "What the places were filled with: both, network or exemplar.",
    "Cicm-Seed": "Of the search for real pixels.",
    "Cicm-Lenders": "Names of the album's photos that gave pixels, percent-encoded, commas between; absent if none.",
    "Cicm-Notes": "What the format could not keep, and what else is worth knowing; absent if nothing.",
}
_LIMITS = Limits()
_INPAINT_PARTS: dict[str, dict[str, Any]] = {
    "image": {
        **_BINARY,
        "description": f"The photo's file: {', '.join(FORMATS)}; a single picture, no animation.",
    },
    "mask": {**_BINARY, "description": "A picture of the photo's upright size; white = fill. This or `boxes`."},
    "boxes": {
        "type": "string",
        "description": "JSON: a list of [left, top, right, bottom] to fill; right and bottom are the first pixels "
        "that are not.",
    },
    "invert": {"type": "string", "enum": ["true", "false"], "description": "Fill what would be kept."},
    "grow": {"type": "integer", "minimum": 0, "maximum": MAX_GROW, "description": "Make the hole larger, in pixels."},
    "format": {"type": "string", "enum": _ANSWERS, "description": "Of the answer; the photo's own by default."},
    "fill": {
        "type": "string",
        "enum": list(FILLS),
        "description": "`network`: smooth and safe. `exemplar`: real pixels from elsewhere in the photo, sharp. "
        "`both`: joined, the default of our own model; another model's fill is used alone by default.",
    },
    "seed": {
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_SEED,
        "description": "Another number, another answer, unless the network fills alone. 0 by default.",
    },
    "album": {
        "type": "array",
        "items": _BINARY,
        "maxItems": _LIMITS.max_album,
        "description": f"Other photos of the same place, which may show what the hole hides: up to "
        f"{_LIMITS.max_album}, of at most {_LIMITS.max_album_pixels / 1e6:g} million pixels together. "
        "Send the part once for each photo. They are forgotten with the answer.",
    },
}
_INPAINT: dict[str, Any] = {
    "summary": "Repair a photo",
    "responses": {
        200: {
            "description": "The repaired file.",
            "content": {media: {"schema": _BINARY} for media in _MEDIA.values()},
            "headers": {
                name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADER_NOTES.items()
            },
        },
        **_problems(401, 403, 408, 413, 415, 422, 429, 503),
    },
    "openapi_extra": _parts(["image"], **_INPAINT_PARTS),
}
_PREVIEW: dict[str, Any] = {
    "summary": "Show a photo",
    "responses": {
        200: {"description": "A PNG.", "content": {"image/png": {"schema": _BINARY}}},
        **_problems(401, 403, 408, 413, 415, 422, 429, 503),
    },
    "openapi_extra": _parts(
        ["image"],
        image={**_BINARY, "description": "The photo's file."},
        side={"type": "integer", "minimum": 16, "maximum": 4096, "description": "Longest side of the PNG (2048)."},
    ),
}
