"""What captioners of transformers with an encoder and a decoder share: the decoder attends to the
tokens that the encoder makes of a photo."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from captioning.language.captioner import Captioner
from vlcam.adapters.adapter import FeatureMaps
from vlcam.adapters.pretrained import PretrainedAdapter
from vlcam.attribution.backward_rules import outside_cnn


class EncoderDecoder(PretrainedAdapter, Captioner):
    """A captioner whose module takes its encoder's outputs and the decoder's input ids.

    A subclass sets ``_start``: the token that its captions begin behind.
    """

    _start: int

    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        start = torch.full_like(tokens[:, :1], self._start)
        seen = self.vision.finish(features)
        with outside_cnn():
            logits: Tensor = self.module(
                encoder_outputs=BaseModelOutput(last_hidden_state=seen),
                decoder_input_ids=torch.cat([start, tokens[:, :-1]], 1),
                use_cache=False,  # each step sees those before it alone, so padding needs no mask
            ).logits
        return logits
