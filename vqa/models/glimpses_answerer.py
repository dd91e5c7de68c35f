"""A model of glimpses as vlcam explains it: at the glimpses, or at a layer of its CNN."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from vlcam.adapters.adapter import FeatureMaps, Prompt
from vqa.answering.cnn_answerer import CnnAnswerer, folder_name
from vqa.models import glimpses

LAYER = "glimpses"


class GlimpsesAnswerer(CnnAnswerer):
    """Explained at its last feature maps: each glimpse's share of each kind of evidence, region by
    region (G J channels). They come right before the model's only pooling, so that Grad-CAM is CAM
    (section 3.1 of the paper), and they depend on the question. The CNN runs once a photo."""

    module: glimpses.Glimpses
    encode_reads_prompt = True

    def __init__(self, model: glimpses.Glimpses, name: str) -> None:
        super().__init__(model, name, model.encoder.regions.name)
        self.layer = LAYER

    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        assert prompts is not None
        return self.encode_prompt(self.encode_photo(pixels), prompts)

    def encode_photo(self, pixels: Tensor) -> FeatureMaps:
        return super().encode(pixels)

    def encode_prompt(self, photo: FeatureMaps, prompts: Sequence[Prompt]) -> FeatureMaps:
        shares, evidence = self.module.look(photo.maps.flatten(1), self._encoded(prompts))
        products = shares[:, :, None] * evidence.transpose(1, 2)[:, None]
        grid = self.module.grid(products.shape[3])
        return FeatureMaps(products.flatten(1, 2).unflatten(2, grid))

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        """Logits (N, answers)."""
        return self.module.conclude(features.maps.mean((2, 3)), self._encoded(prompts))


def load(path: Path, layer: str | None = None) -> CnnAnswerer:
    """A model of glimpses from its folder (``config.json``, ``model.safetensors``) or a file in it.

    Args:
        layer: ``glimpses`` (the default), or one of the CNN.

    Raises:
        ValueError: a file is missing, damaged or of another architecture.
    """
    model = glimpses.load(path)
    if layer in (None, LAYER):
        return GlimpsesAnswerer(model, folder_name(path))
    return CnnAnswerer(model, folder_name(path), layer)
