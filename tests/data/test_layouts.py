"""Data sets by their published layouts: complete, incomplete and hostile copies, in small."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.conventions import BANDS, InputError
from cicm.datasets import LAYOUTS, Layout, find, labels_of, layout_named, photos_of
from cicm.datasets import tree as tree_module
from cicm.datasets.checking import Report, check
from cicm.datasets.masks import inverted, measured_polarity
from cicm.datasets.tree import Tree

SIZE = (12, 10)  # height, width


def put(root: Path, *names: str, size: tuple[int, int] = SIZE) -> list[str]:
    """Small pictures under these names, written in an order that has nothing to do with theirs."""
    for name in random.Random(1).sample(names, len(names)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size[::-1], (len(name) * 9 % 256, 80, 120)).save(path)
    return list(names)


def put_labels(root: Path, *names: str, value: int = 7, size: tuple[int, int] = SIZE) -> list[str]:
    """Label maps of one class."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size[::-1], value).save(root / name)
    return list(names)


def write(root: Path, name: str, *lines: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join(lines) + "\n")


def scaled(name: str, size: tuple[int, int] | None = SIZE, **counts: int) -> Layout:
    """A layout with other numbers: what its small copies are held against."""
    layout = LAYOUTS[name]
    assert counts.keys() == layout.counts.keys()
    return replace(layout, counts=counts, size=size if layout.size else None)


def places(root: Path, top: str = "data_256", word: str = "standard") -> tuple[Layout, dict[str, list[str]]]:
    names = ["a/airfield/00000001.jpg", "a/airfield/00000002.jpg", "s/swimming_pool/indoor/00000001.jpg"]
    splits = {"train": put(root, *(f"{top}/{name}" for name in names))}
    write(root, f"places365_train_{word}.txt", *(f"/{name} {index}" for index, name in enumerate(names)))
    size = "large" if "large" in top else "256"
    for split, numbers in (("val", (1, 2)), ("test", (1, 2, 3, 4))):
        names = [f"Places365_{split}_{number:08}.jpg" for number in numbers]
        splits[split] = put(root, *(f"{split}_{size}/{name}" for name in names))
        write(root, f"places365_{split}.txt", *(f"{name} 7" if split == "val" else name for name in names))
    name = "places2" + ("" if word == "standard" else f"-{word}") + ("-large" if size == "large" else "")
    return scaled(name, train=3, val=2, test=4), splits


def places_easy(root: Path) -> tuple[Layout, dict[str, list[str]]]:
    """Folders of classes, the validation photos named in the official list, and a flat test folder."""
    train = put(root, "places365_standard/train/abbey/1.jpg", "places365_standard/train/zoo/1.jpg")
    val = put(
        root,
        "places365_standard/val/zoo/Places365_val_00000001.jpg",
        "places365_standard/val/abbey/Places365_val_00000002.jpg",
    )
    write(root, "places365_val.txt", "Places365_val_00000001.jpg 1", "Places365_val_00000002.jpg 0")
    write(root, "places365_train_standard.txt", "/a/abbey/1.jpg 0", "/z/zoo/1.jpg 1")
    test = put(root, "test_256/Places365_test_00000001.jpg")
    return scaled("places2", train=2, val=2, test=1), {"train": train, "val": val, "test": test}


def celeba(root: Path) -> tuple[Layout, dict[str, list[str]]]:
    names = put(root, *(f"img_align_celeba/{number:06}.jpg" for number in range(1, 8)))
    parts = [0, 0, 0, 0, 1, 2, 2]
    write(root, "list_eval_partition.txt", *(f"{name.split('/')[1]} {part}" for name, part in zip(names, parts)))
    return scaled("celeba", train=4, val=1, test=2), {"train": names[:4], "val": names[4:5], "test": names[5:]}


