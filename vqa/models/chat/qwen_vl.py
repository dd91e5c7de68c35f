"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL of transformers (Wang et al., 2024; Bai et al., 2025), from a
local folder.

Their vision transformer takes a photo at nearly its own size. A merger makes one token of the
language model of each square of 2 x 2 patches, and the patches are ordered square by square; the
feature maps are laid out as the patches lie in the photo. Qwen2.5-VL's blocks attend within
windows, for which the patches are reordered once more. Qwen3-VL's language model also reads, at its
first layers, what mergers of their own make of the patches behind earlier blocks (DeepStack): so
its last block is not the only way by which the photo reaches the answer, and the others are held
constant when a score is differentiated with respect to the maps.

The orders, the positions in the photo and the windows are those of transformers' own forward pass:
it is run in two parts, on two modules that share the vision transformer's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from vlcam.adapters.adapter import FeatureMaps, Prompt
from vlcam.attribution.backward_rules import outside_cnn
from vlcam.geometry.grid import Grid, Placement
from vlcam.networks.with_part import with_part
from vqa.models.chat.chat import DESCRIBE, LONGEST, ChatModel, Parts, load_parts

_BLOCKS = "model.visual.blocks"
_MERGER = "model.visual.merger"
_DEEP = "deepstack {}"
_KINDS: dict[str, Any] = {
    "qwen2_vl": Qwen2VLForConditionalGeneration,
    "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration,
    "qwen3_vl": Qwen3VLForConditionalGeneration,
}


