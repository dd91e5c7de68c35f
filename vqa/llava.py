"""LLaVA models of transformers (Liu et al., 2023), from a local folder.

A CLIP or SigLIP vision tower looks at the photo, a projector of two layers makes a language model's
tokens of its patches, one of each. It reads the patches as an inner block of the tower left them
(``vision_feature_layer``), the last but one most often: the blocks behind that have no gradient.
Several such layers stand side by side where the model was made so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, LlavaForConditionalGeneration, SiglipImageProcessor

from vlcam.adapter import FeatureMaps, Prompt
from vlcam.geometry import Grid, Placement
from vlcam.patches import in_line, laid_out
from vqa.chat import DESCRIBE, LONGEST, ChatModel, Parts, load_parts

_TOWERS = ("clip_vision_model", "siglip_vision_model")

_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    "{% for part in message['content'] %}"
    "{{ 'IMAGE\n' if part['type'] == 'image' else part['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""How LLaVA 1.5 is asked: USER: (photo, newline, question) ASSISTANT:"""


class Llava(ChatModel):
    """A LLaVA model.

    Args:
        parts: the model.
        layer: ``model.vision_tower.encoder.layers.N`` or ``model.multi_modal_projector``; None: the
            last block that the projector reads.
        ask, longest: see :class:`ChatModel`.

    Raises:
        ValueError: there is no such layer, or it has no gradient; the vision tower is of another
            kind or takes photos of another size than the processor makes.
    """

    def __init__(
        self, parts: Parts, layer: str | None = None, ask: str = DESCRIBE, longest: int = LONGEST
    ) -> None:
        super().__init__(parts, ask, longest)
        config = self.module.config
        if config.vision_config.model_type not in _TOWERS:
            raise ValueError(
                f"{self.name}: its vision tower is a {config.vision_config.model_type}; known:"
                f" {', '.join(_TOWERS)}"
            )
        tower = self.module.model.vision_tower
        self._tower = getattr(tower, "vision_model", tower)
        blocks = self._tower.encoder.layers
        self._selected = _selected(self.name, config.vision_feature_layer, len(blocks))
        # The class token is no patch; nor has the processor a place for what is dropped.
        self._others = int(hasattr(self._tower.embeddings, "class_embedding"))
        self._dropped = int(config.vision_feature_select_strategy == "default")
        path = next(name for name, m in self.module.named_modules() if m is blocks)
        names = [f"{path}.{i}" for i in range(max(self._selected))]
        self.layer = layer or (names[-1] if names else _PROJECTOR)
        known = [*names, _PROJECTOR] if self._dropped <= self._others else names
        if self.layer not in known:
            among = f"{names[0]} ... {names[-1]}, " if names else ""
            raise ValueError(
                f"{self.name}: no layer {layer!r} with a gradient at its patches; known:"
                f" {among}{_PROJECTOR if _PROJECTOR in known else ''}".rstrip(" ,")
            )
        self._before = len(names) if self.layer == _PROJECTOR else names.index(self.layer) + 1
        self._patch: int = config.vision_config.patch_size
        made, side = (
            self.prepare(Image.new("RGB", (64, 48)))[0].shape,
            config.vision_config.image_size,
        )
        if made != (3, side, side):
            raise ValueError(
                f"{self.name}: the processor makes photos of {made[2]} x {made[1]} pixels, the"
                f" vision tower takes {side} x {side}"
            )

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        """As the model's own image processor."""
        pixels = self._processed(photo)["pixel_values"][0]
        placement = placed(self._parts.processor, (photo.height, photo.width))
        if pixels.shape[1:] != placement.input_size:
            raise ValueError(
                f"{self.name}: {type(self._parts.processor).__name__} makes pixels"
                f" {tuple(pixels.shape)}, not those of one whole photo"
            )
        return pixels, placement

    def grid(self, input_size: tuple[int, int]) -> Grid:
        return Grid.patches(input_size, self._patch)

    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        tokens = self._tower.embeddings(pixels)
        if hasattr(self._tower, "pre_layrnorm"):  # sic
            tokens = self._tower.pre_layrnorm(tokens)
        states = self._walk({0: tokens}, self._before)
        size = (pixels.shape[2] // self._patch, pixels.shape[3] // self._patch)
        if self.layer == _PROJECTOR:
            return laid_out(self._project(states), size, self._others - self._dropped)
        features = laid_out(states.pop(self._before), size, self._others)
        rest = {_STATE.format(i): states[i] for i in states if i in self._selected}
        return FeatureMaps(features.maps, {**features.rest, **rest})

    def image_tokens(self, features: FeatureMaps) -> Tensor:
        if self.layer == _PROJECTOR:
            return in_line(features)
        states = {self._before: in_line(features)}
        for i in self._selected:
            if i < self._before:
                states[i] = features.rest[_STATE.format(i)]
        return self._project(self._walk(states, max(self._selected)))

    def image_text(self, features: FeatureMaps) -> str:
        patches = features.maps.shape[2] * features.maps.shape[3]
        return self._image * (patches + self._others - self._dropped)

    def _walk(self, states: dict[int, Tensor], last: int) -> dict[int, Tensor]:
        """What lies before each block, by its number, from the furthest known up to ``last``."""
        states = dict(states)
        for i in range(max(states), last):
            states[i + 1] = self._tower.encoder.layers[i](states[i], attention_mask=None)
        return states

    def _project(self, states: dict[int, Tensor]) -> Tensor:
        read = torch.cat([states[i][:, self._dropped :] for i in self._selected], -1)
        projected: Tensor = self.module.model.multi_modal_projector(read)
        return projected


_PROJECTOR = "model.multi_modal_projector"
_STATE = "behind {} blocks"


def _selected(name: str, layers: int | Sequence[int], blocks: int) -> list[int]:
    """How many blocks lie before each of the states that the projector reads.

    Raises:
        ValueError: there are not as many blocks.
    """
    chosen = [layers] if isinstance(layers, int) else list(layers)
    if not chosen or any(not -blocks - 1 <= i <= blocks for i in chosen):
        raise ValueError(f"{name}: vision_feature_layer {layers} of {blocks} blocks")
    return [i % (blocks + 1) for i in chosen]


def placed(processor: Any, photo_size: tuple[int, int]) -> Placement:
    """Where an image processor of CLIP's kind lays a photo of (height, width): it may pad it to a
    square, resize it and cut out the centre.

    Raises:
        ValueError: it resizes in another way.
    """
    size, padding = photo_size, (0, 0)
    if getattr(processor, "do_pad", False) and hasattr(processor, "pad_to_square"):
        side = max(size)
        padding = ((side - size[0]) // 2, (side - size[1]) // 2)
        size = (side, side)
    resized, wanted = size, processor.size
    if processor.do_resize and wanted.height and wanted.width:
        resized = (wanted.height, wanted.width)
    elif processor.do_resize and wanted.shortest_edge and not wanted.longest_edge:
        shorter = wanted.shortest_edge
        longer = int(shorter * max(size) / min(size))
        resized = (shorter, longer) if size[0] <= size[1] else (longer, shorter)
    elif processor.do_resize:
        raise ValueError(f"{type(processor).__name__}: no way to place a photo of size {wanted}")
    kept, corner = resized, (0, 0)
    if processor.do_center_crop:
        kept = (processor.crop_size.height, processor.crop_size.width)
        corner = (int((resized[0] - kept[0]) / 2), int((resized[1] - kept[1]) / 2))
    scale = (resized[0] / size[0], resized[1] / size[1])
    y, x = (scale[a] * (padding[a] + 0.5) - 0.5 - corner[a] for a in (0, 1))
    return Placement(photo_size, kept, scale, (y, x))


def _default_processor(module: Any) -> Any:
    """Of the kind that the vision tower was trained with, for its size."""
    side = module.config.vision_config.image_size
    square = {"height": side, "width": side}
    if module.config.vision_config.model_type == "siglip_vision_model":
        return SiglipImageProcessor(size=square)
    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size=square)


def _default_template(module: Any, tokenizer: Any) -> str:
    image = tokenizer.convert_ids_to_tokens(module.config.image_token_id)
    return _TEMPLATE.replace("IMAGE", image or "")


def load(path: Path, layer: str | None = None) -> Llava:
    """A model from a folder that transformers' ``save_pretrained`` wrote (or a file in it).

    A folder without a chat template is asked as LLaVA 1.5 is; one without an image processor is
    shown photos as CLIP (or SigLIP) is, at the size of its vision tower.

    Args:
        layer: see :class:`Llava`.

    Raises:
        ValueError: see :func:`vqa.chat.load_parts` and :class:`Llava`.
    """
    kind: Any = LlavaForConditionalGeneration
    return Llava(load_parts({"llava": kind}, path, _default_processor, _default_template), layer)
