"""Put a run's averaged weights into the package, with a card that says where they come from and on what terms.

python -m experiments.ship_weights runs/unet-cicm-scenes
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cicm.assembly import load_weights, save_weights
from cicm.assembly.weights import DEFAULT

LIMIT = 16 * 2**20

TERMS = {
    "data": "9,530 photos: 8,023 of MiniPlaces (Places2), 737 of the NIPS 2017 set (Open Images, CC BY 2.0), 236 of "
    "BSDS500, 232 of COCO, 302 of ImageNet; holes from seeded generators",
    "licence": "non-commercial research and education only, because most photos came on those terms; "
    "the code is Apache-2.0",
    "paper": "Cross-Image Context for Single Image Inpainting, NeurIPS 2022",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run of `cicm train`")
    options = parser.parse_args()
    loaded = load_weights(options.run / "weights.safetensors")
    started = json.loads((options.run / "environment.json").read_text())
    lines = (options.run / "log.jsonl").read_text().splitlines()
    hardware = {key: started[0][key] for key in ("cpu", "cores", "threads", "gpus") if key in started[0]}
    card = {**TERMS, **loaded.card, "hardware": hardware, "log_lines": len(lines)}
    path = save_weights(DEFAULT, loaded.model, loaded.config, card, overwrite=True)
    size = path.stat().st_size
    if size > LIMIT:
        path.unlink()
        raise SystemExit(f"{size / 2**20:.1f} MiB is more than the {LIMIT // 2**20} MiB that the package may carry.")
    print(f"{path.name}: {size / 2**20:.1f} MiB, step {card['step']} of {card['steps']}")


if __name__ == "__main__":
    main()
