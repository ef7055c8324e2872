"""A person's way through the page in a real browser: on a desk, on a phone, with keys alone; and what goes wrong."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .conftest import Served, chromium, mask, photo
from .test_api import OTHER, SPOT, damaged, error_in_spot, png

DESK, PHONE = (1280, 800), (390, 780)


class Person:
    """Uses the page as one does: looks, points, presses."""

    def __init__(self, browser: Any, server: Served, folder: Path, touch: bool) -> None:
        self.browser, self.server, self.folder, self.touch = browser, server, folder, touch
        browser.get(server.url + "/")
        self.until(lambda: self.js("return document.documentElement.dataset.ready") == "yes")

    def js(self, code: str, *args: Any) -> Any:
        return self.browser.execute_script(code, *args)

    def get(self, name: str) -> Any:
        return self.browser.find_element("id", name)

    def press(self, name: str) -> None:
        self.get(name).click()

    def keys(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def chord(self, held: str, key: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).key_down(held).send_keys(key).key_up(held).perform()

    @property
    def state(self) -> str:
        return self.js("return document.body.dataset.state")

    @property
    def told(self) -> str:
        return self.get("told").text

    @property
    def alert(self) -> str:
        return self.get("alert").text

    @property
    def share(self) -> float:
        """What the page says is marked, as a share."""
        match = re.match(r"([\d.]+) % marked", self.told)
        return float(match[1]) / 100 if match else 0.0

    def until(self, check: Callable[[], Any], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < deadline, f"waited in vain; state {self.state}, alert {self.alert!r}"
            time.sleep(0.05)

    def open(self, data: bytes, name: str = "holiday.png") -> None:
        path = self.folder / name
        path.write_bytes(data)
        self.get("photo-file").send_keys(str(path))
        self.until(lambda: (self.state == "paint" and self.get("name").text == name) or self.alert)
        time.sleep(0.1)

    def draw(self, *points: tuple[float, float], button: int = 0) -> None:
        """Along points of the stage, as shares of its sides."""
        box = self.get("stage").rect
        places = [(int(box["x"] + x * box["width"]), int(box["y"] + y * box["height"])) for x, y in points]
        if self.touch:
            self.fingers("touchStart", places[:1])
            for place in places[1:]:
                self.fingers("touchMove", [place])
            self.fingers("touchEnd", [])
        else:
            from selenium.webdriver.common.actions.action_builder import ActionBuilder
            from selenium.webdriver.common.actions.pointer_input import PointerInput

            builder = ActionBuilder(self.browser, mouse=PointerInput("mouse", "mouse"), duration=15)
            for number, (x, y) in enumerate(places):
                builder.pointer_action.move_to_location(x, y)
                if number == 0:
                    builder.pointer_action.pointer_down(button=button)
            builder.pointer_action.pointer_up(button=button)
            builder.perform()
        time.sleep(0.05)

    def fingers(self, kind: str, places: list[tuple[int, int]]) -> None:
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        self.browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def repair(self) -> None:
        self.press("repair")
        self.until(lambda: self.state == "compare" or self.alert)

    def download(self, button: str) -> bytes:
        before = set(self.downloads())
        self.press(button)
        self.until(lambda: set(self.downloads()) - before)
        (new,) = set(self.downloads()) - before
        return new.read_bytes()

    def downloads(self) -> list[Path]:
        """Whole files: the browser reserves a name with an empty file, and puts the whole one in its place."""
        found = [path for path in (self.folder / "downloads").glob("*") if path.suffix != ".crdownload"]
        return [path for path in found if not path.name.startswith(".") and path.stat().st_size]

    def marked(self) -> np.ndarray:
        """The mask that is sent, decoded from the file that is sent."""
        self.browser.set_script_timeout(20)
        code = """
            const [done] = arguments, real = XMLHttpRequest.prototype.send;
            XMLHttpRequest.prototype.send = function (form) {
              XMLHttpRequest.prototype.send = real;
              const reader = new FileReader();
              reader.onload = () => { this.onabort(); done(reader.result); };
              reader.readAsDataURL(form.get("mask"));
            };
            document.getElementById("repair").click();
        """
        data = self.browser.execute_async_script(code).partition(",")[2]
        self.until(lambda: self.state == "paint")
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.mode == "1"
            return np.array(image)

    def clean(self) -> None:
        """No complaint in the console, no request but to the own server."""
        severe = [entry for entry in self.browser.get_log("browser") if entry["level"] not in ("INFO", "DEBUG")]
        assert severe == []
        asked = []
        for entry in self.browser.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.append(message["params"]["request"]["url"])
        assert [url for url in asked if url.startswith(self.server.url)]
        own = (
            self.server.url,
            "blob:",
            "data:",
            "chrome:",
            "chrome-untrusted:",
        )  # the last is the browser's own first page
        assert [url for url in asked if not url.startswith(own)] == []


Meet = Callable[..., Person]


@pytest.fixture
def meet(serve: Callable[..., Served], tmp_path: Path) -> Iterator[Meet]:
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(size: tuple[int, int] = DESK, *, server: Served | None = None, **options: Any) -> Person:
            folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            phone = size == PHONE
            browser = stack.enter_context(chromium(folder, width=size[0], height=size[1], phone=phone))
            return Person(browser, server or serve(**options), folder, phone)

        yield start


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_whole_way(meet: Meet, size: tuple[int, int]) -> None:
    person = meet(size)
    data = photo(640, 480)
    assert person.state == "start"
    person.open(data)
    assert person.state == "paint"
    assert not person.get("repair").is_enabled()

    # Two strokes, the second taken back and put back.
    person.draw((0.4, 0.5), (0.5, 0.45), (0.6, 0.5))
    first = person.share
    assert 0.005 < first < 0.2
    person.draw((0.45, 0.6), (0.55, 0.6))
    second = person.share
    assert second > first
    person.press("undo")
    person.until(lambda: person.share == first)
    person.press("redo")
    person.until(lambda: person.share == second)
    person.press("undo")
    person.until(lambda: person.share == first)
    hole = person.marked()
    assert hole.shape == (480, 640)
    assert hole.mean() == pytest.approx(first, abs=0.006)

    # Repair, compare.
    person.repair()
    assert person.state == "compare", person.alert
    assert "filled in" in person.told
    person.draw((0.5, 0.5), (0.3, 0.5))
    assert 10 < int(person.get("split").get_attribute("value")) < 45
    result = person.download("save")
    before, after = pixels(data), pixels(result)
    assert after.shape == before.shape
    assert np.array_equal(before[~hole], after[~hole])
    assert not np.array_equal(before[hole], after[hole])

    # Undo the repair: the mask is as it was. Repair again, keep going on the result.
    person.press("back")
    person.until(lambda: person.state == "paint")
    assert person.share == first
    person.repair()
    person.press("go-on")
    person.until(lambda: person.state == "paint")
    assert person.share == 0
    assert not person.get("repair").is_enabled()
    person.draw((0.4, 0.4), (0.5, 0.4))
    more = person.marked()
    person.repair()
    again = pixels(person.download("save"))
    assert np.array_equal(again[~more], after[~more])
    assert {path.name for path in person.downloads()} == {"holiday-repaired.png", "holiday-repaired (1).png"}
    person.clean()


def test_what_can_not_be_repaired_is_refused_when_it_is_opened(meet: Meet) -> None:
    person = meet()
    frames = [Image.new("RGB", (40, 30), shade) for shade in ("black", "red", "white")]
    for kind, words in [
        ("GIF", "is an animation"),
        ("PNG", "is an animation"),
        ("WEBP", "is an animation"),
        ("ICO", "is ICO, which this server does not open"),
    ]:
        stream = io.BytesIO()
        more = {} if kind == "ICO" else {"save_all": True, "append_images": frames[1:]}
        frames[0].save(stream, kind, **more)
        person.open(stream.getvalue(), f"film.{kind.lower()}")
        assert words in person.alert, kind
        assert person.state == "start"
        person.js("document.querySelector('#alert button').click()")
    for kind in ("GIF", "PNG", "WEBP", "BMP"):
        stream = io.BytesIO()
        frames[0].save(stream, kind)
        person.open(stream.getvalue(), f"still.{kind.lower()}")
        assert person.alert == ""
        assert person.state == "paint"
    person.clean()


def test_towards_after_the_slider_shows_more_after_and_a_held_button_shows_before(meet: Meet) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    person = meet()
    person.open(photo(640, 480))
    person.draw((0.45, 0.5), (0.55, 0.5))

    def middle() -> list[int]:
        time.sleep(0.2)
        code = """
            const canvas = document.querySelector("#stage canvas");
            const { data } = canvas.getContext("2d").getImageData(canvas.width / 2 - 40, canvas.height / 2, 80, 1);
            return Array.from(data);
        """
        return person.js(code)

    before = middle()
    person.repair()
    words = [one.text for one in person.browser.find_elements("css selector", ".split span")]
    assert words == ["Before", "After"]  # from left to right
    person.get("split").send_keys(Keys.END)  # all the way to "After"
    after = middle()
    assert after != before
    person.get("split").send_keys(Keys.HOME)
    assert middle() == before
    person.get("split").send_keys(Keys.END)
    ActionChains(person.browser).click_and_hold(person.get("hold")).perform()
    assert middle() == before
    ActionChains(person.browser).release().perform()
    assert middle() == after
    ActionChains(person.browser).key_down(Keys.SPACE, person.get("hold")).perform()
    assert middle() == before
    ActionChains(person.browser).key_up(Keys.SPACE).perform()
    assert middle() == after


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_ways_answers_and_other_photos(meet: Meet, size: tuple[int, int]) -> None:
    person = meet(size)

    def fill(way: str) -> None:
        person.js(f"document.querySelector('[name=fill][value={way}]').click()")

    def again(button: str = "another") -> str:
        """What is told when the next answer is there."""
        before = person.get("answer-told").text
        person.press(button)
        person.until(lambda: (person.state == "compare" and person.get("answer-told").text != before) or person.alert)
        assert person.alert == ""
        return person.told

    def add(*files: tuple[str, bytes]) -> None:
        for name, data in files:
            (person.folder / name).write_bytes(data)
        person.get("album-file").send_keys("\n".join(str(person.folder / name) for name, _ in files))
        person.until(lambda: person.js("return !document.body.classList.contains('opening')"))

    person.open(png(damaged()), "beach.png")
    mask_file = person.folder / "mask.png"
    mask_file.write_bytes(mask(320, 240, SPOT))
    person.get("mask-file").send_keys(str(mask_file))
    person.until(lambda: person.share > 0)

    # Each way of filling; another answer; the earlier ones can be gone back to.
    person.repair()
    assert person.told.endswith("with real pixels of this photo, joined smoothly")
    assert person.get("answer-told").text == "1 of 1"
    first = person.download("save")
    again()
    assert person.get("answer-told").text == "2 of 2"
    second = person.download("save")
    assert second != first
    person.press("earlier")
    assert person.get("answer-told").text == "1 of 2"
    assert person.download("save") == first
    fill("network")
    assert person.get("another").text == "Repair again"
    assert again().endswith("s, smoothly")
    assert not person.get("another").is_enabled()  # it has one answer
    person.press("earlier")
    assert person.js("return document.querySelector('[name=fill]:checked').value") == "both"

    # Other photos: what can't be used is told when it is added; the true pixels come from the one that shows them.
    add(("beach2.png", OTHER), ("cat.jpg", photo(200, 150, "JPEG")), ("scan.tif", photo(90, 60, "TIFF")))
    assert person.alert == ""
    assert person.get("album-count").text == "3"
    add(("letter.png", b"no photo at all" * 9))
    person.until(lambda: "Expected a picture" in person.alert)
    person.js("document.querySelector('#alert button').click()")
    assert person.get("another").text == "Repair again"
    assert again().endswith("with pixels of beach2.png")
    assert error_in_spot(person.download("save")) < 0.3 * error_in_spot(first)
    person.js("document.getElementById('album').open = true")
    for name in ("beach2.png", "scan.tif"):
        person.browser.find_element("css selector", f"[aria-label='Remove {name}']").click()
    assert person.get("album-count").text == "1"
    assert again().endswith("; the other photo does not show this spot")
    person.js("document.getElementById('album').open = true")
    person.press("album-clear")
    assert not person.get("album-count").is_displayed()

    # One answer is kept when one goes on, and undone as any repair.
    person.press("go-on")
    person.until(lambda: person.state == "paint")
    person.press("undo")
    person.until(lambda: person.share > 0)


@pytest.mark.slow
def test_more_other_photos_than_the_server_takes_and_a_drop(meet: Meet) -> None:
    person = meet(max_album=2, max_album_pixels=100_000)
    person.open(png(damaged()), "beach.png")
    drop = """
        const [count, done] = arguments, carried = new DataTransfer();
        const canvas = new OffscreenCanvas(200, 150);
        canvas.getContext("2d").fillRect(9, 9, 50, 50);
        canvas.convertToBlob().then((blob) => {
          for (let k = 0; k < count; k++) carried.items.add(new File([blob], `dropped${k}.png`, { type: "image/png" }));
          for (const kind of ["dragenter", "dragover", "drop"]) {
            const how = { dataTransfer: carried, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new DragEvent(kind, how));
          }
          done();
        });
    """
    person.browser.set_script_timeout(20)
    person.browser.execute_async_script(drop, 3)
    person.until(lambda: person.alert)
    assert "dropped2.png was not added: this server takes up to 2 other photos" in person.alert
    assert person.get("name").text == "beach.png"
    assert person.get("album-count").text == "2"
    assert person.get("album-list").is_displayed()
    person.js("document.querySelector('#alert button').click()")
    person.press("album-clear")
    (person.folder / "wide.png").write_bytes(photo(640, 480))
    person.get("album-file").send_keys(str(person.folder / "wide.png"))
    person.until(lambda: "megapixels" in person.alert)
    person.browser.execute_async_script(drop, 1)  # one alone, not on the place for other photos, is opened
    person.until(lambda: person.get("name").text == "dropped0.png")


@pytest.mark.slow
def test_two_fingers_zoom_and_draw_nothing(meet: Meet) -> None:
    person = meet(PHONE)
    person.open(photo(640, 480))
    person.draw((0.4, 0.5), (0.5, 0.5))
    share, zoom = person.share, int(person.get("zoom").text.split()[0])
    person.fingers("touchStart", [(150, 300)])
    person.fingers("touchStart", [(150, 300), (250, 300)])
    for apart in (20, 60, 100):
        person.fingers("touchMove", [(150 - apart // 2, 300), (250 + apart // 2, 300)])
    person.fingers("touchEnd", [])
    person.until(lambda: int(person.get("zoom").text.split()[0]) > 1.6 * zoom)
    assert person.share == share
    person.draw((0.4, 0.5), (0.5, 0.55))  # the fingers are up: one draws again
    assert person.share > share
    person.clean()


@pytest.mark.slow
def test_with_keys_alone(meet: Meet) -> None:
    from selenium.webdriver.common.keys import Keys

    person = meet()
    person.open(photo(640, 480))
    person.js("document.getElementById('stage').focus()")
    person.keys(Keys.ENTER, *[Keys.ARROW_RIGHT] * 8, Keys.ENTER)  # a stroke
    stroke = person.share
    assert stroke > 0
    person.keys("r", Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER, *[Keys.ARROW_DOWN, Keys.ARROW_LEFT] * 6, Keys.ENTER)
    assert person.share > stroke
    person.chord(Keys.CONTROL, "z")
    assert person.share == stroke
    person.chord(Keys.CONTROL, "y")
    assert person.share > stroke
    person.keys("i")
    assert person.share > 0.5
    person.keys("i", Keys.DELETE)
    assert person.share == 0
    person.keys("b")
    before = person.get("size-told").text
    person.keys("]", "]", "[")
    assert person.get("size-told").text != before
    person.keys(Keys.ENTER, Keys.ARROW_RIGHT, Keys.ENTER)
    person.chord(Keys.CONTROL, Keys.ENTER)
    person.until(lambda: person.state == "compare")
    assert person.js("return document.activeElement.id") == "split"
    person.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert person.get("split").get_attribute("value") == "52"
    person.chord(Keys.CONTROL, "z")
    assert person.state == "paint"
    person.clean()


@pytest.mark.slow
def test_tools_zoom_and_a_mask_from_a_file(meet: Meet) -> None:
    person = meet()
    person.open(photo(640, 480))

    def choose(tool: str) -> None:
        person.js(f"document.querySelector('[name=tool][value={tool}]').click()")

    choose("rectangle")
    person.draw((0.4, 0.4), (0.6, 0.6))
    hole = person.marked()
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    assert hole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    choose("eraser")
    person.draw((0.5, 0.5), (0.52, 0.5))
    less = person.marked()
    assert not (less & ~hole).any()
    assert 0 < less.sum() < hole.sum()
    person.press("clear")
    choose("lasso")
    person.draw((0.4, 0.4), (0.6, 0.4), (0.5, 0.6))
    triangle = person.marked()
    assert triangle[np.flatnonzero(triangle.any(1))[1]].sum() > 3 * triangle[np.flatnonzero(triangle.any(1))[-2]].sum()

    # Zoomed in, the same stroke is smaller in the photo; moving the view draws nothing.
    for _ in range(4):
        person.press("zoom-in")
    zoom = person.get("zoom").text
    choose("hand")
    person.draw((0.5, 0.5), (0.6, 0.6))
    assert np.array_equal(person.marked(), triangle)
    choose("rectangle")
    person.press("clear")
    person.draw((0.4, 0.4), (0.6, 0.6))
    assert 0 < person.marked().sum() < 0.3 * hole.sum()
    person.press("zoom-fit")
    assert person.get("zoom").text != zoom

    # A mask file is added; one of another size is told.
    person.press("clear")
    path = person.folder / "mask.png"
    path.write_bytes(mask(640, 480, (100, 50, 300, 90)))
    person.get("mask-file").send_keys(str(path))
    person.until(lambda: person.share > 0)
    assert np.array_equal(person.marked(), pixels(path.read_bytes()) > 0)
    path.write_bytes(mask(480, 640))
    person.get("mask-file").send_keys(str(path))
    person.until(lambda: "turned by 90 degrees" in person.alert)
    assert "480 x 640" in person.alert
    person.clean()


@pytest.mark.slow
def test_a_format_that_browsers_do_not_show_and_a_turned_photo(meet: Meet) -> None:
    person = meet()
    values = np.random.default_rng(0).integers(0, 65536, (90, 120), dtype=np.uint16)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "TIFF")
    person.open(stream.getvalue(), "scan.tif")
    assert person.state == "paint", person.alert
    person.draw((0.45, 0.5), (0.5, 0.5))
    hole = person.marked()
    person.repair()
    result = pixels(person.download("save"))
    assert result.dtype == np.uint16
    assert np.array_equal(result[~hole], values[~hole])

    exif = Image.Exif()
    exif[0x0112] = 6
    person.js("window.confirm = () => true")
    person.open(photo(200, 100, "JPEG", exif=exif), "portrait.jpg")
    person.draw((0.5, 0.5), (0.5, 0.55))
    assert person.marked().shape == (200, 100)
    person.repair()
    assert person.state == "compare", person.alert
    assert pixels(person.download("save")).shape == (200, 100, 3)
    person.clean()


@pytest.mark.slow
def test_options_and_what_the_server_refuses(meet: Meet) -> None:
    person = meet(max_pixels=100_000, max_bytes=400_000)
    person.open(np.random.default_rng(0).bytes(500_000), "film.png")
    assert "film.png has 489 KiB; this server takes up to 391 KiB" in person.alert
    person.js("document.querySelector('#alert button').click()")
    person.open(photo(640, 480, "JPEG"), "wide.jpg")
    assert "megapixels; this server takes up to" in person.alert
    person.js("document.querySelector('#alert button').click()")
    person.open(b"no photo at all" * 9, "letter.png")
    assert "Expected a picture" in person.alert
    person.js("document.querySelector('#alert button').click()")
    person.open(photo(300, 200), "small.png")
    assert person.alert == ""
    person.draw((0.5, 0.5), (0.52, 0.5))
    marked = person.marked().mean()
    person.js("document.getElementById('options').open = true")
    person.get("grow").clear()
    person.get("grow").send_keys("9")
    person.js("document.getElementById('format').value = 'jpg'")
    person.repair()
    assert float(person.told.split(" ")[0]) / 100 > marked * 1.2
    person.press("save")
    person.until(lambda: person.downloads())
    assert [path.name for path in person.downloads()] == ["small-repaired.jpg"]
    # The browser itself reports the two refused previews in its console; nothing else may stand there.
    entries = [one["message"] for one in person.browser.get_log("browser") if one["level"] == "SEVERE"]
    assert all("api/v1/preview" in entry and "422" in entry for entry in entries)


@pytest.mark.slow
def test_waiting_and_cancelling(meet: Meet, serve: Callable[..., Served]) -> None:
    import threading

    server = serve()
    go = threading.Event()
    hook = server.shop.inpainter.model.register_forward_pre_hook(lambda *_: go.wait(20) and None)
    person = meet(server=server)
    person.open(photo(300, 200))
    person.draw((0.5, 0.5), (0.55, 0.5))
    share = person.share
    person.press("repair")
    person.until(lambda: "Repairing, " in person.get("busy-text").text)
    assert person.js("return document.activeElement.id") == "cancel"
    person.press("cancel")
    person.until(lambda: person.state == "paint")
    assert person.share == share
    assert person.alert == ""
    go.set()
    hook.remove()
    person.until(lambda: server.shop._inside.total() == 0)
    person.repair()
    assert person.state == "compare"
    person.clean()


@pytest.mark.slow
def test_a_token(meet: Meet, serve: Callable[..., Served]) -> None:
    token = "a-token/with#signs+"
    server = serve(token=token)
    person = meet(server=server)
    person.until(lambda: person.js("return document.getElementById('token').open"))
    person.get("token-text").send_keys(token)
    person.js("document.querySelector('#token button').click()")
    person.open(photo(300, 200))
    person.draw((0.5, 0.5), (0.55, 0.5))
    person.repair()
    assert person.state == "compare", person.alert
    from urllib.parse import quote

    person.js("window.onbeforeunload = null; sessionStorage.clear()")
    person.press("save")
    person.browser.get(f"{server.url}/docs")
    person.browser.get(f"{server.url}/#token={quote(token, safe='')}")
    person.until(lambda: "tiny" in person.js("return document.getElementById('about').textContent"))
    assert person.js("return location.hash") == ""


@pytest.mark.slow
def test_the_mask_agrees_with_plain_arithmetic(meet: Meet) -> None:
    """Strokes, polygons and undo of mask.js against distances and crossings worked out with NumPy."""
    person = meet()
    person.browser.set_script_timeout(60)
    code = """
        const [width, height, steps, done] = arguments;
        import("/page/mask.js").then(({ Mask }) => {
          const mask = new Mask(width, height);
          const kept = [];
          for (const [kind, ...args] of steps) {
            mask.begin();
            mask[kind](...args);
            mask.finish();
            kept.push([Array.from(mask.data).join(""), mask.count]);
          }
          const back = [];
          while (mask.canUndo) { mask.undo(); back.push([Array.from(mask.data).join(""), mask.count]); }
          while (mask.canRedo) mask.redo();
          done([kept, back, Array.from(mask.data).join("")]);
        });
    """
    rng = np.random.default_rng(3)
    width, height = 301, 270  # more than one tile
    steps: list[list[Any]] = []
    for number in range(12):
        value = int(number % 4 != 3)
        if number % 3 == 2:
            steps.append(["polygon", (rng.uniform(-20, 320, (5, 2))).tolist(), value])
        else:
            ends = rng.uniform(-20, 320, 4).tolist() if number else [50.2, 50.7, 50.2, 50.7]
            steps.append(["stroke", *ends, float(rng.uniform(1, 40)), value])
    kept, back, last = person.browser.execute_async_script(code, width, height, steps)

    y, x = np.mgrid[0:height, 0:width] + 0.5
    expected = np.zeros((height, width), dtype=bool)
    states = []
    for kind, *args in steps:
        if kind == "stroke":
            ax, ay, bx, by, radius, value = args
            length2 = (bx - ax) ** 2 + (by - ay) ** 2
            t = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length2, 0, 1) if length2 else 0.0
            inside = np.hypot(x - ax - t * (bx - ax), y - ay - t * (by - ay)) <= radius
        else:
            points, value = args
            winding = np.zeros((height, width), dtype=int)
            for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
                with np.errstate(divide="ignore", invalid="ignore"):
                    at = ax + (y - ay) / (by - ay) * (bx - ax)
                winding += np.where((ay <= y) & (by > y) & (at < x), 1, 0) - np.where(
                    (by <= y) & (ay > y) & (at < x), 1, 0
                )
            inside = winding != 0
        expected = np.where(inside, bool(value), expected)
        states.append(expected)
    for (text, count), state in zip(kept, states, strict=True):
        found = np.frombuffer(text.encode(), np.uint8).reshape(height, width) == ord("1")
        assert np.count_nonzero(found != state) <= 2  # a centre on the line itself may round either way
        assert count == found.sum()
    texts = [text for text, _ in kept]
    changed = [text for before, text in zip(["0" * width * height, *texts], texts, strict=False) if before != text]
    assert [text for text, _ in back] == [*changed[-2::-1], "0" * width * height]
    assert last == texts[-1]
