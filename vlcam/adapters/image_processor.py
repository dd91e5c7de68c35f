"""Image processors of transformers: photos become pixels exactly as there.

The processor itself makes the pixels; where the photo lies in them is derived here from its
settings.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor
from transformers.image_processing_backends import PilBackend, TorchvisionBackend
from transformers.image_utils import SizeDict

from vlcam.formats.pretrained import image_settings, quietly
from vlcam.formats.state_dict import unreadable
from vlcam.geometry.grid import Placement

_DONE = ("resize", "center_crop", "rescale", "normalize", "convert_rgb", "reduce_labels")
"""Steps of processors of which it is known what they do to the photo's place."""

_MOST_PIXELS = 2**26
"""Of a photo on the way to the model; a narrow one grows much where its shorter side is resized."""

_SETTINGS = (
    "size", "crop_size", "patch_size", "max_patches", "max_image_size", "resample", "image_mean",
    "image_std",
)  # fmt: skip
"""Settings that say what is made of a photo."""

_SIZES = {"size", "min_pixels", "max_pixels"}
"""Settings that say how large a photo is made."""


class ImageProcessor:
    """From a photo to its pixels, by an image processor of transformers.

    Args:
        processor: one that pads to a square, resizes, then crops the centre, or does some or none
            of these.

    Raises:
        ValueError: it does anything else to the photo.
    """

    def __init__(self, processor: Any) -> None:
        name = type(processor).__name__
        asked = [key[3:] for key, value in vars(processor).items() if key[:3] == "do_" and value]
        self._squares = "pad" in asked and hasattr(processor, "pad_to_square")  # LLaVA's
        known = [*_DONE, "pad"] if self._squares else _DONE
        odd = [step for step in asked if step not in known]
        bases = (TorchvisionBackend, PilBackend)
        for step in ("resize", "center_crop"):
            if getattr(type(processor), step) not in [getattr(base, step) for base in bases]:
                odd.append(f"{step} of its own")
        if odd:
            raise ValueError(f"{name} prepares photos with steps that are unknown here: {odd[0]}")
        self.processor = processor

    def __call__(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        """Input pixels (3, H, W) float32 of an RGB photo, and where the photo lies in them."""
        old = (photo.height, photo.width)
        whole = (max(old), max(old)) if self._squares else old
        before = ((whole[0] - old[0]) // 2, (whole[1] - old[1]) // 2)
        resized, size, corner = self._sizes(whole)
        if max(math.prod(whole), math.prod(resized), math.prod(size)) > _MOST_PIXELS:
            raise ValueError(
                f"{type(self.processor).__name__} makes {resized[1]} x {resized[0]} pixels of a"
                f" photo of {old[1]} x {old[0]}; at most {_MOST_PIXELS:,} are made"
            )
        pixels: Tensor = self.processor(images=photo, return_tensors="pt").pixel_values[0].float()
        if pixels.shape != (3, *size):
            raise ValueError(
                f"{type(self.processor).__name__} made {tuple(pixels.shape)} of a photo of {old},"
                f" expected (3, {size[0]}, {size[1]})"
            )
        placed = Placement.resized(whole, resized, size, corner=corner)
        y, x = placed.to_input(*before)  # where the photo's own first pixel lies
        return pixels, Placement(old, size, placed.scale, (y, x))

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of every input; None where it depends on the photo."""
        sizes = {self._sizes(photo)[1] for photo in ((100, 100), (100, 300), (300, 100))}
        return sizes.pop() if len(sizes) == 1 else None

    def _sizes(
        self, photo: tuple[int, int]
    ) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """The size of the resized photo, that of the input, and the first pixel (y, x) of the
        resized photo that is kept."""
        processor = self.processor
        resized = self._resized(photo) if processor.do_resize else photo
        if not processor.do_center_crop:
            return resized, resized, (0, 0)
        size = (processor.crop_size["height"], processor.crop_size["width"])
        rests = (resized[0] - size[0], resized[1] - size[1])
        # A photo that is too small is padded; backends round halves of a pixel unlike.
        pil = isinstance(processor, PilBackend)
        first = [rest // 2 if rest >= 0 or pil else -(-rest // 2) for rest in rests]
        return resized, size, (first[0], first[1])

    def _resized(self, photo: tuple[int, int]) -> tuple[int, int]:
        size = {key: value for key, value in dict(self.processor.size).items() if value}
        if set(size) == {"height", "width"}:
            return size["height"], size["width"]
        if set(size) != {"shortest_edge"}:
            named = ", ".join(sorted(size))
            raise ValueError(f"{type(self.processor).__name__}: size of {named} is unknown here")
        short = min(photo)
        if size["shortest_edge"] == short:
            return photo
        sides = [int(size["shortest_edge"] * side / short) for side in photo]
        return sides[0], sides[1]


def assumed(folder: Path, processor: Any) -> tuple[str, ...]:
    """What no file of the folder says of how photos are prepared, as results record it: each
    setting that was taken from transformers or from the model."""
    said = image_settings(folder)
    if _SIZES & set(said):
        said = said | {"size": None}  # in other words
    found = {name: getattr(processor, name, None) for name in _SETTINGS if name not in said}
    kind = type(processor).__name__
    return tuple(f"{kind}.{name}: {_plain(v)}" for name, v in found.items() if v is not None)


def _plain(value: Any) -> str:
    """A setting in one line, without what is not set."""
    if isinstance(value, SizeDict | dict):
        return str({key: number for key, number in dict(value).items() if number is not None})
    return str(list(value) if isinstance(value, tuple) else value)


def image_processor(folder: Path, default: Any) -> Any:
    """The image processor in a folder; ``default`` where it has none.

    Args:
        default: gives the class where the folder's settings name none, and the size where they
            have none.

    Raises:
        ValueError: the settings are damaged, or of a class that is unknown.
    """
    settings = image_settings(folder)
    if not settings:
        return default
    named = {"image_processor_type", "feature_extractor_type"} & set(settings)
    kind = AutoImageProcessor if named else type(default)
    only = {"trust_remote_code": False} if named else {}
    try:
        with quietly():
            processor = kind.from_pretrained(folder, local_files_only=True, **only)
    except Exception as error:  # whatever odd settings make transformers stumble over
        raise ValueError(unreadable(error)) from error
    if not _SIZES & set(settings) and isinstance(processor, type(default)):
        processor.size = default.size
    return processor
