"""What adapters of models around one of our CNNs share: the CNN, cut at the layer to explain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from vlcam.adapters.adapter import Adapter, FeatureMaps
from vlcam.adapters.once_per_image import once_per_image
from vlcam.formats import checkpoint
from vlcam.formats.world import Likeness, World
from vlcam.geometry.cells import derive
from vlcam.geometry.grid import Grid, Placement
from vlcam.networks.channels_last import run_channels_last
from vlcam.networks.trunk import GivenMaps
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.messages.errors import one_line


class CnnAdapter(Adapter):
    """Everything of an adapter but ``decode``, which a subclass gives.

    Args:
        model: with an ``encoder`` (:class:`vlcam.networks.encoder.Encoder`, or what has its
            ``layer`` and ``split``) and a ``config`` with ``cnn`` and ``preprocess``, and
            ``assumed``: what of it no file of a published model says, where that is so.
        name: as results carry it.
        layer: of the CNN; None: its default one, the last rectified convolutional feature map.

    Raises:
        ValueError: the CNN has no such layer.
    """

    writes_pixels = False
    thread_safe = True

    def __init__(
        self,
        model: nn.Module,
        name: str,
        layer: str | None = None,
    ) -> None:
        self.module, self.name = model, name
        config: Any = model.config
        self._cnn: str = config.cnn
        self._preprocess: Preprocess = config.preprocess
        self.cut_at(layer)

    def cut_at(self, layer: str | None) -> None:
        encoder: Any = self.module.encoder
        self.layer = self._seam = encoder.layer(layer).name
        self._before, self._after = encoder.split(self.layer)
        self._to_last: nn.Module | None = None  # from here to the CNN's last layer
        self._grids: dict[tuple[int, int], Grid] = {}

    def resize(self, size: tuple[int, int]) -> None:
        """As of an :class:`Adapter`: an input larger than the CNN was trained on gives more cells.
        Models that attend to a fixed number of regions take their own size only."""
        if getattr(self.module.encoder, "regions", None) is not None:
            super().resize(size)
        preprocess = replace(self._preprocess, size=size, resize_to=None)
        try:
            self.grid(size)
        except RuntimeError as error:
            text = one_line(error)
            raise ValueError(
                f"{self.name} does not take {size[0]} x {size[1]} pixels: {text}"
            ) from error
        self._preprocess = preprocess

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        return self._preprocess.channels_last(photo)

    def encode(self, pixels: Tensor, prompts: Any = None) -> FeatureMaps:
        return FeatureMaps(run_channels_last(self._before, pixels))

    def encoder(self) -> nn.Module:
        return self._before

    def image_features(self, features: FeatureMaps) -> Tensor:
        """The CNN's features (N, F) of N rows of maps, computed once per image."""
        return once_per_image(lambda some: self._after(some.maps), features)

    def likeness(self, features: FeatureMaps) -> Likeness | None:
        """From the CNN's last layer, whichever is explained: what lies between the two runs once
        more."""
        world: World | None = getattr(self.module, "world", None)
        if world is None:
            return None
        encoder: Any = self.module.encoder
        if self._to_last is None:
            self._to_last = encoder.between(self._seam, encoder.layers[-1].name)
        return world.likeness(self._to_last(features.maps))

    def grid(self, input_size: tuple[int, int]) -> Grid:
        if input_size not in self._grids:
            self._grids[input_size] = self._grid_behind(self._before, input_size)
        return self._grids[input_size]

    def _grid_behind(self, part: nn.Module, input_size: tuple[int, int]) -> Grid:
        """Where the cells lie that a part of the CNN makes of the input."""
        encoder = self.module.encoder
        if isinstance(encoder, GivenMaps):  # there is no CNN to derive it from
            return encoder.grid
        kind = next(self.module.parameters()).dtype
        return derive(part, torch.empty(1, 3, *input_size, dtype=kind))

    def save(self, folder: Path) -> None:
        config: Any = self.module.config
        checkpoint.save_folder(self.module, config.to_json(), folder)

    def describe(self) -> dict[str, Any]:
        config: Any = self.module.config
        return {
            "cnn": self._cnn,
            "preprocess": self._preprocess.to_json(),
            "assumed as published": list(getattr(config, "assumed", ())),
        }
