"""The README's table: the weights that ship beside the classical methods, and the distance to the best of those.

python -m experiments.scores_table
"""

from __future__ import annotations

from pathlib import Path

from cicm.evaluation.records import Evaluation

RESULTS = Path(__file__).resolve().parent.parent / "results"
RIVALS = ("telea", "navier-stokes", "biharmonic")


def main() -> None:
    files = [RESULTS / "weights/scenes-test.json", *(RESULTS / f"baselines/scenes-test-{name}.json" for name in RIVALS)]
    joined = Evaluation.join(Evaluation.load(path) for path in files)
    values = {(r.group, r.band, r.method, r.metric): r.value for r in joined.records}
    cells = dict.fromkeys((r.group, r.band) for r in joined.records)
    print(
        "| size | missing | cicm | telea | navier-stokes | biharmonic | over the best | sqz, cicm | sqz, best other |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for group, band in cells:
        psnr = {m: values[group, band, m, "psnr"] for m in ("cicm", *RIVALS)}
        far = {m: values[group, band, m, "sqz-distance"] for m in ("cicm", *RIVALS)}
        best = max(psnr[m] for m in RIVALS)
        row = [group, f"{band} %", *(f"{psnr[m]:.2f}" for m in ("cicm", *RIVALS)), f"**{psnr['cicm'] - best:+.2f}**"]
        print("| " + " | ".join([*row, f"{far['cicm']:.4f}", f"{min(far[m] for m in RIVALS):.4f}"]) + " |")


if __name__ == "__main__":
    main()