def celeba_csv(root: Path) -> tuple[Layout, dict[str, list[str]]]:
    """As a well-known mirror packs it: a folder in a folder, and the partition as CSV with a title."""
    layout, splits = celeba(root)
    (root / "img_align_celeba").rename(root / "inner")
    (root / "img_align_celeba").mkdir()
    (root / "inner").rename(root / "img_align_celeba" / "img_align_celeba")
    lines = (root / "list_eval_partition.txt").read_text().replace(" ", ",").splitlines()
    (root / "list_eval_partition.txt").unlink()
    write(root, "list_eval_partition.csv", "image_id,partition", *lines)
    return layout, {split: [f"img_align_celeba/{name}" for name in names] for split, names in splits.items()}


def celeba_hq(root: Path) -> tuple[Layout, dict[str, list[str]]]:
    """Numbers up to 10, so that an order by text would differ; CelebA's numbers tell the split."""
    names = put(root, *(f"CelebA-HQ-img/{number}.jpg" for number in range(11)))
    olds = [162_770, 162_771, 182_637, 182_638, 1, 202_599, 3, 4, 5, 6, 7]
    rows = [f"{number:<11}{old - 1:<11}{old:06}.jpg" for number, old in enumerate(olds)]
    write(root, "CelebA-HQ-to-CelebA-mapping.txt", "idx        orig_idx   orig_file", *rows)
    splits = {"train": [0, 4, 6, 7, 8, 9, 10], "val": [1, 2], "test": [3, 5], "all": list(range(11))}
    return scaled("celeba-hq", train=7, val=2, test=2, all=11), {
        split: [names[number] for number in numbers] for split, numbers in splits.items()
    }


def cityscapes(root: Path) -> tuple[Layout, dict[str, list[str]]]:
    cities = {"train": ("aachen", "zurich"), "val": ("lindau",), "test": ("bonn", "mainz")}
    splits = {}
    for split, names in cities.items():
        stems = [f"{split}/{city}/{city}_{n:06}_000019" for city in names for n in range(2)]
        splits[split] = put(root, *(f"leftImg8bit/{stem}_leftImg8bit.png" for stem in stems))
        put(root, *(f"gtFine/{stem}_gtFine_color.png" for stem in stems))
        put_labels(root, *(f"gtFine/{stem}_gtFine_labelIds.png" for stem in stems))
    return scaled("cityscapes", train=4, val=2, test=4), splits


def outdoor(root: Path) -> tuple[Layout, dict[str, list[str]]]:
    train = put(root, *(f"OutdoorSeg/images/p{n}.jpg" for n in range(3)))
    put_labels(root, *(f"OutdoorSeg/annotations/p{n}.png" for n in range(3)))
    test = put(root, *(f"OutdoorSceneTest300/OST_{n:03}.png" for n in range(2)))
    put_labels(root, *(f"OutdoorSceneTest300/OutdoorSceneTest300_anno/OST_{n:03}.png" for n in range(2)))
    return scaled("outdoor-scenes", train=3, test=2), {"train": train, "test": test}


def camvid(root: Path) -> tuple[Layout, dict[str, list[str]]]:
    splits = {}
    for split, stems in {"train": ("0006R0_f00930", "0016E5_01290"), "val": ("0016E5_07959",), "test": ("b",)}.items():
        splits[split] = put(root, *(f"{split}/image/{stem}.jpg" for stem in stems))
        put_labels(root, *(f"{split}/label/{stem}.png" for stem in stems))
    return scaled("camvid", train=2, val=1, test=1), splits


def camvid_of_segnet(root: Path) -> tuple[Layout, dict[str, list[str]]]:
    splits = {split: put(root, f"{split}/a.png") for split in ("train", "val", "test")}
    put_labels(root, *(f"{split}annot/a.png" for split in splits))
    return scaled("camvid", train=1, val=1, test=1), splits


def folder(root: Path) -> tuple[Layout, dict[str, list[str]]]:
    train, val = put(root, "train/a.png", "train/deep/b.jpg"), put(root, "val/c.png")
    return LAYOUTS["folder"], {"train": train, "val": val, "all": sorted(train + val)}


