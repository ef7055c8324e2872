"""Running a table: two rows end to end, nothing done twice, failures that stop nothing else, conditions kept apart."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cicm.assembly import build, save_weights
from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.data.pair_lists import read_pairs
from cicm.evaluation.records import Evaluation
from cicm.recipes import load_recipe
from cicm.tables import Series, Table, load_table
from cicm.tables.apart import RowFailed, train_apart
from cicm.tables.figures import filled_rows
from cicm.tables.page import page
from cicm.tables.rendering import markdown
from cicm.tables.runner import check, run, scoring_plan
from cicm.training.folder import WEIGHTS


class Trainer:
    """Trains in this process, counts, and fails or is interrupted where a test wants it."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.problems: dict[str, BaseException] = {}

    def __call__(self, recipe: Path, folder: Path) -> None:
        from cicm.training.loop import train

        config = load_recipe(str(recipe))
        has_memory = "memory" if config.model.memories else "plain"
        self.trained.append(f"{has_memory} {config.training.seed}")
        if problem := self.problems.pop(self.trained[-1], None):
            raise problem
        code = train(config, name=config.name, recipe=config.to_toml(), output=folder, accelerator="cpu")
        assert code == 0


@pytest.fixture
def train() -> Trainer:
    return Trainer()


def quiet(text: str) -> None:
    pass


def test_two_rows_end_to_end(toy: Table, train: Trainer, house: Path) -> None:
    said: list[str] = []
    series = Series(toy, "toy")
    jobs, _ = series.jobs(seeds=[0])
    outcomes = run(series, jobs, train, say=said.append)
    assert [outcome.state for outcome in outcomes] == ["made", "made"]
    assert train.trained == ["plain 0", "memory 0"]
    assert "6 steps in all" in said[0]
    assert any("steps/s so far with scoring, about " in text for text in said)

    # what is written
    folder = house / "results/tables/toy"
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    rows = [f"toy/toys/{row}-0{end}" for row in ("plain", "w-memory") for end in (".images.csv", ".json", ".toml")]
    assert names == sorted(["pictures.pairs.csv", *rows])
    evaluation = Evaluation.load(folder / "toy/toys/w-memory-0.json")
    assert evaluation.methods == ["w/ memory"]
    assert {record.seed for record in evaluation.records} == {0}
    assert load_recipe(str(folder / "toy/toys/w-memory-0.toml")) == jobs[1].recipe
    assert len(read_pairs(folder / "pictures.pairs.csv")) == 2 * 3

    # the same command again does nothing, also in a fresh process
    again = Series(load_table("toy.toml"), "toy")
    assert [outcome.state for outcome in run(again, again.jobs(seeds=[0])[0], train, say=quiet)] == ["there", "there"]
    assert len(train.trained) == 2

    # and what is rendered is what was measured
    text = markdown(page(again))
    value = next(r.value for r in evaluation.records if (r.metric, r.band) == ("psnr", "0-20"))
    assert f"| 20.30 | {value:.3f} |" in text
    rows_of_grid, absent = filled_rows(again, photos=1)
    assert [sorted(row.filled) for row in rows_of_grid] == [["plain", "w/ memory"]] * 3
    assert absent == ["Toys: SRM: SRM is not among our networks"]


