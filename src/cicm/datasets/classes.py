"""The classes of the data sets that come with label maps, by the layout's name.

Cityscapes: the 19 training classes in their published order, from the files' labelIds; everything else, the licence
plate (255) included, is void. Outdoor Scenes: 8 classes from 0 to 7; 8, 255 and white are void. CamVid: 11 classes, in
SegNet's order; 11 (unlabelled) is void.
"""

from __future__ import annotations

from cicm.conventions import InputError
from cicm.photos.labels import VOID, Classes

_STREET = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
_OUTDOOR = {
    "background": (153, 153, 153), "sky": (0, 255, 255), "water": (109, 158, 235), "grass": (183, 225, 205),
    "mountain": (153, 0, 255), "building": (17, 85, 204), "plant": (106, 168, 79), "animal": (224, 102, 102),
}  # fmt: skip
_CAMVID = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
)  # fmt: skip

CLASSES: dict[str, Classes] = {
    "cityscapes": Classes(
        tuple(_STREET),
        dict.fromkeys((*range(34), 255), VOID) | {value: place for place, value in enumerate(_STREET.values())},
    ),
    "outdoor-scenes": Classes(
        tuple(_OUTDOOR),
        {place: place for place in range(8)} | {8: VOID, 255: VOID},
        {colour: place for place, colour in enumerate(_OUTDOOR.values())} | {(255, 255, 255): VOID},
    ),
    "camvid": Classes(_CAMVID, {place: place for place in range(11)} | {11: VOID, 255: VOID}),
}
"""Name of a layout -> its classes."""


def classes_of(layout: str) -> Classes:
    """The classes of a layout.

    Raises:
        InputError: a layout without label maps.

    Example:
        >>> len(classes_of("cityscapes")), classes_of("camvid").names[3]
        (19, 'Road')
    """
    if layout not in CLASSES:
        raise InputError(f"label maps come with the data sets {', '.join(CLASSES)}; got {layout or 'none'!r}.")
    return CLASSES[layout]
