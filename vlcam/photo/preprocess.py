"""From a photo to the pixels a CNN is fed, remembering where the photo went.

Sizes are (height, width), positions (y, x), in pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlcam.geometry.grid import Placement
from vlcam.photo.torch7_scale import scale

Resize = Literal["stretch", "crop", "letterbox", "torchvision"]
Interpolation = Literal[
    "bilinear", "bicubic", "lanczos", "box", "torch7", "torch7-bytes", "tensorflow1"
]

_WHOLE = 2**24  # pixels up to which a resized photo is made whole before it is cropped

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """How a photo becomes input pixels: resize, then ``(rgb / levels - mean) / std``.

    Attributes:
        size: (height, width) of the input.
        resize: ``stretch``: the whole photo is resized to ``resize_to``, whatever its shape (and
            its centre cropped where that is larger than ``size``); ``crop``: the photo's shorter
            side becomes ``resize_to``'s, then the centre is cropped; ``torchvision``: the same with
            the rounding of its ``Resize`` and ``CenterCrop``, to the last bit; ``letterbox``: the
            whole photo fits in, the rest is filled with the mean colour.
        resize_to: (height, width) before the centre is cropped; ``size`` where it is None.
        mean, std: of the training pixels in 0..255 / ``levels``, in RGB order.
        interpolation: of the resize (antialiased, as in PIL); ``torch7``: as in ``image.scale`` of
            Lua Torch7, exact averages where it shrinks, corners on corners where it enlarges;
            ``torch7-bytes``: the same for pictures of bytes, whose numbers it rounds;
            ``tensorflow1``: bilinear as in TensorFlow 1, between the four pixels around row and
            column k * old / new, without antialiasing.
        corner: (y, x), the first pixel that a crop of a stretched photo keeps; None: of the centre.
        levels: how many of a photo's 255 levels count as 1.

    Raises:
        ValueError: one of them is unknown or out of range.
    """

    size: tuple[int, int] = (224, 224)
    resize: Resize = "stretch"
    resize_to: tuple[int, int] | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Interpolation = "bilinear"
    corner: tuple[int, int] | None = None
    levels: float = 255.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("resize", self.resize, get_args(Resize)),
            ("interpolation", self.interpolation, get_args(Interpolation)),
        ):
            if value not in known:
                raise ValueError(f"preprocess: {name} {value!r} is not one of {', '.join(known)}")
        for name, size in (("size", self.size), ("resize_to", self.resize_to or self.size)):
            if len(size) != 2 or not all(isinstance(n, int) and n >= 1 for n in size):
                raise ValueError(
                    f"preprocess: {name} {size} must be two whole numbers, at least 1 x 1 pixels"
                )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                f"preprocess: mean {self.mean} and std {self.std} must be three numbers each, those"
                " of std above 0"
            )
        if self.corner is not None:
            rooms = [a - b for a, b in zip(self.resize_to or self.size, self.size, strict=True)]
            inside = len(self.corner) == 2 and all(
                isinstance(n, int) and 0 <= n <= room
                for n, room in zip(self.corner, rooms, strict=True)
            )
            if not inside or self.resize != "stretch":
                raise ValueError(
                    f"preprocess: corner {self.corner}: no {self.size} lie there in a photo"
                    f" stretched to {self.resize_to or self.size}"
                )
        if isinstance(self.levels, bool) or not self.levels > 0:
            raise ValueError(f"preprocess: levels {self.levels} must be a number above 0")

    def __call__(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        """Input pixels (3, H, W) float32 of an RGB photo, and where the photo lies in them."""
        pixels, placement = self.channels_last(photo)
        return pixels.contiguous(), placement

    def channels_last(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        """The same (3, H, W), a pixel's three values side by side in memory."""
        resized, placement = self.geometry((photo.height, photo.width))
        corner = self._corner(resized)
        top, left = max(corner[0], 0), max(corner[1], 0)
        bottom = min(corner[0] + self.size[0], resized[0])
        right = min(corner[1] + self.size[1], resized[1])
        picture = self._cropped(photo, resized, rows=(top, bottom), columns=(left, right))
        pixels = torch.zeros(*self.size, 3)  # the mean colour, where there is no photo
        rows = slice(top - corner[0], bottom - corner[0])
        columns = slice(left - corner[1], right - corner[1])
        # On whole rows: operations on three numbers at a time take several times as long.
        part = pixels[rows, columns].view(bottom - top, -1)
        part.copy_(torch.from_numpy(np.ascontiguousarray(picture)).view_as(part)).div_(self.levels)
        mean, std = (torch.tensor(each).repeat(right - left) for each in (self.mean, self.std))
        part.sub_(mean).div_(std)
        return pixels.permute(2, 0, 1), placement

    def _cropped(
        self,
        photo: Image.Image,
        resized: tuple[int, int],
        *,
        rows: tuple[int, int],
        columns: tuple[int, int],
    ) -> np.ndarray:
        """Rows and columns (first, last + 1) of the resized photo, (h, w, 3) in 0..255.

        Only what is kept is computed: the whole of a very wide photo might not fit in memory.
        """
        (top, bottom), (left, right) = rows, columns
        if self.interpolation == "torch7":
            # On numbers in 0..1, as Torch7 reads photos, for the same roundings.
            shares = np.asarray(photo, np.float32) / np.float32(255)
            scaled = scale(shares, resized, rounded=False)[top:bottom, left:right]
            return scaled * np.float32(255)
        if self.interpolation == "torch7-bytes":
            return scale(np.asarray(photo), resized, rounded=True)[top:bottom, left:right]
        if self.interpolation == "tensorflow1":
            y = _steps(photo.height, resized[0])[top:bottom]
            x = _steps(photo.width, resized[1])[left:right]
            return _tensorflow1(np.asarray(photo), y, x)
        filter_ = Image.Resampling[self.interpolation.upper()]
        if self.resize == "torchvision" and resized[0] * resized[1] <= _WHOLE:
            # PIL takes a box in single precision, so a crop by it differs by a level at times.
            whole = photo.resize(resized[::-1], filter_)
            return np.array(whole.crop((left, top, right, bottom)))
        box = (
            left * photo.width / resized[1],
            top * photo.height / resized[0],
            right * photo.width / resized[1],
            bottom * photo.height / resized[0],
        )
        return np.array(photo.resize((right - left, bottom - top), filter_, box))

    def geometry(self, photo_size: tuple[int, int]) -> tuple[tuple[int, int], Placement]:
        """The size (height, width) a photo is resized to, and its placement in the input."""
        target = self.resize_to or self.size
        if self.resize == "stretch":
            resized = target
        elif self.resize == "torchvision":
            rows, columns = photo_size
            if target[0] * columns >= target[1] * rows:
                resized = target[0], max(target[1], int(target[0] * columns / rows))
            else:
                resized = max(target[0], int(target[1] * rows / columns)), target[1]
        else:
            ratios = (target[0] / photo_size[0], target[1] / photo_size[1])
            ratio = max(ratios) if self.resize == "crop" else min(ratios)
            resized = (
                max(1, round(photo_size[0] * ratio)),
                max(1, round(photo_size[1] * ratio)),
            )
        corner = self._corner(resized)
        fixed = 0.0 if self.interpolation == "tensorflow1" else -0.5
        placement = Placement.resized(photo_size, resized, self.size, corner=corner, fixed=fixed)
        if self.interpolation.startswith("torch7"):
            placement = _corners_on_corners(placement, resized, corner)
        return resized, placement

    def _corner(self, resized: tuple[int, int]) -> tuple[int, int]:
        """The first pixel (y, x) kept of the resized photo; negative where it must be padded."""
        if self.corner is not None:
            return self.corner
        rest = (resized[0] - self.size[0], resized[1] - self.size[1])
        if self.resize == "torchvision":
            return round(rest[0] / 2), round(rest[1] / 2)  # halves to the even number
        return rest[0] // 2, rest[1] // 2

    def to_json(self) -> dict[str, Any]:
        """As plain data, by the names of the attributes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Preprocess:
        """Inverse of :meth:`to_json`; ValueError for keys or values it does not know."""
        try:
            values: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
            }
            return cls(**values)
        except (TypeError, AttributeError) as error:
            known = ", ".join(cls.__dataclass_fields__)
            raise ValueError(f"preprocess: {error}; known keys: {known}") from error


def _corners_on_corners(
    placement: Placement, resized: tuple[int, int], corner: tuple[int, int]
) -> Placement:
    """A placement in which the first and last pixels of the axes that grow stay the first and last:
    the corners of the photo lie on those of the resized one."""
    scales, shifts = list(placement.scale), list(placement.shift)
    for axis, (old, new) in enumerate(zip(placement.photo_size, resized, strict=True)):
        if new > old > 1:
            scales[axis], shifts[axis] = (new - 1) / (old - 1), -corner[axis]
    return replace(placement, scale=(scales[0], scales[1]), shift=(shifts[0], shifts[1]))


def _steps(old: int, new: int) -> np.ndarray:
    """Where along an axis of ``old`` pixels each of ``new`` ones is sampled, float32 (new,)."""
    return np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))


def _tensorflow1(picture: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A picture uint8 (H, W, 3) interpolated at rows ``y`` (h,) and columns ``x`` (w,): float32
    (h, w, 3).

    Sums are taken in TensorFlow's own order and precision.
    """
    top, left = y.astype(np.intp), x.astype(np.intp)
    last_row, last_column = picture.shape[0] - 1, picture.shape[1] - 1
    bottom, right = np.minimum(top + 1, last_row), np.minimum(left + 1, last_column)
    down, across = (y - top.astype(np.float32))[:, None, None], x - left.astype(np.float32)

    def between(line: np.ndarray) -> np.ndarray:
        first, second = (picture[np.ix_(line, at)].astype(np.float32) for at in (left, right))
        return first + (second - first) * across[:, None]

    upper, lower = between(top), between(bottom)
    blended: np.ndarray = upper + (lower - upper) * down
    return blended
