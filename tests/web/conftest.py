"""A server with a tiny model, in this process; a browser; photos to send."""

from __future__ import annotations

import io
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cicm.assembly import ModelConfig, build
from cicm.inference import Inpainter
from cicm.web.connections import configuration
from cicm.web.decoders import Decoders
from cicm.web.guard import Guard
from cicm.web.limits import Limits
from cicm.web.server import create_app
from cicm.web.workshop import Workshop


def tiny() -> Inpainter:
    """Untrained, but fast."""
    return Inpainter(build(ModelConfig("unet", {"width": 4})), device="cpu")


class Served:
    """A running server: its address, a client, and what is inside."""

    def __init__(self, url: str, guard: Guard, client: Any) -> None:
        self.url = url
        self.client = client
        self.shop: Workshop = guard.shop  # type: ignore[attr-defined]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def inpaint(
        self, image: bytes, mask: bytes | None = None, *, album: Sequence[tuple[str, bytes]] = (), **fields: str
    ) -> Any:
        parts = [("image", ("photo", image)), *[("album", one) for one in album]]
        if mask is not None:
            parts.append(("mask", ("mask", mask)))
        return self.client.post("/api/v1/inpaint", files=parts, data=fields)


@pytest.fixture(scope="session")
def decoders() -> Iterator[Decoders]:
    """Processes that decode, for all servers of the tests: each takes a second to start."""
    made = Decoders(seconds=60)
    yield made
    made.close()


@pytest.fixture
def serve(decoders: Decoders) -> Iterator[Callable[..., Served]]:
    """Starts servers."""
    httpx = pytest.importorskip("httpx", reason="httpx is in the extra `dev`")
    with ExitStack() as stack:

        def start(
            *,
            token: str | None = None,
            names: tuple[str, ...] = (),
            decoding: Decoders | None = decoders,
            **limits: Any,
        ) -> Served:
            guard = create_app(
                tiny(), limits=Limits(**limits), token=token, names=names, model_name="tiny", decoders=decoding
            )
            url = stack.enter_context(serving(guard))
            client = stack.enter_context(httpx.Client(base_url=url, timeout=60, trust_env=False))
            return Served(url, guard, client)

        yield start


def photo(width: int = 60, height: int = 40, format_: str = "PNG", seed: int = 0, **how: Any) -> bytes:
    """The bytes of a file of smooth noise."""
    small = np.random.default_rng(seed).integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(stream, format_, **how)
    return stream.getvalue()


def mask(width: int = 60, height: int = 40, box: tuple[int, int, int, int] = (10, 10, 20, 20)) -> bytes:
    """The bytes of a mask with one white box."""
    values = np.zeros((height, width), dtype=np.uint8)
    left, top, right, bottom = box
    values[top:bottom, left:right] = 255
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The address of a real server of that application, in a thread."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(configuration(app, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.started
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


@contextmanager
def chromium(folder: Path, *, width: int, height: int, phone: bool = False, dark: bool = False) -> Iterator[Any]:
    """A headless browser that downloads into a folder; skips where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is in the extra `dev`")
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with its chromedriver on this machine (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    quiet = ("networking", "timer-throttling")
    for word in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
        *(f"--disable-background-{name}" for name in quiet),
        *("--disable-component-update", "--disable-default-apps", "--disable-dev-shm-usage", "--hide-scrollbars"),
        *(f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"),
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
    ):
        options.add_argument(word)
    options.add_experimental_option(
        "prefs", {"download.default_directory": str(folder / "downloads"), "download.prompt_for_download": False}
    )
    if phone:
        metrics = {"width": width, "height": height, "pixelRatio": 2.0, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        if not phone:
            browser.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
            )
        yield browser
    finally:
        browser.quit()
