"""The page stands alone, escapes what comes from outside, shows what was found; and the door to it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.assembly import ModelConfig, build, save_weights
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.inference import Inpainter
from cicm.look import Look, SourceIndex, look, make_index, numbers, page, save_index
from cicm.photos import open_photo

from .conftest import Place

page_module = import_module("cicm.look.page")  # the function has the same name
NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\"'.png"


class Reader(HTMLParser):
    """Elements, their attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.unclosed = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.unclosed += self.open.pop() != tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def data(self) -> dict:
        at = next(i for i, (_, a) in enumerate(self.elements) if a.get("id") == "data")
        number = [tag for tag, _ in self.elements[: at + 1]].count("script")
        return json.loads([text for tag, text in self.texts if tag == "script"][number - 1])


@pytest.fixture(scope="module")
def index(place: Place) -> SourceIndex:
    return make_index(place.model, place.photos, keep=3, side=64)


@pytest.fixture(scope="module")
def found(place: Place) -> Look:
    return look(Inpainter(place.model, device="cpu"), open_photo(place.photo), place.mask)


def test_nothing_on_the_page_points_outside(found: Look, index: SourceIndex) -> None:
    text = page(found, index)
    reader = Reader(text)
    assert (reader.open, reader.unclosed) == ([], 0)
    for tag, attributes in reader.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on"), "no script in attributes"
            if name in ("src", "href", "action", "srcset"):
                assert value.startswith("data:"), (tag, name)
    without_data = re.sub(r'<script type="application/json".*?</script>|base64,[\w+/=]+', "", text, flags=re.DOTALL)
    assert re.findall(r"https?:|//[a-z]", without_data) == []
    for address in re.findall(r"url\(([^)]*)\)", text):
        assert address.startswith("data:image/")
    policy = next(a["content"] for t, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "script-src 'sha256-" in policy


def test_the_policy_allows_the_one_script_that_is_there(found: Look) -> None:
    import hashlib

    text = page(found)
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in text
    assert "innerHTML" not in script[0]


def test_names_from_outside_stay_text(found: Look, index: SourceIndex) -> None:
    nasty = replace(index, photos=tuple(f"{n}{NASTY}" for n in range(len(index.photos))))
    reader = Reader(page(replace(found, name=NASTY), nasty))
    assert Counter(tag for tag, _ in reader.elements)["script"] == 2
    assert "x" not in [a.get("src") for _, a in reader.elements]
    assert (NASTY in "".join(t for tag, t in reader.texts if tag == "strong")) is True
    names = {one["photo"] for rows in reader.data()["sources"].values() for one in rows}
    assert names
    assert all(name.endswith(NASTY) for name in names)


def test_the_data_are_what_was_found(found: Look, index: SourceIndex) -> None:
    told = Reader(page(found, index)).data()
    (visit,) = told["visits"]
    assert visit["sets"] == found.visits[0].sets.tolist()
    weights = np.array(visit["weights"]).reshape(24, -1)
    assert visit["each"] == weights.shape[1] == 4  # all there are
    assert weights.sum(1) == pytest.approx(np.full(24, 1e4), abs=3)
    for region in range(24):
        for place in range(3):
            context = visit["top"][region * 4 + place]
            rows = told["sources"][f"bottom/{visit['sets'][region]}/{context}"]
            expected = index.of("bottom", visit["sets"][region], context)
            assert [row["photo"] for row in rows] == [one.photo for one in expected]
            assert [base64.b64decode(row["picture"]) for row in rows] == [one.thumbnail for one in expected]


def test_the_maps_are_readable_without_the_script(found: Look) -> None:
    reader = Reader(page(found))
    maps = [a["src"] for tag, a in reader.elements if tag == "img"]
    assert len(maps) == 4
    shown = []
    for address in maps:
        with Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))) as image:
            assert image.size == (6, 4)
            shown.append(np.asarray(image).reshape(24, 3).astype(int))
    (visit,) = found.visits
    same_colour = (shown[0][:, None] == shown[0][None]).all(-1)
    assert np.array_equal(same_colour, visit.sets[:, None] == visit.sets[None])
    darker = shown[2].sum(1)
    order = np.argsort(visit.true, kind="stable")
    assert (np.diff(darker[order]) <= 0).all()  # more missing, darker
    written = [text for tag, text in reader.texts if tag == "text"]
    assert written == [str(s) for s in visit.sets]


