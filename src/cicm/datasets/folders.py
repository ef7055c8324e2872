"""Any folder of photos, with a folder per split or without."""

from __future__ import annotations

from cicm.datasets.tree import Layout, SplitFiles, Tree


def _find(layout: Layout, tree: Tree, split: str) -> SplitFiles:
    if split != "all" and tree.first_folder(split) is None:
        tree.missing(f"the folder {split}", "Make it, or choose the split `all`, which takes the whole folder.", split)
        return SplitFiles()
    return SplitFiles(tree.images("" if split == "all" else split))


FOLDER = Layout(
    "folder",
    "any folder of photos",
    {"train": 0, "val": 0, "test": 0, "all": 0},
    ("train/, val/, test/ with photos at any depth", "or photos alone: the split `all` takes whatever is below"),
    "your own",
    "yours",
    "not used",
    _find,
)
