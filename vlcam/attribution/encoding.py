"""Photos that a model has encoded: one forward pass of the CNN a photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps, Prompt
from vlcam.attribution.guards import check_features
from vlcam.attribution.targets import Target
from vlcam.geometry.grid import Placement
from vlcam.photo.loading import load_photo, upright
from vlcam.utils.untouched import untouched


def encode(
    adapter: Adapter, pixels: Tensor, prompts: Sequence[Prompt] | None = None
) -> FeatureMaps:
    """Feature maps of pixels (B, 3, H, W): one forward pass of the CNN, no autograd graph.

    Args:
        prompts: one an image; needed by models whose feature maps depend on the prompt.
    """
    if adapter.encode_reads_prompt and prompts is None:
        raise ValueError(
            f"{adapter.name}: the feature maps depend on the prompt, so encode needs it"
        )
    with untouched(adapter.module), torch.no_grad():
        features = adapter.encode(pixels.clone() if adapter.writes_pixels else pixels, prompts)
    check_features(adapter, features, len(pixels))
    return features


def only_prompt(targets: Sequence[Target]) -> Prompt:
    """The prompt of all the targets, for a model whose feature maps depend on it.

    Raises:
        ValueError: they have several.
    """
    prompts = {term.prompt for target in targets for term in target.terms}
    if len(prompts) > 1:
        raise ValueError(
            f"targets under {len(prompts)} prompts, of a model whose feature maps depend on the"
            " prompt: explain them one prompt at a time"
        )
    return prompts.pop()


@dataclass(frozen=True)
class Encoded:
    """A photo a model has seen, to be asked about again and again. Made by :func:`look`.

    ``features`` is None for a model whose feature maps depend on what it is asked; ``begun`` then
    is what it made of the photo before, if it can tell the two apart.
    """

    photo: str
    image: Image.Image
    pixels: Tensor
    features: FeatureMaps | None
    placement: Placement
    begun: FeatureMaps | None = None

    def seen(self, model: Adapter, prompt: Prompt = None) -> FeatureMaps:
        """The feature maps, for a model that needs the prompt under it."""
        if self.features is not None:
            return self.features
        if self.begun is None:
            return encode(model, self.pixels, [prompt])
        with untouched(model.module), torch.no_grad():
            return model.encode_prompt(self.begun, [prompt])


def look(model: Adapter, photo: str | Path | Image.Image) -> Encoded:
    """Read, prepare and encode a photo: the one forward pass of the CNN.

    A model whose feature maps depend on the question encodes when it is asked, or what depends on
    the question then.

    Raises:
        ValueError: the photo cannot be read.
    """
    if isinstance(photo, Image.Image):
        image = upright(photo)
        ready = Prepared("photo", image, *model.prepare(image))
    else:
        ready = prepare(model, str(photo), load_photo(photo))
    return encode_photos(model, [ready])[0]


@dataclass(frozen=True)
class Prepared:
    """A photo, upright and in RGB (:mod:`vlcam.photo.loading`), as a model will be fed it: pixels
    (3, H, W), and where the photo lies in them."""

    name: str
    image: Image.Image
    pixels: Tensor
    placement: Placement


def prepare(model: Adapter, path: str, image: Image.Image) -> Prepared:
    """The photo that was read from a file."""
    return Prepared(path, image, *model.prepare_file(image, path))


def _stacked(photos: Sequence[Tensor]) -> Tensor:
    """Pixels (B, 3, H, W) of photos (3, H, W); channels last in memory if theirs are."""
    last = [pixels.permute(1, 2, 0) for pixels in photos]
    if all(pixels.is_contiguous() for pixels in last):
        return torch.stack(last).permute(0, 3, 1, 2)
    return torch.stack(list(photos))


def encode_photos(model: Adapter, photos: Sequence[Prepared]) -> list[Encoded]:
    """Several photos: one forward pass of the CNN for each size of input among them."""
    sizes: dict[torch.Size, list[int]] = {}
    for row, photo in enumerate(photos):
        sizes.setdefault(photo.pixels.shape, []).append(row)
    found: dict[int, Encoded] = {}
    for rows in sizes.values():
        pixels = _stacked([photos[row].pixels for row in rows])
        first = next(model.module.parameters(), pixels)
        pixels = pixels.to(first.device, first.dtype)
        features, begun = _features(model, pixels)
        for place, row in enumerate(rows):
            whole, half = (some and some.one(place) for some in (features, begun))
            one, own = photos[row], pixels[place : place + 1]
            found[row] = Encoded(one.name, one.image, own, whole, one.placement, half)
    return [found[row] for row in range(len(photos))]


def _features(model: Adapter, pixels: Tensor) -> tuple[FeatureMaps | None, FeatureMaps | None]:
    """Feature maps, or where they depend on the question what can be had before it is asked."""
    if not model.encode_reads_prompt:
        return encode(model, pixels), None
    with untouched(model.module), torch.no_grad():
        return None, model.encode_photo(pixels.clone())
