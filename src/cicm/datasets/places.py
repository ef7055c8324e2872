"""Places2: Standard and Challenge, at 256x256 and at their original sizes.

Three ways in which copies lie on disks: as the archives unpack (`data_256`, `val_256`, with the file lists of the
development kit), as torchvision renames them (`data_256_standard`), and the easy directory (`train/CLASS/*.jpg`).
"""

from __future__ import annotations

from cicm.datasets.tree import Layout, SplitFiles, Tree

GET = "http://places2.csail.mit.edu/download.html; the file lists too (filelist_places365-standard.tar, -challenge.tar)"
TERMS = "known: non-commercial research and education; the photos' own rights stay with their owners"


def _layout(word: str, train: int, size: str) -> Layout:
    small = size == "256"
    name = "places2" + ("" if word == "standard" else f"-{word}") + ("" if small else "-large")
    easy = (f"or train/CLASS/*.jpg and val/CLASS/*.jpg, also in places365_{word}/",) if small else ()
    return Layout(
        name,
        f"Places2 (Places365-{word.capitalize()}), {'256x256' if small else 'original sizes'}",
        {"train": train, "val": 36_500, "test": 328_500},
        (
            f"data_{size}_{word}/ or data_{size}/ by letter and class, with places365_train_{word}.txt",
            f"val_{size}/Places365_val_*.jpg, with places365_val.txt",
            f"test_{size}/Places365_test_*.jpg, with places365_test.txt",
            *easy,
        ),
        GET,
        TERMS,
        'trained on "over 8M images", the Challenge\'s number, and tested on "30K images", which is no official split '
        "(val has 36,500, test 328,500)",
        _find,
        (256, 256) if small else None,
    )


def _find(layout: Layout, tree: Tree, split: str) -> SplitFiles:
    word = "challenge" if "challenge" in layout.name else "standard"
    size, other = ("large", "256") if layout.name.endswith("-large") else ("256", "large")
    stems = [f"data_{{}}_{word}", "data_{}"] if split == "train" else [split + "_{}"]
    list_name = f"places365_train_{word}.txt" if split == "train" else f"places365_{split}.txt"
    found = SplitFiles()

    folder = tree.first_folder(*(stem.format(size) for stem in stems))
    easy = None
    if folder is None and size == "256":
        folder = easy = tree.first_folder(split, f"places365_{word}/{split}")
    if folder is None:
        do = f"Unpack it here: {layout.get.split(';')[0]}."
        if tree.first_folder(*(stem.format(other) for stem in stems)) is not None:
            swapped = layout.name.removesuffix("-large") + ("-large" if other == "large" else "")
            do = f"The one here is of the other size: use the layout {swapped}."
        tree.missing(f"the folder {stems[0].format(size)}", do, split)
        return found

    there = tree.images(folder)
    lists = tree.first_file(list_name, f"filelist_places365-{word}/{list_name}", f"{folder}/../{list_name}")
    if lists is None:
        found.photos = there
        found.notes.append(f"{split}: {list_name} is not here, so photos were counted and not compared by name")
    elif easy and split == "train":
        found.photos = there
        found.notes.append(f"{split}: classes are named otherwise than in {list_name}; photos were counted alone")
    else:
        places = {path.rsplit("/", 1)[-1]: path for path in there} if easy else {}
        listed: list[str] = []

        def read(row: list[str]) -> bool:
            name = row[0].lstrip("/")
            listed.append(places.get(name, f"{folder}/{name}"))
            return len(row) == 1 or row[1].isdecimal()

        columns = 1 if split == "test" else 2
        tree.rows(lists, columns, read=read)
        found.photos = tree.present(listed, there, split, list_name)
        tree.surplus(there, listed, list_name, split)
    return found


STANDARD, STANDARD_LARGE = _layout("standard", 1_803_460, "256"), _layout("standard", 1_803_460, "large")
CHALLENGE, CHALLENGE_LARGE = _layout("challenge", 8_026_628, "256"), _layout("challenge", 8_026_628, "large")
