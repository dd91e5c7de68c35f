"""GIT of transformers (Wang et al., TMLR 2022), from a local folder: captions and answers.

A language model reads the photo's tokens, which a vision transformer made, and behind them a text
of which it writes the rest: a caption, or the answer behind a question. ``decode`` is the model
itself without its vision transformer: the photo's tokens go in where the pixels would.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GitForCausalLM
from transformers.modeling_outputs import BaseModelOutput

from vlcam.adapters.adapter import FeatureMaps, Prompt, Question, Reading
from vlcam.adapters.pretrained import Pretrained, PretrainedAdapter, generate, plain
from vlcam.adapters.teacher_forcing import TokenizedWord, padded
from vlcam.adapters.vision_encoders import clip_processor
from vlcam.adapters.vision_transformer import VisionTransformer, blocks
from vlcam.attribution.backward_rules import outside_cnn
from vlcam.networks.with_part import with_part
from vqa.answering.tokenized import understand
from vqa.answering.writing_answerer import WritingAnswerer

_VISION = "git.image_encoder.vision_model"
_NOTHING = Question("", ())
"""Before a caption stands no question."""


class Git(PretrainedAdapter, WritingAnswerer):
    """A GIT model; whether it was trained to write captions or answers, it does not say.

    Args:
        parts: the model and all it needs.
        layer: ``git.image_encoder.vision_model.encoder.layers.N``, whose output, before the final
            normalisation, is explained; None: the last.

    Raises:
        ValueError: there is no such layer, or the model takes several photos at once.
    """

    def __init__(self, parts: Pretrained, layer: str | None = None) -> None:
        module = parts.module
        if module.config.num_image_with_embedding is not None:
            frames = module.config.num_image_with_embedding
            raise ValueError(f"{parts.name}: it looks at {frames} pictures of a film at once")
        vision = module.get_submodule(_VISION)
        seen = VisionTransformer(
            parts.name,
            nn.Sequential(vision.embeddings, vision.pre_layrnorm),
            blocks(f"{_VISION}.encoder.layers", vision.encoder.layers),
            vision.post_layernorm,
            patch=vision.embeddings.patch_size,
            layer=layer,
        )
        side = vision.embeddings.image_size
        super().__init__(parts, seen, family="git", size=(side, side))
        self._writer = with_part(module, "git.image_encoder", _Through())
        self._start: int = module.generation_config.bos_token_id
        self._longest: int = module.config.max_position_embeddings

    def understand(self, question: str) -> Question:
        """As :func:`vqa.answering.tokenized.understand`, without special tokens: the text begins
        with the question's."""
        return understand(
            self.tokenizer, question, most=self._longest, name=self.name, special=False
        )

    def answer_words(self, answer: str) -> list[TokenizedWord]:
        return self.subwords.read(answer)

    def read_answer(self, question: Question, answer: str) -> Reading:
        """An answer as the model reads it.

        Raises:
            ValueError: there is no word in it, or question and answer are longer than the model
                reads.
        """
        reading = super().read_answer(question, answer)
        self._check(*reading.prompt)  # type: ignore[misc]
        return reading

    def read(self, caption: str) -> Reading:
        """A caption: the text alone."""
        return self.read_answer(_NOTHING, caption)

    def write(self, features: FeatureMaps, beam: int = 1) -> Reading:
        """The model's own caption."""
        return self.write_answer(features, _NOTHING, beam)

    def states(self, features: FeatureMaps, prompts: Sequence[Prompt], tokens: Tensor) -> Tensor:
        questions: list[Any] = self.questions(prompts)
        answers = [self.tokens(prompt) for prompt in prompts]
        texts = [
            (self._start, *question, *answer[:-1])
            for question, answer in zip(questions, answers, strict=True)
        ]
        image = self.vision.finish(features)
        with outside_cnn():
            hidden: Tensor = self._writer.git(
                input_ids=padded(texts).to(image.device),
                pixel_values=image[:, None],
                use_cache=False,
            ).last_hidden_state  # each token sees those before it alone: padding needs no mask
        first = image.shape[1] + torch.tensor(list(map(len, questions)), device=hidden.device)
        steps = first[:, None] + torch.arange(tokens.shape[1], device=hidden.device)
        read = steps.clamp(max=hidden.shape[1] - 1)  # behind a text nothing is read
        return hidden.gather(1, read[..., None].expand(-1, -1, hidden.shape[2]))

    def log_probabilities(self, states: Tensor) -> Tensor:
        with outside_cnn():
            return super().log_probabilities(self.module.output(states))

    def generate_answer(
        self, features: FeatureMaps, question: Question, beam: int = 1
    ) -> list[TokenizedWord]:
        """What ``generate`` of transformers writes, under the model's own settings."""
        image = self.vision.finish(features)
        text = torch.tensor([[self._start, *question.prompt]], device=image.device)  # type: ignore[misc]
        ids = generate(
            self._writer,
            beam,
            start=text.shape[1],
            ends=self.module.generation_config.eos_token_id,
            input_ids=text,
            pixel_values=image[:, None],
        )
        return self.subwords.written(ids)

    def _check(self, question: Sequence[int], answer: Sequence[int]) -> None:
        """Raises ValueError where they are longer than the model reads."""
        length = len(question) + len(answer)
        if length > self._longest:
            what = "question and answer have" if question else "the caption has"
            raise ValueError(f"{what} {length} tokens; {self.name} reads at most {self._longest}")


class _Through(nn.Module):
    """Stands in for the vision transformer: its tokens (N, T, K), given as pixels (N, 1, T, K)."""

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=pixel_values[:, 0])


def load(path: Path, layer: str | None = None) -> Git:
    """A model from a folder that transformers' ``save_pretrained`` wrote (or a file in it).

    Never looks beyond the folder, never runs code of it.

    Raises:
        ValueError: a file is missing or damaged, weights are missing or left over, or the parts do
            not fit together; one line says which.
    """
    kind: Any = GitForCausalLM
    return Git(Pretrained.load(kind, path, plain(clip_processor)), layer)
