"""What adapters of models around one of our CNNs share: the CNN, cut at the layer to explain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from vlcam.adapter import Adapter, FeatureMaps
from vlcam.cells import derive
from vlcam.geometry import Grid, Placement
from vlcam.preprocess import Preprocess
from vlcam.sharing import once_an_image


class CnnAdapter(Adapter):
    """The half of an adapter that looks; a subclass gives ``decode``.

    Args:
        model: with an ``encoder`` (:class:`vlcam.cnn.Encoder`, or what has its ``layer`` and
            ``split``) and a ``config`` with ``cnn`` and ``preprocess``.
        name: as results carry it.
        layer: of the CNN; None is the last rectified convolutional feature map.
        input_size: (height, width) to feed the CNN where it is fully convolutional, instead of the
            size it was trained at; a larger one gives more cells.

    Raises:
        ValueError: the CNN has no such layer, or does not take such an input.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        layer: str | None = None,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        self.module, self.name = model, name
        encoder: Any = model.encoder
        config: Any = model.config
        self._cnn: str = config.cnn
        self.layer = encoder.layer(layer).name
        self._before, self._after = encoder.split(self.layer)
        self._preprocess: Preprocess = config.preprocess
        if input_size is not None:
            self._preprocess = replace(self._preprocess, size=input_size, resize_to=None)
        self._grids: dict[tuple[int, int], Grid] = {}

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        return self._preprocess(photo)

    def encode(self, pixels: Tensor, prompts: Any = None) -> FeatureMaps:
        return FeatureMaps(self._before(pixels))

    def encoder(self) -> nn.Module:
        return self._before

    def image_features(self, features: FeatureMaps) -> Tensor:
        """The CNN's features (N, F) of N rows of maps, computed once an image."""
        return once_an_image(lambda seen: self._after(seen.maps), features)

    def grid(self, input_size: tuple[int, int]) -> Grid:
        if input_size not in self._grids:
            kind = next(self.module.parameters()).dtype
            self._grids[input_size] = derive(
                self._before, torch.empty(1, 3, *input_size, dtype=kind)
            )
        return self._grids[input_size]

    def describe(self) -> dict[str, Any]:
        return {"cnn": self._cnn, "preprocess": self._preprocess.to_json()}
