"""Recipes: strict, resolved through one other, the same after writing; and all that ship take one step."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.assembly.weights import check_buildable
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.recipes import load_recipe, recipe_names


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        (folder / part).mkdir()
        for index in range(3):
            Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / part / f"{index}.png")
            label = np.full((64, 64), index, np.uint8)  # for recipes with label maps: SegNet's layout of CamVid
            (folder / f"{part}annot").mkdir(exist_ok=True)
            Image.fromarray(label).save(folder / f"{part}annot" / f"{index}.png")
            for kind, what, pixels in (  # and the layout of Cityscapes
                ("leftImg8bit", "leftImg8bit", rng.integers(0, 255, (64, 64, 3), np.uint8)),
                ("gtFine", "gtFine_labelIds", label + 7),
            ):
                (folder / kind / part / "ulm").mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / kind / part / "ulm" / f"ulm_000000_00000{index}_{what}.png")
    return folder


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_resolves_builds_tiny_and_takes_one_step(name: str, photos: Path, tmp_path: Path):
    recipe = load_recipe(name)
    assert recipe.about
    width = {"rfr": 8, "pen": 4}.get(recipe.model.network, 2)
    labels = recipe.model.labels
    sets = labels.classes if labels else 2  # one for each class
    changes = [
        f"model.options.width={width}", "data.crop=64", "data.batch_size=2", "data.workers=0", 'data.kinds=["boxes"]',
        "data.match=[]", "data.limit=0", "training.steps=1", "training.accumulate=1", "training.val_images=1",
        "training.discriminator_width=2", "training.init=", "training.memory_seed_batches=1",
        "training.init_fresh=[]", "data.large_crop=0", "data.large_every=0",
        *(["model.options.side=64"] if "side" in recipe.model.options else []),
        *(f"model.memories.{site}.sets={sets}" for site in recipe.model.memories),
        *(f"model.memories.{site}.contexts=2" for site in recipe.model.memories),
        # no weights from outside here
        *(f"objective.{term}=0" for section in recipe.objective.sections for term in section.needs_features()),
    ]  # fmt: skip
    words = ["--threads", "1", *(part for change in changes for part in ("--set", change))]
    assert main(["train", name, "--data", str(photos), "--output", str(tmp_path / "run"), *words]) == 0
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def test_the_resolved_recipe_is_a_recipe_that_resolves_to_itself(tmp_path: Path):
    for name in recipe_names():
        recipe = load_recipe(name, {"training.lr": 1e-5, "data.match": ['a"b*', "ü"]})
        path = tmp_path / "resolved.toml"
        path.write_text(recipe.to_toml(), encoding="utf-8")
        assert load_recipe(str(path)) == recipe
        assert "extends" not in tomllib.loads(recipe.to_toml())


def test_names_follow_the_pattern():
    for name in recipe_names():
        has_memory = bool(load_recipe(name).model.memories)
        assert ("-cicm-" in name) == has_memory, name
        assert name.startswith(load_recipe(name).model.network), name


def test_with_and_without_memory_differ_in_nothing_else():
    with_memory, without = load_recipe("unet-cicm-scenes"), load_recipe("unet-scenes")
    assert without.model.memories == {}
    assert (with_memory.data, with_memory.training, with_memory.objective) == (
        without.data, without.training, without.objective,
    )  # fmt: skip


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


def test_a_recipe_extends_the_one_beside_it_and_no_chain(tmp_path: Path):
    write(
        tmp_path,
        low='about = "low"\n[model]\nnetwork = "unet"\n[training]\nsteps = 5\nlr = 0.5\n',
        middle='extends = "low"\n[training]\nlr = 0.25\n',
        high='extends = "middle"\n',
        shipped='extends = "unet-cicm-toy"\n[training]\nsteps = 9\n',
    )
    middle = load_recipe(str(tmp_path / "middle.toml"))
    assert (middle.name, middle.about, middle.training.steps, middle.training.lr) == ("middle", "", 5, 0.25)
    assert load_recipe(str(tmp_path / "shipped.toml")).training.steps == 9
    with pytest.raises(InputError, match="at most one"):
        load_recipe(str(tmp_path / "high.toml"))


UNET = '[model]\nnetwork = "unet"\n'


def test_what_is_wrong_is_named(tmp_path: Path):
    for text, told in (
        ("[training\n", "cannot be read as a recipe"),
        (UNET + "[trainig]\nsteps = 1\n", "did you mean 'training'"),
        (UNET + "[model.memories.bottom]\nset = 1\n", "did you mean 'model.memories.bottom.sets'"),
        (UNET + "[model.memories.bottom]\nsets = 0\n", "memory sets must be at least 1"),
        (UNET + '[objective.weights]\ninter = "big"\n', "objective.weights.inter must be a number"),
        (UNET + '[objective]\nnorm = "l3"\n', "objective.norm must be one of 'l2', 'l1'"),
        (UNET + "[training]\nbetas = [0.9]\n", "training.betas must be a list of 2"),
        (UNET + "[objective.rfr]\nstlye = 1.0\n", "did you mean 'objective.rfr.style'"),
        (UNET + "[objective.misfit]\nl1 = 1.0\n", "did you mean 'objective.misf'"),
        (UNET + '[objective.misf]\nshare = "pixel"\n', "objective.misf.share must be one of 'image', 'batch'"),
        (UNET + '[objective]\nadversary = "wgan"\n', "objective.adversary must be one of 'ragan', 'bce', 'hinge'"),
        (
            UNET + '[training]\nschedule = "steps"\n',
            "training.schedule must be one of 'cosine', 'constant', 'linear', 'step'",
        ),
        (UNET + '[training]\ndiscriminator = "gan"\n', "training.discriminator must be one of 'patch', 'gated', 'pen'"),
        (UNET + "[training]\ndecay_from = 0.5\n", "unless training.schedule is 'linear'"),
        (UNET + "[training]\ndiscriminator_betas = [0.5, 1.0]\n", "training.discriminator_betas must be two numbers"),
        ("[training]\nsteps = 1\n", "model is missing"),
        ("extends = 3\n", "extends must be the name of one recipe"),
        ('extends = "nothing-like-it"\n', "unknown recipe 'nothing-like-it'"),
        *((f"extends = {name}\n", "A path is no name") for name in ('"../x"', '"/etc/passwd"', '"a/b"', '"a\\u0000b"')),
        (f'extends = "{"x" * 5000}"\n', "A path is no name"),
        (UNET + f"[training]\nsteps = {'1' * 5000}\n", "it holds a whole number of thousands of digits."),
        (UNET + f"[training]\nsteps = {'1' * 4000}\n", "training.steps must be a whole number of at most 64 bits"),
        (UNET + f"[training]\nlr = {10**30}\n", "training.lr must be a whole number of at most 64 bits"),
        (UNET + f"[model.options]\nwidth = {10**30}\n", "model.options.width must be a whole number of at most 64"),
        (UNET + f"x = {'[' * 5000}{']' * 5000}\n", "nested deeper than 64"),
        (UNET + f"x = {'{a=' * 5000}1{'}' * 5000}\n", "nested deeper than 64"),
        (UNET + f"[model.options.{'.'.join('a' * 3000)}]\nb = 1\n", "nested deeper than 64"),
        (UNET + "[data]\ncrop = 1000000000\n", "must be at most 268435456 pixels together"),
        (UNET + "[data]\nbatch_size = 1000000000\n", "must be at most 268435456 pixels together"),
        (UNET + "[data]\nworkers = 100000\n", "data.workers must be at most 1024"),
        (UNET + "[training]\ndiscriminator_width = 1000000\n", "training.discriminator_width must be at most 4096"),
        (UNET + "[training]\nlr = nan\n", "training.lr must be at least 0"),
    ):
        with pytest.raises(InputError, match="recipe ") as error:
            load_recipe(str(write(tmp_path, bad=text) / "bad.toml"))
        assert told in str(error.value), text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model.options.width": 10**6}, "its numbers would take"),
        ({"model.options.width": 10**18}, "can't be built so"),
        ({"model.options.width": 0}, "width must be at least 1"),
        ({"model.options.width": [1]}, "can't be built so"),
        ({"model.memories.bottom.sets": 10**10}, "its numbers would take"),
        ({"model.memories.bottom.contexts": 10**12}, "its numbers would take"),
    ],
)
def test_a_model_that_no_machine_holds_is_refused_before_it_is_built(change: dict, told: str):
    """Shapes are built without memory for their numbers, so that a small file can't ask for all there is."""
    with pytest.raises(InputError) as error:
        check_buildable(load_recipe("unet-cicm-toy", change).model)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    check_buildable(load_recipe("unet-cicm-toy").model)


