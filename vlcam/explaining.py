"""From a model and a photo to an explanation: the way everything goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlcam import methods, targets
from vlcam.adapter import Adapter, FeatureMaps, Reading
from vlcam.engine import DEFAULT_MEMORY, encode, explain_at_layer, explain_at_pixels
from vlcam.explanation import Explanation, explained_words
from vlcam.geometry import Grid, Placement
from vlcam.models import load
from vlcam.photo import load as load_photo
from vlcam.photo import upright
from vlcam.targets import Target
from vlcam.untouched import untouched

TargetName = Literal["word", "caption"]


class WritesCaptions(Protocol):
    """The part of a captioner that turns captions into what can be explained."""

    def read(self, caption: str) -> Reading: ...

    def write(self, features: FeatureMaps, beam: int = 1) -> Reading: ...


@dataclass(frozen=True)
class Encoded:
    """A photo a model has seen, to be asked about again and again. Made by :func:`look`."""

    photo: str
    image: Image.Image
    pixels: Tensor
    features: FeatureMaps
    placement: Placement


def look(model: Adapter, photo: str | Path | Image.Image) -> Encoded:
    """Read, prepare and encode a photo: the one forward pass of the CNN.

    Raises:
        ValueError: the photo cannot be read.
    """
    image = upright(photo) if isinstance(photo, Image.Image) else load_photo(photo)
    name = "photo" if isinstance(photo, Image.Image) else str(photo)
    pixels, placement = model.prepare(image)
    first = next(model.module.parameters(), pixels)
    batch = pixels[None].to(first.device, first.dtype)
    return Encoded(name, image, batch, encode(model, batch), placement)


def explain(
    model: Adapter | str | Path,
    photo: str | Path | Image.Image | Encoded,
    caption: str | None = None,
    *,
    method: str = "grad-cam",
    target: TargetName = "word",
    beam: int = 1,
    strict: bool = False,
    memory: int = DEFAULT_MEMORY,
) -> Explanation:
    """Where a captioner looked for each word of its caption, or of one of yours.

    Args:
        model: an adapter, or what :func:`vlcam.load` takes.
        photo: a path, a PIL image, or a photo already looked at (:func:`look`).
        caption: the caption to explain by teacher forcing; None: the model's own.
        method: a name of :data:`vlcam.methods.METHODS`.
        target: ``word``: each word's log-probability given those before it; ``caption``: the sum
            over the words (section 8.1).
        beam: width of the beam the model writes its own caption with; 1 is greedy.
        strict: refuse a caption with words the model does not know, instead of leaving them out.
        memory: bytes that the explanation's autograd graphs may take at a time.

    Raises:
        ValueError: photo, caption, method or model cannot be used; one line says which and why.
    """
    if isinstance(model, str | Path):
        model = load(model)
    how = methods.get(method)
    encoded = photo if isinstance(photo, Encoded) else look(model, photo)
    if caption is None:
        with untouched(model.module), torch.no_grad():
            reading = cast(WritesCaptions, model).write(encoded.features, beam)
    else:
        reading = read(model, caption, strict)
    asked, texts = _asked(reading, target)
    scores, maps, grid = explain_targets(model, encoded, asked, how, memory)
    return Explanation(
        photo=encoded.photo,
        image=np.asarray(encoded.image),
        model=model.name,
        layer=model.layer,
        method=how.name,
        target=_TARGET_NAMES[target],
        caption=reading.text,
        words=explained_words(texts, scores, maps, grid, encoded.placement),
        unknown=_unknown(reading),
        maps=maps,
        grid=grid,
        placement=encoded.placement,
        details=model.describe() | _versions(),
    )


def read(model: Adapter, caption: str, strict: bool = False) -> Reading:
    """A caption as a captioner reads it; ``strict`` as for :func:`explain`.

    Raises:
        ValueError: there is no word in it that the model knows.
    """
    reading = cast(WritesCaptions, model).read(caption)
    unknown = _unknown(reading)
    if unknown and (strict or len(unknown) == len(reading.units)):
        raise ValueError(f"not in the vocabulary of {model.name}: {', '.join(unknown)}")
    return reading


def explain_targets(
    model: Adapter,
    encoded: Encoded,
    asked: list[Target],
    method: methods.Method,
    memory: int = DEFAULT_MEMORY,
) -> tuple[Tensor, Tensor, Grid]:
    """Scores (T,), raw float32 maps (T, u, v) and their grid, of any targets of one photo."""
    size = (encoded.pixels.shape[2], encoded.pixels.shape[3])
    if method.at == "layer":
        scores, maps = explain_at_layer(model, encoded.features, asked, method, memory=memory)
        return scores, maps.float(), model.grid(size)
    scores, maps = explain_at_pixels(model, encoded.pixels, asked, method, memory)
    return scores, maps.float(), Grid.pixels(size)


_TARGET_NAMES = {
    "word": "log-probability of each word",
    "caption": "log-probability of the caption",
}


def _asked(reading: Reading, target: str) -> tuple[list[Target], list[str]]:
    if target == "word":
        return targets.units(reading), [unit.text for unit in reading.units if not unit.unknown]
    if target == "caption":
        return [targets.whole(reading)], [reading.text]
    raise ValueError(f"unknown target {target!r}; known: {', '.join(_TARGET_NAMES)}")


def _unknown(reading: Reading) -> tuple[str, ...]:
    return tuple(unit.text for unit in reading.units if unit.unknown)


def _versions() -> dict[str, Any]:
    from importlib.metadata import version

    return {"vlcam": version("vlcam"), "torch": torch.__version__}
