"""CelebA, aligned and cropped, with its official partition; CelebA-HQ, whose photos inherit the partition."""

from __future__ import annotations

from cicm.datasets.tree import Layout, SplitFiles, Tree

PARTS = {"0": "train", "1": "val", "2": "test"}
LAST_OF_TRAIN, LAST_OF_VAL = 162_770, 182_637
"""Numbers of CelebA's last training and last validation photo: its partition runs in order."""

_PARTITION = tuple(
    f"{folder}list_eval_partition{ending}" for folder in ("", "Eval/", "Partition/") for ending in (".txt", ".csv")
)


def _find_celeba(layout: Layout, tree: Tree, split: str) -> SplitFiles:
    folder = tree.first_folder(
        "img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba", "celeba/img_align_celeba"
    )
    partition = tree.first_file(*_PARTITION, "celeba/list_eval_partition.txt")
    if folder is None:
        tree.missing("the folder img_align_celeba", f"Unpack img_align_celeba.zip here: {layout.get}.")
    if partition is None:
        tree.missing(
            "list_eval_partition.txt",
            f"It says which photo is of which split; it stands beside the photos (folder Eval): {layout.get}.",
        )
    if folder is None or partition is None:
        return SplitFiles()
    parts = _partition(tree, partition)
    there = tree.images(folder)
    tree.surplus(there, [f"{folder}/{name}" for name in parts], partition)
    return SplitFiles(
        tree.present([f"{folder}/{n}" for n, part in parts.items() if part == split], there, split, partition)
    )


def _partition(tree: Tree, name: str) -> dict[str, str]:
    """Name of a photo -> its split, in the order of the list."""
    parts: dict[str, str] = {}
    doubled = []

    def read(row: list[str]) -> bool:
        if row[1] not in PARTS:
            return False
        if row[0] in parts:
            doubled.append(row[0])
        parts[row[0]] = PARTS[row[1]]
        return True

    tree.rows(name, 2, read=read, heads=1 if name.endswith(".csv") else 0)
    if doubled:
        tree.report(f"{name} names {len(doubled):,} photos twice", "Download the list again.", doubled)
    return parts


def _find_celeba_hq(layout: Layout, tree: Tree, split: str) -> SplitFiles:
    folder = tree.first_folder("CelebA-HQ-img", "CelebAMask-HQ/CelebA-HQ-img")
    if folder is None:
        tree.missing("the folder CelebA-HQ-img", f"Unpack CelebAMask-HQ.zip here: {layout.get}.")
        return SplitFiles()
    there = tree.images(folder)
    if split == "all":
        return SplitFiles(sorted(there, key=lambda path: (len(path), path)))
    name = "CelebA-HQ-to-CelebA-mapping.txt"
    mapping = tree.first_file(name, f"CelebAMask-HQ/{name}")
    if mapping is None:
        tree.missing(name, "It says which photo of CelebA each one is, and so its split; the archive holds it.")
        return SplitFiles()
    partition = tree.first_file(*_PARTITION)
    parts = _partition(tree, partition) if partition else {}
    endings = {path.rsplit("/", 1)[-1].rpartition(".")[0]: path for path in there}
    listed: list[str] = []
    chosen: list[str] = []

    def read(row: list[str]) -> bool:
        number = row[2].partition(".")[0]
        if not (row[0].isdecimal() and number.isdecimal()) or (parts and row[2] not in parts):
            return False
        listed.append(endings.get(row[0], f"{folder}/{row[0]}.jpg"))
        if (parts[row[2]] if parts else _part_of(int(number))) == split:
            chosen.append(listed[-1])
        return True

    tree.rows(mapping, 3, read=read, heads=1)
    tree.surplus(there, listed, name)
    found = SplitFiles(tree.present(chosen, there, split, name))
    if not partition:
        found.notes.append("split by CelebA's official numbers; list_eval_partition.txt is not here")
    return found


def _part_of(number: int) -> str:
    """Split of a photo of CelebA by its number.

    Example:
        >>> [_part_of(number) for number in (1, 162_770, 162_771, 182_637, 182_638)]
        ['train', 'train', 'val', 'val', 'test']
    """
    return "train" if number <= LAST_OF_TRAIN else "val" if number <= LAST_OF_VAL else "test"


CELEBA = Layout(
    "celeba",
    "CelebA, aligned and cropped",
    {"train": 162_770, "val": 19_867, "test": 19_962},
    (
        "img_align_celeba/000001.jpg to 202599.jpg, 178x218 (width x height)",
        "list_eval_partition.txt (also in Eval/, or as .csv): photo and 0 train, 1 val, 2 test",
    ),
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    "known: non-commercial research only, no redistribution; the photos' owners keep their rights",
    '"about 163K and 20K images" for training and testing: the official train and test',
    _find_celeba,
    (218, 178),
)

CELEBA_HQ = Layout(
    "celeba-hq",
    "CelebA-HQ, as CelebAMask-HQ packs it",
    {"train": 24_183, "val": 2_993, "test": 2_824, "all": 30_000},
    (
        "CelebA-HQ-img/0.jpg to 29999.jpg, 1024x1024",
        "CelebA-HQ-to-CelebA-mapping.txt; a photo is of the split that it has in CelebA",
    ),
    "https://github.com/switchablenorms/CelebAMask-HQ",
    "read in its README: non-commercial research and education",
    "not used; other papers report on it",
    _find_celeba_hq,
)
