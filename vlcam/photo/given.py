"""Photos as they are given in Python: a path, a PIL image, an array or a tensor."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlcam.photo.loading import load_photo, upright
from vlcam.utils.messages.errors import one_line
from vlcam.utils.messages.expected import a, described_shape

Photo = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
"""A path; a PIL image; RGB, RGBA or grey levels (height, width, channels), (channels, height,
width) or (height, width), uint8 of 0..255 or floating point of 0..1, perhaps a batch of one."""

_CHANNELS = (1, 3, 4)
_SHAPES = "(height, width, 3), (3, height, width) or (height, width)"
_LEVELS = "uint8 of 0..255 or floating point of 0..1"
_OFF = 1e-3  # a quarter of a level, which the rounding of a resized photo may be beyond 0..1


def given_photo(photo: Photo) -> tuple[Image.Image, str | None]:
    """A photo as a person sees it, 8-bit RGB and upright, and the path it was read from, if it was.

    Nothing of an array or a tensor is changed or kept. Of three or four channels first or last,
    arrays are taken to have them last and tensors first where both could be.

    Raises:
        ValueError: the photo cannot be read, or is none; one line says what is taken.
    """
    if isinstance(photo, Image.Image):
        return upright(photo), None
    if not isinstance(photo, str | os.PathLike) and hasattr(photo, "__array__"):
        return upright(_image(photo)), None
    path: Any = photo  # or what is none, which is told
    return load_photo(path), str(path)


def _image(photo: Any) -> Image.Image:
    """The image in an array or a tensor; it may share its memory."""
    first = isinstance(photo, Tensor)
    what = "tensor" if first else "array"
    try:
        values = _on_cpu(photo) if first else np.asarray(photo)
    except Exception as error:  # whatever another library's array, or a tensor without values says
        raise ValueError(f"the photo's {what} has no values here ({one_line(error)})") from error
    pixels = _channels_last(values, what, first)
    levels = _levels(pixels, what)
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)


def _on_cpu(photo: Tensor) -> np.ndarray:
    plain = photo.detach().as_subclass(Tensor).cpu()
    values: np.ndarray = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    return values


def _channels_last(values: np.ndarray, what: str, first: bool) -> np.ndarray:
    """The one photo among the values, (height, width, channels)."""
    shape = described_shape(values.shape)
    if values.ndim == 4 and len(values) != 1:
        raise ValueError(f"the photo is a batch of {len(values)}, {what} {shape}: give one of them")
    if values.ndim == 4:
        values = values[0]
    if values.ndim == 2:
        values = values[:, :, None]
    places = [place for place in ((0, 2) if first else (2, 0)) if values.ndim == 3]
    channels = next((place for place in places if values.shape[place] in _CHANNELS), None)
    if channels is None:
        raise ValueError(f"the photo is {a(what)} of shape {shape}; expected {_SHAPES}")
    if not values.size:
        raise ValueError(f"the photo is {a(what)} of shape {shape}: there is nothing to see")
    return np.moveaxis(values, channels, 2)


def _levels(pixels: np.ndarray, what: str) -> np.ndarray:
    """Levels as uint8 (height, width, channels), their memory in that order."""
    if pixels.dtype == np.uint16:  # as of a file of 16 bits
        pixels = pixels / np.float32(65535)
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if pixels.dtype.kind != "f":
        raise ValueError(f"the photo is {a(what)} of {pixels.dtype}; expected {_LEVELS}")
    least, most = float(pixels.min()), float(pixels.max())
    if not np.isfinite((least, most)).all():
        raise ValueError(f"the photo's {what} holds {_not_finite(pixels)}; expected {_LEVELS}")
    if least < -_OFF or most > 1 + _OFF:
        raise ValueError(
            f"the photo's {what} of {pixels.dtype} has levels of {least:.3g}..{most:.3g};"
            f" expected {_LEVELS}: {_cure(least, most)}"
        )
    scaled = pixels.astype(np.float64).clip(0, 1) * 255
    return np.ascontiguousarray(np.rint(scaled).astype(np.uint8))


def _not_finite(pixels: np.ndarray) -> str:
    return "NaN" if np.isnan(pixels).any() else "infinities"


def _cure(least: float, most: float) -> str:
    if least < -_OFF:
        return "give it as it was before it was normalised"
    return "divide it by 255" if most <= 255 else "divide it by its white"
