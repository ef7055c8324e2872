"""Makes docs/pictures/web-*.jpg: `python -m tests.web.pictures`, with the weights that ship, a real server and browser.

The photo is scikit-image's coffee.png (by Rachel Michetti, CC0), with scratches drawn on it.
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw

from cicm.inference import Inpainter
from cicm.web.server import create_app

from .conftest import chromium, serving

ROOT = Path(__file__).parents[2]
SCRATCHES = [
    [(20, 330), (90, 300), (170, 318), (215, 280), (262, 288)],
    [(322, 8), (352, 60), (344, 118), (372, 170), (366, 232), (392, 290)],
    [(430, 352), (490, 330), (548, 346), (592, 318)],
]


def damaged() -> Image.Image:
    """The photo with scratches."""
    import skimage

    with Image.open(Path(skimage.__file__).parent / "data" / "coffee.png") as image:
        photo = image.convert("RGB")
    draw = ImageDraw.Draw(photo)
    for line in SCRATCHES:
        draw.line(line, fill=(236, 232, 222), width=4, joint="curve")
        draw.line([(x + 3, y + 2) for x, y in line], fill=(96, 70, 60), width=1)
    return photo


def shots(url: str, folder: Path, size: tuple[int, int], *, phone: bool, dark: bool) -> list[Image.Image]:
    """The page while painting, and while comparing."""
    taken = []
    photo = folder / "table.jpg"
    damaged().save(photo, quality=95)
    with chromium(folder, width=size[0], height=size[1], phone=phone, dark=dark) as browser:

        def wait(state: str) -> None:
            deadline = time.monotonic() + 60
            while browser.execute_script("return document.body.dataset.state") != state:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            time.sleep(0.6)

        browser.get(url)
        time.sleep(0.5)
        browser.find_element("id", "photo-file").send_keys(str(photo))
        wait("paint")
        browser.execute_script(
            "const size = document.getElementById('size'); size.value = 47;"
            "for (const kind of ['input', 'change']) size.dispatchEvent(new Event(kind));"
        )
        box = browser.find_element("id", "stage").rect
        scale = min(
            (box["width"] - 2 * min(20, box["width"] / 24)) / 600,
            (box["height"] - 2 * min(20, box["width"] / 24)) / 400,
            4,
        )
        left, top = box["x"] + (box["width"] - 600 * scale) / 2, box["y"] + (box["height"] - 400 * scale) / 2
        for line in SCRATCHES:
            places = [(left + (x + 1) * scale, top + (y + 1) * scale) for x, y in line]
            for kind, at in [
                ("mousePressed", places[0]),
                *(("mouseMoved", place) for place in places[1:]),
                ("mouseReleased", places[-1]),
            ]:
                browser.execute_cdp_cmd(
                    "Input.dispatchMouseEvent",
                    {
                        "type": kind,
                        "x": at[0],
                        "y": at[1],
                        "button": "left",
                        "buttons": int(kind != "mouseReleased"),
                        "clickCount": 1,
                    },
                )
        time.sleep(0.5)
        browser.execute_script("document.activeElement.blur()")
        time.sleep(0.3)
        taken.append(browser.get_screenshot_as_png())
        browser.find_element("id", "repair").click()
        wait("compare")
        browser.execute_script("document.activeElement.blur()")
        time.sleep(0.3)
        taken.append(browser.get_screenshot_as_png())
    return [Image.open(io.BytesIO(data)).convert("RGB") for data in taken]


def main() -> None:
    """Make all of them."""
    target = ROOT / "docs" / "pictures"
    app = create_app(Inpainter.from_pretrained(device="cpu"), model_name="unet-cicm-scenes")
    with serving(app) as url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("desk", "light", "dark"):
            (folder / part).mkdir()
        paint, compare = shots(url, folder / "desk", (1200, 760), phone=False, dark=False)
        paint.save(target / "web-paint.jpg", quality=82)
        compare.save(target / "web-compare.jpg", quality=82)
        light, _ = shots(url, folder / "light", (390, 760), phone=True, dark=False)
        _, dark = shots(url, folder / "dark", (390, 760), phone=True, dark=True)
        pair = Image.new("RGB", (light.width + dark.width + 40, light.height), "white")
        pair.paste(light, (0, 0))
        pair.paste(dark, (light.width + 40, 0))
        pair.thumbnail((1000, 1000), Image.Resampling.LANCZOS)
        pair.save(target / "web-phone.jpg", quality=85)


if __name__ == "__main__":
    main()
