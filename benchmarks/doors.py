"""What a person waits for: `cicm --help`, and `cicm inpaint` from start to file."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import Timed, in_turn

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def main() -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder, "out.jpg"))

        def cicm(*words: str) -> None:
            subprocess.run([sys.executable, "-m", "cicm.cli.main", *words], check=True, capture_output=True)

        photo, mask = str(EXAMPLES / "photos/flag.jpg"), str(EXAMPLES / "masks/flag.png")
        fill = ("inpaint", photo, "--mask", mask, "-o", out, "--overwrite")
        times: dict[str, Timed] = in_turn(
            {
                "python -c pass": lambda: subprocess.run([sys.executable, "-c", "pass"], check=True),
                "cicm --help": lambda: cicm("--help"),
                "cicm inpaint --help": lambda: cicm("inpaint", "--help"),
                "python -c 'import torch'": lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True),
                "cicm inpaint, a missing photo": lambda: subprocess.run(
                    [sys.executable, "-m", "cicm.cli.main", "inpaint", "no.jpg", "--mask", mask, "-o", out],
                    capture_output=True,
                    check=False,
                ),
                "cicm inpaint, start to file (256x256), onnxruntime": lambda: cicm(*fill),
                "the same, torch (--device cpu)": lambda: cicm(*fill, "--device", "cpu"),
                "the same, no network (--model exemplar)": lambda: cicm(*fill, "--model", "exemplar"),
            },
            rounds=3,
            warm=1,
        )
    return [{"what": name, "seconds": str(t)} for name, t in times.items()]
