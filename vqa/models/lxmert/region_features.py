"""Regions of a photo that a detector found beforehand, for models whose only input they are.

They lie beside the photo, in a file named like it: of ``dog.jpg`` in ``dog.jpg.regions.npz``, an
archive as ``numpy.savez`` writes it, with

* ``features``, (R, K) numbers: of each of R regions, as the model was trained with (LXMERT: 36
  regions, 2048 features each, of Faster R-CNN trained on Visual Genome);
* ``boxes``, (R, 4): x1, y1, x2, y2 of each in pixels of the photo as it is seen (upright), the
  top left corner being (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vlcam.formats.arrays import read_arrays
from vlcam.utils.messages.errors import one_line

SUFFIX = ".regions.npz"
_LONGEST = 300  # characters of what is wrong with a file


@dataclass(frozen=True)
class Regions:
    """R regions of a photo.

    Attributes:
        features: (R, K) float32.
        boxes: (R, 4) float32, x1, y1, x2, y2 in photo pixels.

    Raises:
        ValueError: shapes that are not these, numbers that are not finite, a box without a size;
            or none at all.
    """

    features: Tensor
    boxes: Tensor

    def __post_init__(self) -> None:
        features, boxes = self.features, self.boxes
        if features.ndim != 2 or boxes.shape != (len(features), 4) or not features.numel():
            raise ValueError(
                f"features {tuple(features.shape)} and boxes {tuple(boxes.shape)}; expected (R, K)"
                " and (R, 4) of at least one region"
            )
        if not (features.isfinite().all() and boxes.isfinite().all()):
            raise ValueError("numbers that are not finite")
        empty = (boxes[:, 2:] <= boxes[:, :2]).any(1).nonzero().flatten()
        if len(empty):
            which = int(empty[0])
            raise ValueError(f"box {which} has no size: x1, y1, x2, y2 = {boxes[which].tolist()}")

    def check_inside(self, size: tuple[int, int]) -> None:
        """Raises ValueError where a box lies outside a photo of (height, width) pixels."""
        height, width = size
        x1, y1, x2, y2 = self.boxes.unbind(1)
        # Detectors round as they like: by a pixel.
        outside = (x1 < -1) | (y1 < -1) | (x2 > width + 1) | (y2 > height + 1)
        if outside.any():
            which = int(outside.nonzero()[0])
            raise ValueError(
                f"box {which}, {self.boxes[which].tolist()}, does not lie in a photo of"
                f" {width} x {height} pixels"
            )


def beside(photo: str) -> Path:
    """The file in which the regions of a photo are expected."""
    return Path(f"{photo}{SUFFIX}")


def read(photo: str, size: tuple[int, int]) -> Regions:
    """The regions that lie beside a photo of (height, width) pixels. No pickle is ever read.

    Raises:
        ValueError: the file is missing, damaged, or not of that form; it is named.
    """
    path = beside(photo)
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; the model looks at regions found beforehand, expected here as"
            " features (R, K) and boxes (R, 4) in photo pixels"
        )
    try:
        regions = Regions(*_arrays(path))
        regions.check_inside(size)
    except Exception as error:  # whatever zipfile, zlib and numpy raise at damage
        reason = one_line(error)[:_LONGEST]
        raise ValueError(f"{path}: not the regions of this photo ({reason})") from error
    return regions


def _arrays(path: Path) -> tuple[Tensor, Tensor]:
    arrays = read_arrays(path, ("features", "boxes"))
    missing = [name for name in ("features", "boxes") if name not in arrays]
    if missing:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    features, boxes = arrays["features"], arrays["boxes"]
    for name, array in (("features", features), ("boxes", boxes)):
        if array.dtype.kind not in "fiu":
            raise ValueError(f"{name} holds {array.dtype}, not numbers")
    return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(boxes.astype(np.float32))
