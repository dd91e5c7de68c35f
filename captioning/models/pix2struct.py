"""Pix2Struct captioning of transformers (Lee et al., ICML 2023), from a local folder.

A photo keeps its shape: it is resized to at most as many patches as the model reads. The patches'
tokens at a layer are the feature maps; a T5-like decoder writes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import Pix2StructForConditionalGeneration, Pix2StructImageProcessor
from transformers.modeling_outputs import BaseModelOutput

from captioning.language.captioner import TokenizedWord
from captioning.models.encoder_decoder import EncoderDecoder
from vlcam.adapters.adapter import FeatureMaps
from vlcam.adapters.image_processor import image_processor
from vlcam.adapters.pretrained import Pretrained, generate
from vlcam.adapters.vision_transformer import VisionTransformer, blocks
from vlcam.geometry.grid import Placement


class Pix2Struct(EncoderDecoder):
    """A Pix2Struct captioner.

    Args:
        parts: the model and all it needs.
        layer: ``encoder.encoder.layer.N``, whose output, before the final normalisation, is
            explained; None: the last.

    Raises:
        ValueError: there is no such layer, or it is a VQA model: those read the question off the
            photo, where a font that is not theirs wrote it.
    """

    def __init__(self, parts: Pretrained, layer: str | None = None) -> None:
        module, processor = parts.module, parts.processor.processor
        if module.config.is_vqa or processor.is_vqa:
            raise ValueError(
                f"{parts.name}: it reads questions off the photo, drawn there with a font that is"
                " not in its folder; only Pix2Struct captioners are known here"
            )
        encoder = module.encoder
        patch = (processor.patch_size["height"], processor.patch_size["width"])
        _check(parts.name, processor, encoder.embeddings)
        vision = VisionTransformer(
            parts.name,
            _Embed(encoder.embeddings, patch),
            blocks("encoder.encoder.layer", encoder.encoder.layer),
            encoder.layernorm,
            patch=patch,
            others=0,
            layer=layer,
        )
        super().__init__(parts, vision, "pix2struct", None)
        settings = module.generation_config
        start = settings.decoder_start_token_id
        self._start = settings.pad_token_id if start is None else start

    def words(self, text: str) -> list[TokenizedWord]:
        return self.subwords.read(text)  # places are relative: no text is too long

    def generate(self, features: FeatureMaps, beam: int = 1) -> list[TokenizedWord]:
        """The caption of transformers' ``generate``, under the model's own settings."""
        seen = self.vision.finish(features)
        ids = generate(
            self.module,
            beam,
            start=1,
            ends=self.module.generation_config.eos_token_id,
            encoder_outputs=BaseModelOutput(last_hidden_state=seen),
            attention_mask=torch.ones(seen.shape[:2], device=seen.device),
        )
        return self.subwords.written(ids)


class Pix2StructProcessor:
    """From a photo to its pixels, as an image processor of Pix2Struct resizes and normalises it.

    The image processor gives a padded sequence of patches; here they lie as in the photo.
    """

    size = None  # depends on the photo

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        found = self.processor(images=photo, return_tensors="pt")
        patches = found.flattened_patches[0].float()
        patches = patches[patches[:, 0] > 0]  # the first two numbers: row and column, from 1
        rows, columns = (int(patches[:, axis].max()) for axis in (0, 1))
        patch = self.processor.patch_size
        height, width = patch["height"], patch["width"]
        pixels = patches[:, 2:].reshape(rows, columns, height, width, 3)
        pixels = pixels.permute(4, 0, 2, 1, 3).reshape(3, rows * height, columns * width)
        resized = (rows * height, columns * width)
        return pixels.contiguous(), Placement.resized((photo.height, photo.width), resized)


class _Embed(torch.nn.Module):
    """The patches' tokens (B, u v, K) of pixels."""

    def __init__(self, embeddings: Any, patch: tuple[int, int]) -> None:
        super().__init__()
        self.embeddings, self.patch = embeddings, patch

    def forward(self, pixels: Tensor) -> Tensor:
        height, width = self.patch
        cut = pixels.unflatten(3, (-1, width)).unflatten(2, (-1, height))  # B 3 u h v w
        patches = cut.permute(0, 2, 4, 3, 5, 1).flatten(3)  # B u v (h w 3)
        rows, columns = (
            torch.arange(1, patches.shape[axis] + 1, device=pixels.device) for axis in (1, 2)
        )
        most = self.embeddings.row_embedder.num_embeddings - 1
        if max(patches.shape[1:3]) > most:
            raise ValueError(
                f"the photo makes {patches.shape[1]} x {patches.shape[2]} patches (max_patches in"
                f" preprocessor_config.json); the model has places for {most} in a line"
            )
        tokens = self.embeddings.patch_projection(patches)
        places = self.embeddings.row_embedder(rows)[:, None] + self.embeddings.column_embedder(
            columns
        )
        found: Tensor = (tokens + places).flatten(1, 2)
        return found


def _check(name: str, processor: Any, embeddings: Any) -> None:
    """Raises ValueError where the image processor makes other patches than the model reads."""
    height, width = processor.patch_size["height"], processor.patch_size["width"]
    reads = embeddings.patch_projection.in_features
    if 3 * height * width != reads:
        raise ValueError(
            f"{name}: its image processor (preprocessor_config.json) makes patches of {height} x"
            f" {width} pixels, {3 * height * width} numbers each; the model reads {reads}"
        )


def load(path: Path, layer: str | None = None) -> Pix2Struct:
    """A captioner from a folder that transformers' ``save_pretrained`` wrote (or a file in it).

    Never looks beyond the folder, never runs code of it.

    Raises:
        ValueError: a file is missing or damaged, weights are missing or left over, or the parts do
            not fit together; one line says which.
    """
    kind: Any = Pix2StructForConditionalGeneration
    return Pix2Struct(Pretrained.load(kind, path, _processor), layer)


def _processor(folder: Path, module: Any) -> Pix2StructProcessor:
    return Pix2StructProcessor(image_processor(folder, _default_processor(module)))


def _default_processor(module: Any) -> Any:
    """Patches as the model reads them; as many as transformers takes, where it has the places."""
    processor: Any = Pix2StructImageProcessor()
    side = math.isqrt(module.encoder.embeddings.patch_projection.in_features // 3)
    processor.patch_size = {"height": side, "width": side}
    most = module.encoder.embeddings.row_embedder.num_embeddings - 1
    processor.max_patches = min(processor.max_patches, most)
    return processor