def test_the_page_has_an_upper_size(found: Look, index: SourceIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Reader(page(found, index)).data()["sources"]
    pictures = [row["picture"] for rows in whole.values() for row in rows]
    assert all(pictures)
    monkeypatch.setattr(page_module, "MAX_THUMBNAILS", 5000)
    fewer = Reader(page(found, index)).data()["sources"]
    left = [row["picture"] for rows in fewer.values() for row in rows]
    assert len(left) == len(pictures)  # the names stay
    assert 0 < sum(len(base64.b64decode(p)) for p in left) <= 5000
    monkeypatch.setattr(page_module, "MAX_PAGE", 1000)
    with pytest.raises(InputError, match="smaller photo"):
        page(found, index)


def test_an_index_of_other_weights_never_reaches_the_page(found: Look, index: SourceIndex) -> None:
    with pytest.raises(InputError, match="other weights"):
        page(found, replace(index, fingerprint="0" * 64))


def test_it_says_what_the_pictures_are_not(found: Look, index: SourceIndex) -> None:
    assert "not a recording" in page(found, index)
    assert "not a recording" not in page(found)
    assert "--make-index" in page(found)


@pytest.mark.slow
def test_a_browser_shows_what_a_region_read(found: Look, index: SourceIndex, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    (tmp_path / "page.html").write_text(page(found, index))
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--dump-dom"]
    done = subprocess.run(
        [browser, *words, f"file://{tmp_path}/page.html"], capture_output=True, text=True, timeout=120, check=False
    )
    region = done.stdout.split('id="region"')[1].split("</aside>")[0]
    assert re.search(r"Region in row \d, column \d", region)
    assert region.count('class="bar"') == 2 + 4
    assert "p3.png" in region or "p0.png" in region
    assert "Content Security Policy" not in done.stderr


# The door -------------------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture, *words: object) -> tuple[int, str, str]:
    code = main(["look", *map(str, words)])
    return code, *capsys.readouterr()


def test_an_index_then_a_page_then_the_numbers(
    place: Place, found: Look, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    index = make_index(place.model, place.photos)
    held, shown = tmp_path / "i.safetensors", tmp_path / "page.html"
    own = ["--weights", place.weights]
    code, out, _ = run(capsys, "--make-index", place.photos, *own, "-o", held)
    assert code == 0
    assert "6 photos, " in out
    assert held.read_bytes() == save_index(index, tmp_path / "same.safetensors").read_bytes()
    asked = [place.photo, "--mask", place.mask, *own, "--index", held]
    code, out, err = run(capsys, *asked, "-o", shown)
    assert (code, out) == (0, "")
    assert f"wrote {shown}" in err
    assert shown.read_text() == page(found, index)
    code, out, err = run(capsys, *asked, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["sources"]["bottom"]
    shown.write_text("mine")
    code, _, err = run(capsys, *asked, "-o", shown)
    assert (code, shown.read_text()) == (2, "mine")
    assert run(capsys, *asked, "-o", shown, "--overwrite")[0] == 0


def test_what_is_wrong_is_one_line_and_exit_code_2(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for words, expected in (
        ([], "name either a PHOTO"),
        (["{photo}", "--make-index", "{photos}", "-o", "x.safetensors"], "name either a PHOTO"),
        (["{photo}"], "needs --mask"),
        (["{photo}", "--mask", "{mask}"], "-o page.html"),
        (["{photo}", "--mask", "{mask}", "-o", "{folder}/page.png"], "must end in .html"),
        (["{photo}", "--mask", "{mask}", "-o", "{folder}/no/page.html"], "does not exist"),
        (["{photo}", "--mask", "{photos}/p0.png", "-o", "{folder}/p.html"], "must agree in size"),
        (
            ["{photo}", "--mask", "{mask}", "-o", "{folder}/p.html", "--no-thumbnails"],
            "--no-thumbnails does not go with",
        ),
        (["--make-index", "{photos}"], "-o index.safetensors"),
        (["--make-index", "{photos}", "-o", "{folder}/i.json"], "must end in .safetensors"),
        (["--make-index", "{photos}", "--mask", "{mask}", "-o", "{folder}/i.safetensors"], "--mask does not go with"),
        (["--make-index", "{folder}/none", "--weights", "{weights}", "-o", "{folder}/i.safetensors"], "does not exist"),
        (["{photo}", "--mask", "{mask}", "--index", "{photo}", "--weights", "{weights}", "--json"], "is not a whole"),
        (["{photo}", "--mask", "{mask}", "--index", "{folder}/i", "--json"], "does not exist"),
    ):
        code, out, err = run(capsys, *(w.format(**vars(place), folder=tmp_path) for w in words))
        assert (code, out) == (2, ""), words
        assert expected in err, words
        assert err.count("\n") == 1, words
        assert list(tmp_path.iterdir()) == [], words


def test_a_model_without_memory_has_nothing_to_show(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = ModelConfig("unet", {"width": 4})
    file = save_weights(tmp_path / "plain.safetensors", build(config), config)
    code, _, err = run(capsys, place.photo, "--mask", place.mask, "--weights", file, "-o", tmp_path / "p.html")
    assert code == 2
    assert "no memory" in err
    assert not (tmp_path / "p.html").exists()


def test_the_page_says_what_filled_the_hole(place: Place, found: Look) -> None:
    assert found.report.fill == "both"
    assert "joins the network&#39;s fill with patches" in page(found)
    lent = replace(found, report=replace(found.report, lenders=("a<b.png",), notes=("something was left out.",)))
    text = page(lent)
    assert "Photos of the album gave pixels: a&lt;b.png." in text
    assert "Something was left out." in text
    alone = look(Inpainter(place.model, device="cpu", fill="network"), open_photo(place.photo), place.mask)
    assert "The network filled the hole." in page(alone)
    assert (numbers(alone)["fill"], numbers(found)["fill"], numbers(lent)["lenders"]) == (
        "network",
        "both",
        ["a<b.png"],
    )


def test_a_fill_without_the_network_has_nothing_to_show(place: Place) -> None:
    with pytest.raises(InputError, match="the network filled nothing here"):
        look(Inpainter(place.model, device="cpu", fill="exemplar"), open_photo(place.photo), place.mask)
