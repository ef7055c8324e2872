"""Each network's forward: seconds, multiply-adds, peak memory; and what the lean forms win over the plain ones.

Peak memory is what a second forward adds to a process of its own, after the first has warmed it (Linux).
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.timing import in_turn, ratio
from cicm.networks import create, names
from cicm.networks.inventory import facts

Row = dict[str, object]
SIDE = 256


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def inputs(side: int = SIDE) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hole = (torch.rand(1, 1, side // 16, side // 16) > 0.7).float().repeat_interleave(16, 2).repeat_interleave(16, 3)
    return (torch.rand(1, 3, side, side) * (1 - hole)).to(device()), hole.to(device())


def forwards(rounds: int = 3) -> list[Row]:
    """All registered networks with their default options, in turn."""
    given = inputs()
    built = {name: create(name).eval().to(device()) for name in names()}
    with torch.inference_mode():
        times = in_turn({name: lambda n=network: n(*given) for name, network in built.items()}, rounds, warm=1)
    rows: list[Row] = []
    for name in names():
        counted = facts(name, SIDE)
        rows.append(
            {
                "network": name,
                "parameters": f"{counted.parameters / 1e6:.1f} M",
                f"multiply-adds {SIDE}x{SIDE}": f"{counted.multiply_adds / 1e9:.1f} G",
                "forward": str(times[name]),
                "over unet": times[name].median / times["unet"].median,
                "G multiply-adds/s": counted.multiply_adds / 1e9 / times[name].median,
                "peak MiB": peak(f"network {name}"),
            }
        )
    return rows


def peak(what: str) -> float:
    """MiB that one piece of work adds to a fresh process."""
    words = [sys.executable, "-m", "benchmarks.networks", *what.split()]
    return float(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))


def _status(key: str) -> float:
    """MiB of this process, from Linux; `ru_maxrss` would begin at that of the process that started us."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def _added(work: Callable[[], object]) -> float:
    """MiB that the second call needs at its height, over what was held before it."""
    with torch.inference_mode():
        work()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed goes back to the system, so that it counts again
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        work()
    return _status("VmHWM") - before


def parts() -> dict[str, dict[str, object]]:
    """Plain and lean forms of what is slow in the originals, at the sizes of 256x256: name -> form -> call."""
    from cicm.networks import rfr
    from cicm.ops import filtering

    torch.manual_seed(0)
    feature, kernels = torch.rand(1, 256, 64, 64), torch.rand(1, 256 * 9, 64, 64)
    shared = kernels[:, : 64 * 9].clone()
    picture, small = torch.rand(1, 3, 256, 256), torch.rand(1, 27, 256, 256)
    x, known = torch.rand(1, 64, 128, 128), (torch.rand(1, 1, 128, 128) > 0.3).float()
    weight = torch.rand(64, 64, 7, 7) * 0.01
    look = torch.rand(1, 512, 32, 32)
    return {
        "MISF filter, 256x64x64": {
            "plain": lambda: filtering.filter_pixels_plain(feature, kernels),
            "lean": lambda: filtering.filter_pixels(feature, kernels),
        },
        "MISF filter, 256x64x64, kernels shared in fours": {
            "plain": lambda: filtering.filter_pixels_plain(feature, shared.repeat_interleave(4, 1)),
            "lean": lambda: filtering.filter_pixels(feature, shared, share=4),
        },
        "MISF filter, 3x256x256": {
            "plain": lambda: filtering.filter_pixels_plain(picture, small),
            "lean": lambda: filtering.filter_pixels(picture, small),
        },
        "RFR partial convolution, 64x128x128": {
            "plain": lambda: rfr.partial_conv_plain(x, known, weight, padding=3),
            "lean": lambda: rfr.partial_conv(x, known, weight, padding=3),
        },
        "RFR attention, 512x32x32": {
            "plain": lambda: rfr.attention_plain(look),
            "lean": lambda: rfr.attention(look),
        },
    }


def against_plain(rounds: int = 5) -> list[Row]:
    rows: list[Row] = []
    with torch.inference_mode():
        for name, forms in parts().items():
            times = in_turn(forms, rounds)  # type: ignore[arg-type]
            rows.append(
                {
                    "part": name,
                    "plain / lean": ratio(times, "plain", "lean"),
                    **{form: str(t) for form, t in times.items()},
                    **{f"{form} peak MiB": peak(f"part {form} {name}") for form in forms},
                }
            )
    return rows


def main() -> list[Row]:
    return [*forwards(), *against_plain()]


if __name__ == "__main__":  # one piece of work alone, for its memory
    kind, *rest = sys.argv[1:]
    if kind == "network":
        network, given = create(rest[0]).eval(), inputs()
        work = lambda: network(*given)  # noqa: E731
    else:
        work = parts()[" ".join(rest[1:])][rest[0]]  # type: ignore[assignment]
    print(json.dumps(_added(work)))
