"""ViLT question answering of transformers (Kim et al., ICML 2021), from a local folder.

One transformer reads the question's tokens and the photo's patches together, so the feature maps
(the patch tokens behind a layer, in the grid of their patches) depend on the question. transformers
shuffles the patches in every call; here they keep their order, which makes no difference to the
scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import (
    ViltForQuestionAnswering,
    ViltImageProcessor,
    ViltImageProcessorPil,
)

from vlcam.adapters.adapter import FeatureMaps, Prompt, Question
from vlcam.adapters.attention_flow import PHOTO, Flow
from vlcam.adapters.image_processor import assumed, image_processor
from vlcam.adapters.vision_transformer import with_gradient
from vlcam.formats.folders.files import model_name
from vlcam.formats.pretrained import about, load_pretrained, save_pretrained
from vlcam.geometry.grid import Grid, Placement
from vqa.answering.answerer import Answerer
from vqa.answering.tokenized import understand


class ViltAnswerer(Answerer):
    """A ViLT VQA model.

    Args:
        module: the model.
        tokenizer: its WordPiece tokenizer.
        processor: its image processor, of transformers.
        name: as results carry it.
        layer: ``vilt.encoder.layer.N``, whose patch tokens are explained; None: the last but one.
            Behind the last one the answer is read off the question's first token alone, so the
            patches there have no gradient.
        assumed: what no file says of how photos are prepared.

    Raises:
        ValueError: there is no such layer, or it has no gradient; the model is shown a random part
            of the patches.
    """

    module: Any  # a ViltForQuestionAnswering; transformers' own annotations do not follow it
    encode_reads_prompt = True

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        processor: Any,
        *,
        name: str,
        layer: str | None = None,
        assumed: Sequence[str] = (),
    ) -> None:
        self.name, self.module = name, module
        self.layers = [f"vilt.encoder.layer.{i}" for i in range(len(module.vilt.encoder.layer) - 1)]
        self.cut_at(layer)
        if (module.config.max_image_length or -1) > 0:
            most = module.config.max_image_length
            raise ValueError(f"{name}: it looks at {most} random patches (max_image_length)")
        self._assumed = assumed
        labels = module.config.id2label
        self.answers = tuple(labels[i] for i in range(len(labels)))
        self._tokenizer = tokenizer
        self._processor = processor
        self._patch = module.config.patch_size

    def cut_at(self, layer: str | None) -> None:
        self.layer = with_gradient(self.name, self.layers, layer)
        self._before = self.layers.index(self.layer) + 1

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        """The photo's shorter side becomes 384 pixels, both sides multiples of 32."""
        pixels: Tensor = self._processor(images=photo, return_tensors="pt").pixel_values[0].float()
        size = (pixels.shape[1], pixels.shape[2])
        return pixels, Placement.resized((photo.height, photo.width), size)

    def understand(self, question: str) -> Question:
        """As :func:`vqa.answering.tokenized.understand`."""
        most = self.module.config.max_position_embeddings
        return understand(self._tokenizer, question, most=most, name=self.name)

    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        assert prompts is not None
        vilt = self.module.vilt
        device = pixels.device
        longest = max(len(p) for p in prompts)  # type: ignore[arg-type]
        ids = torch.zeros(len(prompts), longest, dtype=torch.long, device=device)
        mask = pixels.new_zeros(ids.shape)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)  # type: ignore[arg-type]
            mask[row, : len(prompt)] = 1  # type: ignore[arg-type]
        types = vilt.embeddings.token_type_embeddings.weight
        text = vilt.embeddings.text_embeddings(input_ids=ids) + types[0]
        image = self._embed(pixels) + types[1]
        tokens = torch.cat([text, image], 1)
        for layer in vilt.encoder.layer[: self._before]:
            tokens = layer(tokens, _attention(mask, tokens))[0]
        u, v = (side // self._patch for side in pixels.shape[2:])
        maps = tokens[:, longest + 1 :].transpose(1, 2).unflatten(2, (u, v))
        return FeatureMaps(maps, {"others": tokens[:, : longest + 1], "mask": mask})

    def _embed(self, pixels: Tensor) -> Tensor:
        """The class token and the patches (B, 1 + u v, K) with the embeddings of their places."""
        embeddings = self.module.vilt.embeddings
        patches = embeddings.patch_embeddings(pixels)
        side = self.module.config.image_size // self._patch
        first, grid = embeddings.position_embeddings.split([1, side * side], 1)
        places = functional.interpolate(
            grid.transpose(1, 2).unflatten(2, (side, side)),
            size=patches.shape[2:],
            mode="bilinear",
            align_corners=True,
        )
        start = (embeddings.cls_token + first).expand(len(pixels), -1, -1)
        return torch.cat([start, (patches + places).flatten(2).transpose(1, 2)], 1)

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        """Logits (N, answers)."""
        vilt = self.module.vilt
        patches = features.maps.flatten(2).transpose(1, 2)
        tokens = torch.cat([features.rest["others"], patches], 1)
        for layer in vilt.encoder.layer[self._before :]:
            tokens = layer(tokens, _attention(features.rest["mask"], tokens))[0]
        logits: Tensor = self.module.classifier(vilt.pooler(vilt.layernorm(tokens)))
        return logits

    def attention_flow(self, prompt: Prompt) -> Flow:
        """One stream: the question's tokens, a class token, the patches. The answer is read off the
        first token."""
        layers = (((PHOTO, PHOTO),),) * len(self.module.vilt.encoder.layer)
        return Flow(layers, row=lambda _: 0, first=len(prompt) + 1)  # type: ignore[arg-type]

    def grid(self, input_size: tuple[int, int]) -> Grid:
        return Grid.patches(input_size, self._patch)

    def save(self, folder: Path) -> None:
        """As transformers' ``save_pretrained`` of the model, its tokenizer and its processor."""
        save_pretrained(folder, self.module, self._tokenizer, self._processor)

    def describe(self) -> dict[str, Any]:
        return {
            "family": "vilt",
            **about(self.module),
            "assumed as published": list(self._assumed),
        }


def _attention(mask: Tensor, tokens: Tensor) -> Tensor:
    """What is added to attention scores, (B, 1, 1, L), so that no token attends to a question's
    padding.

    Args:
        mask: (B, questions' tokens), 0 at padding, else 1.
        tokens: (B, L, K), questions' and all others.
    """
    seen = functional.pad(mask, (0, tokens.shape[1] - mask.shape[1]), value=1.0)
    return ((1 - seen) * torch.finfo(tokens.dtype).min)[:, None, None]


def load(path: Path, layer: str | None = None) -> ViltAnswerer:
    """A VQA model from a folder that transformers' ``save_pretrained`` wrote (or a file in it).

    Raises:
        ValueError: a file is missing or damaged, weights are missing or left over, or the
            tokenizer does not fit; one line says which.
    """
    folder = path if path.is_dir() else path.parent
    kind: Any = ViltForQuestionAnswering
    module, tokenizer = load_pretrained(kind, folder)
    processor = _processor(folder)
    name = model_name(folder)
    return ViltAnswerer(
        module, tokenizer, processor, name=name, layer=layer, assumed=assumed(folder, processor)
    )


def _processor(folder: Path) -> Any:
    """The folder's image processor, or ViLT's own where it has none.

    Raises:
        ValueError: the folder's settings are damaged, or those of another kind of processor.
    """
    default = ViltImageProcessor()
    try:
        found = image_processor(folder, default)
    except ValueError as error:
        raise ValueError(f"{folder}: image processor: {error}") from error
    if not isinstance(found, ViltImageProcessor | ViltImageProcessorPil):
        raise ValueError(f"{folder}: {type(found).__name__} is no image processor of ViLT's")
    return found