def test_after_an_interruption_between_rows_only_the_rest_is_done(toy: Table, train: Trainer) -> None:
    series = Series(toy, "toy")
    train.problems["memory 0"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(series, series.jobs(seeds=[0])[0], train, say=quiet)
    series = Series(toy, "toy")
    states = [outcome.state for outcome in run(series, series.jobs(seeds=[0])[0], train, say=quiet)]
    assert states == ["there", "made"]
    assert train.trained == ["plain 0", "memory 0", "memory 0"]


def test_a_run_killed_while_scoring_is_scored_and_not_trained_again(toy: Table, train: Trainer, monkeypatch) -> None:
    series = Series(toy, "toy")
    jobs = series.jobs(["plain"], [0])[0]

    def killed(self: Evaluation, path: Path, *, overwrite: bool = False) -> list[Path]:
        Path(path).with_name("plain-0.images.csv").write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run(series, jobs, train, say=quiet)
    weights = series.run_folder(jobs[0]) / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    series = Series(toy, "toy")
    assert [outcome.state for outcome in run(series, jobs, train, say=quiet)] == ["made"]
    log = (weights.parent / "log.jsonl").read_text().splitlines()
    assert len([line for line in log if '"loss"' in line]) == 1, "steps were taken again"
    assert weights.stat().st_mtime_ns >= before


def test_a_row_that_fails_is_told_and_the_others_go_on(toy: Table, train: Trainer, house: Path) -> None:
    series = Series(toy, "toy")
    train.problems["plain 0"] = RowFailed("the loss is NaN")
    train.problems["memory 0"] = ZeroDivisionError("no such luck")
    outcomes = run(series, series.jobs()[0], train, say=quiet)
    assert [(o.state, o.reason) for o in outcomes] == [
        ("failed", "the loss is NaN"), ("failed", "ZeroDivisionError: no such luck"), ("made", ""), ("made", ""),
    ]  # fmt: skip
    # with one seed there the row is shown; with none its reason
    shown = page(Series(toy, "toy"))
    assert {line.row.label: line.seeds for line in shown.blocks[0].lines} == {
        "plain": (1,),
        "w/ memory": (1,),
        "SRM": (),
    }
    for path in (house / "results/tables/toy/toy/toys").glob("*-1.*"):
        path.unlink()
    reasons = [line.reason for line in page(Series(toy, "toy")).blocks[0].lines]
    assert reasons[:2] == ["failed: the loss is NaN", "failed: ZeroDivisionError: no such luck"]
    # made after all, the reason goes
    series = Series(toy, "toy")
    run(series, series.jobs(seeds=[0])[0], train, say=quiet)
    assert not list((house / "results").rglob("*.failed.txt"))


def test_rows_that_train_the_same_share_a_run_across_tables(toy: Table, train: Trainer, house: Path) -> None:
    run((series := Series(toy, "toy")), series.jobs(["plain"], [0])[0], train, say=quiet)
    other = (house / "toy.toml").read_text().replace('label = "plain"', 'label = "UNet"')
    (house / "other.toml").write_text(other.replace('baseline = "plain"', 'baseline = "UNet"'))
    said: list[str] = []
    series = Series(load_table("other.toml"), "toy")
    outcomes = run(series, series.jobs(["UNet"], [0])[0], train, say=said.append)
    assert [outcome.state for outcome in outcomes] == ["there"]
    assert "the same run as results/tables/toy/toy/toys/plain-0.json" in said[0]
    assert train.trained == ["plain 0"]
    assert page(series).blocks[0].lines[0].cells["0-20"].ours is not None


def test_a_record_of_another_recipe_is_not_taken_and_not_overwritten(toy: Table, train: Trainer, house: Path) -> None:
    series = Series(toy, "toy")
    run(series, series.jobs(["plain"], [0])[0], train, say=quiet)
    record = house / "results/tables/toy/toy/toys/plain-0.json"
    before = record.read_bytes()
    text = (house / "toy.toml").read_text()
    (house / "toy.toml").write_text(text.replace('"training.steps" = 3', '"training.steps" = 4'))
    changed = Series(load_table("toy.toml"), "toy")
    outcomes = run(changed, changed.jobs(["plain"], [0])[0], train, say=quiet)
    assert outcomes[0].state == "failed"
    assert "training.steps = 3, now 4" in outcomes[0].reason
    assert "--name" in outcomes[0].reason
    assert record.read_bytes() == before
    assert train.trained == ["plain 0"]
    (house / "results/tables/toy/toy/toys/plain-0.failed.txt").unlink()
    assert "training.steps = 3, now 4" in page(changed).blocks[0].lines[0].reason


def test_other_photos_are_refused_before_anything_is_trained(toy: Table, train: Trainer, house: Path) -> None:
    from PIL import Image

    series = Series(toy, "toy")
    run(series, series.jobs(["plain"], [0])[0], train, say=quiet)
    (house / "results/tables/toy/pictures.pairs.csv").unlink()
    Image.new("RGB", (32, 32)).save(house / "photos/test/new.png")
    series = Series(toy, "toy")
    with pytest.raises(InputError, match=r"plain-0.json was scored on other terms .*pairs_sha256.*--name"):
        run(series, series.jobs(["w/ memory"], [0])[0], train, say=quiet)
    assert train.trained == ["plain 0"]
    assert not (house / "results/tables/toy/pictures.pairs.csv").exists()
    another = Series(toy, "toy", "another")
    assert list(check(another, another.jobs()[0])) == ["pictures"]


def test_absent_photos_masks_and_lists_say_what_to_give(toy: Table, house: Path) -> None:
    from dataclasses import replace

    data = toy.scale["toy"].data["pictures"]
    for changed, message in [
        (replace(data, root="nowhere"), "--data pictures=ROOT"),
        (replace(data, masks="nowhere"), "--masks"),
        (replace(data, pairs="nowhere.csv"), "no list nowhere.csv"),
        (replace(data, size=64), "too few to score at"),
    ]:
        with pytest.raises(InputError, match=message):
            scoring_plan(Series(toy, "toy", data={"pictures": changed}), "pictures")


# A training in a process of its own -----------------------------------------------------------------------------------


@pytest.fixture
def stub(tmp_path: Path) -> Callable[[str], str]:
    """A program in place of Python, that does what a test wants of `cicm train`."""

    def make(body: str) -> str:
        path = tmp_path / "stub"
        path.write_text(f"#!{sys.executable}\nimport sys, time, signal\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_a_training_that_ends_badly_is_a_failed_row_with_its_last_line(stub, tmp_path: Path, capfd) -> None:
    train = train_apart(
        python=stub("print('one', file=sys.stderr); print('cicm: error: x', file=sys.stderr); sys.exit(2)")
    )
    with pytest.raises(RowFailed, match="exit code 2: cicm: error: x"):
        train(tmp_path / "a.toml", tmp_path / "run")
    assert capfd.readouterr().err == "one\ncicm: error: x\n"


def test_a_training_that_was_stopped_stops_the_table(stub, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_apart(python=stub("sys.exit(130)"))(tmp_path / "a.toml", tmp_path / "run")


def test_an_interruption_is_passed_on_once_and_waited_for(stub, tmp_path: Path) -> None:
    import os
    import signal
    import threading

    saved = tmp_path / "saved"
    body = (
        "asked = []\n"
        "signal.signal(signal.SIGTERM, lambda *a: asked.append(1))\n"
        f"open({str(tmp_path / 'ready')!r}, 'w').close()\n"
        "while not asked: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        f"open({str(saved)!r}, 'w').write(str(len(asked)))\n"
        "sys.exit(130)"
    )

    def interrupt() -> None:
        while not (tmp_path / "ready").exists():
            threading.Event().wait(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        train_apart(python=stub(body))(tmp_path / "a.toml", tmp_path / "run")
    assert saved.read_text() == "1"


# The command ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_all_and_writes_nothing(house: Path, capsys) -> None:
    before = sorted(house.rglob("*"))
    assert main(["table", "run", "toy.toml", "--scale", "toy", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert "4 runs to make, 12 steps" in out
    assert "Toys: SRM: left out: SRM is not among our networks" in out
    assert err == ""
    assert sorted(house.rglob("*")) == before


DRY = ["table", "run", "toy.toml", "--scale", "toy", "--seeds", "0", "--dry-run"]


def test_a_dry_run_refuses_what_the_run_would_refuse(toy: Table, train: Trainer, house: Path, capsys) -> None:
    """Photos to score, masks, lists and records of other conditions: exit code 2, in one line, as the run does."""
    from PIL import Image

    text = (house / "toy.toml").read_text()
    place = '[scale.toy.data.pictures]\nabout = "noise"\nroot = "photos"\n'
    assert place in text
    for changed, message in [
        (place.replace('"photos"', '"nowhere"'), "--data pictures=ROOT"),
        (place + 'masks = "nowhere"\n', "expected mask files in nowhere"),
        (place + 'pairs = "nowhere.csv"\n', "no list nowhere.csv"),
        (place + 'test = "none"\n', "photos/none"),
    ]:
        (house / "toy.toml").write_text(text.replace(place, changed))
        for words in (DRY, DRY[:-1]):
            assert main(words) == 2
            assert message in capsys.readouterr().err.splitlines()[-1]
        assert not (house / "results").exists()
    (house / "toy.toml").write_text(text)
    series = Series(toy, "toy")
    run(series, series.jobs(["plain"], [0])[0], train, say=quiet)
    (house / "results/tables/toy/pictures.pairs.csv").unlink()
    Image.new("RGB", (32, 32)).save(house / "photos/test/new.png")
    for words in (DRY, DRY[:-1]):
        assert main(words) == 2
        assert "plain-0.json was scored on other terms" in capsys.readouterr().err


def test_a_dry_run_names_the_rows_that_would_fail(toy: Table, train: Trainer, house: Path, capsys) -> None:
    """A stale record, no training photos, a model that can't be built: exit code 1, and the others are told."""
    series = Series(toy, "toy")
    run(series, series.jobs(["plain"], [0])[0], train, say=quiet)
    text = (house / "toy.toml").read_text()
    (house / "toy.toml").write_text(text.replace('"training.steps" = 3', '"training.steps" = 4'))
    assert main(DRY) == 1
    out = capsys.readouterr().out
    assert "Toys: plain, seed 0: would fail: results/tables/toy/toy/toys/plain-0.json is there and" in out
    assert "training.steps = 3, now 4" in out
    assert "Toys: w/ memory, seed 0: 4 steps" in out
    assert "1 runs to make, 4 steps; 1 would fail" in out

    baseline = 'baseline = "plain"\n'
    for change, message in [
        ('"model.memories.down9.sets" = 2', "down9"),
        ('"data.match" = ["*.gif"]', "fits data.match"),
        ('"data.crop" = 33', "multiples of 16"),
        ('"data.train" = "nowhere"', "nowhere does not exist"),
        ('"data.val" = "nowhere"', "nowhere does not exist"),
    ]:
        (house / "toy.toml").write_text(text.replace(baseline, f"{baseline}set = {{ {change} }}\n"))
        assert main(DRY) == 1
        out = capsys.readouterr().out
        assert "Toys: plain, seed 0: there" in out
        assert "Toys: w/ memory, seed 0: would fail:" in out
        assert message in out, change


def test_what_is_typed_wrong_is_one_line(house: Path, capsys) -> None:
    for words, message in (
        (["run"], "run takes a table"),
        (["list", "3"], "list takes no table"),
        (["render", "table9"], "unknown table 'table9'"),
        (["run", "3", "--scale", "huge"], "no scale 'huge'"),
        (["run", "3", "--data", "imagenet=x"], "no data set 'imagenet'"),
        (["run", "3", "--rows", "UNat", "--dry-run"], "did you mean 'UNet'"),
        (["run", "3", "--threads", "-1"], "--threads must be"),
        (["render", "3", "-o", "x.doc"], "must end in .md or .tex or .csv or .html"),
    ):
        assert main(["table", *words]) == 2, words
        err = capsys.readouterr().err
        assert message in err, words
        assert err.count("\n") == 1, words
        assert not (house / "results").exists(), words


@pytest.mark.slow
def test_the_command_trains_in_processes_of_their_own_and_its_exit_code_tells(house: Path, capfd) -> None:
    words = ["table", "run", "toy.toml", "--scale", "toy", "--seeds", "0", "--threads", "1"]
    assert main([*words, "--rows", "plain", "SRM"]) == 0
    assert (house / "results/tables/toy/toy.md").read_text().count("| plain |") >= 1
    text = (house / "toy.toml").read_text()
    (house / "toy.toml").write_text(
        text.replace('baseline = "plain"\n', 'baseline = "plain"\nset = { "model.memories.down9.sets" = 2 }\n')
    )
    assert main(words) == 1
    err = capfd.readouterr().err
    assert "1 were there, 1 failed" in err
    assert "down9" in err.splitlines()[-1]


def test_each_stage_begins_from_the_weights_of_the_one_before(house: Path) -> None:
    text = (house / "toy.toml").read_text()
    stages = 'plain = { recipe = "unet-cicm-toy", stages = ["low", "middle"], set = { "model.memories" = {} } }'
    text = text.replace('plain = { recipe = "unet-cicm-toy", set = { "model.memories" = {} } }', stages)
    for name, rate in (("low", 0.5), ("middle", 0.25)):
        text = text.replace(f'"{name}"', f'"{house / name}.toml"')
        (house / f"{name}.toml").write_text(f'extends = "unet-cicm-toy"\n[training]\nlr = {rate}\n')
    (house / "staged.toml").write_text(text)
    series = Series(load_table("staged.toml"), "toy")
    began = []

    def train(recipe: Path, folder: Path) -> None:
        resolved = load_recipe(str(recipe))
        began.append((resolved.training.lr, resolved.training.init, folder))
        folder.mkdir(parents=True, exist_ok=True)
        model = build(resolved.model)
        save_weights(folder / WEIGHTS, model, resolved.model, overwrite=True)

    jobs, _ = series.jobs(["plain"], [0])
    (outcome,) = run(series, jobs, train, say=lambda text: None)
    assert outcome.state == "made", outcome.reason
    assert [rate for rate, _, _ in began][:2] == [0.5, 0.25]
    assert [init for _, init, _ in began] == ["", *(str(folder / WEIGHTS) for _, _, folder in began[:-1])]
    assert began[-1][2] == series.run_folder(jobs[0])
