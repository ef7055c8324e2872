"""The REST interface: what the command line would have written, and a clear no to everything else."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from cicm.exemplar.album import make_album
from cicm.inference import Inpainter
from cicm.inference.settings import FILLS
from cicm.photos.marking import grown
from cicm.photos.photo import decode_photo, encode_photo, open_photo, save_photo
from cicm.web.limits import Limits

from .conftest import Served, mask, photo

Serve = Callable[..., Served]


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


def told(answer: Any, status: int, *words: str) -> str:
    """The reason of a refusal, checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"status", "error"}
    assert body["status"] == status
    for word in words:
        assert word.lower() in body["error"].lower()
    assert "\n" not in body["error"]
    assert "/" + "tm" + "p" not in body["error"]
    return body["error"]


# The file that comes back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format_", "ending", "how"),
    [
        ("JPEG", "jpg", {"quality": 80, "dpi": (300, 300)}),
        ("PNG", "png", {"dpi": (72, 72)}),
        ("WEBP", "webp", {"lossless": True}),
        ("TIFF", "tif", {"compression": "tiff_lzw"}),
        ("BMP", "bmp", {}),
    ],
)
def test_the_answer_is_the_file_that_the_folder_way_writes(
    serve: Serve, tmp_path: Path, format_: str, ending: str, how: dict[str, Any]
) -> None:
    server = serve()
    data = photo(format_=format_, **how)
    (tmp_path / f"a.{ending}").write_bytes(data)
    opened = open_photo(tmp_path / f"a.{ending}")
    hole = pixels(mask()) > 0
    filled, report = server.shop.inpainter.fill_photo(opened, hole)
    save_photo(filled, tmp_path / f"b.{ending}")
    answer = server.inpaint(data, mask())
    assert answer.status_code == 200, answer.text
    assert answer.content == (tmp_path / f"b.{ending}").read_bytes()
    assert answer.headers["content-type"] == f"image/{format_.lower()}"
    assert answer.headers["content-disposition"] == f'attachment; filename="repaired.{ending}"'
    assert float(answer.headers["cicm-missing"]) == pytest.approx(report.missing, abs=1e-6)
    assert (answer.headers["cicm-width"], answer.headers["cicm-height"]) == ("60", "40")


def test_known_pixels_stay_and_the_hole_changes(serve: Serve) -> None:
    data, hole = photo(), pixels(mask()) > 0
    before, after = pixels(data), pixels(serve().inpaint(data, mask()).content)
    assert np.array_equal(before[~hole], after[~hole])
    assert not np.array_equal(before[hole], after[hole])


def test_exif_stays_and_a_portrait_comes_upright(serve: Serve) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif[0x010F] = "camera"
    server, data = serve(), photo(format_="JPEG", exif=exif)
    told(server.inpaint(data, mask(60, 40)), 422, "must agree in size", "turned by 90 degrees")
    answer = server.inpaint(data, mask(40, 60))
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.size == (40, 60)
        assert image.getexif()[0x0112] == 1
        assert image.getexif()[0x010F] == "camera"


def test_boxes_are_a_mask(serve: Serve) -> None:
    server, data = serve(), photo()
    expected = server.inpaint(data, mask(box=(10, 10, 20, 20))).content
    assert server.inpaint(data, boxes="[[10, 10, 20, 20]]").content == expected
    box = '[{"left": 10, "top": 10, "right": 20, "bottom": 20}]'
    assert server.inpaint(data, boxes=box).content == expected
    assert server.inpaint(data, boxes="[[10, 10, 20, 15], [10, 12, 20, 20]]").content == expected


def test_invert_and_grow(serve: Serve) -> None:
    server, data = serve(), photo()
    plain = server.inpaint(data, mask())
    turned = 255 - pixels(mask())
    stream = io.BytesIO()
    Image.fromarray(turned).save(stream, "PNG")
    assert server.inpaint(data, stream.getvalue(), invert="true").content == plain.content
    larger = server.inpaint(data, mask(), grow="5")
    wide = grown(pixels(mask()) > 0, 5)
    assert float(larger.headers["cicm-missing"]) == pytest.approx(wide.mean(), abs=1e-6)
    assert np.array_equal(pixels(larger.content)[~wide], pixels(data)[~wide])