class QwenVL(ChatModel):
    """A Qwen-VL model.

    Args:
        parts: the model.
        layer: ``model.visual.blocks.N`` or ``model.visual.merger``; None: the last block (where
            HiResCAM's map vanishes: a normalisation follows it).
        ask, longest: see :class:`ChatModel`.

    Raises:
        ValueError: there is no such layer; the processor's patches are not of the model's size.
    """

    def __init__(
        self, parts: Parts, layer: str | None = None, ask: str = DESCRIBE, longest: int = LONGEST
    ) -> None:
        super().__init__(parts, ask, longest)
        vision, processor = self.module.config.vision_config, parts.processor
        self.layers = [f"{_BLOCKS}.{i}" for i in range(len(self.module.model.visual.blocks))]
        self.cut_at(layer)
        self._patch: int = vision.patch_size
        self._merge: int = vision.spatial_merge_size
        self._frames: int = vision.temporal_patch_size
        for name, made, read in (
            ("patch_size", processor.patch_size, self._patch),
            ("merge_size", processor.merge_size, self._merge),
            ("temporal_patch_size", processor.temporal_patch_size, self._frames),
        ):
            if made != read:
                raise ValueError(
                    f"{self.name}: the processor's {name} is {made}, the vision model's {read}"
                )

    def cut_at(self, layer: str | None) -> None:
        names = self.layers
        self.layer = layer or names[-1]
        if self.layer not in (*names, _MERGER):
            raise ValueError(
                f"{self.name}: no layer {layer!r}; known: {names[0]} ... {names[-1]}, {_MERGER}"
            )
        self._block = None if self.layer == _MERGER else names.index(self.layer)

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        """As the model's own image processor: the photo at nearly its own size.

        Raises:
            ValueError: it is too elongated.
        """
        made = self._processed(photo)
        _, rows, columns = made["image_grid_thw"][0].tolist()
        m, side = self._merge, self._patch
        # Patches in order, square by square, as a picture again; all frames are the same photo.
        cut = made["pixel_values"].unflatten(0, (rows // m, columns // m, m, m))
        cut = cut.unflatten(-1, (3, self._frames, side, side))[..., 0, :, :]
        pixels = cut.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * side, columns * side)
        size = (pixels.shape[1], pixels.shape[2])
        return pixels, Placement.resized((photo.height, photo.width), size)

    def grid(self, input_size: tuple[int, int]) -> Grid:
        return Grid.patches(input_size, self._patch * (self._merge if self._block is None else 1))

    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        images, m, side = len(pixels), self._merge, self._patch
        u, v = pixels.shape[2] // side, pixels.shape[3] // side
        cut = pixels.unflatten(3, (v // m, m, side)).unflatten(2, (u // m, m, side))
        cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)  # squares, patches in them, channels, pixels
        cut = cut.unsqueeze(6).expand(*cut.shape[:6], self._frames, side, side)
        visual = self.module.model.visual
        if self._block is not None:
            visual = self._up_to(self._block)
        found = visual(
            cut.reshape(images * u * v, -1), grid_thw=self._size(images, u, v, pixels.device)
        )
        rest = {
            _DEEP.format(i): found.deepstack_features[i].unflatten(0, (images, -1))
            for i in range(len(_deep(visual)))
        }
        if self._block is None:
            maps = found.pooler_output.unflatten(0, (images, u // m, v // m)).permute(0, 3, 1, 2)
        else:
            blocks = found.pooler_output.unflatten(0, (images, u // m, v // m))
            maps = blocks.unflatten(-1, (m, m, -1)).permute(0, 5, 1, 3, 2, 4)
            maps = maps.reshape(images, -1, u, v)
        return FeatureMaps(maps, rest)

    def image_tokens(self, features: FeatureMaps) -> Tensor:
        """The mergers' tokens; side by side where the language model has several (Qwen3-VL)."""
        deep = [features.rest[_DEEP.format(i)] for i in range(len(features.rest))]
        if self._block is None:
            return torch.cat([features.maps.flatten(2).transpose(1, 2), *deep], -1)
        images, m = len(features.maps), self._merge
        u, v = features.maps.shape[2:]
        blocks = features.maps.unflatten(3, (v // m, m)).unflatten(2, (u // m, m))
        tokens = blocks.permute(0, 2, 4, 3, 5, 1).flatten(0, 4)
        visual = self._from(self._block)
        found = visual(tokens, grid_thw=self._size(images, u, v, tokens.device))
        behind = [found.pooler_output, *(getattr(found, "deepstack_features", None) or ())]
        last, *others = (some.unflatten(0, (images, -1)) for some in behind)
        return torch.cat([last, *deep, *others], -1)

    def image_text(self, features: FeatureMaps) -> str:
        rows, columns = self._patches(features)
        return self._image * (rows * columns // self._merge**2)

    def _read(
        self, embedded: Tensor, where: Tensor, *, ids: Tensor, image: Tensor, features: FeatureMaps
    ) -> Tensor:
        position, _ = self.module.model.get_rope_index(
            ids,
            mm_token_type_ids=where.int(),
            image_grid_thw=self._size(len(ids), *self._patches(features), ids.device),
        )
        _, *deep = image.split(embedded.shape[2], -1)
        more = {}
        if deep:
            flat = [tokens.flatten(0, 1) for tokens in deep]
            more = {"visual_pos_masks": where, "deepstack_visual_embeds": flat}
        with outside_cnn():
            read: Tensor = self._language()(
                inputs_embeds=embedded, position_ids=position, use_cache=False, **more
            ).last_hidden_state
        return read

    def _encoder_output(self, image: Tensor) -> Any:
        last, *deep = image[0].split(self._text.hidden_size, -1)
        if not deep:
            return super()._encoder_output(image)
        tokens: Any = [last]
        more: Any = [[each] for each in deep]
        return BaseModelOutputWithDeepstackFeatures(pooler_output=tokens, deepstack_features=more)

    def _more_inputs(self, ids: Tensor, features: FeatureMaps) -> dict[str, Any]:
        return {
            "mm_token_type_ids": (ids == self._image_id).int(),
            "image_grid_thw": self._size(1, *self._patches(features), ids.device),
        }

    def _writer(self) -> Any:
        # It remembers the next positions, which must not stay in the user's model.
        return with_part(self.module, "model.visual", self.module.model.visual)

    def _patches(self, features: FeatureMaps) -> tuple[int, int]:
        """Rows and columns of patches."""
        each = self._merge if self._block is None else 1
        return features.maps.shape[2] * each, features.maps.shape[3] * each

    def _size(self, images: int, rows: int, columns: int, device: torch.device) -> Tensor:
        """Frames, rows and columns of so many photos of one size, (images, 3)."""
        return torch.tensor([[1, rows, columns]] * images, device=device)

    def _up_to(self, block: int) -> Any:
        """The vision transformer up to a block, whose output it leaves in the mergers' order."""
        visual = self.module.model.visual
        upper = nn.ModuleList(list(visual.blocks)[: block + 1])
        visual = with_part(visual, "blocks", upper)
        visual = with_part(visual, "merger", _Together(self._merge**2))
        return _with_deep(visual, [i for i in _deep(visual) if i < block], 0)

    def _from(self, block: int) -> Any:
        """The vision transformer behind a block, whose output it is given in the mergers' order."""
        visual = self.module.model.visual
        # In place of the block one that does nothing: a merger may read its output.
        lower = nn.ModuleList([_Same(), *list(visual.blocks)[block + 1 :]])
        visual = with_part(visual, "blocks", lower)
        visual = with_part(visual, "patch_embed", nn.Identity())
        if hasattr(visual, "pos_embed"):
            visual = with_part(visual, "pos_embed", _Nothing())
        if hasattr(visual, "fullatt_block_indexes"):
            visual.fullatt_block_indexes = [i - block for i in visual.fullatt_block_indexes]
        return _with_deep(visual, [i for i in _deep(visual) if i >= block], block)


def _deep(visual: Any) -> list[int]:
    """The blocks that have mergers of their own."""
    return list(getattr(visual, "deepstack_visual_indexes", ()))


def _with_deep(visual: Any, kept: list[int], first: int) -> Any:
    """The vision transformer with the mergers of the ``kept`` blocks alone, counted from block
    ``first``."""
    if not _deep(visual):
        return visual
    mergers = dict(zip(_deep(visual), visual.deepstack_merger_list, strict=True))
    left = nn.ModuleList(mergers[i] for i in kept)
    visual = with_part(visual, "deepstack_merger_list", left)
    visual.deepstack_visual_indexes = [i - first for i in kept]
    return visual


class _Together(nn.Module):
    """In place of a merger: what it would merge, side by side; (n, C) to (n / count, count C)."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(-1, self.count * tokens.shape[-1])


class _Same(nn.Module):
    """In place of a block: its input."""

    def forward(self, tokens: Tensor, **_: Any) -> Tensor:
        return tokens


class _Nothing(nn.Module):
    """In place of position embeddings, which were added in the first part."""

    def forward(self, places: Tensor) -> Tensor:
        return torch.zeros(*places.shape, 1, device=places.device)


def load(path: Path, layer: str | None = None) -> QwenVL:
    """A model from a folder that transformers' ``save_pretrained`` wrote (or a file in it).

    Without an image processor in the folder photos are prepared by the settings Qwen2-VL was
    published with, at the patch size of the vision transformer.

    Args:
        layer: see :class:`QwenVL`.

    Raises:
        ValueError: see :func:`vqa.models.chat.chat.load_parts` and :class:`QwenVL`.
    """
    read = ("patch_size", "merge_size", "temporal_patch_size")
    return QwenVL(load_parts(_KINDS, path, _default_processor, read=read), layer)


def _default_processor(module: Any) -> Any:
    vision = module.config.vision_config
    return Qwen2VLImageProcessor(
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
        temporal_patch_size=vision.temporal_patch_size,
    )
