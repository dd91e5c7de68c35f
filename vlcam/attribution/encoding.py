"""Photos that a model has encoded: one forward pass of the CNN per photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps, Prompt, check_is_adapter
from vlcam.attribution.guards import check_features
from vlcam.geometry.grid import Placement
from vlcam.photo.given import Photo, given_photo
from vlcam.utils.messages.brief import Brief
from vlcam.utils.untouched import untouched


@dataclass(frozen=True, repr=False)
class Encoded(Brief):
    """A photo that a model has encoded, to be asked about again and again. Made by :func:`look`.

    Attributes:
        photo: its path, as given; "photo" of one that was given as an image or an array.
        image: the photo itself, upright, RGB.
        pixels: what the model is fed, (1, 3, H, W).
        features: the feature maps; None of a model whose feature maps depend on the prompt.
        placement: where the photo lies in the pixels.
        begun: of such a model, the part of encoding that does not depend on the prompt, if the
            model can tell the two apart.
        model: that encoded it; None: that is not known.
    """

    photo: str
    image: Image.Image
    pixels: Tensor
    features: FeatureMaps | None
    placement: Placement
    begun: FeatureMaps | None = None
    model: Adapter | None = None

    def of(self, model: Adapter) -> Encoded:
        """This photo as that model sees it: as it is, or, if the same module is now explained at
        another layer, encoded at that one.

        Raises:
            ValueError: another model encoded it.
        """
        if self.model is None or self.model is model:
            return self
        if self.model.module is not model.module:
            raise ValueError(
                f"the photo was encoded by another model than {model.name} (by {self.model.name}"
                f" at layer {self.model.layer}): give the photo itself, or vlcam.look(model, photo)"
            )
        if self.model.layer == model.layer:
            return self
        features, begun = _features(model, self.pixels)
        return replace(self, features=features, begun=begun, model=model)

    @property
    def prepared(self) -> Prepared:
        """The photo, ready to be encoded by a model that is fed the same."""
        return Prepared(self.photo, self.image, self.pixels[0], self.placement)

    def seen(self, model: Adapter, prompt: Prompt = None) -> FeatureMaps:
        """The feature maps; of a model whose feature maps depend on the prompt, under that one."""
        if self.features is not None:
            return self.features
        if self.begun is None:
            return encode(model, self.pixels, [prompt])
        with untouched(model.module), torch.no_grad():
            return model.encode_prompt(self.begun, [prompt])


def look(model: Adapter, photo: Photo) -> Encoded:
    """Read, prepare and encode a photo (:data:`vlcam.photo.given.Photo`): the one forward pass of
    the CNN.

    A model whose feature maps depend on the prompt encodes the photo when it is asked something;
    here it encodes the part that does not depend on it, if there is one.

    Raises:
        ValueError: the photo cannot be read, or is none; the model is no adapter.
    """
    check_is_adapter(model)
    image, path = given_photo(photo)
    if path is None:
        ready = Prepared("photo", image, *model.prepare(image))
    else:
        ready = prepare(model, path, image)
    return encode_photos(model, [ready])[0]


@dataclass(frozen=True, repr=False)
class Prepared(Brief):
    """A photo, ready to be encoded.

    Attributes:
        name: its path, as given.
        image: the photo itself, upright, RGB (:mod:`vlcam.photo.loading`).
        pixels: what the model is fed, (3, H, W).
        placement: where the photo lies in the pixels.
    """

    name: str
    image: Image.Image
    pixels: Tensor
    placement: Placement


def prepare(model: Adapter, path: str, image: Image.Image) -> Prepared:
    """A photo that was read from the file at ``path``, as the model takes it."""
    return Prepared(path, image, *model.prepare_file(image, path))


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
            found[row] = Encoded(
                one.name,
                one.image,
                own,
                features=whole,
                placement=one.placement,
                begun=half,
                model=model,
            )
    return [found[row] for row in range(len(photos))]


def encode(
    adapter: Adapter, pixels: Tensor, prompts: Sequence[Prompt] | None = None
) -> FeatureMaps:
    """Feature maps of pixels (B, 3, H, W): one forward pass of the CNN, no autograd graph.

    Args:
        prompts: one per image; needed by models whose feature maps depend on the prompt.

    Raises:
        ValueError: there are none, and the model needs them; it gives no feature maps
            (B, K, u, v).
    """
    if adapter.encode_reads_prompt and prompts is None:
        raise ValueError(
            f"{adapter.name}: the feature maps depend on the prompt, so encode needs it"
        )
    with untouched(adapter.module), torch.no_grad():
        features = adapter.encode(pixels.clone() if adapter.writes_pixels else pixels, prompts)
    check_features(adapter, features, len(pixels))
    return features


def _features(model: Adapter, pixels: Tensor) -> tuple[FeatureMaps | None, FeatureMaps | None]:
    """The feature maps; or, where they depend on the prompt, the part that does not."""
    if not model.encode_reads_prompt:
        return encode(model, pixels), None
    with untouched(model.module), torch.no_grad():
        return None, model.encode_photo(pixels.clone())


def _stacked(photos: Sequence[Tensor]) -> Tensor:
    """Pixels (B, 3, H, W) of photos (3, H, W); channels last in memory if theirs are."""
    last = [pixels.permute(1, 2, 0) for pixels in photos]
    if all(pixels.is_contiguous() for pixels in last):
        return torch.stack(last).permute(0, 3, 1, 2)
    return torch.stack(list(photos))
