"""BLIP question answering of transformers (Li et al., 2022), from a local folder.

A text encoder reads the question and attends to the photo's tokens; a text decoder writes the
answer and attends to what the encoder made of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BlipForQuestionAnswering

from vlcam.adapters.adapter import FeatureMaps, Prompt, Question
from vlcam.adapters.attention_flow import PHOTO, Flow, decoder_steps
from vlcam.adapters.pretrained import Pretrained, PretrainedAdapter, generate, plain
from vlcam.adapters.teacher_forcing import TokenizedWord
from vlcam.adapters.vision_encoders import blip_processor, blip_vision, only_size
from vlcam.attribution.backward_rules import outside_cnn
from vqa.answering.tokenized import understand
from vqa.answering.writing_answerer import WritingAnswerer


class BlipAnswerer(PretrainedAdapter, WritingAnswerer):
    """A BLIP VQA model.

    Args:
        parts: the model and all it needs; its tokenizer is WordPiece.
        layer: ``vision_model.encoder.layers.N``, whose output (before the final normalisation) is
            explained; None: the last.

    Raises:
        ValueError: there is no such layer.
    """

    def __init__(self, parts: Pretrained, layer: str | None = None) -> None:
        module = parts.module
        vision = blip_vision(parts.name, module.vision_model, layer)
        super().__init__(parts, vision, family="blip-vqa", size=only_size(module.vision_model))
        self._text = module.config.text_config

    def understand(self, question: str) -> Question:
        """As :func:`vqa.answering.tokenized.understand`."""
        most = self._text.max_position_embeddings
        return understand(self.tokenizer, question, most=most, name=self.name)

    def answer_words(self, answer: str) -> list[TokenizedWord]:
        words = self.subwords.read(answer)
        return self.checked("answer", words, self._text.max_position_embeddings)

    def states(self, features: FeatureMaps, prompts: Sequence[Prompt], tokens: Tensor) -> Tensor:
        seen = self.vision.finish(features)
        questions: list[Any] = self.questions(prompts)
        start = torch.full_like(tokens[:, :1], self._text.bos_token_id)
        ids = torch.cat([start, tokens[:, :-1]], 1)
        # Questions of different lengths are read apart: padding would change the answers, because
        # transformers (5.24) masks nothing in the cross-attention of BLIP's decoder.
        alike: dict[int, list[int]] = {}
        for row, question in enumerate(questions):
            alike.setdefault(len(question), []).append(row)
        parts = []
        for rows in alike.values():
            read = self._read(seen[rows], [questions[row] for row in rows])
            with outside_cnn():
                hidden: Tensor = self.module.text_decoder.bert(
                    input_ids=ids[rows],
                    encoder_hidden_states=read,
                    is_decoder=True,  # each step sees those before it alone: no mask for padding
                    use_cache=False,
                ).last_hidden_state
            parts.append(hidden)
        order = torch.tensor([row for rows in alike.values() for row in rows]).argsort()
        return torch.cat(parts)[order]

    def log_probabilities(self, states: Tensor) -> Tensor:
        with outside_cnn():
            return super().log_probabilities(self.module.text_decoder.cls(states))

    def attention_flow(self, prompt: Prompt) -> Flow:
        layers = self._text.num_hidden_layers
        reading = decoder_steps("question", PHOTO, layers)
        return self.vision.flow((*reading, *decoder_steps("answer", "question", layers)), "answer")

    def generate_answer(
        self, features: FeatureMaps, question: Question, beam: int = 1
    ) -> list[TokenizedWord]:
        """What ``generate`` of transformers gives, under the model's own settings."""
        read = self._read(self.vision.finish(features), [question.prompt])
        start = torch.tensor([[self._text.bos_token_id]], device=read.device)
        ids = generate(
            self.module.text_decoder,
            beam,
            start=1,
            ends=self._text.sep_token_id,
            input_ids=start,
            encoder_hidden_states=read,
            encoder_attention_mask=torch.ones(read.shape[:2], device=read.device).long(),
            eos_token_id=self._text.sep_token_id,
            pad_token_id=self._text.pad_token_id,
        )
        return self.subwords.written(ids)

    def _read(self, seen: Tensor, questions: Sequence[Prompt]) -> Tensor:
        """The text encoder's states (N, Q, K) at N questions of one length, about N photos' tokens
        (N, T, K)."""
        ids = torch.tensor(questions, device=seen.device)
        with outside_cnn():
            read: Tensor = self.module.text_encoder(
                input_ids=ids, encoder_hidden_states=seen
            ).last_hidden_state
        return read


def load(path: Path, layer: str | None = None) -> BlipAnswerer:
    """A VQA model from a folder that transformers' ``save_pretrained`` wrote (or a file in it).

    Never looks beyond the folder, never runs code of it.

    Raises:
        ValueError: a file is missing or damaged, weights are missing or left over, or the
            tokenizer does not fit; one line says which.
    """
    kind: Any = BlipForQuestionAnswering
    return BlipAnswerer(Pretrained.load(kind, path, plain(blip_processor)), layer)