def test_a_change_of_a_thousand_levels_is_one_line(capsys):
    """As typed: --set model.options.a.a.a...=1."""
    assert main(["train", "unet-cicm-toy", "--dry-run", "--set", f"model.options.{'.'.join('a' * 3000)}=1"]) == 2
    told = capsys.readouterr().err
    assert "nested deeper than 64" in told
    assert told.count("\n") == 1


def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        load_recipe(str(tmp_path / "binary.toml"))
    (tmp_path / "large.toml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(InputError, match="larger than"):
        load_recipe(str(tmp_path / "large.toml"))


def test_the_command_lists_and_shows(capsys):
    assert main(["recipes"]) == 0
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines()] == recipe_names()
    assert main(["recipes", "show", "unet-scenes", "--set", "training.steps=3"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["training"]["steps"] == 3
    assert main(["recipes", "show", "unet-cicm-toy"]) == 0
    shown = tomllib.loads(capsys.readouterr().out)
    assert shown["model"]["memories"]["bottom"]["momentum"] == 0.5, "defaults are shown too"
    assert set(shown["training"]) >= {"betas", "schedule", "seed"}
    assert main(["recipes", "show"]) == 2
    assert main(["recipes", "show", "unet-scene"]) == 2
    assert "did you mean 'unet-scenes'" in capsys.readouterr().err
