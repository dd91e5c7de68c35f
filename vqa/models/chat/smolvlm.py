"""SmolVLM and Idefics3 of transformers (Marafioti et al., 2025; Laurençon et al., 2024), from a
local folder.

The photo is enlarged and cut into square tiles, which a SigLIP vision transformer encodes one by
one; last comes an overview, the whole photo resized to one more tile. A connector makes one token
of the language model of a square of patches.

The input is the enlarged photo, the tiles in their places. The feature maps are the tiles' tokens,
each where its patch lies in the photo, and the overview is held constant when a score is
differentiated with respect to them. With ``/overview`` behind a layer's name the overview's tokens
are explained, and the tiles are held constant. A photo that is not cut (or of a model that cuts
none) has only one tile: the two are the same then.

Methods that pool gradients over the cells, as Grad-CAM does for its weights, pool over the cells of
all tiles together: the tiles are one photo, a channel is the same feature in each of them, and
equation 1 of the paper has one weight a channel for a photo; maps then compare the tiles with each
other. With ``/per-tile`` behind a layer's name each tile has weights of its own. (The vision
transformer, which sees a tile at a time, may use a channel differently in each.) Results say which.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
)

from vlcam.adapters.adapter import FeatureMaps, Prompt
from vlcam.geometry.grid import Grid, Placement, line_through
from vlcam.geometry.tiles import in_tiles, of_tiles
from vlcam.utils.exact_backward import exact_backward
from vqa.models.chat.chat import DESCRIBE, LONGEST, ChatModel, Parts, load_parts

_BLOCKS = "model.vision_model.encoder.layers"
_CONNECTOR = "model.connector"
_OVERVIEW = "/overview"
_PER_TILE = "/per-tile"
_OTHERS = "other tiles"
_KINDS: dict[str, Any] = {
    "smolvlm": SmolVLMForConditionalGeneration,
    "idefics3": Idefics3ForConditionalGeneration,
}


class SmolVLM(ChatModel):
    """A SmolVLM or Idefics3 model.

    Args:
        parts: the model.
        layer: ``model.vision_model.encoder.layers.N`` or ``model.connector``, with or without
            ``/overview`` or ``/per-tile``; None: the last block (where HiResCAM's map vanishes: a
            normalisation follows it).
        ask, longest: see :class:`ChatModel`.

    Raises:
        ValueError: there is no such layer; the connector cannot merge the tiles' patches.
    """

    def __init__(
        self, parts: Parts, layer: str | None = None, ask: str = DESCRIBE, longest: int = LONGEST
    ) -> None:
        super().__init__(parts, ask, longest)
        self._vision = self.module.model.vision_model
        self.layers = [f"{_BLOCKS}.{i}" for i in range(len(self._vision.encoder.layers))]
        self.cut_at(layer)
        config, processor = self.module.config, parts.processor
        self._tile: int = processor.max_image_size["longest_edge"]
        self._patch: int = config.vision_config.patch_size
        self._merge: int = config.scale_factor
        self._side = self._tile // self._patch  # of a tile, in patches
        if self._side < self._merge or self._side % self._merge:
            raise ValueError(
                f"{self.name}: tiles of {self._tile} pixels have {self._side} x {self._side}"
                f" patches, the connector merges {self._merge} x {self._merge}"
            )
        self._mean, self._std = (
            torch.tensor(values).view(3, 1, 1)
            for values in (processor.image_mean, processor.image_std)
        )

    def cut_at(self, layer: str | None) -> None:
        names = self.layers
        self.layer = layer or names[-1]
        plain, _, how = self.layer.partition("/")
        if plain not in (*names, _CONNECTOR) or f"/{how}" not in ("/", _OVERVIEW, _PER_TILE):
            raise ValueError(
                f"{self.name}: no layer {layer!r}; known: {names[0]} ... {names[-1]}, {_CONNECTOR},"
                f" each also with {_OVERVIEW} or {_PER_TILE}"
            )
        self._of_overview, self._per_tile = f"/{how}" == _OVERVIEW, f"/{how}" == _PER_TILE
        self._connected = plain == _CONNECTOR
        self._before = len(names) if self._connected else names.index(plain) + 1

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        """As the model's own image processor, the tiles put together again."""
        made = self._processed([[photo]], return_row_col_info=True)
        tiles = made["pixel_values"][0]
        rows, columns = (max(1, made[key][0][0]) for key in ("rows", "cols"))
        pixels = of_tiles(tiles[: rows * columns][None], (rows, columns))[0]
        size = (pixels.shape[1], pixels.shape[2])
        return pixels, Placement.resized((photo.height, photo.width), size)

    def grid(self, input_size: tuple[int, int]) -> Grid:
        tiles = (input_size[0] // self._tile, input_size[1] // self._tile)
        merged = self._merge if self._connected else 1
        side, cell = self._side // merged, self._patch * merged
        one = [(cell - 1) / 2 + cell * i for i in range(side)]
        if self._of_overview:
            every = [[(at + 0.5) * many - 0.5 for at in one] for many in tiles]
            steps = [cell * many for many in tiles]
        else:
            every = [[self._tile * t + at for t in range(many) for at in one] for many in tiles]
            steps = [self._tile / side] * 2
        lines = [line_through(at, step) for at, step in zip(every, steps, strict=True)]
        offset, stride = ((y[i], x[i]) for y, x in [lines] for i in (0, 1))
        size = (len(every[0]), len(every[1]))
        even = self._of_overview or side * cell == self._tile or tiles == (1, 1)
        return Grid(size, offset, stride, None if even else (tuple(every[0]), tuple(every[1])))

    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        rows, columns = (side // self._tile for side in pixels.shape[2:])
        tiles = in_tiles(pixels, (rows, columns))
        if rows * columns > 1:
            tiles = torch.cat([tiles, self._overview(pixels)[:, None]], 1)
        whole = torch.ones(
            tiles.shape[0] * tiles.shape[1],
            self._side,
            self._side,
            dtype=torch.bool,
            device=pixels.device,
        )
        tokens = self._vision.embeddings(tiles.flatten(0, 1), patch_attention_mask=whole)
        for block in self._vision.encoder.layers[: self._before]:
            tokens = block(tokens, attention_mask=None)
        if self._connected:
            tokens = self._connect(tokens)
        side = int(tokens.shape[1] ** 0.5)
        laid = tokens.transpose(1, 2).unflatten(2, (side, side)).unflatten(0, (len(pixels), -1))
        maps = of_tiles(laid[:, : rows * columns], (rows, columns))
        if rows * columns == 1:
            return FeatureMaps(maps)
        overview = laid[:, -1]
        if self._of_overview:
            return FeatureMaps(overview, {_OTHERS: maps})
        return FeatureMaps(maps, {_OTHERS: overview})

    def image_tokens(self, features: FeatureMaps) -> Tensor:
        maps, rows, columns = self._tiles(features)
        tiles = in_tiles(maps, (rows, columns))
        if features.rest:
            last = features.maps if self._of_overview else features.rest[_OTHERS]
            tiles = torch.cat([tiles, last[:, None]], 1)
        tokens = tiles.flatten(0, 1).flatten(2).transpose(1, 2)
        if not self._connected:
            for block in self._vision.encoder.layers[self._before :]:
                tokens = block(tokens, attention_mask=None)
            tokens = self._connect(tokens)
        return tokens.unflatten(0, (len(maps), -1)).flatten(1, 2)

    def tiles(self, features: FeatureMaps) -> tuple[int, int]:
        return self._tiles(features)[1:] if self._per_tile else (1, 1)

    def describe(self) -> dict[str, Any]:
        pooled = "of the overview" if self._of_overview else "of all tiles together"
        return super().describe() | {"pooled": "each tile by itself" if self._per_tile else pooled}

    def image_text(self, features: FeatureMaps) -> str:
        around, whole = (
            getattr(self._tokenizer, name, default)
            for name, default in (
                ("fake_image_token", "<fake_token_around_image>"),
                ("global_image_token", "<global-img>"),
            )
        )
        tile = self._image * (self._side // self._merge) ** 2
        _, rows, columns = self._tiles(features)
        if rows * columns == 1:
            return f"{around}{whole}{tile}{around}"
        lines = [
            "".join(f"{around}<row_{r + 1}_col_{c + 1}>{tile}" for c in range(columns)) + "\n"
            for r in range(rows)
        ]
        return "".join(lines) + f"\n{around}{whole}{tile}{around}"

    def _language(self) -> Any:
        return self.module.model.text_model

    def _connect(self, tokens: Tensor) -> Tensor:
        """Tokens (tiles, patches, K) behind the last block to the language model's (tiles, tokens,
        H)."""
        connected: Tensor = self.module.model.connector(self._vision.post_layernorm(tokens))
        return connected

    def _tiles(self, features: FeatureMaps) -> tuple[Tensor, int, int]:
        """The tiles' maps, and how many rows and columns of tiles they have."""
        swapped = self._of_overview and features.rest
        maps = features.rest[_OTHERS] if swapped else features.maps
        side = self._side // (self._merge if self._connected else 1)
        return maps, maps.shape[2] // side, maps.shape[3] // side

    def _overview(self, pixels: Tensor) -> Tensor:
        """The overviews (B, 3, S, S) of enlarged photos (B, 3, H, W).

        The processor resizes whole numbers (0 ... 255): their values are exactly its own, and their
        gradient is that of its filter, as if it did not round.
        """
        mean, std = (some.to(pixels) for some in (self._mean, self._std))
        with torch.no_grad(), exact_backward():
            levels = ((pixels * std + mean) * 255).round().clamp(0, 255).byte().cpu()
            pictures = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in levels]
            exact = torch.cat([self._one_tile(picture) for picture in pictures]).to(pixels)
        if not pixels.requires_grad:
            return exact
        rows, columns = (
            _filter(n, self._tile, self._resample).to(pixels) for n in pixels.shape[2:]
        )
        smooth = rows @ pixels @ columns.T
        overviews: Tensor = _WithGradientOf.apply(smooth, exact)
        return overviews

    def _one_tile(self, picture: Image.Image) -> Tensor:
        """A picture resized to one tile by the processor, (1, 3, S, S)."""
        made = self._processed([[picture]], do_resize=False, do_image_splitting=False)
        tile: Tensor = made["pixel_values"][0]
        return tile

    @property
    def _resample(self) -> Image.Resampling:
        return Image.Resampling(int(self._parts.processor.resample))


class _WithGradientOf(torch.autograd.Function):
    """The rounded values, with the gradient of the smooth ones."""

    exact = True

    @staticmethod
    @exact_backward()
    def forward(ctx: Any, smooth: Tensor, rounded: Tensor) -> Tensor:
        return rounded.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _split(pictures: Tensor, rows: int, columns: int) -> Tensor:
    """Pictures (B, K, H, W) cut into tiles (B, rows columns, K, h, w)."""
    cut = pictures.unflatten(3, (columns, -1)).unflatten(2, (rows, -1))
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def _joined(tiles: Tensor, rows: int, columns: int) -> Tensor:
    """Inverse of :func:`_split`."""
    laid = tiles.unflatten(1, (rows, columns)).permute(0, 3, 1, 4, 2, 5)
    return laid.flatten(4, 5).flatten(2, 3)


def _filter(old: int, new: int, resample: Image.Resampling) -> Tensor:
    """PIL's filter along an axis: the weight of each old pixel in each new one, (new, old)."""
    each = Image.fromarray(np.eye(old, dtype=np.float32)).resize((new, old), resample)
    return torch.from_numpy(np.array(each).T)


def load(path: Path, layer: str | None = None) -> SmolVLM:
    """A model from a folder that transformers' ``save_pretrained`` wrote (or a file in it).

    Without an image processor in the folder photos are prepared as for Idefics3, in tiles of the
    size that the vision transformer takes.

    Args:
        layer: see :class:`SmolVLM`.

    Raises:
        ValueError: see :func:`vqa.models.chat.chat.load_parts` and :class:`SmolVLM`.
    """
    return SmolVLM(load_parts(_KINDS, path, _default_processor, read=("max_image_size",)), layer)


def _default_processor(module: Any) -> Any:
    side = module.config.vision_config.image_size
    kinds = {"smolvlm": SmolVLMImageProcessor, "idefics3": Idefics3ImageProcessor}
    kind: Any = kinds[module.config.model_type]
    return kind(size={"longest_edge": 4 * side}, max_image_size={"longest_edge": side})