def mask(path: Path, share: float, white: bool = True, side: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    hole = np.arange(side * side).reshape(side, side) < round(share * side * side)
    Image.fromarray(hole == white).save(path)


def nvidia(root: Path, white: bool = True) -> tuple[Layout, dict[str, list[str]]]:
    """Four masks for each ten percent."""
    names = [f"mask/testing_mask_dataset/{number:05}.png" for number in range(24)]
    for number, name in enumerate(names):
        mask(root / name, (number // 4 + (0.3 + 0.2 * (number % 4))) / 10, white)
    layout = replace(LAYOUTS["nvidia-masks"], counts=dict.fromkeys(BANDS, 8), size=(20, 20))
    return layout, {band: names[8 * place : 8 * place + 8] for place, band in enumerate(BANDS)}


def bands(root: Path) -> tuple[Layout, dict[str, list[str]]]:
    names = {"0-20": ["0-10/a.png", "10-20/b.png"], "20-40": ["20%-40%/c.png"], "40-60": ["40-50/d.png"]}
    for place, name in enumerate(["0-10/a.png", "10-20/b.png", "20%-40%/c.png", "40-50/d.png"]):
        mask(root / name, [0.07, 0.13, 0.3, 0.44][place])
    return LAYOUTS["mask-bands"], names


Maker = Callable[[Path], tuple[Layout, dict[str, list[str]]]]


MAKERS: dict[str, Maker] = {
    "places": places,
    "places, renamed": lambda root: places(root, "data_256_standard"),
    "places, challenge": lambda root: places(root, "data_256_challenge", "challenge"),
    "places, large": lambda root: places(root, "data_large_standard"),
    "places, easy": places_easy,
    "celeba": celeba,
    "celeba, csv": celeba_csv,
    "celeba-hq": celeba_hq,
    "cityscapes": cityscapes,
    "outdoor": outdoor,
    "camvid": camvid,
    "camvid of SegNet": camvid_of_segnet,
    "folder": folder,
    "nvidia": nvidia,
    "nvidia, black": lambda root: nvidia(root, white=False),
    "bands": bands,
}


def told(report: Report) -> str:
    """Everything that a report calls wrong."""
    return "\n".join(f"{problem} {problem.paths}" for problem in report.problems)


# Complete -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_a_complete_copy_is_found_in_its_order_called_complete_and_left_as_it_is(name: str, tmp_path: Path) -> None:
    layout, expected = MAKERS[name](tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert {split: find(layout, tmp_path, split).photos for split in expected} == expected
    for depth in ("names", "sample", "read"):
        done: list[tuple[int, int]] = []
        report = check(layout, tmp_path, depth=depth, progress=lambda _, *step, done=done: done.append(step))
        assert told(report) == ""
        assert report.complete
        for split in report.splits:
            assert split.found == len(expected[split.name])
            assert split.expected in (split.found, 0)
            assert (split.opened > 0) == (depth != "names")
        assert bool(done) == (depth == "read")
        assert all(count == total for count, total in done)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_published_numbers() -> None:
    """Facts of the data sets, and the sums that they have to give."""
    counts = {name: dict(layout.counts) for name, layout in LAYOUTS.items()}
    assert counts["places2"] == counts["places2-large"] == {"train": 1_803_460, "val": 36_500, "test": 328_500}
    assert counts["places2-challenge"]["train"] == 8_026_628
    assert counts["places2"]["val"] == 365 * 100
    assert counts["places2"]["test"] == 365 * 900
    assert sum(counts["celeba"].values()) == 202_599
    assert counts["celeba-hq"].pop("all") == sum(counts["celeba-hq"].values()) == 30_000
    assert sum(counts["cityscapes"].values()) == 5_000
    assert counts["outdoor-scenes"] == {"train": 9_900, "test": 300}
    assert sum(counts["nvidia-masks"].values()) == 12_000


def test_labels_go_with_their_photos(tmp_path: Path) -> None:
    layout, splits = cityscapes(tmp_path)
    found = find(layout, tmp_path, "train")
    assert found.labels == [
        name.replace("leftImg8bit/", "gtFine/").replace("_leftImg8bit", "_gtFine_labelIds") for name in splits["train"]
    ]
    assert find(layout, tmp_path, "test").labels is None, "they are there, and hold no classes"
    outdoor(tmp_path)
    assert find(scaled("outdoor-scenes", train=3, test=2), tmp_path, "test").labels == [
        f"OutdoorSceneTest300/OutdoorSceneTest300_anno/OST_{n:03}.png" for n in range(2)
    ]


def test_the_check_tells_which_classes_the_labels_hold(tmp_path: Path) -> None:
    layout, _ = outdoor(tmp_path)
    put_labels(tmp_path, "OutdoorSeg/annotations/p0.png", value=255)
    put_labels(tmp_path, "OutdoorSeg/annotations/p1.png", value=2)
    report = check(layout, tmp_path, ["train"], depth="read")
    assert report.complete, "a map with nothing but void is legal"
    assert "train: classes in 3 label maps: water 33.3%, animal 33.3%; void 33.3%" in report.notes
    assert "train: 1 label maps hold nothing but void" in report.notes
    put_labels(tmp_path, "OutdoorSeg/annotations/p2.png", value=9)
    wrong = told(check(layout, tmp_path, ["train"], depth="read"))
    assert "1 labels can't be read, or hold values outside the classes" in wrong
    assert "OutdoorSeg/annotations/p2.png" in wrong


def test_photos_without_labels_are_complete_with_a_note(tmp_path: Path) -> None:
    layout, _ = cityscapes(tmp_path)
    (tmp_path / "gtFine").rename(tmp_path / "elsewhere")
    report = check(layout, tmp_path)
    assert report.complete
    assert any("no labels here" in note for note in report.notes)


def test_paths_begin_with_the_root_and_labels_go_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, splits = cityscapes(tmp_path)
    monkeypatch.setitem(LAYOUTS, "cityscapes", layout)
    assert photos_of(tmp_path, "cityscapes", "val") == [tmp_path / name for name in splits["val"]]
    labels = labels_of(tmp_path, "cityscapes", "val")
    assert all(label is not None and label.is_file() for label in labels)
    assert labels_of(tmp_path, "cityscapes", "test") == [None] * 4


def test_a_partition_overrides_the_official_numbers(tmp_path: Path) -> None:
    layout, _ = celeba_hq(tmp_path)
    write(tmp_path, "list_eval_partition.txt", *(f"{number:06}.jpg 2" for number in range(1, 8)))
    report = check(layout, tmp_path, ["test"])
    assert "CelebA-HQ-to-CelebA-mapping.txt has 5 lines that make no sense" in told(report)  # those it doesn't name
    assert report.splits[0].found == 6


# Incomplete -----------------------------------------------------------------------------------------------------------


def _remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def _add(name: str) -> Callable[[Path], None]:
    return lambda root: put(root, name) and None


def _append(name: str, line: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with open(root / name, "a") as file:
            file.write(f"{line}\n")

    return change


def _cut(name: str) -> Callable[[Path], None]:
    """Keep the file's first half."""
    return lambda root: (
        (root / name).write_bytes((root / name).read_bytes()[: (root / name).stat().st_size // 2]) and None
    )


DAMAGE = [
    # made by, what happens, split, words of the report, whether training on the split is refused
    (places, _remove("data_256/a/airfield/00000002.jpg"), "train", "1 photos that places365_train_standard.txt", True),
    (
        places,
        _remove("val_256/Places365_val_00000001.jpg"),
        "val",
        "1 photos that places365_val.txt names are absent",
        True,
    ),
    (places, _add("val_256/stranger.jpg"), "val", "1 photos are not in places365_val.txt", False),
    (places, _append("places365_val.txt", "too many words here"), "val", "1 lines that make no sense", True),
    (places, _append("places365_val.txt", "../../secret.jpg 3"), "val", "names 1 paths outside", True),
    (places, _append("places365_val.txt", "Places365_val_00000001.jpg 3"), "val", "names 1 photos twice", True),
    (places_easy, _add("places365_standard/train/zoo/2.jpg"), "train", "3 photos were found", False),
    (places_easy, _remove("places365_standard/val/zoo/Places365_val_00000001.jpg"), "val", "names are absent", True),
    (celeba, _remove("list_eval_partition.txt"), "train", "list_eval_partition.txt is missing", True),
    (celeba, _remove("img_align_celeba/000006.jpg"), "test", "names are absent, first img_align_celeba/000006", True),
    (celeba, _append("list_eval_partition.txt", "000009.jpg 0"), "train", "000009.jpg", True),
    (celeba, _append("list_eval_partition.txt", "000008.jpg 3"), "val", "line 8: 000008.jpg 3", True),
    (celeba, _append("list_eval_partition.txt", "000001.jpg 0"), "val", "names 1 photos twice", True),
    (celeba, _add("img_align_celeba/000099.jpg"), "val", "1 photos are not in list_eval_partition.txt", False),
    (celeba_hq, _remove("CelebA-HQ-to-CelebA-mapping.txt"), "val", "mapping.txt is missing", True),
    (celeba_hq, _remove("CelebA-HQ-img/1.jpg"), "val", "names are absent, first CelebA-HQ-img/1.jpg", True),
    (
        cityscapes,
        _remove("leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png"),
        "val",
        "a complete copy",
        False,
    ),
    (cityscapes, _add("leftImg8bit/val/lindau/holiday.png"), "val", "are not named CITY", False),
    (cityscapes, _remove("gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png"), "val", "have no label", False),
    (cityscapes, _add("gtFine/val/lindau/lindau_000009_000019_gtFine_labelIds.png"), "val", "have no photo", False),
    (outdoor, _remove("OutdoorSeg/annotations/p1.png"), "train", "1 photos have no label", False),
    (outdoor, _remove("OutdoorSceneTest300/OST_001.png"), "test", "1 labels have no photo", False),
    (nvidia, _remove("mask/testing_mask_dataset/00003.png"), "0-20", "00003.png", True),
    (nvidia, _add("mask/testing_mask_dataset/extra.png"), "0-20", "none of the 24 numbered masks", True),
    (bands, _add("more/x.png"), "0-20", "1 folders or files are none of", True),
    (bands, _remove("40-50/d.png"), "40-60", "there are no masks", True),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("make", "damage", "split", "words", "refused"), DAMAGE)
def test_a_damaged_copy_is_named(
    make: Maker, damage: Callable[[Path], None], split: str, words: str, refused: bool, tmp_path: Path
) -> None:
    layout, _ = make(tmp_path)
    damage(tmp_path)
    report = check(layout, tmp_path, [split], depth="names")
    assert not report.complete
    assert words in told(report)
    assert all(problem.do.endswith(".") for problem in report.problems)
    if refused:
        with pytest.raises(InputError, match=layout.name):
            find(layout, tmp_path, split)
    else:
        assert find(layout, tmp_path, split).photos


def test_an_empty_folder_is_told_what_to_bring(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    for make in (places, celeba, celeba_hq, cityscapes, outdoor, nvidia, bands):
        layout, _ = make(tmp_path / make.__name__)
        report = check(layout, tmp_path / "here")
        assert not report.complete, make
        assert all(split.found == 0 for split in report.splits), make
        assert "is missing" in told(report) or "are absent" in told(report), make


def test_a_copy_of_another_number_is_told_where_it_is_used(tmp_path: Path) -> None:
    layout, splits = cityscapes(tmp_path)
    with pytest.warns(UserWarning, match=r"train: 4 photos, a complete copy has 5"):
        assert find(replace(layout, counts={**layout.counts, "train": 5}), tmp_path, "train").photos == splits["train"]


def test_a_list_that_is_not_there_is_a_note_where_the_folder_tells_the_split(tmp_path: Path) -> None:
    layout, splits = places(tmp_path)
    (tmp_path / "places365_val.txt").unlink()
    report = check(layout, tmp_path, ["val"])
    assert report.complete
    assert any("places365_val.txt is not here" in note for note in report.notes)
    assert find(layout, tmp_path, "val").photos == splits["val"]


def test_the_other_size_of_places_is_pointed_out(tmp_path: Path) -> None:
    large, _ = places(tmp_path, "data_large_standard")
    assert "use the layout places2-large" in told(check(LAYOUTS["places2"], tmp_path, ["train"], depth="names"))
    places(tmp_path / "small")
    assert "use the layout places2." in told(check(large, tmp_path / "small", ["val"], depth="names"))


# Files that can't be read ---------------------------------------------------------------------------------------------


def test_reading_names_every_broken_picture_with_its_reason(tmp_path: Path) -> None:
    layout, splits = places(tmp_path)
    _cut(splits["test"][1])(tmp_path)
    (tmp_path / splits["test"][2]).write_bytes(b"no picture")
    assert check(layout, tmp_path, ["test"], depth="names").complete, "no file is opened"
    (problem,) = check(layout, tmp_path, ["test"], depth="read").problems
    assert problem.count == 2
    assert [path.split(" (")[0] for path in problem.paths] == splits["test"][1:3]
    assert all("(" in path and str(tmp_path) not in path for path in problem.paths)
    assert "can't be read" in told(check(layout, tmp_path, ["test"])), "one has no header"


def test_a_broken_label_is_named_too(tmp_path: Path) -> None:
    layout, _ = cityscapes(tmp_path)
    label = "gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png"
    (tmp_path / label).write_bytes(b"no picture")
    assert label in told(check(layout, tmp_path, ["val"], depth="read"))
    assert label in told(check(layout, tmp_path, ["val"]))


def test_empty_files_and_other_sizes_are_named(tmp_path: Path) -> None:
    layout, splits = celeba(tmp_path)
    (tmp_path / splits["train"][1]).write_bytes(b"")
    put(tmp_path, splits["train"][2], size=(12, 11))
    report = told(check(layout, tmp_path, ["train"]))
    assert "1 files are empty" in report
    assert "1 of 3 photos are not 10x12 (width x height)" in report
    assert f"{splits['train'][2]} (11x12)" in report


def test_labels_of_another_size_than_their_photo(tmp_path: Path) -> None:
    layout, _ = outdoor(tmp_path)
    put(tmp_path, "OutdoorSeg/annotations/p2.png", size=(5, 5))
    for depth in ("sample", "read"):
        assert "1 labels can't be read or are not of their photo's size" in told(
            check(layout, tmp_path, ["train"], depth=depth)
        )


def test_a_problem_names_so_many_files_and_counts_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_module, "MOST_NAMED", 2)
    layout, _ = celeba(tmp_path)
    for number in range(1, 5):
        (tmp_path / f"img_align_celeba/{number:06}.jpg").unlink()
    absent = next(p for p in check(layout, tmp_path, ["train"]).problems if "absent" in p.what)
    assert (absent.count, len(absent.paths)) == (4, 2)


# Hostile --------------------------------------------------------------------------------------------------------------


def test_links_that_lead_out_are_named_and_not_followed(tmp_path: Path) -> None:
    layout, splits = celeba(tmp_path / "root")
    (secret,) = put(tmp_path, "outside/secret.jpg")
    target = tmp_path / "root" / splits["train"][0]
    target.unlink()
    target.symlink_to(tmp_path / secret)
    report = check(layout, tmp_path / "root", ["train"], depth="read")
    assert "1 paths are left out: it is a link out of the folder" in told(report)
    assert report.splits[0].found == 3
    with pytest.raises(InputError, match="link out of the folder"):
        find(layout, tmp_path / "root", "train")


def test_folders_and_lists_that_are_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    layout, _ = celeba(tmp_path / "real")
    root.mkdir()
    (root / "img_align_celeba").symlink_to(tmp_path / "real" / "img_align_celeba")
    (root / "list_eval_partition.txt").symlink_to(tmp_path / "real" / "list_eval_partition.txt")
    report = told(check(layout, root))
    assert "a folder is a link out of the data set" in report
    assert "a list is a link out of the folder" in report


def test_a_list_that_is_no_list(tmp_path: Path) -> None:
    for content in (b"\xff\xfe\x00bin", b"a" * 10_000):
        layout, _ = celeba(tmp_path)
        (tmp_path / "list_eval_partition.txt").write_bytes(content)
        report = check(layout, tmp_path, ["train"])
        assert not report.complete, content
        assert "a list can't be read" in told(report) or "has no end" in told(report), content


def test_names_with_control_characters_are_escaped_in_sentences(tmp_path: Path) -> None:
    layout, _ = celeba(tmp_path)
    put(tmp_path, "img_align_celeba/x\x1b[2Jy.jpg")
    (problem,) = check(layout, tmp_path, ["train"]).problems
    assert "\x1b" not in str(problem)


def test_what_the_caller_got_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'celeba'"):
        layout_named("celebaa")
    with pytest.raises(InputError, match=r"nvidia-masks is a layout of masks; known are places2"):
        layout_named("nvidia-masks", "photos")
    with pytest.raises(InputError, match=r"the splits of celeba are train, val, test; got 'tets'"):
        check(LAYOUTS["celeba"], tmp_path, ["tets"])
    with pytest.raises(InputError, match="does not exist"):
        photos_of(tmp_path / "none", "celeba", "train")
    put(tmp_path, "a.png")
    with pytest.raises(InputError, match="is a file"):
        Tree(tmp_path / "a.png")


# Masks ----------------------------------------------------------------------------------------------------------------


def test_the_colour_of_holes_is_measured(tmp_path: Path) -> None:
    for white in (True, False):
        layout, splits = nvidia(tmp_path, white)
        colour = "white" if white else "black"
        for masks in splits.values():
            assert measured_polarity(layout, tmp_path, masks, samples=2)[0] == colour, white
        notes = check(layout, tmp_path).notes
        assert len(notes) == 3, white
        assert all(note.split(": ")[1].startswith(f"{colour} means missing") for note in notes), white


@pytest.mark.parametrize("white", [True, False])
def test_folders_of_bands_tell_the_colour_too(white: bool, tmp_path: Path) -> None:
    for band, share in {"0-20": 0.1, "20-40": 0.3, "40-60": 0.5}.items():
        mask(tmp_path / band / "a.png", share, white)
    assert inverted(tmp_path) is not white


def test_a_band_that_is_its_own_mirror_tells_no_colour(tmp_path: Path) -> None:
    mask(tmp_path / "40-60" / "a.png", 0.45)
    with pytest.raises(InputError, match="can't be told"):
        inverted(tmp_path)
    mask(tmp_path / "loose" / "b.png", 0.1)
    with pytest.raises(InputError, match="can't be measured"):
        inverted(tmp_path / "loose")


def test_masks_that_fit_no_colour_and_masks_that_lie_in_another_bin(tmp_path: Path) -> None:
    layout, splits = nvidia(tmp_path)
    moved = splits["0-20"][1]
    mask(tmp_path / moved, 0.33)
    assert f"{moved} (33.0%)" in told(check(layout, tmp_path, ["0-20"], depth="read"))
    for name in splits["0-20"]:
        mask(tmp_path / name, 0.5)
    assert "0 of 8 masks that were opened have the share" in told(check(layout, tmp_path, ["0-20"]))


def test_a_colour_that_changes_between_bands(tmp_path: Path) -> None:
    layout, splits = nvidia(tmp_path)
    for number, name in enumerate(splits["0-20"]):
        mask(tmp_path / name, (number // 4 + 0.5) / 10, white=False)
    assert "the colour that means missing changes: black in 0-20, white in 20-40" in told(check(layout, tmp_path))


@pytest.mark.shared
def test_the_real_masks_keep_to_their_numbers(shared: Path) -> None:
    """A part of the published masks, reduced to 256: bins by number, and a free border in each bin's first half."""
    layout = LAYOUTS["nvidia-masks"]
    paths = sorted((shared / "data" / "masks").rglob("*.png"))[::20]
    assert len(paths) == 150
    polarity, right, opened = measured_polarity(
        layout, shared, [path.relative_to(shared).as_posix() for path in paths], samples=25
    )
    assert polarity == "white"
    assert right == opened >= 140
    free = {path: not _touches_the_border(path) for path in paths}
    assert all(free[path] for path in paths if int(path.stem) % 2000 < 1000)
    assert sum(free[path] for path in paths if int(path.stem) % 2000 >= 1000) < 5


def _touches_the_border(path: Path) -> bool:
    hole = np.asarray(Image.open(path).convert("L")) >= 128
    return bool(hole[[0, -1]].any() or hole[:, [0, -1]].any())
