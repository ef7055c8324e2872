"""Makes docs/pictures/web-*.jpg: `python -m tests.web.pictures`, with the weights that ship, a real server and browser.

The photo is scikit-image's coffee.png (by Rachel Michetti, CC0), with scratches and a note drawn on it. The other photo
of the same place is the same picture turned by 4 degrees, enlarged and darkened.
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageEnhance

from cicm.inference import Inpainter
from cicm.web.server import create_app

from .conftest import chromium, serving

ROOT = Path(__file__).parents[2]
WIDE, TALL = 600, 400
SCRATCHES = [
    [(20, 330), (90, 300), (170, 318), (215, 280), (262, 288)],
    [(430, 352), (490, 330), (548, 346), (592, 318)],
]
NOTE = [(0, 0), (102, 18), (86, 114), (-16, 96)]
AROUND_NOTE = [(-8, -8), (110, 12), (93, 124), (-24, 105), (-8, -8)]
ON_WOOD, ON_CUP = (476, 76), (322, 66)


def clean() -> Image.Image:
    """The photo without damage."""
    import skimage

    with Image.open(Path(skimage.__file__).parent / "data" / "coffee.png") as image:
        return image.convert("RGB")


def damaged(x: int, y: int) -> Image.Image:
    """The photo with scratches and a note."""
    photo = clean()
    draw = ImageDraw.Draw(photo)
    for line in SCRATCHES:
        draw.line(line, fill=(236, 232, 222), width=4, joint="curve")
        draw.line([(x + 3, y + 2) for x, y in line], fill=(96, 70, 60), width=1)
    draw.polygon(moved(NOTE, x, y), fill=(248, 224, 104))
    for k in range(4):
        line = [(12 - 3 * k, 22 + 20 * k), (82 - 3 * k - 16 * (k == 3), 34 + 20 * k)]
        draw.line(moved(line, x, y), fill=(70, 80, 120), width=3)
    return photo


def moved(points: list[tuple[int, int]], x: int, y: int) -> list[tuple[int, int]]:
    return [(x + dx, y + dy) for dx, dy in points]


def another_view() -> Image.Image:
    """The same place, from elsewhere and in other light."""
    turned = clean().rotate(4, Image.Resampling.BICUBIC, center=(300, 200))
    return ImageEnhance.Brightness(turned.crop((40, 30, 570, 380)).resize((795, 525))).enhance(0.88)


class Visit:
    """The page with the photo open, its damage marked."""

    def __init__(self, browser: Any, url: str, folder: Path, note: tuple[int, int]) -> None:
        self.browser = browser
        photo, self.other = folder / "table.jpg", folder / "table2.jpg"
        damaged(*note).save(photo, quality=95)
        another_view().save(self.other, quality=95)
        browser.get(url)
        time.sleep(0.5)
        browser.find_element("id", "photo-file").send_keys(str(photo))
        self.until("return document.body.dataset.state === 'paint'")
        box = browser.find_element("id", "stage").rect
        edge = 2 * min(20, box["width"] / 24)
        self.scale = min((box["width"] - edge) / WIDE, (box["height"] - edge) / TALL, 4)
        self.left = box["x"] + (box["width"] - WIDE * self.scale) / 2
        self.top = box["y"] + (box["height"] - TALL * self.scale) / 2
        self.mark(note)

    def until(self, code: str) -> None:
        deadline = time.monotonic() + 60
        while not self.browser.execute_script(code):
            assert time.monotonic() < deadline, code
            time.sleep(0.1)
        time.sleep(0.6)

    def draw(self, points: list[tuple[int, int]]) -> None:
        places = [(self.left + (x + 1) * self.scale, self.top + (y + 1) * self.scale) for x, y in points]
        steps = [("mousePressed", places[0]), *(("mouseMoved", at) for at in places[1:]), ("mouseReleased", places[-1])]
        for kind, (x, y) in steps:
            event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            event["buttons"] = int(kind != "mouseReleased")
            self.browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)
        time.sleep(0.2)

    def mark(self, note: tuple[int, int]) -> None:
        self.browser.execute_script(
            "const size = document.getElementById('size'); size.value = 47;"
            "for (const kind of ['input', 'change']) size.dispatchEvent(new Event(kind));"
        )
        for line in SCRATCHES:
            self.draw(line)
        self.browser.execute_script("document.querySelector('[name=tool][value=lasso]').click()")
        self.draw(moved(AROUND_NOTE, *note))

    def answer(self, button: str, number: int) -> None:
        self.browser.find_element("id", button).click()
        self.until(
            "return document.body.dataset.state === 'compare' && "
            f"document.getElementById('answer-told').textContent === '{number} of {number}'"
        )

    def split(self, share: int) -> None:
        self.browser.execute_script(
            "const split = document.getElementById('split'); split.value = arguments[0];"
            "split.dispatchEvent(new Event('input'))",
            share,
        )

    def add_other(self) -> None:
        self.browser.find_element("id", "album-file").send_keys(str(self.other))
        self.until("return document.getElementById('album-count').textContent === '1'")

    def shot(self) -> Image.Image:
        self.browser.execute_script("document.activeElement.blur()")
        self.browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": 200, "y": 3})
        time.sleep(0.4)
        return Image.open(io.BytesIO(self.browser.get_screenshot_as_png())).convert("RGB")


def on_a_desk(url: str, folder: Path) -> dict[str, Image.Image]:
    """The page while painting, comparing, and with another photo."""
    taken = {}
    with chromium(folder, width=1200, height=760) as browser:
        visit = Visit(browser, url, folder, ON_WOOD)
        taken["paint"] = visit.shot()
        visit.answer("repair", 1)
        visit.answer("another", 2)
        visit.split(84)
        taken["compare"] = visit.shot()
        browser.execute_script("window.onbeforeunload = null; document.getElementById('save').click()")
        visit = Visit(browser, url, folder, ON_CUP)
        visit.answer("repair", 1)
        visit.add_other()
        visit.answer("another", 2)
        visit.split(100)
        browser.execute_script("document.getElementById('album').open = true")
        taken["album"] = visit.shot()
    return taken


def on_phones(url: str, folder: Path) -> Image.Image:
    """Painting in light and comparing in dark colours, side by side."""
    halves = []
    for name, dark in (("light", False), ("dark", True)):
        (folder / name).mkdir()
        with chromium(folder / name, width=390, height=760, phone=True, dark=dark) as browser:
            visit = Visit(browser, url, folder / name, ON_CUP)
            if dark:
                visit.add_other()
                visit.answer("repair", 1)
            halves.append(visit.shot())
    pair = Image.new("RGB", (2 * halves[0].width + 40, halves[0].height), "white")
    pair.paste(halves[0], (0, 0))
    pair.paste(halves[1], (halves[0].width + 40, 0))
    pair.thumbnail((1000, 1000), Image.Resampling.LANCZOS)
    return pair


def main() -> None:
    """Make all of them."""
    target = ROOT / "docs" / "pictures"
    app = create_app(Inpainter.from_pretrained(device="cpu"), model_name="unet-cicm-scenes")
    with serving(app) as url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "desk").mkdir()
        for shot, picture in (on_a_desk(url, folder / "desk") | {"phone": on_phones(url, folder)}).items():
            picture.save(target / f"web-{shot}.jpg", quality=80, optimize=True)


if __name__ == "__main__":
    main()
