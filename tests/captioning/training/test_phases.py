"""Phases of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from captioning.language.decoding import Caption
from captioning.models.neuraltalk.neuraltalk import Config, NeuralTalk
from captioning.training.phases import Rewarded
from vlcam.formats.vocabulary import Vocabulary
from vlcam.photo.preprocess import Preprocess
from vlcam.training.trainer import Schedule


def test_candidates_are_weighed_by_what_they_add(tmp_path: Path) -> None:
    """The better of a photo's candidates becomes likelier, and how it ends counts."""
    vocabulary = Vocabulary(("a", "in", "red", "shirt", "UNK"))
    tokens = [[vocabulary.tokens(["a", "red", "shirt"])]]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        config = Config(
            cnn="small",
            vocabulary=vocabulary,
            preprocess=Preprocess(size=(32, 32)),
            embedding=8,
            hidden=16,
            dropout_input=0.0,
            dropout_output=0.0,
        )
        model = NeuralTalk(config)
        feature = torch.randn(1, 256)
    schedule = Schedule(epochs=1, batch=4, lr=0.1, weight_decay=0.0)
    phase = Rewarded(model, schedule, tokens=tokens, beams=2, see=lambda rows, _: feature[rows])
    rng = np.random.default_rng(0)
    assert phase.begin_epoch(0, rng) == [[0]]
    good, cut = tokens[0][0], tokens[0][0][:2]
    rewards = phase._rewards([0, 0], [good, cut], [0, 0])
    assert rewards[0] > rewards[1]
    model.candidates = lambda *_: [[Caption(tuple(cut), 0.0), Caption(tuple(good), 0.0)]]  # type: ignore[method-assign]
    before = _log_probability(model, feature, good) - _log_probability(model, feature, cut)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    phase.train_mode()
    loss, _ = phase.loss([0], rng)
    loss.backward()
    optimizer.step()
    model.eval()
    after = _log_probability(model, feature, good) - _log_probability(model, feature, cut)
    assert after > before


def _log_probability(model: NeuralTalk, feature: torch.Tensor, tokens: list[int]) -> float:
    model.eval()
    with torch.no_grad():
        logits = model(feature, torch.tensor([tokens]))[0].log_softmax(-1)
    return float(sum(logits[i, token] for i, token in enumerate([*tokens, 0])))
