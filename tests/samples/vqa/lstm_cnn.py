"""The deeper LSTM question + normalised image model, as we save it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vlcam import Preprocess
from vlcam.formats import checkpoint
from vlcam.formats.vocabulary import Vocabulary
from vqa.models.lstm_cnn.model import Config, LstmCnn

ANSWERS = ("red", "yellow", "red and yellow", "two")
WORDS = ("color", "is", "the", "what", "UNK")


def save(folder: Path) -> Path:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        config = Config(
            "small",
            Vocabulary(WORDS),
            ANSWERS,
            Preprocess(size=(32, 32)),
            embedding=8,
            hidden=8,
            common=8,
        )
        model = LstmCnn(config).eval()
        for layer in (model.image, model.question, model.answer):
            nn.init.normal_(layer.weight)
    checkpoint.save_folder(model, config.to_json(), folder)
    return folder
