"""Models by name: each fills a photo by its own way, the same at every door, and a wrong one is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.assembly import ModelConfig, build, save_weights
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.export.opening import NAMES, check_model, default_settings, open_inpainter
from cicm.inference import Inpainter

BOX = "40,30,30,25"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a photo of 600x500 with texture, and small released models as `cicm models get` leaves them."""
    folder = tmp_path_factory.mktemp("named")
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:500, 0:600]
    wave = 120 + 80 * np.sin(x / 7) * np.cos(y / 11)
    photo = np.clip(wave[..., None] + rng.normal(0, 12, (500, 600, 3)), 0, 255).astype(np.uint8)
    (folder / "photos").mkdir()
    Image.fromarray(photo).save(folder / "photos" / "a.png")
    mask = np.zeros((500, 600), np.uint8)
    mask[30:55, 40:70] = mask[200:400, 300:303] = mask[480:500, 590:600] = 255
    (folder / "masks").mkdir()
    Image.fromarray(mask).save(folder / "masks" / "a.png")
    for name, config in (
        ("lama", ModelConfig("lama", {"width": 4, "blocks": 1})),
        ("migan", ModelConfig("migan", {"side": 64, "width": 4})),
    ):
        torch.manual_seed(0)
        save_weights(folder / "models" / f"{name}.safetensors", build(config), config)
    return folder


@pytest.fixture(autouse=True)
def _here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CICM_WEIGHTS", str(place / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def arrays(place: Path) -> tuple[np.ndarray, np.ndarray]:
    photo, mask = (np.array(Image.open(place / folder / "a.png")) for folder in ("photos", "masks"))
    return photo, mask > 0


@pytest.mark.parametrize("name", ["telea", "navier-stokes"])
def test_opencv_sees_a_large_photo_as_it_is(place: Path, name: str) -> None:
    cv2 = pytest.importorskip("cv2")
    photo, hole = arrays(place)
    flag = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS}[name]
    blanked = np.where(hole[..., None], 0, photo).astype(np.uint8)
    expected = np.where(hole[..., None], cv2.inpaint(blanked, hole.astype(np.uint8), 5, flag), photo)
    inpainter = open_inpainter(name)
    assert np.array_equal(inpainter(photo, hole), expected)
    assert inpainter.report is not None
    assert (inpainter.report.strategy, inpainter.report.reduced) == ("whole", 1.0)


def test_biharmonic_is_scikit_images_on_a_small_photo(place: Path) -> None:
    restoration = pytest.importorskip("skimage.restoration")
    photo, hole = (one[20:80, 20:90] for one in arrays(place))
    blanked = np.where(hole[..., None], 0, photo) / 255
    solved = restoration.inpaint_biharmonic(blanked, hole, channel_axis=-1, split_into_regions=True)
    found = open_inpainter("biharmonic")(photo, hole)
    assert np.abs(found[hole] - np.clip(solved, 0, 1)[hole] * 255).max() <= 0.51  # rounded to 8 bits
    assert np.array_equal(found[~hole], photo[~hole])


def test_patches_alone_are_the_same_with_and_without_the_network(place: Path) -> None:
    pytest.importorskip("patchmatch")
    photo, hole = arrays(place)
    beside = Inpainter.from_pretrained(device="cpu", fill="exemplar")
    found = open_inpainter("exemplar")(photo, hole)
    assert np.array_equal(found, beside(photo, hole))
    alone = open_inpainter("exemplar")
    alone.settings = alone.settings.changed(fill="network")
    with pytest.raises(InputError, match="no network"):
        alone(photo, hole)


