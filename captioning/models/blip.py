"""BLIP captioning models of transformers (Li et al., 2022), from a local folder.

The vision transformer's patch tokens are the feature maps, laid out in the grid of their patches;
its class token passes the layer beside them. The text decoder attends to all tokens while it writes
sub-word by sub-word: a word's score is the sum of its tokens' log-probabilities.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BlipForConditionalGeneration

from captioning.language.captioner import Captioner, TokenizedWord
from vlcam.adapters.adapter import FeatureMaps, Prompt
from vlcam.adapters.attention_flow import PHOTO, Flow, decoder_steps
from vlcam.adapters.pretrained import Pretrained, PretrainedAdapter, generate, plain
from vlcam.adapters.vision_encoders import blip_processor, blip_vision, only_size
from vlcam.attribution.backward_rules import outside_cnn


class BlipCaptioner(PretrainedAdapter, Captioner):
    """A BLIP captioner.

    Args:
        parts: the model and all it needs; its tokenizer is WordPiece.
        layer: ``vision_model.encoder.layers.N``, whose output (before the final normalisation) is
            explained; None: the last.
        prompt: how every caption that the model writes begins ("a photo of").

    Raises:
        ValueError: there is no such layer.
    """

    def __init__(self, parts: Pretrained, layer: str | None = None, prompt: str = "") -> None:
        module = parts.module
        vision = blip_vision(parts.name, module.vision_model, layer)
        super().__init__(parts, vision, "blip", only_size(module.vision_model))
        self.prompt = prompt
        self._text = module.config.text_config

    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        start = torch.full_like(tokens[:, :1], self._text.bos_token_id)
        image = self.vision.finish(features)
        with outside_cnn():
            hidden: Tensor = self.module.text_decoder.bert(
                input_ids=torch.cat([start, tokens[:, :-1]], 1),
                encoder_hidden_states=image,
                is_decoder=True,  # each step sees those before it alone, so padding needs no mask
                use_cache=False,
            ).last_hidden_state
        return hidden

    def log_probabilities(self, states: Tensor) -> Tensor:
        with outside_cnn():
            return super().log_probabilities(self.module.text_decoder.cls(states))

    def attention_flow(self, prompt: Prompt) -> Flow:
        layers = self._text.num_hidden_layers
        return self.vision.flow(decoder_steps("caption", PHOTO, layers), "caption")

    def words(self, text: str) -> list[TokenizedWord]:
        """Words as the tokenizer splits them (punctuation is a word), written as in the text.

        Raises:
            ValueError: the caption is longer than the model can read.
        """
        most = self._text.max_position_embeddings
        return self.checked("caption", self.subwords.read(text), most)

    def generate(self, features: FeatureMaps, beam: int = 1) -> list[TokenizedWord]:
        """The caption of transformers' ``generate``, under the model's own settings."""
        prompt = [token for word in self.words(self.prompt) for token in word.tokens]
        image = self.vision.finish(features)
        start = torch.tensor([[self._text.bos_token_id, *prompt]], device=image.device)
        ids = generate(
            self.module.text_decoder,
            beam,
            start=1,
            ends=self._text.sep_token_id,
            input_ids=start,
            attention_mask=torch.ones_like(start),
            encoder_hidden_states=image,
            encoder_attention_mask=torch.ones(image.shape[:2], device=image.device).long(),
            eos_token_id=self._text.sep_token_id,
            pad_token_id=self._text.pad_token_id,
        )
        return self.subwords.written(ids)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"prompt": self.prompt}


def load(path: Path, layer: str | None = None, prompt: str = "") -> BlipCaptioner:
    """A captioner from a folder that transformers' ``save_pretrained`` wrote (or a file in it).

    Never looks beyond the folder, never runs code of it.

    Args:
        layer, prompt: see :class:`BlipCaptioner`.

    Raises:
        ValueError: a file is missing or damaged, weights are missing or left over, or the
            tokenizer does not fit; one line says which.
    """
    kind: Any = BlipForConditionalGeneration
    parts = Pretrained.load(kind, path, plain(blip_processor))
    return BlipCaptioner(parts, layer, prompt)
