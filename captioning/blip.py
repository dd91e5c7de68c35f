"""BLIP captioning models of transformers (Li et al., 2022), from a local folder.

The vision transformer's patch tokens are the feature maps, laid out in the grid of their patches;
its class token passes the layer beside them. The text decoder looks at all tokens while it writes,
sub-word by sub-word: a word's score is the sum of its tokens' log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers import BlipForConditionalGeneration

from captioning.captioner import Captioner, CaptionWord
from vlcam.adapter import FeatureMaps, Prompt
from vlcam.blip_vision import MEAN, STD, blip_vision
from vlcam.geometry import Grid, Placement
from vlcam.preprocess import Preprocess
from vlcam.pretrained import image_settings, load_pretrained, preprocess
from vlcam.rules import outside_cnn
from vlcam.subwords import Subwords

_LONGEST = 20  # new tokens, transformers' default, for models whose settings do not say


class BlipCaptioner(Captioner):
    """A BLIP captioner.

    Args:
        module: the model.
        tokenizer: its WordPiece tokenizer.
        preprocess: from a photo to its pixels.
        name: as results carry it.
        layer: ``vision_model.encoder.layers.N``, whose output (before the final normalisation) is
            explained; None: the last.
        prompt: how every caption that the model writes begins ("a photo of").

    Raises:
        ValueError: there is no such layer.
    """

    module: Any  # a BlipForConditionalGeneration; transformers' own annotations do not follow it

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        preprocess: Preprocess,
        name: str,
        layer: str | None = None,
        prompt: str = "",
    ) -> None:
        self._vision = blip_vision(name, module.vision_model, layer)
        self.layer = self._vision.layer
        self.name = name
        self.module = module
        self.prompt = prompt
        self.tokenizer = tokenizer
        self._subwords = Subwords(tokenizer)
        self._preprocess = preprocess
        self._text = module.config.text_config

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        return self._preprocess(photo)

    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        return self._vision.encode(pixels)

    def grid(self, input_size: tuple[int, int]) -> Grid:
        return self._vision.grid(input_size)

    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        start = torch.full_like(tokens[:, :1], self._text.bos_token_id)
        image = self._vision.finish(features)
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

    def words(self, text: str) -> list[CaptionWord]:
        """Words as the tokenizer splits them (punctuation is a word), written as in the text.

        Raises:
            ValueError: the caption is longer than the model can read.
        """
        words = self._subwords.read(text)
        length = sum(len(word.tokens) for word in words)
        most = self._text.max_position_embeddings
        if length > most:
            raise ValueError(f"the caption has {length} tokens; {self.name} reads at most {most}")
        return words

    def generate(self, features: FeatureMaps, beam: int = 1) -> list[CaptionWord]:
        """What transformers' ``generate`` of the model gives, under the model's own settings."""
        prompt = [token for word in self.words(self.prompt) for token in word.tokens]
        image = self._vision.finish(features)
        start = torch.tensor([[self._text.bos_token_id, *prompt]], device=image.device)
        settings = self.module.text_decoder.generation_config
        limited = settings.max_new_tokens or settings.max_length
        written = self.module.text_decoder.generate(
            input_ids=start,
            attention_mask=torch.ones_like(start),
            encoder_hidden_states=image,
            encoder_attention_mask=torch.ones(image.shape[:2], device=image.device).long(),
            eos_token_id=self._text.sep_token_id,
            pad_token_id=self._text.pad_token_id,
            num_beams=beam,
            do_sample=False,
            **({} if limited else {"max_new_tokens": _LONGEST}),
        )
        ids: list[int] = written[0, 1:].tolist()
        if self._text.sep_token_id in ids:
            ids = ids[: ids.index(self._text.sep_token_id)]
        return self._subwords.written(ids)

    def describe(self) -> dict[str, Any]:
        return {"family": "blip", "transformers": transformers.__version__, "prompt": self.prompt}


def load(path: Path, layer: str | None = None, prompt: str = "") -> BlipCaptioner:
    """A captioner from a folder that transformers' ``save_pretrained`` wrote (or a file in it).

    Never looks beyond the folder, never runs code of it.

    Args:
        layer, prompt: see :class:`BlipCaptioner`.

    Raises:
        ValueError: a file is missing or damaged, weights are missing or left over, or the
            tokenizer does not fit; one line says which.
    """
    folder = path if path.is_dir() else path.parent
    kind: Any = BlipForConditionalGeneration
    module, tokenizer = load_pretrained(kind, folder)
    if type(tokenizer.backend_tokenizer.model).__name__ != "WordPiece":
        raise ValueError(f"{folder}: the tokenizer is not WordPiece, as BLIP's are")
    side = module.config.vision_config.image_size
    name = folder.resolve().name
    how = preprocess(image_settings(folder), (side, side), MEAN, STD)
    return BlipCaptioner(module, tokenizer, how, name, layer, prompt)
