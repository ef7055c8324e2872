"""A program for a test: memory of a server and its decoders before, at most during, and after four large photos."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def resident() -> int:
    """MiB of this process and its children."""
    pages = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            if int(status.parent.name) == os.getpid() or int(fields[1]) == os.getpid():
                pages += int(fields[21])
        except OSError:
            continue  # it has ended
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def main() -> None:
    import httpx

    from cicm.web.server import create_app

    from .conftest import photo, serving, tiny

    large, small = photo(6000, 4000, "JPEG"), photo(400, 300, "JPEG")
    with serving(create_app(tiny())) as url, httpx.Client(base_url=url, timeout=300, trust_env=False) as client:

        def ask(data: bytes) -> int:
            form = {"boxes": "[[100, 100, 200, 200]]", "fill": "network"}
            return client.post("/api/v1/inpaint", files={"image": ("a", data)}, data=form).status_code

        statuses = [ask(small)]
        before, seen, ended = resident(), [], threading.Event()

        def watch() -> None:
            while not ended.wait(0.05):
                seen.append(resident())

        watcher = threading.Thread(target=watch)
        watcher.start()
        with ThreadPoolExecutor(4) as pool:
            statuses += pool.map(ask, [large] * 4)
        ended.set()
        watcher.join()
        time.sleep(2)
        json.dump({"statuses": statuses, "before": before, "peak": max(seen), "after": resident()}, sys.stdout)


if __name__ == "__main__":
    main()
