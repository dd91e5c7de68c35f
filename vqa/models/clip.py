"""CLIP of transformers (Radford et al., ICML 2021), from a local folder: texts that fit a photo.

A vision transformer and a text transformer each make one vector, x of the photo and t_i of text i;
a text's score is their cosine times the inverse temperature that the model has learned (its
``logit_scale`` s)::

    y_i = exp(s) * (x . t_i) / (|x| |t_i|)

and a softmax over the texts that are given makes probabilities. The feature maps are the tokens of
the photo's patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence
from transformers import CLIPModel

from vlcam.adapters.adapter import FeatureMaps, Prompt, Question, Reading, Unit
from vlcam.adapters.attention_flow import PHOTO, Flow
from vlcam.adapters.pretrained import Pretrained, PretrainedAdapter, plain
from vlcam.adapters.vision_encoders import clip_processor, only_size, vision_encoder
from vlcam.adapters.vision_transformer import with_gradient
from vlcam.formats.folders.tokenizer import tokenize

_VISION = "vision_model"


class Clip(PretrainedAdapter):
    """A CLIP model. A prompt is the texts that are compared, each by its token ids.

    Args:
        parts: the model and all it needs.
        layer: ``vision_model.encoder.layers.N``, whose output is explained; None: the last but one.
            Behind the last one the photo's vector is read off the class token alone, so the patches
            there have no gradient.

    Raises:
        ValueError: there is no such layer, or it has no gradient.
    """

    question = "which text fits the photo?"
    """What it is always asked: it reads no question."""

    answers = None
    """Any texts, which are scored against each other."""

    def __init__(self, parts: Pretrained, layer: str | None = None) -> None:
        tower = parts.module.vision_model
        vision = vision_encoder(parts.name, _VISION, tower, None)
        super().__init__(parts, vision, "clip", only_size(tower))
        self.layers = vision.layers[:-1]
        self.cut_at(layer)
        self._longest: int = parts.module.config.text_config.max_position_embeddings

    def cut_at(self, layer: str | None) -> None:
        super().cut_at(with_gradient(self.name, self.layers, layer))

    def understand(self, question: str) -> Question:
        """The one question it is asked, which it does not read.

        Raises:
            ValueError: it is another one.
        """
        if question != self.question:
            raise ValueError(f"{self.name} reads no question: give the texts alone, as answers")
        return Question(question, ())

    def read(self, question: Question, answers: Sequence[str] | None = None) -> Reading:
        """The texts that are compared.

        Raises:
            ValueError: there are none, or one is empty or longer than the model reads.
        """
        if not answers:
            raise ValueError(f'{self.name} compares texts: give some (--answers "a dog" "a cat")')
        prompt = tuple(map(self._tokens, answers))
        return Reading(question.text, prompt, tuple(Unit(t, (i,)) for i, t in enumerate(answers)))

    def _tokens(self, text: str) -> tuple[int, ...]:
        ids = tokenize(self.tokenizer, text)["input_ids"]
        if not text.strip():
            raise ValueError(f"the text {text!r} has no word")
        if len(ids) > self._longest:
            raise ValueError(
                f"{text[:30]!r} ... has {len(ids)} tokens; {self.name} reads at most"
                f" {self._longest}"
            )
        return tuple(ids)

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        """Logits (N, texts); 0 behind a row's texts, where another row has more."""
        module = self.module
        summary = module.vision_model.post_layernorm(self.vision.finish(features)[:, 0])
        photo = normalize(module.visual_projection(summary), dim=-1)
        texts = {prompt: self._encoded(prompt) for prompt in dict.fromkeys(prompts)}
        against = pad_sequence([texts[prompt] for prompt in prompts], batch_first=True)
        cosines = (against @ photo[:, :, None])[:, :, 0]
        return cosines * module.logit_scale.exp()

    def _encoded(self, prompt: Any) -> Tensor:
        """The texts' vectors, (texts, K), of length 1."""
        device = self.module.device
        with torch.no_grad():  # they do not depend on the photo
            found = [
                self.module.get_text_features(input_ids=torch.tensor([ids], device=device))
                for ids in prompt
            ]
        return normalize(torch.cat([one.pooler_output for one in found]), dim=-1)

    def attention_flow(self, prompt: Any) -> Flow:
        """The photo's tokens attend to each other, as do each text's; the class token is read."""
        layers = self.module.config.text_config.num_hidden_layers
        texts = [((f"text {i}", f"text {i}"),) for i in range(len(prompt)) for _ in range(layers)]
        return replace(self.vision.flow(texts, PHOTO), row=lambda _: 0)


def load(path: Path, layer: str | None = None) -> Clip:
    """A model from a folder that transformers' ``save_pretrained`` wrote (or a file in it).

    Never looks beyond the folder, never runs code of it.

    Raises:
        ValueError: a file is missing or damaged, weights are missing or left over, or the parts do
            not fit together; one line says which.
    """
    kind: Any = CLIPModel
    return Clip(Pretrained.load(kind, path, plain(clip_processor)), layer)
