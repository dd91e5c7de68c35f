"""From a photo to the pixels a CNN is fed, remembering where the photo went."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlcam.geometry import Placement

Resize = Literal["stretch", "crop", "letterbox"]
Interpolation = Literal["bilinear", "bicubic", "lanczos", "box", "torch7"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """How a photo becomes input pixels: resize, then ``(rgb / 255 - mean) / std``.

    Attributes:
        size: (height, width) of the input.
        resize: ``stretch`` the whole photo to ``resize_to`` whatever its shape (and take its centre
            where that is larger than ``size``); ``crop``: the photo's shorter side becomes
            ``resize_to``'s, then the centre is cut out; ``letterbox``: the whole photo fits in, the
            rest is filled with the mean colour.
        resize_to: (height, width) before the centre is cut out; ``size`` where it is None.
        mean, std: of the training pixels in 0..1, in RGB order.
        interpolation: of the resize (antialiased, as PIL does it); ``torch7``: as ``image.scale``
            of Lua Torch7 does it, exact averages where it shrinks, corners on corners where it
            enlarges.
    """

    size: tuple[int, int] = (224, 224)
    resize: Resize = "stretch"
    resize_to: tuple[int, int] | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Interpolation = "bilinear"

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

    def __call__(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        """Input pixels (3, H, W) float32 of an RGB photo, and where the photo lies in them."""
        resized, placement = self.geometry((photo.height, photo.width))
        corner = _corner(resized, self.size)
        top, left = max(corner[0], 0), max(corner[1], 0)
        bottom = min(corner[0] + self.size[0], resized[0])
        right = min(corner[1] + self.size[1], resized[1])
        # Only what is kept is made: the whole of a very wide photo might not fit in memory.
        box = (
            left * photo.width / resized[1],
            top * photo.height / resized[0],
            right * photo.width / resized[1],
            bottom * photo.height / resized[0],
        )
        if self.interpolation == "torch7":
            picture = _torch7(np.asarray(photo), resized)[top:bottom, left:right]
        else:
            filter_ = Image.Resampling[self.interpolation.upper()]
            picture = np.array(photo.resize((right - left, bottom - top), filter_, box))
        pixels = torch.from_numpy(picture).permute(2, 0, 1).contiguous().float().div_(255)
        mean = torch.tensor(self.mean).view(3, 1, 1)
        std = torch.tensor(self.std).view(3, 1, 1)
        pixels.sub_(mean).div_(std)
        if pixels.shape[1:] == self.size:
            return pixels, placement
        out = torch.zeros(3, *self.size)  # of a letterbox: the mean colour after normalisation
        rows = slice(top - corner[0], bottom - corner[0])
        columns = slice(left - corner[1], right - corner[1])
        out[:, rows, columns] = pixels
        return out, placement

    def geometry(self, photo_size: tuple[int, int]) -> tuple[tuple[int, int], Placement]:
        """The size (height, width) a photo is resized to, and its placement in the input."""
        target = self.resize_to or self.size
        if self.resize == "stretch":
            resized = target
        else:
            ratios = (target[0] / photo_size[0], target[1] / photo_size[1])
            ratio = max(ratios) if self.resize == "crop" else min(ratios)
            resized = (
                max(1, round(photo_size[0] * ratio)),
                max(1, round(photo_size[1] * ratio)),
            )
        corner = _corner(resized, self.size)
        return resized, Placement.resized(photo_size, resized, self.size, corner)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Preprocess:
        """Inverse of :meth:`to_json`. Raises ValueError for keys or values it does not know."""
        try:
            values: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
            }
            return cls(**values)
        except (TypeError, AttributeError) as error:
            known = ", ".join(cls.__dataclass_fields__)
            raise ValueError(f"preprocess: {error}; known keys: {known}") from error


def _corner(resized: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """First pixel (y, x) kept of the resized photo; negative where it must be padded."""
    return (resized[0] - size[0]) // 2, (resized[1] - size[1]) // 2


def _torch7(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture uint8 (H, W, 3) resized as Lua Torch7 does it, float32 (h, w, 3)."""
    rows, columns = (_weights(*pair) for pair in zip(picture.shape, size, strict=False))
    narrow = np.stack([columns @ line for line in picture.astype(np.float32)])
    return np.einsum("hH,Hwc->hwc", rows, narrow, optimize=True)


def _weights(old: int, new: int) -> np.ndarray:
    """How much each old pixel of an axis is in each new one, float32 (new, old); rows sum to 1."""
    if new > old:
        at = np.linspace(0, old - 1, new)
        return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(old))).astype(np.float32)
    edges = np.arange(new + 1) * (old / new)
    inside = np.minimum(edges[1:, None], np.arange(1, old + 1)) - np.maximum(
        edges[:-1, None], np.arange(old)
    )
    return (inside.clip(min=0) * (new / old)).astype(np.float32)
