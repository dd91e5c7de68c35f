"""Where a category is in an image, from COCO's instance segmentations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from word_maps.words import categories

if TYPE_CHECKING:
    from pycocotools.coco import COCO


def word_map(coco: COCO, image_id: int, category: str, *, crowds: bool = True) -> np.ndarray:
    """The union of all of a category's segmentations in an image.

    A word in the singular names all of them too: which one is meant ("a dog" of three) no caption
    says, and pointing at any is right.

    Args:
        coco: an ``instances`` file.
        image_id: one of its images.
        category: its name in that file (of :func:`categories`, for COCO's own).
        crowds: whether regions that hold many of them ("iscrowd") count.

    Returns:
        bool (H, W) of the image's size; all False where the category is not annotated.

    Raises:
        ValueError: the file has no such image or category.
    """
    if image_id not in coco.imgs:
        raise ValueError(f"image {image_id} is not in the instances file")
    ids = [number for number, entry in coco.cats.items() if entry["name"] == category]
    if not ids:
        hint = "" if category in categories() else ", nor is it one of COCO's"
        raise ValueError(f"category {category!r} is not in the instances file{hint}")
    image = coco.imgs[image_id]
    runs = [
        coco.annToRLE(annotation)
        for annotation in coco.imgToAnns[image_id]
        if annotation["category_id"] in ids and (crowds or not annotation.get("iscrowd"))
    ]
    return _union(runs) if runs else np.zeros((image["height"], image["width"]), bool)


def _union(runs: list[dict[str, Any]]) -> np.ndarray:
    """The pixels of at least one of some run-length encodings of one size."""
    from pycocotools import mask

    return np.ascontiguousarray(mask.decode(mask.merge(runs))).view(bool)


def present(coco: COCO, image_id: int) -> set[str]:
    """Names of the categories annotated in an image."""
    return {coco.cats[entry["category_id"]]["name"] for entry in coco.imgToAnns[image_id]}
