"""Build the documentation site: `make docs`. Copies the pages to build/pages, then lets zensical build build/site.

The pages are the Markdown files of the repository, under their own paths, so that each link works in both places.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "build" / "pages"
SHOWN = {".md", ".jpg", ".png", ".csv", ".json", ".toml", ".ipynb"}


def copy_pages() -> None:
    """Put what the site shows into an empty build/pages."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for top in ("README.md", "CHANGELOG.md", "docs", "results", "examples"):
        for path in [ROOT / top, *sorted((ROOT / top).rglob("*"))]:
            if path.suffix not in SHOWN:
                continue
            target = PAGES / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            if path.suffix == ".md":
                # two citations side by side, as in `[3] [4]`, would be read as one link
                target.write_text(re.sub(r"(\[\d+\]) \[(\d+)\]", r"\1 \\[\2]", path.read_text("utf-8")), "utf-8")


def main() -> int:
    copy_pages()
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
    print(re.sub(r"\x1b\[[0-9;]*m", "", done.stdout))
    if not done.returncode:
        print(f"Open {ROOT / 'build' / 'site' / 'index.html'}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
