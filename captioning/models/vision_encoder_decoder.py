"""Vision encoder and text decoder of transformers (``VisionEncoderDecoderModel``): ViT and GPT-2,
say, from a local folder.

The vision transformer's patch tokens at a layer are the feature maps. The decoder attends to the
encoder's whole output while it writes, sub-word by sub-word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import VisionEncoderDecoderModel, ViTImageProcessor
from transformers.modeling_outputs import BaseModelOutput

from captioning.language.captioner import TokenizedWord
from captioning.models.encoder_decoder import EncoderDecoder
from vlcam.adapters.adapter import FeatureMaps, Prompt
from vlcam.adapters.attention_flow import PHOTO, Flow, decoder_steps
from vlcam.adapters.pretrained import Pretrained, generate, plain
from vlcam.adapters.vision_encoders import image_size, only_size, vision_encoder


class VisionEncoderDecoder(EncoderDecoder):
    """A captioner of a vision encoder and a text decoder.

    A caption is read as the model's labels are made: as the tokenizer splits it, with the special
    tokens that it puts before a text, which are not explained.

    Args:
        parts: the model and all it needs.
        layer: a block of the encoder (``encoder.layers.11``; of Swin ``encoder.encoder.layers.3``,
            the last in that stage), whose output, before the final normalisation, is explained;
            None: the last.

    Raises:
        ValueError: there is no such layer, the encoder is of a kind that is not known, or the model
            does not say what its captions start with.
    """

    def __init__(self, parts: Pretrained, layer: str | None = None) -> None:
        module = parts.module
        vision = vision_encoder(parts.name, "encoder", module.encoder, layer)
        super().__init__(parts, vision, "vision-encoder-decoder", only_size(module.encoder))
        settings = module.generation_config
        starts = (module.config.decoder_start_token_id, settings.decoder_start_token_id)
        start = next(
            (token for token in (*starts, settings.bos_token_id) if token is not None), None
        )
        if start is None:
            raise ValueError(f"{parts.name}: its configuration has no decoder_start_token_id")
        self._start = start

    def attention_flow(self, prompt: Prompt) -> Flow:
        # Its own list: of an encoder and a decoder, a configuration's "layers" are the encoder's.
        layers = len(_blocks(self.module.decoder))
        return self.vision.flow(decoder_steps("caption", PHOTO, layers), "caption")

    def words(self, text: str) -> list[TokenizedWord]:
        """Words as the tokenizer splits them, behind the special tokens that it puts first.

        Raises:
            ValueError: the caption is longer than the model can read.
        """
        words = self.subwords.read(text)
        opening = self.subwords.opening() if words else []
        return self.checked("caption", [*opening, *words], _longest(self.module.decoder))

    def generate(self, features: FeatureMaps, beam: int = 1) -> list[TokenizedWord]:
        """The caption of transformers' ``generate``, under the model's own settings."""
        seen = BaseModelOutput(last_hidden_state=self.vision.finish(features))
        ends = self.module.generation_config.eos_token_id
        ids = generate(self.module, beam, start=1, ends=ends, encoder_outputs=seen)
        return self.subwords.written(ids)


def _blocks(decoder: Any) -> Any:
    """The decoder's blocks: its first list of modules."""
    return next(module for module in decoder.modules() if isinstance(module, nn.ModuleList))


def _longest(decoder: Any) -> int | None:
    """How many tokens a decoder reads at most."""
    most: int | None = getattr(decoder.config, "max_position_embeddings", None)
    embeddings = (getattr(module, "position_embeddings", None) for module in decoder.modules())
    padding = [getattr(own, "padding_idx", None) for own in embeddings]
    first = next((place for place in padding if place is not None), None)
    if most is None or first is None:
        return most
    return most - first - 1  # of RoBERTa, whose first places are of padding


def load(path: Path, layer: str | None = None) -> VisionEncoderDecoder:
    """A captioner from a folder that transformers' ``save_pretrained`` wrote (or a file in it).

    Never looks beyond the folder, never runs code of it.

    Raises:
        ValueError: a file is missing or damaged, weights are missing or left over, or the parts do
            not fit together; one line says which.
    """
    kind: Any = VisionEncoderDecoderModel
    parts = Pretrained.load(kind, path, plain(_default_processor), unused=("encoder.pooler.",))
    return VisionEncoderDecoder(parts, layer)


def _default_processor(module: Any) -> Any:
    height, width = image_size(module.encoder)
    return ViTImageProcessor(size={"height": height, "width": width})