def test_another_format_and_what_it_cannot_hold(serve: Serve) -> None:
    server = serve()
    answer = server.inpaint(photo(), mask(), format="jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).format == "JPEG"
    glass = io.BytesIO()
    values = np.full((40, 60, 4), 99, dtype=np.uint8)
    Image.fromarray(values).save(glass, "PNG")
    told(server.inpaint(glass.getvalue(), mask(), format="jpg"), 422, "transparency", ".png")
    deep = io.BytesIO()
    Image.fromarray(np.full((40, 60), 9999, dtype=np.uint16)).save(deep, "PNG")
    assert "16-bit pixels were rounded" in server.inpaint(deep.getvalue(), mask(), format="jpg").headers["cicm-notes"]


@pytest.mark.filterwarnings("ignore::cicm.inference.LargeHoleWarning")
def test_more_than_the_model_is_trained_for_is_noted(serve: Serve) -> None:
    answer = serve().inpaint(photo(), mask(box=(0, 0, 60, 30)))
    assert "75% was filled" in answer.headers["cicm-notes"]


def test_a_preview_of_what_browsers_can_not_show(serve: Serve) -> None:
    server = serve()
    deep = photo(200, 100, "TIFF")
    answer = server.client.post("/api/v1/preview", files={"image": deep}, data={"side": "50"})
    assert (answer.headers["cicm-width"], answer.headers["cicm-height"]) == ("200", "100")
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == ("PNG", (50, 25))
    told(server.client.post("/api/v1/preview", files={"image": b"no"}), 422, "expected a picture")


# What is refused ------------------------------------------------------------------------------------------------------


def huge(width: int = 60000, height: int = 60000) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    )


