"""One path to a filled picture: the bits are those from before it was one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.conventions import InputError, SizeRule
from cicm.inference import FillSettings, Inpainter
from cicm.inference.painter import PictureInpainter
from cicm.inference.plan import Plan
from cicm.photos import Marks


class Ramps(PictureInpainter):
    """Fills with ramps of the brightest known colour; NumPy alone, so that all machines agree."""

    size, device, model = SizeRule(16, 32), "nowhere", None

    def _call(self, colours: np.ndarray, gone: np.ndarray, plan: Plan) -> np.ndarray:
        filled = []
        for seen, missing in zip(colours, gone, strict=True):
            y, x = np.mgrid[: missing.shape[0], : missing.shape[1]].astype(np.float32)
            slope = (y * plan.work[0] + x * plan.work[1]) % 256 / np.float32(256)
            filled.append(seen[~missing].max(0) * (np.float32(1) - slope / 2)[..., None])
        return np.stack(filled)


# The digests were made by the code that had four paths: a direct one, and one each for crops, tiles and tensors.
GOLDEN: dict[str, tuple[str, str, tuple[int, int], dict]] = {
    "small": ("54646a11ef40520a", "rgb", (60, 90), {}),
    "odd": ("6d73704f148c7d9f", "rgb", (61, 37), {}),
    "grey": ("73dda6a48ede2df6", "grey", (60, 90), {}),
    "alpha": ("e852797af902ecf0", "rgba", (60, 90), {"feather": 4}),
    "sixteen bits": ("5212cb7711495898", "rgb16", (60, 90), {}),
    "auto": ("eff16b7e6b6aa1a0", "rgb", (540, 600), {}),
    "auto, soft": ("05a4209ea96c7c09", "rgb", (540, 600), {"feather": 8}),
    "crop": ("0a8425ec329bf816", "rgb", (540, 600), {"strategy": "crop", "max_side": 160}),
    "tile": ("27f06a8043034896", "rgba", (540, 600), {"strategy": "tile", "tile": 96, "widest": 24}),
    "resize": ("26ea5f0f0d521c93", "grey", (540, 600), {"strategy": "resize", "max_side": 200}),
    "whole": ("716bc1fe71fa39b6", "rgb16", (540, 600), {"strategy": "whole", "feather": 3}),
}


def picture(kind: str, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width]
    values = np.stack([y * 3 + x, x * 5 + 20, (y ^ x), x * y], -1) % 256
    hole = np.zeros((height, width), dtype=bool)
    hole[height // 6 : height // 3, width // 6 : width // 2] = True
    hole[-9:-3, 4:-7] = True
    hole[height // 2, width // 2 :: 7] = True
    image = values[..., 0] if kind == "grey" else values[..., : 4 if kind == "rgba" else 3]
    return (image * 257).astype(np.uint16) if kind == "rgb16" else image.astype(np.uint8), hole


def test_the_bits_are_those_from_before(monkeypatch: pytest.MonkeyPatch) -> None:
    # A hole of the grey picture lies in an even ramp, which the network is no longer asked for.
    monkeypatch.setattr("cicm.inference.painter.fill_flat", lambda filling, part, own: own)
    for name, (digest, kind, size, changes) in GOLDEN.items():
        filled = Ramps(FillSettings(fill="network", **changes))(*picture(kind, *size))
        assert hashlib.sha256(np.ascontiguousarray(filled).tobytes()).hexdigest()[:16] == digest, name


def test_marks_and_masks_make_one_fill() -> None:
    painter = Ramps(FillSettings(fill="network"))
    image, _ = picture("rgb", 60, 90)
    hole = np.zeros((60, 90), dtype=bool)
    hole[10:20, 30:50] = True
    expected = painter(image, hole)
    corners = ((30, 10), (50, 10), (50, 20), (30, 20))
    for marks in (
        Marks(boxes=((30, 10, 50, 20),)),
        Marks(polygons=(corners,)),
        Marks(masks=(Image.fromarray(hole),)),
        Marks(masks=(hole[:, :] & (np.arange(90) < 40), hole & (np.arange(90) >= 40))),
    ):
        assert np.array_equal(painter(image, marks), expected)
        assert np.array_equal(np.array(painter(Image.fromarray(image), marks)), expected)
    assert np.array_equal(painter(image, Marks(masks=(~hole,)), invert=True), expected)
    clear = np.concatenate([image, np.where(hole, 0, 255)[..., None].astype(np.uint8)], -1)
    filled = painter(clear, Marks(alpha=True))
    assert np.array_equal(filled[..., :3], expected)
    assert (filled[..., 3] == 255).all()
    pink = image.copy()
    pink[hole] = (255, 0, 255)
    assert np.array_equal(painter(pink, Marks(colour=(255, 0, 255), tolerance=0)), expected)


def test_settings_are_one_set_of_defaults(weights: Path) -> None:
    assert FillSettings() == FillSettings(margin=64, max_side=1024, strategy="auto", tile=512, widest=96, feather=0)
    inpainter = Inpainter.from_pretrained(weights, device="cpu", settings=FillSettings(feather=3, margin=9), margin=12)
    assert inpainter.settings == FillSettings(feather=3, margin=12)
    with pytest.raises(TypeError, match="margins"):
        Inpainter.from_pretrained(weights, margins=3)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="margin must be at least 1; got 0"):
        FillSettings(margin=0)


def test_an_inpainter_says_what_it_is(weights: Path) -> None:
    told = repr(Inpainter.from_pretrained(weights, device="cpu", feather=4))
    for word in ("UNet", "bottom (2 x 3)", "on cpu", "feather=4"):
        assert word in told
