"""LLaVA models of transformers (Liu et al., 2023), from a local folder.

A CLIP or SigLIP vision tower encodes the photo, a projector of two layers makes one token of the
language model of each patch. It reads the patches behind an inner block of the tower
(``vision_feature_layer``), the last but one most often: the blocks behind that have no gradient. Of
some models it reads several such layers side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import LlavaForConditionalGeneration, SiglipImageProcessor

from vlcam.adapters.adapter import FeatureMaps, Prompt
from vlcam.adapters.image_processor import ImageProcessor
from vlcam.adapters.vision_encoders import clip_processor
from vlcam.adapters.vision_transformer import in_line, laid_out
from vlcam.geometry.grid import Grid, Placement
from vqa.models.chat.chat import DESCRIBE, LONGEST, ChatModel, Parts, load_parts

_TOWERS = ("clip_vision_model", "siglip_vision_model")
_PROJECTOR = "model.multi_modal_projector"
_STATE = "behind {} blocks"  # of the tokens there, in FeatureMaps.rest

_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    "{% for part in message['content'] %}"
    "{{ 'IMAGE\n' if part['type'] == 'image' else part['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""LLaVA 1.5's prompt: USER: (photo, newline, question) ASSISTANT:"""


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
        # Tokens before the patches' (a class token), and how many of them the projector drops.
        self._others = int(hasattr(self._tower.embeddings, "class_embedding"))
        self._dropped = int(config.vision_feature_select_strategy == "default")
        path = next(name for name, m in self.module.named_modules() if m is blocks)
        self.layers = [f"{path}.{i}" for i in range(max(self._selected))]
        self.cut_at(layer)
        self._patch: int = config.vision_config.patch_size
        try:
            self._processor = ImageProcessor(parts.processor)
            made = self._processor.size
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error
        side = config.vision_config.image_size
        if made != (side, side):
            found = f"of {made[1]} x {made[0]} pixels" if made else "of many sizes"
            raise ValueError(
                f"{self.name}: the processor makes photos {found}, the vision tower takes {side} x"
                f" {side}"
            )

    def cut_at(self, layer: str | None) -> None:
        names = self.layers
        self.layer = layer or (names[-1] if names else _PROJECTOR)
        known = [*names, _PROJECTOR] if self._dropped <= self._others else names
        if self.layer not in known:
            among = f"{names[0]} ... {names[-1]}, " if names else ""
            raise ValueError(
                f"{self.name}: no layer {layer!r} with a gradient at its patches; known:"
                f" {among}{_PROJECTOR if _PROJECTOR in known else ''}".rstrip(" ,")
            )
        self._before = len(names) if self.layer == _PROJECTOR else names.index(self.layer) + 1

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        """As the model's own image processor."""
        return self._processor(photo)

    def grid(self, input_size: tuple[int, int]) -> Grid:
        return Grid.patches(input_size, self._patch)

    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        tokens = self._tower.embeddings(pixels)
        if hasattr(self._tower, "pre_layrnorm"):  # sic
            tokens = self._tower.pre_layrnorm(tokens)
        states = self._run_blocks({0: tokens}, self._before)
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
        return self._project(self._run_blocks(states, max(self._selected)))

    def image_text(self, features: FeatureMaps) -> str:
        patches = features.maps.shape[2] * features.maps.shape[3]
        return self._image * (patches + self._others - self._dropped)

    def _run_blocks(self, states: dict[int, Tensor], last: int) -> dict[int, Tensor]:
        """Tokens before each block, by its number: those given, and from the last of them on up to
        ``last``."""
        states = dict(states)
        for i in range(max(states), last):
            states[i + 1] = self._tower.encoder.layers[i](states[i], attention_mask=None)
        return states

    def _project(self, states: dict[int, Tensor]) -> Tensor:
        """The language model's tokens (N, tokens, H)."""
        read = torch.cat([states[i][:, self._dropped :] for i in self._selected], -1)
        projected: Tensor = self.module.model.multi_modal_projector(read)
        return projected


def _selected(name: str, layers: int | Sequence[int], blocks: int) -> list[int]:
    """How many blocks lie before each of the states that the projector reads.

    Raises:
        ValueError: there are fewer blocks.
    """
    chosen = [layers] if isinstance(layers, int) else list(layers)
    if not chosen or any(not -blocks - 1 <= i <= blocks for i in chosen):
        raise ValueError(f"{name}: vision_feature_layer {layers} of {blocks} blocks")
    return [i % (blocks + 1) for i in chosen]


def _default_processor(module: Any) -> Any:
    """The processor that such a vision tower was trained with, for its size."""
    vision = module.config.vision_config
    if vision.model_type == "siglip_vision_model":
        return SiglipImageProcessor(size={"height": vision.image_size, "width": vision.image_size})
    return clip_processor(module)


def _default_template(module: Any, tokenizer: Any) -> str:
    image = tokenizer.convert_ids_to_tokens(module.config.image_token_id)
    return _TEMPLATE.replace("IMAGE", image or "")


def load(path: Path, layer: str | None = None) -> Llava:
    """A model from a folder that transformers' ``save_pretrained`` wrote (or a file in it).

    Without a chat template in the folder the prompt is LLaVA 1.5's; without an image processor
    photos are prepared as for CLIP (or SigLIP), at the size of the vision tower.

    Args:
        layer: see :class:`Llava`.

    Raises:
        ValueError: see :func:`vqa.models.chat.chat.load_parts` and :class:`Llava`.
    """
    kind: Any = LlavaForConditionalGeneration
    parts = load_parts(
        {"llava": kind}, path, _default_processor, default_template=_default_template
    )
    return Llava(parts, layer)
