"""Tables resolve to runs: every row at every scale, shared runs once, and whatever is wrong is told with its row."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from cicm.assembly import build
from cicm.conventions import InputError
from cicm.recipes import load_recipe
from cicm.tables import Series, load_table, table_names
from cicm.tables.plan import OURS, PRINTED, Table
from cicm.tables.series import key_of, with_root


def test_every_row_resolves_or_says_why_not() -> None:
    for name, scale in itertools.product(table_names(), ["small", "paper"]):
        table = load_table(name)
        jobs, missing = Series(table, scale).jobs(seeds=[0])
        assert len(jobs) + len(missing) == sum(len(part.row) for part in table.part)
        assert all(gap.reason for gap in missing)
        for job in jobs:
            recipe = job.recipe
            assert recipe.training.seed == 0
            assert recipe.name.endswith(f".{job.data}")
            for key, value in job.row.set.items():  # what the row changes is what is trained
                place = load_recipe(job.recipe.name.rpartition(".")[0], {key: value})
                assert _at(recipe, key) == _at(place, key) == (value if value != {} else _at(recipe, key)), key


def _at(recipe: object, key: str) -> object:
    for part in key.split("."):
        recipe = recipe[part] if isinstance(recipe, dict) else getattr(recipe, part)
    return recipe


def test_small_models_can_be_built() -> None:
    for name in ("table1", "table2", "table3"):
        jobs, _ = Series(load_table(name), "small").jobs(seeds=[0])
        for job in {job.key: job for job in jobs if job.data == "places2"}.values():
            model = build(job.recipe.model)
            assert bool(model.memories) == bool(job.recipe.model.memories)


def test_with_and_without_memory_differ_in_the_memory_alone_at_the_small_scale() -> None:
    jobs, _ = Series(load_table("table3"), "small").jobs(seeds=[0])
    for plain, memory in zip(jobs[::2], jobs[1::2]):
        assert memory.row.baseline == plain.row.label
        assert plain.recipe.model.memories == {} != memory.recipe.model.memories
        assert plain.recipe.model.options == memory.recipe.model.options
        assert (plain.recipe.data, plain.recipe.training) == (memory.recipe.data, memory.recipe.training)


def test_the_same_run_has_the_same_key_in_every_table_and_no_other_has_it() -> None:
    jobs = {}
    for name in ("table1", "table2", "table3", "table4", "figure3"):
        found, _ = Series(load_table(name), "small").jobs(seeds=[0])
        jobs |= {(name, job.part.title, job.row.label): job for job in found}
    full = jobs["table1", "Context Generalization", "intra & inter"].key
    same = [place[2] for place, job in jobs.items() if job.key == full]
    assert same == [
        "intra & inter", "top-1 update", "w/ ratio", "100% aug", "CICM", "UNet-CICM", "CICM", "L = 13", "K = 40",
    ]  # fmt: skip
    assert jobs["table3", "CelebA Dataset", "UNet-CICM"].key != full


def test_a_key_leaves_out_the_seed_and_what_changes_no_number() -> None:
    a = load_recipe("unet-cicm-toy")
    assert key_of(a) == key_of(load_recipe("unet-cicm-toy", {"training.seed": 3, "training.log_every_steps": 1}))
    assert key_of(a) != key_of(load_recipe("unet-cicm-toy", {"model.memories.bottom.sets": 5}))


def test_a_key_does_not_change_when_the_code_learns_a_new_one(monkeypatch) -> None:
    """Records and runs made before stay known."""
    from dataclasses import dataclass, replace

    from cicm.training.config import TrainingConfig

    @dataclass(frozen=True)
    class Younger(TrainingConfig):
        novelty: int = 3

    old = load_recipe("unet-cicm-toy")
    values = {name: getattr(old.training, name) for name in TrainingConfig.__dataclass_fields__}
    assert key_of(old) == key_of(replace(old, training=Younger(**values)))
    assert key_of(old) != key_of(replace(old, training=Younger(**values, novelty=4)))


def test_an_empty_section_or_memory_is_not_the_same_as_none() -> None:
    places = ["objective.rfr", "objective.misf", "model.memories", "model.memories.down3"]
    changes: list[dict] = [{}, *({place: {}} for place in places)]
    assert len({key_of(load_recipe("unet-cicm-toy", change)) for change in changes}) == len(changes)


def test_all_rows_come_with_the_first_seed_first(series: Series) -> None:
    jobs, missing = series.jobs()
    assert [(job.row.label, job.seed) for job in jobs] == [
        ("plain", 0), ("w/ memory", 0), ("plain", 1), ("w/ memory", 1),
    ]  # fmt: skip
    assert [(gap.row.label, gap.reason) for gap in missing] == [("SRM", "SRM is not among our networks")]
    jobs, missing = series.jobs(["w-memory"], [7])
    assert [(job.row.label, job.seed) for job in jobs] == [("w/ memory", 7)]
    assert missing == []


def test_photos_are_those_of_the_data_set(series: Series) -> None:
    job = series.jobs()[0][0]
    assert (job.recipe.data.train, job.recipe.data.val, job.recipe.data.layout) == ("photos/train", "photos/val", "")
    jobs, _ = Series(load_table("table3"), "paper").jobs(["CelebA Dataset: UNet"])
    data = jobs[0].recipe.data
    assert (data.layout, data.train, data.val, data.val_split) == ("celeba", "data/celeba", "data/celeba", "val")
    assert data.small == "enlarge"


def test_own_photos_bring_their_own_list_and_leave_other_data_sets_out(house: Path) -> None:
    table = load_table("table3")
    places2 = with_root(table.scale["small"].data["places2"], "photos")
    assert (places2.pairs, places2.masks) == ("", "")  # that list names other photos, and there are no masks here
    one = Series(table, "small", "mine", data={"places2": places2}, only=["places2"])
    jobs, missing = one.jobs(seeds=[0])
    assert {job.data for job in jobs} == {"places2"}
    assert {gap.reason for gap in missing} == {"no photos were given in place of celeba"}
    assert one.results == Path("results/tables/mine")


@pytest.mark.shared
def test_the_small_scale_keeps_its_list_where_its_photos_are(shared: Path, root: Path, monkeypatch) -> None:
    monkeypatch.chdir(root)
    data = load_table("1").scale["small"].data["places2"]
    assert Path(data.pairs).is_file()
    moved = with_root(data, str(shared / "data/scenes"), masks=str(shared / "data/masks"))
    assert moved.pairs == data.pairs


MEMORY = 'recipe = "unet-cicm-toy"\nbaseline'
REFUSED = {
    "did you mean 'training.steps'?": ('"training.steps" = 3', '"training.stepps" = 3'),
    "toy, row 'w/ memory': .*unknown key 'model.memories.bottom.set'": (
        MEMORY,
        MEMORY.replace("\n", '\nset = { "model.memories.bottom.set" = 1 }\n'),
    ),
    "toy, row 'w/ memory': .*unknown recipe": (MEMORY, MEMORY.replace("toy", "toi")),
}


def test_what_a_recipe_refuses_is_told_with_the_row(house: Path) -> None:
    text = (house / "toy.toml").read_text()
    for message, (before, after) in REFUSED.items():
        assert before in text
        (house / "toy.toml").write_text(text.replace(before, after))
        with pytest.raises(InputError, match=message):
            Series(load_table("toy.toml"), "toy").jobs()


WRONG = {
    "unknown key 'captoin'; did you mean 'caption'": ("caption =", "captoin ="),
    "psnr must have a number for each of 0-20, 20-40, 40-60; got 2": (
        '["20.10", "10.20", "5.30"]',
        '["20.10", "5.30"]',
    ),
    "must hold printed numbers; got 'about 5'": ('"5.30"', '"about 5"'),
    "the paper's metrics are psnr, .*; got 'psnrr'": ('paper = { psnr = ["30', 'paper = { psnrr = ["30'),
    "the baseline 'plane' is no row": ('baseline = "plain"', 'baseline = "plane"'),
    "either a recipe, or `missing`": ('missing = "SRM', 'recipe = "plain"\nmissing = "SRM'),
    "needs a name of its own": ('label = "SRM"', 'label = "PLAIN"'),
    "the bands are 0-20": ('title = "Toy"', 'title = "Toy"\nbands = ["0-20", "20-40", "60-80"]'),
}


def test_a_table_file_is_read_strictly(house: Path) -> None:
    text = (house / "toy.toml").read_text()
    for message, (before, after) in WRONG.items():
        assert before in text
        (house / "toy.toml").write_text(text.replace(before, after, 1))
        with pytest.raises(InputError, match=message):
            load_table("toy.toml")


def test_unknown_names_are_refused_with_the_nearest(toy: Table, series: Series) -> None:
    with pytest.raises(InputError, match="did you mean 'table3'"):
        load_table("tabel3")
    with pytest.raises(InputError, match="no table file at none"):
        load_table("none.toml")
    with pytest.raises(InputError, match="no scale 'papre'; it has small, paper, toy"):
        Series(toy, "papre")
    with pytest.raises(InputError, match="no row 'w/ memroy'; did you mean 'w/ memory'"):
        series.jobs(["w/ memroy"])
    with pytest.raises(InputError, match="a series' name"):
        Series(toy, "toy", "../up")


def test_files_that_are_no_tables(house: Path) -> None:
    (house / "broken.toml").write_text("title = ")
    with pytest.raises(InputError, match="cannot be read as a table"):
        load_table("broken.toml")
    (house / "large.toml").write_text("#" * (2 << 20))
    with pytest.raises(InputError, match="larger than"):
        load_table("large.toml")


def test_every_metric_of_the_paper_has_one_of_ours() -> None:
    from cicm.metrics import METRICS

    assert list(OURS) == list(PRINTED)
    for metric, names in OURS.items():
        for name in names:
            assert METRICS[name].better == PRINTED[metric], name
    for table in map(load_table, table_names()):
        for scale in table.scale.values():
            assert set(scale.metrics) <= set(METRICS)


def test_every_row_of_tables_4_and_5_has_a_recipe_at_both_scales() -> None:
    """But for Outdoor Scenes at the small scale, for which there are no photos here."""
    for name, scale in itertools.product(("table4", "table5", "figure4", "semantic"), ("small", "paper")):
        _, missing = Series(load_table(name), scale).jobs(seeds=[0])
        assert {gap.reason for gap in missing} <= {"the scale small has no data set outdoor-scenes"}, (name, scale)


def test_classes_are_those_of_the_photos() -> None:
    for scale, expected in (("small", {"camvid"}), ("paper", {"cityscapes", "outdoor-scenes"})):
        jobs, _ = Series(load_table("table5"), scale).jobs(seeds=[0])
        seen = set()
        for job in jobs:
            labels, network = job.recipe.model.labels, job.recipe.model
            if labels is None:
                continue
            seen.add(labels.layout)
            assert network.options.get("classes", labels.classes) == labels.classes
            assert all(memory.sets % labels.classes == 0 for memory in network.memories.values())
            sources = {"small": {"known", "none"}, "paper": {"predicted", "none"}}
            assert labels.source in sources[scale], "Cityscapes' test photos have no public labels"
        assert seen == expected


def test_the_nine_rows_differ_in_what_they_say_alone() -> None:
    jobs, _ = Series(load_table("semantic"), "small").jobs(seeds=[0])
    assert len({job.key for job in jobs}) == len(jobs) == 9
    assert len({(job.recipe.training, job.recipe.data) for job in jobs}) == 1
    labels = [job.recipe.model.labels for job in jobs]
    assert [one.source for one in labels if one] == ["none"] * 2 + ["known"] * 6 + ["oracle"]
    assert [bool(job.recipe.model.memories) for job in jobs] == [False] * 4 + [True] * 5


def test_stages_are_trained_one_after_the_other_and_count(house: Path) -> None:
    jobs, _ = Series(load_table("table4"), "paper").jobs(["Places2 Dataset: JPG"])
    (job,) = jobs
    assert [stage.model.options["stage"] for stage in (*job.stages, job.recipe)] == ["generator", "filter", "fusion"]
    assert job.steps == sum(stage.training.steps for stage in (*job.stages, job.recipe)) > 2_500_000
    assert {stage.training.init for stage in (*job.stages, job.recipe)} == {""}
    assert {stage.data.train for stage in (*job.stages, job.recipe)} == {job.recipe.data.train}
    folders = {Series(load_table("table4"), "paper").folder_of(stage) for stage in (*job.stages, job.recipe)}
    assert len(folders) == 3