BAD_FILES = {
    "nothing": (b"", 422, "'image' is missing or empty"),
    "text": (b"hello" * 99, 422, "expected a picture"),
    "truncated": (photo()[:500], 422, "truncated or damaged"),
    "vector": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "svg is not supported"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422, "expected a picture"),
    "bomb": (huge(), 413, "megapixels"),
    "large": (huge(8000, 7000), 413, "at most 50"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_photos_and_bad_masks(serve: Serve, name: str) -> None:
    data, status, words = BAD_FILES[name]
    server = serve()
    told(server.inpaint(data, mask()), status, words)
    if data:
        told(server.inpaint(photo(), data), status, words)
    assert server.inpaint(photo(), mask()).status_code == 200  # and it goes on


FIELDS = {
    "both": ({"boxes": "[[1,1,2,2]]"}, True, "both came"),
    "neither": ({}, False, "neither came"),
    "no such part": ({"path": "../x"}, True, "Unknown part 'path'"),
    "grow below": ({"grow": "-1"}, True, "0 to 512"),
    "grow beyond": ({"grow": "513"}, True, "0 to 512"),
    "grow in words": ({"grow": "a lot"}, True, "whole number"),
    "grow in other digits": ({"grow": "٣"}, True, "whole number"),
    "invert": ({"invert": "maybe"}, True, "true or false"),
    "fill": ({"fill": "magic"}, True, "'fill' is one of both, network, exemplar"),
    "seed": ({"seed": "-1"}, True, "0 to 2147483647"),
    "seed beyond": ({"seed": "2147483648"}, True, "0 to 2147483647"),
    "format": ({"format": "exe"}, True, "'format' is one of jpg"),
    "not json": ({"boxes": "[["}, False, "not JSON"),
    "deep json": ({"boxes": "[" * 100_000}, False, "not JSON"),
    "no list": ({"boxes": "{}"}, False, "JSON list"),
    "empty list": ({"boxes": "[]"}, False, "1 to 10000"),
    "no numbers": ({"boxes": '[["1", 2, 3, 4]]'}, False, "Box 1 is none"),
    "bool": ({"boxes": "[[true, 0, 3, 4]]"}, False, "Box 1 is none"),
    "turned": ({"boxes": "[[0, 0, 1, 1], [5, 5, 2, 9]]"}, False, "Box 2 is none"),
    "outside": ({"boxes": "[[50, 30, 61, 40]]"}, False, "does not lie in the picture of 60x40"),
    "NaN": ({"boxes": "[[NaN, 0, 3, 4]]"}, False, "Box 1 is none"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_bad_fields(serve: Serve, name: str) -> None:
    fields, with_mask, words = FIELDS[name]
    told(serve().inpaint(photo(), mask() if with_mask else None, **fields), 422, words)


def test_nothing_to_fill_and_nothing_to_start_from(serve: Serve) -> None:
    server = serve()
    told(server.inpaint(photo(), mask(box=(0, 0, 0, 0))), 422, "Nothing to fill")
    told(server.inpaint(photo(), mask(box=(0, 0, 60, 40))), 422, "Nothing known to start from")
    told(server.inpaint(photo(), mask(), grow="100"), 422, "Nothing known to start from")


def test_bodies_that_are_none(serve: Serve) -> None:
    server = serve()
    post = server.client.post
    told(post("/api/v1/inpaint", json={"image": "x"}), 415, "multipart/form-data")
    told(post("/api/v1/inpaint", content=b"x", headers={"content-type": "multipart/form-data"}), 415)
    kind = {"content-type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    told(post("/api/v1/inpaint", content=part + b"half", headers=kind), 422, "ends early")
    told(post("/api/v1/inpaint", content=b"rubbish", headers=kind), 422, "damaged")
    twice = part + b"x\r\n" + part + b"y\r\n--b--\r\n"
    told(post("/api/v1/inpaint", content=twice, headers=kind), 422, "came twice")
    long = b'--b\r\nContent-Disposition: form-data; name="image"; filename="' + b"a" * 3000 + b'"\r\n\r\nx\r\n--b--\r\n'
    told(post("/api/v1/inpaint", content=long, headers=kind), 422, "2048")
    told(server.inpaint(photo(), boxes=" " * (2**20 + 1)), 413, "mask file")


def test_unknown_places_and_methods(serve: Serve) -> None:
    client = serve().client
    told(client.get("/api/v2/inpaint"), 404)
    answer = client.get("/api/v1/inpaint")
    told(answer, 405)
    assert answer.headers["allow"] == "POST"


def test_a_failure_of_our_own_tells_nothing_of_the_inside(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve()
    monkeypatch.setattr(server.shop, "_filled", lambda *_: 1 / 0)
    assert "division" not in told(server.inpaint(photo(), mask()), 500, "server failed")


# What the server says of itself ---------------------------------------------------------------------------------------


def test_health_and_info(serve: Serve) -> None:
    client = serve(max_pixels=12345).client
    assert client.get("/api/v1/health").json() == {"status": "ok", "waiting": 0}
    info = client.get("/api/v1/info").json()
    assert info["model"]["name"] == "tiny"
    assert info["limits"]["max_pixels"] == 12345
    assert info["fills"] == ["both", "network", "exemplar"]
    assert info["album"] is True
    assert {"jpg", "avif", "heic"} <= set(info["answers"])
    assert info["formats"] == ["jpeg", "png", "webp", "tiff", "bmp", "gif", "avif", "heif"]


def test_the_description_is_openapi_and_its_page_asks_nobody(serve: Serve) -> None:
    client = serve(token="t" * 20).client
    schema = client.get("/openapi.json").json()
    assert schema["openapi"].startswith("3.")
    parts = schema["paths"]["/api/v1/inpaint"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(parts["properties"]) == {
        *("image", "mask", "boxes", "invert", "grow", "format", "fill", "seed", "album")
    }
    assert parts["properties"]["album"]["maxItems"] == Limits().max_album
    assert {"avif", "heic"} <= set(parts["properties"]["format"]["enum"])
    assert "100 million pixels" in parts["properties"]["album"]["description"]
    assert schema["paths"]["/api/v1/health"]["get"]["security"] == []
    page = client.get("/docs").text
    assert "/api/v1/inpaint" in page
    assert "Authorization: Bearer" in page
    for source in page.replace("'", "").split(" href=")[1:] + page.split(" src=")[1:]:
        assert source.startswith("/"), source[:60]


# Real pixels, and other photos ----------------------------------------------------------------------------------------

SPOT = (150, 100, 190, 140)


def scene() -> np.ndarray:
    """(240, 320, 3): much to recognise."""
    rng = np.random.default_rng(5)
    coarse, fine = rng.integers(0, 256, (15, 20, 3)), rng.integers(0, 256, (60, 80, 3))
    sizes = [np.asarray(Image.fromarray(one.astype(np.uint8)).resize((320, 240), 3), float) for one in (coarse, fine)]
    return (0.6 * sizes[0] + 0.4 * sizes[1]).astype(np.uint8)


def damaged() -> np.ndarray:
    values = scene()
    left, top, right, bottom = SPOT
    values[top:bottom, left:right] = (230, 20, 200)
    return values


def png(values: np.ndarray, format_: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, format_, **({"quality": 95} if format_ == "JPEG" else {}))
    return stream.getvalue()


def error_in_spot(data: bytes) -> float:
    left, top, right, bottom = SPOT
    here = np.s_[top:bottom, left:right]
    return float(np.abs(pixels(data)[here].astype(float) - scene()[here]).mean())


OTHER = png(np.roll((scene() * 0.9).astype(np.uint8), (7, 12), (0, 1)))
"""The same scene, moved and darker."""


def test_the_ways_of_filling_and_seeds(serve: Serve) -> None:
    server, data, hole = serve(), png(damaged()), mask(320, 240, SPOT)
    answers = {(fill, seed): server.inpaint(data, hole, fill=fill, seed=str(seed)) for fill in FILLS for seed in (0, 7)}
    for (fill, seed), answer in answers.items():
        assert answer.status_code == 200, answer.text
        assert (answer.headers["cicm-fill"], answer.headers["cicm-seed"]) == (fill, str(seed))
        assert "cicm-lenders" not in answer.headers
    contents = {key: answer.content for key, answer in answers.items()}
    assert contents["network", 0] == contents["network", 7]
    assert len(set(contents.values())) == 5
    assert server.inpaint(data, hole).content == contents["both", 0]
    opened = decode_photo(data)
    for fill in FILLS:
        alone = Inpainter(server.shop.inpainter.model, device="cpu", fill=fill, seed=7)
        filled, _ = alone.fill_photo(opened, pixels(hole) > 0)
        assert encode_photo(filled)[0] == contents[fill, 7]


def test_an_album_gives_the_true_pixels_and_is_named(serve: Serve) -> None:
    server, data, hole = serve(), png(damaged()), mask(320, 240, SPOT)
    alone = server.inpaint(data, hole)
    answer = server.inpaint(data, hole, album=[("C:\\photos\\Strand é, 2.jpg", OTHER), ("cat.png", photo(200, 150))])
    assert answer.status_code == 200, answer.text
    assert answer.headers["cicm-lenders"] == quote("Strand é, 2.jpg", safe="")
    assert error_in_spot(answer.content) < 0.3 * error_in_spot(alone.content)
    # It is forgotten with the answer, and the photo itself lends nothing.
    assert server.inpaint(data, hole).content == alone.content
    own = server.inpaint(data, hole, album=[("same.png", data)])
    assert own.content == alone.content
    assert "not copied from same.png: it is the photo itself" in own.headers["cicm-notes"]
    unlike = server.inpaint(data, hole, album=[("cat.png", photo(200, 150))])
    assert unlike.content == alone.content
    assert "cicm-lenders" not in unlike.headers


def test_an_album_of_files_gives_the_same(serve: Serve, tmp_path: Path) -> None:
    server, data = serve(), png(damaged())
    (tmp_path / "other.png").write_bytes(OTHER)
    with_files = Inpainter(server.shop.inpainter.model, device="cpu")
    with_files.album = make_album(tmp_path)
    filled, report = with_files.fill_photo(decode_photo(data), pixels(mask(320, 240, SPOT)) > 0)
    assert report.lenders == ("other.png",)
    answer = server.inpaint(data, mask(320, 240, SPOT), album=[("other.png", OTHER)])
    assert answer.content == encode_photo(filled)[0]


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_photos_in_an_album(serve: Serve, name: str) -> None:
    data, status, words = BAD_FILES[name]
    server = serve()
    answer = server.inpaint(photo(), mask(), album=[("good.png", photo(seed=1)), ("bad.jpg", data)])
    reason = told(answer, status, words if data else "is empty")
    assert "bad.jpg" in reason
    assert server.inpaint(photo(), mask()).status_code == 200


def test_too_many_album_photos(serve: Serve) -> None:
    server = serve(max_album=3, max_album_pixels=6000)
    some = [(f"{seed}.png", photo(seed=seed)) for seed in range(1, 5)]
    assert server.inpaint(photo(), mask(), album=some[:2]).status_code == 200
    told(server.inpaint(photo(), mask(), album=some[:3]), 413, "0.006 million pixels together")
    told(server.inpaint(photo(), mask(), album=some), 413, "at most 3 photos")
    told(server.inpaint(photo(), mask(), album=some * 250), 413, "at most 3 photos")
    told(server.client.post("/api/v1/preview", files={"album": ("a", photo())}), 422, "Unknown part 'album'")
    kind = {"content-type": "multipart/form-data; boundary=b"}
    empty = b'--b\r\nContent-Disposition: form-data; name="album"; filename=""\r\n\r\n\r\n'
    told(server.client.post("/api/v1/inpaint", content=empty * 1000 + b"--b--\r\n", headers=kind), 413, "at most 3")


def test_a_format_that_phones_write(serve: Serve) -> None:
    answer = serve().inpaint(photo(), mask(), format="heic")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/heif"
    assert answer.headers["content-disposition"].endswith('"repaired.heic"')


# Nothing touches the disk ---------------------------------------------------------------------------------------------

WRITTEN: list[str] | None = None


def watch(event: str, args: tuple[Any, ...]) -> None:
    if WRITTEN is not None and event == "open" and isinstance(args[0], (str, bytes)):
        flags = args[2] if isinstance(args[2], int) else 0
        if flags & 0o3 or (isinstance(args[1], str) and set(args[1]) & set("wxa+")):
            WRITTEN.append(str(args[0]))
    elif WRITTEN is not None and event.startswith(("tempfile.", "os.rename", "os.mkdir", "subprocess.")):
        WRITTEN.append(f"{event} {args}")


def test_a_request_writes_no_file(serve: Serve) -> None:
    global WRITTEN
    server = serve()
    server.inpaint(photo(), mask(), album=[("a", photo(seed=1))])  # whatever loads at the first time
    sys.addaudithook(watch)
    WRITTEN = []
    try:
        data = photo(1200, 900, "TIFF")  # 3 MB: more than what frameworks keep in memory by themselves
        parts = [
            ("image", ("../../etc/passwd", data)),
            ("mask", ("/etc/x\0y", mask(1200, 900))),
            *[("album", (f"../{seed}", photo(1200, 900, "TIFF", seed=seed))) for seed in (1, 2)],
        ]
        assert server.client.post("/api/v1/inpaint", files=parts).status_code == 200
        assert WRITTEN == []
        with (Path(__file__).parent / "conftest.py").open("r+"):  # the watch is awake
            pass
        assert len(WRITTEN) == 1
    finally:
        WRITTEN = None