@pytest.mark.parametrize("name", ["lama", "migan", "telea"])
def test_command_folder_and_python_give_one_picture_and_the_models_fill_alone(
    place: Path, tmp_path: Path, name: str
) -> None:
    photo, hole = arrays(place)
    inpainter = open_inpainter(name, device="cpu")
    expected = inpainter(photo, hole)
    assert inpainter.report is not None
    assert inpainter.report.fill == "network"
    assert np.array_equal(expected[~hole], photo[~hole])
    common = ["--model", name, "--device", "cpu", "--quiet"]
    one = tmp_path / "one.png"
    files = [str(place / "photos" / "a.png"), "--mask", str(place / "masks" / "a.png"), "-o", str(one)]
    assert main(["inpaint", *files, *common]) == 0
    assert np.array_equal(np.array(Image.open(one)), expected)
    folders = [str(place / "photos"), "--masks", str(place / "masks"), "-o", str(tmp_path / "out")]
    assert main(["inpaint", *folders, *common]) == 0
    assert (tmp_path / "out" / "a.png").read_bytes() == one.read_bytes()
    if name != "telea":
        by_file = open_inpainter(str(place / "models" / f"{name}.safetensors"), device="cpu")
        assert by_file.settings == inpainter.settings, "a file of LaMa is LaMa, by whatever name"
        assert np.array_equal(by_file(photo, hole), expected)


def test_a_server_takes_the_same_names(place: Path) -> None:
    """The page and REST: the model's own fill by default, and a method without layers to stop before."""
    testclient = pytest.importorskip("fastapi.testclient", reason="the extra `serve`")
    from cicm.web.server import create_app

    photo, hole = arrays(place)
    for name, fills in (("telea", "network"), ("lama", "network"), ("exemplar", "exemplar")):
        inpainter = open_inpainter(name, device="cpu")
        expected = inpainter(photo, hole)
        with testclient.TestClient(create_app(inpainter, model_name=name), base_url="http://localhost") as client:
            assert client.get("/api/v1/info").json()["fills"][0] == fills
            files = {
                "image": (place / "photos" / "a.png").read_bytes(),
                "mask": (place / "masks" / "a.png").read_bytes(),
            }
            answer = client.post("/api/v1/inpaint", files=files)
            assert answer.status_code == 200, answer.text
            (place / f"{name}.png").write_bytes(answer.content)
            assert np.array_equal(np.array(Image.open(place / f"{name}.png")), expected)
            if name == "exemplar":
                refused = client.post("/api/v1/inpaint", files=files, data={"fill": "network"})
                assert refused.status_code == 422


def test_a_classical_model_is_run_without_torch(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    words = [str(place / "photos" / "a.png"), "--mask", str(place / "masks" / "a.png"), "-o", str(tmp_path / "o.png")]
    program = (
        "import sys; from cicm.cli.main import main; code = main(sys.argv[1:]);"
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    for name in ("telea", "exemplar"):
        done = subprocess.run(
            [sys.executable, "-c", program, "inpaint", *words, "--model", name, "--overwrite"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr


def test_what_is_no_model_is_told(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown model 'lamma'; a model is unet-cicm-scenes, lama"):
        check_model("lamma")
    with pytest.raises(InputError, match=r"none\.safetensors does not exist"):
        check_model("none.safetensors")
    monkeypatch.delenv("CICM_WEIGHTS")
    with pytest.raises(InputError, match="cicm models get lama"):
        check_model("lama")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match=r"cicm\[baselines\]"):
        open_inpainter("telea")
    assert {default_settings(name).fill for name in NAMES} == {"both", "network", "exemplar"}


def test_a_file_of_a_network_with_texture_is_used_alone(place: Path, tmp_path: Path) -> None:
    """A converted LaMa behaves under its path as it does under its name; what can't be read is left to the loader."""
    file = tmp_path / "mine.safetensors"
    for network, options, fill in (("lama", {"width": 4, "blocks": 1}, "network"), ("unet", {"width": 4}, "both")):
        config = ModelConfig(network, options)
        save_weights(file, build(config), config, overwrite=True)
        assert default_settings(str(file)).fill == fill
    file.write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    assert default_settings(str(file)).fill == "both"
    assert default_settings(str(tmp_path / "none.safetensors")).fill == "both"
